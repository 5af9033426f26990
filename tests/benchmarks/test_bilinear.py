"""Compact bilinear pooling at the paper's sizes against its literal form, which sketches every position.

What to look at: ``literal`` / ``ours`` (at least 5), forward and for a training step, at 512 x 128 channels
on 20 x 10 positions. "frequency domain" pools the spectra of the sketches, with one inverse FFT an image; it
is what ``methods.bilinear`` would otherwise be. On a machine that others use, ``OMP_NUM_THREADS=1`` and
``--benchmark-timer=time.process_time``.
"""

import pytest
import torch
from torch import Tensor

from methods.bilinear import CompactBilinear
from tests.methods.bilinear_literal import frequency_domain_pooling, literal_sketch_then_pool

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGES = 180 if DEVICE.type == "cuda" else 32
SKETCH = CompactBilinear((512, 128), 512).to(DEVICE)
FORMS = {
    "ours": SKETCH,
    "frequency domain": lambda a, p: frequency_domain_pooling(a, p, SKETCH),
    "literal": lambda a, p: literal_sketch_then_pool(a, p, SKETCH),
}


def maps(channels: int) -> Tensor:
    """Maps as they leave the dilated network."""
    x = torch.randn(IMAGES, channels, 20, 10, device=DEVICE).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_()


@pytest.mark.benchmark(group="compact bilinear pooling", min_rounds=3)
@pytest.mark.parametrize("step", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize("form", FORMS)
def test_compact_bilinear_pooling(benchmark, form, step):
    a, p = maps(512), maps(128)
    weights = torch.randn(IMAGES, 512, device=DEVICE)

    def run() -> object:
        with torch.set_grad_enabled(step):
            pooled = FORMS[form](a, p)
            result = torch.autograd.grad((pooled * weights).sum(), (a, p)) if step else pooled
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return result

    benchmark.extra_info.update(device=str(DEVICE), images=IMAGES)
    torch.testing.assert_close(FORMS[form](a, p), SKETCH(a, p), rtol=1e-3, atol=1e-4)
    benchmark(run)
