"""The head `emotion_recognition`: training on conversations, evaluation, pictures. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, refuse_other_targets, start_model
from mambasdk_multimodal.conversations import Conversation, dims_of, read_conversations

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

_DATA_HELP = "conversations: .jsonl (one on each line), .json, public feature pickles (.pkl), directories of them"


class EmotionHead(TaskHead):
    """Emotions of a conversation's utterances."""

    # arXiv 2404.17858 tells none; those of the same authors' DGODE on IEMOCAP.
    defaults: ClassVar = {"batch": 16, "lr": 1e-4, "weight_decay": 1e-5}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, what is held out, labels."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", nargs="+", required=True, metavar="PATH", help=_DATA_HELP)
        data.add_argument("--test", nargs="+", metavar="PATH", help="conversations to evaluate on")
        data.add_argument(
            "--held-out",
            type=float,
            default=0.2,
            help="share of conversations to evaluate on, where neither --test nor the files name some (default: 0.2)",
        )
        data.add_argument("--labels", help="names of the classes, with commas (default: those in the data, sorted)")
        data.add_argument("--class-weights", action="store_true", help="weigh classes by how rare they are")

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Conversations with labels, and a model of their modalities and classes."""
        from mambasdk_multimodal.emotion_training import EmotionTask

        start: Any = Start.of(args)
        dims = None
        if start.model is not None:
            config = start.model.config
            dims = dict(zip(config.modalities, config.in_dims, strict=True))
        train, held_out = _split(args, dims)
        dims = dims or dims_of([*train, *held_out])
        labels = _labels(args, [*train, *held_out], start.labels)
        model: Any = start.model
        if model is None:
            speakers = max(int(each.speakers.max()) for each in [*train, *held_out]) + 1
            settings = {"modalities": list(dims), "in_dims": list(dims.values()), "n_classes": len(labels)}
            model = start_model(args, {**settings, "n_speakers": speakers})
        else:
            refuse_other_targets(args, f"{len(labels)} classes", f"{model.config.n_classes} classes")
        if len(labels) != model.config.n_classes:
            raise InvalidArgumentError("bad labels", expected=f"{model.config.n_classes} names", got=labels)
        task = EmotionTask(
            model,
            train,
            held_out,
            labels,
            batch=options.batch,
            seed=options.seed,
            class_weights=args.class_weights,
            device=args.device,
        )
        return TaskRun(
            model,
            task,
            head_options={"labels": labels, "modalities": list(model.config.modalities)},
            curve={
                "title": f"{Path(args.model).name} on {Path(args.data[0]).name}",
                "metric": "weighted_f1" if held_out else None,
            },
            report=lambda trained: {"labels": labels, "utterances": trained.result.units, **trained.metrics},
            held_out=lambda trained: (
                ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in trained.metrics.items()) or None
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Modalities to leave out."""
        parser.add_argument("--without", nargs="+", default=[], metavar="MODALITY", help="modalities to leave out")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Weighted F1, accuracy, each class, and what the modalities weigh."""
        from mambasdk_multimodal.emotion_evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """The emotions over the conversation, and the weights of the modalities."""
        from mambasdk_multimodal.emotion_drawing import draw_emotions

        draw_emotions(file, result, out)


def _split(args: argparse.Namespace, dims: Mapping[str, int] | None) -> tuple[list[Conversation], list[Conversation]]:
    """(to train on, held out): by --test, else as the files say, else at random."""
    from mambasdk_multimodal.emotion_training import split_conversations

    found = read_conversations(args.data, dims)
    if args.test:
        tested = read_conversations(args.test, dims or dims_of(found))
        return [each for each in found if each.split != "test"], [each for each in tested if each.split != "train"]
    if any(each.split == "test" for each in found):
        return [each for each in found if each.split != "test"], [each for each in found if each.split == "test"]
    return split_conversations(found, args.held_out, args.seed)


def _labels(args: argparse.Namespace, conversations: Sequence[Conversation], package: list[str] | None) -> list[str]:
    """Names of the classes. Numbers in the data are places in --labels, and stand for themselves without it."""
    found = {label for each in conversations for label in each.labels if label is not None}
    if not found:
        raise InvalidArgumentError("no utterance has a label", where="--data")
    if args.labels:
        return [str(label) for label in args.labels.split(",")]
    if package:
        return package
    if all(label.isdigit() for label in found):
        return [str(i) for i in range(max(map(int, found)) + 1)]
    return sorted(found)
