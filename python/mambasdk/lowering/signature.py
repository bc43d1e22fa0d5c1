"""Names, optional marks and defaults of an op's signature string (notation: docs/architecture.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mambasdk.errors import LoweringError, MissingDependencyError, require_core

_SCALARS = ("bool", "int", "float")
_ARGUMENT = re.compile(r"(\w+)\s*:\s*(\w+)\s*(\[[^\]]*\])?\s*(\?)?\s*(?:=\s*([\w.+-]+))?")
_OUTPUT = re.compile(r"(\w+)\s*:\s*(\w+)\s*(\[[^\]]*\])?\s*(?:if\s+(\w+))?")


@dataclass(frozen=True)
class Parameter:
    """One argument. scalar: "bool", "int", "float", or None for a tensor; required: no `?` and no default."""

    name: str
    scalar: str | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """An operation's arguments by name, and its outputs: name -> the flag or argument it depends on, or None.

    types: of each tensor argument the declared type, such as "T", "W", "i32" or "acc".
    """

    name: str
    parameters: dict[str, Parameter]
    outputs: dict[str, str | None]
    types: dict[str, str] = field(default_factory=dict)


def parse_signature(text: str) -> Signature:
    """Parse `name(arguments) -> (outputs) where …`; raises LoweringError."""
    flat = " ".join(text.split())
    name, _, rest = flat.partition("(")
    arguments, rest = _until_close(rest, flat)
    head, arrow, rest = rest.partition("->")
    if not arrow or head.strip():
        raise LoweringError("no '->' after the arguments", where=f"signature {flat!r}")
    rest = rest.strip()
    outputs = _until_close(rest[1:], flat)[0] if rest.startswith("(") else rest.split(" where ")[0]
    parameters: dict[str, Parameter] = {}
    types: dict[str, str] = {}
    for part in _split(arguments):
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise LoweringError(f"bad argument {part!r}", where=f"signature {flat!r}")
        argument, kind, dims, optional, default = match.groups()
        scalar = kind if kind in _SCALARS and dims is None else None
        parameters[argument] = Parameter(argument, scalar, optional is None and default is None)
        if scalar is None:
            types[argument] = kind
    results: dict[str, str | None] = {}
    for part in _split(outputs):
        match = _OUTPUT.fullmatch(part)
        if match is None:
            raise LoweringError(f"bad output {part!r}", where=f"signature {flat!r}")
        results[match.group(1)] = match.group(4)
    return Signature(name.strip(), parameters, results, types)


def registered_signatures() -> dict[str, Signature]:
    """Signatures of all registered operations by name; empty where the native module is not built."""
    try:
        core = require_core("a native program")
    except MissingDependencyError:
        return {}
    return {str(entry["name"]): parse_signature(str(entry["signature"])) for entry in core.list_ops()}


def _until_close(text: str, whole: str) -> tuple[str, str]:
    """What comes before the parenthesis that closes an opened one, and what after."""
    depth = 1
    for index, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return text[:index], text[index + 1 :]
    raise LoweringError("unbalanced parentheses", where=f"signature {whole!r}")


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]
