"""Pooling beside torch.nn.functional: windows, paddings, ceil_mode, divisors, layouts, what is no number."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from spatial import LAYOUTS, call, three
from torch.nn import functional

from mambasdk import ops

MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE_MAX = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}
ADAPTIVE_AVERAGE = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
SPACES = [(1,), (17,), (600,), (7, 9), (1, 30), (24, 5), (3, 7, 5), (2, 2, 40)]
WINDOWS = [
    (1, 1, 0),
    (2, 2, 0),
    (3, 1, 1),
    (3, 2, 1),
    (5, 1, 2),
    (2, 3, 1),
    (4, 3, 2),
    (3, 3, 0),
]  # kernel, stride, pad


def _x(space: tuple[int, ...], channels: int = 5, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(space) + channels)
    return torch.randn(batch, channels, *space, generator=generator).to(dtype)


def _extent(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """torch's output extent: with ceil_mode the last window must begin before the padding after x."""
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil:
        return reach // stride + 1
    extent = -(-reach // stride) + 1
    return extent - 1 if (extent - 1) * stride >= size + padding else extent


def window(
    space: tuple[int, ...], kernel: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False
) -> dict[str, int]:
    """The same window in every spatial dim, as arguments."""
    out: dict[str, int] = {}
    for axis, size, known in zip("dhw", three(space), three([1] * len(space), 0), strict=True):
        k, s, p, d = (kernel, stride, padding, dilation) if known else (1, 1, 0, 1)
        extent = _extent(size, k, s, p, d, ceil)
        after = max((extent - 1) * s + d * (k - 1) + 1 - size - p, p)
        out |= {f"kernel_{axis}": k, f"stride_{axis}": s, f"padding_{axis}": p, f"padding_after_{axis}": after}
        if dilation != 1:
            out[f"dilation_{axis}"] = d
    return out


def _fits(space: tuple[int, ...], kernel: int, padding: int, dilation: int = 1) -> bool:
    return all(dilation * (kernel - 1) + 1 <= n + 2 * padding for n in space)


@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_max_pool(space: tuple[int, ...], dilation: int, ceil: bool) -> None:
    x = _x(space)
    for kernel, stride, padding in WINDOWS:
        if not _fits(space, kernel, padding, dilation):
            continue
        expected = MAX[len(space)](x, kernel, stride, padding, dilation, ceil_mode=ceil)
        if not expected.isfinite().all():
            continue  # a window of nothing: test_windows_of_nothing_are_refused
        actual = call("max_pool", x, **window(space, kernel, stride, padding, dilation, ceil))
        assert torch.equal(actual, expected), (kernel, stride, padding)


@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("count", [False, True], ids=["elements", "padding"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_average_pool(space: tuple[int, ...], count: bool, ceil: bool) -> None:
    x = _x(space)
    for kernel, stride, padding in WINDOWS:
        if not _fits(space, kernel, 0 if len(space) == 3 else padding):  # torch's avg_pool3d does not count padding
            continue
        arguments = window(space, kernel, stride, padding, ceil=ceil)
        expected = AVERAGE[len(space)](x, kernel, stride, padding, ceil, count)
        actual = call("average_pool", x, **arguments, count_padding=count)
        torch.testing.assert_close(actual, expected, msg=lambda m, w=(kernel, stride, padding): f"{w}: {m}")
        if len(space) > 1:
            expected = AVERAGE[len(space)](x, kernel, stride, padding, ceil, count, divisor_override=3)
            actual = call("average_pool", x, **arguments, count_padding=count, divisor=3)
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_adaptive(space: tuple[int, ...]) -> None:
    x = _x(space)
    for size in (1, 2, 3, 7, 40):
        sizes = dict(zip(("depth", "height", "width"), three([size] * len(space)), strict=True))
        expected = ADAPTIVE_AVERAGE[len(space)](x, size)
        torch.testing.assert_close(call("adaptive_average_pool", x, **sizes), expected)
        assert torch.equal(call("adaptive_max_pool", x, **sizes), ADAPTIVE_MAX[len(space)](x, size))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16, 40, 130, 300])
def test_layouts_and_channels(channels: int, layout: str, isa: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = _x((11, 23), channels, dtype=dtype)
        for kernel, stride, padding in ((3, 1, 1), (3, 2, 1), (11, 11, 0)):
            arguments = window((11, 23), kernel, stride, padding)
            actual = call("max_pool", x, layout, **arguments)
            assert torch.equal(actual, functional.max_pool2d(x, kernel, stride, padding)), (dtype, kernel)
            actual = call("average_pool", x, layout, **arguments)
            expected = functional.avg_pool2d(x.float(), kernel, stride, padding).to(dtype)
            torch.testing.assert_close(actual, expected)


def test_windows_wider_than_a_buffer() -> None:
    for channels, width, dilation in ((300, 90, 1), (4, 5000, 1), (1, 30000, 3), (130, 200, 40)):
        x = _x((2, width), channels, batch=1)
        kernel = (width - 1) // dilation
        arguments = window((2, width), 1, 1, 0, dilation) | {"kernel_w": kernel, "stride_w": 1}
        arguments |= {"dilation_d": 1, "dilation_h": 1, "dilation_w": dilation}
        expected = functional.max_pool2d(x, (1, kernel), 1, 0, (1, dilation))
        assert torch.equal(call("max_pool", x, **arguments), expected), (channels, width)
        if dilation == 1:
            arguments = window((2, width), 1, 1, 0) | {"kernel_w": kernel, "stride_w": 1}
            expected = functional.avg_pool2d(x, (1, kernel), 1)
            torch.testing.assert_close(call("average_pool", x, **arguments), expected)


def test_what_is_no_number_reaches_its_windows_alone(isa: str) -> None:
    for value, channels in itertools.product((math.nan, math.inf, -math.inf), (1, 20)):
        x = _x((6, 40), channels)
        x[1, -1, 3, 17] = value
        x[0, 0] = value
        for kernel, stride, padding in ((3, 1, 1), (2, 2, 0), (5, 2, 2)):
            arguments = window((6, 40), kernel, stride, padding)
            expected = functional.max_pool2d(x, kernel, stride, padding)
            torch.testing.assert_close(call("max_pool", x, **arguments), expected, rtol=0, atol=0, equal_nan=True)
            expected = functional.avg_pool2d(x, kernel, stride, padding)
            torch.testing.assert_close(call("average_pool", x, **arguments), expected, equal_nan=True)


def test_padding_may_be_of_one_side() -> None:
    x = _x((5, 6))
    arguments = window((5, 6), 3, 1, 0) | {"padding_h": 2, "padding_after_w": 1}
    padded = functional.pad(x, (0, 1, 2, 0), value=-math.inf)
    assert torch.equal(call("max_pool", x, **arguments), functional.max_pool2d(padded, 3, 1))
    # In front it counts; behind it counts as far as there is some in front.
    sums = functional.avg_pool2d(functional.pad(x, (0, 1, 2, 0)), 3, 1) * 9
    columns = torch.tensor([3.0, 3.0, 3.0, 3.0, 2.0])
    torch.testing.assert_close(call("average_pool", x, **arguments), sums / (3 * columns))


def test_nothing_to_pool() -> None:
    arguments = window((4, 4), 2, 2, 0)
    assert ops.call("max_pool", x=torch.ones(0, 1, 4, 4, 3), **arguments).shape == (0, 1, 2, 2, 3)
    assert ops.call("average_pool", x=torch.ones(2, 1, 4, 4, 0), **arguments).shape == (2, 1, 2, 2, 0)
    empty = torch.ones(2, 1, 0, 4, 3)
    sizes = {"depth": 1, "height": 2, "width": 2}
    assert torch.equal(ops.call("adaptive_average_pool", x=empty, **sizes), torch.zeros(2, 1, 2, 2, 3))
    with pytest.raises(ValueError, match="adaptive_max_pool: window 0 along the height holds nothing of x"):
        ops.call("adaptive_max_pool", x=empty, **sizes)
    assert ops.call("adaptive_max_pool", x=empty, depth=1, height=0, width=2).shape == (2, 1, 0, 2, 3)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no kernel": ("max_pool", {"kernel_h": 0}, "max_pool: kernel_h is 0, expected at least 1"),
    "no stride": ("max_pool", {"stride_w": 0}, "max_pool: stride_w is 0, expected at least 1"),
    "negative padding": ("average_pool", {"padding_w": -1}, "average_pool: padding_w is -1, expected at least 0"),
    "no dilation": ("max_pool", {"dilation_d": 0}, "max_pool: dilation_d is 0, expected at least 1"),
    "negative divisor": ("average_pool", {"divisor": -2}, "average_pool: divisor is -2, expected a positive number"),
    "a window past x": (
        "max_pool",
        {"kernel_h": 9, "stride_h": 5},
        "max_pool: kernel_h reaches over 9, expected at most 5, the height of x with its padding",
    ),
    "a window of nothing": (
        "max_pool",
        {"padding_w": 3},
        "max_pool: window 0 along the width holds nothing of x, expected at least one of its 6",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_windows_are_named(name: str) -> None:
    op, change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        ops.call(op, x=torch.ones(2, 1, 5, 6, 3), **{**window((5, 6), 2, 1, 0), **change})
