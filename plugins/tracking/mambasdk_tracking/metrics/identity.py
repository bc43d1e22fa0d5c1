"""Identity metrics (Ristani et al., 2016), as TrackEval computes them, at an IoU of 0.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mambasdk_tracking.metrics.matching import FramePairs, best_pairs

_LEAST_IOU = 0.5


@dataclass
class Identity:
    """Boxes under the right identity, missed, and claimed wrongly; they add up over sequences."""

    true_positives: float
    false_negatives: float
    false_positives: float

    def metrics(self) -> dict[str, float]:
        """IDF1, recall, precision and the counts."""
        hits, missed, wrong = self.true_positives, self.false_negatives, self.false_positives
        return {
            "IDF1": hits / max(1, hits + 0.5 * wrong + 0.5 * missed),
            "IDR": hits / max(1, hits + missed),
            "IDP": hits / max(1, hits + wrong),
            "IDTP": hits,
            "IDFN": missed,
            "IDFP": wrong,
        }


def identity(pairs: FramePairs) -> Identity:
    """Identity metrics of one sequence.

    One assignment of ids to tracks for all frames that minimises IDFN + IDFP. Every pair of frames under the right
    identity takes one from both, and leaving an id or a track alone costs all its boxes: so it is the assignment with
    the most common frames.
    """
    common = np.zeros((pairs.truth_count, pairs.track_count))
    for truth, tracks, similarity in pairs:
        common[truth[:, None], tracks] += similarity >= _LEAST_IOU
    rows, columns = best_pairs(common)
    hits = float(common[rows, columns].sum())
    return Identity(hits, float(pairs.truth_sizes().sum()) - hits, float(pairs.track_sizes().sum()) - hits)


def combine_identity(parts: Sequence[Identity]) -> Identity:
    """Over sequences: the sums."""
    return Identity(
        sum(part.true_positives for part in parts),
        sum(part.false_negatives for part in parts),
        sum(part.false_positives for part in parts),
    )
