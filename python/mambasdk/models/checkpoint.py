"""Checkpoint files: a mapping of tensors read one by one, and the strict loading of such a mapping into a model."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mambasdk.errors import CheckpointError, require_torch
from mambasdk.models.containers import unwrapped, wrapper_of
from mambasdk.progress import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin", "model.bin", "model.pt", "pytorch_model.pt")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# A folder of Megatron-LM: which iteration is the last, and one folder for each tensor-parallel rank.
_MEGATRON_TRACKER = "latest_checkpointed_iteration.txt"
_MEGATRON_RANKS = "mp_rank_*"
_MEGATRON_FILES = ("model_optim_rng.pt", "model.safetensors")
RANK_PREFIX = "mp_rank_"  # mp_rank_0.NAME: a tensor's shard, where there are several ranks
_PICKLES = (".bin", ".pt", ".pth")
_EXTRA_STATE = "._extra_state"
_LISTED = 8


class Checkpoint(Mapping[str, "Tensor"]):
    """Tensors by name, read when asked for. Use as a context manager, which closes the files.

    where: what error messages call it.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Tensor]], where: str, stack: contextlib.ExitStack) -> None:
        self._sources = dict(sources)
        self._stack = stack
        self.where = where

    @classmethod
    def open(cls, weights: Mapping[str, Tensor] | str | os.PathLike[str]) -> Checkpoint:
        """Open a state dict, a weight file, or a directory with one or with shards and their index file.

        What trainers and wrappers put around the tensors is taken off (`mambasdk.models.containers`). Raises
        CheckpointError when there is nothing readable.
        """
        require_torch("reading a checkpoint")
        stack = contextlib.ExitStack()
        if isinstance(weights, Mapping):
            tensors = _tensors(weights, "state dict")
            return cls({name: _constant(tensor) for name, tensor in tensors.items()}, "state dict", stack)
        path = Path(weights)
        try:
            opened = cls(_open_path(path, stack), str(path), stack)
            while (prefix := wrapper_of(opened)) is not None:  # of safetensors files and shards
                opened = opened.part(prefix)
            return opened
        except BaseException:
            stack.close()
            raise

    def rename(self, names: Mapping[str, str] | Callable[[str], str | None]) -> Checkpoint:
        """The same tensors under new names: a mapping old -> new (others stay), or a function (None drops one)."""
        renamed: dict[str, Callable[[], Tensor]] = {}
        for old, source in self._sources.items():
            new = names.get(old, old) if isinstance(names, Mapping) else names(old)
            if new is None:
                continue
            if new in renamed:
                raise CheckpointError(f"two tensors become {new!r}; the second is {old!r}", where=self.where)
            renamed[new] = source
        return Checkpoint(renamed, self.where, self._stack)

    def remade(self, sources: Mapping[str, Callable[[], Tensor]]) -> Checkpoint:
        """Other tensors, each computed when asked for, as from those of this checkpoint, whose files they keep open."""
        return Checkpoint(sources, self.where, self._stack)

    def part(self, prefix: str) -> Checkpoint:
        """The tensors under `prefix`, without it, as `backbone.` of a segmenter; all where no name begins with it."""
        if not any(name.startswith(prefix) for name in self):
            return self
        return self.rename(lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None)

    def __getitem__(self, name: str) -> Tensor:
        return self._sources[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def load_tensors(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Put `tensors` into `model`, which may be on the meta device.

    Names that share one parameter (a tied head) need to be there only once. dtype None keeps the tensors' own;
    parameters that must stay float32 do. Raises CheckpointError that lists what is missing, unexpected or misshapen.
    """
    torch = require_torch("loading weights")
    expected: dict[str, Tensor] = model.state_dict(keep_vars=True)
    aliases: dict[int, list[str]] = {}
    for name, tensor in expected.items():
        aliases.setdefault(id(tensor), []).append(name)
    groups = list(aliases.values())
    problems = _problems(
        missing=[names[0] for names in groups if not any(name in tensors for name in names)],
        unexpected=[name for name in tensors if name not in expected],
    )
    state: dict[str, Tensor] = {}
    misshapen: list[str] = []
    for names in track([] if problems else groups, "loading weights"):
        present = [name for name in names if name in tensors]
        value = tensors[present[0]]
        wanted = expected[names[0]]
        if value.shape != wanted.shape:
            misshapen.append(f"{present[0]} is {tuple(value.shape)}, expected {tuple(wanted.shape)}")
            continue
        for other in present[1:]:
            if not torch.equal(tensors[other], value):
                problems.append(f"{other} and {present[0]} differ, but the model ties them")
        value = value.to(device=device, dtype=_loaded_dtype(value, wanted, dtype), copy=True)
        state.update(dict.fromkeys(names, value))
    if misshapen:
        problems.append(f"wrong shape: {_listing(misshapen)}")
    if problems:
        raise CheckpointError("; ".join(problems), where=where)
    model.load_state_dict(state, strict=True, assign=True)
    _retie(model, groups)


def _loaded_dtype(value: Tensor, parameter: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The dtype to load `value` with: `dtype` or its own, but float32 at least where the parameter is marked so."""
    torch = require_torch("loading weights")
    if not value.is_floating_point():
        return value.dtype
    wanted = dtype or value.dtype
    if getattr(parameter, "_keep_float32", False) and wanted.itemsize < 4:
        wanted = torch.float32
    return wanted


def _retie(model: nn.Module, groups: Iterable[list[str]]) -> None:
    """Make names that shared one parameter share one again."""
    for first, *others in groups:
        if others:
            owner, _, leaf = first.rpartition(".")
            shared = getattr(model.get_submodule(owner), leaf)
            for other in others:
                owner, _, leaf = other.rpartition(".")
                setattr(model.get_submodule(owner), leaf, shared)


def _problems(missing: list[str], unexpected: list[str]) -> list[str]:
    found = []
    if missing:
        found.append(f"missing {len(missing)}: {_listing(missing)}")
    if unexpected:
        found.append(f"unexpected {len(unexpected)}: {_listing(unexpected)}")
    return found


def _listing(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _constant(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def _tensors(value: Any, where: str) -> dict[str, Tensor]:
    torch = require_torch("reading a checkpoint")
    if not isinstance(value, Mapping):
        raise CheckpointError("not a state dict", where=where, expected="a dict of tensors", got=type(value).__name__)
    value = unwrapped(value)
    # What Transformer Engine keeps beside the weights, which is none of them.
    value = {name: tensor for name, tensor in value.items() if not str(name).endswith(_EXTRA_STATE)}
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"entry {name!r} is {type(tensor).__name__}", where=where, expected="tensors by string names"
            )
    tensors: dict[str, Tensor] = dict(value)
    return tensors


def _open_path(path: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], Tensor]]:
    if path.is_dir():
        for name in _INDEX_FILES:
            if (path / name).is_file():
                return _open_shards(path / name, stack)
        for name in _SINGLE_FILES:
            if (path / name).is_file():
                return _open_file(path / name, stack)
        if (folder := _megatron_folder(path)) is not None:
            return _open_ranks(folder, stack)
        raise CheckpointError("no weights in the directory", where=str(path), expected=" or ".join(_SINGLE_FILES[:2]))
    if not path.is_file():
        raise CheckpointError("no such file", where=str(path))
    return _open_shards(path, stack) if path.name.endswith(".index.json") else _open_file(path, stack)


def _megatron_folder(path: Path) -> Path | None:
    """The folder of the ranks, in a folder of Megatron-LM: itself, or the iteration that its tracker names."""
    tracker = path / _MEGATRON_TRACKER
    if tracker.is_file():
        said = tracker.read_text("utf-8", errors="replace").strip()
        name = f"iter_{int(said):07d}" if said.isdecimal() else said
        if Path(name).name == name:
            path = path / name
    return path if any(path.glob(_MEGATRON_RANKS)) else None


def _open_ranks(folder: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], Tensor]]:
    """The tensors of the only rank, or of all under the rank's number."""
    found: dict[str, Callable[[], Tensor]] = {}
    ranks = sorted(path for path in folder.glob(_MEGATRON_RANKS) if path.is_dir())
    for rank, place in enumerate(ranks):
        suffix = place.name.removeprefix(RANK_PREFIX)
        if not suffix.isdecimal() or int(suffix) != rank:
            raise CheckpointError(
                f"bad folder {place.name}",
                where=str(folder),
                expected=f"{RANK_PREFIX}{rank:02d}: the shards of tensor parallelism, without pipeline stages",
            )
        file = next((place / name for name in _MEGATRON_FILES if (place / name).is_file()), None)
        if file is None:
            raise CheckpointError("no weights", where=str(place), expected=" or ".join(_MEGATRON_FILES))
        start = f"{RANK_PREFIX}{rank}." if len(ranks) > 1 else ""
        found |= {start + name: source for name, source in _open_file(file, stack).items()}
    return found


def _open_shards(index: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], Tensor]]:
    try:
        weight_map: dict[str, Any] = json.loads(index.read_text("utf-8"))["weight_map"]
        files = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"bad index file: {error!r}", where=str(index)) from error
    opened: dict[str, dict[str, Callable[[], Tensor]]] = {}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"bad shard name {file!r}", where=str(index), expected="a plain file name")
        if not (index.parent / file).is_file():
            raise CheckpointError(f"shard {file} is missing", where=str(index), way_out="download the whole repository")
        opened[file] = _open_file(index.parent / file, stack)
    absent = [name for name, file in weight_map.items() if name not in opened[file]]
    if absent:
        raise CheckpointError(f"shards lack what the index names: {_listing(absent)}", where=str(index))
    return {name: opened[file][name] for name, file in weight_map.items()}


def _open_file(path: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], Tensor]]:
    if path.suffix == ".safetensors":
        return _open_safetensors(path, stack)
    if path.suffix in _PICKLES:
        return _open_pickle(path)
    raise CheckpointError("unknown kind of file", where=str(path), expected=".safetensors, .bin, .pt or .pth")


def _open_safetensors(path: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], Tensor]]:
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
        names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read as safetensors: {error}", where=str(path)) from error

    def source(name: str) -> Callable[[], Tensor]:
        def read() -> Tensor:
            tensor: Tensor = file.get_tensor(name)
            return tensor

        return read

    return {name: source(name) for name in names}


def _numpy_scalars() -> list[Any]:
    """What a pickled number of NumPy is made with, by the names of either major version: losses that nnU-Net logs."""
    make: Any = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in "fdbhilqBHILQ?"}
    return [(make, "numpy.core.multiarray.scalar"), (make, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def _open_pickle(path: Path) -> dict[str, Callable[[], Tensor]]:
    torch = require_torch("reading a checkpoint")
    try:
        # Files written before torch 1.6 are no zip archives and cannot be mapped.
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        # Trainers write their command line beside the weights; what is in it is checked like all else.
        known: list[Any] = [argparse.Namespace, io.BytesIO, *_numpy_scalars()]
        with torch.serialization.safe_globals(known):
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        first_line = str(error).splitlines()[0]
        raise CheckpointError(
            f"refused: {first_line}",
            where=str(path),
            way_out="the file holds more than tensors; convert it to safetensors where you trust it",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"cannot be read as a PyTorch file: {error}", where=str(path)) from error
    return {name: _constant(tensor) for name, tensor in _tensors(value, str(path)).items()}
