"""Attention and mixtures of experts: against their formulas, and what their state does that no family's does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mambasdk import nn
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.state import ModelState

D = 16
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"kv_heads": 2, "head_dim": 6, "qkv_bias": True, "out_bias": True},
    "rotary": {"rotary": nn.Rotary(4, 50.0), "kv_heads": 1},
    "interleaved": {"rotary": nn.Rotary(2, interleaved=True), "scale": 0.7, "key_multiplier": 1.5},
    "window": {"window": 3, "rotary": nn.Rotary(4)},
    "convolution": {"d_conv": 3, "d_mlp": 5, "kv_heads": 2},
}


def formula(layer: Any, x: Tensor) -> Tensor:
    """One row and one head after another, in float64: x (L, D) -> (L, D)."""
    layer, x = layer.double(), x.double()
    G, E = layer.kv_heads, layer.head_dim
    projected = layer.in_proj(x)
    qkv, gated = projected.split([layer.d_qkv, 2 * layer.d_mlp], -1)
    if layer.conv1d is not None:
        padded = torch.cat([qkv.new_zeros(layer.d_conv - 1, layer.d_qkv), qkv])
        taps = layer.conv1d.weight.squeeze(1)  # (C, K)
        qkv = layer.conv1d.bias + sum(padded[k : k + len(x)] * taps[:, k] for k in range(layer.d_conv))
    q, k, v = (part.unflatten(-1, (-1, E)) for part in qkv.split([layer.heads * E, G * E, G * E], -1))
    k = k * layer.key_multiplier
    heads = []
    for head in range(layer.heads):
        group = head // (layer.heads // G)
        rows = []
        for i in range(len(x)):
            first = max(0, i + 1 - layer.window) if layer.window else 0
            scores = torch.stack(
                [turned(layer, q[i, head], i) @ turned(layer, k[j, group], j) for j in range(first, i + 1)]
            )
            rows.append((scores * layer.scale).softmax(0) @ v[first : i + 1, group])
        heads.append(torch.stack(rows))
    y = torch.cat(heads, -1)
    if layer.d_mlp:
        value, gate = gated.chunk(2, -1)
        y = torch.cat([y, value * torch.nn.functional.silu(gate)], -1)
    return layer.out_proj(y)


def turned(layer: Any, x: Tensor, position: int) -> Tensor:
    """A head's channels as complex numbers, times a turn."""
    if layer.rotary is None:
        return x
    channels = layer.rotary.channels
    half = channels // 2
    pairs = [(2 * i, 2 * i + 1) if layer.rotary.interleaved else (i, i + half) for i in range(half)]
    y = x.clone()
    for i, (a, b) in enumerate(pairs):
        angle = position * layer.rotary.base ** (-2 * i / channels)
        y[a] = x[a] * math.cos(angle) - x[b] * math.sin(angle)
        y[b] = x[b] * math.cos(angle) + x[a] * math.sin(angle)
    return y


@pytest.fixture(params=OPTIONS, ids=str)
def layer(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return nn.Attention(D, 4, **OPTIONS[request.param])


def test_equals_the_formula_with_and_without_gradients(layer: Any) -> None:
    x = torch.randn(2, 7, D)
    found = layer(x)
    with torch.no_grad():
        without = layer(x)
        expected = torch.stack([formula(layer, row) for row in x]).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(without, expected, atol=1e-5, rtol=0)


def test_any_split_and_any_mask_continue_alike(layer: Any) -> None:
    x, more = torch.randn(2, 9, D), torch.randn(2, 2, D)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0, 1, 1, 1], [1, 0, 0, 0, 0, 1, 1, 1, 0]])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            whole, last = layer(x, return_state=True)
            state, pieces = None, []
            for piece in x.split([0, 3, 1, 5], 1):
                y, state = layer(piece, state, return_state=True)
                pieces.append(y)
            torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)
            torch.testing.assert_close(state.key, last.key, atol=1e-5, rtol=0)
            masked, state = layer(x, mask=mask, return_state=True)
            after = layer(more, state)
            for row in range(2):
                present = mask[row].bool()
                alone, own = layer(x[row : row + 1, present], return_state=True)
                torch.testing.assert_close(masked[row, present], alone[0], atol=1e-5, rtol=0)
                expected = layer(more[row : row + 1], own)[0]
                torch.testing.assert_close(after[row], expected, atol=1e-5, rtol=0)


def test_a_cache_of_unequal_rows_is_saved_selected_and_trimmed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Attention(D, 4)
    x = torch.randn(3, 5, D)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
    _, state = layer(x, mask=mask, return_state=True)
    whole = ModelState([state, None], mask.sum(1))
    whole.save(tmp_path / "state")
    again = ModelState.load(tmp_path / "state")
    assert again[1] is None
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(again[0], state, strict=True))
    assert again.select([1])[0].key.shape[1] == 2
    assert again.select([1])[0].present is None
    assert again.select([2])[0].key.shape[1] == 0
    assert again.select([0, 1])[0].present.tolist() == [[True] * 5, [True, True, False, False, False]]


@pytest.mark.parametrize("options", [{"kv_heads": 3}, {"rotary": nn.Rotary(6)}])
def test_what_attention_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        nn.Attention(D, 4, **options)
    with pytest.raises(InvalidArgumentError):
        nn.Rotary(3)


# ---- experts ----

ROUTERS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "chosen": {"scores": "softmax of chosen", "normalize": True},
    "sigmoid": {"scores": "sigmoid", "normalize": True, "factor": 2.5},
    "groups": {"scores": "sigmoid", "groups": 3, "top_groups": 2},
}


def mixture(router: dict[str, Any], **options: Any) -> Any:
    torch.manual_seed(1)
    made = nn.MixtureOfExperts(
        D, 8, nn.Router(D, 6, 2, initializer_range=1.0, **router), initializer_range=0.3, **options
    )
    if made.router.correction is not None:
        made.router.correction.data.normal_()
    return made


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"gated": False, "activation": "squared_relu", "d_latent": 6, "bias": True}, {"shared": nn.MLP(D, 5)}],
    ids=["gated", "latent", "shared"],
)
@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
def test_grouped_products_are_the_sum_over_the_chosen(
    router: str, options: dict[str, Any], traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token by token, expert by expert; and so is the form of traced programs. Gradients too."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: traced)
    made = mixture(ROUTERS[router], **options)
    x = torch.randn(2, 5, D, requires_grad=True)
    weights, experts = made.router(x.flatten(0, 1))
    inner = x if made.latent_in is None else made.latent_in(x)
    rows = []
    for token, row in enumerate(inner.flatten(0, 1)):
        total = torch.zeros_like(row)
        for weight, expert in zip(weights[token], experts[token], strict=True):
            total = total + weight * (made.fc2[expert] @ made._inner(made.fc1[expert] @ row))
        rows.append(total)
    expected = torch.stack(rows).unflatten(0, (2, 5))
    expected = expected if made.latent_out is None else made.latent_out(expected)
    expected = expected if made.shared is None else expected + made.shared(x)
    torch.testing.assert_close(made(x), expected, atol=1e-5, rtol=0)
    wanted = torch.autograd.grad(expected.square().sum(), [x, made.fc1, made.fc2])
    for found, gradient in zip(
        torch.autograd.grad(made(x).square().sum(), [x, made.fc1, made.fc2]), wanted, strict=True
    ):
        torch.testing.assert_close(found, gradient, atol=1e-4, rtol=1e-4)
    assert made(x[:0]).shape == (0, 5, D)


def test_only_the_best_groups_are_chosen_from() -> None:
    router = mixture(ROUTERS["groups"]).router
    scores = torch.tensor([[0.9, 0.1, 0.6, 0.5, 0.8, 0.7]])  # groups worth 1.0, 1.1 and 1.5
    assert router._allowed(scores).isinf().tolist() == [[True, True, False, False, False, False]]


@pytest.mark.parametrize("numbers", [{"chosen": 7}, {"groups": 4}, {"groups": 2, "top_groups": 3}, {"scores": "best"}])
def test_a_router_of_bad_numbers_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        nn.Router(D, 6, **{"chosen": 2, **numbers})
