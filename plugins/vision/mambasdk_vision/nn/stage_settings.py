"""What the configurations of encoders of several stages have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mambasdk_vision.nn.image_input import pair
from mambasdk_vision.nn.stages import check_out_indices, stage_widths


class StageSettings:
    """Base of a dataclass with these fields, whose `__post_init__` calls `read_stages`; see `stages.StagedConfig`.

    depths: blocks of each stage. imgsize: side of the images that a package's processor makes, or height and width.
    out_indices: stages whose maps come out, each through its own norm; empty for a classifier.
    """

    depths: Sequence[int]
    imgsize: int | Sequence[int]
    out_indices: Sequence[int]
    _widths: tuple[int, ...]

    def read_stages(self, dims: int | Sequence[int]) -> tuple[int, ...]:
        """Make tuples of the fields; returns channels of every stage: `dims`, or that number and its doubles.

        Raises InvalidArgumentError for values that cannot be used.
        """
        where = type(self).__name__
        self.depths = tuple(self.depths)
        self._widths = stage_widths(dims, self.depths, where)
        self.out_indices = check_out_indices(self.out_indices, len(self.depths), where)
        self.imgsize = pair(self.imgsize, "imgsize", where)
        return self._widths

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""
        return pair(self.imgsize, "imgsize", type(self).__name__)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every stage."""
        return self._widths
