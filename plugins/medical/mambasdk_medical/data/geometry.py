"""Where the voxels of a file lie: what predictions need to come back on its grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError

_SPACING_TOLERANCE = 1e-3  # relative
_AFFINE_TOLERANCE = 1e-2  # mm


@dataclass(frozen=True)
class Geometry:
    """spacing: of the array's axes (D, H, W), in mm; pictures have (999, 1, 1), as in nnU-Net. shape: (D, H, W).

    affine: float64 (4, 4) of NIfTI's axes, which are the array's reversed, or None. source: what the file's writer
    needs to make another one on the same grid.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64] | None = None
    source: dict[str, Any] = field(default_factory=dict, compare=False)

    def check_same(self, other: Geometry, where: str, what: str) -> None:
        """Raise InvalidArgumentError where another file, `what`, lies on another grid."""
        if self.shape != other.shape:
            raise InvalidArgumentError(f"{what} has another shape", where=where, expected=self.shape, got=other.shape)
        if not np.allclose(self.spacing, other.spacing, rtol=_SPACING_TOLERANCE):
            raise InvalidArgumentError(
                f"{what} has another spacing",
                where=where,
                expected=f"{self.spacing} mm",
                got=f"{other.spacing} mm",
                way_out="resample one of them, or mend its header",
            )
        if self.affine is None or other.affine is None:
            return
        if not np.allclose(self.affine, other.affine, atol=_AFFINE_TOLERANCE):
            raise InvalidArgumentError(
                f"{what} lies elsewhere",
                where=where,
                expected=f"the affine {self.affine[:3].round(3).tolist()}",
                got=other.affine[:3].round(3).tolist(),
                way_out="mend one header: the grids must be the same",
            )
