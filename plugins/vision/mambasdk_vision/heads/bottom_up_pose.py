"""The head `bottom_up_pose`: all people of an image at once, trained on COCO keypoint files as top-down pose is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk_vision.heads.pose_estimation import PoseHead
from mambasdk_vision.pose.crops import WholeImages

if TYPE_CHECKING:
    from torch import nn

    from mambasdk.evaluation import Evaluation
    from mambasdk_vision.pose.augmentation import CropAugmentation


class BottomUpPoseHead(PoseHead):
    """Keypoints of people without their boxes."""

    defaults: ClassVar = {"batch": 8, "lr": 1e-3, "weight_decay": 0.01}
    crops = WholeImages

    def task(
        self,
        model: nn.Module,
        train: Any,
        held_out: Any,
        *,
        batch: int,
        seed: int,
        augmentation: CropAugmentation,
        sigma: float,
    ) -> Any:
        """See PoseHead."""
        from mambasdk_vision.pose.bottom_up_task import BottomUpTask

        return BottomUpTask(model, train, held_out, batch=batch, seed=seed, augmentation=augmentation, sigma=sigma)

    def default_sigma(self, height: int) -> float:
        """2 of 160 rows (arXiv 2104.02300)."""
        return 2.0 / 160 * height / 4

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """COCO's scores of the people found in the images of `args.annotations`; `args.data` is their folder."""
        from mambasdk_vision.pose.evaluation import evaluate_bottom_up

        return evaluate_bottom_up(args)
