"""Records: one file a seed, read back as written, refused when damaged."""

import json

import pytest

from reproductions.records import WHOLE, Provenance, ScoreKey, SeedRecord, load_records
from retable.errors import RetableError


def record(seed=0, **changes):
    fields = {
        "paper": "mini",
        "table": "table1",
        "row": "Net",
        "dataset": "crosswalk",
        "scale": "proxy",
        "seed": seed,
        "row_hash": "0123456789ab",
        "identity": {"method": "sona"},
        "options": {"slope": 0.1},
        "headline": "mAP",
        "metrics": {"mAP": 50.123456789},
        "bounds": {},
        "untrained": {"mAP": 1.0},
        "history": [{"epoch": 1.0, "seconds": 2.0, "images_per_s": 100.0}],
        "provenance": Provenance(
            commit="c" * 40,
            dirty=False,
            started="2026-01-01T00:00:00+00:00",
            device="CPU",
            python="3.11.7",
            versions={"torch": "2.15.0"},
            split={"train": "d" * 32},
        ),
        "mlflow_run_id": None,
    }
    return SeedRecord(**fields | changes)


def test_records_come_back_as_written(tmp_path):
    written = [record(seed, row=row, row_hash=row.lower() * 12) for row in ("A", "B") for seed in (0, 1)]
    for one in written:
        one.save(tmp_path)

    assert load_records(tmp_path) == written
    assert load_records(tmp_path, "mini") == written
    assert load_records(tmp_path, "sona") == []


def test_a_row_with_a_slash_in_its_name_stays_below_its_folder(tmp_path):
    path = record(row="KPM w/o warp").save(tmp_path)

    assert path.relative_to(tmp_path).parts[:2] == ("mini", "proxy")
    assert len(path.relative_to(tmp_path).parts) == 4
    assert load_records(tmp_path)[0].row == "KPM w/o warp"


def test_a_variant_of_a_data_set_stays_below_its_folder(tmp_path):
    path = record(dataset="market1501/openreid").save(tmp_path)

    assert len(path.relative_to(tmp_path).parts) == 4
    assert load_records(tmp_path)[0].dataset == "market1501/openreid"


def test_a_seed_has_one_record_under_whatever_label(tmp_path):
    for one in (record(0, row="A"), record(1, row="A"), record(0, row="A", row_hash="b" * 12)):
        one.save(tmp_path)

    record(0, row="B").save(tmp_path)

    found = [(one.row, one.seed, one.row_hash[0]) for one in load_records(tmp_path)]
    assert sorted(found) == [("A", 0, "b"), ("A", 1, "0"), ("B", 0, "0")]


def test_records_of_before_other_rankings_are_read(tmp_path):
    path = record().save(tmp_path)
    text = path.read_text().replace(' "beside": {},\n', "")
    assert "beside" not in text
    path.write_text(text)

    assert load_records(tmp_path) == [record()]


def test_records_of_before_parts_are_read(tmp_path):
    path = record().save(tmp_path)
    text = path.read_text().replace(' "parts": {},\n', "").replace(' "untrained_parts": {},\n', "")
    assert "parts" not in text
    path.write_text(text)

    (loaded,) = load_records(tmp_path)
    assert loaded == record()
    assert loaded.scores() == {"mAP": 50.123456789}
    assert loaded.has(WHOLE) and not loaded.has(ScoreKey("global"))


def test_what_stands_beside_is_of_the_whole_or_of_a_part():
    part, names = {"mAP": 40.0}, ("m", "m global", "m split 0", "m split 0 global", "m globally")
    parts = {"global": part}
    one = record(parts=parts, untrained_parts=parts, beside={name: {} for name in names})

    assert list(one.scores_beside("global")) == ["m global", "m split 0 global"]
    assert list(one.scores_beside()) == ["m", "m split 0", "m globally"]


def test_a_record_with_parts_that_were_not_measured_untrained_is_refused(tmp_path):
    parts = {name: {"mAP": 40.0} for name in ("global", "spatial")}
    path = record(parts=parts, untrained_parts=parts).save(tmp_path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"untrained_parts": {}}))

    with pytest.raises(
        RetableError,
        match=r"seed-0.json: not a record of this version \(found parts global, spatial and untrained_parts "
        r"none, expected the same names\); delete it",
    ):
        load_records(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"paper": 3}'])
def test_a_damaged_record_is_named(tmp_path, content):
    path = record().save(tmp_path)
    path.write_text(content)

    with pytest.raises(RetableError, match=r"seed-0.json: not a record of this version"):
        load_records(tmp_path)


def test_a_refusing_disk_keeps_the_previous_record(tmp_path, monkeypatch):
    record().save(tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RetableError, match=r"cannot write the record \(No space left on device\)"):
        record(metrics={"mAP": 99.0}).save(tmp_path)

    assert load_records(tmp_path) == [record()]
