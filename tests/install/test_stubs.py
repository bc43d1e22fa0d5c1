"""_core.pyi says what the compiled module has: the same names, and for each function its parameters and defaults."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from mambasdk import _core

pytestmark = pytest.mark.install

Parameters = list[tuple[str, bool]]  # name with its stars, whether it has a default


def test_stubs_match_the_extension(prefix: Path) -> None:
    stub = _declared(ast.parse((prefix / "_core.pyi").read_text()).body)
    assert stub == _compiled(_core)


def _declared(body: list[ast.stmt]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = _declared(node.body)
        elif isinstance(node, ast.AnnAssign):
            found[ast.unparse(node.target)] = "property"
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = "property" if node.decorator_list else _parameters(ast.unparse(node.args))
    return found


def _compiled(owner: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(owner).items():
        if isinstance(value, type):
            found[name] = _compiled(value)
        elif isinstance(value, property):
            found[name] = "property"
        elif name == "__repr__" or "_pybind11" in name:
            continue
        elif callable(value) and (match := re.match(rf"{name}\((.*?)\) -> ", value.__doc__ or "")):
            found[name] = _parameters(match.group(1))
    return found


def _parameters(text: str) -> Parameters:
    """Of `self: T, a: dict[str, int] = {}, *, b=1`: each name, and whether a default follows."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    pattern = re.compile(r"\s*([*\w/]+)")
    return [(match.group(1), "=" in part) for part in parts if (match := pattern.match(part))]
