"""`collect_families`: a family is a folder with a spec.py, found without importing the family's package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mambasdk.errors import PluginError
from mambasdk.plugins import collect_families

SPEC = """
from mambasdk.plugins import FamilySpec
FAMILY = FamilySpec(name="{name}", summary="a family", config=".config:Config", factory="elsewhere.model:build",
                    importer=".checkpoint:read")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The empty package `families_of_<test>`, whose folder can be filled."""
    folder = tmp_path / f"families_of_{request.node.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def add(package: Path, folder: str, **files: str) -> None:
    (package / folder).mkdir()
    for name, text in files.items():
        (package / folder / f"{name}.py").write_text(text)


def test_folders_with_a_spec_are_found_in_order_of_their_names(package: Path) -> None:
    for name in ("second", "first"):
        imported = "raise ImportError('the family is imported to list it')"
        add(package, name, __init__=imported, spec=SPEC.format(name=name))
    add(package, "shared", __init__="", layers="")
    (package / "loose.py").write_text("raise ImportError('a module is no family')")
    found = collect_families(package.name)
    assert [family.name for family in found] == ["first", "second"]
    assert not [name for name in sys.modules if name.startswith(f"{package.name}.")]


def test_import_strings_may_be_relative_to_the_folder(package: Path) -> None:
    add(package, "one", __init__="", spec=SPEC.format(name="one"))
    (family,) = collect_families(package.name)
    assert family.config == f"{package.name}.one.config:Config"
    assert family.factory == "elsewhere.model:build"
    assert family.importer == f"{package.name}.one.checkpoint:read"


@pytest.mark.parametrize(
    ("text", "got"), [("", "got nothing of that name"), ("FAMILY = 'one'", "got 'one'")], ids=["none", "other"]
)
def test_a_spec_without_a_family_is_named(package: Path, text: str, got: str) -> None:
    add(package, "one", __init__="", spec=text)
    with pytest.raises(PluginError, match=got) as caught:
        collect_families(package.name)
    assert str(package / "one" / "spec.py") in str(caught.value)
