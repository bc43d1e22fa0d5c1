"""An image as a network takes it: transposed, cropped, normalised, resampled; and the way back for its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical import volumes
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.plans.plans_file import Configuration
from mambasdk_medical.preprocessing.crop import crop_to_nonzero
from mambasdk_medical.preprocessing.resampling import Resampling, new_shape

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """image: float32 (C, *S) on the network's grid. labels: int16 (*S) or None.

    cropped: extents before resampling. box: where that lies in the transposed image, whose extents are `whole`.
    spacing: before resampling; target: after it.
    """

    image: Floats
    labels: npt.NDArray[np.int16] | None
    cropped: tuple[int, ...]
    box: tuple[slice, ...]
    whole: tuple[int, ...]
    spacing: tuple[float, ...]
    target: tuple[float, ...]


@dataclass(frozen=True)
class Preparation:
    """transpose: order of the file's axes. spacing: of the network's axes, two for a network of slices.

    normalisation: of each channel, see `volumes.normalise`; each entry has its "scheme".
    """

    transpose: tuple[int, ...]
    spacing: tuple[float, ...]
    normalisation: Sequence[Mapping[str, Any]]
    resampling: Resampling = field(default_factory=Resampling)

    @classmethod
    def of(cls, configuration: Configuration) -> Preparation:
        """What a plan's configuration asks for."""
        return cls(configuration.plans.transpose_forward, configuration.spacing, configuration.normalisation())

    @classmethod
    def from_options(cls, options: Mapping[str, Any], where: str) -> Preparation:
        """Of a package's head options."""
        try:
            return cls(
                tuple(options.get("transpose_forward") or (0, 1, 2)),
                tuple(options["spacing"]),
                options["normalisation"],
                Resampling(**(options.get("resample") or {})),
            )
        except (KeyError, TypeError) as error:
            raise InvalidArgumentError(
                f"the package does not say how images are prepared: {error}", where=where
            ) from error

    def to_options(self) -> dict[str, Any]:
        """As head options have it."""
        return {
            "transpose_forward": list(self.transpose),
            "spacing": list(self.spacing),
            "normalisation": [dict(entry) for entry in self.normalisation],
            "resample": self.resampling.to_json(),
        }

    @property
    def planes(self) -> bool:
        """Whether the network sees slices."""
        return len(self.spacing) == 2

    def __call__(
        self, image: Floats, geometry: Geometry, labels: npt.NDArray[np.int16] | None = None, where: str = "image"
    ) -> Prepared:
        """Prepare (C, D, H, W) and, where there are any, its labels (D, H, W)."""
        if len(image) != len(self.normalisation):
            raise InvalidArgumentError(
                "another number of channels", where=where, expected=len(self.normalisation), got=len(image)
            )
        turned = image.transpose(0, *(axis + 1 for axis in self.transpose))
        spacing = tuple(geometry.spacing[axis] for axis in self.transpose)
        target = (spacing[0], *self.spacing) if self.planes else self.spacing
        part = crop_to_nonzero(np.ascontiguousarray(turned))
        schemes = [str(entry["scheme"]) for entry in self.normalisation]
        values = volumes.normalise(part.image, schemes, self.normalisation, part.mask)
        shape = new_shape(part.mask.shape, spacing, target)
        axis = self.resampling.axis(spacing, target, planes=self.planes)
        made = None
        if labels is not None:
            made = self.resampling.labels(labels.transpose(self.transpose)[part.box], shape, axis)
        return Prepared(
            self.resampling.images(values, shape, axis),
            made,
            part.mask.shape,
            part.box,
            turned.shape[1:],
            spacing,
            target,
        )

    def logits_back(self, logits: Floats, prepared: Prepared) -> Floats:
        """Logits (C, *S) on the grid of the crop (C, *cropped)."""
        axis = self.resampling.axis(prepared.target, prepared.spacing, planes=self.planes)
        return self.resampling.logits(logits, prepared.cropped, axis)

    def place(self, values: npt.NDArray[Any], prepared: Prepared, fill: float = 0) -> npt.NDArray[Any]:
        """Values (*cropped), or with further axes before these, in the file's whole grid; `fill` where nothing was."""
        lead = values.ndim - 3
        whole = np.full((*values.shape[:lead], *prepared.whole), fill, values.dtype)
        whole[(..., *prepared.box)] = values
        back = np.argsort(self.transpose)
        return np.ascontiguousarray(whole.transpose(*range(lead), *(axis + lead for axis in back)))
