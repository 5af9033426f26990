"""Images, which come normalised by ImageNet's moments, as published weights expect them."""

import torch
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean of R, G and B in 0..1; ``STD`` its deviation. Images come normalised by both."""
STD = (0.229, 0.224, 0.225)

CAFFE_MEAN = (123.0, 117.0, 104.0)
"""Of R, G and B in 0..255, as the Caffe models of ImageNet subtract it."""


def to_uint8(images: Tensor) -> Tensor:
    """Normalised floats back to the pixels that they were made of, RGB, uint8, of the same shape."""
    mean, std = (torch.tensor(m, device=images.device).view(1, 3, 1, 1) for m in (MEAN, STD))
    return torch.addcmul(mean, images.float(), std).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


class CaffeInput(nn.Module):
    """BGR in 0..255 less its mean, times ``scale``."""

    factors: Tensor
    shifts: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        factors = [255 * std * scale for std in STD]
        shifts = [(255 * mean - caffe) * scale for mean, caffe in zip(MEAN, CAFFE_MEAN, strict=True)]
        self.register_buffer("factors", torch.tensor(factors[::-1]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shifts", torch.tensor(shifts[::-1]).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        return torch.addcmul(self.shifts, images.flip(1), self.factors)


class InceptionInput(nn.Module):
    """RGB in -1..1, for the weights that torchvision took over from TensorFlow."""

    factors: Tensor
    shifts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factors", torch.tensor(STD).view(1, 3, 1, 1) * 2, persistent=False)
        self.register_buffer("shifts", torch.tensor(MEAN).view(1, 3, 1, 1) * 2 - 1, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        return torch.addcmul(self.shifts, images, self.factors)
