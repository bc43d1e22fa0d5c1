"""`mambasdk medical train MODEL`: `mambasdk train` for the head `medical_segmentation`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.command_line.training import add_training_arguments, run_training
from mambasdk_medical.heads.medical_segmentation import MedicalSegmentationHead


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `mambasdk train`, and the head's."""
    add_training_arguments(parser)
    head = MedicalSegmentationHead()
    head.add_train_arguments(parser)
    parser.set_defaults(head=head)


def run(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """Train."""
    return run_training(args.head, args)
