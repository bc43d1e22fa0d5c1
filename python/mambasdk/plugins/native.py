"""Loads a plugin's native library: in a process of its own first, so that one that crashes takes nobody along."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from mambasdk.errors import MissingDependencyError, PluginError, require_core
from mambasdk.installation import get_native_command
from mambasdk.plugins.isolation import run_apart
from mambasdk.plugins.record import ALLOW_LIST_VARIABLE

PROBE_VARIABLE = "MAMBASDK_PROBE_NATIVE"
PROBE_SECONDS = 60.0


def load_library(path: Path, distribution: str) -> dict[str, Any]:
    """Load a library into this process; returns what it brought: name, version, abi, ops, kernels, ….

    distribution: the pip package it comes from. Raises PluginError when it dies in the trial process, or when the
    runtime refuses it. MAMBASDK_PROBE_NATIVE=0 leaves the trial out.
    """
    where = f"native library {path}"
    if os.environ.get(PROBE_VARIABLE) != "0" and (death := probe_library(path)):
        way_out = f"pip install --upgrade {distribution}, or report it to its author"
        raise PluginError(f"a process that loads it {death}", where=where, way_out=way_out)
    try:
        core = require_core("a native library")
    except MissingDependencyError as error:
        raise PluginError(str(error), where=where) from error
    try:
        for name, version in components().items():
            core.declare_component(name, version)
        description: dict[str, Any] = core.load_native_plugin(str(path))
    except Exception as error:
        raise PluginError(f"it does not load: {error}", where=where, way_out=_way_out(error, distribution)) from error
    adapter = sys.modules.get("mambasdk.ops._library")
    if adapter is not None and (description.get("ops") or description.get("kernels")):
        adapter.adapter.refresh()  # torch.ops.mambasdk.<name>, and its kernels for devices
    return description


def probe_library(path: Path, seconds: float = PROBE_SECONDS) -> str | None:
    """How the process of `mambasdk-run --plugin PATH --describe` dies; None where it ends by itself."""
    try:
        program = get_native_command()
    except MissingDependencyError:
        return None  # a build without the tools has no program to try it in
    declared = [word for name, version in components().items() for word in ("--component", f"{name}={version}")]
    arguments = [*declared, "--plugin", str(path), "--describe"]
    return run_apart(Path(program), arguments, b"mambasdk-run: ", seconds)


def components() -> dict[str, str]:
    """What a native plugin may require of this environment: {"torch": "2.13.0"}; nothing is imported to find out."""
    try:
        return {"torch": metadata.version("torch").split("+")[0]}
    except metadata.PackageNotFoundError:
        return {}


def _way_out(error: Exception, distribution: str) -> str:
    if isinstance(error, OSError):  # the dynamic loader
        return f"pip install --force-reinstall {distribution}"
    if isinstance(error, NotImplementedError):  # this machine or environment lacks something
        return f"pip uninstall {distribution}, or leave it out of {ALLOW_LIST_VARIABLE}"
    return f"pip install --upgrade mambasdk {distribution}"
