"""The command line: what it writes, what it refuses and how it ends."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from protocols.crosswalk import LAYOUTS, Dials, layout_named, preview
from protocols.crosswalk import __main__ as command
from protocols.crosswalk.layouts.market1501.names import ROOT
from protocols.crosswalk.walks import Street
from retable.cli import application

DIALS = Dials(misalignment=0.1, occlusion=0, viewpoint=0.3, camera_shift=0.6, confusers=0.5)
OPTIONS = (
    "--misalignment", 0.1, "--occlusion", 0, "--viewpoint", 0.3, "--camera-shift", 0.6, "--confusers", 0.5,
)  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(application(command.main), [str(a) for a in arguments])


def test_writes_a_street_of_that_seed_and_those_dials_and_prints_where(tmp_path):
    result = run(tmp_path, "--layout", "market1501", "--size", "tiny", "--seed", 4, *OPTIONS)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / ROOT)
    facts = json.loads((tmp_path / ROOT / "crosswalk.json").read_text())
    assert (facts["size"]["name"], facts["seed"], Dials(**facts["dials"])) == ("tiny", 4, DIALS)
    assert not (tmp_path / ROOT / "truth").exists()


def test_truth_on_request(tmp_path):
    assert run(tmp_path, "--layout", "viper", "--size", "tiny", "--truth").exit_code == 0
    assert {file.name for file in (tmp_path / "VIPeR" / "truth").iterdir()} == {"cam_a.npz", "cam_b.npz"}


def test_a_contact_sheet_is_of_that_seed_and_those_dials_and_needs_no_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        preview, "contact_sheet", lambda *sheet: asked.append(sheet) or Image.new("RGB", (1, 1))
    )
    file = tmp_path / "new" / "sheet.PNG"
    assert run("--preview", file, "--layout", "mars", "--size", "tiny", "--seed", 4, *OPTIONS).exit_code == 0
    mars = layout_named("mars")
    assert asked == [(mars.plan(mars.sizes["tiny"], 4, DIALS), Street(4, DIALS))]
    with Image.open(file) as sheet:
        assert sheet.format == "PNG"
    assert list(tmp_path.iterdir()) == [file.parent]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do"),
        (["DIR", "--size", "defualt"], "did you mean 'default'"),
        (["DIR", "--layout", "viper", "--size", "market"], "known: default, release, tiny"),
        (["DIR", "--misalignment", "1.5"], "dial misalignment is 1.5"),
        (["DIR", "--workers", "0", "--size", "tiny", "--preview", "FILE.png"], "--workers"),
        (["DIR", "--size", "tiny", "--preview", "FILE.jpg"], "ends in .png"),
        (["DIR", "--size", "tiny", "--preview", "FILE"], "ends in .png"),
        (["DIR", "--layout", "market"], "did you mean 'market1501'"),
    ],
)
def test_a_request_that_cannot_be_met_is_explained_before_anything_is_written(tmp_path, arguments, message):
    places = {
        "DIR": tmp_path,
        **{f"FILE{suffix}": tmp_path / f"sheet{suffix}" for suffix in ("", ".png", ".jpg")},
    }
    result = run(*(places.get(a, a) for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_street_and_its_contact_sheet_are_written_together(tmp_path):
    result = run(tmp_path, "--layout", "viper", "--size", "tiny", "--preview", tmp_path / "sheet.png")
    assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "VIPeR"))
    assert (tmp_path / "VIPeR" / "cam_b").is_dir()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 12 * 64 * 2 and sheet.height > 8 * 128 * 2


def test_a_full_target_is_refused(tmp_path):
    (tmp_path / ROOT).mkdir()
    (tmp_path / ROOT / "readme.txt").touch()
    result = run(tmp_path, "--size", "tiny")
    assert result.exit_code == 2
    assert "not empty" in result.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_loop_can_write_the_releases_of_all_layouts(tmp_path, monkeypatch, layout):
    asked = []
    monkeypatch.setattr(command, "write_street", lambda *street: asked.append(street))
    run(tmp_path, "--layout", layout, "--size", "release")
    ((_, name, size, *_),) = asked
    assert name == layout
    assert size is layout_named(layout).sizes["market" if layout == "market1501" else "release"]


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
