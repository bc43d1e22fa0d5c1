"""Sequences in pieces: equal to the whole, in values and gradients, and bounded in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from mambasdk.nn import Mamba
from mambasdk_medical.families.lightm_unet import ResidualVisionMamba
from mambasdk_medical.nn.pieces import in_pieces

LENGTH = 37


@pytest.mark.parametrize("piece", [1, 2, 7, 36, 37, 100])
def test_pieces_equal_the_whole(piece: int) -> None:
    """Outputs and every gradient, in float64."""
    torch.manual_seed(0)
    layer = Mamba(6).double()
    x = torch.randn(2, LENGTH, 6, dtype=torch.float64)
    cotangent = torch.randn_like(x)

    def results(length: int) -> list[Tensor]:
        layer.zero_grad()
        given = x.clone().requires_grad_()
        y = in_pieces(layer, given, length)
        (y * cotangent).sum().backward()
        return [y.detach(), given.grad, *(p.grad for p in layer.parameters())]  # type: ignore[list-item]

    for found, expected in zip(results(piece), results(LENGTH), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)


@torch.no_grad()
def test_single_steps_equal_the_whole_without_gradients() -> None:
    """Where a piece is one token the mixer takes its update operations."""
    torch.manual_seed(0)
    layer = Mamba(6).double()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(in_pieces(layer, x, 1), layer(x), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("size", [(4, 6, 5), (7, 11)])
def test_layer_of_voxels_does_not_depend_on_the_pieces(size: tuple[int, ...]) -> None:
    """The norms, the skip and the projection are of a token alone."""
    torch.manual_seed(0)
    layer = ResidualVisionMamba(8, 16).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    expected = layer(x)
    assert expected.shape == (2, 16, *size)
    for piece in (1, 13, 64):
        layer.piece_length = piece
        torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=1e-10)


def test_nothing_in_gives_nothing() -> None:
    """A batch of none and a sequence of none have their shapes."""
    layer: Any = Mamba(6)
    for shape in ((0, 9, 6), (2, 0, 6)):
        assert in_pieces(layer, torch.zeros(shape), 4).shape == shape


_PEAK = """
import resource, torch, mambasdk
model = mambasdk.create_model("lightm-unet-3d").eval()
with torch.no_grad():
    logits = model(torch.randn(1, 1, 128, 128, 128))
assert logits.shape == (1, 3, 128, 128, 128) and bool(logits.isfinite().all())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_whole_net_takes_less_than_4_gb_for_128_voxels_cubed() -> None:
    """Peak memory of a fresh process that runs LightM-UNet with 32 filters, whose first layers see 2.1M tokens."""
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4e9
