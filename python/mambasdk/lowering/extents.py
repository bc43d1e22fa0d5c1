"""Extents of an exported graph: integers, and expressions of the extents that are free at run time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch

from mambasdk.errors import LoweringError

Extent = Any  # an int or a sympy expression; sympy has no types


def extent_of(size: int | torch.SymInt) -> Extent:
    """A size of a traced tensor, or a number of the graph."""
    expression = size.node.expr if isinstance(size, torch.SymInt) else size
    return int(expression) if isinstance(expression, (int, sympy.Integer)) else expression


def is_same(a: Extent, b: Extent) -> bool:
    """Whether two extents are equal whatever the free ones are."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(sympy.expand(a - b) == 0)


def product(extents: Iterable[Extent]) -> Extent:
    """Of all of them; 1 of none."""
    result: Extent = 1
    for factor in extents:
        result = result * factor
    return int(result) if isinstance(result, sympy.Integer) else result


def extent_text(extent: Extent, symbols: Mapping[Any, str]) -> int | str:
    """As a native program writes it: a number, or an expression such as "(H - 1)//2 + 1" in the names of `symbols`."""
    if isinstance(extent, (int, sympy.Integer)):
        return int(extent)
    return _text(extent, symbols)


def _text(e: Any, symbols: Mapping[Any, str]) -> str:
    if isinstance(e, sympy.Symbol):
        if e not in symbols:
            raise LoweringError(
                f"an extent that depends on the values of tensors ({e})",
                where="native program",
                way_out="the native engine knows every shape from those of the inputs",
            )
        return symbols[e]
    if isinstance(e, sympy.Integer):
        return str(int(e))
    parts = [f"({text})" if _is_compound(text) else text for text in (_text(arg, symbols) for arg in e.args)]
    kind = type(e).__name__
    if isinstance(e, sympy.Add):
        return " + ".join(parts)
    if isinstance(e, sympy.Mul):
        return "*".join(parts)
    if isinstance(e, sympy.Pow) and isinstance(e.exp, sympy.Integer) and 0 < int(e.exp) < 9:
        return "*".join(parts[:1] * int(e.exp))
    if kind in ("FloorDiv", "CleanDiv"):
        return "//".join(parts)
    if kind in ("Mod", "PythonMod"):
        return "%".join(parts)
    if kind in ("Max", "Min") or isinstance(e, (sympy.Max, sympy.Min)):
        name, text = kind.lower(), _text(e.args[0], symbols)
        for arg in e.args[1:]:
            text = f"{name}({text}, {_text(arg, symbols)})"
        return text
    raise LoweringError(f"an extent that a native program cannot say: {e}", where="native program")


def _is_compound(text: str) -> bool:
    return not text.isalnum() and not (text.startswith(("min(", "max(")) and text.endswith(")"))
