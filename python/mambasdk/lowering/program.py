"""Builder of the native engine's straight-line program (`program.json`, see docs/architecture.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.element_types import linear_operations
from mambasdk.errors import LoweringError, closest
from mambasdk.lowering.signature import registered_signatures

FORMAT = 3  # of programs with states that grow
_FORMAT_OF_EXPRESSIONS = 2  # with expressions in place of numbers, or steps in slices; those without are written as 1
_OUT = ("add", "multiply", "concat_rows")  # operations whose first output is called so; the others say y
Dim = int | str  # an expression of the inputs' free extents is one, for example "(H + 1)//2"


@dataclass(frozen=True)
class Value:
    """A reference inside a program: `%value`, `@weight` or `$state`."""

    reference: str

    @property
    def name(self) -> str:
        """The name without its sigil."""
        return self.reference[1:]


class Program:
    """A program under construction.

    Example:
        program = Program()
        tokens = program.input("tokens", "i32", ["B", "L"])
        h = program.op("embedding", indices=tokens, weight=program.weight("embedding.weight"))
        program.output("hidden", h, "f32", ["B", "L", 64])

    Operations and their arguments are checked against the registry where the native module is there. What depends on
    weights alone, and on no extent that is free, is computed once at load.

    storage: names of weights -> the element types that they are stored in ("f32", …), which choose operations; a weight
        that is not named is float32.

    """

    def __init__(self, storage: Mapping[str, str] | None = None) -> None:
        self._storage = dict(storage or {})
        self.inputs: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self.weights: dict[str, None] = {}
        self._prepare: list[dict[str, Any]] = []
        self._nodes: list[dict[str, Any]] = []
        self._outputs: list[dict[str, str]] = []
        self.constants: dict[str, Any] = {}
        self._known: set[str] = set()
        self._count = 0
        self._signatures = registered_signatures()

    def input(self, name: str, dtype: str, shape: Sequence[Dim]) -> Value:
        """An input of the program; string dims are symbols bound at each call."""
        self.inputs.append({"name": name, "dtype": dtype, "shape": list(shape)})
        return self._define(f"%{name}")

    def state(
        self, name: str, dtype: str, shape: Sequence[Dim], *, grows: int | None = None, limit: int | None = None
    ) -> Value:
        """A state: zero at the start of a sequence, carried from call to call.

        grows: the dim along which `append` adds rows. Its extent in `shape` is a name that no input has: the rows held
            before the call, none at first, which expressions may use. States of one name hold equally many.
        limit: most rows; None: as many as there is memory for.
        """
        port: dict[str, Any] = {"name": name, "dtype": dtype, "shape": list(shape)}
        if grows is not None:
            if not (0 <= grows < len(shape) and isinstance(shape[grows], str) and str(shape[grows]).isidentifier()):
                raise LoweringError(
                    f"state {name}: dim {grows} grows", expected="a dim whose extent is a name", got=shape
                )
            if any(shape[grows] in port["shape"] for port in self.inputs):
                raise LoweringError(f"state {name}: {shape[grows]} is the extent of an input", where="state")
            port["grows"] = grows
        if limit is not None:
            if grows is None or limit < 1:
                raise LoweringError(f"state {name}: limit {limit}", expected="1 or more, of a state that grows")
            port["limit"] = limit
        self.states.append(port)
        return self._define(f"${name}")

    def append(self, state: Value, rows: Value) -> Value:
        """Append rows to a state that grows, once in a program; returns all its rows, those that it had first.

        rows: of the state's dtype and shape but along the dim that grows, where it may have any extent. Should the
        call fail, the state holds what it held.
        """
        self._require(state, "append")
        self._require(rows, f"append to {state.reference}")
        if not any(port["name"] == state.name and "grows" in port for port in self.states):
            raise LoweringError(f"{state.reference} is no state that grows", where="append")
        if any(node.get("append") == state.reference for node in self._nodes):
            raise LoweringError(f"{state.reference} has been appended to", where="append")
        value = self._fresh(early=False)
        self._nodes.append({"append": state.reference, "in": rows.reference, "out": value.reference})
        return value

    def weight(self, name: str) -> Value:
        """A weight by its name in `model.safetensors`."""
        self.weights[name] = None
        self._known.add(f"@{name}")
        return Value(f"@{name}")

    def constant(self, name: str, tensor: Any) -> Value:
        """A tensor that is no weight of the model; the package stores it under `name`."""
        self.constants[name] = tensor
        return self._define(f"@{name}")

    def prepare(self, op: str, name: str, *, output: str = "y", **arguments: Any) -> Value:
        """A weight computed from others once, at load; `name` is its new name."""
        node = {"op": op, "args": self._arguments(op, arguments), "out": {output: f"@{name}"}}
        self._check(op, arguments, [output])
        self._prepare.append(node)
        return self._define(f"@{name}")

    def op(
        self,
        op: str,
        *,
        outputs: Sequence[str] | None = None,
        into: Mapping[str, Value] | None = None,
        **arguments: Any,
    ) -> Any:
        """Run an operation.

        arguments: values, and JSON scalars; None leaves an optional argument out.
        outputs: names of the outputs wanted as new values: one gives a Value, more a tuple of them. By default the
            operation's first output.
        into: outputs written to states, by name.
        """
        wanted = [self._first_output(op)] if outputs is None else list(outputs)
        written = dict(into or {})
        self._check(op, arguments, [*wanted, *written])
        for name, target in written.items():
            if not target.reference.startswith("$"):
                raise LoweringError(f"{name} goes into {target.reference}, which is no state", where=f"op {op}")
        inputs = self._arguments(op, arguments)
        early = not written and self._is_early([*arguments.values()])
        values = [self._fresh(early) for _ in wanted]
        targets = {**dict(zip(wanted, values, strict=True)), **written}
        results = {name: target.reference for name, target in targets.items()}
        (self._prepare if early else self._nodes).append({"op": op, "args": inputs, "out": results})
        return values[0] if len(values) == 1 else tuple(values)

    def forget_view(self, value: Value) -> bool:
        """Take back the view that makes `value`, where nothing reads it."""
        made = [node for node in self._nodes if "view" in node and node["out"] == value.reference]
        if not made or any(value.reference in _reads(node) for node in self._nodes):
            return False
        if any(entry["value"] == value.reference for entry in self._outputs):
            return False
        self._nodes.remove(made[0])
        return True

    def write_to_state(self, value: Value, state: str) -> bool:
        """Let the operation that makes `value` write it into a state.

        False, and nothing is changed, where that cannot be: a view makes it, an operation reads it or, later, the
        state.
        """
        target = f"${state}"
        made = [i for i, node in enumerate(self._nodes) if "op" in node and value.reference in node["out"].values()]
        if not made:
            return False
        references = [(i, reference) for i, node in enumerate(self._nodes) for reference in _reads(node)]
        if any(reference == value.reference or (reference == target and i > made[0]) for i, reference in references):
            return False
        if any(entry["value"] == value.reference for entry in self._outputs):
            return False
        out = self._nodes[made[0]]["out"]
        out.update({name: target for name, reference in out.items() if reference == value.reference})
        return True

    def linear(self, x: Value, prefix: str, *, bias: bool) -> Value:
        """`x W^T (+ b)` with `<prefix>.weight` and, where asked, `<prefix>.bias`.

        The operation is that of the weight's storage; raises LoweringError where there is none for it.
        """
        stored = self._storage.get(f"{prefix}.weight", "f32")
        operations = linear_operations()
        if stored not in operations:
            raise LoweringError(
                f"{prefix}.weight is stored as {stored}, which no product takes",
                where="linear",
                expected=f"one of {', '.join(operations)}",
            )
        value: Value = self.op(
            operations[stored],
            x=x,
            weight=self.weight(f"{prefix}.weight"),
            bias=self.weight(f"{prefix}.bias") if bias else None,
        )
        return value

    def slice(self, x: Value, dim: int, start: Dim, length: Dim, step: int = 1) -> Value:
        """`length` entries of `x` along `dim` from `start`, every `step`th; a negative start counts from the end."""
        steps = {} if step == 1 else {"step": step}
        return self._view("slice", x, dim=dim, start=start, length=length, **steps)

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` with another shape of the same size; one dim may be -1."""
        return self._view("reshape", x, shape=list(shape))

    def permute(self, x: Value, dims: Sequence[int]) -> Value:
        """`x` with its dims in another order."""
        return self._view("permute", x, dims=list(dims))

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` repeated along its dims of extent 1 and along new dims in front; -1 keeps a dim. No memory moves."""
        return self._view("expand", x, shape=list(shape))

    def add(self, x: Value, y: Value) -> Value:
        """`x + y`, of the same shape."""
        return self._one("add", x=x, y=y)

    def multiply(self, x: Value, y: Value) -> Value:
        """`x * y`, of the same shape."""
        return self._one("multiply", x=x, y=y)

    def scale(self, x: Value, factor: float) -> Value:
        """`factor * x`."""
        return self._one("scale", x=x, factor=factor)

    def gelu(self, x: Value) -> Value:
        """GELU, the exact form."""
        return self._one("gelu", x=x)

    def relu(self, x: Value) -> Value:
        """`max(x, 0)`."""
        return self._one("relu", x=x)

    def leaky_relu(self, x: Value, slope: float = 0.01) -> Value:
        """`x` where it is not negative, `slope * x` elsewhere."""
        return self._one("leaky_relu", x=x, slope=slope)

    def sigmoid(self, x: Value) -> Value:
        """`1 / (1 + exp(-x))`."""
        return self._one("sigmoid", x=x)

    def mean_rows(self, x: Value) -> Value:
        """(…, L, D) -> (…, D): the mean over L."""
        return self._one("mean_rows", x=x)

    def concat_rows(self, x: Value, y: Value) -> Value:
        """(…, L, D) and (…, M, D) -> (…, L + M, D)."""
        return self._one("concat_rows", x=x, y=y)

    def unfold2d(
        self, x: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int] = (0, 0)
    ) -> Value:
        """(B, C, H, W) -> (B, h, w, C * kernel): what each output position of a convolution sees (height, width).

        A linear layer behind it, with the convolution's weight as (O, C * kernel), is that convolution.
        """
        return self._one(
            "unfold2d",
            x=x,
            kernel_h=kernel[0],
            kernel_w=kernel[1],
            stride_h=stride[0],
            stride_w=stride[1],
            padding_h=padding[0],
            padding_w=padding[1],
        )

    def output(self, name: str, value: Value, dtype: str, shape: Sequence[Dim]) -> None:
        """Name a value as an output of the program."""
        self._require(value, f"output {name}")
        if any(entry["name"] == name for entry in self._outputs):
            raise LoweringError(f"output {name!r} is there already")
        self._outputs.append({"name": name, "value": value.reference})
        self.outputs.append({"name": name, "dtype": dtype, "shape": list(shape)})

    def to_json(self) -> dict[str, Any]:
        """The content of `program.json`."""
        if not self._outputs:
            raise LoweringError("the program has no output")
        return {
            "format": self._format(),
            "inputs": self.inputs,
            "states": self.states,
            "prepare": self._prepare,
            "nodes": self._nodes,
            "outputs": self._outputs,
        }

    def _format(self) -> int:
        """The oldest that can say it."""
        if any("grows" in port for port in self.states):
            return FORMAT
        return _FORMAT_OF_EXPRESSIONS if any(_has_expression(node) for node in self._nodes) else 1

    def _view(self, kind: str, x: Value, **fields: Any) -> Value:
        self._require(x, f"view {kind}")
        early = self._is_early([x, *fields.get("shape", ()), *fields.values()])
        value = self._fresh(early)
        node = {"view": kind, "in": x.reference, **fields, "out": value.reference}
        (self._prepare if early else self._nodes).append(node)
        return value

    def _one(self, op: str, **arguments: Any) -> Value:
        value: Value = self.op(op, **arguments)
        return value

    def _define(self, reference: str) -> Value:
        if reference in self._known:
            raise LoweringError(f"{reference} is there already")
        self._known.add(reference)
        return Value(reference)

    def _fresh(self, early: bool) -> Value:
        self._count += 1
        return self._define(f"@prepared.{self._count}" if early else f"%v{self._count}")

    @staticmethod
    def _is_early(arguments: Sequence[Any]) -> bool:
        """Whether weights alone decide the result."""
        values = [argument for argument in arguments if isinstance(argument, Value)]
        free = any(isinstance(argument, str) for argument in arguments)
        return bool(values) and not free and all(value.reference.startswith("@") for value in values)

    def _require(self, value: object, where: str) -> None:
        if not isinstance(value, Value):
            raise LoweringError("not a value of a program", where=where, got=repr(value))
        if value.reference not in self._known:
            raise LoweringError(f"{value.reference} belongs to another program", where=where)

    def _arguments(self, op: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, argument in arguments.items():
            if argument is None:
                continue
            if isinstance(argument, Value):
                self._require(argument, f"op {op}: {name}")
                result[name] = argument.reference
            elif isinstance(argument, (bool, int, str)) or (isinstance(argument, float) and math.isfinite(argument)):
                result[name] = argument
            else:
                raise LoweringError(
                    "bad argument", where=f"op {op}: {name}", expected="a Value or a finite number", got=repr(argument)
                )
        return result

    def _first_output(self, op: str) -> str:
        signature = self._signatures.get(op)
        if signature is None:
            return "out" if op in _OUT else "y"
        return next(iter(signature.outputs))

    def _check(self, op: str, arguments: Mapping[str, Any], outputs: Sequence[str]) -> None:
        if not self._signatures:
            return
        if op not in self._signatures:
            raise LoweringError(f"no operation named {op!r}", way_out=closest(op, self._signatures))
        signature = self._signatures[op]
        given = {name: argument for name, argument in arguments.items() if argument is not None}
        for name, argument in given.items():
            if name not in signature.parameters:
                raise LoweringError(
                    f"no argument named {name!r}", where=f"op {op}", way_out=closest(name, signature.parameters)
                )
            if (signature.parameters[name].scalar is None) != isinstance(argument, Value):
                kind = signature.parameters[name].scalar or "a tensor"
                raise LoweringError("wrong kind", where=f"op {op}: {name}", expected=kind, got=repr(argument))
        missing = [p.name for p in signature.parameters.values() if p.required and p.name not in given]
        if missing:
            raise LoweringError(f"missing arguments: {', '.join(missing)}", where=f"op {op}")
        for name in outputs:
            if name not in signature.outputs:
                raise LoweringError(
                    f"no output named {name!r}", where=f"op {op}", way_out=closest(name, signature.outputs)
                )
            condition = signature.outputs[name]
            if condition is not None and not given.get(condition):
                raise LoweringError(f"output {name!r} needs {condition}", where=f"op {op}")


def _reads(node: Mapping[str, Any]) -> list[Any]:
    """The references that a node reads, among its other arguments."""
    return list(node["args"].values()) if "op" in node else [node["in"]]


def _has_expression(node: Mapping[str, Any]) -> bool:
    """Whether format 1 cannot say it."""
    if "view" not in node:
        return any(isinstance(argument, str) and argument[:1] not in "%@$" for argument in node["args"].values())
    amounts = [*node.get("shape", ()), node.get("start", 0), node.get("length", 0)]
    return "step" in node or any(isinstance(amount, str) and not amount.isidentifier() for amount in amounts)
