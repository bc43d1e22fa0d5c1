"""The configuration of a MHS-VM, under upstream's argument names. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.nn.vss_config import VSSUNetConfig

HEADS = "CXSZ"  # snakes, diagonals, spirals, rows and columns; with three heads the last is left out


@dataclass
class MHSVMConfig(VSSUNetConfig):
    """A MHS-VM; the defaults are those of ISIC18 with four heads (arXiv 2406.05992). See VSSUNetConfig.

    head_num: 3 or 4. with_proj: norm and projection after the heads. gfu_t: how much of a pixel's coefficient of
    variation counts for nothing; upstream trains ISIC18 with 0.5 and ISIC17 with 0, and tests with 0.4.
    """

    head_num: int = 4
    with_proj: bool = True
    gfu_t: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.head_num not in (3, 4):
            raise InvalidArgumentError("bad head_num", where=where, expected="3 or 4", got=self.head_num)
        if self.gfu_t < 0:
            raise InvalidArgumentError("bad gfu_t", where=where, expected="0 or more", got=self.gfu_t)
        if min(self.dims) < self.head_num:
            raise InvalidArgumentError(
                "bad dims", where=where, expected="a channel for each head, at least", got=tuple(self.dims)
            )
        if not self.with_proj and any(width % self.head_num for width in self.dims):
            raise InvalidArgumentError(
                "bad dims",
                where=where,
                expected=f"widths that {self.head_num} divides, where with_proj is false",
                got=tuple(self.dims),
            )
