"""`mambasdk evaluate` of motion models: the videos are tracked, and measured against their ground truth."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.evaluation import Evaluation
from mambasdk.progress import track
from mambasdk_tracking.metrics import evaluate as measure
from mambasdk_tracking.mot import Floats, Table, find_sequences, read_sequence, read_table, table_of_tracks
from mambasdk_tracking.tracker import Tracker

_SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "Frag", "MT", "ML")


def evaluate(args: argparse.Namespace) -> Evaluation:
    """CLEAR, identity and HOTA metrics of the package `args.model` on the videos in the folders `args.data`.

    Each video has gt/gt.txt, det/det.txt and seqinfo.ini. Raises InvalidArgumentError where one of them is missing.
    """
    tables: dict[str, tuple[Table, Table]] = {}
    pictures: dict[str, Callable[[Path], None]] = {}
    for root in args.data:
        for folder in find_sequences(root):
            name, truth, tracks, size = _tracked(folder, args.model)
            if name in tables:
                raise InvalidArgumentError(f"two videos are named {name}", where=str(folder))
            tables[name] = truth, tracks
            pictures[f"tracks-{name}"] = _picture(name, truth, tracks, size)
    found = measure(tables, args.benchmark)
    rows = [{"video": name, **{key: values[key] for key in _SHOWN}} for name, values in found.sequences.items()]
    boxes = sum(len(tracks) for _, tracks in tables.values())
    return Evaluation(
        {key: found.total[key] for key in (*_SHOWN, *(key for key in found.total if key not in _SHOWN))},
        data={"videos": len(tables), "boxes": boxes},
        tables={"videos": rows},
        details={
            "HOTA_per_alpha": found.hota_per_alpha.tolist(),
            "metrics_of": found.sequences,
            "benchmark": args.benchmark,
        },
        pictures={"hota": lambda path: _draw_hota(path, found.hota_per_alpha), **pictures},
    )


def _tracked(folder: Path, package: str) -> tuple[str, Table, Table, tuple[float, float]]:
    """(name, ground truth, tracks, image size) of a video."""
    sequence = read_sequence(folder)
    if sequence.ground_truth is None:
        raise InvalidArgumentError("no gt/gt.txt", where=str(folder), way_out="evaluate on videos with ground truth")
    detections = folder / "det" / "det.txt"
    if not detections.is_file():
        raise InvalidArgumentError("no det/det.txt", where=str(folder), way_out="give the detections of the video")
    info = sequence.info
    size = float(info.image_size[0]), float(info.image_size[1])
    total = max(info.length, read_table(detections).frame_count)
    frames = Tracker(package, image_size=size).sequence(detections, total)
    rows = [row for found in track(frames, f"tracking {info.name}", total) for row in found]
    return info.name, sequence.ground_truth, table_of_tracks(rows), size


def _picture(name: str, truth: Table, tracks: Table, size: tuple[float, float]) -> Callable[[Path], None]:
    from mambasdk_tracking.drawing import draw_tracks

    return lambda path: draw_tracks(path, tracks, truth=truth, image_size=size, title=name)


def _draw_hota(path: Path, per_alpha: Floats) -> None:
    """HOTA over the localisation threshold."""
    require_module("matplotlib", "drawing", "pip install 'mambasdk-tracking[plot]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.plot(np.arange(1, len(per_alpha) + 1) * 0.05, per_alpha, "o-", color="#08519c")
    axes.axhline(float(np.mean(per_alpha)), color="#d94801", linestyle="--", label=f"HOTA {np.mean(per_alpha):.3f}")
    axes.set(xlabel="IoU threshold", ylabel="HOTA at the threshold", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(path)
