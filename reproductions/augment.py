"""From cached uint8 images to what the network sees; whole batches at a time."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as v2

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to channels-last float with ImageNet's mean 0 and deviation 1."""
    scaled = v2.to_dtype(images, torch.float32, scale=True)
    normal: Tensor = v2.normalize(scaled, IMAGENET_MEAN, IMAGENET_STD, inplace=True)
    return normal.contiguous(memory_format=torch.channels_last)


def random_flip(images: Tensor, probability: float) -> Tensor:
    """Mirror each image on its own with the given probability."""
    chosen = torch.rand(len(images)).lt(probability).to(images.device)
    return torch.where(chosen[:, None, None, None], v2.horizontal_flip(images), images)


def random_shift(images: Tensor, padding: int) -> Tensor:
    """Put ``padding`` pixels of black around each image and keep a random part of its former size.

    Both coordinates of the corner are drawn evenly from 0..2 padding. A padding of 0 draws nothing.

    Args:
        images: (B, C, H, W) uint8.
        padding: pixels on each side.
    """
    if not padding:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    top, left = torch.randint(2 * padding + 1, (2, count, 1))
    rows = (top + torch.arange(height)).to(images.device)  # (B, H)
    columns = (left + torch.arange(width)).to(images.device)  # (B, W)
    return _picked(padded, rows, columns)


def random_step(images: Tensor, down: int, across: int) -> Tensor:
    """Move each image by -s, 0 or +s pixels along both axes, each of the nine ways as likely.

    What comes in from outside repeats the pixels at the border. Steps of (0, 0) draw nothing.

    Args:
        images: (B, C, H, W) uint8.
        down: s along the rows, in pixels.
        across: s along the columns, in pixels.
    """
    if not (down or across):
        return images
    count, _, height, width = images.shape
    steps = torch.randint(-1, 2, (2, count, 1))
    rows = (torch.arange(height) - steps[0] * down).clamp(0, height - 1).to(images.device)  # (B, H)
    columns = (torch.arange(width) - steps[1] * across).clamp(0, width - 1).to(images.device)  # (B, W)
    return _picked(images, rows, columns)


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image the pixels at its rows (B, h) and columns (B, w), (B, C, h, w)."""
    one = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[one, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


CROP_ATTEMPTS = 10
"""As in open-reid."""


def random_crop(images: Tensor, area: tuple[float, float], aspect: tuple[float, float]) -> Tensor:
    """Crop each image at random and stretch it to its size again: open-reid's ``RandomSizedRectCrop``.

    Share of the area and height per width are drawn evenly, up to ten times until the crop fits the
    image, and then a place; an image for which none fits stays whole. Crops are of the image as it is
    here: one that had another shape in its release is cropped as if it had been stretched first.

    Args:
        images: (B, C, H, W) floats.
        area: least and greatest share of the image, in 0..1.
        aspect: least and greatest height per width.
    """
    height, width = images.shape[-2:]
    boxes = torch.tensor([0.0, 0.0, height, width]).repeat(len(images), 1)  # top, left, height, width
    waiting = torch.arange(len(images))
    for _ in range(CROP_ATTEMPTS):
        size, shape, down, right = torch.rand(4, len(waiting))
        pixels = (area[0] + size * (area[1] - area[0])) * height * width
        tall_per_wide = aspect[0] + shape * (aspect[1] - aspect[0])
        tall, wide = (pixels * tall_per_wide).sqrt(), (pixels / tall_per_wide).sqrt()
        drawn = torch.stack([down * (height - tall), right * (width - wide), tall, wide], 1)
        fits = (tall <= height) & (wide <= width)
        boxes[waiting[fits]] = drawn[fits]
        waiting = waiting[~fits]
    return _stretched(images, boxes.to(images.device))


def _stretched(images: Tensor, boxes: Tensor) -> Tensor:
    """What lies in each image's box (top, left, height, width), at the image's own size; bilinear."""
    height, width = images.shape[-2:]
    top, left, tall, wide = boxes.unbind(1)
    theta = boxes.new_zeros(len(boxes), 2, 3)  # from -1..1 of the box to -1..1 of the image
    theta[:, 0, 0], theta[:, 0, 2] = wide / width, (2 * left + wide) / width - 1
    theta[:, 1, 1], theta[:, 1, 2] = tall / height, (2 * top + tall) / height - 1
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    stretched = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return stretched.contiguous(memory_format=torch.channels_last)


def cutout(images: Tensor, probability: float, size: int) -> Tensor:
    """Zero one ``size`` x ``size`` square per chosen image, in place (DeVries & Taylor, 2017).

    The square lies inside the image. Raises ``ValueError`` if it is larger than the image.
    """
    height, width = images.shape[-2:]
    if size > min(height, width):
        raise ValueError(f"a cutout of {size} pixels does not fit images of {height} x {width}")
    chosen = torch.rand(len(images)).lt(probability)
    top = torch.randint(height - size + 1, (len(images), 1))
    left = torch.randint(width - size + 1, (len(images), 1))
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top) & (rows < top + size)
    in_columns = (columns >= left) & (columns < left + size)
    square = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    return images.masked_fill_(square[:, None].to(images.device), 0)


ERASING_ATTEMPTS = 100
"""As in the authors' code; their algorithm tries for ever."""


def random_erasing(images: Tensor, probability: float, area: tuple[float, float], aspect: float) -> Tensor:
    """Zero a rectangle per chosen image, in place (Zhong et al., arXiv:1708.04896, algorithm 1).

    As there, a corner is drawn anywhere in the image, and a rectangle that sticks out is drawn again
    with size, shape and corner; shapes are even in height per width, not in its logarithm. Filled
    with 0 after normalisation, which is the mean colour: the paper's variant "RE-M". An image on
    which none of 100 rectangles fits stays whole. A probability of 0 draws nothing.

    Args:
        images: (B, C, H, W).
        probability: chance of each image.
        area: least and greatest share of the image, in 0..1.
        aspect: least height per width, in 0..1; the greatest is its inverse.
    """
    if not probability:
        return images
    height, width = images.shape[-2:]
    waiting = torch.rand(len(images)).lt(probability).nonzero().flatten()
    hole = torch.zeros(len(images), height, width, dtype=torch.bool)
    for _ in range(ERASING_ATTEMPTS):
        top, left, tall, wide = _rectangles(len(waiting), height, width, area, aspect)
        fits = (top + tall <= height) & (left + wide <= width)
        rows = _inside(height, top[fits], tall[fits])
        columns = _inside(width, left[fits], wide[fits])
        hole[waiting[fits]] = rows[:, :, None] & columns[:, None, :]
        waiting = waiting[~fits]
        if not len(waiting):
            break
    return images.masked_fill_(hole[:, None].to(images.device), 0)


def _rectangles(
    count: int, height: int, width: int, area: tuple[float, float], aspect: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of random rectangles in whole pixels, (count,) each."""
    size, shape, top, left = torch.rand(4, count)
    pixels = (area[0] + size * (area[1] - area[0])) * height * width
    tall_per_wide = aspect + shape * (1 / aspect - aspect)
    tall, wide = (pixels * tall_per_wide).sqrt().round(), (pixels / tall_per_wide).sqrt().round()
    return (top * height).long(), (left * width).long(), tall.long(), wide.long()


def _inside(length: int, start: Tensor, extent: Tensor) -> Tensor:
    """Whether each of ``length`` places lies in the stretches, (B, length)."""
    places = torch.arange(length)
    return (places >= start[:, None]) & (places < (start + extent)[:, None])
