"""An image as a network takes it: transposed, cropped, normalised, resampled; and the way back for its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical import volumes
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.plans.plans_file import Configuration

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int16]
KIND = "medical_image"  # of the processor that does the same without Python
_LINEAR = 1  # the order by which labels and logits are resampled


@dataclass(frozen=True)
class Prepared:
    """image: float32 (C, *S) on the network's grid. labels: int16 (*S) or None.

    cropped: extents before resampling. box: where that lies in the transposed image, whose extents are `whole`.
    spacing: before resampling; target: after it.
    """

    image: Floats
    labels: Integers | None
    cropped: tuple[int, ...]
    box: tuple[slice, ...]
    whole: tuple[int, ...]
    spacing: tuple[float, ...]
    target: tuple[float, ...]


@dataclass(frozen=True)
class Preparation:
    """What the processor `medical_image` of a package is told; the fields are its options.

    normalization, mean, std, lower, upper: of each channel, see `volumes.normalise`. spacing: of the network's axes,
    two for a network of slices, whose first axis keeps its own. transpose: order of the file's axes. order, axis_order:
    of resampling, in general and along an axis that is much coarser, by `anisotropy`.
    """

    normalization: Sequence[str]
    spacing: Sequence[float]
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    transpose: Sequence[int] = (0, 1, 2)
    order: int = 3
    axis_order: int = 0
    anisotropy: float = 3.0

    @classmethod
    def of(cls, configuration: Configuration) -> Preparation:
        """What a plan's configuration asks for."""
        channels: dict[str, Any] = configuration.normalisation()
        transpose = list(configuration.plans.transpose_forward)
        return cls(spacing=list(configuration.spacing), transpose=transpose, **channels)

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], where: str) -> Preparation:
        """Of a package's processor entry. Raises InvalidArgumentError for another kind."""
        if entry.get("kind") != KIND:
            raise InvalidArgumentError(
                "the package does not say how images are prepared",
                where=where,
                expected=f"a processor of kind {KIND}",
                got=entry.get("kind"),
            )
        names = cls.__dataclass_fields__
        return cls(**{name: value for name, value in entry.items() if name in names})

    def to_entry(self) -> dict[str, Any]:
        """The manifest's processor entry."""
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": KIND, "channels": len(self.normalization), **lists, "crop": True}

    @property
    def planes(self) -> bool:
        """Whether the network sees slices."""
        return len(self.spacing) == 2

    def __call__(
        self, image: Floats, geometry: Geometry, labels: Integers | None = None, where: str = "image"
    ) -> Prepared:
        """Prepare (C, D, H, W) and, where there are any, its labels (D, H, W)."""
        if len(image) != len(self.normalization):
            raise InvalidArgumentError(
                "another number of channels", where=where, expected=len(self.normalization), got=len(image)
            )
        turned = np.ascontiguousarray(image.transpose(0, *(axis + 1 for axis in self.transpose)))
        spacing = tuple(geometry.spacing[axis] for axis in self.transpose)
        target = (spacing[0], *self.spacing) if self.planes else tuple(self.spacing)
        mask = volumes.nonzero_mask(turned)
        box = tuple(slice(*ends) for ends in volumes.nonzero_box(mask))
        mask = mask[box] if mask.any() else np.ones_like(mask)
        values = np.stack([self._normalised(channel[box], i, mask) for i, channel in enumerate(turned)])
        shape = volumes.new_shape(mask.shape, spacing, target)
        axis = self._axis(spacing, target)
        made = None
        if labels is not None:
            made = self._labels(labels.transpose(self.transpose)[box], shape, axis)
        resampled = volumes.resample(values, shape, self.order, self.axis_order, axis)
        return Prepared(resampled, made, mask.shape, box, turned.shape[1:], spacing, target)

    def logits_back(self, logits: Floats, prepared: Prepared) -> Floats:
        """Logits (C, *S) on the grid of the crop (C, *cropped)."""
        axis = self._axis(prepared.target, prepared.spacing)
        return volumes.resample(logits, prepared.cropped, _LINEAR, self.axis_order, axis)

    def place(self, values: npt.NDArray[Any], prepared: Prepared, fill: float = 0) -> npt.NDArray[Any]:
        """Values (*cropped), or with further axes before these, in the file's whole grid; `fill` where nothing was."""
        lead = values.ndim - 3
        whole = np.full((*values.shape[:lead], *prepared.whole), fill, values.dtype)
        window = (*(slice(None),) * lead, *prepared.box)
        whole[window] = values
        back = np.argsort(self.transpose)
        return np.ascontiguousarray(whole.transpose(*range(lead), *(int(axis) + lead for axis in back)))

    def _axis(self, spacing: Sequence[float], target: Sequence[float]) -> int | None:
        return 0 if self.planes else volumes.separate_axis(spacing, target, self.anisotropy)

    def _normalised(self, channel: Floats, index: int, mask: npt.NDArray[np.bool_]) -> Floats:
        figures = {
            name: float(values[index]) for name in ("mean", "std", "lower", "upper") if (values := getattr(self, name))
        }
        return volumes.normalise(channel, self.normalization[index], mask=mask, **figures)

    def _labels(self, labels: Integers, shape: Sequence[int], axis: int | None) -> Integers:
        """Each label by itself, linearly; a voxel gets the last label that has half of it or more."""
        if labels.shape == tuple(shape):
            return np.ascontiguousarray(labels)
        made = np.zeros(tuple(shape), np.int16)
        for value in np.unique(labels):
            one = (labels == value).astype(np.float32)[None]
            made[volumes.resample(one, shape, _LINEAR, self.axis_order, axis)[0] >= 0.5] = value
        return made
