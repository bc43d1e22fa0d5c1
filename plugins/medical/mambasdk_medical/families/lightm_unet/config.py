"""The configuration of a LightM-UNet. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig

GROUPS = 8  # of every group norm


@dataclass
class LightMUNetConfig(MedicalConfig):
    """A LightM-UNet; the defaults are the released trainer's (arXiv 2403.05246).

    init_filters: f, channels of the first level, a multiple of 8; level i has f * 2^i. blocks_down: residual Mamba
    blocks of each level of the encoder, of which the last is the bottleneck. blocks_up: blocks of each level of the
    decoder, deepest first; one less than levels. decoder: "depthwise" as released; "dense" as the code first stood,
    with two full convolutions in each block of the decoder and full ones at both ends. piece_length: tokens that a
    residual Mamba layer computes at a time; it changes memory and nothing else.
    """

    init_filters: int = 32
    blocks_down: Sequence[int] = (1, 2, 2, 4)
    blocks_up: Sequence[int] = (1, 1, 1)
    decoder: Literal["depthwise", "dense"] = "depthwise"
    piece_length: int = 1 << 18

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        self.blocks_down, self.blocks_up = tuple(self.blocks_down), tuple(self.blocks_up)
        if self.init_filters < 1 or self.init_filters % GROUPS:
            raise InvalidArgumentError(
                "bad init_filters",
                where=where,
                expected=f"a multiple of {GROUPS}, for group norms",
                got=self.init_filters,
            )
        if not self.blocks_down or min(self.blocks_down) < 1:
            raise InvalidArgumentError(
                "bad blocks_down", where=where, expected="1 or more for each level", got=self.blocks_down
            )
        if len(self.blocks_up) != len(self.blocks_down) - 1 or any(count < 1 for count in self.blocks_up):
            raise InvalidArgumentError(
                "bad blocks_up",
                where=where,
                expected=f"{len(self.blocks_down) - 1} numbers of 1 or more: one less than blocks_down",
                got=self.blocks_up,
            )
        if self.decoder not in ("depthwise", "dense"):
            raise InvalidArgumentError(
                "bad decoder", where=where, expected="'depthwise' or 'dense'", got=repr(self.decoder)
            )
        if self.piece_length < 1:
            raise InvalidArgumentError("bad piece_length", where=where, expected="1 or more", got=self.piece_length)
        if any(extent % self.divisor for extent in self.patch_size):
            raise InvalidArgumentError(
                "bad patch_size",
                where=where,
                expected=f"multiples of {self.divisor}: {len(self.blocks_up)} halvings",
                got=self.patch_size,
            )

    @property
    def divisor(self) -> int:
        """Every extent of a patch is a multiple of it."""
        return 1 << len(self.blocks_up)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level."""
        return tuple(self.init_filters << level for level in range(len(self.blocks_down)))
