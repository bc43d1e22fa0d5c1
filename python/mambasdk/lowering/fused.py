"""Products and convolutions with what follows them, as passes write them into a graph; here as torch computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

# As the native operations number them.
ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "none": lambda x, _: x,
    "relu": lambda x, _: F.relu(x),
    "gelu": lambda x, _: F.gelu(x),
    "gelu_tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "silu": lambda x, _: F.silu(x),
    "sigmoid": lambda x, _: x.sigmoid(),
    "tanh": lambda x, _: x.tanh(),
    "leaky_relu": F.leaky_relu,
    "hardswish": lambda x, _: F.hardswish(x),
}


def _end(y: Tensor, residual: Tensor | None, activation: str, slope: float, residual_last: bool) -> Tensor:
    if residual is not None and not residual_last:
        y = y + residual
    y = ACTIVATIONS[activation](y, slope)
    return y if residual is None or not residual_last else y + residual


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
    slope: float = 0.0,
    residual_last: bool = False,
) -> Tensor:
    """activation(x W^T + bias + residual), or the residual added last."""
    return _end(F.linear(x, weight, bias), residual, activation, slope, residual_last)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    residual: Tensor | None = None,
    activation: str = "none",
    slope: float = 0.0,
    residual_last: bool = False,
) -> Tensor:
    """The same of a convolution over 1, 2 or 3 dims."""
    compute = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.ndim]
    y = compute(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)
    return _end(y, residual, activation, slope, residual_last)
