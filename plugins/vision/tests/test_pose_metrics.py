"""Object keypoint similarity, average precision beside pycocotools, PCK."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from mambasdk_vision.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from mambasdk_vision.pose.metrics import (
    ImagePoses,
    average_precision,
    correct_keypoints,
    object_keypoint_similarity,
)


def scene(seed: int, images: int = 12) -> list[ImagePoses]:
    """People with unannotated keypoints, crowds and people without any; poses near them, far off, and twice."""
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(images):
        count = int(chance.integers(0, 5))
        truth = np.concatenate(
            [chance.uniform(0, 200, (count, 17, 2)), chance.choice([0, 1, 2], (count, 17, 1), p=[0.3, 0.2, 0.5])], 2
        )
        truth[chance.random(count) < 0.2, :, 2] = 0
        ignored = (chance.random(count) < 0.1) | ~(truth[:, :, 2] > 0).any(1)
        low, high = truth[:, :, :2].min(1), truth[:, :, :2].max(1)
        boxes = np.concatenate([low, high], 1) if count else np.zeros((0, 4))
        spread = chance.choice([1, 4, 12], (count, 1, 1))
        near = truth[:, :, :2] + chance.normal(size=(count, 17, 2)) * spread
        again = near + chance.normal(size=near.shape) * 3
        wrong = chance.uniform(0, 200, (int(chance.integers(0, 3)), 17, 2))
        points = np.concatenate([near[chance.random(count) < 0.8], again[chance.random(count) < 0.4], wrong])
        found = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2)
        areas = chance.uniform(500, 30000, count)
        crowd = ignored & (truth[:, :, 2] > 0).any(1)
        made.append(ImagePoses(truth, areas, boxes, ignored, crowd, found, chance.random(len(found)).round(1)))
    return made


def of_pycocotools(images: list[ImagePoses]) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, image in enumerate(images, start=1):
        for truth, area, box, crowd in zip(image.truth, image.areas, image.boxes, image.crowd, strict=True):
            seen = int((truth[:, 2] > 0).sum())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": 1,
                    "keypoints": truth.ravel().tolist(),
                    "num_keypoints": seen,
                    "area": float(area),
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "iscrowd": int(crowd),
                }
            )
        for found, score in zip(image.found, image.scores, strict=True):
            results.append(
                {"image_id": index, "category_id": 1, "keypoints": found.ravel().tolist(), "score": float(score)}
            )
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": i + 1} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = evaluation.COCOeval(truth, truth.loadRes(results), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(("AP", "AP50", "AP75"), run.stats[:3], strict=True)) | {"AR": run.stats[5]}


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    images = scene(seed)
    expected = of_pycocotools(images)
    found = average_precision(images, COCO.sigmas)
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0.05 < found["AP"] < 0.95


def test_similarity_by_hand() -> None:
    truth = np.array([[[10, 10, 2], [20, 20, 1], [99, 99, 0]]], float)
    image = ImagePoses(truth, np.array([400.0]), np.array([[5, 5, 25, 25.0]]), *np.zeros((2, 1), bool), truth)
    found = np.array([[[10, 10, 1], [23, 24, 1], [0, 0, 1]]], float)
    sigmas = [0.05, 0.1, 0.2]
    expected = (1 + np.exp(-25 / (2 * 400 * 0.2**2))) / 2
    np.testing.assert_allclose(object_keypoint_similarity(found, image, sigmas), [[expected]], rtol=1e-12)
    perfect = ImagePoses(truth, image.areas, image.boxes, image.ignored, image.crowd, truth, np.ones(1))
    assert average_precision([perfect], sigmas) == dict.fromkeys(("AP", "AP50", "AP75", "AR"), 1.0)
    missed = ImagePoses(truth, image.areas, image.boxes, image.ignored, image.crowd, truth[:0])
    assert average_precision([missed], sigmas) == dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    assert np.isnan(average_precision([], sigmas)["AP"])


def test_pck_by_hand() -> None:
    truth = np.array([[[0, 0, 2], [10, 0, 2], [0, 0, 0]], [[5, 5, 1], [5, 5, 1], [5, 5, 1]]], float)
    boxes = np.array([[0, 0, 20, 50], [0, 0, 100, 10]], float)  # reach 5 and 10
    found = np.array([[[3, 4, 1], [15.1, 0, 1], [0, 0, 1]], [[5, 5, 1], [15, 5, 1], [13, 12, 1]]], float)
    right, seen = correct_keypoints(found, truth, boxes)
    assert right.tolist() == [2, 1, 0]
    assert seen.tolist() == [2, 2, 1]


def test_keypoint_sets() -> None:
    pytest.importorskip("pycocotools.cocoeval")
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO.sigmas, Params("keypoints").kpt_oks_sigmas)
    assert len(COCO) == 17
    assert len(CROWDPOSE) == 14
    assert COCO.flip_pairs == tuple((i, i + 1) for i in range(1, 17, 2))
    assert CROWDPOSE.flip_pairs == tuple((i, i + 1) for i in range(0, 12, 2))
    assert CROWDPOSE.names[CROWDPOSE.partners[3]] == "left_elbow" == CROWDPOSE.names[2]
    assert KeypointSet(("tail", "left_ear")).partners == [0, 1]
