"""torch.func, forward mode and second derivatives over the registry: the right value, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import pytest
import torch
from torch.autograd import forward_ad

from mambasdk import ops

Call = tuple[Callable[..., Any], tuple[torch.Tensor, ...]]  # a function of the floating-point arguments, and these
OPS = cases.forward_ops()
DIFFERENTIABLE = cases.differentiable_ops()


def _call(op: str, dtype: str = "float32") -> Call:
    """The operation in its floating-point arguments; the outputs that a gradient goes through, summed with weights."""
    case = cases.cases(op)[0]
    arguments = cases.values(case, cases.type_choices(op).get(dtype, {}))
    arguments |= {o.condition: False for o in cases.signature(op).outputs if (o.condition or "").startswith("save_")}
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        result = ops.call(op, **{**arguments, **dict(zip(names, tensors, strict=True))})
        outputs = result if isinstance(result, tuple) else (result,)
        floating = [o for o in outputs if o.is_floating_point()]
        return sum((i + 1) * o.float().sin().sum() for i, o in enumerate(floating or outputs))

    return function, tuple(arguments[n] for n in names)


def _expected(call: Call) -> tuple[torch.Tensor, ...]:
    function, tensors = call
    return torch.autograd.grad(function(*(leaves := [t.clone().requires_grad_() for t in tensors])), leaves)


def _positions(call: Call) -> tuple[int, ...]:
    return tuple(range(len(call[1])))


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_reverse_mode_transforms_give_the_gradients_of_backward(op: str) -> None:
    call = _call(op)
    function, tensors = call
    expected, argnums = _expected(call), _positions(call)
    _same(torch.func.grad(function, argnums)(*tensors), expected)
    value, pullback = torch.func.vjp(function, *tensors)
    _same(pullback(torch.ones_like(value)), expected)
    _same(torch.func.jacrev(function, argnums)(*tensors), expected)
    with torch.no_grad():  # torch.func differentiates whatever the mode outside is
        _same(torch.func.grad(function, argnums)(*tensors), expected)
    torch._dynamo.reset()
    compiled = torch.compile(torch.func.grad(function, argnums), backend="aot_eager", fullgraph=True)
    _same(compiled(*tensors), expected)


@pytest.mark.parametrize("op", OPS)
def test_vmap_runs_every_entry(op: str) -> None:
    function, tensors = _call(op)
    if not tensors:
        pytest.skip("no floating-point argument")
    stacked = tuple(torch.stack([t, t * 0.5, t * 0.25], dim=t.dim()) for t in tensors)  # the last dim is mapped
    rows = [function(*(s.select(-1, i) for s in stacked)) for i in range(3)]
    _same(torch.func.vmap(function, in_dims=-1)(*stacked), torch.stack(rows))
    first = tuple(s if i == 0 else t for i, (s, t) in enumerate(zip(stacked, tensors, strict=True)))
    dims = tuple(-1 if i == 0 else None for i in range(len(tensors)))
    rows = [function(stacked[0].select(-1, i), *tensors[1:]) for i in range(3)]
    _same(torch.func.vmap(function, in_dims=dims)(*first), torch.stack(rows))


@pytest.mark.parametrize("op", OPS)
def test_vmap_over_nothing_has_the_shapes(op: str) -> None:
    case = cases.cases(op)[0]
    arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor)]

    def function(*tensors: torch.Tensor) -> Any:
        return ops.call(op, **{**arguments, **dict(zip(names, tensors, strict=True))})

    one = function(*(arguments[n] for n in names))
    none = torch.func.vmap(function)(*(arguments[n].new_empty((0, *arguments[n].shape)) for n in names))
    for a, b in zip(_tuple(none), _tuple(one), strict=True):
        assert a.shape == (0, *b.shape)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_per_sample_gradients(op: str) -> None:
    call = _call(op)
    function, tensors = call
    batch = [tuple(t * scale for t in tensors) for scale in (1.0, 0.5)]
    stacked = tuple(torch.stack(ts) for ts in zip(*batch, strict=True))
    actual = torch.func.vmap(torch.func.grad(function, _positions(call)))(*stacked)
    expected = [_expected((function, sample)) for sample in batch]
    _same(actual, tuple(torch.stack(gs) for gs in zip(*expected, strict=True)))
    total = torch.func.grad(lambda *ts: torch.func.vmap(function)(*ts).sum(), _positions(call))(*stacked)
    _same(total, tuple(torch.stack(gs) for gs in zip(*expected, strict=True)))


def _forward_ad(function: Callable[..., Any], tensors: tuple[torch.Tensor, ...]) -> Any:
    with forward_ad.dual_level():
        first = forward_ad.make_dual(tensors[0], torch.ones_like(tensors[0]))
        return forward_ad.unpack_dual(function(first, *tensors[1:]))


def _jvp(function: Callable[..., Any], tensors: tuple[torch.Tensor, ...]) -> Any:
    return torch.func.jvp(function, tensors, tensors)


FORWARD_MODE: dict[str, Callable[..., Any]] = {
    "jvp": _jvp,
    "jacfwd": lambda function, tensors: torch.func.jacfwd(function)(*tensors),
    "linearize": lambda function, tensors: torch.func.linearize(function, *tensors)[1](*tensors),
    "forward_ad": _forward_ad,
    "jvp of vmap": lambda function, tensors: _jvp(torch.func.vmap(function), tuple(t[None] for t in tensors)),
    "vmap of jvp": lambda function, tensors: torch.func.vmap(lambda *ts: _jvp(function, ts))(
        *(t[None] for t in tensors)
    ),
}
MODES: dict[str, Callable[[], Any]] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("op", OPS)
def test_forward_mode_is_refused_by_name(op: str) -> None:
    function, tensors = _call(op)
    if not tensors:
        pytest.skip("no floating-point argument")
    for mode in MODES.values():
        for run in FORWARD_MODE.values():
            for leaves in (tensors, tuple(t.clone().requires_grad_() for t in tensors)):
                with mode(), pytest.raises(NotImplementedError, match=f"{op} has no forward-mode derivative: .*; "):
                    run(function, leaves)
    with torch.inference_mode(), pytest.raises(NotImplementedError, match=f"{op} has no forward-mode derivative"):
        _jvp(function, tensors)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(tensors[0], torch.ones_like(tensors[0]))
        with torch.inference_mode(), pytest.raises(NotImplementedError, match="a tensor has a tangent of forward mode"):
            function(dual, *tensors[1:])
    torch._dynamo.reset()
    compiled = torch.compile(lambda *ts: _jvp(function, ts), backend="aot_eager")
    with pytest.raises(NotImplementedError, match=f"{op} has no forward-mode derivative"):
        compiled(*tensors)


@pytest.mark.parametrize("op", OPS)
def test_tensors_without_a_tangent_pass_through_forward_mode(op: str) -> None:
    """Inside jvp an operation on constants is a constant."""
    function, tensors = _call(op)
    value, tangent = torch.func.jvp(lambda x: x * function(*tensors), (torch.ones(()),), (torch.ones(()),))
    torch.testing.assert_close(value, tangent, rtol=0, atol=0)
    torch.testing.assert_close(value, function(*tensors), rtol=0, atol=0)


def _backward_through_grad(function: Callable[..., Any], tensors: tuple[torch.Tensor, ...]) -> None:
    leaves = [t.clone().requires_grad_() for t in tensors]
    torch.func.grad(function)(*leaves).square().sum().backward()


SECOND_DERIVATIVES: dict[str, Callable[..., Any]] = {
    "grad of grad": lambda f, ts: torch.func.grad(lambda *t: torch.func.grad(f)(*t).square().sum())(*ts),
    "jacrev of jacrev": lambda f, ts: torch.func.jacrev(torch.func.jacrev(f))(*ts),
    "hessian": lambda f, ts: torch.func.hessian(f)(*ts),
    "functional.hessian": lambda f, ts: torch.autograd.functional.hessian(lambda x: f(x, *ts[1:]), ts[0]),
    "functional.jvp": lambda f, ts: torch.autograd.functional.jvp(lambda x: f(x, *ts[1:]), ts[0], ts[0]),
    "functional.hvp": lambda f, ts: torch.autograd.functional.hvp(lambda x: f(x, *ts[1:]), ts[0], ts[0]),
    "backward through grad": _backward_through_grad,
}


@pytest.mark.parametrize("kind", SECOND_DERIVATIVES)
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_second_derivatives_are_refused_by_name(op: str, kind: str) -> None:
    function, tensors = _call(op)
    with pytest.raises(RuntimeError, match=f"{op} (can be differentiated once|has no forward-mode derivative)"):
        SECOND_DERIVATIVES[kind](function, tensors)


def _gives_integers(op: str) -> bool:
    return all(o.dtype in ("i32", "i64", "bool") for o in cases.signature(op).outputs)


@pytest.mark.parametrize("op", [op for op in OPS if op not in DIFFERENTIABLE and not _gives_integers(op)])
def test_a_missing_derivative_is_refused_by_name_in_transforms(op: str) -> None:
    call = _call(op)
    function, tensors = call
    if not tensors:
        pytest.skip("no floating-point argument")
    for run in (torch.func.grad(function), torch.func.jacrev(function)):
        with pytest.raises(RuntimeError, match=f"{op} has no derivative: there is no operation {op}_backward"):
            run(*tensors)


def test_functional_call_reaches_the_operations() -> None:
    class Convolution(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ops.causal_conv1d(x, self.weight)

    module, x = Convolution(), torch.ones(1, 2, 1)
    loss = lambda weights: torch.func.functional_call(module, weights, (x,)).sum()  # noqa: E731
    gradient = torch.func.grad(loss)({"weight": module.weight.detach()})
    assert torch.equal(gradient["weight"], torch.tensor([[1.0, 2.0]]))
    assert module.weight.grad is None


def test_batched_gradients_of_torch_autograd() -> None:
    x, weight = torch.randn(1, 5, 2, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    y = ops.causal_conv1d(x, weight)
    directions = torch.randn(4, *y.shape)
    batched = torch.autograd.grad(y, [x, weight], directions, is_grads_batched=True, retain_graph=True)
    rows = [torch.autograd.grad(y, [x, weight], d, retain_graph=True) for d in directions]
    _same(batched, tuple(torch.stack(gs) for gs in zip(*rows, strict=True)))


def _tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _same(actual: Any, expected: Any) -> None:
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        torch.testing.assert_close(a, b)
