"""All metrics of all sequences, and together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_tracking.metrics.clear import clear, combine_clear
from mambasdk_tracking.metrics.hota import combine_hota, hota
from mambasdk_tracking.metrics.identity import combine_identity, identity
from mambasdk_tracking.metrics.matching import pair_frames
from mambasdk_tracking.metrics.preprocessing import Benchmark, preprocess
from mambasdk_tracking.mot import Floats, Table, find_sequences, read_table

_PERCENT = ("HOTA", "DetA", "AssA", "MOTA", "IDF1")
_COUNTS = ("IDSW", "Frag", "MT", "ML")


@dataclass
class Evaluation:
    """Metrics by name (TrackEval's names; shares from 0 to 1), of each sequence and of all together.

    hota_per_alpha: float64 (19) of all together, at IoU 0.05, 0.1, …, 0.95.
    """

    sequences: dict[str, dict[str, float]]
    total: dict[str, float]
    hota_per_alpha: Floats


def evaluate(sequences: Mapping[str, tuple[Table, Table]], benchmark: Benchmark = "plain") -> Evaluation:
    """Metrics of (ground truth, tracks) by the name of the sequence. benchmark: see `preprocess`.

    Needs SciPy. Raises InvalidArgumentError for no sequences, or rows without an id.
    """
    if not sequences:
        raise InvalidArgumentError("no sequences given", where="evaluate")
    parts = {}
    for name, (truth, tracks) in track(sequences.items(), "metrics", len(sequences)):
        pairs = pair_frames(*preprocess(truth, tracks, benchmark))
        parts[name] = hota(pairs), clear(pairs), identity(pairs)
    total_hota = combine_hota([part[0] for part in parts.values()])
    total = {
        **total_hota.metrics(),
        **combine_clear([part[1] for part in parts.values()]).metrics(),
        **combine_identity([part[2] for part in parts.values()]).metrics(),
    }
    each = {
        name: {metric: value for part in three for metric, value in part.metrics().items()}
        for name, three in parts.items()
    }
    return Evaluation(each, total, total_hota.per_alpha)


def evaluate_folder(
    truth: str | os.PathLike[str], results: str | os.PathLike[str], benchmark: Benchmark = "plain"
) -> Evaluation:
    """Metrics of `results`/SEQUENCE.txt against `truth`/SEQUENCE/gt/gt.txt, for every sequence of `truth`."""
    tables = {}
    for folder in find_sequences(truth):
        file = Path(results) / f"{folder.name}.txt"
        if not file.is_file():
            raise InvalidArgumentError(f"no results {file.name}", where=str(results), way_out=f"track {folder} first")
        tables[folder.name] = read_table(folder / "gt" / "gt.txt", ground_truth=True), read_table(file, results=True)
    return evaluate(tables, benchmark)


def format_table(evaluation: Evaluation) -> str:
    """The metrics that papers report, one line per sequence; shares in percent."""
    rows = [*evaluation.sequences.items()]
    if len(rows) > 1:
        rows.append(("all", evaluation.total))
    width = max(len("sequence"), *(len(name) for name, _ in rows))
    head = f"{'sequence':<{width}}" + "".join(f"{name:>7}" for name in (*_PERCENT, *_COUNTS))
    lines = [
        f"{name:<{width}}"
        + "".join(f"{100 * values[metric]:7.1f}" for metric in _PERCENT)
        + "".join(f"{values[metric]:7.0f}" for metric in _COUNTS)
        for name, values in rows
    ]
    return "\n".join([head, *lines])
