"""Checkpoints: whole, of the right training, and safe to load."""

import pytest
import torch

from reproductions.checkpoint import Checkpoint
from retable.errors import RetableError


def checkpoint(epoch=1, identity="job/seed-0"):
    return Checkpoint(
        identity, epoch, {"w": torch.arange(3.0)}, {"state": {}}, [{"epoch": 1.0}], {"mAP": 1.5}
    )


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "runs" / "checkpoint.pt"
    checkpoint().save(path)

    loaded = Checkpoint.load(path, "job/seed-0")

    assert torch.equal(loaded.model["w"], torch.arange(3.0))
    assert (loaded.epoch, loaded.history, loaded.untrained) == (1, [{"epoch": 1.0}], {"mAP": 1.5})


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoint.load(tmp_path / "checkpoint.pt", "job/seed-0") is None


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_file_says_what_to_do(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)

    with pytest.raises(RetableError, match=r"not a readable checkpoint .*; delete it or pass --fresh"):
        Checkpoint.load(path, "job/seed-0")


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint(identity="other/seed-0").save(path)

    with pytest.raises(RetableError, match=r"belongs to other/seed-0, expected job/seed-0"):
        Checkpoint.load(path, "job/seed-0")


def test_a_refusing_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint(epoch=1).save(path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RetableError, match=r"checkpoint of epoch 2 \(No space left on device\)"):
        checkpoint(epoch=2).save(path)

    assert Checkpoint.load(path, "job/seed-0").epoch == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]
