"""What is committed in ``results/``: records of present definitions, and a page that shows exactly them."""

import shutil
import subprocess

import pytest

from reproductions.judgement import Judgement
from reproductions.places import PROJECT, RESULTS
from reproductions.records import load_records
from reproductions.spec import load_paper, paper_keys


@pytest.fixture
def committed(tmp_path):
    """A copy of the records that git tracks; a checkout may hold others of its own."""
    listing = ["git", "ls-files", "-z", "results"]
    try:
        tracked = subprocess.run(listing, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which records are committed is unknown")
    for name in filter(None, tracked.split("\0")):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, target)
    return tmp_path / "results"


def test_the_results_page_is_what_compare_shows(shell, committed):
    shell.environment["RETABLE_PAPERS"] = str(PROJECT / "reproductions" / "papers")

    shown = shell("compare", "--format", "markdown", "--results", committed).stdout.strip()

    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert shown in page, "put the output of python -m reproductions.compare --format markdown into the page"


def test_committed_records_belong_to_the_present_definitions(committed):
    for key in paper_keys():
        records = load_records(committed, key)
        judgement = Judgement(load_paper(key), records)
        stale = [record.path(committed) for record in records if not judgement.is_present(record)]
        assert not stale, "these rows were changed since; run them again or delete their records"
