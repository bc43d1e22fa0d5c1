"""Packages whose model runs in PyTorch, for pipelines.

Those without a native program, and compiled ones whose code is not allowed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.element_types import torch_dtypes
from mambasdk.errors import PackageError, require_module, require_torch
from mambasdk.lowering import as_model, runs_by_name
from mambasdk.package.manifest import GOLDEN_FILE, Manifest
from mambasdk.package.reader import load


class TorchModel:
    """A package's PyTorch model as `_core.load_package(model=…)` takes it.

    Raises PackageError for a model without named inputs and outputs (`mambasdk.nn.Model`).
    """

    def __init__(self, directory: str | os.PathLike[str], manifest: Manifest, *, verify: bool = True) -> None:
        self.torch = require_torch("running this package, which has no native program,")
        folder = Path(directory).absolute()
        module = load(folder, dtype=self.torch.float32, verify=verify)
        self.model = as_model(module)
        if not runs_by_name(self.model):
            raise PackageError(
                f"{type(module).__name__} has no example_inputs and native_outputs, so no pipeline runs it",
                where=str(directory),
                way_out="use mambasdk.load and call the model",
            )
        examples = self.model.example_inputs()
        free = self.model.input_shapes()
        self.inputs = [
            {"name": name, "dtype": _dtype_name(tensor), "shape": _shape(free[name])}
            for name, tensor in examples.items()
        ]
        names = [output["name"] for output in manifest.outputs] or _golden_outputs(folder)
        self.outputs: list[dict[str, Any]] = [
            {"name": name, "dtype": "?", "shape": []} for name in names or self.run(examples, None)[0]
        ]

    def session(self) -> TorchSession:
        """A session with zero state."""
        return TorchSession(self)

    def run(self, inputs: Mapping[str, Any], state: Any) -> tuple[dict[str, Any], Any]:
        """One run on tensors by name: every output, and the state after it (None: the model keeps none)."""
        with self.torch.no_grad():
            if state is None:
                state = self.model.initial_state(next(iter(inputs.values())).shape[0])
            outputs, after = self.model.native_step(dict(inputs), state)
            return dict(outputs), after


class TorchSession:
    """One sequence, or batch, in progress: what `_core` calls. One thread at a time."""

    def __init__(self, model: TorchModel, state: Any = None) -> None:
        self._model = model
        self._state = state

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        """Run arrays by name; returns the outputs, float32, that are asked for."""
        torch = self._model.torch
        given = {name: torch.from_numpy(np.asarray(array)) for name, array in inputs.items()}
        made, state = self._model.run(given, self._state)
        found = {name: made[name].float().numpy() for name in outputs}
        self._state = state
        return found

    def reset(self) -> None:
        """State back to zero."""
        self._state = None

    def clone(self) -> TorchSession:
        """An independent session with the same state, which runs replace and never change."""
        return TorchSession(self._model, self._state)

    def state(self) -> bytes:
        """The state as a safetensors image; of no tensors before the first run."""
        safetensors = require_module("safetensors.torch", "saving a state", "pip install safetensors")
        leaves, _ = self._model.torch.utils._pytree.tree_flatten(self._state)
        image: bytes = safetensors.save(self._tensors(leaves))
        return image

    def restore(self, image: bytes) -> None:
        """Go on from what `state` gave. Raises ValueError for the state of another model."""
        safetensors = require_module("safetensors.torch", "restoring a state", "pip install safetensors")
        found = safetensors.load(image)
        if not found:
            self._state = None
            return
        pytree = self._model.torch.utils._pytree
        batch = next(iter(found.values())).shape[0]
        like, spec = pytree.tree_flatten(self._model.model.initial_state(batch))
        expected, got = _shapes(self._tensors(like)), _shapes(found)
        if got.keys() != expected.keys() or any(not _fits(got[name], expected[name]) for name in got):
            raise ValueError(f"this is the state of another model: it has {got}, expected {expected}")
        self._state = pytree.tree_unflatten([found.get(f"state.{i}") for i in range(len(like))], spec)

    def _tensors(self, leaves: Sequence[Any]) -> dict[str, Any]:
        torch = self._model.torch
        return {f"state.{i}": leaf.contiguous() for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fits(got: tuple[int, ...], first: tuple[int, ...]) -> bool:
    """Whether a state may have this shape that had `first` before the first run; where that is 0, it grows."""
    return len(got) == len(first) and all(b in (0, a) for a, b in zip(got, first, strict=True))


def _dtype_name(tensor: Any) -> str:
    return next((name for name, dtype in torch_dtypes().items() if dtype == tensor.dtype), "?")


def _shape(extents: Sequence[int | str]) -> list[int | None]:
    """None where an extent is free."""
    return [extent if isinstance(extent, int) else None for extent in extents]


def _golden_outputs(folder: Path) -> list[str]:
    """The outputs by the package's golden file; none where it has no such file."""
    if not (folder / GOLDEN_FILE).is_file():
        return []
    safetensors = require_module("safetensors", "reading a package", "pip install safetensors")
    with safetensors.safe_open(folder / GOLDEN_FILE, framework="np") as file:
        names = file.keys()
    return [name.removeprefix("outputs.") for name in names if name.startswith("outputs.")]
