"""Convolutions under bfloat16: gradients are those of float32 for maps of every size."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from mambasdk_medical.nn.spatial import convolution


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 2, 2), (2, 4, 4), (3, 3, 3), (1, 1), (2, 5)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_of_small_maps(size: tuple[int, ...], stride: int, channels_last: bool) -> None:
    """By autocast and in a bfloat16 model; torch's own are not finite at 2 x 2 x 2."""
    dims = len(size)
    form = {2: torch.channels_last, 3: torch.channels_last_3d}[dims] if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    layer = convolution(dims, 16, 24, 3, stride)
    image = torch.randn(2, 16, *size).contiguous(memory_format=form)
    cotangent = torch.randn_like(layer(image))

    def gradients(kind: str) -> list[Tensor]:
        layer.to(torch.bfloat16 if kind == "model" else torch.float32).zero_grad()
        given = image.detach().clone().to(layer.weight.dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16) if kind == "autocast" else nullcontext():
            y = layer(given)
        assert y.dtype == (torch.float32 if kind == "float32" else torch.bfloat16)
        y.backward(cotangent.to(y.dtype))
        assert given.grad is not None
        assert layer.weight.grad is not None
        return [y.detach().float(), given.grad.float(), layer.weight.grad.float()]

    expected = gradients("float32")
    for kind in ("autocast", "model"):
        for found, exact in zip(gradients(kind), expected, strict=True):
            assert float((found - exact).norm() / exact.norm().clamp(min=1e-6)) < 0.02, kind
