"""`mambasdk medical preprocess DATASET`: the cases that training reads."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk_medical.data.workspace import Workspace
from mambasdk_medical.heads.medical_segmentation import add_workspace_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Data set, configurations, plans."""
    parser.add_argument("dataset", help="a folder DatasetXXX_Name, or its number or name under $nnUNet_raw")
    parser.add_argument(
        "-c", "--configuration", nargs="+", metavar="NAME", help="of the plans, such as 2d (default: all of them)"
    )
    add_workspace_arguments(parser)


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Prepare every training case for each configuration."""
    workspace = Workspace.of(args.dataset, args.preprocessed)
    plans = workspace.plans(args.plans)
    made = {}
    for name in args.configuration or plans.configurations:
        configuration = plans.configuration(name)
        cases = workspace.preprocess(configuration)
        folder = workspace.prepared(configuration)
        empty = [case["name"] for case in cases if not case["voxels"]]
        made[name] = {"folder": str(folder), "cases": len(cases), "without_foreground": empty}
        if not args.json:
            note = f", {len(empty)} without any foreground" if empty else ""
            print(f"{name}: {len(cases)} cases in {folder}{note}")
    return {"dataset": workspace.dataset.name, "configurations": made}
