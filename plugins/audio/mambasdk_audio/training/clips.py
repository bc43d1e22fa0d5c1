"""Clips on disk: a folder of class folders, or a CSV table, as a list with a held-out part. Imports no torch."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk_audio.plugin import SUFFIXES

_COLUMNS = ("file", "label")


@dataclass(frozen=True)
class Clip:
    """An audio file and its labels; several labels where a table gives several, none where nothing is known."""

    path: Path
    labels: tuple[str, ...] = ()


def find_clips(source: str | Path, *, labelled: bool = True) -> list[Clip]:
    """The clips of a folder or of a table, in the order of their paths.

    source: a folder whose subfolders are the classes and hold audio files (at any depth), or a CSV file with the
    columns file (relative to the table) and label (several with ";" between them).
    labelled=False takes every audio file of a folder, whatever lies where. Raises InvalidArgumentError where nothing is
    found or a file is missing.
    """
    path = Path(source)
    if path.is_file():
        clips = _of_table(path)
        expected = "an audio file in each row"
    elif not labelled:
        clips = [Clip(file) for file in _audio_files(path)]
        expected = "WAV, FLAC, OGG or MP3 files in it"
    else:
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
        clips = [Clip(file, (folder.name,)) for folder in folders for file in _audio_files(folder)]
        expected = "a folder of each class with audio files in it, or a CSV file with the columns file and label"
    if not clips:
        what = "no clips" if path.exists() else "no such file or folder"
        raise InvalidArgumentError(what, where=str(source), expected=expected)
    return clips


def split_clips(clips: Sequence[Clip], held_out: float) -> tuple[list[Clip], list[Clip]]:
    """(training, held out): a share `held_out` of every label's clips, chosen by a hash of the file's name.

    The choice depends on nothing else, so more clips leave it as it is. Every label keeps a clip to train on.
    """
    if not 0 <= held_out < 1:
        raise InvalidArgumentError("bad share of held-out clips", expected="from 0 to below 1", got=held_out)
    ranked: dict[tuple[str, ...], list[Clip]] = {}
    for clip in sorted(clips, key=_chance):
        ranked.setdefault(clip.labels, []).append(clip)
    kept, out = [], []
    for group in ranked.values():
        count = min(round(held_out * len(group)), len(group) - 1)
        out += group[:count]
        kept += group[count:]
    return sorted(kept, key=_path), sorted(out, key=_path)


def label_names(clips: Sequence[Clip]) -> list[str]:
    """All labels, sorted."""
    return sorted({label for clip in clips for label in clip.labels})


def _audio_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _of_table(path: Path) -> list[Clip]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = list(table)
            names = list(table.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgumentError(f"cannot be read as a table: {error}", where=str(path)) from error
    if missing := [name for name in _COLUMNS if name not in names]:
        raise InvalidArgumentError(
            f"no column {' and '.join(missing)}", where=str(path), expected=",".join(_COLUMNS), got=",".join(names)
        )
    clips = []
    for number, row in enumerate(rows, 2):
        file_name, labels = (row[name] or "" for name in _COLUMNS)
        clip = Clip(path.parent / file_name, tuple(label.strip() for label in labels.split(";") if label.strip()))
        if not clip.path.is_file():
            raise InvalidArgumentError(f"no file {file_name!r}", where=f"{path}, line {number}")
        clips.append(clip)
    return clips


def _path(clip: Clip) -> str:
    return str(clip.path)


def _chance(clip: Clip) -> bytes:
    return hashlib.sha256("/".join((*clip.labels, clip.path.name)).encode()).digest()
