"""attention against torch's own, with masks made by hand; strides, groups, windows, hidden keys, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drawn import draw
from tolerance import RELATIVE, assert_close
from torch.nn.functional import scaled_dot_product_attention

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

# B, L, S, H, G, E, F
SHAPES = [
    (2, 197, 197, 6, 6, 64, 64),
    (1, 1, 1, 1, 1, 1, 1),
    (2, 65, 130, 4, 2, 33, 17),
    (1, 49, 49, 3, 1, 32, 48),
    (2, 1, 700, 8, 2, 64, 64),  # decoding
    (1, 3, 300, 2, 1, 40, 72),
    (3, 8, 5, 1, 1, 7, 9),
    (1, 130, 20, 2, 2, 16, 16),  # more queries than keys
]


def visible(queries: int, keys: int, causal: bool, window: int) -> torch.Tensor:
    """(L, S): which keys a query sees."""
    behind = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
    seen = behind >= 0 if causal else torch.ones(queries, keys, dtype=torch.bool)
    return seen & (behind < window) if window else seen


def expected(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    causal: bool,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y and probabilities by torch, in float64; zeros where a query sees nothing."""
    q, k, v = (t.double().transpose(1, 2) for t in (q, k, v))
    bias = torch.zeros(q.shape[0], q.shape[1], q.shape[2], k.shape[2], dtype=torch.float64)
    if mask is not None:
        bias = bias + mask.double()
    bias = bias.masked_fill(~visible(q.shape[2], k.shape[2], causal, window), -torch.inf)
    grouped = q.shape[1] != k.shape[1]
    y = scaled_dot_product_attention(q, k, v, bias, scale=scale, enable_gqa=grouped)
    share = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(share, 1).transpose(-1, -2) * scale + bias
    blind = (bias == -torch.inf).all(-1, keepdim=True)
    probabilities = scores.softmax(-1).masked_fill(blind, 0.0)
    return y.masked_fill(blind, 0.0).transpose(1, 2), probabilities


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    B, L, S, H, G, E, F = shape
    return draw(B, L, H, E, seed=1).to(dtype), draw(B, S, G, E, seed=2).to(dtype), draw(B, S, G, F, seed=3).to(dtype)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, **given: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """y and probabilities of a call that asks for both; y is the same where it does not, up to rounding."""
    both: tuple[torch.Tensor, torch.Tensor]
    both = ops.call("attention", q=q, k=k, v=v, mask=mask, with_probabilities=True, **given)
    alone = ops.call("attention", q=q, k=k, v=v, mask=mask, **given)[0]
    assert torch.equal(alone.isnan(), both[0].isnan())
    assert_close(alone.nan_to_num(), both[0].double().nan_to_num(), "y alone", 2 * RELATIVE[q.dtype])
    return both


def check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, **given: Any) -> None:
    got = attend(q, k, v, mask, **given)
    exact = expected(q, k, v, mask, given["scale"], given.get("causal", False), given.get("window", 0))
    for name, a, b in zip(("y", "probabilities"), got, exact, strict=True):
        assert_close(a, b, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_attention(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check(*inputs(shape, dtype), scale=shape[5] ** -0.5)


@pytest.mark.parametrize("window", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_causal_and_window(shape: tuple[int, ...], window: int) -> None:
    check(*inputs(shape), scale=0.3, causal=True, window=window)


def _masks(B: int, L: int, S: int, H: int) -> dict[str, torch.Tensor]:
    hidden = torch.rand(B, H, L, S, generator=torch.Generator().manual_seed(7)) < 0.3
    whole = draw(B, H, L, S, seed=4).masked_fill(hidden, -torch.inf)
    return {
        "whole": whole,
        "of keys": whole[:, :1, :1].expand(B, H, L, S),
        "of heads": whole[:, :, :1].expand(B, H, L, S),
        "of positions": whole[:1, :1].expand(B, H, L, S),
        "transposed": whole.transpose(-1, -2).contiguous().transpose(-1, -2),
        "constant": whole[..., :1].expand(B, H, L, S),
        "everything": torch.full((B, H, L, S), -torch.inf),
    }


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks(shape: tuple[int, ...], causal: bool) -> None:
    B, L, S, H = shape[:4]
    for mask in _masks(B, L, S, H).values():
        check(*inputs(shape), mask, scale=0.5, causal=causal)


@pytest.mark.parametrize("length", [1, 50])
def test_layouts(length: int) -> None:
    """Parts of one projection, heads before positions, channels apart, one head for all."""
    B, S, H, E = 2, 70, 4, 24
    fused = draw(B, S, 3, H, E)
    parts = [t[:, -length:] if i == 0 else t for i, t in enumerate(fused.unbind(2))]
    check(*parts, scale=0.2, causal=True)
    check(*(t.transpose(1, 2).contiguous().transpose(1, 2) for t in parts), scale=0.2)
    check(*(t.transpose(1, 3).contiguous().transpose(1, 3) for t in parts), scale=0.2)
    check(parts[0], *(t[:, :, :1].expand(B, S, H, E) for t in parts[1:]), scale=0.2)


def test_groups_are_repeated_heads() -> None:
    q, k, v = inputs((2, 60, 60, 6, 2, 16, 16))
    y, _ = attend(q, k, v, scale=0.3)
    repeated, _ = attend(q, k.repeat_interleave(3, 2), v.repeat_interleave(3, 2), scale=0.3)
    assert_close(y, repeated.double(), "grouped")


def test_large_scores_do_not_overflow() -> None:
    for length in (1, 40):
        q, k, v = inputs((1, length, 90, 2, 2, 8, 8))
        check(q * 100, k * 30, v, scale=1.0)


@pytest.mark.parametrize("length", [1, 70])
def test_hidden_values_that_are_not_finite_stay_hidden(length: int) -> None:
    q, k, v = inputs((1, length, 90, 2, 2, 8, 8))
    clean, _ = attend(q, k, v, scale=0.3, causal=True, window=30)
    k, v = k.clone(), v.clone()
    bad = 80 if length > 1 else 20  # behind most queries; before the one query's window
    k[:, bad], v[:, bad, :, ::2] = torch.nan, torch.inf
    y, probabilities = attend(q, k, v, scale=0.3, causal=True, window=30)
    sees = visible(length, 90, True, 30)[:, bad]
    assert torch.equal(y[:, ~sees], clean[:, ~sees])
    assert y[:, sees].isnan().all()
    assert (probabilities[..., ~visible(length, 90, True, 30)] == 0).all()


def test_no_keys_give_zeros() -> None:
    q, k, v = inputs((2, 5, 0, 2, 1, 4, 3))
    y, probabilities = attend(q, k, v, scale=1.0)
    assert torch.equal(y, torch.zeros(2, 5, 2, 3))
    assert probabilities.shape == (2, 2, 5, 0)
    q, k, v = inputs((2, 5, 9, 2, 1, 0, 3))  # scores of nothing are 0: the mean
    y, probabilities = attend(q, k, v, scale=1.0)
    assert_close(y, v.double().mean(1, keepdim=True).expand(2, 5, 2, 3), "mean")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": (1, 4, 2, 8), "v": (1, 4, 2, 8)}, "q has 3 heads, expected a multiple of the 2 of k and v"),
        ({"k": (1, 4, 0, 8), "v": (1, 4, 0, 8)}, "q has 3 heads, expected a multiple of the 0 of k and v"),
        ({"scale": float("nan")}, "scale is nan, expected a finite number"),
        ({"window": -1}, "window is -1, expected at least 1, or 0 for all keys"),
        ({"window": 2, "causal": False}, "window is 2, expected 0 unless causal"),
        ({"mask": (1, 3, 4, 5)}, r"mask is \(1, 3, 4, 5\), expected \(1, 3, 4, 4\)"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"q": (1, 4, 3, 8), "k": (1, 4, 1, 8), "v": (1, 4, 1, 8), "scale": 1.0, "causal": True}
    arguments = {k: torch.zeros(v) if isinstance(v, tuple) else v for k, v in {**good, **changed}.items()}
    with pytest.raises(ValueError, match=f"attention: {message}"):
        ops.call("attention", **arguments)
