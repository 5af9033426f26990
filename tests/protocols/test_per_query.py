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
