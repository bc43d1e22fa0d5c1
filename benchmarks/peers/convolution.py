"""Convolutions of PyTorch, and ours called in the same way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk import ops


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, L, D), weight (D, K), bias (D), SiLU -> (B, L, D)."""
    channels, width = weight.shape
    y = functional.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=width - 1, groups=channels)
    return functional.silu(y[..., : x.shape[1]]).transpose(1, 2)


def torch_convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """x (B, C, ...) -> (B, ..., O)."""
    function = functional.conv2d if x.dim() == 4 else functional.conv3d
    return _channels_last(function(x, weight, bias, stride=stride, padding=padding, groups=groups))


class PackedConvolution:
    """The same through our operations, with the weights packed beforehand; padding of half the kernel."""

    def __init__(self, weight: Tensor, stride: int, groups: int) -> None:
        letters = "dhw"[5 - weight.dim() :]
        self._options = {f"stride_{d}": stride for d in letters}
        self._weight = _channels_last(weight)  # (O, KD, KH, KW, C / groups)
        for d, kernel in zip("dhw", self._weight.shape[1:4], strict=True):
            self._options |= {f"padding_{d}": kernel // 2, f"padding_after_{d}": kernel // 2}
            if groups == 1:
                self._options[f"kernel_{d}"] = kernel
        if groups == 1:
            self._options["features"] = weight.shape[0]
            self._weight = ops.call("pack_weights", weight=self._weight.flatten(1))
        else:
            self._options["groups"] = groups
        self._operation = "convolution_packed" if groups == 1 else "convolution"

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        del weight  # packed
        y: Tensor = ops.call(self._operation, x=_channels_last(x), weight=self._weight, bias=bias, **self._options)
        return y


def _channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) or (B, C, D, H, W) as (B, D, H, W, C)."""
    return torch.movedim(x if x.dim() == 5 else x.unsqueeze(2), 1, -1)
