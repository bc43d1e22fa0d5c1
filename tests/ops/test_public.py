"""The public functions under torch.compile and torch.export: views and widening trace through, gradients too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mambasdk import ops


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _scan(B: int, L: int) -> dict[str, Tensor]:
    names = {"u": (B, L, 12), "delta": (B, L, 12), "B": (B, L, 4), "C": (B, L, 4), "z": (B, L, 12)}
    fixed = {"D": _randn(12), "delta_bias": _randn(12), "initial_state": _randn(B, 12, 4)}
    return {k: _randn(*s) for k, s in names.items()} | {"A": -_randn(12, 4).exp()} | fixed


def _routed(B: int, L: int) -> dict[str, Tensor]:
    order = torch.stack([torch.arange(L), torch.arange(L).flip(0)]).to(torch.int32)
    params = {
        "delta": _randn(B, 2, L, 12),
        "A": -_randn(2, 12, 4).exp(),
        "B": _randn(B, 2, L, 4),
        "C": _randn(B, 2, L, 4),
    }
    return {"u": _randn(B, L, 12), **params, "order": order}


def _ssd(B: int, L: int) -> dict[str, Tensor]:
    sequences = {"x": _randn(B, L, 4, 8), "dt": _randn(B, L, 4), "B": _randn(B, L, 6), "C": _randn(B, L, 6)}
    return sequences | {"A": -_randn(4).exp(), "D": _randn(4), "initial_state": _randn(B, 4, 8, 6)}


def _mlstm(B: int, L: int) -> dict[str, Tensor]:
    rows = {name: _randn(B, L, 3, 8) for name in ("q", "k", "v")}
    return rows | {"igate": _randn(B, L, 3), "fgate": _randn(B, L, 3)}


def _sampling(B: int, L: int) -> dict[str, Tensor]:
    return {"x": _randn(B, L, 3, 12), "offset_mask": _randn(B, L, 3, 56)}


CALLS: dict[str, tuple[Callable[..., Any], Callable[[int, int], dict[str, Tensor]], dict[str, Any]]] = {
    "selective_scan": (ops.selective_scan, _scan, {"delta_softplus": True, "return_final_state": True}),
    "selective_scan routed": (ops.selective_scan, _routed, {"delta_softplus": True}),
    "selective_scan reversed": (
        ops.selective_scan,
        _scan,
        {"delta_softplus": True, "reverse": True, "return_final_state": True},
    ),
    "ssd": (ops.ssd, _ssd, {"dt_softplus": True, "dt_limit": (0.01, 1.0), "return_final_state": True}),
    "mlstm": (ops.mlstm, _mlstm, {"return_final_state": True, "chunk": 8}),
    "causal_conv1d": (
        ops.causal_conv1d,
        lambda B, L: {"x": _randn(B, L, 12), "weight": _randn(12, 4), "initial_state": _randn(B, 3, 12)},
        {"silu": True, "return_final_state": True},
    ),
    "rms_norm": (
        ops.rms_norm,
        lambda B, L: {"x": _randn(B, L, 12), "weight": _randn(12), "residual": _randn(B, L, 12)},
        {},
    ),
    "layer_norm": (ops.layer_norm, lambda B, L: {"x": _randn(B, L, 12), "z": _randn(B, L, 12)}, {"group_size": 4}),
    "deformable_sample": (ops.deformable_sample, _sampling, {"groups": 2, "kernel_size": (3, 3)}),
    "diagonal_scan": (
        ops.diagonal_scan,
        lambda B, L: {"b": _randn(B, L, 12), "a": _randn(12).tanh(), "initial_state": _randn(B, 12)},
        {"return_final_state": True},
    ),
}


def _loss(result: Any) -> Tensor:
    outputs = torch.utils._pytree.tree_leaves(result)
    return torch.stack([o.square().sum() for o in outputs]).sum()


@pytest.mark.parametrize("name", CALLS)
def test_compile_with_gradients(name: str) -> None:
    function, inputs, options = CALLS[name]

    def step(tensors: dict[str, Tensor]) -> Tensor:
        return _loss(function(**{k: v * 1 if v.is_floating_point() else v for k, v in tensors.items()}, **options))

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for B, L in ((2, 9), (3, 14)):
        eager, traced = ({k: _leaf(v) for k, v in inputs(B, L).items()} for _ in range(2))
        expected, actual = step(eager), compiled(traced)
        assert torch.equal(actual, expected)
        expected.backward()
        actual.backward()
        for key, leaf in eager.items():
            if leaf.requires_grad:
                assert leaf.grad is not None, key
                assert torch.equal(leaf.grad, traced[key].grad), key


class _Call(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, tensors: dict[str, Tensor]) -> Any:
        function, _, options = CALLS[self.name]
        return function(**tensors, **options)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@pytest.mark.parametrize("name", CALLS)
def test_export_keeps_batch_and_length_dynamic(name: str, strict: bool) -> None:
    inputs = CALLS[name][1]
    small, large = inputs(2, 9), inputs(3, 14)
    shapes = {
        k: {d: torch.export.Dim.AUTO for d in range(v.dim()) if v.shape[d] != large[k].shape[d]}
        for k, v in small.items()
    }
    program = torch.export.export(_Call(name), (small,), dynamic_shapes=(shapes,), strict=strict)
    expected = _Call(name)(large)
    for module in (program.module(), program.run_decompositions().module()):
        torch.testing.assert_close(module(large), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", CALLS)
def test_inference_mode_and_no_grad_give_the_same(name: str) -> None:
    function, inputs, options = CALLS[name]
    tensors = inputs(2, 9)
    expected = function(**{k: _leaf(v) for k, v in tensors.items()}, **options)
    with torch.no_grad():
        torch.testing.assert_close(function(**tensors, **options), expected, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(function(**tensors, **options), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", CALLS)
def test_checkpointing_gives_the_same_gradients(name: str) -> None:
    function, inputs, options = CALLS[name]
    runs = []
    for checkpoint in (False, True):
        tensors = {k: _leaf(v) for k, v in inputs(2, 9).items()}
        call = lambda *values, keys=tuple(tensors): function(**dict(zip(keys, values, strict=True)), **options)  # noqa: E731
        values = tuple(tensors.values())
        result = torch.utils.checkpoint.checkpoint(call, *values, use_reentrant=False) if checkpoint else call(*values)
        _loss(result).backward()
        runs.append(tensors)
    for key, leaf in runs[0].items():
        if leaf.requires_grad:
            assert torch.equal(leaf.grad, runs[1][key].grad), key


def _leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_() if value.is_floating_point() else value
