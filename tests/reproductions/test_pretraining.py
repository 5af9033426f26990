"""Weights from other people of the street: trained once, shared by all seeds, part of a row's definition."""

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from reproductions import jobs
from reproductions.execute import starting
from reproductions.jobs import Changes, make_job
from reproductions.places import cache
from reproductions.pretraining import street_weights
from reproductions.records import load_records
from reproductions.spec import load_paper
from retable.errors import SpecError

SMALL = {"images_per_batch": 24, "epochs": 1, "schedule": ((1, 1e-2),)}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_others(monkeypatch, shell):
    """Fewer people and epochs."""
    monkeypatch.setattr(jobs, "PRETRAINING", jobs.PRETRAINING | SMALL)
    monkeypatch.setattr(jobs, "STREET_SIZE", "tiny")
    for name in ("RETABLE_PAPERS", "RETABLE_CACHE"):
        monkeypatch.setenv(name, shell.environment[name])
    return shell


@pytest.fixture
def rendered_before(monkeypatch):
    """The tests' street, which is there already, in the place of that of other people."""
    monkeypatch.setattr(jobs, "STREET_SEED", jobs.street_seed(jobs.MARKET_LAYOUT))


def a_job(paper="mini", row="Base", weights="street"):
    return make_job(load_paper(paper), row, "crosswalk", "proxy", changes=Changes(weights=weights))


@pytest.mark.usefixtures("rendered_before")
def test_all_seeds_start_from_one_training(few_others):
    done = few_others.run("--row", "Base", "--weights", "street", "--seeds", 2, "--set", "recipe.epochs=1")

    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("starts from weights trained on 8 other people") == 1
    assert len(list((cache() / "pretrained").glob("*.safetensors"))) == 1
    assert {record.seed for record in load_records(few_others.results, "mini")} == {0, 1}


@pytest.mark.usefixtures("rendered_before")
def test_everything_but_the_identities_comes_from_it():
    job = a_job()
    file = street_weights(job.pretraining, CPU, Console(quiet=True))
    found = starting(job, 3, 5, CPU, Console(quiet=True)).state_dict()
    other = starting(a_job(weights="none"), 3, 5, CPU, Console(quiet=True)).state_dict()

    taken = load_file(file)
    left = found.keys() - taken.keys()
    assert left and all(len(found[name]) == 5 for name in left)
    assert all(torch.equal(found[name], taken[name]) for name in taken)
    assert all(torch.equal(found[name], other[name]) for name in left)
    assert any(not torch.equal(found[name], other[name]) for name in taken)


def test_whoever_is_told_apart_first_is_never_tested_on():
    job = a_job()

    assert job.pretraining.data.seed not in {jobs.street_seed(layout) for layout in jobs.LAYOUTS}
    assert job.pretraining.data.seed > 65_535  # street_seed has two bytes


def test_how_they_are_trained_is_part_of_the_row(monkeypatch):
    before = a_job().row_hash
    assert before != a_job(weights="none").row_hash

    monkeypatch.setattr(jobs, "PRETRAINING", jobs.PRETRAINING | {"epochs": 2})
    assert a_job().row_hash != before


def test_a_method_of_pairs_learns_from_no_single_images():
    job = a_job("pairs", next(iter(load_paper("pairs").rows)))

    with pytest.raises(SpecError, match="expected 'none' and starts_from"):
        street_weights(job.pretraining, CPU, Console(quiet=True))
    assert not list((cache() / "pretrained").glob("*.safetensors"))
