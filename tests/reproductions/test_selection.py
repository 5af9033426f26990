"""Which rows run on which data sets."""

import pytest

from reproductions.jobs import NO_CHANGES
from reproductions.selection import select_jobs
from reproductions.spec import load_paper
from retable.errors import RetableError

DUKE, MSMT = "dukemtmc", "msmt17"


@pytest.fixture
def select(tmp_path):
    """Rows and data sets of the jobs chosen from SC-STN, whose Table 3 is printed for Market-1501 alone."""
    for folder in ("DukeMTMC-reID", "MSMT17_V1"):
        (tmp_path / folder).mkdir()

    def selected(rows=(), datasets=(), table=None):
        jobs = select_jobs(
            load_paper("sc_stn"),
            table=table,
            rows=rows,
            datasets=datasets,
            scale="paper",
            root=tmp_path,
            changes=NO_CHANGES,
        )
        return [(job.row, job.dataset) for job in jobs]

    return selected


def test_a_named_row_runs_on_any_named_data_set_of_the_paper(select):
    assert select(["Baseline+VCN"], [DUKE, MSMT]) == [("Baseline+VCN", DUKE), ("Baseline+VCN", MSMT)]


def test_rows_of_a_table_run_where_they_are_printed(select):
    chosen = select(datasets=[MSMT], table="table2")

    assert len(chosen) == 6 and ("Fusion (M)", MSMT) in chosen


def test_a_table_runs_on_its_own_data_sets_only(select):
    assert {dataset for _, dataset in select(table="table1")} == {DUKE}
    assert {dataset for _, dataset in select(table="table2")} == {MSMT}
    assert {dataset for _, dataset in select(["Fusion (O)"])} == {DUKE, MSMT}


@pytest.mark.parametrize("asked", [{"table": "table3", "datasets": [DUKE]}, {"rows": ["Baseline+VCN"]}])
def test_nothing_to_run_is_an_error_that_says_how_to_run_it_all_the_same(select, asked):
    with pytest.raises(RetableError, match=r"no score of .*VCN.* printed for dukemtmc.*name rows"):
        select(**asked)
