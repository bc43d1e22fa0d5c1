"""Training checkpoints: a file of `torch.save` with a SHA-256 over all of it, and what a run may take from one.

The hash stands in the comment of the zip archive that `torch.save` writes, so that plain
`torch.load(weights_only=True)` still reads the file. Nothing is changed by these functions: what is wrong is found
before a run takes anything.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mambasdk.atomic import replacing_file
from mambasdk.errors import CheckpointError
from mambasdk.training.result import TrainingResult

FORMAT = "mambasdk-training-2"
_WITHOUT_HASH = "mambasdk-training-1"
_MARK = b"mambasdk-sha256 "
_COMMENT_SIZE = len(_MARK) + 64
_COMMENT = re.compile(re.escape(_MARK) + rb"[0-9a-f]{64}")
_BLOCK = 1 << 20
_COUNTS = ("steps", "units")


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Replace the file `path` by `content` (plain values and tensors) and its hash, whole or not at all."""
    with replacing_file(path) as partial:
        torch.save({"format": FORMAT, **content}, partial)
        with partial.open("r+b") as file:
            # The archive's last field is the length of its comment.
            file.seek(-2, os.SEEK_END)
            file.write(_COMMENT_SIZE.to_bytes(2, "little"))
            size = file.tell()
            file.seek(0)
            digest = _sha256(file, size)
            file.seek(0, os.SEEK_END)
            file.write(_MARK + digest.encode())


def read_checkpoint(path: str | os.PathLike[str], device: torch.device) -> dict[str, Any]:
    """The content of a checkpoint, its hash checked and the types of its entries too.

    A file of the format before hashes is read with a warning. Raises CheckpointError.
    """
    where = str(path)
    hashed = _check_hash(Path(path))
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"cannot be read as a training checkpoint: {reason}", where=where) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found == _WITHOUT_HASH and not hashed:
        warnings.warn(
            f"{where}: a checkpoint without a hash, as older versions wrote: damage is not seen", stacklevel=3
        )
    elif found == FORMAT and not hashed:
        raise CheckpointError("the checkpoint is damaged: its hash is missing", where=where, way_out="use an older one")
    elif found != FORMAT:
        raise CheckpointError("not a training checkpoint", where=where, expected=FORMAT)
    kinds = {"model": dict, "optimizer": dict, "task": dict, "unit": str, "options": dict, "result": dict}
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            raise CheckpointError(
                f"malformed checkpoint: bad {name}",
                where=where,
                expected=kind.__name__,
                got=type(content.get(name)).__name__,
            )
    checked: dict[str, Any] = content
    return checked


def check_model(own: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where two state dicts differ in names, shapes or dtypes."""
    wrong = sorted(map(str, own.keys() ^ theirs.keys()))
    wrong += [name for name in own.keys() & theirs.keys() if _kind(own[name]) != _kind(theirs[name])]
    if wrong:
        raise CheckpointError(f"the checkpoint is of another model: {', '.join(wrong[:4])} differ", where=where)


def check_optimizer(own: Mapping[str, Any], theirs: Mapping[str, Any], parameters: list[Tensor], where: str) -> None:
    """Raise CheckpointError where `theirs`, an optimizer's state dict, is none of an optimizer of these parameters.

    own: the state dict of the optimizer that is to take it, for its groups. parameters: in the order of the groups.
    """

    def refuse(what: str) -> None:
        raise CheckpointError(f"the checkpoint trained other parameters: {what}", where=where)

    groups, state = theirs.get("param_groups"), theirs.get("state")
    if not isinstance(groups, list) or not isinstance(state, dict):
        refuse("its optimizer has no groups or no state")
    indices = [group.get("params") if isinstance(group, dict) else None for group in groups or []]
    if indices != [group["params"] for group in own["param_groups"]]:
        refuse("the optimizer's groups differ")
    for mine, other in zip(own["param_groups"], groups or [], strict=True):
        if mine.keys() != other.keys():
            refuse(f"a group of the optimizer has other options: {', '.join(sorted(mine.keys() ^ other.keys()))}")
        for name, value in mine.items():
            if name != "params" and not _like(value, other[name]):
                refuse(f"option {name} of the optimizer is {type(other[name]).__name__}")
    if unknown := set(state or ()) - set(range(len(parameters))):
        refuse(f"the optimizer has a state for parameter {next(iter(unknown))!r}"[:120])
    moments = ("exp_avg", "exp_avg_sq") if "betas" in own["param_groups"][0] else ("momentum_buffer",)
    for index, entry in (state or {}).items():
        _check_moments(entry, moments, parameters[index], f"parameter {index}", refuse)


def _check_moments(entry: Any, moments: tuple[str, ...], parameter: Tensor, name: str, refuse: Any) -> None:
    """The state of one parameter: AdamW's step, exp_avg and exp_avg_sq, or the momentum of SGD, None without one."""
    counted = "exp_avg" in moments
    if not isinstance(entry, dict) or set(entry) != {*moments, *(("step",) if counted else ())}:
        refuse(f"the optimizer's state of {name} is malformed")
    for field in moments:
        moment = entry[field]
        if moment is None and not counted:
            continue
        if _kind(moment) != (parameter.shape, parameter.dtype):
            got = f"{tuple(moment.shape)} {moment.dtype}" if isinstance(moment, Tensor) else type(moment).__name__
            refuse(f"{field} of {name} is {got}, expected {tuple(parameter.shape)} {parameter.dtype}")
    step = entry.get("step")
    if counted and not (
        isinstance(step, Tensor) and step.numel() == 1 and step.is_floating_point() and float(step) >= 0
    ):
        refuse(f"the step of {name} is malformed")


def _like(mine: Any, other: Any) -> bool:
    """Whether an option's value is of the kind of ours: numbers are numbers, pairs are pairs."""
    if isinstance(mine, bool) or mine is None:
        return other is None or isinstance(other, bool)
    if isinstance(mine, (int, float)):
        return isinstance(other, (int, float)) and not isinstance(other, bool)
    if isinstance(mine, (tuple, list)):
        return isinstance(other, (tuple, list)) and len(mine) == len(other) and all(map(_like, mine, other))
    return type(mine) is type(other)


def check_best(best: Any, model: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where the best evaluation of a checkpoint is malformed; {} is a run without one."""
    kinds: dict[str, Any] = {"metric": str, "step": int, "metrics": dict, "stale": int, "weights": (dict, type(None))}
    good = isinstance(best, dict) and (not best or all(isinstance(best.get(name), kinds[name]) for name in kinds))
    if not good or not all(isinstance(value, (int, float)) for value in best.get("metrics", {}).values()):
        raise CheckpointError("malformed checkpoint: bad best evaluation", where=where, way_out="use an older one")
    if best and best["weights"] is not None:
        check_model(model, best["weights"], where)


def result_of(value: Mapping[str, Any], where: str) -> TrainingResult:
    """The result so far of a checkpoint; raises CheckpointError where it is malformed."""

    def number(entry: Any) -> bool:
        return isinstance(entry, (int, float)) and not isinstance(entry, bool)

    known = TrainingResult()
    good = all(hasattr(known, str(name)) for name in value)
    good = good and all(
        isinstance(value.get(name), int) and not isinstance(value[name], bool) and value[name] >= 0 for name in _COUNTS
    )
    good = good and number(value.get("seconds")) and math.isfinite(value["seconds"]) and value["seconds"] >= 0
    losses, evaluations = value.get("losses"), value.get("evaluations")
    good = good and isinstance(losses, list) and all(map(number, losses)) and len(losses) == value["steps"]
    good = good and isinstance(evaluations, list)
    for entry in evaluations if good and isinstance(evaluations, list) else ():
        good = good and isinstance(entry, (tuple, list)) and len(entry) == 2 and number(entry[0])
        good = good and isinstance(entry[1], dict) and all(map(number, entry[1].values()))
    if not good or not isinstance(evaluations, list):
        raise CheckpointError("malformed checkpoint: bad result", where=where, way_out="use an older one")
    pairs = [(int(step), dict(metrics)) for step, metrics in evaluations]
    return TrainingResult(**{**value, "evaluations": pairs})


def _kind(value: Any) -> Any:
    """Shape and dtype of a tensor; a module's extra state has none."""
    return (value.shape, value.dtype) if isinstance(value, Tensor) else None


def _check_hash(path: Path) -> bool:
    """Whether the file has a hash; raises CheckpointError where it differs, or where the file cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - _COMMENT_SIZE
            if size <= 0:
                return False
            file.seek(size)
            comment = file.read()
            if not _COMMENT.fullmatch(comment):
                return False
            file.seek(0)
            found = _sha256(file, size)
    except OSError as error:
        raise CheckpointError(
            f"cannot be read as a training checkpoint: {error.strerror or error}", where=str(path)
        ) from error
    if found.encode() != comment[len(_MARK) :]:
        raise CheckpointError(
            "the checkpoint is damaged: its SHA-256 differs from the one written with it",
            where=str(path),
            way_out="use an older checkpoint, or start anew",
        )
    return True


def _sha256(file: Any, size: int) -> str:
    """SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(_BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
