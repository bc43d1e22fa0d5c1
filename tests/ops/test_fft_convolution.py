"""fft_convolution against torch's transforms in float64: lengths and taps around every border, both directions."""

from __future__ import annotations

import pytest
import torch
from drawn import draw
from tolerance import assert_close, error

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

LENGTHS = (1, 2, 63, 129, 256, 257, 700)
TAPS = (1, 3, 4, 64, 127, 128, 129, 300, 1000)


def convolved(x: torch.Tensor, kernel: torch.Tensor, reverse: bool) -> torch.Tensor:
    """x (B, L, D), kernel (K, D)."""
    if reverse:
        return convolved(x.flip(1), kernel, False).flip(1)
    n = x.shape[1] + kernel.shape[0]
    spectrum = torch.fft.rfft(x.double(), n, dim=1) * torch.fft.rfft(kernel.double(), n, dim=0)
    return torch.fft.irfft(spectrum, n, dim=1)[:, : x.shape[1]]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("length", LENGTHS)
def test_is_the_convolution(length: int, taps: int) -> None:
    x, kernel = draw(2, length, 21), draw(taps, 21, seed=2)
    for reverse in (False, True):
        y = ops.call("fft_convolution", x=x, kernel=kernel, reverse=reverse)
        assert_close(y, convolved(x, kernel, reverse), f"reverse {reverse}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("taps", [20, 200])
def test_layouts_and_skip(taps: int, dtype: torch.dtype) -> None:
    x, kernel, skip = draw(9, 200, 32).to(dtype), draw(taps, 32, seed=2), draw(32, seed=3)
    expected = convolved(x, kernel, False) + x.double() * skip
    for what, change in {
        "contiguous": lambda t: t,
        "length last": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
        "apart": lambda t: torch.stack([t, t], -1)[..., 0],
        "part": lambda t: torch.cat([t, t], -1)[..., t.shape[-1] :],
    }.items():
        y = ops.call("fft_convolution", x=change(x), kernel=kernel, skip=skip)
        assert_close(y, expected, f"x {what}")
        y = ops.call("fft_convolution", x=x, kernel=change(kernel), skip=torch.stack([skip, skip], -1)[:, 0])
        assert_close(y, expected, f"kernel {what}")
    first = x[:1].expand_as(x)
    y = ops.call("fft_convolution", x=first, kernel=kernel[:1].expand_as(kernel))
    assert_close(y, convolved(first, kernel[:1].expand_as(kernel), False), "expanded")


def test_long_sequences_are_as_exact_as_short_ones() -> None:
    """Errors in units of the result's root mean square: well below 1e-5, as float32 transforms have them."""
    for length in (1000, 8192, 70000):
        x, kernel = draw(1, length, 16), draw(length, 16, seed=2)
        y = ops.call("fft_convolution", x=x, kernel=kernel)
        assert error(y, convolved(x, kernel, False)) < 3e-6, length


def test_a_decaying_kernel() -> None:
    """What state-space models convolve with: large taps first."""
    kernel = 0.98 ** torch.arange(500.0)[:, None] * draw(1, 16, seed=2)
    x = draw(2, 500, 16)
    assert_close(ops.call("fft_convolution", x=x, kernel=kernel), convolved(x, kernel, False), "decaying")


def test_the_batch_does_not_matter() -> None:
    x, kernel = draw(11, 150, 16), draw(150, 16, seed=2)
    y = ops.call("fft_convolution", x=x, kernel=kernel)
    for b in range(11):
        assert torch.equal(ops.call("fft_convolution", x=x[b : b + 1], kernel=kernel)[0], y[b])


def test_no_taps_leave_the_skip() -> None:
    x, skip = draw(2, 5, 3), draw(3, seed=2)
    assert torch.equal(ops.call("fft_convolution", x=x, kernel=torch.ones(0, 3)), torch.zeros(2, 5, 3))
    torch.testing.assert_close(ops.call("fft_convolution", x=x, kernel=torch.ones(0, 3), skip=skip), x * skip)
