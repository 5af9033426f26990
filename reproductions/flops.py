"""Parameters and multiply-adds of a network, counted while it describes one image of shapes without numbers.

Parameters are those that the description passes through, so no classifier counts. Multiply-adds are one for
each product of a convolution, a linear layer or an attention with its addition, biases included ("products");
two for each value that a batch norm scales and shifts; one for each value of a ReLU, and one for each sum of
two values. Pooling, sampling, softmax, tanh and lengths count nothing.

What counts beside products is stated for each network (``counts`` in paper.toml): Table 4 of ``sc_stn`` does
not come out by one way of counting (in 10^9; bold is what rounds to the printed number):

===========================  =============  =============
counted                      ResNet-50 (O)  ResNet-50 (M)
===========================  =============  =============
products                     6.080          18.688
and norms (as thop counts)   6.105          **18.737**
and ReLUs                    6.115          18.758
and sums                     **6.122**      18.772
===========================  =============  =============

Norms, ReLUs and sums are about twice as many in the second network, so what is counted for each value can
give both only if 12.8 M more are counted in both alike. With all pooling or with sampling, what the paper's
own network adds would be 10^-3 B, not 10^-4.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from reproductions.complexity import KINDS, Complexity

aten = torch.ops.aten


def shapes_only() -> AbstractContextManager[Any]:
    """Inside it, new tensors have a shape and a device and no numbers: networks cost next to nothing."""
    return FakeTensorMode()


def count(model: nn.Module, describe: Callable[[Tensor], object], height: int, width: int) -> Complexity:
    """Size of ``model`` by what ``describe`` does to one image (1, 3, height, width), in evaluation mode."""
    model.eval()
    formulas = {operation: formula for operation, (_, formula) in ELEMENT_WISE.items()}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    used = UsedParameters()
    with torch.no_grad(), used, counter:
        describe(torch.empty(1, 3, height, width))
    multiply_adds = Counter(dict.fromkeys(KINDS, 0))
    for operation, found in counter.get_flop_counts().get("Global", {}).items():
        if operation in ELEMENT_WISE:
            multiply_adds[ELEMENT_WISE[operation][0]] += found
        else:
            kind = "convolution" if operation is aten.convolution else "other_products"
            multiply_adds[kind] += found // 2  # torch counts a product and its addition as two
    return Complexity(sum(used.sizes.values()), multiply_adds)


class UsedParameters(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside it, parameters that an operation takes are noted.

    Attributes:
        sizes: numbers in each of them, by identity.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note the parameters among the arguments, then do what was asked."""
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, nn.Parameter):
                self.sizes[id(leaf)] = leaf.numel()
        return func(*args, **(kwargs or {}))


def _one_each(*_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return prod(out_shape)


def _two_each(*_: Any, out_shape: Sequence[Sequence[int]], **__: Any) -> int:
    return 2 * prod(out_shape[0])  # after the output come statistics of the batch


ELEMENT_WISE: dict[Any, tuple[str, Callable[..., int]]] = {
    aten.native_batch_norm: ("norm", _two_each),
    **dict.fromkeys((aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_), ("activation", _one_each)),
    **dict.fromkeys((aten.add, aten.add_), ("addition", _one_each)),
}
"""Operations that torch's counter leaves out: their kind, and multiply-adds by the shape of the result."""
