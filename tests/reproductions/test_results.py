"""What is committed in ``results/``: records that load, and a page that shows exactly them."""

from reproductions.judgement import Judgement
from reproductions.places import PROJECT, RESULTS
from reproductions.records import load_records
from reproductions.spec import load_paper, paper_keys


def test_the_results_page_is_what_compare_shows_now(shell):
    shell.environment["RETABLE_PAPERS"] = str(PROJECT / "reproductions" / "papers")

    shown = shell("compare", "--format", "markdown").stdout.strip()

    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert shown in page, "run: python -m reproductions.compare --format markdown, and put it into the page"


def test_committed_records_belong_to_the_present_definitions():
    for key in paper_keys():
        records = load_records(RESULTS, key)
        judgement = Judgement(load_paper(key), records)
        stale = [record.path(RESULTS) for record in records if not judgement.is_present(record)]
        assert not stale, "these rows were changed since; run them again or delete their records"
