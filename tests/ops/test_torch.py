"""The operators inside PyTorch: opcheck, torch.compile, torch.export, autocast, the reference switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cases
import pytest
import torch
from tolerance import assert_close

from mambasdk import ops
from mambasdk.ops._library import adapter

OPS = cases.forward_ops()


def _arguments(case: cases.Case, types: cases.Types, grad: bool) -> dict[str, Any]:
    return {
        k: v.requires_grad_() if grad and isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in cases.values(case, types).items()
    }


def _few(op: str) -> list[cases.Case]:
    """Everything given, nothing given, and what changes shapes."""
    chosen = ("tail-all", "bare", "with-order", "with-cu_seqlens", "scalars0", "no-L", "no-B", "no-rows", "one-step")
    return [c for c in cases.gradient_cases(op) if c.id in chosen]


def _operator(op: str) -> Any:
    return getattr(torch.ops.mambasdk, op).default


@pytest.mark.parametrize("case", [c for op in OPS for c in _few(op)], ids=str)
def test_opcheck(case: cases.Case) -> None:
    grad = case.op in cases.differentiable_ops() and not case.is_empty
    types = cases.type_choices(case.op).get("float32", {})
    arguments = _arguments(case, types, grad)
    torch.library.opcheck(_operator(case.op), tuple(arguments.values()))


@pytest.mark.parametrize("case", [_few(op)[0] for op in cases.differentiable_ops()], ids=str)
def test_opcheck_of_derivatives(case: cases.Case) -> None:
    for name in ("float32", "bfloat16"):
        if name in cases.type_choices(case.op):
            backward, arguments = cases.backward_case(case, cases.type_choices(case.op)[name])
            torch.library.opcheck(_operator(backward), tuple(arguments.values()))


class _Module(torch.nn.Module):
    """An operation between pointwise ones, so that there is something to fuse with."""

    def __init__(self, op: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.op = op
        self.fixed = {k: v for k, v in arguments.items() if not isinstance(v, torch.Tensor)}

    def forward(self, tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        doubled = {k: v * 2 * 0.5 if v.is_floating_point() else v for k, v in tensors.items()}
        result = _operator(self.op)(**doubled, **self.fixed)
        return [o + 1 if o.is_floating_point() else o for o in (result if isinstance(result, tuple) else (result,))]


def _tensors(arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in arguments.items() if isinstance(v, torch.Tensor)}


@pytest.mark.parametrize("op", OPS)
def test_compile_fullgraph(op: str) -> None:
    """Forward and gradients under torch.compile(fullgraph=True, dynamic=True) equal eager's, at two shapes."""
    grad = op in cases.differentiable_ops()
    types = cases.type_choices(op).get("float32", {})
    case = _few(op)[0]
    torch._dynamo.reset()
    module = _Module(op, _arguments(case, types, grad))
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for chosen in (case, _resized(case)):
        eager_in, compiled_in = _tensors(_arguments(chosen, types, grad)), _tensors(_arguments(chosen, types, grad))
        expected, actual = module(eager_in), compiled(compiled_in)
        for a, b in zip(actual, expected, strict=True):
            assert torch.equal(a, b), f"{chosen}"
        if grad:
            for outputs in (expected, actual):
                sum(o.square().sum() for o in outputs if o.requires_grad).backward()
            for name, leaf in eager_in.items():
                if leaf.requires_grad:
                    assert torch.equal(leaf.grad, compiled_in[name].grad), f"{chosen}: gradient of {name}"


def _resized(case: cases.Case) -> cases.Case:
    grown = {d: n + 2 if d in ("B", "L", "M") else n for d, n in case.dims.items()}
    family = cases.FAMILIES.get(case.op, cases.Family())
    if family.fix is not None:
        grown = family.fix({k: v for k, v in grown.items() if k not in ("S", "M")}, case.given, case.scalars)
    return replace(case, dims=grown, lead=tuple(n + 1 for n in case.lead))


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_compile_with_inductor(op: str) -> None:
    types = cases.type_choices(op).get("float32", {})
    case = _few(op)[0]
    torch._dynamo.reset()
    arguments = _arguments(case, types, False)
    module = _Module(op, arguments)
    tensors = _tensors(arguments)
    for a, b in zip(torch.compile(module, fullgraph=True)(tensors), module(tensors), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("op", OPS)
def test_export_with_dynamic_shapes(op: str) -> None:
    """Batch and length stay symbolic; the exported program runs at another size."""
    types = cases.type_choices(op).get("float32", {})
    case = _few(op)[0]
    arguments = _arguments(case, types, False)
    module = _Module(op, arguments)
    other = _tensors(_arguments(_resized(case), types, False))
    shapes = {
        k: {d: torch.export.Dim.AUTO for d in range(v.dim()) if other[k].shape[d] != v.shape[d]}
        for k, v in _tensors(arguments).items()
    }
    program = torch.export.export(module, (_tensors(arguments),), dynamic_shapes=(shapes,))
    assert any(node.target is _operator(op) for node in program.graph.nodes), "the operator is kept whole"
    for a, b in zip(program.module()(other), module(other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("op", OPS)
def test_autocast_brings_dtypes_together(op: str) -> None:
    """Under autocast mixed inputs are widened to one dtype; without it they are an error."""
    s = adapter.signature(op)
    case = _few(op)[0]
    arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
    alike: dict[str, list[str]] = {}
    for a in s.inputs:
        if a.dtype_kind == "variable" and arguments[a.name] is not None:
            alike.setdefault(a.dtype, []).append(a.name)
    group = next((names for names in alike.values() if len(names) > 1), None)
    if group is None:
        pytest.skip("no two tensors of this operation share a dtype")
    mixed = {**arguments, group[0]: arguments[group[0]].bfloat16()}
    mixed |= {
        a.name: arguments[a.name].bfloat16() for a in s.inputs if a.dtype_kind == "accumulator" and a.name in case.given
    }
    with pytest.raises(ValueError, match=f"{op}: "):
        ops.call(op, **mixed)
    with torch.autocast("cpu", torch.bfloat16):
        actual = ops.call(op, **mixed)
    expected = ops.call(
        op, **{k: v.to(arguments[k].dtype) if isinstance(v, torch.Tensor) else v for k, v in mixed.items()}
    )
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("op", OPS)
def test_use_reference(op: str) -> None:
    """The switch changes the kernel inside the context and nowhere else."""
    case = _few(op)[0]
    types = cases.type_choices(op).get("float32", {})
    arguments = cases.values(case, types)
    before = _tuple(ops.call(op, **arguments))
    with ops.use_reference():
        inside = _tuple(ops.call(op, **arguments))
    after = _tuple(ops.call(op, **arguments))
    for a, b, c in zip(before, inside, after, strict=True):
        assert torch.equal(a, c)
        if b.is_floating_point():
            assert_close(a, b.double(), f"{case}", cases.floor(op, types))


def test_inputs_are_left_as_they_are() -> None:
    for op in OPS:
        for case in _few(op):
            arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
            copies = {k: v.clone() for k, v in _tensors(arguments).items()}
            ops.call(op, **arguments)
            assert all(torch.equal(arguments[k], v) for k, v in copies.items()), f"{case}"


def _tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
