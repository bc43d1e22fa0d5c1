"""`mambasdk medical train MODEL`: `mambasdk train` for the head `medical_segmentation`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.cli.train import TrainCommand
from mambasdk_medical.heads.medical_segmentation import MedicalSegmentationHead


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `mambasdk train`, and the head's."""
    TrainCommand().add_arguments(parser)
    head = MedicalSegmentationHead()
    head.add_train_arguments(parser)
    parser.set_defaults(head=head)


def run(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """Train."""
    return TrainCommand().run(args)
