"""Small data sets in nnU-Net's folders, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

LABELS = {"background": 0, "ball": 1, "box": 2}


def ball_and_box(chance: np.random.Generator, size: tuple[int, int, int]) -> tuple[Any, Any]:
    """A float32 image and uint8 labels (D, H, W): a bright ball, a brighter box, noise, an edge of zeros."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, extent) for extent in size), indexing="ij"))
    centre = chance.uniform(-0.2, 0.2, 3)[:, None, None, None]
    labels = np.zeros(size, np.uint8)
    labels[((grid - centre + 0.3) ** 2).sum(0) < 0.16] = 1
    labels[(np.abs(grid - centre - 0.4) < 0.25).all(0)] = 2
    image = 20 + 30.0 * labels + chance.normal(0, 2, size)
    edge = (np.abs(grid) > 0.95).any(0)
    image[edge], labels[edge] = 0, 0
    return image.astype(np.float32), labels


def write_nifti(path: Path, volume: Any, spacing: tuple[float, ...] = (1.0, 1.0, 1.0), origin: float = 0.0) -> None:
    """(D, H, W) as NIfTI with spacing (d, h, w) in mm."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = origin
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine), path)


def write_dataset(
    root: Path,
    *,
    cases: int = 5,
    size: tuple[int, int, int] = (10, 20, 24),
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    channels: int = 1,
    description: Mapping[str, Any] | None = None,
    change: Callable[[Any], Any] = lambda labels: labels,
) -> Path:
    """Volumes as NIfTI. description: over the fields of dataset.json. change: what becomes of the labels."""
    chance = np.random.default_rng(0)
    for index in range(cases):
        image, labels = ball_and_box(chance, size)
        name = f"case{index}"
        for channel in range(channels):
            write_nifti(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image + channel, spacing, float(index))
        write_nifti(root / "labelsTr" / f"{name}.nii.gz", change(labels), spacing, float(index))
    names = {str(channel): "MR" for channel in range(channels)}
    fields = {"channel_names": names, "labels": LABELS, "numTraining": cases, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**fields, **(description or {})}))
    return root


def write_pictures(root: Path, *, cases: int = 5, size: tuple[int, int] = (32, 32), colours: bool = False) -> Path:
    """Pictures as PNG, grey or of three colours in one file."""
    chance = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for index in range(cases):
        image, labels = ball_and_box(chance, (9, *size))
        pixels = image[5].clip(0, 255).astype(np.uint8)
        shown = np.stack([pixels] * 3, -1) if colours else pixels
        Image.fromarray(shown).save(root / "imagesTr" / f"case{index}_0000.png")
        Image.fromarray(labels[5]).save(root / "labelsTr" / f"case{index}.png")
    names = {"0": "R", "1": "G", "2": "B"} if colours else {"0": "grey"}
    fields = {"channel_names": names, "labels": LABELS, "numTraining": cases, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(fields))
    return root
