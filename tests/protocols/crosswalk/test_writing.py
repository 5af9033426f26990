"""Where a street appears on disk, what is refused, and which streets share a folder of the cache."""

import pytest

from protocols.crosswalk import Dials, StreetError, cache, layout_named, street, write_street, writing

ROOT = layout_named("viper").root


@pytest.fixture
def unrendered(monkeypatch):
    """Streets that are no more than their manifest; gets the folder of each that was written."""
    written = []

    def fill(root, *_arguments):
        (root / writing.MANIFEST).write_text("{}")
        written.append(root)

    monkeypatch.setattr(writing, "_fill", fill)
    return written


def test_a_target_with_something_in_it_is_refused(tmp_path):
    (tmp_path / ROOT).mkdir()
    (tmp_path / ROOT / "mine.txt").write_text("keep me")
    with pytest.raises(StreetError, match="not empty"):
        write_street(tmp_path, "viper", "tiny")
    assert (tmp_path / ROOT / "mine.txt").read_text() == "keep me"


@pytest.mark.usefixtures("unrendered")
def test_an_empty_target_is_used(tmp_path):
    (tmp_path / ROOT).mkdir()
    assert (write_street(tmp_path, "viper", "tiny") / "crosswalk.json").is_file()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_street_needs_a_worker(tmp_path, unrendered, workers):
    with pytest.raises(StreetError, match=f"workers is {workers}; at least 1"):
        write_street(tmp_path, "viper", "tiny", workers=workers)
    assert unrendered == [] and list(tmp_path.iterdir()) == []


def test_a_cached_street_is_rendered_once(tmp_path, unrendered):
    first = street(tmp_path, "tiny", seed=1, layout="viper")
    assert street(tmp_path, "tiny", seed=1, layout="viper") == first
    assert len(unrendered) == 1
    assert first.name == ROOT


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"size": "default"}, {"dials": Dials(occlusion=0.26)}, {"layout": "viper"}]
)
def test_other_parameters_are_other_streets(tmp_path, change):
    arguments = {"size": "tiny", "seed": 1, "dials": Dials(), "layout": "cuhk01"}
    assert street(tmp_path, **arguments) != street(tmp_path, **{**arguments, **change})


@pytest.mark.parametrize("version", ["STREET_VERSION", "FILES_VERSION"])
def test_another_version_is_another_street(tmp_path, monkeypatch, unrendered, version):
    before = street(tmp_path, "tiny")
    monkeypatch.setattr(cache, version, getattr(cache, version) + 1)
    assert street(tmp_path, "tiny") != before
    assert len(unrendered) == 2


def test_the_release_size_of_market1501_is_the_street_called_market(tmp_path, unrendered):
    assert street(tmp_path, "release") == street(tmp_path, "market")
    assert len(unrendered) == 1
