"""CLEAR MOT metrics (Bernardin and Stiefelhagen, 2008), as TrackEval computes them, at an IoU of 0.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from mambasdk_tracking.metrics.matching import EPSILON, FramePairs, best_pairs

_LEAST_IOU = 0.5
_MOSTLY, _HARDLY = 0.8, 0.2  # shares of an object's life in which it is tracked


@dataclass
class Clear:
    """Counts that add up over sequences."""

    true_positives: float = 0
    false_negatives: float = 0
    false_positives: float = 0
    switches: float = 0
    mostly_tracked: float = 0
    partly_tracked: float = 0
    mostly_lost: float = 0
    fragments: float = 0
    similarity: float = 0

    def metrics(self) -> dict[str, float]:
        """MOTA, MOTP and the counts. Without any ground truth MOTA is 0, as TrackEval has it for such a sequence."""
        truth = self.true_positives + self.false_negatives
        return {
            "MOTA": (self.true_positives - self.false_positives - self.switches) / truth if truth else 0.0,
            "MOTP": self.similarity / max(1, self.true_positives),
            "CLR_TP": self.true_positives,
            "CLR_FN": self.false_negatives,
            "CLR_FP": self.false_positives,
            "IDSW": self.switches,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "Frag": self.fragments,
        }


def clear(pairs: FramePairs) -> Clear:
    """CLEAR of one sequence: matches of the previous frame are kept while they overlap enough."""
    result = Clear()
    seen, matched_frames = np.zeros(pairs.truth_count), np.zeros(pairs.truth_count)
    last = np.full(pairs.truth_count, -1)  # the track that each object had last
    previous = np.full(pairs.truth_count, -1)  # in the frame before
    begins = np.zeros(pairs.truth_count)
    for truth, tracks, similarity in pairs:
        seen[truth] += 1
        if not len(truth) or not len(tracks):
            result.false_negatives += len(truth)
            result.false_positives += len(tracks)
            continue
        score = 1000.0 * (tracks == previous[truth][:, None]) + similarity
        score[similarity < _LEAST_IOU - EPSILON] = 0
        rows, columns = best_pairs(score)
        kept = score[rows, columns] > EPSILON
        rows, columns = rows[kept], columns[kept]
        objects, found = truth[rows], tracks[columns]
        result.switches += int(((last[objects] >= 0) & (last[objects] != found)).sum())
        matched_frames[objects] += 1
        last[objects] = found
        untracked = previous < 0
        previous[:] = -1
        previous[objects] = found
        begins += untracked & (previous >= 0)
        result.true_positives += len(rows)
        result.false_negatives += len(truth) - len(rows)
        result.false_positives += len(tracks) - len(rows)
        result.similarity += float(similarity[rows, columns].sum())
    share = matched_frames[seen > 0] / seen[seen > 0]
    result.mostly_tracked = int((share > _MOSTLY).sum())
    result.partly_tracked = int((share >= _HARDLY).sum()) - result.mostly_tracked
    result.mostly_lost = pairs.truth_count - result.mostly_tracked - result.partly_tracked
    result.fragments = int((begins[begins > 0] - 1).sum())
    return result


def combine_clear(parts: Sequence[Clear]) -> Clear:
    """Over sequences: the sums."""
    return Clear(*(sum(getattr(part, entry.name) for part in parts) for entry in fields(Clear)))
