"""Matrix products of float32 that keep all of their bits, whatever else the process wants."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def full_products(device: str) -> Iterator[None]:
    """Within, torch multiplies float32 as float32, without gradients and without autocast.

    The settings of single operations are used, as torch refuses its older, process-wide setting once
    a program has touched them.

    Args:
        device: the type of device that multiplies, ``"cpu"``, ``"cuda"``, ...
    """
    import torch

    backends: Any = torch.backends
    settings = backends.cuda.matmul, backends.mkldnn.matmul
    wanted = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, wanted, strict=True):
            setting.fp32_precision = "none"  # back to what its back end says, if that is what it was
            if setting.fp32_precision != precision:
                setting.fp32_precision = precision
