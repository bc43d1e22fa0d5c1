"""Plugins, their template, examples, benchmarks and the docs use what is public of mambasdk, and only that.

A module is private where a part of its name begins with an underscore, and so are the SDK's own commands.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(r"mambasdk(\.\w+)*\.(_(?!_)\w+|cli\b)")
INSIDE = ("architecture.md", "decisions.md")  # pages about what is not public


def sources() -> Iterator[Path]:
    for folder in ("plugins", "examples", "benchmarks"):
        found = (ROOT / folder).rglob("*.py")
        yield from (path for path in found if "build" not in path.relative_to(ROOT).parts)
    yield from (ROOT / "python" / "mambasdk" / "plugins" / "template").rglob("*.py.in")


def private_uses(source: str) -> set[str]:
    """Private modules that a Python source names: in imports, attributes and strings."""
    source = re.sub(r"^%.*$", "", source, flags=re.MULTILINE)  # conditions and placeholders of a template
    source = re.sub(r"\$\{?\w+\}?", "placeholder", source)
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += re.findall(r"mambasdk[\w.]*", node.value)
    return {match.group() for name in names if (match := PRIVATE.match(name))}


def test_no_source_outside_the_sdk_uses_a_private_module() -> None:
    found = {str(path.relative_to(ROOT)): uses for path in sources() if (uses := private_uses(path.read_text()))}
    assert found == {}


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_no_page_shows_a_private_module(page: str) -> None:
    found = {match.group() for match in PRIVATE.finditer((ROOT / page).read_text())}
    assert found == set() or Path(page).name in INSIDE


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("from mambasdk import _core", {"mambasdk._core"}),
        ("def f():\n    from mambasdk.cli.arguments import torch_dtype", {"mambasdk.cli"}),
        ("import mambasdk\nmambasdk._core.call('x')", {"mambasdk._core"}),
        ("importlib.import_module('mambasdk._core')", {"mambasdk._core"}),
        ("from mambasdk.ops._library import adapter", {"mambasdk.ops._library"}),
        ("from mambasdk import __version__, runtime\nimport mambasdk.ops\nmambasdk.client", set()),
    ],
)
def test_a_private_use_is_found(source: str, uses: set[str]) -> None:
    assert private_uses(source) == uses
