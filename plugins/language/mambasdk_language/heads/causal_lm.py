"""The head `causal_lm`: `mambasdk train` and `mambasdk generate` for language models. Imports torch only to train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import TaskHead, TaskRun, TrainingOptions, distributed, start_model
from mambasdk_language.corpus import split_documents, split_rows
from mambasdk_language.documents import Document, read_texts
from mambasdk_language.processors import BytesProcessor, TextProcessor, TokenizerProcessor

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk.training import Trained

# Of a byte-level model, bits per token are bits per byte.
CURVE: dict[str, Any] = {
    "unit": "tokens",
    "loss_label": "bits per byte",
    "metric": "bits_per_byte",
    "metric_label": "bits per byte",
}


_DATA_HELP = "text files, JSONL, JSON, CSV (also .gz) and directories of them"


class CausalLMHead(TaskHead):
    """Next-token prediction on text."""

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Texts, tokenizer, what is held out, how much of a text at a time."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", nargs="+", required=True, metavar="PATH", help=_DATA_HELP)
        add_reading_arguments(data)
        data.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: one token per byte)")
        add_held_out_arguments(data)
        data.add_argument("--context", type=int, default=512, help="tokens per row and step (default: 512)")
        data.add_argument("--segment", type=int, default=8, help="steps through which a row's state goes (default: 8)")

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Texts as tokens, and a model of the processor's vocabulary."""
        from mambasdk_language.corpus import make_corpus
        from mambasdk_language.training import LanguageModeling

        processor = _processor(args)
        train, held_out, read = read_training_texts(args)
        corpus = make_corpus(train, held_out, processor)
        # A new model's vocabulary is the processor's.
        model: Any = start_model(args, {"vocab_size": processor.vocab_size})
        task = LanguageModeling(
            model, corpus, batch=options.batch, context=args.context, segment=args.segment, seed=options.seed
        )

        def said(trained: Trained) -> str | None:
            bits = trained.metrics.get("bits_per_byte")
            texts = f"{len(held_out)} texts, {corpus.held_out_bytes:,} bytes"
            return None if bits is None else f"{bits:.3f} bits per byte on {texts}"

        return TaskRun(
            model,
            task,
            processors={"text": processor.manifest_entry()},
            curve=CURVE,
            report=lambda trained: {
                "train_bytes": corpus.train_bytes,
                "held_out_bytes": corpus.held_out_bytes,
                "data": read,
                "tokens": trained.result.units,
                "tokens_per_second": trained.result.units_per_second,
                "loss_bits": trained.result.losses[-1] if trained.result.losses else None,
                "held_out_bits_per_byte": trained.metrics.get("bits_per_byte"),
            },
            held_out=said,
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which files, and how much at a time."""
        add_reading_arguments(parser)
        parser.add_argument("--window", type=int, default=1024, help="tokens of a text at a time (default: 1024)")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Perplexity and bits of texts that the package did not see."""
        from mambasdk_language.evaluation import evaluate

        return evaluate(args)

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Prompt, length, sampling."""
        parser.add_argument("--prompt", action="append", help="what to continue (repeatable; default: standard input)")
        parser.add_argument("--max-new-tokens", type=int, help="(default: the package's, else 128)")
        parser.add_argument(
            "--temperature", type=float, help="0 takes the likeliest token (default: the package's, else 0)"
        )
        parser.add_argument(
            "--top-k", type=int, help="only the k likeliest tokens, 0 for all (default: the package's, else 0)"
        )
        parser.add_argument(
            "--top-p", type=float, help="only the likeliest with this sum (default: the package's, else 1)"
        )
        parser.add_argument(
            "--min-p", type=float, help="only those with this share of the best (default: the package's, else 0)"
        )
        parser.add_argument("--repetition-penalty", type=float, help="1 for none (default: the package's, else 1)")
        parser.add_argument("--stop", action="append", help="end before this text (repeatable; default: the package's)")
        parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto", help="(default: auto)")
        parser.add_argument("--chat", action="store_true", help="a conversation, by the package's chat template")
        parser.add_argument("--system", metavar="TEXT", help="with --chat: the system message")
        parser.add_argument("--history", metavar="FILE", help="with --chat: go on from what /save wrote")

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print the prompt and what follows, as it comes."""
        from mambasdk_language.generation import generate

        if args.chat:
            return _chat(args)
        prompts = args.prompt or [sys.stdin.read()]
        results = []
        for index, prompt in enumerate(prompts):
            if not args.json:
                print("\n" * bool(index) + prompt, end="", flush=True)
            result = generate(
                _target(args),
                prompt,
                **_sampling(args),
                on_text=None if args.json else _print_piece,
                **_engine(args),
            )
            if not args.json:
                print()
                print(
                    f"[{len(result.tokens)} tokens, {result.tokens_per_second:.0f}/s, {result.finish_reason}]",
                    file=sys.stderr,
                )
            results.append({"prompt": prompt, **vars(result), "tokens_per_second": result.tokens_per_second})
        return {"generations": results}


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop")
    return {name: getattr(args, name) for name in names}


def _chat(args: argparse.Namespace) -> Mapping[str, Any]:
    """A conversation on the terminal, or of the lines of standard input."""
    from mambasdk.package import Manifest
    from mambasdk_language.chat import HELP, Conversation, chat, from_terminal, load_messages
    from mambasdk_language.chat_template import chat_template
    from mambasdk_language.generation import open_model
    from mambasdk_language.sampling import GenerationOptions

    if args.prompt:
        raise InvalidArgumentError("--prompt has no effect", where="--chat", way_out="type it, or leave --chat out")
    opened = open_model(_target(args), **_engine(args))
    template, remark = chat_template(Manifest.read(args.model).processors.get("text", {}))
    conversation = Conversation(opened, template, GenerationOptions.of(_sampling(args), opened.defaults))
    conversation.messages += load_messages(Path(args.history)) if args.history else []
    if args.system:
        conversation.messages.insert(0, {"role": "system", "content": args.system})
    if not args.json:
        print("\n".join(line for line in (remark, HELP) if line), file=sys.stderr)
    chat(conversation, from_terminal, _silent if args.json else _print_piece)
    return {"messages": conversation.messages}


def _silent(piece: str) -> None:
    pass


def add_reading_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--pattern`, `--column` and `--raw`: which files, and what of them."""
    parser.add_argument("--pattern", default="*", help="names of the files to take from directories, such as '*.py'")
    parser.add_argument("--column", metavar="NAME", help="the text in JSON and CSV rows (default: text, else content)")
    parser.add_argument("--raw", action="store_true", help="read JSON and CSV files as plain text")


def add_held_out_arguments(data: argparse._ArgumentGroup) -> None:
    """`--held-out` and `--held-out-seed`."""
    data.add_argument(
        "--held-out",
        nargs="+",
        default=["0.05"],
        metavar="SHARE|PATH",
        help="share of the text that is not trained on, 0 for none, or files and directories of other text "
        "(default: 0.05)",
    )
    data.add_argument(
        "--held-out-seed", type=int, default=0, metavar="N", help="another N holds out other texts (default: 0)"
    )


def read_training_texts(
    args: argparse.Namespace, label: str | None = None
) -> tuple[list[Document], list[Document], dict[str, Any]]:
    """(to train on, held out, what was read) of `--data` and `--held-out`; says what was read and skipped.

    label: the column of what is to be learnt of each text; None: only the text is read.
    """
    how: dict[str, Any] = {"column": args.column, "raw": args.raw, "label": label}
    reading = read_texts(args.data, args.pattern, **how)
    share = held_out_share(args.held_out)
    other = None if share is not None else read_texts(args.held_out, args.pattern, **how)
    if not args.json and distributed.rank() == 0:
        print(f"data: {reading.summary()}")
        if other is not None:
            print(f"held out: {other.summary()}")
    if other is None:
        split = split_documents if label is None else split_rows
        train, held_out = split(reading.documents, share or 0.0, args.held_out_seed)
        return train, held_out, reading.report()
    held_out_texts = {document.data for document in other.documents}
    train = [document for document in reading.documents if document.data not in held_out_texts]
    if not train:
        raise InvalidArgumentError("every text of --data is held out", where="--held-out")
    return train, other.documents, {**reading.report(), "held_out": other.report()}


def held_out_share(held_out: Sequence[str]) -> float | None:
    """The number that `--held-out` is, None where it is paths."""
    try:
        share = float(held_out[0]) if len(held_out) == 1 else None
    except ValueError:
        return None
    if share is not None and not 0 <= share < 1:
        raise InvalidArgumentError("bad --held-out", expected="a share of 0 or more and below 1, or paths", got=share)
    return share


def _print_piece(piece: str) -> None:
    print(piece, end="", flush=True)


def _target(args: argparse.Namespace) -> Any:
    """The package, or its PyTorch model where device or dtype ask for more than the native engine has."""
    if args.engine == "native" or (args.device == "cpu" and args.dtype == "float32" and args.engine == "auto"):
        return args.model
    from mambasdk.command_line import torch_dtype
    from mambasdk.package import Manifest, load

    if args.verify:
        Manifest.read(args.model).check_hashes(args.model)
    return load(args.model, device=args.device, dtype=torch_dtype(args.dtype), verify=args.verify is None)


def _engine(args: argparse.Namespace) -> dict[str, Any]:
    from mambasdk.package.reader import load_processors

    if args.engine == "native" or (args.device == "cpu" and args.dtype == "float32" and args.engine == "auto"):
        return {"engine": args.engine, "verify": args.verify}
    processor = load_processors(args.model).get("text")
    return {} if processor is None else {"processor": processor}


def _processor(args: argparse.Namespace) -> TextProcessor:
    """The tokenizer that was asked for, that of the package to go on from, or raw bytes."""
    from mambasdk.package import is_package
    from mambasdk.package.reader import load_processors

    if args.tokenizer:
        return TokenizerProcessor.from_file(args.tokenizer)
    if is_package(args.model):
        found = load_processors(args.model).get("text")
        if found is not None:
            processor: TextProcessor = found
            return processor
    return BytesProcessor()
