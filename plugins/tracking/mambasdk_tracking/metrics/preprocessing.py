"""What MOTChallenge leaves out of the count: ignored boxes, and tracks of things that only look like pedestrians."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.metrics.matching import EPSILON, best_pairs, box_iou
from mambasdk_tracking.mot import Table

Benchmark = Literal["plain", "mot15", "mot17", "mot20"]
BENCHMARKS: tuple[Benchmark, ...] = get_args(Benchmark)
PEDESTRIAN = 1
# person on vehicle, static person, distractor, reflection; MOT20 also has vehicles that do not move by engine.
_DISTRACTORS = {"mot17": (2, 7, 8, 12), "mot20": (2, 6, 7, 8, 12)}
_CLASSES = range(1, 14)  # of MOT16, MOT17 and MOT20: pedestrian to crowd
_LEAST_IOU = 0.5


def preprocess(truth: Table, tracks: Table, benchmark: Benchmark = "plain") -> tuple[Table, Table]:
    """Both tables without what `benchmark` does not count.

    "plain" (DanceTrack, SportsMOT) and "mot15" drop ground truth with flag 0. "mot17" (also MOT16) and "mot20" first
    match all tracks with all ground truth, drop those that lie on distractors, then keep pedestrians with flag 1.
    Raises InvalidArgumentError for an unknown benchmark, and for ground truth of a class that mot17 and mot20 lack.
    """
    if benchmark not in ("plain", "mot15", *_DISTRACTORS):
        raise InvalidArgumentError(
            "bad benchmark", where="preprocess", expected="plain, mot15, mot17 or mot20", got=repr(benchmark)
        )
    counted = truth.values != 0
    if benchmark not in _DISTRACTORS:
        return truth.select(counted), tracks
    if unknown := sorted(set(truth.classes.tolist()) - set(_CLASSES)):
        raise InvalidArgumentError(
            "ground truth has classes that the benchmark does not have",
            where=f"preprocess for {benchmark}",
            expected=f"{_CLASSES[0]} to {_CLASSES[-1]}",
            got=", ".join(map(str, unknown[:8])),
            way_out='use the benchmark "plain" for data without classes',
        )
    dropped = np.zeros(len(tracks), bool)
    for frame in np.unique(tracks.frames):
        ours = np.flatnonzero(tracks.frames == frame)
        theirs = np.flatnonzero(truth.frames == frame)
        if not len(theirs):
            continue
        score = box_iou(truth.boxes[theirs], tracks.boxes[ours])
        score[score < _LEAST_IOU - EPSILON] = 0
        rows, columns = best_pairs(score)
        hit = score[rows, columns] > EPSILON
        on_distractor = np.isin(truth.classes[theirs[rows[hit]]], _DISTRACTORS[benchmark])
        dropped[ours[columns[hit][on_distractor]]] = True
    return truth.select(counted & (truth.classes == PEDESTRIAN)), tracks.select(~dropped)
