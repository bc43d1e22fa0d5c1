"""Predictions of files: label maps on the files' grids, probabilities, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk_medical.data.dataset import Case, check_channels
from mambasdk_medical.data.files import read_image, read_labels, write_labels
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.inference.predictor import Predicted, Predictor

_LABELS_OF_A_SERIES = ".nii.gz"  # what a DICOM series gets


def predict_case(predictor: Predictor, case: Case, *, probabilities: bool = False) -> tuple[Predicted, Geometry]:
    """Read and predict one case."""
    image, geometry = read_image(case.images)
    check_channels(image, len(predictor.channels), case)
    return predictor(image, geometry, probabilities=probabilities, where=str(case.images[0])), geometry


def predict_cases(
    predictor: Predictor,
    cases: Iterable[Case],
    folder: Path,
    *,
    probabilities: bool = False,
    overlays: Path | None = None,
) -> list[dict[str, Any]]:
    """Write the label map of every case into `folder`; returns what was found, a row for each.

    probabilities: NAME.npz with `probabilities`, float16 (K, D, H, W), beside it. overlays: folder for NAME.png.
    """
    rows = []
    for case in cases:
        made, geometry = predict_case(predictor, case, probabilities=probabilities)
        path = folder / f"{case.name}{predictor.file_ending or _LABELS_OF_A_SERIES}"
        write_labels(path, made.labels, geometry)
        if made.probabilities is not None:
            np.savez_compressed(folder / f"{case.name}.npz", probabilities=made.probabilities.astype(np.float16))
        if overlays is not None:
            overlays.mkdir(parents=True, exist_ok=True)
            draw(
                read_image(case.images)[0], made.labels, geometry, predictor, overlays / f"{case.name}.png", case.labels
            )
        voxel = float(np.prod(geometry.spacing)) / 1000
        count = {name: int(np.isin(made.labels, values).sum()) for name, values in predictor.labels.foreground.items()}
        rows.append(
            {
                "case": case.name,
                "labels": str(path),
                "voxels": count,
                "volume_ml": {name: number * voxel for name, number in count.items()}
                if geometry.affine is not None
                else {},
            }
        )
    return rows


def draw_case(predictor: Predictor, images: Sequence[Path], out: Path) -> None:
    """Write the PNG `out` of what is found in one case."""
    made, geometry = predict_case(predictor, Case(out.stem, tuple(images)))
    draw(read_image(images)[0], made.labels, geometry, predictor, out)


def draw(
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer[Any]],
    geometry: Geometry,
    predictor: Predictor,
    out: Path,
    truth: Path | None = None,
) -> None:
    """Write the PNG `out`: labels over the first channel or the colours of an image (C, D, H, W), beside the truth."""
    from mambasdk_medical.drawing import draw_overlay, draw_slices

    names = predictor.labels.names_by_value
    true = None if truth is None else read_labels(truth)[0]
    if image.shape[1] == 1:
        colours = image[:, 0].transpose(1, 2, 0) if len(image) == 3 else image[0, 0]
        if len(image) == 3:
            colours = colours / max(float(colours.max()), 1e-8)
        draw_overlay(colours, labels[0], names, out, None if true is None else true[0])
    else:
        draw_slices(image[0], labels, names, geometry.spacing, out, true)
