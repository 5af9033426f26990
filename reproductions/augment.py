"""From cached uint8 images to what the network sees; whole batches at a time."""

import torch
from torch import Tensor
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
