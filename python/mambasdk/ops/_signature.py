"""An operation's signature in Python: read from the registry's JSON, and planned over symbolic sizes.

The rules are those of the native library (`cpp/core/binding.cpp`); here they run where a size may be a SymInt, so that
`torch.compile` and `torch.export` see the same shapes and the same errors as a call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mambasdk.element_types import torch_dtypes

DTYPES: dict[str, torch.dtype] = torch_dtypes()
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_FLOATS = ("f32", "bf16", "f16", "f64")
_COMPLEX = ("c64", "c128")

_SIZES = 2**63  # the native library counts in signed 64-bit integers

# A size: an int, or a SymInt while a program is traced.
Size = Any


def dtype_name(dtype: torch.dtype) -> str:
    """The signature notation's name of a dtype (`f32`), or torch's own where it has none."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What `acc` stands for beside tensors of `dtype`."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def saved(dtype: torch.dtype) -> torch.dtype:
    """What `saved` stands for beside tensors of `dtype`: float16 ends at 65504, where a saved state need not."""
    return torch.float32 if dtype == torch.float16 else dtype


@dataclass(frozen=True)
class Extent:
    """One dim of a declared shape: an integer expression over named dims, in postfix."""

    text: str
    postfix: tuple[int | str, ...]

    @property
    def name(self) -> str | None:
        """The dim's name where the expression is nothing else."""
        only = self.postfix[0] if len(self.postfix) == 1 else None
        return only if isinstance(only, str) else None

    @property
    def shifted(self) -> tuple[str, int] | None:
        """(`S`, 1) for `S+1`, (`K`, -1) for `K-1`: expressions that bind their dim."""
        if len(self.postfix) != 3:
            return None
        dim, offset, operator = self.postfix
        if not isinstance(dim, str) or not isinstance(offset, int) or operator not in ("+", "-") or offset == 0:
            return None
        return dim, offset if operator == "+" else -offset

    def evaluate(self, dims: Mapping[str, Size]) -> Size | None:
        """The extent, or None where a dim is unbound, where it does not fit 63 bits, and for a division by 0."""
        stack: list[Size] = []
        for term in self.postfix:
            if isinstance(term, int):
                stack.append(term)
            elif term in ("+", "-", "*", "//"):
                right = stack.pop()
                left = stack.pop()
                if term == "+":
                    stack.append(left + right)
                elif term == "-":
                    stack.append(left - right)
                elif term == "*":
                    stack.append(left * right)
                elif isinstance(right, int) and right <= 0:
                    return None
                else:
                    stack.append(left // right)
                if isinstance(stack[-1], int) and not -_SIZES <= stack[-1] < _SIZES:
                    return None
            elif term in dims:
                stack.append(dims[term])
            else:
                return None
        return stack[0]


@dataclass(frozen=True)
class Argument:
    """An input or an output of an operation."""

    name: str
    kind: str  # tensor, bool, int, float
    dtype: str = ""  # a dtype's name, a type variable, acc or saved
    dtype_kind: str = ""  # fixed, variable, accumulator, saved
    follows: str = ""  # the type variable of an accumulator or of what is saved
    variadic: bool = False
    shape: tuple[Extent, ...] = ()
    optional: bool = False
    condition: str | None = None
    has_default: bool = False
    default: Any = None

    @property
    def is_tensor(self) -> bool:
        return self.kind == "tensor"

    @property
    def type_variable(self) -> str | None:
        return {"variable": self.dtype, "accumulator": self.follows, "saved": self.follows}.get(self.dtype_kind)


@dataclass(frozen=True)
class Rule:
    """`where DIM = EXPR if not ARGUMENT`."""

    dim: str
    value: Extent
    if_not: str


@dataclass(frozen=True)
class Signature:
    """A parsed declaration (docs/architecture.md, "An operation")."""

    name: str
    text: str
    doc: str
    origin: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    rules: tuple[Rule, ...]

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """Read the registry's description of an operation."""
        j = json.loads(text)
        rules = tuple(Rule(r["dim"], _extent(r["value"]), r["if_not"]) for r in j["rules"])
        inputs = tuple(_argument(a) for a in j["inputs"])
        outputs = tuple(_argument(a) for a in j["outputs"])
        return cls(j["name"], j["signature"], j["doc"], j["origin"], inputs, outputs, rules)

    def input(self, name: str) -> Argument | None:
        """The input of that name."""
        return next((a for a in self.inputs if a.name == name), None)

    def output_index(self, name: str) -> int | None:
        """The position of the output of that name."""
        return next((i for i, a in enumerate(self.outputs) if a.name == name), None)

    def fill(self, args: tuple[Any, ...]) -> list[Any]:
        """All arguments in order: the dispatcher drops trailing ones that equal their default."""
        return [*args, *(a.default for a in self.inputs[len(args) :])]

    def named(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """All arguments by name."""
        return dict(zip((a.name for a in self.inputs), self.fill(args), strict=True))

    def is_present(self, output: Argument, values: Mapping[str, Any]) -> bool:
        """Whether the output's condition holds for these arguments."""
        if output.condition is None:
            return True
        value = values[output.condition]
        return value is not None and value is not False


@dataclass(frozen=True)
class OutputPlan:
    """Shape and dtype of one output; an absent one has shape (0,)."""

    shape: tuple[Size, ...]
    dtype: torch.dtype


def _extent(j: Mapping[str, Any]) -> Extent:
    return Extent(j["text"], tuple(j["postfix"]))


def _argument(j: Mapping[str, Any]) -> Argument:
    default = j.get("default")
    if j["kind"] == "float" and isinstance(default, str):
        default = float(default)
    return Argument(
        name=j["name"],
        kind=j["kind"],
        dtype=j.get("dtype", ""),
        dtype_kind=j.get("dtype_kind", ""),
        follows=j.get("follows", ""),
        variadic=j.get("variadic", False),
        shape=tuple(_extent(e) for e in j.get("shape", ())),
        optional=j.get("optional", False),
        condition=j.get("condition"),
        has_default="default" in j,
        default=default,
    )


class Binding:
    """Dims and dtypes of one call, bound from its tensors in the order of the native library."""

    def __init__(self, signature: Signature, values: Mapping[str, Any]) -> None:
        self.signature = signature
        self.values = values
        self.tensors: list[tuple[Argument, torch.Tensor]] = []
        self.types: dict[str, tuple[torch.dtype, str]] = {}
        self.dims: dict[str, Size] = {}
        self.sources: dict[str, str] = {}
        self.lead: tuple[Size, ...] | None = None
        self._collect()
        self._bind_types()
        self._bind_dims()
        self._check_shapes()

    def _collect(self) -> None:
        for a in self.signature.inputs:
            if not a.is_tensor:
                continue
            tensor = self.values[a.name]
            if tensor is None:
                if not a.optional:
                    raise ValueError(f"{self.signature.name}: {a.name} is missing")
                continue
            if self.tensors and tensor.device != self.tensors[0][1].device:
                first, other = self.tensors[0]
                raise ValueError(
                    f"{self.signature.name}: {a.name} is on {tensor.device}, expected {other.device}, "
                    f"where {first.name} is; move them to one device"
                )
            self.tensors.append((a, tensor))

    def _bind_types(self) -> None:
        name = self.signature.name
        for a, tensor in self.tensors:
            if a.dtype_kind != "variable":
                continue
            admitted = _FLOATS + (_COMPLEX if a.dtype.startswith("Z") else ())
            if dtype_name(tensor.dtype) not in admitted:
                raise ValueError(
                    f"{name}: {a.name} is {dtype_name(tensor.dtype)}, expected one of {', '.join(admitted)}"
                )
            self.types.setdefault(a.dtype, (tensor.dtype, a.name))
        for a, tensor in self.tensors:
            expected = self.resolve(a)
            if tensor.dtype != expected:
                bound = self.types.get(a.type_variable or "")
                why = f": {bound[1]} is {dtype_name(bound[0])}" if bound else ""
                raise ValueError(
                    f"{name}: {a.name} is {dtype_name(tensor.dtype)}, expected {dtype_name(expected)}{why}"
                )

    def resolve(self, a: Argument) -> torch.dtype:
        """The dtype of an argument."""
        if a.dtype_kind == "fixed":
            return DTYPES[a.dtype]
        bound = self.types.get(a.type_variable or "")
        dtype = bound[0] if bound else torch.float32
        if a.dtype_kind == "saved":
            return saved(dtype)
        return dtype if a.dtype_kind == "variable" else accumulator(dtype)

    def _bind(self, dim: str, size: Size, source: str) -> None:
        if dim not in self.dims:
            self.dims[dim] = size
            self.sources[dim] = source

    def _bind_dims(self) -> None:
        for argument in self.signature.inputs:
            if argument.kind == "int" and self.values[argument.name] >= 0:
                self.dims[argument.name] = self.values[argument.name]
        for a, tensor in self.tensors:
            trailing = len(a.shape)
            if tensor.dim() < trailing if a.variadic else tensor.dim() != trailing:
                raise ValueError(self._wrong_shape(a, tensor))
            first = tensor.dim() - trailing
            if a.variadic:
                here = tuple(tensor.shape[:first])
                if self.lead is None:
                    self.lead = here
                elif len(here) != len(self.lead):
                    raise ValueError(self._wrong_shape(a, tensor))
                else:
                    for x, y in zip(here, self.lead, strict=True):
                        self._check(x, y, a, tensor)
            for d, extent in enumerate(a.shape):
                if extent.name is not None:
                    self._bind(extent.name, tensor.shape[first + d], a.name)
        for a, tensor in self.tensors:
            first = tensor.dim() - len(a.shape)
            for d, extent in enumerate(a.shape):
                if extent.shifted is not None:
                    dim, offset = extent.shifted
                    self._bind(dim, tensor.shape[first + d] - offset, a.name)
        for rule in self.signature.rules:
            if self.values[rule.if_not] is None and rule.dim not in self.dims:
                value = rule.value.evaluate(self.dims)
                if value is not None:
                    self.dims[rule.dim] = value

    def _check(self, size: Size, expected: Size, a: Argument, tensor: torch.Tensor) -> None:
        # On SymInts this guards, or asserts at run time where the size depends on data.
        torch._check_value(size == expected, lambda: self._wrong_shape(a, tensor))

    def _check_shapes(self) -> None:
        for a, tensor in self.tensors:
            first = tensor.dim() - len(a.shape)
            for d, extent in enumerate(a.shape):
                expected = extent.evaluate(self.dims)
                if expected is not None:
                    self._check(tensor.shape[first + d], expected, a, tensor)
        for rule in self.signature.rules:
            if self.values[rule.if_not] is not None or rule.dim not in self.sources:
                continue
            value = rule.value.evaluate(self.dims)
            if value is not None:
                source = self.sources[rule.dim]
                shape = _shape_text(self.values[source].shape)
                torch._check_value(
                    self.dims[rule.dim] == value,
                    lambda r=rule, s=source, t=shape, v=value: (
                        f"{self.signature.name}: {s} is {t}, "
                        f"but without {r.if_not} its {r.dim} must be {r.value.text} = {v}"
                    ),
                )

    def _wrong_shape(self, a: Argument, tensor: torch.Tensor) -> str:
        parts: list[str] = (
            ["..."] if a.variadic and self.lead is None else [str(n) for n in self.lead or () if a.variadic]
        )
        why: list[str] = []
        for extent in a.shape:
            value = extent.evaluate(self.dims)
            parts.append(extent.text if value is None else str(value))
            for dim in extent.postfix:
                source = self.sources.get(dim) if isinstance(dim, str) else None
                if source is not None and source != a.name:
                    why.append(f"{dim} is {self.dims[str(dim)]} in {source}")
        names = (["..."] if a.variadic else []) + [e.text for e in a.shape]
        expected = _shape_text(parts)
        reason = ": " + ", ".join(why) if why else ""
        return (
            f"{self.signature.name}: {a.name} is {_shape_text(tensor.shape)}, expected {expected}{reason}; "
            f"its dims are ({', '.join(names)})"
        )

    def plan(self) -> list[OutputPlan]:
        """Shapes and dtypes of the outputs."""
        plans = []
        for a in self.signature.outputs:
            dtype = self.resolve(a)
            if not self.signature.is_present(a, self.values):
                plans.append(OutputPlan((0,), dtype))
                continue
            shape: list[Size] = list(self.lead or ()) if a.variadic else []
            for extent in a.shape:
                size = extent.evaluate(self.dims)
                if size is None:
                    raise ValueError(self._no_extent(a, extent))
                if isinstance(size, int) and size < 0:
                    raise ValueError(
                        f"{self.signature.name}: the extent {extent.text} of output {a.name} is {size}, "
                        "expected at least 0"
                    )
                shape.append(size)
            self._check_addressable(a, shape, dtype)
            plans.append(OutputPlan(tuple(shape), dtype))
        return plans

    def _no_extent(self, output: Argument, extent: Extent) -> str:
        """Why an extent is not known: which of the arguments is to blame."""
        name = self.signature.name
        for i, dim in enumerate(extent.postfix):
            argument = self.signature.input(dim) if isinstance(dim, str) else None
            if argument is None or argument.kind != "int":
                continue
            least = 1 if extent.postfix[i + 1 : i + 2] == ("//",) else 0
            if self.values[argument.name] < least:
                return f"{name}: {dim} is {self.values[argument.name]}, expected at least {least}"
        unbound = any(isinstance(d, str) and d.isidentifier() and d not in self.dims for d in extent.postfix)
        why = "is not determined by the arguments" if unbound else "does not fit 63 bits"
        return f"{name}: the extent {extent.text} of output {output.name} {why}"

    def _check_addressable(self, output: Argument, shape: list[Size], dtype: torch.dtype) -> None:
        if not all(isinstance(size, int) for size in shape):
            return  # symbolic: the call itself checks
        if math.prod(max(size, 1) for size in shape) * dtype.itemsize >= _SIZES:
            raise ValueError(
                f"{self.signature.name}: output {output.name} would be {_shape_text(shape)} {dtype_name(dtype)}, "
                "expected less than 2^63 bytes"
            )


def _shape_text(shape: Any) -> str:
    sizes = [str(n) for n in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
