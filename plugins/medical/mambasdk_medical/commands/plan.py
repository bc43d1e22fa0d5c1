"""`mambasdk medical plan DATASET`: fingerprint and plans."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk_medical.data.workspace import Workspace
from mambasdk_medical.plans.topology import BASE_FEATURES

_MEMORY = 8.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Data set, memory, where the plans go."""
    parser.add_argument("dataset", help="a folder DatasetXXX_Name, or its number or name under $nnUNet_raw")
    parser.add_argument(
        "--memory",
        type=float,
        default=_MEMORY,
        metavar="GB",
        help=f"that the feature maps of a training step may take, in float32 (default: {_MEMORY:g})",
    )
    parser.add_argument(
        "--features",
        type=int,
        default=BASE_FEATURES,
        metavar="N",
        help=f"width of the first stage; each later one has twice as many (default: {BASE_FEATURES})",
    )
    parser.add_argument(
        "--preprocessed",
        metavar="DIR",
        help="where plans and prepared cases go (default: $nnUNet_preprocessed/NAME, else DATASET/preprocessed)",
    )


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Plan and say what was planned."""
    workspace = Workspace.of(args.dataset, args.preprocessed)
    plans = workspace.make_plans(memory=args.memory, features=args.features)
    rows: dict[str, dict[str, Any]] = {}
    for name in plans.configurations:
        configuration = plans.configuration(name)
        rows[name] = {
            "patch_size": list(configuration.patch_size),
            "batch_size": configuration.batch_size,
            "spacing": list(configuration.spacing),
            "stages": len(configuration.network(1, 2).strides),
            "normalization": configuration.normalisation()["normalization"],
        }
        if not args.json:
            row = rows[name]
            patch = " x ".join(map(str, row["patch_size"]))
            spacing = " x ".join(f"{value:.3g}" for value in row["spacing"])
            print(
                f"{name}: patch {patch}, batch {row['batch_size']}, spacing {spacing} mm, {row['stages']} stages, "
                f"{', '.join(row['normalization'])}"
            )
    if not args.json:
        print(f"plans: {plans.where}")
    return {"dataset": workspace.dataset.name, "plans": plans.where, "configurations": rows}
