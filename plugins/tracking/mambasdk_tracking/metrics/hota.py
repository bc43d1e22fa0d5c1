"""HOTA: higher order tracking accuracy (Luiten et al., IJCV 2021), as TrackEval computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mambasdk_tracking.metrics.matching import EPSILON, FramePairs, best_pairs
from mambasdk_tracking.mot import Floats

ALPHAS: Floats = np.arange(0.05, 0.99, 0.05)  # 19 localisation thresholds


@dataclass
class Hota:
    """By threshold, float64 (19) each: counts, and association and localisation scores."""

    true_positives: Floats
    false_negatives: Floats
    false_positives: Floats
    association: Floats  # AssA
    association_recall: Floats
    association_precision: Floats
    localisation: Floats  # LocA

    @property
    def per_alpha(self) -> Floats:
        """HOTA at each threshold, (19)."""
        result: Floats = np.sqrt(self._detection() * self.association)
        return result

    def _detection(self) -> Floats:
        all_boxes = self.true_positives + self.false_negatives + self.false_positives
        result: Floats = self.true_positives / np.maximum(1, all_boxes)
        return result

    def metrics(self) -> dict[str, float]:
        """Means over the thresholds."""
        found = np.maximum(1, self.true_positives + self.false_negatives)
        claimed = np.maximum(1, self.true_positives + self.false_positives)
        values = {
            "HOTA": self.per_alpha,
            "DetA": self._detection(),
            "AssA": self.association,
            "DetRe": self.true_positives / found,
            "DetPr": self.true_positives / claimed,
            "AssRe": self.association_recall,
            "AssPr": self.association_precision,
            "LocA": self.localisation,
        }
        return {name: float(np.mean(value)) for name, value in values.items()}


def hota(pairs: FramePairs) -> Hota:
    """HOTA of one sequence."""
    truth_sizes, track_sizes = pairs.truth_sizes(), pairs.track_sizes()
    alignment = _alignment(pairs, truth_sizes, track_sizes)  # (G, T)
    matches = np.zeros((len(ALPHAS), pairs.truth_count, pairs.track_count))
    true_positives = np.zeros(len(ALPHAS))
    localisation = np.zeros(len(ALPHAS))
    for truth, tracks, similarity in pairs:
        if not len(truth) or not len(tracks):
            continue
        rows, columns = best_pairs(alignment[truth[:, None], tracks] * similarity)
        found = similarity[rows, columns]
        accepted = found >= ALPHAS[:, None] - EPSILON  # (19, matched)
        matches[:, truth[rows], tracks[columns]] += accepted
        true_positives += accepted.sum(1)
        localisation += np.where(accepted, found, 0).sum(1)
    either = np.maximum(1, truth_sizes[:, None] + track_sizes - matches)  # (19, G, T)

    def weighted(share: Floats) -> Floats:
        result: Floats = (matches * share).sum((1, 2)) / np.maximum(1, true_positives)
        return result

    return Hota(
        true_positives,
        truth_sizes.sum() - true_positives,
        track_sizes.sum() - true_positives,
        association=weighted(matches / either),
        association_recall=weighted(matches / np.maximum(1, truth_sizes)[:, None]),
        association_precision=weighted(matches / np.maximum(1, track_sizes)),
        localisation=np.maximum(1e-10, localisation) / np.maximum(1e-10, true_positives),
    )


def _alignment(pairs: FramePairs, truth_sizes: Floats, track_sizes: Floats) -> Floats:
    """How well each id fits each track over the whole sequence, (G, T)."""
    common = np.zeros((pairs.truth_count, pairs.track_count))
    for truth, tracks, similarity in pairs:
        union = similarity.sum(0) + similarity.sum(1)[:, None] - similarity
        common[truth[:, None], tracks] += np.where(union > EPSILON, similarity / np.maximum(union, EPSILON), 0)
    result: Floats = common / np.maximum(truth_sizes[:, None] + track_sizes - common, EPSILON)
    return result


def combine_hota(parts: Sequence[Hota]) -> Hota:
    """Over sequences: counts are summed, association and localisation weighted by true positives."""
    hits = np.stack([part.true_positives for part in parts])  # (sequences, 19)
    total = hits.sum(0)

    def mean(values: Sequence[Floats]) -> Floats:
        result: Floats = (np.stack(values) * hits).sum(0) / np.maximum(1, total)
        return result

    located = (np.stack([part.localisation for part in parts]) * hits).sum(0)
    return Hota(
        total,
        np.sum([part.false_negatives for part in parts], 0),
        np.sum([part.false_positives for part in parts], 0),
        association=mean([part.association for part in parts]),
        association_recall=mean([part.association_recall for part in parts]),
        association_precision=mean([part.association_precision for part in parts]),
        localisation=np.maximum(1e-10, located) / np.maximum(1e-10, total),
    )
