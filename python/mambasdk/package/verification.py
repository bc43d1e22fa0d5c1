"""Checking a package: hashes, then its golden inputs through PyTorch and through the engine that the manifest names."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import MambaSDKError, PackageError, require_torch
from mambasdk.models.checkpoint import Checkpoint
from mambasdk.package.manifest import GOLDEN_FILE, Manifest
from mambasdk.package.reader import load

if TYPE_CHECKING:
    from torch import Tensor

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
        """Whether every error is within `tolerance` times the output's largest magnitude (or 1, if that is more)."""
        return all(
            error <= self.tolerance * max(1.0, self.scales[name])
            for outputs in self.errors.values()
            for name, error in outputs.items()
        )


def verify(directory: str | os.PathLike[str], *, tolerance: float = RELATIVE_TOLERANCE) -> VerifyReport:
    """Check a package's files, and run its golden inputs through every engine of this machine.

    Raises PackageError for damaged files; wrong outputs are in the report (`passed`). An engine that is not there is
    named in `skipped`.
    """
    folder = Path(directory)
    manifest = Manifest.read(folder)
    manifest.check_sizes(folder)
    manifest.check_hashes(folder)
    report = VerifyReport(len(manifest.files), GOLDEN_FILE in manifest.files, tolerance)
    if not report.golden:
        return report
    inputs, outputs = _golden(folder)
    report.scales = {name: float(tensor.abs().max()) if tensor.numel() else 0.0 for name, tensor in outputs.items()}
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
        found = _run_engine(core, folder, inputs, list(outputs))
    except NotImplementedError as error:  # a package for another machine
        report.skipped[engine] = str(error)
        return report
    report.errors[engine] = _compare(outputs, found)
    return report


def _other_torch(manifest: Manifest) -> str | None:
    """Why a compiled package cannot run beside this torch, or None where it can."""
    version = require_torch("verifying a package").__version__.split("+")[0]
    wanted = manifest.engine["torch"]
    if wanted.split(".")[:2] == version.split(".")[:2]:
        return None
    return f"it was compiled for torch {wanted}, this is torch {version}"


def _golden(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"inputs": {}, "outputs": {}}
    try:
        with Checkpoint.open(folder / GOLDEN_FILE) as golden:
            for name, tensor in golden.items():
                kind, _, rest = name.partition(".")
                if kind not in parts or not rest:
                    raise PackageError(f"unexpected tensor {name!r}", where=str(folder / GOLDEN_FILE))
                parts[kind][rest] = tensor
    except MambaSDKError as error:
        raise error if isinstance(error, PackageError) else PackageError(str(error)) from error
    return parts["inputs"], parts["outputs"]


def _run_torch(folder: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    torch = require_torch("verifying a package")
    model: Any = load(folder, dtype=torch.float32)
    with torch.no_grad():
        outputs: dict[str, Tensor] = model.native_outputs(inputs)
    return outputs


def _run_engine(core: Any, folder: Path, inputs: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    torch = require_torch("verifying a package")
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    try:
        found = core.load_package(str(folder)).session().run(arrays, outputs=names)
    except NotImplementedError:
        raise
    except Exception as error:  # the native module raises builtin exceptions
        raise PackageError(f"its engine refuses the package: {error}", where=str(folder)) from error
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _compare(expected: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, float]:
    errors = {}
    for name, tensor in expected.items():
        if name not in found or found[name].shape != tensor.shape:
            shape = tuple(found[name].shape) if name in found else "nothing"
            raise PackageError(f"golden output {name!r}", expected=tuple(tensor.shape), got=shape)
        difference = (found[name].double() - tensor.double()).abs()
        # NaN compares as no error at all otherwise.
        errors[name] = float(difference.nan_to_num(nan=float("inf")).max()) if tensor.numel() else 0.0
    return errors
