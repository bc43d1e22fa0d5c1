"""resize beside torch.nn.functional.interpolate: modes, corners, scale factors, sizes, layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spatial import LAYOUTS, call, three
from torch.nn import functional

from mambasdk import ops

MODES = {"nearest": 0, "nearest-exact": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 3}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
SPACES = [(1,), (9,), (700,), (5, 7), (1, 12), (13, 3), (2, 3, 5)]
FACTORS = [0.3, 0.5, 0.9, 1.0, 1.3, 2.0, 3.7]


def _x(space: tuple[int, ...], channels: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(space) + channels)
    return torch.randn(2, channels, *space, generator=generator).to(dtype)


def _modes(dims: int) -> list[str]:
    return ["nearest", "nearest-exact", LINEAR[dims], *(["bicubic"] if dims == 2 else [])]


def _sizes(space: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(("depth", "height", "width"), three(space), strict=True))


def _corners(mode: str) -> list[bool | None]:
    return [None] if mode.startswith("nearest") else [False, True]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_to_sizes(space: tuple[int, ...]) -> None:
    x = _x(space)
    for mode in _modes(len(space)):
        for corners in _corners(mode):
            for factor in FACTORS:
                size = tuple(max(1, round(n * factor)) for n in space)
                expected = _torch(x, mode, size=size, align_corners=corners)
                actual = call("resize", x, **_sizes(size), mode=MODES[mode], align_corners=bool(corners))
                _close(actual, expected, mode, f"{mode} {corners} to {size}")


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_by_scale_factors(space: tuple[int, ...]) -> None:
    """A scale factor places positions, not the ratio of the sizes, which is rounded."""
    x = _x(space)
    for mode in _modes(len(space)):
        for corners in _corners(mode):
            for factor in FACTORS:
                if any(int(n * factor) == 0 for n in space):
                    continue
                expected = _torch(x, mode, scale_factor=factor, align_corners=corners)
                kept = any(m in (n, 2 * n) for n, m in zip(space, expected.shape[2:], strict=True))
                if mode == "nearest" and len(space) != 2 and kept:
                    continue  # torch's kernels differ from each other: ours is as the 2-D one
                scale = dict(zip(("scale_d", "scale_h", "scale_w"), three([factor] * len(space), 0), strict=True))
                actual = call(
                    "resize",
                    x,
                    **_sizes(tuple(expected.shape[2:])),
                    **{k: float(v) for k, v in scale.items()},
                    mode=MODES[mode],
                    align_corners=bool(corners),
                )
                _close(actual, expected, mode, f"{mode} {corners} by {factor}")


def _torch(x: torch.Tensor, mode: str, **arguments: Any) -> torch.Tensor:
    """In float64, where torch's positions of linear and cubic are as exact as ours; nearest ones are float32's."""
    if mode.startswith("nearest"):
        return functional.interpolate(x, mode=mode, **arguments)
    return functional.interpolate(x.double(), mode=mode, **arguments).float()


def _close(actual: torch.Tensor, expected: torch.Tensor, mode: str, what: str) -> None:
    if mode.startswith("nearest"):
        assert torch.equal(actual, expected), what
    else:
        torch.testing.assert_close(actual, expected, msg=lambda m: f"{what}: {m}")


def test_float64() -> None:
    x = _x((37, 53)).double()
    for mode in ("bilinear", "bicubic"):
        expected = functional.interpolate(x, (101, 29), mode=mode, align_corners=False)
        actual = call("resize", x, depth=1, height=101, width=29, mode=MODES[mode])
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16, 40, 130, 3000])
def test_layouts_and_channels(channels: int, layout: str, isa: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = _x((5, 11), channels, dtype)
        for mode in _modes(2):
            expected = functional.interpolate(x.double(), (10, 22), mode=mode).to(dtype)
            actual = call("resize", x, layout, depth=1, height=10, width=22, mode=MODES[mode])
            if mode.startswith("nearest"):
                assert torch.equal(actual, expected)
            else:
                torch.testing.assert_close(actual, expected)


def test_wide_jumps_with_many_channels() -> None:
    """Neighbours in the output whose positions in x lie further apart than a buffer holds."""
    x = _x((3, 200), 1500)
    for mode in ("bilinear", "bicubic"):
        expected = functional.interpolate(x.double(), (2, 5), mode=mode).float()
        torch.testing.assert_close(call("resize", x, depth=1, height=2, width=5, mode=MODES[mode]), expected)


def test_nothing_to_resize() -> None:
    assert ops.call("resize", x=torch.ones(0, 1, 2, 2, 3), depth=1, height=4, width=4).shape == (0, 1, 4, 4, 3)
    assert ops.call("resize", x=torch.ones(1, 1, 0, 2, 3), depth=1, height=0, width=4).shape == (1, 1, 0, 4, 3)
    with pytest.raises(ValueError, match=r"resize: x is \(1, 1, 0, 2, 3\), expected an element to interpolate"):
        ops.call("resize", x=torch.ones(1, 1, 0, 2, 3), depth=1, height=4, width=4)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mode": ({"mode": 4}, "resize: mode is 4, expected 0"),
    "negative scale": ({"scale_h": -1.0}, "resize: scale_h is -1, expected a positive number, or 0"),
    "infinite scale": ({"scale_w": float("inf")}, "resize: scale_w is inf, expected a positive number"),
    "cubic of a volume": ({"mode": 3, "depth": 2}, "resize: mode is cubic .*, expected both depths to be 1"),
    "negative size": ({"height": -3}, "resize: height is -3, expected at least 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str) -> None:
    change, message = WRONG[name]
    good: dict[str, Any] = {"depth": 1, "height": 4, "width": 4}
    with pytest.raises(ValueError, match=message):
        ops.call("resize", x=torch.ones(1, 1, 2, 2, 3), **{**good, **change})
