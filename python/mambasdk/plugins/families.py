"""Collects the families of a plugin's package: each a folder of its own that says in `spec.py` what it registers."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.machinery
import importlib.util
import pkgutil
from collections.abc import Iterator

from mambasdk.errors import PluginError
from mambasdk.plugins.specs import FamilySpec

SPEC_MODULE = "spec"
SPEC_NAME = "FAMILY"


def collect_families(package: str) -> list[FamilySpec]:
    """The FamilySpec `FAMILY` in `<package>.<folder>.spec` of every folder that has such a module, sorted by folder.

    package: dotted name of the package that holds the families' folders, for example "mambasdk_acme.families". It is
    imported; of a family only `spec.py` runs, by itself, so that listing models imports neither torch nor model code.
    There an import string may be relative to the family's folder: ".model:build".
    Raises PluginError where a `spec.py` has no `FAMILY` or one that is no FamilySpec.
    """
    found = importlib.import_module(package)
    return [_family(spec) for spec in _spec_modules(package, list(found.__path__))]


def _spec_modules(package: str, path: list[str]) -> Iterator[importlib.machinery.ModuleSpec]:
    for module in sorted(pkgutil.iter_modules(path), key=lambda module: module.name):
        name = f"{package}.{module.name}"
        folder = importlib.machinery.PathFinder.find_spec(name, path) if module.ispkg else None
        if folder is None or folder.submodule_search_locations is None:
            continue
        spec = importlib.machinery.PathFinder.find_spec(f"{name}.{SPEC_MODULE}", folder.submodule_search_locations)
        if spec is not None:
            yield spec


def _family(spec: importlib.machinery.ModuleSpec) -> FamilySpec:
    # Not by its name: that would import the family's package first, and with it the model.
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    family = getattr(module, SPEC_NAME, None)
    if not isinstance(family, FamilySpec):
        raise PluginError(
            f"bad {SPEC_NAME}",
            where=spec.origin or spec.name,
            expected=f"{SPEC_NAME} = FamilySpec(…)",
            got="nothing of that name" if family is None else repr(family),
            way_out="a folder without spec.py is no family and is left alone",
        )
    folder = spec.name.rpartition(".")[0]
    return dataclasses.replace(
        family,
        config=_absolute(family.config, folder),
        factory=_absolute(family.factory, folder),
        importer=None if family.importer is None else _absolute(family.importer, folder),
    )


def _absolute(path: str, folder: str) -> str:
    # What is no string is left to FamilySpec.validate, which says so.
    return folder + path if isinstance(path, str) and path.startswith(".") else path
