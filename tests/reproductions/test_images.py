"""Decoding: values, order and damaged files."""

import numpy as np
import pytest
import torch
from PIL import Image

from reproductions import images as module
from reproductions.images import ImageFiles, decode
from retable.errors import DataError

CPU = torch.device("cpu")


def write(folder, count=5, size=(16, 32)):
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        path = folder / f"{index:04d}_c1s1_000001_00.jpg"
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
        paths.append(path)
    return paths


def test_images_come_in_order_and_resized_as_pillow_does(tmp_path):
    paths, seen = write(tmp_path), []

    images = decode(paths, 24, 8, CPU, seen.append)

    assert (images.dtype, tuple(images.shape), sum(seen)) == (torch.uint8, (5, 3, 24, 8), 5)
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as file:
            expected = np.asarray(file.resize((8, 24), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_grey_images_become_three_channels(tmp_path):
    path = tmp_path / "grey.jpg"
    Image.new("L", (4, 8), 7).save(path)

    image = decode([path], 8, 4, CPU)[0]

    assert (image[0] == image[2]).all()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing"])
def test_damaged_files_are_named(tmp_path, damage):
    paths = write(tmp_path)
    path = paths[3]
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-400])
        case "garbage":
            path.write_bytes(b"not a picture at all")
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()

    with pytest.raises(DataError, match=r"0003_c1s1_000001_00.jpg: cannot be read as an image"):
        decode(paths, 24, 8, CPU)
    with pytest.raises(DataError, match=r"0003_c1s1_000001_00.jpg: cannot be read as an image"):
        ImageFiles(paths, 24, 8)[torch.tensor([1, 3])]


def test_images_without_room_are_decoded_when_asked_for(tmp_path, monkeypatch):
    paths, seen = write(tmp_path), []
    kept = decode(paths, 24, 8, CPU)
    size = kept.nbytes
    monkeypatch.setattr(module, "available_memory", lambda: 2 * size)
    assert isinstance(decode(paths, 24, 8, CPU), torch.Tensor)
    monkeypatch.setattr(module, "available_memory", lambda: 2 * size - 1)

    asked = decode(paths, 24, 8, CPU, seen.append)

    assert isinstance(asked, ImageFiles)
    assert (len(asked), asked.device, sum(seen)) == (5, kept.device, 5)
    some = torch.tensor([4, 0, 4, 2])
    for which in (slice(0, 2), slice(3, 9), slice(None), some, some[:0]):
        assert torch.equal(asked[which], kept[which])
