"""The head `audio_classification`: `mambasdk train` and pictures of predictions. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError

if TYPE_CHECKING:
    from mambasdk.training import Trainer
    from mambasdk_audio.families.ssamba import Ssamba
    from mambasdk_audio.training.clips import Clip

_PRETRAINING = ("joint", "discriminative", "generative")
_LONGEST = 1024  # frames that a model gets by itself
_HIDDEN_SHARE = 400 / 512  # of the patches; what the best published models were pretrained with


@dataclass(frozen=True)
class Recipe:
    """Input and augmentation that upstream fine-tunes with on a data set (spec ssamba.md, sections 1 and 4)."""

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


class AudioClassificationHead:
    """Labels of clips, and the pretraining of models that will tell them."""

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, input, augmentation; then what all heads have."""
        from mambasdk.training import add_training_arguments

        data = parser.add_argument_group("data")
        data.add_argument(
            "--data",
            required=True,
            metavar="PATH",
            help="folder with a folder of WAV files for each class, or a CSV file with the columns file and label; "
            "for pretraining any folder of WAV files",
        )
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
        add_training_arguments(parser, batch=32, lr=1e-3, weight_decay=0.05)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.package import save_package
        from mambasdk.training import Trainer, check_output, options_from_arguments, run_from_arguments
        from mambasdk_audio.training.augmentation import Augmentation
        from mambasdk_audio.training.clips import find_clips, label_names, split_clips
        from mambasdk_audio.training.spectrograms import Spectrograms
        from mambasdk_audio.training.tasks import ClassificationTask, PretrainingTask

        out = check_output(args)
        labelled = args.objective == "classification"
        train = find_clips(args.data, labelled=labelled)
        if args.held_out_data:
            held_out = find_clips(args.held_out_data, labelled=labelled)
        else:
            train, held_out = split_clips(train, args.held_out)
        recipe = RECIPES.get(args.recipe) if args.recipe else None
        source = _Source.of(args)
        labels = source.labels_for(label_names(train)) if labelled else []
        loss: Any = args.loss or (recipe.loss if recipe else _loss_of(train))
        entry = _entry(args, recipe, source, train)
        model = _model(args, recipe, source, len(labels), entry["target_length"])
        options = options_from_arguments(args)
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
        trainer = Trainer(model, task, options)
        run_from_arguments(trainer, args)
        head_options = None
        if labelled:
            activation = "softmax" if loss == "ce" else "sigmoid"
            head_options = {"labels": labels, "top_k": min(5, len(labels)), "activation": activation}
        save_package(model, out, processors={"audio": entry}, head_options=head_options, overwrite=args.overwrite)
        if args.curve:
            _write_curve(args, trainer, labelled)
        return _report(args, trainer, model, train, held_out, labels)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Draw the spectrogram of a clip with the labels of `result`, as a PNG."""
        from mambasdk_audio.picture import draw_prediction

        draw_prediction(file, result, out, package=package)


@dataclass(frozen=True)
class _Source:
    """What training starts from: nothing, or the model of a package with its processor's entry and its labels."""

    model: Ssamba | None = None
    entry: Mapping[str, Any] | None = None
    labels: Sequence[str] = ()

    @classmethod
    def of(cls, args: argparse.Namespace) -> _Source:
        from mambasdk.cli.arguments import is_package

        if not is_package(args.model):
            return cls()
        import torch

        from mambasdk.package import Manifest, load

        if args.overrides:
            raise InvalidArgumentError(
                "--set has no effect on a package", where="train", way_out="give a family to start a new model"
            )
        manifest = Manifest.read(args.model)
        model: Any = load(args.model, device=args.device, dtype=torch.float32)
        entry = manifest.processors.get("audio")
        return cls(model, entry, (manifest.head_options or {}).get("labels", ()))

    def labels_for(self, found: list[str]) -> list[str]:
        """The package's order of the labels where it knows all of them."""
        return list(self.labels) if set(found) <= set(self.labels) else found


def _loss_of(clips: Sequence[Clip]) -> str:
    return "ce" if all(len(clip.labels) == 1 for clip in clips) else "bce"


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _entry(args: argparse.Namespace, recipe: Recipe | None, source: _Source, clips: Sequence[Clip]) -> dict[str, Any]:
    """The processor's entry in the manifest: the package's where the model stays as it is, else what the data need."""
    from mambasdk_audio.training.spectrograms import measured

    if args.std is not None and not args.std > 0:
        raise InvalidArgumentError("bad --std", where="train", expected="more than 0", got=args.std)
    given = {"frames": args.frames, "mean": args.mean, "std": args.std}
    known = {name: _known(value, recipe and getattr(recipe, name)) for name, value in given.items()}
    goes_on = source.model is not None and (args.objective != "classification" or bool(source.labels))
    if goes_on and source.entry is not None:
        known = {name: _known(known[name], source.entry.get(key)) for name, key in _ENTRY.items()}
    if source.model is not None:
        known["frames"] = _known(known["frames"], source.model.config.input_tdim)
    if None in known.values():
        longest, mean, std = measured(clips)
        # Whole patches, so that nothing of the clip is cut off.
        frames = min(-(-longest // 16) * 16, _LONGEST)
        found = {"frames": frames, "mean": round(mean, 6), "std": round(std, 6)}
        known = {name: _known(value, found[name]) for name, value in known.items()}
    other = {name: value for name, value in (source.entry or {}).items() if name not in _ENTRY.values()}
    return {"kind": "fbank", **other, **{key: known[name] for name, key in _ENTRY.items()}}


_ENTRY = {"frames": "target_length", "mean": "mean", "std": "std"}


def _known(value: Any, other: Any) -> Any:
    return other if value is None else value


def _model(args: argparse.Namespace, recipe: Recipe | None, source: _Source, label_dim: int, frames: int) -> Ssamba:
    """A new model, the package's, or its encoder under a new head."""
    import torch

    from mambasdk.models import create_model
    from mambasdk_audio.families.ssamba import for_fine_tuning

    stride = _known(args.stride, recipe and recipe.stride)
    torch.manual_seed(args.seed)
    if source.model is None:
        settings: dict[str, Any] = {"label_dim": label_dim, "input_tdim": frames}
        if stride is not None:
            settings.update(fstride=stride, tstride=stride)
        if args.pooling:
            settings["pooling"] = args.pooling
        model: Any = create_model(args.model, device=args.device, **{**settings, **args.overrides})
        return model  # type: ignore[no-any-return]
    config = source.model.config
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
        return source.model
    goes_on = config.label_dim == label_dim == len(source.labels) and args.pooling in (None, config.pooling)
    if goes_on and same_input:
        return source.model
    pooling = args.pooling or (config.pooling if config.label_dim else "ft_avgtok")
    return for_fine_tuning(source.model, label_dim, input_tdim=frames, stride=stride, pooling=pooling)


def _write_curve(args: argparse.Namespace, trainer: Trainer, labelled: bool) -> None:
    from mambasdk.training import write_curve

    metric, label = ("accuracy", "accuracy") if labelled else ("masked_accuracy", "accuracy on hidden patches")
    has_metric = metric in trainer.result.metrics
    write_curve(
        args.curve,
        trainer.result,
        title=f"{Path(args.model).name}, {args.objective}",
        unit="clips",
        loss_label="loss",
        metric=metric if has_metric else None,
        metric_label=label if has_metric else None,
    )


def _report(
    args: argparse.Namespace,
    trainer: Trainer,
    model: Ssamba,
    train: Sequence[Clip],
    held_out: Sequence[Clip],
    labels: Sequence[str],
) -> dict[str, Any]:
    result = trainer.result
    report = {
        "package": str(args.out),
        "objective": args.objective,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "frames": model.config.input_tdim,
        "clips": len(train),
        "held_out_clips": len(held_out),
        "labels": list(labels),
        "steps": result.steps,
        "clips_per_second": result.units_per_second,
        "loss": result.losses[-1] if result.losses else None,
        "held_out": result.metrics,
    }
    if not args.json:
        print(f"{args.out}: {report['parameters']:,} parameters, {result.steps} steps, {len(train)} clips")
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in result.metrics.items())
        print(f"held out: {len(held_out)} clips" + (f", {shown}" if shown else ""))
    return report
