"""Copies, joins, padding and casts of indices against PyTorch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from drawn import draw
from torch.nn import functional

from mambasdk import ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(), (1,), (0, 3), (7,), (3, 5), (33, 65), (2, 17, 16), (1, 3, 40, 50), (2, 1, 3, 5), (70, 2, 3), (130, 70, 3)]
isa = pytest.mark.usefixtures("isa")


@isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_copies_of_every_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw(*shape, dtype=dtype)
    for dims in itertools.permutations(range(len(shape))):
        view = x.permute(dims)
        views = [view, view[..., ::2], view[..., 1:], view[:1].expand(view.shape)] if x.numel() > 0 and dims else [view]
        for strided in views:
            y = ops.call("copy", x=strided)
            assert y.is_contiguous()
            assert torch.equal(y, strided)


@isa
def test_a_copy_keeps_every_bit() -> None:
    """Of numbers that are none too, and of integers."""
    for bits, dtype in ((torch.int32, torch.float32), (torch.int16, torch.bfloat16), (torch.int16, torch.float16)):
        x = torch.arange(-30000, 30000).mul(36000 if bits == torch.int32 else 1).to(bits).view(200, 300)
        for view in (x, x.mT, x[:, ::3]):
            assert torch.equal(ops.call("copy", x=view.view(dtype)).view(bits), view)
            indices = view.to(torch.int32)
            assert torch.equal(ops.call("copy_indices", x=indices.mT.contiguous().mT), indices)


@isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [(3, 4), (1, 0, 5), (0, 0), (2,) * 8, (98, 1, 98), (1, 3, 3, 0, 7)], ids=str)
@pytest.mark.parametrize("columns", [1, 5, 192])
def test_concat(lengths: tuple[int, ...], columns: int, dtype: torch.dtype) -> None:
    for lead in ((), (3,), (2, 2), (0,)):
        parts = [draw(*lead, n, columns, seed=i, dtype=dtype) for i, n in enumerate(lengths)]
        moved = [p.mT.contiguous().mT if i % 2 else p for i, p in enumerate(parts)]
        expected = torch.cat(parts, -2)
        assert torch.equal(ops.call("concat", **{f"x{i}": p for i, p in enumerate(moved)}), expected)
        if len(parts) == 2:
            assert torch.equal(ops.call("concat_rows", x=moved[0], y=moved[1]), expected)


def test_concat_leaves_out_what_is_absent() -> None:
    a, b, c = (torch.full((n, 2), float(n)) for n in (1, 2, 3))
    assert torch.equal(ops.call("concat", x0=a, x1=b, x5=c), torch.cat([a, b, c]))


@isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counts", [(0, 0), (1, 2), (4, 0), (0, 3), (4, 4)], ids=str)
def test_pad(counts: tuple[int, int], dtype: torch.dtype) -> None:
    before, after = counts
    for shape in ((5, 3), (2, 5, 1), (2, 3, 5, 70)):
        x = draw(*shape, dtype=dtype)
        for view in (x, x.mT.contiguous().mT, x[..., :1].expand(shape)):
            channels = view.reshape(-1, *shape[-2:]).mT  # torch pads the last dim
            for mode, name in enumerate(("constant", "reflect", "replicate", "circular")):
                value: dict[str, Any] = {"value": -1.5} if name == "constant" else {}
                expected = functional.pad(channels, (before, after), mode=name, **value).mT
                y = ops.call("pad", x=view, before=before, after=after, mode=mode, **value)
                assert torch.equal(y.reshape(expected.shape), expected), name


PADS: dict[str, tuple[dict[str, Any], str]] = {
    "mode": ({"mode": 4}, r"pad: mode is 4, expected 0 \(constant\), 1 \(reflect\), 2 \(replicate\) or 3 \(circular\)"),
    "reflect": ({"mode": 1, "after": 5}, "pad: after is 5, expected at most 4: x has 5 rows to reflect"),
    "circular": ({"mode": 3, "before": 6}, "pad: before is 6, expected at most 5: x has 5 rows to go around"),
    "negative": ({"before": -1}, "pad: before is -1, expected at least 0"),
    "nothing": (
        {"mode": 2, "before": 1, "x": torch.ones(0, 3)},
        "pad: before is 1, expected at most 0: x has 0 rows to replicate",
    ),
}


@pytest.mark.parametrize("wrong", PADS)
def test_pad_says_what_is_wrong(wrong: str) -> None:
    arguments, message = PADS[wrong]
    with pytest.raises(ValueError, match=message):
        ops.call("pad", **{"x": torch.ones(5, 3), "before": 0, "after": 0, **arguments})


def test_pad_of_nothing() -> None:
    x = torch.ones(2, 0, 3)
    assert torch.equal(ops.call("pad", x=x, before=1, after=1, value=2.0), torch.full((2, 2, 3), 2.0))
    for mode in (1, 2, 3):
        assert ops.call("pad", x=x, before=0, after=0, mode=mode).shape == (2, 0, 3)


@isa
@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (2, 70, 3), (0, 3), (3, 2, 4, 65)], ids=str)
def test_flip(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    for view in (x, x.mT.contiguous().mT):
        assert torch.equal(ops.call("flip", x=view), x.flip(-2))


# ---- indices ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_indices_of_numbers(dtype: torch.dtype) -> None:
    x = (draw(4, 5, 6) * 100).to(dtype)
    for view in (x, x.transpose(0, 2), x[:, ::2], x[0, 0, 0]):
        assert torch.equal(ops.call("to_indices", x=view), view.to(torch.int32))
    edge = torch.tensor([2.0**24, -(2.0**24), 0.999, -0.999], dtype=dtype)
    if bool(edge.isfinite().all()):
        assert torch.equal(ops.call("to_indices", x=edge), edge.to(torch.int32))


@pytest.mark.parametrize("value", [2.0**24 + 2, -(2.0**25), math.inf, -math.inf, math.nan])
def test_what_is_no_index_is_refused(value: float) -> None:
    x = torch.zeros(2, 3)
    x[1, 1] = value
    with pytest.raises(
        ValueError, match=r"to_indices: element 4 of x is .*, expected a number from -16777216 to 16777216"
    ):
        ops.call("to_indices", x=x)
    if math.isfinite(value):
        with pytest.raises(
            ValueError, match=r"from_indices: element 4 of x is -?[0-9]*, expected a number from -16777216"
        ):
            ops.call("from_indices", x=x.to(torch.int32))


def test_narrowing_keeps_or_refuses() -> None:
    limits = torch.iinfo(torch.int32)
    x = torch.tensor([[0, -1, limits.max], [7, limits.min, 3]])
    for view in (x, x.T, x[:, ::2], x[:1].expand(4, 3), x[0, 2]):
        assert torch.equal(ops.call("narrow_indices", x=view), view.int())
    for value in (limits.max + 1, limits.min - 1, 2**62):
        x[1, 0] = value
        with pytest.raises(ValueError, match=f"narrow_indices: element 3 of x is {value}, expected {limits.min} to"):
            ops.call("narrow_indices", x=x)


def test_numbers_of_indices_and_masks() -> None:
    x = torch.tensor([[0, -1, 2**24], [7, -(2**24), 3]], dtype=torch.int32)
    for view in (x, x.T, x[:, ::2], x[:1].expand(4, 3)):
        assert torch.equal(ops.call("from_indices", x=view), view.float())
        assert torch.equal(ops.call("from_mask", x=view > 0), (view > 0).float())


def test_arange() -> None:
    for n in (0, 1, 7, 1000):
        for like in (torch.empty(n), torch.empty(2, 3, n, dtype=torch.bfloat16), torch.empty(n, 2).mT):
            assert torch.equal(ops.call("arange", like=like), torch.arange(n).float())
        stepped = (0.25 + torch.arange(n).double() * -0.1).float()
        assert torch.equal(ops.call("arange", like=torch.empty(n), start=0.25, step=-0.1), stepped)
