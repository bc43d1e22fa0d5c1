"""Which cases are trained on and which are held out: five folds, as nnU-Net's `splits_final.json` holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mambasdk.atomic import write_text
from mambasdk.errors import InvalidArgumentError

SPLITS_FILE = "splits_final.json"
FOLDS = 5
_SEED = 12345
ALL = "all"


def splits(names: Sequence[str], count: int = FOLDS) -> list[dict[str, list[str]]]:
    """`count` splits of the sorted names, each held out once; fewer for fewer names, and one name is both."""
    known = sorted(names)
    count = min(count, len(known))
    if count < 2:
        return [{"train": known, "val": known}]
    parts = np.array_split(np.random.default_rng(_SEED).permutation(len(known)), count)
    made = []
    for part in parts:
        held_out = {known[index] for index in part}
        made.append(
            {
                "train": [name for name in known if name not in held_out],
                "val": [name for name in known if name in held_out],
            }
        )
    return made


def fold(folder: Path, names: Sequence[str], which: str) -> tuple[list[str], list[str]]:
    """(names to train on, names held out) of a fold: its number, or "all", which trains on and looks at every case.

    Splits are read from `splits_final.json` in `folder`, which is written where there is none. Raises
    InvalidArgumentError for a fold that is not there, and for splits with other cases.
    """
    if which == ALL:
        return sorted(names), sorted(names)
    path = folder / SPLITS_FILE
    if path.is_file():
        try:
            found = json.loads(path.read_text("utf-8"))
            pairs = [(list(map(str, one["train"])), list(map(str, one["val"]))) for one in found]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidArgumentError(f"cannot be read: {error}", where=str(path)) from error
    else:
        made = splits(names)
        write_text(path, json.dumps(made, indent=1))
        pairs = [(one["train"], one["val"]) for one in made]
    if not which.isdigit() or int(which) >= len(pairs):
        raise InvalidArgumentError(
            "no such fold", where=f"--fold {which}", expected=f"0 to {len(pairs) - 1}, or all", got=which
        )
    train, held_out = pairs[int(which)]
    if stray := sorted({*train, *held_out} - set(names)):
        raise InvalidArgumentError(
            f"cases that are not preprocessed: {', '.join(stray[:5])}", where=str(path), way_out="preprocess again"
        )
    if not train or not held_out:
        raise InvalidArgumentError("an empty part", where=f"{path}: fold {which}")
    return train, held_out
