"""Gradients: gradcheck on the reference in float64, the wiring by names, and what cannot be differentiated."""

from __future__ import annotations

from typing import Any

import cases
import pytest
import torch
from tolerance import assert_close

from mambasdk import ops
from mambasdk.ops._library import adapter


def _double(case: cases.Case) -> dict[str, Any]:
    types = cases.double_types(case.op)
    return {
        k: v.requires_grad_() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in cases.values(case, types).items()
    }


def _outputs(op: str, arguments: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    result = ops.call(op, **arguments)
    every = result if isinstance(result, tuple) else (result,)
    return tuple(o for o in every if o.requires_grad)


def _is_double_throughout(op: str) -> bool:
    """Differences of an output that stays float32 beside float64 inputs show nothing."""
    return bool(cases.double_types(op)) and all(o.dtype_kind != "fixed" for o in adapter.signature(op).outputs)


def _gradcheck_cases() -> list[cases.Case]:
    return [c for op in cases.differentiable_ops() for c in cases.gradient_cases(op) if _is_double_throughout(op)]


@pytest.mark.parametrize("case", _gradcheck_cases(), ids=str)
def test_gradcheck(case: cases.Case) -> None:
    arguments = _double(case)
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor) and v.requires_grad]

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _outputs(case.op, {**arguments, **dict(zip(names, tensors, strict=True))})

    # The fast mode projects on random directions; every entry is compared in the parity tests.
    assert torch.autograd.gradcheck(run, tuple(arguments[n] for n in names), fast_mode=True, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("op", cases.differentiable_ops())
def test_gradients_of_kernels_match_the_reference(op: str) -> None:
    """backward() through torch: float32 kernels against the reference in float64, each input's gradient by itself."""
    case = cases.cases(op)[0]
    types = cases.type_choices(op).get("float32", {})
    low = {k: _leaf(v) for k, v in cases.values(case, types).items()}
    high = {k: _leaf(v) for k, v in cases.widened(op, {k: _plain(v) for k, v in low.items()}).items()}
    for arguments, reference in ((low, False), (high, True)):
        with ops.use_reference() if reference else torch.enable_grad():
            generator = torch.Generator().manual_seed(1)
            weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in _outputs(op, arguments)]
            sum((o * w.to(o.dtype)).sum() for o, w in zip(_outputs(op, arguments), weights, strict=True)).backward()
    for name, leaf in low.items():
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            assert leaf.grad is not None, f"{case}: no gradient of {name}"
            assert_close(leaf.grad, high[name].grad, f"{case}: gradient of {name}", cases.floor(op, types))


@pytest.mark.parametrize("op", cases.differentiable_ops())
def test_only_needed_gradients_are_returned(op: str) -> None:
    case = cases.cases(op)[0]
    arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
    wanted = [k for k, v in arguments.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    for name in wanted:
        leaf = arguments[name].clone().requires_grad_()
        _outputs(op, {**arguments, name: leaf})[0].sum().backward()
        assert leaf.grad is not None, name
        assert leaf.grad.shape == leaf.shape, name
    assert all(arguments[k].grad is None for k in wanted)


@pytest.mark.parametrize("op", cases.differentiable_ops())
def test_second_derivative_is_refused_clearly(op: str) -> None:
    case = cases.cases(op)[0]
    arguments = {k: _leaf(v) for k, v in cases.values(case, cases.type_choices(op).get("float32", {})).items()}
    leaves = [v for v in arguments.values() if isinstance(v, torch.Tensor) and v.requires_grad]
    output = _outputs(op, arguments)[0]
    grads = torch.autograd.grad(output.square().sum(), leaves, create_graph=True, allow_unused=True)
    loss = sum(g.square().sum() for g in grads if g is not None)
    with pytest.raises(RuntimeError, match=f"{op} can be differentiated once.*{op}_backward"):
        loss.backward()


def test_an_operation_without_derivative_says_so() -> None:
    without = [op for op in cases.forward_ops() if op not in cases.differentiable_ops()]
    for op in without:
        case = cases.cases(op)[0]
        arguments = {k: _leaf(v) for k, v in cases.values(case, cases.type_choices(op).get("float32", {})).items()}
        outputs = _outputs(op, arguments)
        if outputs:
            with pytest.raises(RuntimeError, match=f"{op} has no derivative: there is no operation {op}_backward"):
                outputs[0].sum().backward()


def test_every_derivative_follows_the_naming_contract() -> None:
    for op in cases.differentiable_ops():
        forward, backward = adapter.signature(op), adapter.signature(f"{op}_backward")
        known = {a.name for a in forward.inputs} | {o.name for o in forward.outputs}
        grads = {f"grad_{o.name}" for o in forward.outputs}
        assert {a.name for a in backward.inputs} <= known | grads, op
        assert {o.name for o in backward.outputs} <= {f"grad_{a.name}" for a in forward.inputs if a.is_tensor}, op
        for name in ("dtype", "dtype_kind", "shape"):
            for output in backward.outputs:
                source = forward.input(output.name.removeprefix("grad_"))
                assert source is not None, f"{op}: {output.name}"
                assert getattr(output, name) == getattr(source, name), f"{op}: {output.name}"


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def _leaf(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.detach().clone().requires_grad_()
