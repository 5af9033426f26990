"""SONA's attention at the paper's size (48x16 positions, 256 channels): fused against equations 1 and 2."""

import pytest
import torch
from torch import Tensor

from methods.sona import attend

POSITIONS, CHANNELS = 48 * 16, 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 32 if DEVICE == "cuda" else 4


def literal(theta: Tensor, g: Tensor) -> Tensor:
    """Equations 1 and 2 as printed, (B, N, D) and (B, N, D) -> (B, N, D)."""
    d = theta.shape[2]
    i_bar = (torch.eye(d, device=theta.device, dtype=theta.dtype) - 1 / d) / d
    return (theta @ i_bar @ theta.mT / d**0.5).softmax(dim=2) @ g


@pytest.mark.benchmark(group="attention")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("attention", [attend, literal], ids=["fused", "literal"])
def test_attention(benchmark, attention, dtype, backward):
    theta, g = (
        torch.randn(BATCH, POSITIONS, CHANNELS, device=DEVICE, dtype=dtype, requires_grad=backward)
        for _ in range(2)
    )
    benchmark.extra_info.update(shape=list(theta.shape), dtype=str(dtype), device=DEVICE)

    def run() -> Tensor:
        z = attention(theta, g)
        if backward:
            theta.grad = g.grad = None
            z.sum().backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return z

    z = benchmark(run)

    torch.testing.assert_close(z, literal(theta, g), rtol=0.05, atol=0.01)
