"""Every example of the plugin contract is true: those of the hooks' docstrings and the plugin of docs/plugins.md."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import fakes
import pytest

from mambasdk.plugins import get_host, hookspecs
from mambasdk.plugins.collection import collect

ROOT = Path(__file__).parents[2]
HOOKS = [name for name, value in vars(hookspecs).items() if inspect.isfunction(value) and name.startswith("mambasdk_")]
IMPORTS = "from pathlib import Path\nfrom mambasdk.plugins import *\n"


class Module:
    """What an example defines, as a plugin object."""


def run_example(source: str, folder: Path) -> Module:
    scope: dict[str, Any] = {"__file__": str(folder / "plugin.py")}
    exec(IMPORTS + source, scope)
    module = Module()
    vars(module).update({name: value for name, value in scope.items() if name.startswith("mambasdk_")})
    return module


@pytest.mark.parametrize("hook", HOOKS)
def test_example_of_a_hook_registers_something(hook: str, tmp_path: Path) -> None:
    (tmp_path / "libmambasdk_acme.so").touch()
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    found = collect("acme", run_example(textwrap.dedent(text.split("Example:")[1]), tmp_path))
    registered = [*found.tables().values(), found.libraries]
    assert sum(bool(table) for table in registered) == 1


def test_page_has_a_plugin_with_every_hook(plugin_site: fakes.Site) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert all(f"def {hook}()" in blocks[0] for hook in HOOKS)
    (plugin_site.folder / "libmambasdk_acme.so").touch()
    plugin_site.install("mambasdk-acme", "acme", "acme_documented", blocks[0])
    record = next(record for record in get_host().records if record.name == "acme")
    assert (record.status, record.reason) == ("good", "")
    assert all(record.registrations.tables().values())
    assert record.registrations.libraries
