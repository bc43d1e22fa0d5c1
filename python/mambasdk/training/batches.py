"""Which examples each training step sees. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import distributed


class Batches:
    """Shuffled batches of a data set of `size` examples, as a function of (seed, step) alone.

    Every epoch is one permutation of all examples; a batch that does not fit into the rest of an epoch is filled from
    the next one, so all batches have `batch` examples and no example is left out. Of several processes each gets its
    own `batch` examples: those of ranks 0, 1, … together are the batch of one process with so many times the examples.
    """

    def __init__(
        self, size: int, batch: int, seed: int = 0, *, rank: int | None = None, processes: int | None = None
    ) -> None:
        """rank, processes: None for those of the running process group, 0 of 1 where there is none."""
        for name, value in (("size", size), ("batch", batch)):
            if value < 1:
                raise InvalidArgumentError(f"bad {name}", where="Batches", expected="1 or more", got=value)
        self.size = size
        self.batch = batch
        self.seed = seed
        self._rank = distributed.rank() if rank is None else rank
        self._processes = distributed.world_size() if processes is None else processes
        self._epoch = -1
        self._order = np.empty(0, np.int64)  # (size,), of self._epoch

    def at(self, step: int) -> NDArray[np.int64]:
        """Indices (batch,) of the examples of a step, int64; steps count from 0."""
        if step < 0:
            raise InvalidArgumentError("bad step", where="Batches", expected="0 or more", got=step)
        first = (step * self._processes + self._rank) * self.batch
        last = first + self.batch
        parts = []
        while first < last:
            epoch, start = divmod(first, self.size)
            part = self._permutation(epoch)[start : start + last - first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts)

    def epoch(self, step: int) -> int:
        """How often every example was seen before this step."""
        return step * self.batch * self._processes // self.size

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            self._epoch = epoch
        return self._order
