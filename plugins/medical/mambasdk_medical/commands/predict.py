"""`mambasdk medical predict PACKAGE… -i IMAGES -o DIR`: label maps on the grids of the images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.command_line.arguments import set_threads
from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_medical.data.dataset import Case, cases_in, find_folder
from mambasdk_medical.data.files import ending_of
from mambasdk_medical.inference.predictor import ENGINES, Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Packages, images, where results go."""
    parser.add_argument(
        "packages", nargs="+", metavar="package", help="one, or those of several folds, which are averaged"
    )
    parser.add_argument(
        "-i",
        "--input",
        required=True,
        nargs="+",
        metavar="PATH",
        help="a folder with NAME_0000.nii.gz and so on, or the files of one case, a channel each",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="where the label maps go")
    parser.add_argument("--save-probabilities", action="store_true", help="NAME.npz beside each label map")
    parser.add_argument("--overlays", metavar="DIR", help="draw NAME.png of every case into this folder")
    add_prediction_arguments(parser)
    parser.add_argument("--device", default="cpu", help="of the engine torch (default: cpu)")
    parser.add_argument("--threads", type=int, help="CPU threads")


def add_prediction_arguments(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--step`, `--mirroring`, `--engine`."""
    group.add_argument(
        "--step", type=float, help="of the tiles, as a share of their size (default: the package's, 0.5)"
    )
    group.add_argument(
        "--mirroring",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average over mirror images, where the package was trained with them",
    )
    group.add_argument("--engine", choices=ENGINES, help="what runs the tiles (default: the package's)")


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Predict every case."""
    from mambasdk_medical.inference.files import predict_cases

    set_threads(args.threads)
    predictor = open_predictor(args, args.packages)
    cases = _cases(args.input, predictor)
    folder = Path(args.out)
    start = time.perf_counter()
    rows = predict_cases(
        predictor,
        track(cases, "predicting", len(cases)),
        folder,
        probabilities=args.save_probabilities,
        overlays=None if args.overlays is None else Path(args.overlays),
    )
    seconds = time.perf_counter() - start
    if not args.json:
        for row in rows:
            volumes = ", ".join(f"{name} {value:.4g} ml" for name, value in row["volume_ml"].items())
            counts = ", ".join(f"{name} {value:,} pixels" for name, value in row["voxels"].items())
            print(f"{row['labels']}: {volumes or counts}")
        print(f"{len(rows)} cases in {seconds:.1f} s")
    return {"packages": list(args.packages), "cases": rows, "seconds": seconds}


def open_predictor(args: argparse.Namespace, packages: list[str]) -> Predictor:
    """The predictor that the arguments ask for."""
    return Predictor.open(
        packages, engine=args.engine, step=args.step, mirroring=args.mirroring, device=getattr(args, "device", "cpu")
    )


def _cases(inputs: list[str], predictor: Predictor) -> list[Case]:
    first = Path(inputs[0])
    if len(inputs) == 1 and first.is_dir() and predictor.file_ending:
        return cases_in(find_folder(first, "nnUNet_raw"), predictor.file_ending, len(predictor.channels))
    if len(inputs) == 1 and first.is_dir() and any(one.is_dir() for one in first.iterdir()):
        return cases_in(first, "", len(predictor.channels))
    paths = tuple(Path(name) for name in inputs)
    name = first.name[: len(first.name) - len(ending_of(first))].removesuffix("_0000")
    if not paths[0].exists():
        raise InvalidArgumentError("no such file or folder", where=str(first))
    return [Case(name, paths)]
