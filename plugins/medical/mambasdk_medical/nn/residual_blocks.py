"""Residual blocks of maps in two and three dimensions: convolutions, instance norms, leaky ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.nn.convolutions import Conv2d, Conv3d
from mambasdk_vision.nn.in_place import sum_of

SLOPE = 0.01


def convolution(inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | int = 1) -> nn.Module:
    """A convolution of (B, inputs, *S), one odd kernel size per axis, padded so that stride 1 keeps S.

    Weights are He-normal for the leaky ReLU, biases zero.
    """
    kind: Any = Conv2d if len(kernel) == 2 else Conv3d
    steps = (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride)
    conv: Conv2d | Conv3d = kind(inputs, outputs, tuple(kernel), steps, tuple(size // 2 for size in kernel))
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class InstanceNorm(nn.Module):
    """Normalise every channel of every image (B, C, *S) over its positions, with weight and bias (C).

    Statistics are the image's own in evaluation too, and float32 whatever the dtype of x.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S), of two positions or more, to the same shape and dtype."""
        if x.shape[0] == 0:  # torch's own takes no empty batch
            return x
        return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU in the memory of x, which nothing else may read: the sum of a block, or a norm's output."""
    return functional.leaky_relu_(x, SLOPE)


class ProjectedBlock(nn.Module):
    """(B, inputs, *S) to (B, outputs, *S / stride): two convolutions, and one of size 1 beside them.

    `act(norm2(conv2(act(norm1(conv1(x))))) + conv3(x))`. Parameter names are upstream's (arXiv 2401.04722).
    """

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, kernel, stride)
        self.norm1 = InstanceNorm(outputs)
        self.conv2 = convolution(outputs, outputs, kernel)
        self.norm2 = InstanceNorm(outputs)
        self.conv3 = convolution(inputs, outputs, (1,) * len(kernel), stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inputs, *S) to (B, outputs, *S / stride)."""
        y = activate(self.norm1(self.conv1(x)))
        return activate(sum_of(self.norm2(self.conv2(y)), self.conv3(x)))


class ConvNorm(nn.Module):
    """A convolution and its norm, `conv.*` and `norm.*`; the size stays."""

    def __init__(self, channels: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.conv = convolution(channels, channels, kernel)
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        y: Tensor = self.norm(self.conv(x))
        return y


class PlainBlock(nn.Module):
    """`act(conv2(act(conv1(x))) + x)` on maps (B, C, *S), each convolution with its norm: nnU-Net's BasicBlockD."""

    def __init__(self, channels: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, kernel)
        self.conv2 = ConvNorm(channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        return activate(sum_of(self.conv2(activate(self.conv1(x))), x))


def blocks(
    inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | int = 1, *, count: int
) -> nn.Sequential:
    """A ProjectedBlock and count - 1 of PlainBlock, `0.*`, `1.*`, …"""
    plain = (PlainBlock(outputs, kernel) for _ in range(count - 1))
    return nn.Sequential(ProjectedBlock(inputs, outputs, kernel, stride), *plain)
