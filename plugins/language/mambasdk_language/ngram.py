"""An order-n byte n-gram model, interpolated modified Kneser-Ney: the baseline that a language model has to beat.

Source: Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling (1998), section 4.1.6; the
three discounts of each order are estimated from the training text as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track

Bytes = NDArray[np.uint8]
_Keys = NDArray[np.uint64]
_Value = TypeVar("_Value", np.int64, np.float64)
_MAX_ORDER = 8  # bytes in a 64-bit key


@dataclass
class _Order:
    """Counts of one order k: n-grams of k bytes, and their contexts of k-1 bytes. Keys are sorted."""

    grams: _Keys
    counts: NDArray[np.int64]  # per n-gram
    contexts: _Keys
    totals: NDArray[np.int64]  # per context: sum of its counts
    reserved: NDArray[np.float64]  # per context: sum of its discounts
    discounts: NDArray[np.float64]  # by count 0, 1, 2, 3 or more


class NgramModel:
    """Probabilities of the next byte from the `order - 1` bytes before it; every text begins afresh."""

    def __init__(self, texts: Sequence[bytes], order: int = 5) -> None:
        if not 1 <= order <= _MAX_ORDER:
            raise InvalidArgumentError("bad order", where="NgramModel", expected=f"1 to {_MAX_ORDER}", got=order)
        self.order = order
        self._orders: list[_Order] = []  # from 1 to `order`
        padded = _concatenate(texts, order)
        counted: tuple[_Keys, NDArray[np.int64]] | None = None
        for k in track(range(order, 0, -1), "counting n-grams", order):
            if counted is None:
                counted = np.unique(_keys(padded, order, k), return_counts=True)
            else:
                # Below the highest order an n-gram counts once for each byte that comes before it.
                counted = np.unique(counted[0] & np.uint64((1 << 8 * k) - 1), return_counts=True)
            self._orders.insert(0, _order(*counted))

    def bits_per_byte(self, texts: Sequence[bytes]) -> float:
        """Mean of -log2 p over all bytes of the texts."""
        padded = _concatenate(texts, self.order)
        if not any(len(text) for text in texts):
            raise InvalidArgumentError("no bytes to measure", where="NgramModel.bits_per_byte")
        p = np.full(sum(map(len, texts)), 1 / 256)
        for k, order in enumerate(self._orders, start=1):
            p = _interpolate(order, _keys(padded, self.order, k), p)
        return float(-np.log2(p).mean())


def _interpolate(order: _Order, keys: _Keys, lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """p_k = (count - discount) / total + reserved / total * p_(k-1); p_(k-1) where the context is unknown."""
    count = _look_up(order.grams, order.counts, keys)
    contexts = keys >> np.uint64(8)
    total = _look_up(order.contexts, order.totals, contexts)
    reserved = _look_up(order.contexts, order.reserved, contexts)
    known = np.maximum(total, 1)
    return np.where(
        total > 0, (count - order.discounts[np.minimum(count, 3)]) / known + reserved / known * lower, lower
    )


def _order(grams: _Keys, counts: NDArray[np.int64]) -> _Order:
    n1, n2, n3, n4 = (max(int((counts == n).sum()), 1) for n in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    # On tiny texts the estimates leave their range; a discount lies between 0 and the count.
    discounts = np.array([0.0, *(min(max(d, 0.05 * n), 0.95 * n) for n, d in enumerate(estimates, start=1))])
    contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
    totals = np.add.reduceat(counts, first)
    reserved = np.add.reduceat(discounts[np.minimum(counts, 3)], first)
    return _Order(grams, counts, contexts, totals, reserved, discounts)


def _look_up(keys: _Keys, values: NDArray[_Value], wanted: _Keys) -> NDArray[_Value]:
    """values[key], 0 for an unknown key."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: NDArray[_Value] = np.where(keys[index] == wanted, values[index], values.dtype.type(0))
    return found


def _concatenate(texts: Sequence[bytes], order: int) -> list[Bytes]:
    """Each text with order - 1 zero bytes in front, which stand for its beginning."""
    padding = bytes(order - 1)
    return [np.frombuffer(padding + text, np.uint8) for text in texts]


def _keys(padded: Sequence[Bytes], order: int, k: int) -> _Keys:
    """The n-gram of k bytes that ends at each byte of the texts, as a big-endian number."""
    parts = []
    for text in padded:
        keys = np.zeros(len(text) - order + 1, np.uint64)
        for offset in range(k):
            start = order - k + offset
            keys = keys << np.uint64(8) | text[start : start + len(keys)].astype(np.uint64)
        parts.append(keys)
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
