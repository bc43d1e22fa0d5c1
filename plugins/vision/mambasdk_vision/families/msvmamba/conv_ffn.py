"""The ConvFFN of MSVMamba: two layers on the channels of a map, and a look at the neighbours between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.in_place import sum_of

_PIXELS = 2048  # that go through the ConvFFN together in inference


class Pointwise(nn.Conv2d):
    """A convolution of side 1 on (B, H, W, C), which is a linear layer; weight (out, in, 1, 1) as upstream has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, in) to (B, H, W, out)."""
        return functional.linear(x, self.weight.flatten(1), self.bias)


class ConvFFN(nn.Module):
    """`linear2(GELU(a + dwc(a)))` with `a = linear1(x)`; dwc is depthwise, of side 3 (arXiv 2405.14174, section 3.3).

    channels: C. hidden: channels of a. dropout: after the activation and at the end.
    """

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = Pointwise(channels, hidden)
        self.dwc = MapConv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.linear2 = Pointwise(hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; in inference a few images at a time, whose maps stay in caches."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._whole(x)
        images = max(1, _PIXELS // max(1, x.shape[1] * x.shape[2]))
        if x.shape[0] <= images:
            return self._whole(x)
        y = torch.empty_like(x)
        for first in range(0, x.shape[0], images):
            y[first : first + images] = self._whole(x[first : first + images])
        return y

    def _whole(self, x: Tensor) -> Tensor:
        a = self.linear1(x)
        a = sum_of(self.dwc(a), a)
        a = functional.gelu(a)
        y: Tensor = self.drop(self.linear2(self.drop(a)))
        return y
