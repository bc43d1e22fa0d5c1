"""MOTChallenge's text files: ground truth, detections, results and seqinfo.ini."""

from __future__ import annotations

import configparser
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.atomic import write_text
from mambasdk.errors import InvalidArgumentError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_MAX_FRAMES = 10_000_000  # four days at 30 frames a second
_COLUMNS = "frame,id,left,top,width,height"
_INFO_FILE = "seqinfo.ini"


@dataclass
class Table:
    """Boxes of a sequence, one a row, in the order of frames.

    frames: int64 (n), from 1. ids: int64 (n), -1 for none. boxes: float64 (n, 4), left, top, width, height in pixels.
    values: float64 (n), the score, or in ground truth the flag (0: ignored). classes: int64 (n), 1 for pedestrian.
    visibility: float64 (n), 0 to 1.
    """

    frames: Integers
    ids: Integers
    boxes: Floats
    values: Floats
    classes: Integers
    visibility: Floats

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, rows: Any) -> Table:
        """The rows that a mask or indices name."""
        return Table(
            self.frames[rows], self.ids[rows], self.boxes[rows], self.values[rows], self.classes[rows],
            self.visibility[rows],
        )  # fmt: skip

    @property
    def frame_count(self) -> int:
        """The last frame's number."""
        return int(self.frames[-1]) if len(self) else 0


@dataclass(frozen=True)
class SequenceInfo:
    """What seqinfo.ini says: name, number of frames, size of the images in pixels, frames per second."""

    name: str
    length: int
    image_size: tuple[int, int]
    frame_rate: float = 30.0


@dataclass
class MotSequence:
    """A sequence's folder: info, and the tables that are there."""

    folder: Path
    info: SequenceInfo
    ground_truth: Table | None = None
    detections: Table | None = field(default=None, repr=False)


def make_table(
    frames: Any, ids: Any, boxes: Any, values: Any = None, classes: Any = None, visibility: Any = None
) -> Table:
    """A table from columns in any order of frames; values and visibility are 1 and classes 1 where not given."""
    frames = np.asarray(frames, np.int64).reshape(-1)
    n = len(frames)
    order = np.argsort(frames, kind="stable")
    return Table(
        frames[order],
        np.asarray(ids, np.int64).reshape(n)[order],
        np.asarray(boxes, np.float64).reshape(n, 4)[order],
        np.broadcast_to(np.asarray(1.0 if values is None else values, np.float64), (n,))[order],
        np.broadcast_to(np.asarray(1 if classes is None else classes, np.int64), (n,))[order],
        np.broadcast_to(np.asarray(1.0 if visibility is None else visibility, np.float64), (n,))[order],
    )


def read_table(path: str | os.PathLike[str], *, ground_truth: bool = False, results: bool = False) -> Table:
    """Read gt.txt (`ground_truth`), a file of `results`, or det.txt.

    gt.txt: frame,id,left,top,width,height,flag,class,visibility; the others: …,score[,…]. Six columns are enough.
    Raises InvalidArgumentError for what is no such file, for frames below 1 or above ten million, numbers that are not
    finite, an id twice in one frame, and results of other classes than pedestrian (-1 is none): metrics are defined for
    pedestrians alone.
    """
    where = str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file
            rows = np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64, encoding="utf-8-sig")
    except OSError as error:
        raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=where) from error
    except ValueError as error:
        raise InvalidArgumentError(
            f"no table of numbers: {error}", where=where, expected=f"lines of {_COLUMNS}, …"
        ) from error
    if rows.size == 0:
        rows = np.zeros((0, 9))
    if rows.shape[1] < 6:
        raise InvalidArgumentError("too few columns", where=where, expected=f"{_COLUMNS}, …", got=rows.shape[1])
    numbers = rows[:, :2]
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any() or (numbers[:, 0] < 1).any():
        line = int(np.flatnonzero(~((numbers == np.floor(numbers)).all(1) & (numbers[:, 0] >= 1)))[0]) + 1
        raise InvalidArgumentError(f"row {line}: frames are whole numbers from 1, ids whole numbers", where=where)
    if (numbers[:, 0] > _MAX_FRAMES).any() or (np.abs(numbers[:, 1]) > 2**53).any():
        line = int(np.flatnonzero((numbers[:, 0] > _MAX_FRAMES) | (np.abs(numbers[:, 1]) > 2**53))[0])
        raise InvalidArgumentError(
            f"row {line + 1}: frame {numbers[line, 0]:g} and id {numbers[line, 1]:g} are too large",
            where=where,
            expected=f"frames up to {_MAX_FRAMES:,}, ids up to 2^53",
        )
    used = rows[:, :9] if ground_truth else rows[:, :7]
    if not np.isfinite(used).all():
        line = int(np.flatnonzero(~np.isfinite(used).all(1))[0]) + 1
        raise InvalidArgumentError(f"row {line}: has a number that is not finite", where=where)
    if results and rows.shape[1] > 7 and (rows[:, 7] > 1).any():
        line = int(np.flatnonzero(rows[:, 7] > 1)[0])
        raise InvalidArgumentError(
            f"row {line + 1}: a result of class {rows[line, 7]:g}", where=where, expected="1 (pedestrian) or -1"
        )
    given = [rows[:, index] if rows.shape[1] > index else None for index in (6, 7, 8)]
    if not ground_truth:
        given[1:] = [None, None]  # of results these columns mean something else
    table = make_table(rows[:, 0], rows[:, 1], rows[:, 2:6], *given)
    with_id = table.ids >= 0
    pairs = np.stack([table.frames[with_id], table.ids[with_id]], 1)
    if len(np.unique(pairs, axis=0)) != len(pairs):
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        frame, identity = found[counts > 1][0]
        raise InvalidArgumentError(f"frame {frame} has id {identity} twice", where=where)
    return table


def write_results(path: str | os.PathLike[str], table: Table) -> None:
    """Write tracks as MOTChallenge's result file: frame,id,left,top,width,height,score,-1,-1,-1."""
    lines = (
        f"{frame},{identity},{box[0]:.2f},{box[1]:.2f},{box[2]:.2f},{box[3]:.2f},{score:.4g},-1,-1,-1\n"
        for frame, identity, box, score in zip(table.frames, table.ids, table.boxes, table.values, strict=True)
    )
    write_text(path, "".join(lines))


def write_ground_truth(path: str | os.PathLike[str], table: Table) -> None:
    """Write gt.txt: frame,id,left,top,width,height,flag,class,visibility."""
    lines = (
        f"{frame},{identity},{box[0]:.2f},{box[1]:.2f},{box[2]:.2f},{box[3]:.2f},{int(flag)},{label},{seen:.4g}\n"
        for frame, identity, box, flag, label, seen in zip(
            table.frames, table.ids, table.boxes, table.values, table.classes, table.visibility, strict=True
        )
    )
    write_text(path, "".join(lines))


def write_info(folder: str | os.PathLike[str], info: SequenceInfo) -> None:
    """Write seqinfo.ini."""
    width, height = info.image_size
    write_text(
        Path(folder) / _INFO_FILE,
        f"[Sequence]\nname={info.name}\nimDir=img1\nframeRate={info.frame_rate:g}\nseqLength={info.length}\n"
        f"imWidth={width}\nimHeight={height}\nimExt=.jpg\n",
    )


def read_info(folder: str | os.PathLike[str]) -> SequenceInfo:
    """The seqinfo.ini of a sequence's folder; raises InvalidArgumentError where it is absent or lacks a size."""
    path = Path(folder) / _INFO_FILE
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text("utf-8-sig"))
        section: Mapping[str, str] = parser["Sequence"]
        return SequenceInfo(
            name=section.get("name", path.parent.name),
            length=int(section["seqLength"]),
            image_size=(int(section["imWidth"]), int(section["imHeight"])),
            frame_rate=float(section.get("frameRate", "30")),
        )
    except OSError as error:
        raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (configparser.Error, KeyError, ValueError) as error:
        raise InvalidArgumentError(
            f"bad sequence information: {error}",
            where=str(path),
            expected="[Sequence] with seqLength, imWidth and imHeight",
        ) from error


def read_sequence(folder: str | os.PathLike[str]) -> MotSequence:
    """A sequence's folder with seqinfo.ini and, where they are there, gt/gt.txt and det/det.txt."""
    root = Path(folder)
    gt, det = root / "gt" / "gt.txt", root / "det" / "det.txt"
    return MotSequence(
        root,
        read_info(root),
        read_table(gt, ground_truth=True) if gt.is_file() else None,
        read_table(det) if det.is_file() else None,
    )


def find_sequences(root: str | os.PathLike[str]) -> list[Path]:
    """The folders with a seqinfo.ini at or below `root`, by name; raises InvalidArgumentError where there is none."""
    found = sorted(path.parent for path in Path(root).rglob(_INFO_FILE))
    if not found:
        raise InvalidArgumentError(
            f"no {_INFO_FILE} in it",
            where=str(root),
            expected="MOTChallenge's layout: SEQUENCE/seqinfo.ini, SEQUENCE/gt/gt.txt",
        )
    return found


def table_of_tracks(tracks: Sequence[Mapping[str, Any]]) -> Table:
    """What `Tracker.update` returned, as a table."""
    boxes = np.array([track["box"] for track in tracks], np.float64).reshape(-1, 4)  # corners
    return make_table(
        [track["frame"] for track in tracks],
        [track["id"] for track in tracks],
        np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1),
        [track["score"] for track in tracks],
    )
