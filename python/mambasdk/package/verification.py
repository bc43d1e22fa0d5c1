"""Checking a package: hashes, whether its parts load, then its golden inputs through PyTorch and the native engine.

No code of the package is ever executed here: what an engine would have to execute is named as skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import MissingDependencyError, PackageError, require_core, require_module, require_torch
from mambasdk.lowering import as_model
from mambasdk.package.manifest import GOLDEN_FILE, Manifest
from mambasdk.package.reader import load
from mambasdk.plugins.host import get_host

Arrays = Mapping[str, npt.NDArray[Any]]

# Of the largest expected magnitude; float32 accumulation orders differ between machines and engines.
RELATIVE_TOLERANCE = 1e-4
# The same for programs whose dense layers round their inputs to bfloat16: 2^-9 each, through all layers.
ROUNDED_TOLERANCE = 5e-2


@dataclass
class VerifyReport:
    """errors: engine -> output -> largest absolute difference from the golden output; skipped: engine -> why.

    tolerances: by engine where another than `tolerance` counts.
    """

    files: int
    golden: bool
    tolerance: float
    tolerances: dict[str, float] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every error is within its engine's tolerance times the output's largest magnitude, at least 1.

        Not so where there are golden outputs and no engine could be run to compare them with.
        """
        return (not self.golden or bool(self.errors)) and all(
            error <= self.tolerances.get(engine, self.tolerance) * max(1.0, self.scales[name])
            for engine, outputs in self.errors.items()
            for name, error in outputs.items()
        )


def verify(directory: str | os.PathLike[str], *, tolerance: float | None = None) -> VerifyReport:
    """Check a package's files, load its parts, and run its golden inputs through PyTorch and the native engine.

    tolerance: of every engine; None: RELATIVE_TOLERANCE, but ROUNDED_TOLERANCE for a native program that rounds to
        bfloat16.
    Raises PackageError for damaged files and for what the loader refuses; wrong outputs are in the report (`passed`).
    What is not here, or would execute code from the package, is named in `skipped`.
    """
    folder = Path(directory)
    manifest = Manifest.read(folder)
    manifest.check_sizes(folder)
    manifest.check_hashes(folder)
    report = VerifyReport(
        len(manifest.files), GOLDEN_FILE in manifest.files, RELATIVE_TOLERANCE if tolerance is None else tolerance
    )
    if tolerance is None and _rounds(manifest, folder):
        report.tolerances["native"] = ROUNDED_TOLERANCE
    inputs, outputs = _golden(folder) if report.golden else ({}, {})
    report.scales = {name: float(np.abs(array).max(initial=0.0)) for name, array in outputs.items()}
    if importlib.util.find_spec("torch") is None:
        report.skipped["torch"] = "torch is not installed"
    elif report.golden:
        report.errors["torch"] = _compare(outputs, _run_torch(folder, inputs))
    engine = manifest.engine["name"]
    if manifest.executes_code:
        report.skipped[engine] = "it would execute code from the package, which verify never does"
    elif engine == "native":
        _verify_native(report, manifest, folder, inputs, outputs)
    elif engine != "torch":
        report.skipped[engine] = "verify runs PyTorch and the native engine, not those of plugins"
    return report


def _verify_native(report: VerifyReport, manifest: Manifest, folder: Path, inputs: Arrays, outputs: Arrays) -> None:
    try:
        core = require_core("the native engine")
    except MissingDependencyError as error:
        report.skipped["native"] = str(error)
        return
    get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    try:
        model = core.load_package(str(folder), verify=False)  # the hashes were checked above
        if manifest.processors.get("text", {}).get("kind") in ("bytes", "tokenizer"):
            model.tokenizer()
        found: Arrays = model.session().run(dict(inputs), outputs=list(outputs)) if outputs else {}
    except Exception as error:  # the native module raises builtin exceptions
        raise PackageError(f"its engine refuses the package: {error}", where=str(folder)) from error
    if outputs:
        report.errors["native"] = _compare(outputs, found)


def _rounds(manifest: Manifest, folder: Path) -> bool:
    """Whether an operation of the native program rounds its input (`round_x`)."""
    if "program" not in manifest.engine:
        return False
    try:
        nodes = json.loads((folder / manifest.engine["program"]).read_text("utf-8"))["nodes"]
        return any(node.get("args", {}).get("round_x", False) for node in nodes)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False  # no program: its engine says what is wrong with it


def _golden(folder: Path) -> tuple[Arrays, Arrays]:
    """(inputs, expected outputs)."""
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {"inputs": {}, "outputs": {}}
    path = folder / GOLDEN_FILE
    safetensors = require_module("safetensors.numpy", "verifying a package", "pip install safetensors")
    try:
        golden: Arrays = safetensors.load_file(path)
    except Exception as error:  # safetensors raises its own, and KeyError for types that NumPy has not
        raise PackageError(f"cannot be read: {error}", where=str(path)) from error
    for name, array in golden.items():
        kind, _, rest = name.partition(".")
        if kind not in parts or not rest:
            raise PackageError(f"unexpected tensor {name!r}", where=str(path))
        parts[kind][rest] = array
    return parts["inputs"], parts["outputs"]


def _run_torch(folder: Path, inputs: Arrays) -> Arrays:
    torch = require_torch("verifying a package")
    model = as_model(load(folder, dtype=torch.float32, verify=False))
    with torch.no_grad():
        outputs = model.native_outputs({name: torch.from_numpy(array) for name, array in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _compare(expected: Arrays, found: Arrays) -> dict[str, float]:
    errors = {}
    for name, array in expected.items():
        if name not in found or found[name].shape != array.shape:
            shape = found[name].shape if name in found else "nothing"
            raise PackageError(f"golden output {name!r}", expected=array.shape, got=shape)
        difference = np.abs(np.asarray(found[name]).astype(np.float64) - array.astype(np.float64))
        # NaN compares as no error at all otherwise.
        errors[name] = float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(initial=0.0))
    return errors
