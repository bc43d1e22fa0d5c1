"""The head `audio_classification`: `mambasdk train` and pictures of predictions. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, start_model

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk_audio.families.ssamba import Ssamba
    from mambasdk_audio.families.ssamba.config import Pooling
    from mambasdk_audio.training.clips import Clip

_PRETRAINING = ("joint", "discriminative", "generative")
_LONGEST = 1024  # frames that a model gets by itself
_HIDDEN_SHARE = 400 / 512  # of the patches; what the best published models were pretrained with


@dataclass(frozen=True)
class Recipe:
    """Input and augmentation that upstream fine-tunes with on a data set: the authors' scripts."""

    frames: int
    stride: int
    freq_mask: int
    time_mask: int
    mixup: float
    loss: str
    mean: float
    std: float
    noise: bool = False


RECIPES = {
    "audioset": Recipe(1024, 10, 48, 192, 0.5, "bce", -4.2677393, 4.5689974),
    "esc50": Recipe(512, 10, 24, 96, 0.0, "ce", -6.6268077, 5.358466),
    "speech-commands": Recipe(128, 10, 48, 48, 0.6, "bce", -6.845978, 5.5654526),
    "urbansound8k": Recipe(6144, 16, 48, 192, 0.0, "ce", -5.1384439, 4.2299614),
}


class AudioClassificationHead(TaskHead):
    """Labels of clips, and the pretraining of models that will tell them."""

    defaults: ClassVar = {"batch": 32, "lr": 1e-3, "weight_decay": 0.05}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, input, augmentation."""
        from mambasdk.training.readable import add_skip_bad_argument

        data = parser.add_argument_group("data")
        data.add_argument(
            "--data",
            required=True,
            metavar="PATH",
            help="folder with a folder of audio files for each class, or a CSV file with the columns file and label; "
            "for pretraining any folder of them. WAV; FLAC, OGG and MP3 with the extra formats",
        )
        add_skip_bad_argument(data)
        data.add_argument("--held-out-data", metavar="PATH", help="as --data: what is not trained on")
        data.add_argument(
            "--held-out", type=float, default=0.2, help="without it: share of each class not trained on (default: 0.2)"
        )
        data.add_argument(
            "--objective",
            choices=("classification", *_PRETRAINING),
            default="classification",
            help="labels, or the pretraining of SSAMBA (default: classification)",
        )
        model = parser.add_argument_group("input and model")
        model.add_argument("--recipe", choices=sorted(RECIPES), help="upstream's input and augmentation for a data set")
        model.add_argument(
            "--frames",
            type=int,
            help="frames of 10 ms that the model sees (default: the package's, else the longest clip's, "
            f"{_LONGEST} at most)",
        )
        model.add_argument("--stride", type=int, help="of the 16 x 16 patches (default: the model's, 16)")
        model.add_argument(
            "--pooling",
            choices=("ft_avgtok", "ft_cls", "ft_avgtok_1sec"),
            help="what the classifier reads: all tokens, the class token, each second (default: ft_avgtok)",
        )
        model.add_argument("--mean", type=float, help="of the log-mel values (default: measured)")
        model.add_argument("--std", type=float, help="of the log-mel values (default: measured)")
        model.add_argument(
            "--loss",
            choices=("ce", "bce"),
            help="one label a clip, or any number (default: ce where each clip has one)",
        )
        model.add_argument(
            "--hidden", type=int, help="patches to hide in pretraining (default: 400 of 512, in that proportion)"
        )
        change = parser.add_argument_group("augmentation")
        change.add_argument("--freq-mask", type=int, help="SpecAugment: bins, at most (default: 0)")
        change.add_argument("--time-mask", type=int, help="SpecAugment: frames, at most (default: 0)")
        change.add_argument("--mixup", type=float, help="share of clips mixed with another (default: 0)")
        change.add_argument("--noise", action="store_true", help="add noise and shift the clip in time")

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Clips with labels, or without for pretraining, and a model for them."""
        from mambasdk_audio.training.augmentation import Augmentation
        from mambasdk_audio.training.clips import find_clips, label_names, split_clips
        from mambasdk_audio.training.spectrograms import Spectrograms, readable_clips
        from mambasdk_audio.training.tasks import ClassificationTask, PretrainingTask

        labelled = args.objective == "classification"
        train = find_clips(args.data, labelled=labelled)
        if args.held_out_data:
            held_out = find_clips(args.held_out_data, labelled=labelled)
        else:
            train, held_out = split_clips(train, args.held_out)
        readable = set(readable_clips([*train, *held_out], skip_bad=args.skip_bad))
        train, held_out = ([clip for clip in part if clip in readable] for part in (train, held_out))
        recipe = RECIPES.get(args.recipe) if args.recipe else None
        source = Start.of(args)
        labels = _labels(source, label_names(train)) if labelled else []
        loss: Any = args.loss or (recipe.loss if recipe else _loss_of(train))
        entry = _entry(args, recipe, source, train)
        model = _model(args, recipe, source, len(labels), entry["target_length"])
        augmentation = Augmentation(
            freq_mask=_first(args.freq_mask, recipe and recipe.freq_mask, 0),
            time_mask=_first(args.time_mask, recipe and recipe.time_mask, 0),
            mixup=_first(args.mixup, recipe and recipe.mixup, 0.0),
            noise=args.noise or bool(recipe and recipe.noise),
        )
        clips = Spectrograms(train, entry), Spectrograms(held_out, entry)
        common: dict[str, Any] = {"batch": options.batch, "augmentation": augmentation, "seed": options.seed}
        task: Any
        if labelled:
            task = ClassificationTask(model, *clips, labels, loss=loss, **common)
        else:
            hidden = args.hidden or max(1, min(round(_HIDDEN_SHARE * model.config.patches), model.config.patches - 2))
            task = PretrainingTask(model, *clips, hidden=hidden, objective=args.objective, **common)
        head_options = None
        if labelled:
            activation = "softmax" if loss == "ce" else "sigmoid"
            head_options = {"labels": labels, "top_k": min(5, len(labels)), "activation": activation}
        return TaskRun(
            model,
            task,
            processors={"audio": entry},
            head_options=head_options,
            curve=_curve(args, labelled, bool(held_out)),
            amount=f"{len(train)} clips",
            report=lambda trained: {
                "objective": args.objective,
                "frames": model.config.input_tdim,
                "clips": len(train),
                "held_out_clips": len(held_out),
                "labels": list(labels),
                "clips_per_second": trained.result.units_per_second,
            },
            held_out=lambda trained: ", ".join(
                [
                    f"{len(held_out)} clips",
                    *(f"{name.replace('_', ' ')} {value:.4g}" for name, value in trained.metrics.items()),
                ]
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """How many labels count as right."""
        parser.add_argument("--top-k", type=int, default=5, help="labels of the top-k accuracy (default: 5)")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Scores of labelled clips: `args.data` is one folder of class folders or one table."""
        from mambasdk_audio.evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Draw the spectrogram of a clip with the labels of `result`, as a PNG."""
        from mambasdk_audio.drawing import draw_prediction

        draw_prediction(file, result, out, package=package)


def _labels(source: Start, found: list[str]) -> list[str]:
    """The package's order of the labels where it knows all of them."""
    known = source.labels or []
    return list(known) if set(found) <= set(known) else found


def _loss_of(clips: Sequence[Clip]) -> str:
    return "ce" if all(len(clip.labels) == 1 for clip in clips) else "bce"


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _entry(args: argparse.Namespace, recipe: Recipe | None, source: Start, clips: Sequence[Clip]) -> dict[str, Any]:
    """The processor's entry in the manifest: the package's where the model stays as it is, else what the data need."""
    from mambasdk_audio.training.spectrograms import measured

    if args.std is not None and not args.std > 0:
        raise InvalidArgumentError("bad --std", where="train", expected="more than 0", got=args.std)
    given = {"frames": args.frames, "mean": args.mean, "std": args.std}
    known = {name: _known(value, recipe and getattr(recipe, name)) for name, value in given.items()}
    old = source.processor("audio")
    goes_on = source.model is not None and (args.objective != "classification" or bool(source.labels))
    if goes_on and old is not None:
        known = {name: _known(known[name], old.get(key)) for name, key in _ENTRY.items()}
    if source.model is not None:
        known["frames"] = _known(known["frames"], _config(source).input_tdim)
    if None in known.values():
        longest, mean, std = measured(clips)
        # Whole patches, so that nothing of the clip is cut off.
        frames = min(-(-longest // 16) * 16, _LONGEST)
        found = {"frames": frames, "mean": round(mean, 6), "std": round(std, 6)}
        known = {name: _known(value, found[name]) for name, value in known.items()}
    other = {name: value for name, value in (old or {}).items() if name not in _ENTRY.values()}
    return {"kind": "fbank", **other, **{key: known[name] for name, key in _ENTRY.items()}}


_ENTRY = {"frames": "target_length", "mean": "mean", "std": "std"}


def _config(source: Start) -> Any:
    model: Any = source.model
    return model.config


def _known(value: Any, other: Any) -> Any:
    return other if value is None else value


def _model(args: argparse.Namespace, recipe: Recipe | None, source: Start, label_dim: int, frames: int) -> Ssamba:
    """A new model, the package's, or its encoder under a new head."""
    from mambasdk_audio.families.ssamba import for_fine_tuning

    stride = _known(args.stride, recipe and recipe.stride)
    if source.model is None:
        settings: dict[str, Any] = {"label_dim": label_dim, "input_tdim": frames}
        if stride is not None:
            settings.update(fstride=stride, tstride=stride)
        if args.pooling:
            settings["pooling"] = args.pooling
        model: Any = start_model(args, settings)
        return model  # type: ignore[no-any-return]
    old: Any = source.model
    config = old.config
    same_input = frames == config.input_tdim and stride in (None, config.fstride)
    if label_dim == 0:
        if config.label_dim:
            raise InvalidArgumentError(
                "a classifier has no heads for pretraining", where=args.model, way_out="give a family to start anew"
            )
        if not same_input:
            raise InvalidArgumentError(
                "pretraining goes on with the frames and the stride that it began with",
                where=args.model,
                expected=f"{config.input_tdim} and {config.fstride}",
            )
        return old  # type: ignore[no-any-return]
    goes_on = config.label_dim == label_dim == len(source.labels or ()) and args.pooling in (None, config.pooling)
    if goes_on and same_input:
        return old  # type: ignore[no-any-return]
    pooling: Pooling = args.pooling or (config.pooling if config.label_dim else "ft_avgtok")
    return for_fine_tuning(old, label_dim, input_tdim=frames, stride=stride, pooling=pooling)


def _curve(args: argparse.Namespace, labelled: bool, held_out: bool) -> dict[str, Any]:
    metric, label = ("accuracy", "accuracy") if labelled else ("masked_accuracy", "accuracy on hidden patches")
    return {
        "title": f"{Path(args.model).name}, {args.objective}",
        "metric": metric if held_out else None,
        "metric_label": label if held_out else None,
    }
