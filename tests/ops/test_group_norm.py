"""group_norm and scale_shift beside torch's group_norm, instance_norm and batch_norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spatial import LAYOUTS
from torch.nn import functional

from mambasdk import ops


def _draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def _norm(x: torch.Tensor, layout: str = "contiguous", **arguments: Any) -> torch.Tensor:
    y = ops.call("group_norm", x=LAYOUTS[layout](x.transpose(1, 2)), **arguments)
    assert isinstance(y, torch.Tensor)
    return y.transpose(1, 2)


def _torch(x: torch.Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> torch.Tensor:
    wide = (None if t is None else t.double() for t in (weight, bias))
    return functional.group_norm(x.double(), groups, *wide, eps).to(x.dtype)


@pytest.mark.parametrize("rows", [1, 2, 15, 64, 65, 1000, 4099])
@pytest.mark.parametrize("channels", [1, 2, 3, 12, 20, 64, 72, 130])
def test_groups(channels: int, rows: int, isa: str) -> None:
    x = _draw(2, channels, rows) * 3 + 1
    weight, bias = _draw(channels), _draw(channels + 1)[1:]
    for groups in (g for g in (1, 2, 3, 4, channels) if channels % g == 0 and rows * channels // g > 1):
        expected = _torch(x, groups, weight, bias)
        actual = _norm(x, weight=weight, bias=bias, groups=groups)
        torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5)
        torch.testing.assert_close(_norm(x, groups=groups), _torch(x, groups), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 6, 48, 1100])
def test_layouts_and_dtypes(channels: int, layout: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = _draw(3, channels, 77, dtype=dtype)
        for weight_type in (torch.float32, dtype):
            weight = _draw(channels, dtype=weight_type)
            expected = _torch(x, 1, weight)
            actual = _norm(x, layout, weight=weight, groups=1, eps=1e-5)
            torch.testing.assert_close(actual, expected)


def test_instance_norm() -> None:
    x = _draw(2, 24, 300)
    expected = functional.instance_norm(x.double()).float()
    torch.testing.assert_close(_norm(x, groups=24), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("channels", [3, 64])
def test_a_large_mean_costs_no_digits(channels: int, isa: str) -> None:
    x = _draw(2, channels, 20000) + 4096.0
    for groups in (1, channels):
        torch.testing.assert_close(_norm(x, groups=groups), _torch(x, groups), rtol=1e-4, atol=1e-4)


def test_what_is_no_number_stays_in_its_group() -> None:
    x = _draw(2, 8, 100)
    x[1, 5, 50] = float("nan")
    actual = _norm(x, groups=4)
    expected = _torch(x, 4)
    assert torch.equal(actual.isnan(), expected.isnan())
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("shape", [(5,), (7, 3), (300, 20), (2, 3, 64), (2, 5, 4, 3, 130)], ids=str)
def test_scale_shift(shape: tuple[int, ...], isa: str) -> None:
    scale, shift = _draw(shape[-1]), _draw(shape[-1], 1)[:, 0]
    for dtype in (torch.float32, torch.bfloat16):
        x = _draw(*shape, dtype=dtype)
        expected = (x.double() * scale + shift).to(dtype)
        for layout in LAYOUTS if len(shape) > 2 else ["contiguous"]:
            torch.testing.assert_close(
                ops.call("scale_shift", x=LAYOUTS[layout](x), scale=scale, shift=shift), expected
            )


def test_scale_shift_is_a_folded_batch_norm() -> None:
    x = _draw(2, 12, 9, 11)
    mean, variance, weight, bias = _draw(12), _draw(12, 1)[:, 0].abs() + 0.1, _draw(12, 2)[:, 0], _draw(12, 3)[:, 0]
    scale = weight / (variance + 1e-3).sqrt()
    expected = functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)
    actual = ops.call("scale_shift", x=x.movedim(1, -1), scale=scale, shift=bias - mean * scale)
    torch.testing.assert_close(actual.movedim(-1, 1), expected)


@pytest.mark.parametrize("groups", [0, -1, 5, 2**40])
def test_wrong_groups_are_named(groups: int) -> None:
    with pytest.raises(ValueError, match=f"group_norm: groups is {groups}, expected a divisor of C = 12"):
        ops.call("group_norm", x=torch.ones(2, 3, 12), groups=groups)


@pytest.mark.parametrize("eps", [-1.0, float("nan"), float("inf")])
def test_wrong_eps_is_named(eps: float) -> None:
    with pytest.raises(ValueError, match=f"group_norm: eps is {eps:g}, expected a finite number of at least 0"):
        ops.call("group_norm", x=torch.ones(2, 3, 12), groups=2, eps=eps)
