"""What a data set is like: spacings, shapes after the crop, intensities of the foreground. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk_medical.data.dataset import Case, Dataset, read_case
from mambasdk_medical.volumes import nonzero_box, nonzero_mask

_SAMPLES = 10_000_000  # intensities of the foreground that are looked at, of all cases and each channel


@dataclass(frozen=True)
class Fingerprint:
    """spacings: (D, H, W) of every case. shapes_after_crop: in voxels. relative_size: median share that the crop keeps.

    intensities: of each channel, over the foreground of all cases: mean, median, std, min, max, percentile_00_5,
    percentile_99_5. Field names in JSON are those of nnU-Net's `dataset_fingerprint.json`.
    """

    spacings: list[list[float]]
    shapes_after_crop: list[list[int]]
    intensities: dict[str, dict[str, float]]
    relative_size: float

    def to_json(self) -> dict[str, Any]:
        """As nnU-Net writes it."""
        return {
            "foreground_intensity_properties_per_channel": self.intensities,
            "median_relative_size_after_cropping": self.relative_size,
            "shapes_after_crop": self.shapes_after_crop,
            "spacings": self.spacings,
        }


def fingerprint(
    dataset: Dataset,
    cases: list[Case],
    *,
    seed: int = 1234,
    progress: Callable[[list[Case]], Iterable[Case]] = lambda cases: cases,
) -> Fingerprint:
    """Read every training case once. Raises InvalidArgumentError for files that do not fit, see `read_case`.

    A data set without any foreground has the intensities of all voxels.
    """
    chance = np.random.default_rng(seed)
    spacings, shapes, shares = [], [], []
    samples: list[list[npt.NDArray[np.float32]]] = [[] for _ in dataset.channel_names]
    everything: list[list[npt.NDArray[np.float32]]] = [[] for _ in dataset.channel_names]
    each = max(_SAMPLES // len(cases), 1)
    for case in progress(cases):
        image, labels, geometry = read_case(case, dataset)
        box = tuple(slice(*ends) for ends in nonzero_box(nonzero_mask(image)))
        part = labels[box]
        inside = part > 0
        if dataset.labels.ignore is not None:
            inside &= part != dataset.labels.ignore
        for channel, whole in enumerate(image):
            values = whole[box]
            for taken, found in ((samples, values[inside]), (everything, values.ravel())):
                if taken is everything and len(everything[channel]) > 4:
                    continue
                taken[channel].append(found if len(found) <= each else chance.choice(found, each, replace=False))
        spacings.append([float(value) for value in geometry.spacing])
        shapes.append([int(extent) for extent in part.shape])
        shares.append(part.size / labels.size)
    intensities = {
        str(channel): _properties(np.concatenate(found) if sum(map(len, found)) else np.concatenate(rest))
        for channel, (found, rest) in enumerate(zip(samples, everything, strict=True))
    }
    return Fingerprint(spacings, shapes, intensities, float(np.median(shares)))


def _properties(values: npt.NDArray[np.float32]) -> dict[str, float]:
    values = values.astype(np.float64)
    low, middle, high = np.percentile(values, (0.5, 50, 99.5))
    return {
        "mean": float(values.mean()),
        "median": float(middle),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_00_5": float(low),
        "percentile_99_5": float(high),
    }
