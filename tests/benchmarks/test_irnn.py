"""The sweeps of an IRNN at the paper's size against the literal loop over cells of eq. 4.

What to look at: ``literal`` / ``ours`` (at least 10), at 14 x 14 positions and 512 hidden units, forward and
for a training step. The literal loop has two forms: a cell of one image at a time, and a cell of all images
of the batch at a time, which for one image are the same. Run it with ``OMP_NUM_THREADS=2`` on a machine that
nobody else uses. So run in November 2026 on two cores with AVX2 and without bf16, the dense form was 8 to 9
times as fast as image by image forward and 15 times in a step with one image, 13 and 25 times with four.
"""

import pytest
import torch
from torch import Tensor

from methods.irnn import sweeps
from tests.methods.irnn_literal import literal_sweeps

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def image_by_image(x: Tensor, weight: Tensor) -> Tensor:
    return torch.cat([literal_sweeps(image, weight) for image in x.split(1)])


FORMS = {"ours": sweeps, "literal": image_by_image, "literal, batch at a time": literal_sweeps}


@pytest.mark.parametrize("recurrence", ["dense", "diagonal"])
@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("step", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize("form", FORMS)
def test_sweeps(benchmark, form, step, images, recurrence):
    benchmark.group = f"IRNN sweeps, {recurrence}, {images} x 14 x 14 x 512, {'step' if step else 'forward'}"
    x = torch.rand(images, 14, 14, 512, device=DEVICE).requires_grad_()
    start = torch.eye(512, device=DEVICE) if recurrence == "dense" else torch.ones(512, device=DEVICE)
    weight = (start + 0.01 * torch.randn(4, *start.shape, device=DEVICE)).requires_grad_()
    gradient = torch.randn(images, 14, 14, 2048, device=DEVICE)

    def run() -> object:
        with torch.set_grad_enabled(step):
            maps = FORMS[form](x, weight)
            result = torch.autograd.grad(maps, (x, weight), gradient) if step else maps
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return result

    benchmark.extra_info.update(device=str(DEVICE), threads=torch.get_num_threads())
    # In float64: near 0, float32 decides by rounding which cells are active.
    inputs = [tensor.detach().double().requires_grad_() for tensor in (x, weight)]
    other = literal_sweeps if form == "ours" else sweeps
    (maps, gradients), (expected_maps, expected_gradients) = (
        (maps := sweep(*inputs), torch.autograd.grad(maps, inputs, gradient.double()))
        for sweep in (FORMS[form], other)
    )
    torch.testing.assert_close(maps, expected_maps)
    torch.testing.assert_close(gradients, expected_gradients)
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)
