"""Top-down pose for the Trainer: crops of people, heat maps, held-out AP and PCK. Needs torch."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mambasdk.training import Batches
from mambasdk.training.distributed import rank
from mambasdk_vision.pose.augmentation import CropAugmentation
from mambasdk_vision.pose.crops import PersonCrops
from mambasdk_vision.pose.metrics import Array, ImagePoses, average_precision, correct_keypoints
from mambasdk_vision.pose.targets import gaussian_heat_maps, heat_map_loss
from mambasdk_vision.processors import PoseEstimation


class PoseTask:
    """Squared error of heat maps on augmented crops; metrics of held-out people whose boxes are given.

    model: crops (B, 3, H, W) to heat maps (B, K, h, w). train, held_out: people. sigma: of the Gaussians, in pixels of a
    heat map. flip_test: metrics are of the average with the mirrored crops.
    """

    unit = "people"
    goals: ClassVar = {"AP": "max", "AP50": "max", "AP75": "max", "AR": "max", "PCK": "max", "loss": "min"}

    def __init__(
        self,
        model: nn.Module,
        train: PersonCrops,
        held_out: PersonCrops,
        *,
        batch: int,
        seed: int = 0,
        augmentation: CropAugmentation | None = None,
        sigma: float = 2.0,
        flip_test: bool = True,
    ) -> None:
        self.model = model
        self._train, self._held_out = train, held_out
        self.data = f"{len(train):,} people, {len(held_out):,} held out, {len(train.data.keypoint_set)} keypoints"
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        self._augmentation = augmentation or CropAugmentation()
        self._sigma = sigma
        self._flip_test = flip_test
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(error of the step's batch, people in it)."""
        indices = self._batches.at(step)
        crops, keypoints = self._train.augmented(indices, self._augmentation, self._seed, step, rank())
        return self._error(self.model(self._tensor(crops)), keypoints, self._train), len(indices)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """The crop of one person."""
        return {"image": self._tensor(self._train.take(np.zeros(1, np.int64))["image"])}, 1

    def evaluate(self) -> dict[str, float]:
        """COCO's scores, PCK@0.1 and the error of held-out people."""
        found, scores, error = self.predict()
        return {**scored(self._held_out, found, scores), "loss": error}

    def predict(self) -> tuple[Array, Array, float]:
        """Keypoints (n, K, 3) of the held-out people in their images, scores (n), and the mean error."""
        crops = self._held_out
        head = PoseEstimation(flip_pairs=[list(pair) for pair in crops.data.keypoint_set.flip_pairs])
        keypoints, scores, error = [], [], 0.0
        for start in range(0, len(crops), self._batches.batch):
            indices = np.arange(start, min(start + self._batches.batch, len(crops)))
            given = crops.take(indices)
            image = self._tensor(given["image"])
            maps = self.model(image)
            error += float(self._error(maps, crops.keypoints[indices], crops)) * len(indices)
            mirrored = _array(self.model(image.flip(-1))) if self._flip_test else None
            made = head(_array(maps), flipped=mirrored, crops=given)
            keypoints.append(made["keypoints"])
            scores.append(made["scores"])
        return (
            np.concatenate(keypoints).astype(np.float64),
            np.concatenate(scores).astype(np.float64),
            error / len(crops),
        )

    def _error(self, maps: Tensor, keypoints: Array, crops: PersonCrops) -> Tensor:
        size = (maps.shape[-2], maps.shape[-1])
        stride = round(crops.size[0] / size[0])
        points = torch.from_numpy(keypoints).to(self._device, torch.float32)
        targets, weights = gaussian_heat_maps(points[..., :2] / stride, points[..., 2], size, self._sigma)
        return heat_map_loss(maps.float(), targets, weights)

    def _tensor(self, crops: Any) -> Tensor:
        return torch.from_numpy(crops).to(self._device, self._dtype)


def scored(crops: PersonCrops, found: Array, scores: Array) -> dict[str, float]:
    """COCO's scores and PCK of keypoints (n, K, 3) that were found of the people of `crops`."""
    data = crops.data
    images = []
    for image in range(len(data.files)):
        own, rows = data.image == image, data.image[crops.people] == image
        images.append(
            ImagePoses(
                data.keypoints[own],
                data.areas[own],
                data.boxes[own],
                data.ignored[own],
                data.crowd[own],
                found[rows],
                scores[rows],
            )
        )
    right, seen = correct_keypoints(found, data.keypoints[crops.people], data.boxes[crops.people])
    return {
        **average_precision(images, data.keypoint_set.sigmas),
        "PCK": float(right.sum() / seen.sum()) if seen.any() else float("nan"),
    }


def _array(maps: Tensor) -> Any:
    return maps.float().cpu().contiguous().numpy()
