"""Bottom-up pose for the Trainer: whole images, centres and displacements, held-out AP. Needs torch."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mambasdk.training import Batches
from mambasdk.training.distributed import rank
from mambasdk_vision.pose.augmentation import CropAugmentation
from mambasdk_vision.pose.crops import WholeImages
from mambasdk_vision.pose.metrics import Array, ImagePoses, average_precision
from mambasdk_vision.pose.targets import bottom_up_loss, centre_targets
from mambasdk_vision.processors import BottomUpPose


class BottomUpTask:
    """Errors of heat maps and displacements on augmented images (arXiv 2104.02300); AP of the people found in others.

    model: images (B, 3, H, W) to heat maps (B, K + 1, h, w) and displacements (B, 2 K, h, w). train, held_out: images.
    sigma: of the Gaussians of keypoints, in pixels of a heat map; those of centres are twice as wide.
    """

    unit = "images"
    goals: ClassVar = {"AP": "max", "AP50": "max", "AP75": "max", "AR": "max", "loss": "min"}

    def __init__(
        self,
        model: nn.Module,
        train: WholeImages,
        held_out: WholeImages,
        *,
        batch: int,
        seed: int = 0,
        augmentation: CropAugmentation | None = None,
        sigma: float = 2.0,
    ) -> None:
        self.model = model
        self._train, self._held_out = train, held_out
        self.data = f"{len(train):,} images, {len(held_out):,} held out, {len(train.data.keypoint_set)} keypoints"
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        self._augmentation = augmentation or CropAugmentation()
        self._sigmas = (2 * sigma, sigma)
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(error of the step's batch, images in it)."""
        indices = self._batches.at(step)
        images, people = self._train.augmented(indices, self._augmentation, self._seed, step, rank())
        return self._error(self.model(self._tensor(images)), people, self._train), len(indices)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """One image."""
        return {"image": self._tensor(self._train.take(np.zeros(1, np.int64))["image"])}, 1

    def evaluate(self) -> dict[str, float]:
        """COCO's scores of the people found in held-out images, and the error there."""
        poses, error = self.predict()
        return {**average_precision(poses, self._held_out.data.keypoint_set.sigmas), "loss": error}

    def predict(self) -> tuple[list[ImagePoses], float]:
        """The people of every held-out image, annotated and found, and the mean error."""
        images, data = self._held_out, self._held_out.data
        head = BottomUpPose()
        poses, error = [], 0.0
        for start in range(0, len(images), self._batches.batch):
            indices = np.arange(start, min(start + self._batches.batch, len(images)))
            given = images.take(indices)
            maps, moves = self.model(self._tensor(given["image"]))
            error += float(self._error((maps, moves), [images.keypoints[i] for i in indices], images)) * len(indices)
            for row, index in enumerate(indices):
                affine = {"affines": given["affines"][row : row + 1]}
                made = head(_array(maps[row : row + 1]), _array(moves[row : row + 1]), crops=affine)
                own = data.image == index
                found, scores = (made[name].astype(np.float64) for name in ("keypoints", "scores"))
                truth = (data.keypoints, data.areas, data.boxes, data.ignored, data.crowd)
                poses.append(ImagePoses(*(part[own] for part in truth), found, scores))  # type: ignore[arg-type]
        return poses, error / len(images)

    def _error(self, made: tuple[Tensor, Tensor], people: list[Array], images: WholeImages) -> Tensor:
        maps, moves = made
        size = (maps.shape[-2], maps.shape[-1])
        stride = round(images.size[0] / size[0])
        scale = torch.tensor([stride, stride, 1.0])
        points = [(torch.from_numpy(one).float() / scale).to(self._device) for one in people]
        return bottom_up_loss(maps.float(), moves.float(), centre_targets(points, size, self._sigmas))

    def _tensor(self, images: Any) -> Tensor:
        return torch.from_numpy(images).to(self._device, self._dtype)


def _array(maps: Tensor) -> Any:
    return maps.float().cpu().contiguous().numpy()
