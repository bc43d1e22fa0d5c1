"""The head `multimodal_lm`: training on documents, costs by modality, generation. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import TaskHead, TaskRun, TrainingOptions, distributed, start_model
from mambasdk_language.corpus import split_rows
from mambasdk_language.documents import Document
from mambasdk_language.heads.causal_lm import add_held_out_arguments, held_out_share
from mambasdk_multimodal.documents import encode, read_document, read_rows
from mambasdk_multimodal.processors import DocumentProcessor

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk.training import Trained

_DATA_HELP = "documents: .jsonl (one on each line), .json (one or a list), and directories of them"


class MultimodalHead(TaskHead):
    """Documents of several modalities."""

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Documents, tokenizer, what is held out, how much of a document at a time, a dense model to begin with."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", nargs="+", required=True, metavar="PATH", help=_DATA_HELP)
        data.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: one token per byte of text)")
        add_held_out_arguments(data)
        data.add_argument("--context", type=int, default=512, help="tokens of a document at a time (default: 512)")
        data.add_argument(
            "--upcycle", metavar="PACKAGE", help="begin with the projections of this dense Mamba, for every modality"
        )

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Documents as tokens of the model's modalities."""
        from mambasdk_multimodal.training import MultimodalModeling

        model: Any = _model(args)
        processor, processors = _processors(args, model)
        train, held_out, read = _read(args)
        parts = [encode(part, processor) for part in (train, held_out)]
        task = MultimodalModeling(model, *parts, batch=options.batch, context=args.context, seed=options.seed)

        def said(trained: Trained) -> str | None:
            shown = ", ".join(f"{value:.4g} {name.replace('_', ' ')}" for name, value in trained.metrics.items())
            return f"{shown} on {len(held_out)} documents" if trained.metrics else None

        return TaskRun(
            model,
            task,
            processors=processors,
            curve={"unit": "tokens", "loss_label": "loss", "metric": "loss"},
            report=lambda trained: {"data": read, "tokens": trained.result.units, **trained.metrics},
            held_out=said,
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """How much of a document at a time."""
        parser.add_argument("--window", type=int, default=1024, help="tokens of a document at a time (default: 1024)")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Bits of a token of each modality, and the error of the noise of latents."""
        from mambasdk_multimodal.evaluation import evaluate

        return evaluate(args)

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What to continue, length, sampling."""
        given = parser.add_mutually_exclusive_group(required=True)
        given.add_argument("--prompt", help="a text to continue, of the first modality")
        given.add_argument("--document", metavar="FILE", help="a document to continue, as JSON")
        parser.add_argument("--max-new-tokens", type=int, help="(default: the package's, else 128)")
        parser.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: 0)")
        parser.add_argument("--top-k", type=int, help="only the k likeliest tokens, 0 for all (default: 0)")
        parser.add_argument("--top-p", type=float, help="only the likeliest with this sum (default: 1)")
        parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto", help="(default: auto)")

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print the segments that follow, one a line."""
        from mambasdk.package import Manifest
        from mambasdk_multimodal.generation import continue_document

        if args.document is not None:
            document = read_document(args.document)
        else:
            first = Manifest.read(args.model).processors["document"]["modalities"][0]
            document = {"segments": [{"modality": first, "text": args.prompt}]}
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
        options = {name: getattr(args, name) for name in names}
        made = continue_document(args.model, document, engine=args.engine, **options)
        if not args.json:
            for segment in made:
                print(f"{segment['modality']}: {segment.get('text', ' '.join(map(str, segment['tokens'])))}")
        return {"segments": made}


def _model(args: argparse.Namespace) -> Any:
    """A package's model, a new one, or one that begins with a dense model's weights."""
    if args.upcycle is None:
        return start_model(args)
    from mambasdk.models import find_model
    from mambasdk.package import is_package
    from mambasdk_multimodal.upcycling import FAMILY, upcycle

    if is_package(args.model) or find_model(args.model)[0].name != FAMILY:
        raise InvalidArgumentError(
            "only a new model begins with another one's weights", where="--upcycle", expected=FAMILY, got=args.model
        )
    import torch

    torch.manual_seed(args.seed)
    return upcycle(args.upcycle, **args.overrides).to(args.device)


def _processors(args: argparse.Namespace, model: Any) -> tuple[DocumentProcessor, dict[str, Any]]:
    """What reads documents, and all processors of the package that is made."""
    from mambasdk.package import Manifest, is_package

    if is_package(args.model) and not args.tokenizer:
        entries = dict(Manifest.read(args.model).processors)
        folder: Path | None = Path(args.model)
    else:
        entries, folder = dict(model.package_processors()), None
        if args.tokenizer:
            entries["document"] = {**entries["document"], "file": args.tokenizer}
            if "text" in entries:
                entries["text"] = {"kind": "tokenizer", "file": args.tokenizer}
    entry = dict(entries["document"])
    if "file" in entry:
        # save_package copies what the entries name.
        path = Path(entry["file"]) if folder is None else folder / entry["file"]
        entries = {slot: {**e, "file": str(path)} if "file" in e else dict(e) for slot, e in entries.items()}
        entry = dict(entries["document"])
    entry.pop("kind")
    return DocumentProcessor(**entry), entries


def _read(args: argparse.Namespace) -> tuple[list[Document], list[Document], dict[str, Any]]:
    """(to train on, held out, what was read) of `--data` and `--held-out`."""
    documents = read_rows(args.data)
    share = held_out_share(args.held_out)
    if share is None:
        other = read_rows(args.held_out)
        known = {document.data for document in other}
        train, held_out = [document for document in documents if document.data not in known], other
    else:
        train, held_out = split_rows(documents, share, args.held_out_seed)
    if not train:
        raise InvalidArgumentError("every document of --data is held out", where="--held-out")
    if not args.json and distributed.rank() == 0:
        print(f"data: read {len(documents):,} documents, {len(held_out):,} held out")
    return train, held_out, {"documents": len(documents), "held_out": len(held_out)}
