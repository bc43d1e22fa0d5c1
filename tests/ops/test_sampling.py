"""grid_sample beside torch.nn.functional.grid_sample, deformable_sample beside its definition and golden tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spatial import LAYOUTS, channel_first, channel_last, three
from torch.nn import functional

from mambasdk import ops

MODES = {"bilinear": 0, "nearest": 1, "bicubic": 2}
PADDINGS = {"zeros": 0, "border": 1, "reflection": 2}
SPACES = [(7, 9), (1, 12), (1, 1), (30, 41), (4, 5, 6), (1, 3, 2)]


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _sample(x: torch.Tensor, grid: torch.Tensor, layout: str = "contiguous", **arguments: Any) -> torch.Tensor:
    """On torch's x (B, C, spatial...) and grid (B, spatial..., A)."""
    dims = x.dim() - 2
    places = grid.reshape(grid.shape[0], *three(grid.shape[1:-1]), dims)
    y = ops.call("grid_sample", x=LAYOUTS[layout](channel_last(x)), grid=places, **arguments)
    assert isinstance(y, torch.Tensor)
    return channel_first(y, dims)


def _modes(dims: int) -> list[str]:
    return ["bilinear", "nearest", "bicubic"] if dims == 2 else ["bilinear", "nearest"]


@pytest.mark.parametrize("corners", [False, True], ids=["edges", "corners"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_grid_sample(space: tuple[int, ...], padding: str, corners: bool) -> None:
    for channels, places in ((1, (3,) * len(space)), (5, (8, 40)[: len(space)] + (2,) * (len(space) - 2))):
        x, grid = _draw(2, channels, *space), _draw(2, *places, len(space)) * 1.2
        for mode in _modes(len(space)):
            expected = functional.grid_sample(x.double(), grid.double(), mode, padding, corners).float()
            arguments = {"mode": MODES[mode], "padding_mode": PADDINGS[padding], "align_corners": corners}
            actual = _sample(x, grid, **arguments)
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4, msg=lambda m, w=mode: f"{w}: {m}")
            wide = _sample(x.double(), grid, **arguments)
            torch.testing.assert_close(wide.float(), expected, msg=lambda m, w=mode: f"{w} in float64: {m}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16, 70])
def test_layouts_and_dtypes(channels: int, layout: str, isa: str) -> None:
    for dtype, mode in itertools.product((torch.float32, torch.bfloat16, torch.float16), MODES):
        x, grid = _draw(2, channels, 11, 13).to(dtype), _draw(2, 9, 31, 2)
        expected = functional.grid_sample(x.double(), grid.double(), mode, align_corners=False).to(dtype)
        actual = _sample(x, grid, layout, mode=MODES[mode])
        torch.testing.assert_close(actual, expected, rtol=1e-2 if dtype == torch.bfloat16 else 2e-3, atol=1e-4)
    x, grid = _draw(2, channels, 4, 5, 6), _draw(2, 3, 4, 5, 3)
    expected = functional.grid_sample(x.double(), grid.double(), align_corners=True).float()
    strided = grid.flip(-1).contiguous().flip(-1).transpose(1, 3).contiguous().transpose(1, 3)
    torch.testing.assert_close(_sample(x, strided, layout, align_corners=True), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("corners", [False, True], ids=["edges", "corners"])
def test_the_identity_is_x(corners: bool) -> None:
    x = _draw(2, 20, 16, 8)
    grid = functional.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 20, 16, 8], align_corners=corners)
    for mode in MODES.values():
        actual = _sample(x, grid, mode=mode, align_corners=corners)
        torch.testing.assert_close(actual, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_any_coordinate_reads_inside(mode: str, padding: str, isa: str) -> None:
    """Not a number, infinite, huge: elements of x come out, or zero."""
    x = torch.full((1, 5, 6, 7), 3.0)
    extreme = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e10, -1e10, 2.0**31, -(2.0**31), 5e6, -5e6, 0.0]
    grid = torch.tensor(list(itertools.product(extreme, extreme))).view(1, 12, 12, 2)
    for corners in (False, True):
        y = _sample(x, grid, mode=MODES[mode], padding_mode=PADDINGS[padding], align_corners=corners)
        assert y.isfinite().all()
        if padding != "zeros":
            torch.testing.assert_close(y, torch.full_like(y, 3.0))
        else:
            outside = ~((grid == 0.0).all(-1))
            assert (y.movedim(1, -1)[outside] == 0.0).all()


def test_a_place_beyond_x_does_not_read_it() -> None:
    x = torch.full((1, 1, 4, 4), math.nan)
    far = torch.tensor([[[[5.0, 0.0], [0.0, -7.0], [math.inf, math.nan]]]])
    assert (_sample(x, far) == 0.0).all()
    offsets = torch.full((1, 4, 4, 27), 100.0)
    assert (ops.call("deformable_sample", x=x.movedim(1, -1), offset_mask=offsets) == 0.0).all()


# ---- deformable_sample ----


def _deformable(
    x: torch.Tensor, offset_mask: torch.Tensor, groups: int, kernel: tuple[int, int], stride: int, padding: int,
    dilation: int, scale: float,
) -> torch.Tensor:  # fmt: skip
    """By torch's grid_sample, tap by tap, in float64."""
    batch, height, width, channels = x.shape
    _, rows, columns, _ = offset_mask.shape
    kh, kw = kernel
    taps = kh * kw
    om = offset_mask.double()[..., : groups * 3 * taps].reshape(batch, rows, columns, groups, 3 * taps)
    half_h, half_w = dilation * (kh - 1) // 2, dilation * (kw - 1) // 2
    v = torch.arange(rows).double()[:, None] * stride - padding + half_h
    u = torch.arange(columns).double()[None, :] * stride - padding + half_w
    out = torch.zeros(batch, rows, columns, channels, dtype=torch.float64)
    depth = channels // groups
    for g in range(groups):
        part = x[..., g * depth : (g + 1) * depth].double().movedim(-1, 1)
        for t in range(taps):
            i, j = t // kh, t % kh
            px = u + (i * dilation - half_w + om[..., g, 2 * t]) * scale
            py = v + (j * dilation - half_h + om[..., g, 2 * t + 1]) * scale
            grid = torch.stack([(2 * px + 1) / width - 1, (2 * py + 1) / height - 1], -1)
            sampled = functional.grid_sample(part, grid, align_corners=False).movedim(1, -1)
            out[..., g * depth : (g + 1) * depth] += om[..., g, 2 * taps + t, None] * sampled
    return out


def _window(kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> dict[str, int]:
    return {
        f"{name}_{axis}": value
        for axis, k in zip("hw", kernel, strict=True)
        for name, value in {"kernel": k, "stride": stride, "padding": padding, "dilation": dilation}.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("groups", "channels", "kernel", "stride", "padding", "dilation", "scale"),
    [
        (1, 1, (3, 3), 1, 1, 1, 1.0),
        (2, 32, (3, 3), 1, 1, 1, 1.0),
        (5, 15, (3, 3), 1, 1, 1, 0.7),
        (3, 60, (5, 3), 2, 2, 1, 1.0),
        (20, 320, (3, 3), 1, 2, 2, 2.0),
        (2, 8, (11, 11), 1, 5, 1, 1.0),
    ],
)
def test_deformable_sample(
    groups: int, channels: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int, scale: float,
    layout: str,
) -> None:  # fmt: skip
    x = _draw(2, 9, 13, channels)
    rows, columns = (
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip((9, 13), kernel, strict=True)
    )
    entries = groups * 3 * kernel[0] * kernel[1]
    offset_mask = _draw(2, rows, columns, entries + -entries % 8)
    expected = _deformable(x, offset_mask, groups, kernel, stride, padding, dilation, scale)
    arguments = _window(kernel, stride, padding, dilation) | {"groups": groups}
    for dtype, rtol, atol in ((torch.float64, 1e-9, 1e-9), (torch.float32, 1e-4, 1e-4), (torch.bfloat16, 0.1, 0.5)):
        actual = ops.call(
            "deformable_sample",
            x=LAYOUTS[layout](x.to(dtype)),
            offset_mask=LAYOUTS[layout](offset_mask.to(dtype)),
            offset_scale=scale,
            **arguments,
        )
        if dtype == torch.bfloat16:  # offsets are rounded too
            rounded = _deformable(x.to(dtype), offset_mask.to(dtype), groups, kernel, stride, padding, dilation, scale)
            torch.testing.assert_close(actual.double(), rounded, rtol=2.0**-8, atol=1e-4)
        else:
            torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("groups", "channels", "kernel", "stride", "padding", "dilation", "scale"),
    [
        (1, 1, (3, 3), 1, 1, 1, 1.0),
        (2, 32, (3, 3), 1, 1, 1, 1.0),
        (1, 70, (3, 3), 1, 1, 1, 0.5),
        (3, 60, (5, 3), 2, 2, 1, 1.0),
        (20, 320, (3, 3), 1, 2, 2, 2.0),
        (2, 8, (11, 11), 1, 5, 1, 1.0),
    ],
)
def test_gradients_of_deformable_sample(
    groups: int, channels: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int, scale: float,
    isa: str,
) -> None:  # fmt: skip
    """Beside autograd through torch's grid_sample in float64, offsets of several elements: many taps lie outside."""
    arguments = _window(kernel, stride, padding, dilation) | {"groups": groups, "offset_scale": scale}
    rows, columns = (
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip((6, 9), kernel, strict=True)
    )
    entries = groups * 3 * kernel[0] * kernel[1]
    x, offset_mask = _draw(2, 6, 9, channels), 2.0 * _draw(2, rows, columns, entries + -entries % 8)
    grad = _draw(2, rows, columns, channels, seed=1)
    exact = [t.double().requires_grad_() for t in (x, offset_mask)]
    y = _deformable(*exact, groups, kernel, stride, padding, dilation, scale)
    expected = torch.autograd.grad(y, exact, grad.double())
    for dtype, limit, layouts in ((torch.float64, 1e-9, ["contiguous"]), (torch.float32, 1e-4, LAYOUTS)):
        for layout in layouts:
            leaves = [LAYOUTS[layout](t.to(dtype)).requires_grad_() for t in (x, offset_mask)]
            ours = ops.call("deformable_sample", x=leaves[0], offset_mask=leaves[1], **arguments)
            found = torch.autograd.grad(ours, leaves, LAYOUTS[layout](grad.to(dtype)))
            for one, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(one.double(), wanted, rtol=limit, atol=limit * float(wanted.abs().max()))


def test_gradients_at_the_border_and_outside() -> None:
    """By finite differences: positions on either side of every edge, between the edge and one beyond, and far away."""
    places = torch.tensor([-7.3, -1.4, -0.8, -0.2, 0.3, 1.6, 2.7, 3.2, 3.8, 4.4, 30.1], dtype=torch.float64)
    points = torch.cartesian_prod(places, places)  # (width, height) of each point
    x = _draw(1, len(points), 4, 6).double().requires_grad_()
    rows, columns = len(points), 4
    offset_mask = _draw(1, rows, columns, 8).double()
    # A window of one tap; column c's point is shifted so that each of the four columns sees the point itself.
    at = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).double()
    offset_mask[0, ..., 0] = points[:, None, 0] - at[..., 1]
    offset_mask[0, ..., 1] = points[:, None, 1] - at[..., 0]
    offset_mask.requires_grad_()
    window = _window((1, 1), 1, 0, 1)
    assert torch.autograd.gradcheck(
        lambda x, entries: ops.call("deformable_sample", x=x, offset_mask=entries, **window), (x, offset_mask)
    )
    y = ops.call("deformable_sample", x=x, offset_mask=offset_mask, **window)
    (of_offsets,) = torch.autograd.grad(y.square().sum(), offset_mask)
    outside = ((points <= -1) | (points >= torch.tensor([columns, rows]))).any(-1)
    assert outside.any()
    assert (of_offsets[0, outside] == 0).all()
    assert (of_offsets[0, ~outside, :, :3] != 0).all()
    assert (of_offsets[..., 3:] == 0).all()


def test_gradients_of_places_beyond_x_do_not_read_it() -> None:
    x = torch.full((1, 4, 4, 40), math.nan, requires_grad=True)
    offsets = torch.full((1, 4, 4, 32), 100.0, requires_grad=True)
    for gradient in torch.autograd.grad(ops.call("deformable_sample", x=x, offset_mask=offsets).sum(), (x, offsets)):
        assert (gradient == 0).all()


def test_taps_run_along_the_height_first() -> None:
    """Tap t of a 3 x 3 window reads (height, width) + (t % 3 - 1, t // 3 - 1)."""
    x = _draw(1, 5, 6, 4)
    for t in range(9):
        offset_mask = torch.zeros(1, 5, 6, 27)
        offset_mask[..., 18 + t] = 1.0
        moved = functional.pad(x, (0, 0, 1, 1, 1, 1))[:, t % 3 : t % 3 + 5, t // 3 : t // 3 + 6]
        assert torch.equal(ops.deformable_sample(x, offset_mask), moved)


def test_deformable_sample_of_the_golden_tensors(golden: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file

    io = load_file(golden("hrvmamba") / "io.safetensors")
    value, offset_mask, expected = (io[f"op.dcnv4.{name}"] for name in ("value", "offset_mask", "out_G2_K3"))
    actual = ops.call("deformable_sample", x=value, offset_mask=offset_mask, groups=2)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "mode": ("grid_sample", {"mode": 3}, "grid_sample: mode is 3, expected 0"),
    "padding_mode": ("grid_sample", {"padding_mode": -1}, "grid_sample: padding_mode is -1, expected 0"),
    "coordinates": ("grid_sample", {"grid": torch.ones(2, 1, 2, 2, 4)}, "grid_sample: grid has 4 coordinates"),
    "coordinates of a volume": (
        "grid_sample",
        {"x": torch.ones(2, 3, 4, 4, 6)},
        "grid_sample: grid has 2 coordinates, expected 3: the depth of x is 3",
    ),
    "cubic of a volume": (
        "grid_sample",
        {"grid": torch.ones(2, 1, 2, 2, 3), "mode": 2},
        "grid_sample: grid has 3 coordinates, expected 2: mode is cubic",
    ),
    "nothing to sample": ("grid_sample", {"x": torch.ones(2, 1, 0, 4, 6)}, r"grid_sample: x is \(2, 1, 0, 4, 6\)"),
    "an axis too long": (
        "grid_sample",
        {"x": torch.ones(1).expand(2, 1, 1, 2**22 + 1, 6)},
        "grid_sample: x is .*, expected spatial extents of at most 4194304",
    ),
    "a map too large": (
        "grid_sample",
        {"x": torch.ones(1).expand(2, 1, 2**15, 2**15, 2)},
        "grid_sample: x is .*, expected at most 2.31 - 1 elements",
    ),
    "places": (
        "deformable_sample",
        {"padding_w": 0},
        "deformable_sample: offset_mask has 4 places along w, expected 2",
    ),
    "no stride": ("deformable_sample", {"stride_h": 0}, "deformable_sample: stride_h is 0, expected 1 to 2147483647"),
    "taps": (
        "deformable_sample",
        {"kernel_h": 13, "kernel_w": 11, "padding_h": 6, "padding_w": 5},
        "deformable_sample: the window is 13 x 11, expected at most 128 taps",
    ),
    "groups": ("deformable_sample", {"groups": 4}, "deformable_sample: groups is 4, expected a divisor of C = 6"),
    "no groups": ("deformable_sample", {"groups": 0}, "deformable_sample: groups is 0, expected a divisor"),
    "entries": (
        "deformable_sample",
        {"groups": 3},
        "deformable_sample: offset_mask has 56 entries, expected at least 81",
    ),
    "scale": ("deformable_sample", {"offset_scale": math.nan}, "deformable_sample: offset_scale is nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str) -> None:
    op, change, message = WRONG[name]
    good: dict[str, dict[str, Any]] = {
        "grid_sample": {"x": torch.ones(2, 1, 4, 4, 6), "grid": torch.zeros(2, 1, 2, 2, 2)},
        "deformable_sample": {"x": torch.ones(2, 4, 4, 6), "offset_mask": torch.zeros(2, 4, 4, 56)},
    }
    with pytest.raises(ValueError, match=message):
        ops.call(op, **{**good[op], **change})
