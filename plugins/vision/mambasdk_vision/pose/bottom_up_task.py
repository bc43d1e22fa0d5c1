"""Bottom-up pose for the Trainer: whole images, centres and displacements, held-out AP. Needs torch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mambasdk.training.distributed import rank
from mambasdk_vision.pose.crops import WholeImages
from mambasdk_vision.pose.metrics import Array, ImagePoses, average_precision
from mambasdk_vision.pose.targets import bottom_up_loss, centre_targets
from mambasdk_vision.pose.task import KeypointTask, array_of, poses_of
from mambasdk_vision.processors import BottomUpPose


class BottomUpTask(KeypointTask):
    """Errors of heat maps and displacements on augmented images (arXiv 2104.02300); AP of the people found in others.

    model: images (B, 3, H, W) to heat maps (B, K + 1, h, w) and displacements (B, 2 K, h, w). train, held_out:
    WholeImages. sigma: of keypoints; the Gaussians of centres are twice as wide. The rest as KeypointTask has it.
    """

    unit = "images"
    goals: ClassVar = {"AP": "max", "AP50": "max", "AP75": "max", "AR": "max", "loss": "min"}

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(error of the step's batch, images in it)."""
        indices = self._batches.at(step)
        images, people = self._train.augmented(indices, self._augmentation, self._seed, step, rank())
        return self._error(self.model(self._tensor(images)), people, self._train), len(indices)

    def evaluate(self) -> dict[str, float]:
        """COCO's scores of the people found in held-out images, and the error there."""
        poses, error = self.predict()
        return {**average_precision(poses, self._held_out.data.keypoint_set.sigmas), "loss": error}

    def predict(self) -> tuple[list[ImagePoses], float]:
        """The people of every held-out image, annotated and found, and the mean error."""
        images, data = self._held_out, self._held_out.data
        head = BottomUpPose()
        poses, error = [], 0.0
        for indices in self._held_out_batches():
            given = images.take(indices)
            maps, moves = self.model(self._tensor(given["image"]))
            error += float(self._error((maps, moves), [images.keypoints[i] for i in indices], images)) * len(indices)
            for row, index in enumerate(indices):
                affine = {"affines": given["affines"][row : row + 1]}
                made = head(array_of(maps[row : row + 1]), array_of(moves[row : row + 1]), crops=affine)
                found, scores = (made[name].astype(np.float64) for name in ("keypoints", "scores"))
                poses.append(poses_of(data, int(index), found, scores))
        return poses, error / len(images)

    def _error(self, made: tuple[Tensor, Tensor], people: list[Array], images: WholeImages) -> Tensor:
        maps, moves = made
        size = (maps.shape[-2], maps.shape[-1])
        stride = round(images.size[0] / size[0])
        scale = torch.tensor([stride, stride, 1.0])
        points = [(torch.from_numpy(one).float() / scale).to(self._device) for one in people]
        return bottom_up_loss(maps.float(), moves.float(), centre_targets(points, size, (2 * self._sigma, self._sigma)))
