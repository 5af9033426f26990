"""Descriptions: the same wherever they lie, nothing left behind, nothing copied without need."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.base import EmbeddingMethod
from reproductions import descriptions
from reproductions.augment import normalise
from reproductions.descriptions import available_memory, describe_all
from reproductions.training import make_accelerator
from retable.errors import RetableError

CPU = torch.device("cpu")
PLACES = ("memory", "disk")


class Means(EmbeddingMethod):
    """Colour means, alone or beside a map in bfloat16."""

    def __init__(self, named):
        super().__init__()
        self.named = named

    def describe(self, images):
        pooled = images.mean((2, 3))
        return {"pooled": pooled, "map": images.flatten(2).mT.bfloat16()} if self.named else pooled


@pytest.fixture
def images():
    return torch.randint(0, 256, (23, 3, 4, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch, tmp_path):
    monkeypatch.setattr(descriptions, "TEST_BATCH", 5)
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "cache"))


def described(images, place, named=True, device="cpu", **given):
    return describe_all(Means(named), images, make_accelerator(device, "fp32"), place=place, **given)


@pytest.mark.parametrize("place", PLACES)
def test_every_place_gives_back_what_the_method_said_bit_by_bit(images, place):
    expected = Means(True).describe(normalise(images))

    found = described(images, place).rows(slice(None))

    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES)
def test_one_tensor_needs_no_name(images, place):
    found = described(images, place, named=False)

    torch.testing.assert_close(found.rows(slice(3, 9)), normalise(images).mean((2, 3))[3:9], rtol=0, atol=0)
    assert found.row_bytes == 3 * 4


@pytest.mark.parametrize("place", PLACES)
def test_rows_are_those_of_the_list_in_its_order(images, place):
    whole = described(images, place)
    order = np.array([7, 7, 0, 22, 3, 4, 5])
    part = whole.of(order)

    maps = whole.rows(slice(None))["map"]
    assert len(part) == 7
    torch.testing.assert_close(part.rows(slice(1, 6))["map"], maps[order[1:6]])
    torch.testing.assert_close(part.rows(slice(4, 7))["map"], maps[3:6])
    torch.testing.assert_close(part.rows(torch.tensor([6, 0, 0, 2]))["map"], maps[[5, 7, 7, 0]])
    torch.testing.assert_close(part.of(np.array([3, 1])).rows(slice(None))["map"], maps[[22, 7]])
    pooled = whole.rows(slice(None))["pooled"]
    torch.testing.assert_close(part.only("pooled").first(2).rows(slice(None)), pooled[[7, 7]])


def test_neighbours_are_not_copied(images):
    whole = described(images, "memory")
    stored = whole.rows(slice(None))["map"]

    assert whole.of(np.arange(4, 20)).rows(slice(2, 9))["map"].data_ptr() == stored[6].data_ptr()


def test_the_methods_mode_and_the_progress(images):
    method, seen = Means(True).train(), []

    describe_all(method, images, make_accelerator("cpu", "fp32"), progress=seen.append)

    assert not method.training
    assert seen == [5, 5, 5, 5, 3]


def test_a_file_never_has_a_name_to_be_left_behind_by(images, monkeypatch):
    written = []
    fallocate = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: (written.append(args[2]), fallocate(*args)))

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        described(images, "disk", progress=interrupted)

    assert sorted(written) == [23 * 3 * 4, 23 * 8 * 3 * 2]
    assert list(Path(os.environ["RETABLE_CACHE"]).iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(images, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(RetableError, match=r"cache: no room for 0.0 GB .*No space left.*RETABLE_CACHE"):
        described(images, "disk")


@pytest.mark.parametrize(("available", "mapped"), [(2 * 23 * 60, False), (2 * 23 * 60 - 2, True)])
def test_memory_is_taken_while_half_of_it_is_enough(images, monkeypatch, available, mapped):
    monkeypatch.setattr(descriptions, "available_memory", lambda: available)

    found = described(images, None)

    assert found.row_bytes == 60
    assert found.mapped is mapped


def test_available_memory_is_less_than_there_is():
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert 2**20 < available_memory() < installed


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["device", *PLACES])
def test_rows_are_on_the_gpu_wherever_they_are_stored(images, place):
    found = described(images, place, device="cuda")

    rows = found.of(np.array([3, 9, 9, 1])).rows(torch.tensor([1, 3, 1], device="cuda"))["map"]

    assert rows.is_cuda
    torch.testing.assert_close(rows.cpu(), normalise(images).flatten(2).mT.bfloat16()[[9, 1, 9]])


@pytest.mark.parametrize("place", PLACES)
def test_columns_are_a_view_of_what_is_stored(images, place):
    whole = described(images, place, named=False)
    part = whole.columns(slice(1, None))

    assert (whole.width, part.width) == (3, 2)
    assert (len(part), part.row_bytes, part.mapped) == (len(whole), 2 * 4, whole.mapped)
    same = whole.rows(slice(2, 9)).untyped_storage().data_ptr()
    assert part.rows(slice(2, 9)).untyped_storage().data_ptr() == same
    order = np.array([5, 2, 2, 20])
    assert torch.equal(part.of(order).rows(slice(None)), whole.rows(slice(None))[order, 1:])
