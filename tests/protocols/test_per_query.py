"""One row for each query, in memory and in files."""

import numpy as np
import pandas as pd
import pytest

from protocols import evaluate
from protocols.arrays import InputError
from protocols.per_query import write_table
from tests.protocols.problems import featured

EXAMPLE = {
    "query_pids": [1, 9],
    "query_camids": [1, 2],
    "gallery_pids": [2, 1, 3, 1],
    "gallery_camids": [2, 2, 2, 3],
    "distances": np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]),
}


def test_a_worked_example():
    """Matches of query 0 at ranks 2 and 4: step (1/2 + 2/4) / 2, trapezoid (1/4 + (2/4 + 1/3) / 2) / 2."""
    found, missed = evaluate("market1501", **EXAMPLE).per_query().to_dict("records")

    assert found["AP"] == pytest.approx(50)
    assert found["AP_trapezoid"] == pytest.approx(100 * (1 / 4 + (1 / 2 + 1 / 3) / 2) / 2)
    assert (found["pid"], found["camid"], found["first_rank"], found["matches"]) == (1, 1, 2, 2)
    assert (found["ranks"], found["gallery"]) == ([2, 4], [1, 3])
    assert (missed["query"], missed["matches"], missed["ranks"], missed["gallery"]) == (1, 0, [], [])
    assert np.isnan([missed["AP"], missed["AP_trapezoid"], missed["first_rank"]]).all()


@pytest.mark.parametrize("deviations", [(), ("ap-top-50",), ("truncate-4000",)])
def test_means_of_the_rows_are_the_metrics(deviations, monkeypatch):
    monkeypatch.setattr("protocols.deviations.AP_REACH", 5)
    monkeypatch.setattr("protocols.deviations.LIST_LENGTH", 9)
    result = evaluate("market1501", **featured(noise=2), deviations=deviations)

    table = result.per_query()

    assert table["AP"].mean() == pytest.approx(result.metrics["mAP"])
    assert table["AP_trapezoid"].mean() == pytest.approx(result.metrics["mAP_trapezoid"])
    assert 100 * (table["first_rank"] <= 5).mean() == pytest.approx(result.metrics["rank5"])


NAMES = {"query_names": ["q0.jpg", "q1.jpg"], "gallery_names": np.array(["a", "b", "c", "d"])}


def test_names_stand_for_positions():
    table = evaluate("market1501", **EXAMPLE, **NAMES).per_query()

    assert table["name"].tolist() == NAMES["query_names"]
    assert table["gallery"].tolist() == [["b", "d"], []]


def test_tracklets_stand_for_rows_that_were_pooled():
    """Gallery tracklets 70 (person 1), 30 and 50 (person 1) come in this order for query 9."""
    result = evaluate(
        "mars",
        query_pids=[1, 1],
        query_camids=[1, 1],
        query_features=np.eye(2)[[0, 0]],
        gallery_pids=[1, 2, 2, 1, 1],
        gallery_camids=[2, 2, 2, 3, 3],
        gallery_features=np.array([[1, 0.1], [1, 0.5], [1, 0.5], [1, 0.9], [1, 0.9]]),
        query_tracklets=[9, 9],
        gallery_tracklets=[70, 30, 30, 50, 50],
        gallery_names=list("abcde"),
    )

    (row,) = result.per_query().to_dict("records")
    assert (row["tracklet"], row["gallery"], row["ranks"]) == (9, [70, 50], [1, 3])


def test_single_shot_rows_hold_the_expected_rank_1():
    """Person 2's two images: one before the match, one behind; either is drawn half of the time."""
    labels = {"gallery_pids": [2, 1, 2], "gallery_camids": [2, 2, 2]}
    example = EXAMPLE | labels | {"distances": np.array([[0.1, 0.2, 0.3]] * 2)}
    result = evaluate("cuhk01-100", **example)

    rows = result.per_query()["rank1_expected"]

    assert rows[0] == pytest.approx(50) == pytest.approx(result.metrics["rank1"])
    assert np.isnan(rows[1])


def test_both_directions_have_their_rows():
    table = evaluate("viper", **EXAMPLE, **NAMES).per_query()

    assert table["direction"].tolist() == ["forward"] * 2 + ["reverse"] * 4
    reverse = table[table["direction"] == "reverse"]
    assert reverse["name"].tolist() == ["a", "b", "c", "d"]
    assert reverse["gallery"].tolist() == [[], ["q0.jpg"], [], ["q0.jpg"]]
    assert "direction" not in evaluate("market1501", **EXAMPLE).per_query()


def test_first_ranks_are_whole_in_a_csv_file(tmp_path, monkeypatch):
    monkeypatch.setattr("protocols.deviations.LIST_LENGTH", 1)
    for name, deviations in (("usual", ()), ("cut", ("truncate-4000",))):
        table = evaluate("market1501", **EXAMPLE, **NAMES, deviations=deviations).per_query()
        write_table(table, tmp_path / f"{name}.csv")

    assert (tmp_path / "usual.csv").read_text().splitlines()[1:] == [
        "0,q0.jpg,1,1,50.0,33.33333333333333,2,2,2 4,b d",
        "1,q1.jpg,9,2,,,,0,,",
    ]
    assert ",0.0,0.0,inf,2,2 4,b d" in (tmp_path / "cut.csv").read_text()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_give_back_the_rows(tmp_path, suffix):
    table = evaluate("market1501", **EXAMPLE).per_query()
    path = tmp_path / f"rows{suffix}"

    write_table(table, path)

    back = pd.read_csv(path, keep_default_na=True) if suffix == ".csv" else pd.read_parquet(path)
    assert list(back.columns) == list(table.columns)
    assert back["AP"].tolist() == pytest.approx(table["AP"].tolist(), nan_ok=True)
    assert back["ranks"][0] == "2 4" if suffix == ".csv" else back["ranks"][0].tolist() == [2, 4]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found the suffix '.xlsx', expected .parquet or .csv"):
        write_table(evaluate("market1501", **EXAMPLE).per_query(), tmp_path / "rows.xlsx")
