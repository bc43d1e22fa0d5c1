"""The heads `fill_mask`, `text_classification` and `text_regression`: training and measuring of text encoders.

One class serves all three: what is trained follows from the arguments, masked tokens without a column to learn, else
classes (`--label`) or numbers (`--target`), on a new model or on the encoder of a package of any of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, start_model
from mambasdk_language.heads.causal_lm import add_held_out_arguments, add_reading_arguments, read_training_texts
from mambasdk_language.processors import BytesProcessor, TokenizerProcessor

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk.training import Trained
    from mambasdk_language.documents import Document

MASK = "[MASK]"


class TextEncoderHead(TaskHead):
    """Masked tokens, classes or numbers of texts."""

    defaults: ClassVar = {"batch": 16, "lr": 1e-3, "weight_decay": 0.01}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Texts, what is to be learnt of them, tokenizer, what is held out."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", nargs="+", required=True, metavar="PATH", help="text files, JSONL, JSON, CSV")
        add_reading_arguments(data)
        _add_columns(data)
        data.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: one token per byte)")
        data.add_argument("--mask-token", metavar="TEXT", help=f"the tokenizer's mask (default: {MASK})")
        add_held_out_arguments(data)
        data.add_argument("--context", type=int, default=256, help="tokens of a text at most (default: 256)")
        data.add_argument(
            "--mask-rate", type=float, default=0.15, help="share of the tokens that are asked for (default: 0.15)"
        )

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Texts as tokens, and a model for what is learnt of them."""
        if args.context < 2:
            raise InvalidArgumentError("bad --context", expected="2 or more", got=args.context)
        column = args.label or args.target
        return _labelled(args, options, column) if column else _masked(args, options)

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which files and columns, and how much of a text."""
        add_reading_arguments(parser)
        _add_columns(parser)
        parser.add_argument("--context", type=int, default=256, help="tokens of a text at most (default: 256)")
        parser.add_argument("--mask-rate", type=float, default=0.15, help="share of the tokens that are asked for")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Scores on texts that the package did not see."""
        from mambasdk_language.text_evaluation import evaluate

        return evaluate(args)


def _add_columns(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--label` and `--target`, of which one may be given."""
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument(
        "--label", metavar="COLUMN", help="learn the class that this column of JSON and CSV rows names"
    )
    columns.add_argument("--target", metavar="COLUMN", help="learn the number in this column of JSON or CSV")


def _masked(args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
    from mambasdk_language.corpus import make_corpus
    from mambasdk_language.text_training import MaskedLanguageModeling

    processor = _processor(args)
    train, held_out, read = read_training_texts(args)
    corpus = make_corpus(train, held_out, processor)
    model = _model(args, processor, "masked_lm")
    assert processor.mask_token_id is not None
    task = MaskedLanguageModeling(
        model,
        corpus,
        mask_token=processor.mask_token_id,
        batch=options.batch,
        context=args.context,
        rate=args.mask_rate,
        seed=options.seed,
    )

    def said(trained: Trained) -> str | None:
        if "masked_bits" not in trained.metrics:
            return None
        right, bits = trained.metrics["masked_accuracy"], trained.metrics["masked_bits"]
        return f"{right:.1%} of the masked tokens right, {bits:.3f} bits each"

    return TaskRun(
        model,
        task,
        processors={"text": processor.manifest_entry()},
        curve={"unit": "tokens", "loss_label": "bits per masked token", "metric": "masked_accuracy"},
        report=lambda trained: {"data": read, "tokens": trained.result.units, **trained.metrics},
        held_out=said,
    )


def _labelled(args: argparse.Namespace, options: TrainingOptions, column: str) -> TaskRun:
    from mambasdk_language.text_training import LabelledTexts, TextLabelling

    processor = _processor(args)
    train, held_out, read = read_training_texts(args, column)
    kind = "classification" if args.label else "regression"
    labels = classes_of(train + held_out, args.label) if args.label else [column]
    before = Start.of(args).labels
    model = _model(args, processor, kind, len(labels), fresh=before != labels)
    parts = [
        LabelledTexts.of(part, processor, labels if args.label else None, args.context) for part in (train, held_out)
    ]
    if kind == "regression" and before != labels:
        model.start_at(float(parts[0].targets.mean()))
    task = TextLabelling(model, *parts, batch=options.batch, seed=options.seed)

    def said(trained: Trained) -> str | None:
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in trained.metrics.items())
        return f"{shown} on {len(held_out)} texts" if trained.metrics else None

    return TaskRun(
        model,
        task,
        processors={"text": processor.manifest_entry()},
        head_options={"labels": labels},
        curve={"loss_label": "cross entropy" if args.label else "squared error", "metric": next(iter(task.goals))},
        report=lambda trained: {
            "data": read,
            "labels": labels,
            "train_texts": len(train),
            "held_out_texts": len(held_out),
            **trained.metrics,
        },
        held_out=said,
    )


def classes_of(documents: list[Document], column: str) -> list[str]:
    """Names of the classes, sorted. Raises InvalidArgumentError for fewer than two."""
    labels = sorted({str(document.label) for document in documents})
    if len(labels) < 2:
        raise InvalidArgumentError(
            f"one class in {column}: {labels[0]}", where="--label", expected="two or more", way_out="give other rows"
        )
    return labels


def _model(
    args: argparse.Namespace, processor: Any, task: str, labels: int | None = None, *, fresh: bool = False
) -> Any:
    """A new model of the processor's vocabulary for the task, or a package's; with another end where it has another.

    fresh: the package's labels are other ones.
    """
    settings: Mapping[str, Any] = {"vocab_size": processor.vocab_size, "task": task}
    model: Any = start_model(args, {**settings, **({} if labels is None else {"num_labels": labels})})
    if not hasattr(model, "with_task"):
        raise InvalidArgumentError(f"{type(model).__name__} is no text encoder", where=args.model)
    if model.config.task != task or (fresh and Start.of(args).model is not None):
        model = model.with_task(task, labels)
    return model


def _processor(args: argparse.Namespace) -> BytesProcessor | TokenizerProcessor:
    """The tokenizer that was asked for, that of the package to go on from, or raw bytes; with a mask in any case."""
    from mambasdk.package import is_package
    from mambasdk.package.reader import load_processors

    if args.tokenizer:
        found = TokenizerProcessor.from_file(args.tokenizer)
        return TokenizerProcessor(found.path, found.eos_token_id, args.mask_token or MASK)
    if is_package(args.model):
        own: Any = load_processors(args.model).get("text")
        if own is not None and own.mask_token_id is not None:
            return own  # type: ignore[no-any-return]
        raise InvalidArgumentError("its text processor has no mask_token", where=args.model)
    return BytesProcessor(mask_token=args.mask_token or MASK)
