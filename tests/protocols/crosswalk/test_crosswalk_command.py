"""The command line: what it writes, what it refuses and how it ends."""

import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from protocols.crosswalk import __main__ as command
from protocols.crosswalk.layouts.market1501.names import ROOT
from retable.cli import application


def run(*arguments):
    return CliRunner().invoke(application(command.main), [str(a) for a in arguments])


def test_writes_a_street_and_prints_where(tmp_path):
    result = run(tmp_path, "--layout", "market1501", "--size", "tiny", "--seed", 4, "--occlusion", 0)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / ROOT)
    assert not (tmp_path / ROOT / "truth").exists()


def test_truth_on_request(tmp_path):
    assert run(tmp_path, "--size", "tiny", "--truth").exit_code == 0
    assert len(list((tmp_path / ROOT / "truth").glob("*.npz"))) == 4


def test_a_contact_sheet_needs_no_folder(tmp_path):
    file = tmp_path / "new" / "sheet.png"
    assert run("--preview", file, "--size", "tiny").exit_code == 0
    with Image.open(file) as sheet:
        assert sheet.width == 12 * 64 * 2 and sheet.height > 12 * 128 * 2
    assert list(tmp_path.iterdir()) == [file.parent]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do"),
        (["DIR", "--size", "defualt"], "did you mean 'default'"),
        (["DIR", "--layout", "viper", "--size", "market"], "known: default, release, tiny"),
        (["DIR", "--misalignment", "1.5"], "dial misalignment is 1.5"),
        (["DIR", "--workers", "0", "--size", "tiny"], "at least 1"),
        (["DIR", "--layout", "market"], "did you mean 'market1501'"),
    ],
)
def test_a_request_that_cannot_be_met_is_explained(tmp_path, arguments, message):
    result = run(*(tmp_path if a == "DIR" else a for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_other_layouts_have_streets_and_contact_sheets(tmp_path):
    result = run(tmp_path, "--layout", "viper", "--size", "tiny", "--preview", tmp_path / "sheet.png")
    assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "VIPeR"))
    assert (tmp_path / "VIPeR" / "cam_b").is_dir() and (tmp_path / "sheet.png").is_file()


def test_a_full_target_is_refused(tmp_path):
    (tmp_path / ROOT).mkdir()
    (tmp_path / ROOT / "readme.txt").touch()
    result = run(tmp_path, "--size", "tiny")
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_interruption_ends_with_130(tmp_path, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "write_street", interrupt)
    assert run(tmp_path, "--size", "tiny").exit_code == 130


def test_importing_the_package_compiles_and_loads_nothing_heavy():
    code = (
        "import sys, protocols.crosswalk, protocols.crosswalk.__main__; "
        "print({'numba', 'scipy', 'torch', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
