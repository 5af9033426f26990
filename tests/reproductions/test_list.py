import csv
import io
import json
import subprocess
import sys

import pytest

from reproductions import list as listing
from reproductions.places import PROJECT
from reproductions.spec import load_paper
from retable import cli
from retable.errors import RetableError

HEAVY = ("accelerate", "mlflow", "numpy", "pandas", "scipy", "timm", "torch")


def run(monkeypatch, capsys, *arguments: str, command=listing.main) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["list", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.execute(command)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_cells_as_csv_are_all_cells_as_printed(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "sona", "--cells", "--format", "csv")
    header, *lines = out.splitlines()
    rows = list(csv.DictReader(io.StringIO(out)))
    cells = load_paper("sona").cells

    assert code == 0
    assert header == "paper,table,row,group,dataset,setting,metric,published,std,runs,kind,method,scale"
    assert len(lines) == len(cells)
    for row, cell in zip(rows, cells, strict=True):
        assert row["published"] == cell.printed
        assert row["std"] == (cell.std or "")
        assert (row["row"], row["dataset"], row["metric"]) == (cell.row, cell.dataset, cell.metric)
        assert (row["kind"], row["scale"], row["runs"]) == (cell.kind, cell.scale, str(cell.runs))


def test_cells_as_json_keep_printed_strings(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "sona", "--cells", "--format", "json")
    rows = json.loads(out)

    assert [row["published"] for row in rows] == [cell.printed for cell in load_paper("sona").cells]
    assert {type(row["published"]) for row in rows} == {str}
    assert next(row["std"] for row in rows if row["kind"] == "cited") is None


def test_rows_are_own_ones_then_quoted_ones(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "sona", "--format", "json")
    rows = json.loads(out)
    paper = load_paper("sona")

    assert [row["row"] for row in rows] == [*paper.rows, *paper.cited]
    assert [row["row"] for row in rows if row["headline"]] == [
        r for r in paper.rows if paper.rows[r].headline
    ]
    assert rows[0]["options"] == paper.row(rows[0]["row"]).options


def test_without_a_paper_all_are_listed(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "--format", "csv")

    assert "sona" in {row["paper"] for row in csv.DictReader(io.StringIO(out))}


def test_the_table_shows_labels_whole_and_citations_unharmed(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "sona")
    paper = load_paper("sona")

    assert all(label in out for label in (*paper.rows, *paper.cited))
    assert "[49] Zheng" in out  # rich would take brackets for a style


def test_an_unknown_paper_exits_with_2_and_no_traceback(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "sonna")

    assert (code, out) == (2, "")
    assert err.startswith("error: unknown paper 'sonna': did you mean 'sona'?")
    assert "Traceback" not in err


def test_a_wrong_argument_exits_with_2(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--format", "yaml")[0] == 2


def interrupted() -> int:
    raise KeyboardInterrupt


def refused() -> int:
    raise RetableError("no such thing")


def failed() -> int:
    return cli.FAILED


@pytest.mark.parametrize(("command", "code"), [(interrupted, 130), (refused, 2), (failed, 1)])
def test_exit_codes(monkeypatch, capsys, command, code):
    assert run(monkeypatch, capsys, command=command)[0] == code


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken() -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["broken"])
    with pytest.raises(ZeroDivisionError):
        cli.execute(broken)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((None, ""), (False, ""), (True, "yes"), (0, "0"), ("x", "x"), (("a", "b"), "a,b")),
        ({"after": ["a", "b"], "drop": []}, "after=a,b drop=-"),
    ],
)
def test_values_as_text(value, shown):
    assert cli.text(value) == shown


@pytest.mark.parametrize("arguments", [["--help"], ["sona", "--cells", "--format", "csv"]])
def test_listing_imports_nothing_heavy(arguments):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['list', *{arguments}]\n"
        "try:\n    runpy.run_module('reproductions.list', run_name='__main__')\n"
        f"except SystemExit:\n    print(*sorted({{*{HEAVY}}} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout
    assert done.stderr.strip() == ""


def test_open_choices_of_recipe_and_method_are_listed(shell):
    shell.environment["RETABLE_PAPERS"] = str(PROJECT / "reproductions" / "papers")

    listed = list(csv.DictReader(shell("list", "sona", "--unstated", "--format", "csv").stdout.splitlines()))

    chosen = {(one["where"], one["key"]): one["chosen"] for one in listed}
    assert chosen["--set recipe.weight_decay", "weight_decay"] == "0.0005"
    assert chosen["--set, method sona", "slope"] == "0.1"
    assert all(one["reason"] for one in listed)
