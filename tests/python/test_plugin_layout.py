"""Every plugin of this repository and of the template has the layout of docs/plugins.md; no tool lists families."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mambasdk.plugins.new import DOMAINS, write_plugin
from mambasdk.plugins.official import RESERVED_DISTRIBUTIONS

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def check_layout(package: Path) -> None:
    assert (package / "plugin.py").is_file()
    specs = sorted((package / "families").glob("*/spec.py"))
    assert specs
    for spec in specs:
        family = spec.parent
        assert {"__init__.py", "config.py", "model.py"} <= {path.name for path in family.iterdir()}
        text = spec.read_text()
        assert "torch" not in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
        has_importer = "importer=" in text
        assert (family / "checkpoint.py").is_file() == has_importer
    loose = [path.name for path in (package / "families").glob("*.py")]
    assert loose == ["__init__.py"]
    assert "collect_families(" in (package / "plugin.py").read_text()
    if "mambasdk_heads" in (package / "plugin.py").read_text():
        assert [path for path in (package / "heads").glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_official_plugins_have_the_layout(plugin: str) -> None:
    package = ROOT / "plugins" / plugin / f"mambasdk_{plugin}"
    check_layout(package)
    assert (package / "processors.py").is_file()
    assert (package / "heads").is_dir()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_template_has_the_layout(domain: str, native: bool, tmp_path: Path) -> None:
    write_plugin("mambasdk-acme", tmp_path / "new", domain=domain, native=native)
    check_layout(tmp_path / "new" / "mambasdk_acme")


def test_reserved_names_are_those_of_the_folder() -> None:
    assert list(RESERVED_DISTRIBUTIONS) == [f"mambasdk-{name}" for name in PLUGINS]


def test_tools_name_no_plugin() -> None:
    """A new plugin folder is checked, built, tested and documented without being named anywhere."""
    tools = ["pyproject.toml", "mkdocs.yml", "Makefile", "docs/generate.py", "docs/what_works.py", "docs/nav.py"]
    listed = subprocess.run(["git", "ls-files", ".ci"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found = {}
    for name in [*tools, *listed.split()]:
        text = (ROOT / name).read_text()
        text = text.replace("-m mambasdk_language.quickstart", "")  # the README's command
        if named := [plugin for plugin in PLUGINS if re.search(rf"plugins/{plugin}\b|mambasdk[-_]{plugin}\b", text)]:
            found[name] = named
    assert found == {}
