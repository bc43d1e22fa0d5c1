"""Checking a package: hashes, then its golden inputs through PyTorch and through the engine that the manifest names."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import PackageError, require_module, require_torch
from mambasdk.package.manifest import GOLDEN_FILE, Manifest
from mambasdk.package.reader import load
from mambasdk.plugins.host import get_host

Arrays = Mapping[str, npt.NDArray[Any]]

# Of the largest expected magnitude; float32 accumulation orders differ between machines and engines.
RELATIVE_TOLERANCE = 1e-4


@dataclass
class VerifyReport:
    """errors: engine -> output -> largest absolute difference from the golden output; skipped: engine -> why."""

    files: int
    golden: bool
    tolerance: float
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every error is within `tolerance` times the output's largest magnitude (or 1, if that is more).

        Not so where there are golden outputs and no engine could be run to compare them with.
        """
        return (not self.golden or bool(self.errors)) and all(
            error <= self.tolerance * max(1.0, self.scales[name])
            for outputs in self.errors.values()
            for name, error in outputs.items()
        )


def verify(directory: str | os.PathLike[str], *, tolerance: float = RELATIVE_TOLERANCE) -> VerifyReport:
    """Check a package's files, and run its golden inputs through every engine of this machine.

    PyTorch is one of them where it is installed. Raises PackageError for damaged files; wrong outputs are in the report
    (`passed`). An engine that is not there is named in `skipped`.
    """
    folder = Path(directory)
    manifest = Manifest.read(folder)
    manifest.check_sizes(folder)
    manifest.check_hashes(folder)
    report = VerifyReport(len(manifest.files), GOLDEN_FILE in manifest.files, tolerance)
    if not report.golden:
        return report
    inputs, outputs = _golden(folder)
    report.scales = {name: float(np.abs(array).max(initial=0.0)) for name, array in outputs.items()}
    if importlib.util.find_spec("torch") is None:
        report.skipped["torch"] = "torch is not installed"
    else:
        report.errors["torch"] = _compare(outputs, _run_torch(folder, inputs))
    engine = manifest.engine["name"]
    if engine not in ("native", "aoti"):
        return report
    try:
        core = importlib.import_module("mambasdk._core")
    except ImportError as error:
        report.skipped[engine] = f"the native module cannot be imported: {error}"
        return report
    if engine == "aoti" and (reason := _other_torch(manifest)):
        report.skipped[engine] = reason
        return report
    try:
        found = _run_engine(core, manifest, folder, inputs, list(outputs))
    except NotImplementedError as error:  # a package for another machine
        report.skipped[engine] = str(error)
        return report
    report.errors[engine] = _compare(outputs, found)
    return report


def _other_torch(manifest: Manifest) -> str | None:
    """Why a compiled package cannot run beside this torch, or None where it can."""
    if importlib.util.find_spec("torch") is None:
        return "it runs with libtorch, and torch is not installed"
    version = require_torch("verifying a package").__version__.split("+")[0]
    wanted = manifest.engine["torch"]
    if wanted.split(".")[:2] == version.split(".")[:2]:
        return None
    return f"it was compiled for torch {wanted}, this is torch {version}"


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
    model: Any = load(folder, dtype=torch.float32)
    with torch.no_grad():
        outputs = model.native_outputs({name: torch.from_numpy(array) for name, array in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _run_engine(core: Any, manifest: Manifest, folder: Path, inputs: Arrays, names: list[str]) -> Arrays:
    get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    try:
        found: Arrays = core.load_package(str(folder)).session().run(dict(inputs), outputs=names)
    except NotImplementedError:
        raise
    except Exception as error:  # the native module raises builtin exceptions
        raise PackageError(f"its engine refuses the package: {error}", where=str(folder)) from error
    return found


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
