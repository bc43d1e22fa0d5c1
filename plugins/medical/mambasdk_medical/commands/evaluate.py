"""`mambasdk medical evaluate PREDICTIONS TRUTH`: scores of label maps; and of a package for `mambasdk evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambasdk.atomic import write_text
from mambasdk.command_line.tables import format_rows
from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_medical.data.dataset import DATASET_FILE, Dataset, open_dataset, read_description
from mambasdk_medical.data.files import read_labels
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.metrics import Report, instance_scores, instances_of, scores

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

_PICTURE_AXES = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folders, labels, what is measured."""
    parser.add_argument("predictions", help="a folder of label maps")
    parser.add_argument(
        "truth", help="a folder of label maps of the same names; those without a prediction are an error"
    )
    parser.add_argument(
        "--dataset",
        metavar="FILE",
        help=f"{DATASET_FILE} that names the labels (default: beside the truth's folder)",
    )
    parser.add_argument("--out", metavar="FILE", help="write the scores of every case as JSON")
    parser.add_argument(
        "--only-predicted", action="store_true", help="leave out label maps of the truth that were not predicted"
    )
    add_metric_arguments(parser)


def add_metric_arguments(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--tolerance`, `--instances`, `--crop-z`."""
    group.add_argument(
        "--tolerance",
        nargs="+",
        default=[],
        metavar="LABEL=MM",
        help="of the surface distance that NSD passes, for some labels (default: 2 mm, of pictures 2 pixels)",
    )
    group.add_argument(
        "--instances",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="labels whose connected parts are counted as instances, such as cells; F1 at IoU 0.5",
    )
    group.add_argument(
        "--crop-z",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="score these in the slices that the truth has them in, first to last",
    )


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Score, print, write."""
    truth = Path(args.truth)
    file = Path(args.dataset) if args.dataset else truth.parent / DATASET_FILE
    dataset = read_description(file, file.parent)
    predictions = Path(args.predictions)
    names = _names(predictions, truth, dataset.file_ending, only_predicted=args.only_predicted)
    pairs = ((name, *_maps(predictions, truth, f"{name}{dataset.file_ending}", dataset.labels)) for name in names)
    report, instances = score_cases(args, dataset.labels, track(pairs, "scoring", len(names)))
    result = {**report.as_dict(), "instances": instances}
    if args.out:
        import json

        write_text(args.out, json.dumps(result, indent=1, allow_nan=False))
    if not args.json:
        print(report.table())
        if instances:
            print()
            print(format_rows([{"instances": name, **row} for name, row in instances.items()]))
        print(f"{len(names)} cases")
    return result


Pair = tuple[str, npt.NDArray[np.int16], npt.NDArray[np.int16], Geometry]


def score_cases(
    args: argparse.Namespace, labels: Labels, pairs: Iterable[Pair]
) -> tuple[Report, dict[str, dict[str, float]]]:
    """Scores of (name, found, truth, geometry), and of the instances of all cases together."""
    values = {name: value[0] if len(value) == 1 else value for name, value in labels.foreground.items()}
    tolerances = _tolerances(args.tolerance)
    if unknown := [name for name in args.instances if name not in values]:
        raise InvalidArgumentError("no such label", where="--instances", expected=", ".join(values), got=unknown[0])
    report = Report()
    counts = {name: np.zeros(3) for name in args.instances}
    for name, found, truth, geometry in pairs:
        spacing: tuple[float, ...] = geometry.spacing
        if geometry.affine is None and truth.shape[0] == 1:  # a picture
            found, truth, spacing = found[0], truth[0], spacing[-_PICTURE_AXES:]  # noqa: PLW2901
        report.add(
            name,
            scores(
                truth,
                found,
                values,
                spacing,
                tolerances=tolerances,
                ignore=labels.ignore,
                crop_z=args.crop_z,
            ),
        )
        known = np.ones(truth.shape, bool) if labels.ignore is None else truth != labels.ignore
        for label in counts:
            of = labels.foreground[label]
            made = instance_scores(instances_of(np.isin(truth, of)), instances_of(np.isin(found, of) & known))
            counts[label] += [made["tp"], made["fp"], made["fn"]]
    return report, {name: _f1(*row) for name, row in counts.items()}


def _f1(tp: float, fp: float, fn: float) -> dict[str, float]:
    whole = 2 * tp + fp + fn
    return {"f1": float(2 * tp / whole) if whole else 1.0, "tp": int(tp), "fp": int(fp), "fn": int(fn)}


def _tolerances(given: list[str]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name or not found[name] >= 0:
            raise InvalidArgumentError("bad --tolerance", expected="LABEL=MM, such as liver=5", got=text)
    return found


def _names(predictions: Path, truth: Path, ending: str, *, only_predicted: bool) -> list[str]:
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise InvalidArgumentError("no such folder", where=str(folder))
    true, found = (
        {path.name[: len(path.name) - len(ending)] for path in folder.iterdir() if path.name.endswith(ending)}
        for folder in (truth, predictions)
    )
    absent = sorted(true - found)
    if absent and not only_predicted:
        raise InvalidArgumentError(
            f"{len(absent)} cases are not predicted: {', '.join(absent[:5])}",
            where=str(predictions),
            way_out="--only-predicted leaves them out",
        )
    if not true & found:
        raise InvalidArgumentError(f"no label map *{ending} of the truth", where=str(predictions))
    return sorted(true & found)


def _maps(
    predictions: Path, truth: Path, name: str, labels: Labels
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], Geometry]:
    true, geometry = read_labels(truth / name)
    found, theirs = read_labels(predictions / name)
    geometry.check_same(theirs, str(truth / name), f"the prediction {predictions / name}")
    labels.check(np.unique(true), str(truth / name))
    labels.check(np.unique(found), str(predictions / name))
    return found, true, geometry


def evaluate_package(args: argparse.Namespace) -> Evaluation:
    """Predict the training cases of a data set and score them, for `mambasdk evaluate`."""
    from mambasdk.evaluation import Evaluation
    from mambasdk_medical.commands.predict import open_predictor
    from mambasdk_medical.inference.files import predict_case

    if len(args.data) != 1:
        raise InvalidArgumentError("several data sets", where="--data", expected="one", got=len(args.data))
    predictor = open_predictor(args, [args.model])
    dataset: Dataset = open_dataset(args.data[0])
    cases = dataset.training_cases()

    def pairs() -> Iterable[Pair]:
        for case in cases:
            assert case.labels is not None
            made, geometry = predict_case(predictor, case)
            truth, theirs = read_labels(case.labels)
            geometry.check_same(theirs, str(case.images[0]), f"the label map {case.labels}")
            predictor.labels.check(np.unique(truth), str(case.labels))
            yield case.name, made.labels.astype(np.int16), truth, geometry

    report, instances = score_cases(args, predictor.labels, track(pairs(), "predicting", len(cases)))
    return Evaluation(
        report.mean(),
        {"cases": len(cases)},
        {"labels": [{"label": name, **row} for name, row in report.by_label().items()]},
        {"cases": report.as_dict()["cases"], "instances": instances},
    )
