"""A tensor of an exported graph as the native program has it: in memory its dims may lie in another order.

Operations on maps work channel-last; a permutation in the graph is only remembered here. It becomes a view, or a copy,
where an operation needs the order of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from mambasdk.lowering.extents import Extent, is_same, product
from mambasdk.lowering.program import Value


@dataclass(frozen=True)
class Operand:
    """A value of the program.

    shape: extents in the graph's order. order: dim i of the graph is dim order[i] of the value. breaks: dims d of the
    value that cannot be merged with d - 1 without a copy, since the value is part of a larger one there or repeats
    itself. dtype: what the program holds. Integers that the graph computes are kept in float32, exactly up to 2^24;
    integer inputs and indices are "i32".
    """

    value: Value
    shape: tuple[Extent, ...]
    order: tuple[int, ...] = field(default=())
    breaks: frozenset[int] = frozenset()
    dtype: str = "f32"

    def __post_init__(self) -> None:
        if len(self.order) != len(self.shape):
            object.__setattr__(self, "order", tuple(range(len(self.shape))))

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def is_fixed(self) -> bool:
        """Whether weights alone decide it, so that it is computed once at load."""
        return self.value.reference.startswith("@")

    @property
    def inverse(self) -> tuple[int, ...]:
        """Dim p of the value is dim inverse[p] of the graph."""
        return tuple(self.order.index(p) for p in range(self.ndim))

    @property
    def stored_shape(self) -> tuple[Extent, ...]:
        """Extents in the order of the value."""
        return tuple(self.shape[i] for i in self.inverse)

    def dim(self, index: int) -> int:
        """A dim of the graph that may be counted from the end."""
        return index + self.ndim if index < 0 else index

    def permuted(self, dims: Sequence[int]) -> Operand:
        """Dim i of the result is dim dims[i] of this."""
        dims = [self.dim(d) for d in dims]
        shape, order = tuple(self.shape[d] for d in dims), tuple(self.order[d] for d in dims)
        return replace(self, shape=shape, order=order)


def regrouped(x: Operand, shape: Sequence[Extent]) -> tuple[list[Extent], tuple[int, ...], frozenset[int]] | None:
    """How the value of `x` is reshaped so that the graph sees `shape`: its extents, the order, the breaks.

    None where that needs a copy.
    """
    groups = _groups(x.shape, shape)
    if groups is None:
        return None
    for before, _ in groups:
        places = [x.order[i] for i in before if not is_same(x.shape[i], 1)]
        if any(b != a + 1 and not _ones(x, a, b) for a, b in pairwise(places)):
            return None
        if any(d in x.breaks for a, b in pairwise(places) for d in range(a + 1, b + 1)):
            return None
    # Groups in the order of the value; one without a dim that is longer than 1 keeps its place in the graph.
    position: list[float] = []
    for index, (before, _) in enumerate(groups):
        places = [x.order[i] for i in before if not is_same(x.shape[i], 1)]
        position.append(places[0] if places else (position[index - 1] + 0.001 if index else -1))
    sequence = sorted(range(len(groups)), key=lambda g: position[g])
    stored: list[Extent] = []
    order = [0] * len(shape)
    breaks = set()
    seen = -1  # place of the last dim so far that is longer than 1; a break behind it outlives dims of 1 that go
    for g in sequence:
        before, after = groups[g]
        places = [x.order[i] for i in before if not is_same(x.shape[i], 1)]
        if places:
            if any(d in x.breaks for d in range(seen + 1, places[0] + 1)):
                breaks.add(len(stored))
            seen = places[-1]
        for i in after:
            order[i] = len(stored)
            stored.append(shape[i])
    return stored, tuple(order), frozenset(breaks)


def _ones(x: Operand, a: int, b: int) -> bool:
    """Whether all dims of the value between a and b are 1."""
    return a < b and all(is_same(x.stored_shape[p], 1) for p in range(a + 1, b))


def _groups(before: Sequence[Extent], after: Sequence[Extent]) -> list[tuple[list[int], list[int]]] | None:
    """The smallest runs of dims on both sides that have the same product, in order."""
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        found = _next_cut(before, after, i, j)
        if found is None:
            return None
        groups.append((list(range(i, found[0])), list(range(j, found[1]))))
        i, j = found
    return groups


def _next_cut(before: Sequence[Extent], after: Sequence[Extent], i: int, j: int) -> tuple[int, int] | None:
    for total in range(1, len(before) - i + len(after) - j + 1):
        for count in range(min(total, len(before) - i), -1, -1):
            if not 0 <= total - count <= len(after) - j:
                continue
            end = (i + count, j + total - count)
            if count in (0, total):  # a run on one side only: dims of 1
                run = before[i : end[0]] if count else after[j : end[1]]
                if is_same(product(run), 1):
                    return end
            elif is_same(product(before[i : end[0]]), product(after[j : end[1]])):
                return end
    return None
