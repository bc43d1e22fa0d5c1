"""Pictures of labels: colours where the labels are, grey elsewhere, and errors for maps of another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from PIL import Image

from mambasdk.errors import ShapeError
from mambasdk_medical.drawing import draw_overlay, draw_slices


def colourful(file: Path) -> float:
    """Share of the pixels that are not grey."""
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    return float((pixels.max(-1) - pixels.min(-1) > 30).mean())


def test_labels_are_drawn_over_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(300, 50, (40, 60))
    labels = np.zeros((40, 60), int)
    draw_overlay(image, labels, ["lesion", "border"], tmp_path / "none.png")
    assert colourful(tmp_path / "none.png") == 0
    labels[10:30, 20:50] = 2
    draw_overlay(image, labels, ["lesion", "border"], tmp_path / "some.png", truth=np.roll(labels, 3, 1))
    assert 0.05 < colourful(tmp_path / "some.png") < 0.5


def test_three_slices_with_voxels_as_tall_as_they_are(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((10, 40, 50))
    labels = np.zeros(volume.shape, int)
    labels[3:6, 10:20, 10:30] = 1
    draw_slices(volume, labels, ["organ"], (4.0, 1.0, 1.0), tmp_path / "slices.png", truth=labels)
    assert colourful(tmp_path / "slices.png") > 0.005


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="do not lie on the image"):
        draw_overlay(np.zeros((4, 5)), np.zeros((5, 4), int), ["x"], tmp_path / "x.png")
    with pytest.raises(ShapeError, match="truth do not lie"):
        draw_slices(
            np.zeros((4, 5, 6)),
            np.zeros((4, 5, 6), int),
            ["x"],
            (1, 1, 1),
            tmp_path / "x.png",
            np.zeros((4, 5, 5), int),
        )
