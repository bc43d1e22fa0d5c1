"""Wrong calls: the error names operation, argument, what was expected and what came; eagerly and when traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mambasdk import ops
from mambasdk.errors import MambaSDKError
from mambasdk.ops._library import adapter

ALL = ops.list_ops()


def _good(op: str) -> dict[str, Any]:
    forward = op.removesuffix("_backward") if op.removesuffix("_backward") in ALL else op
    case = cases.cases(forward)[0]
    types = cases.type_choices(forward).get("float32", {})
    return cases.values(case, types) if op == forward else cases.backward_case(case, types)[1]


def _both(op: str, arguments: dict[str, Any]) -> list[str]:
    """The messages of the eager and of the traced call."""
    messages = []
    with pytest.raises(ValueError, match=f"{op}: ") as eager:
        ops.call(op, **arguments)
    messages.append(str(eager.value))
    with FakeTensorMode() as mode, pytest.raises(ValueError, match=f"{op}: ") as traced:
        ops.call(op, **{k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()})
    messages.append(str(traced.value))
    return messages


def _tensors(op: str, arguments: dict[str, Any]) -> list[Any]:
    return [a for a in adapter.signature(op).inputs if a.is_tensor and arguments[a.name] is not None]


@pytest.mark.parametrize("op", ALL)
def test_wrong_rank(op: str) -> None:
    good = _good(op)
    for a in _tensors(op, good):
        if a.variadic:
            continue
        bad = {**good, a.name: good[a.name].unsqueeze(0)}
        for message in _both(op, bad):
            assert message.startswith(f"{op}: {a.name} is {_text(bad[a.name].shape)}, expected ("), message
            assert f"its dims are ({', '.join(e.text for e in a.shape)}" in message, message


@pytest.mark.parametrize("op", ALL)
def test_wrong_extent(op: str) -> None:
    good = _good(op)
    for a in _tensors(op, good):
        value = good[a.name]
        for d in range(value.dim()):
            longer = torch.cat([value, value.narrow(d, 0, 1)], d) if value.shape[d] else value
            bad = {**good, a.name: longer}
            if not _is_refused(op, bad):
                continue  # a dim that this argument alone binds
            for message in _both(op, bad):
                assert message.startswith(f"{op}: "), message
                assert (" is (" in message and "expected (" in message) or "must be" in message, message


def _is_refused(op: str, arguments: dict[str, Any]) -> bool:
    from mambasdk.ops._signature import Binding

    try:
        Binding(adapter.signature(op), arguments)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("op", ALL)
def test_wrong_dtype(op: str) -> None:
    good = _good(op)
    for a in _tensors(op, good):
        wrong = torch.int16 if good[a.name].dtype != torch.int16 else torch.float32
        for message in _both(op, {**good, a.name: good[a.name].to(wrong)}):
            assert message.startswith(f"{op}: "), message
            assert "expected" in message, message
    for a in _tensors(op, good):
        if a.dtype_kind == "accumulator":
            for message in _both(op, {**good, a.name: good[a.name].bfloat16()}):
                assert message.startswith(f"{op}: {a.name} is bf16, expected f32"), message


@pytest.mark.parametrize("op", ALL)
def test_wrong_device(op: str) -> None:
    good = _good(op)
    tensors = _tensors(op, good)
    for a in tensors[1:]:
        with pytest.raises(ValueError, match=f"{op}: .* is on .*, expected .*; move them to one device"):
            ops.call(op, **{**good, a.name: good[a.name].to("meta")})


@pytest.mark.parametrize("op", ALL)
def test_missing_and_unknown_arguments(op: str) -> None:
    good = _good(op)
    required = next((a.name for a in adapter.signature(op).inputs if a.is_tensor and not a.optional), None)
    if required is not None:
        with pytest.raises(ValueError, match=f"{op}: .*{required}"):
            ops.call(op, **{k: v for k, v in good.items() if k != required})
    with pytest.raises(ValueError, match=f"{op}: it has no argument 'epsilon'"):
        ops.call(op, **good, epsilon=1)


def test_unknown_operation() -> None:
    with pytest.raises(KeyError, match="there is no operation 'selectiv_scan'; did you mean selective_scan"):
        ops.call("selectiv_scan")


VALUE_ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "rank of B": (lambda: _scan(B=torch.ones(5)), r"selective_scan: B has 1 dims: expected \(batch, length, N\) or"),
    "channels of a constant B": (lambda: _scan(B=torch.ones(2, 5)), r"selective_scan: B is constant in time"),
    "N of B": (lambda: _scan(B=torch.ones(2, 5, 3)), r"selective_scan: B is .*, expected .*N is 4 in A"),
    "groups": (lambda: _scan(B=torch.ones(2, 5, 4, 4), C=torch.ones(2, 5, 4, 4)), r"selective_scan: .*groups"),
    "position": (lambda: _routed(9), r"selective_scan: order.* 9, expected a position in \[0, 5\)"),
    "negative position": (lambda: _routed(-1), r"selective_scan: order.* -1, expected a position in \[0, 5\)"),
    "offsets start": (lambda: _packed([1, 5]), r"selective_scan: cu_seqlens\[0\] is 1, expected 0"),
    "offsets fall": (lambda: _packed([0, 4, 3, 5]), r"selective_scan: cu_seqlens\[2\] is 3, expected at least 4"),
    "offsets end": (lambda: _packed([0, 4]), r"selective_scan: cu_seqlens ends with 4, expected 5"),
    "width": (
        lambda: ops.causal_conv1d(torch.ones(1, 5, 3), torch.ones(3, 0)),
        r"causal_conv1d: weight has 0 taps, expected at least 1",
    ),
    "eps": (lambda: ops.rms_norm(torch.ones(2, 6), eps=-1.0), r"rms_norm: eps is -1, expected"),
    "group_size": (
        lambda: ops.rms_norm(torch.ones(2, 6), group_size=4),
        r"rms_norm: group_size is 4, expected a divisor",
    ),
}


def _scan(batch: int = 2, **changed: Any) -> Any:
    good = {"u": torch.ones(batch, 5, 6), "delta": torch.ones(batch, 5, 6), "A": -torch.ones(6, 4)}
    good |= {"B": torch.ones(batch, 5, 4), "C": torch.ones(batch, 5, 4)}
    return ops.selective_scan(**{**good, **changed})


def _routed(position: int) -> Any:
    order = torch.arange(5, dtype=torch.int32)[None].clone()
    order[0, 2] = position
    params = torch.ones(2, 1, 5, 4)
    return _scan(delta=torch.ones(2, 1, 5, 6), A=-torch.ones(1, 6, 4), B=params, C=params, order=order)


def _packed(offsets: list[int]) -> Any:
    return _scan(batch=1, cu_seqlens=torch.tensor(offsets, dtype=torch.int32))


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_values(name: str) -> None:
    call, message = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_public_functions_raise_errors_of_the_sdk() -> None:
    with pytest.raises(MambaSDKError):
        _scan(B=torch.ones(2, 5))


def _text(shape: Any) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


LAYOUTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "sparse": (lambda t: t.to_sparse(), r"of layout torch.sparse_coo, and there is no kernel .*; call .to_dense\(\)"),
    "quantised": (
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        r"quantised, and there is no kernel .*; call .dequantize\(\)",
    ),
    "nested": (lambda t: torch.nested.nested_tensor([t, t]), "nested, and there is no kernel .*; pack the sequences"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ALL)
def test_layouts_without_a_kernel(op: str, layout: str) -> None:
    """Refused by name, with the way out, in every mode."""
    good = _good(op)
    change, message = LAYOUTS[layout]
    a = next((a for a in _tensors(op, good) if good[a.name].dtype == torch.float32), None)
    if a is None:
        pytest.skip("no floating-point tensor")
    bad = {**good, a.name: change(good[a.name])}
    for mode in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with mode, pytest.raises(NotImplementedError, match=f"{op}: {a.name} is {message}"):
            ops.call(op, **bad)


@pytest.mark.parametrize("op", ALL)
def test_meta_tensors_have_shapes(op: str) -> None:
    """A device without memory needs no kernel."""
    good = _good(op)
    result = ops.call(op, **{k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in good.items()})
    expected = ops.call(op, **good)
    for a, b in zip(_every(result), _every(expected), strict=True):
        assert (a.device.type, a.shape, a.dtype) == ("meta", b.shape, b.dtype)


def _every(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("op", ALL)
def test_foreign_dtypes_are_named(op: str) -> None:
    good = _good(op)
    a = _tensors(op, good)[0]
    foreign = {torch.int16: "i16", torch.int8: "i8", torch.uint16: "u16", torch.float8_e4m3fn: "f8_e4m3"}
    for dtype, name in foreign.items():
        with pytest.raises(
            ValueError, match=f"{op}: {a.name} (is {name}|has a dtype that no operation takes).*expected"
        ):
            ops.call(op, **{**good, a.name: good[a.name].to(dtype)})


def test_lazy_conjugates_and_negatives_are_taken_as_they_read() -> None:
    b = torch.randn(1, 5, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    a = torch.full((3,), 0.5j, dtype=torch.complex64)
    assert b.conj().is_conj()
    assert torch.equal(ops.diagonal_scan(b.conj(), a.conj()), ops.diagonal_scan(b.conj_physical(), a.conj_physical()))
    negative = b.conj().imag
    assert negative.is_neg()
    assert torch.equal(ops.call("relu", x=negative), torch.relu(-b.imag))


def test_error_types_do_not_depend_on_the_mode() -> None:
    """torch 2.15 makes a RuntimeError of every C++ exception; in inference mode nothing of Python stands in between."""
    x, weight = torch.zeros(2, 5, 3), torch.zeros(4, 4)  # D is 3 and 4
    for mode in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with mode, pytest.raises(ValueError, match=r"causal_conv1d: weight is \(4, 4\), expected \(3, "):
            ops.causal_conv1d(x, weight)
