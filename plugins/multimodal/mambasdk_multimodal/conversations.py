"""Conversations: which files hold them, and their feature vectors in batches. Imports no torch.

A file is `.jsonl` with a conversation on each line, `.json` with one or a list of them, or a pickle of the public
feature files (`feature_pickles`). A conversation's JSON is described in docs/multimodal.md and native/conversation.hpp.
Here features may also be names of `.npy` files beside the file: (L, in_dim) with the conversation, (in_dim) with an
utterance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_multimodal.documents import json_rows
from mambasdk_multimodal.processors import ConversationProcessor

_PICKLES = (".pkl", ".pickle")
_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Conversation:
    """L utterances. features: (L, in_dim) float32 by modality. present: (L) bool by modality. speakers: (L) int64.

    labels: of each utterance, None where it has none. split: "train" or "test" where the file says it.
    """

    name: str
    features: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    speakers: NDArray[np.int64]
    labels: list[str | None]
    split: str | None = None
    texts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.speakers)


def dims_of(conversations: Sequence[Conversation]) -> dict[str, int]:
    """Numbers of a feature vector of each modality. Raises InvalidArgumentError where conversations differ."""
    found: dict[str, int] = {}
    for each in conversations:
        for name, values in each.features.items():
            if found.setdefault(name, values.shape[1]) != values.shape[1]:
                raise InvalidArgumentError(
                    f"{name} has vectors of different widths",
                    where=each.name,
                    expected=found[name],
                    got=values.shape[1],
                    way_out="one model serves one width: MELD's audio has 300 numbers, IEMOCAP's 1582",
                )
    return found


def read_conversations(
    paths: Sequence[str | os.PathLike[str]], dims: Mapping[str, int] | None = None
) -> list[Conversation]:
    """The conversations of files and of directories of them, at any depth.

    dims: what a model takes; other modalities and widths are then an error. None: what the files have.
    Raises InvalidArgumentError with the file, the conversation and what is wrong.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    made: list[Conversation] = []
    for path in _files(paths):
        if path.suffix in _PICKLES:
            from mambasdk_multimodal.feature_pickles import read_feature_pickle

            made += read_feature_pickle(path)
        else:
            for number, row in enumerate(json_rows(path), 1):
                rows.append((f"{path.name}#{number}", inlined(row, path.parent, f"{path.name}#{number}")))
    if not rows and not made:
        raise InvalidArgumentError("no conversations", where=", ".join(map(str, paths)), expected=(*_JSON, *_PICKLES))
    widths = dict(dims) if dims is not None else {**_widths(rows), **dims_of(made)}
    if rows and not widths:
        raise InvalidArgumentError("no utterance has features", where=rows[0][0])
    if rows:
        processor = ConversationProcessor(modalities=list(widths), in_dims=list(widths.values()))
        made += [_read(name, row, processor, list(widths)) for name, row in track(rows, "conversations", len(rows))]
    found = dims_of(made)
    if dims is not None and any(dims.get(name) != width for name, width in found.items()):
        raise InvalidArgumentError("other features", where=made[0].name, expected=dict(dims), got=found)
    return made


def _files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    for given in map(Path, paths):
        if not given.exists():
            raise InvalidArgumentError(f"no file or directory {str(given)!r}", where="conversations")
        if given.is_dir():
            yield from sorted(path for path in given.rglob("*") if path.suffix in (*_JSON, *_PICKLES))
        else:
            yield given


def inlined(row: Any, folder: Path, where: str) -> dict[str, Any]:
    """A conversation whose features that are names of `.npy` files in `folder` are numbers."""
    if not isinstance(row, dict):
        raise InvalidArgumentError("no conversation", where=where, expected="an object", got=type(row).__name__)
    made: dict[str, Any] = {str(name): value for name, value in row.items()}
    if isinstance(row.get("features"), dict):
        made["features"] = {name: _array(value, folder, 2, where) for name, value in row["features"].items()}
    if isinstance(row.get("utterances"), list):
        made["utterances"] = [
            {**each, "features": {name: _array(v, folder, 1, where) for name, v in each["features"].items()}}
            if isinstance(each, dict) and isinstance(each.get("features"), dict)
            else each
            for each in row["utterances"]
        ]
    return made


def _array(value: Any, folder: Path, ndim: int, where: str) -> Any:
    if not isinstance(value, str):
        return value
    path = folder / value
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"features {value!r} cannot be read: {error}", where=where) from error
    if array.ndim != ndim or array.dtype.kind not in "fiu":
        raise InvalidArgumentError(
            f"bad features {value!r}", where=where, expected=f"numbers of {ndim} dims", got=(array.dtype, array.shape)
        )
    return array.astype(np.float64).tolist()


def _widths(rows: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, int]:
    """Modalities and widths by what comes first; what does not fit them the processor says."""
    found: dict[str, int] = {}
    for _, row in rows:
        for each in row.get("utterances") or ():
            given = each.get("features") if isinstance(each, dict) else None
            for name, vector in (given or {}).items() if isinstance(given, dict) else ():
                if isinstance(vector, list) and vector:
                    found.setdefault(name, len(vector))
        shared = row.get("features")
        for name, vectors in shared.items() if isinstance(shared, dict) else ():
            for vector in vectors if isinstance(vectors, list) else ():
                if isinstance(vector, list) and vector:
                    found.setdefault(name, len(vector))
    return found


def _read(name: str, row: dict[str, Any], processor: ConversationProcessor, names: Sequence[str]) -> Conversation:
    try:
        made = processor(row)
    except ValueError as error:
        raise InvalidArgumentError(str(error), where=name) from error
    labels = [_label(each.get("label"), f"{name}: utterance {u}") for u, each in enumerate(row["utterances"])]
    shown = made["present"][0].astype(bool)
    return Conversation(
        str(row.get("name") or name),
        {m: made[m][0] for m in names},
        {m: shown[:, i] for i, m in enumerate(names)},
        made["speakers"][0],
        labels,
        texts=[str(each.get("text") or "") for each in row["utterances"]],
    )


def _label(value: Any, where: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return str(value)
    raise InvalidArgumentError("bad label", where=where, expected="a name or a whole number from 0", got=repr(value))


def save_conversation(conversation: Conversation, path: str | os.PathLike[str]) -> None:
    """Write a conversation as the JSON that a package's pipeline reads, its numbers in it."""
    row = {"name": conversation.name, "utterances": []}
    for u in range(len(conversation)):
        features = {m: v[u].tolist() for m, v in conversation.features.items() if conversation.present[m][u]}
        said: dict[str, Any] = {"speaker": int(conversation.speakers[u]), "features": features}
        if conversation.labels[u] is not None:
            said["label"] = conversation.labels[u]
        if conversation.texts and conversation.texts[u]:
            said["text"] = conversation.texts[u]
        row["utterances"].append(said)  # type: ignore[attr-defined]
    Path(path).write_text(json.dumps(row) + "\n", "utf-8")


def collate(
    conversations: Sequence[Conversation],
    dims: Mapping[str, int],
    labels: Mapping[str, int],
    absent: Sequence[str] = (),
) -> dict[str, Any]:
    """Arrays of a batch: features by modality (B, L, in_dim), speakers, mask, present (B, L, M), labels (B, L).

    labels: class by name; -1 where an utterance has none, and at padding. absent: modalities to leave out.
    """
    longest = max(map(len, conversations))
    shape = (len(conversations), longest)
    features = {name: np.zeros((*shape, dim), np.float32) for name, dim in dims.items()}
    present, mask = np.zeros((*shape, len(dims)), np.int64), np.zeros(shape, np.int64)
    speakers, targets = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    for row, each in enumerate(conversations):
        size = len(each)
        mask[row, :size], speakers[row, :size] = 1, each.speakers
        for m, name in enumerate(dims):
            if name in each.features and name not in absent:
                features[name][row, :size] = each.features[name]
                present[row, :size, m] = each.present[name]
        for u, label in enumerate(each.labels):
            if label is not None:
                targets[row, u] = _class_of(label, labels, each.name)
    return {"features": features, "speakers": speakers, "mask": mask, "present": present, "labels": targets}


def _class_of(label: str, labels: Mapping[str, int], where: str) -> int:
    if label not in labels:
        raise InvalidArgumentError(f"no class {label!r}", where=where, expected=list(labels))
    return labels[label]
