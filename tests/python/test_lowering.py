"""Native programs: the builder refuses what the engine would; lowered models are well-formed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import mambasdk
from mambasdk.errors import LoweringError
from mambasdk.lowering import Program, Value, native_program, parse_signature, program, registered_signatures

SIGNATURES = """
linear(x: T[*,I], weight: W[O,I], bias: W[O]?) -> (y: T[*,O])
add(x: T[*], y: T[*]) -> (out: T[*])
conv(x: T[B,L,D], weight: W[D,K], initial_state: T[S,K-1,D]?, silu: bool = false, width: int = 3)
  -> (y: T[B,L,D], final_state: T[S,K-1,D] if silu) where S = B if not initial_state
"""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = SIGNATURES.strip().replace("\n  ", " ").splitlines()
    signatures = {signature.name: signature for signature in map(parse_signature, texts)}
    monkeypatch.setattr(program, "registered_signatures", lambda: signatures)


def test_signature_notation() -> None:
    text = SIGNATURES.strip().replace("\n  ", " ").splitlines()[2]
    signature = parse_signature(text)
    assert signature.name == "conv"
    assert [p.name for p in signature.parameters.values() if p.required] == ["x", "weight"]
    assert [p.scalar for p in signature.parameters.values()] == [None, None, None, "bool", "int"]
    assert signature.outputs == {"y": None, "final_state": "silu"}
    for bad in ("f(x", "f(x: T[B]) y", "f(x T) -> (y: T)"):
        with pytest.raises(LoweringError):
            parse_signature(bad)


def test_every_registered_signature_is_understood() -> None:
    pytest.importorskip("mambasdk._core")
    assert {"selective_scan", "causal_conv1d", "linear"} <= registered_signatures().keys()


MISTAKES: dict[str, tuple[Callable[[Program, Value], object], str]] = {
    "unknown op": (lambda p, x: p.op("linaer", x=x), "no operation named 'linaer'; did you mean linear"),
    "unknown argument": (
        lambda p, x: p.op("linear", x=x, weigth=x),
        "op linear: no argument named 'weigth'; did you mean weight",
    ),
    "missing argument": (lambda p, x: p.op("linear", x=x), "op linear: missing arguments: weight"),
    "scalar for tensor": (
        lambda p, x: p.op("linear", x=x, weight=3),
        "op linear: weight: wrong kind: expected a tensor",
    ),
    "tensor for scalar": (lambda p, x: p.op("conv", x=x, weight=x, silu=x), "op conv: silu: wrong kind: expected bool"),
    "unknown output": (lambda p, x: p.op("add", x=x, y=x, outputs=["y"]), "op add: no output named 'y'"),
    "output without its flag": (
        lambda p, x: p.op("conv", x=x, weight=x, outputs=["y", "final_state"]),
        "output 'final_state' needs silu",
    ),
    "foreign value": (lambda p, x: p.op("add", x=x, y=Value("%elsewhere")), "%elsewhere belongs to another program"),
    "not finite": (lambda p, x: p.op("conv", x=x, weight=x, width=float("nan")), "expected a Value or a finite number"),
    "into no state": (
        lambda p, x: p.op("conv", x=x, weight=x, silu=True, into={"final_state": x}),
        "goes into %x, which is no state",
    ),
    "name twice": (lambda p, x: p.input("x", "f32", ["B"]), "%x is there already"),
    "no output": (lambda p, x: p.to_json(), "the program has no output"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_where_they_are_made(registry: None, mistake: str) -> None:
    built = Program()
    x = built.input("x", "f32", ["B", 4])
    make, message = MISTAKES[mistake]
    with pytest.raises(LoweringError, match=message.replace("(", r"\(")):
        make(built, x)


def test_first_output_is_the_default(registry: None) -> None:
    built = Program()
    x = built.input("x", "f32", ["B", 4])
    built.output("sum", built.op("add", x=x, y=x), "f32", ["B", 4])
    assert built.to_json()["nodes"] == [{"op": "add", "args": {"x": "%x", "y": "%x"}, "out": {"out": "%v1"}}]


def _references(node: dict[str, object]) -> Iterator[str]:
    for value in [*node.get("args", {}).values(), node.get("in")]:  # type: ignore[attr-defined]
        if isinstance(value, str):
            yield value


@pytest.mark.parametrize("name", ["toy", "toy-mlp"])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_lowered_model_defines_before_use_and_writes_each_state_once(toy: str, name: str, norm: str) -> None:
    pytest.importorskip("torch")
    model = mambasdk.create_model(name, norm=norm)
    built = native_program(model)
    assert built is not None
    content = built.to_json()
    known = {f"%{port['name']}" for port in content["inputs"]}
    written: list[str] = []
    for node in content["nodes"]:
        for reference in _references(node):
            assert reference[0] != "%" or reference in known
            assert reference not in written, "a state is read after it was written"
        out = node["out"]
        for target in [out] if isinstance(out, str) else out.values():
            (written if target[0] == "$" else []).append(target)
            known.add(target)
    assert sorted(written) == sorted(f"${state['name']}" for state in content["states"])
    assert len(written) == 2 * len(model.backbone.layers)
    assert {output["name"] for output in content["outputs"]} == {"logits", "last_logits"}
    stored = {name for name, _ in model.named_parameters()}
    assert set(built.weights) == stored
