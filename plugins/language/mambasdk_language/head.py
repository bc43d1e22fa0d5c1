"""The head `causal_lm`: `mambasdk train` and `mambasdk generate` for language models. Imports torch only to train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import (
    add_training_arguments,
    check_output,
    options_from_arguments,
    run_from_arguments,
    write_curve,
)
from mambasdk_language.text import BytesProcessor, TextProcessor, TokenizerProcessor

# Of a byte-level model, bits per token are bits per byte.
CURVE: dict[str, Any] = {
    "unit": "tokens",
    "loss_label": "bits per byte",
    "metric": "bits_per_byte",
    "metric_label": "bits per byte",
}


class CausalLMHead:
    """Next-token prediction on text."""

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, length of the run, optimiser, checkpoints."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", nargs="+", required=True, metavar="PATH", help="text files and directories")
        data.add_argument("--pattern", default="*", help="names of the files to take from directories, such as '*.py'")
        data.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: one token per byte)")
        data.add_argument(
            "--held-out", type=float, default=0.05, help="share of the files not trained on (default: 0.05)"
        )
        data.add_argument("--context", type=int, default=512, help="tokens per row and step (default: 512)")
        data.add_argument("--segment", type=int, default=8, help="steps through which a row's state goes (default: 8)")
        add_training_arguments(parser)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.package import save_package
        from mambasdk.training import Trainer
        from mambasdk_language.corpus import make_corpus, read_documents, split_documents
        from mambasdk_language.training import LanguageModeling

        out = check_output(args)
        options = options_from_arguments(args)
        processor = _processor(args)
        train, held_out = split_documents(read_documents(args.data, args.pattern), args.held_out)
        corpus = make_corpus(train, held_out, processor)
        model = _model(args, processor)
        task = LanguageModeling(
            model, corpus, batch=options.batch, context=args.context, segment=args.segment, seed=options.seed
        )
        result = run_from_arguments(Trainer(model, task, options), args)
        bits = result.metrics["bits_per_byte"]
        manifest = save_package(model, out, processors={"text": processor.manifest_entry()}, overwrite=args.overwrite)
        if args.curve:
            write_curve(args.curve, result, **CURVE)
        report = {
            "package": str(out),
            "family": manifest.family,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_bytes": corpus.train_bytes,
            "held_out_bytes": corpus.held_out_bytes,
            "steps": result.steps,
            "tokens": result.units,
            "tokens_per_second": result.units_per_second,
            "loss_bits": result.losses[-1] if result.losses else None,
            "held_out_bits_per_byte": bits,
        }
        if not args.json:
            print(f"{out}: {report['parameters']:,} parameters, {result.steps} steps, {result.units:,} tokens")
            print(f"held out: {bits:.3f} bits per byte on {len(held_out)} texts, {corpus.held_out_bytes:,} bytes")
        return report

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Prompt, length, sampling."""
        parser.add_argument("--prompt", action="append", help="what to continue (repeatable; default: standard input)")
        parser.add_argument("--max-new-tokens", type=int, default=128, help="(default: 128)")
        parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: 0)")
        parser.add_argument("--top-k", type=int, default=0, help="only the k likeliest tokens, 0 for all (default: 0)")
        parser.add_argument("--top-p", type=float, default=1.0, help="only the likeliest with this sum (default: 1)")
        parser.add_argument(
            "--min-p", type=float, default=0.0, help="only those with this share of the best (default: 0)"
        )
        parser.add_argument("--repetition-penalty", type=float, default=1.0, help="1 for none (default: 1)")
        parser.add_argument("--stop", action="append", default=[], help="end before this text (repeatable)")
        parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto", help="(default: auto)")

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print the prompt and what follows, as it comes."""
        from mambasdk_language.generation import generate

        prompts = args.prompt or [sys.stdin.read()]
        results = []
        for index, prompt in enumerate(prompts):
            if not args.json:
                print("\n" * bool(index) + prompt, end="", flush=True)
            result = generate(
                _target(args),
                prompt,
                max_new_tokens=args.max_new_tokens,
                temperature=args.temperature,
                top_k=args.top_k,
                top_p=args.top_p,
                min_p=args.min_p,
                repetition_penalty=args.repetition_penalty,
                seed=args.seed,
                stop=args.stop,
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


def _print_piece(piece: str) -> None:
    print(piece, end="", flush=True)


def _target(args: argparse.Namespace) -> Any:
    """The package, or its PyTorch model where device or dtype ask for more than the native engine has."""
    if args.engine == "native" or (args.device == "cpu" and args.dtype == "float32" and args.engine == "auto"):
        return args.model
    from mambasdk.cli.arguments import torch_dtype
    from mambasdk.package import load

    return load(args.model, device=args.device, dtype=torch_dtype(args.dtype))


def _engine(args: argparse.Namespace) -> dict[str, Any]:
    from mambasdk.package.reader import load_processors

    if args.engine == "native" or (args.device == "cpu" and args.dtype == "float32" and args.engine == "auto"):
        return {"engine": args.engine}
    processor = load_processors(args.model).get("text")
    return {} if processor is None else {"processor": processor}


def _processor(args: argparse.Namespace) -> TextProcessor:
    """The tokenizer that was asked for, that of the package to go on from, or raw bytes."""
    from mambasdk.cli.arguments import is_package
    from mambasdk.package.reader import load_processors

    if args.tokenizer:
        return TokenizerProcessor(args.tokenizer)
    if is_package(args.model):
        found = load_processors(args.model).get("text")
        if found is not None:
            processor: TextProcessor = found
            return processor
    return BytesProcessor()


def _model(args: argparse.Namespace, processor: TextProcessor) -> Any:
    """A new model whose vocabulary is the processor's, or the model of a package."""
    import torch

    from mambasdk.cli.arguments import is_package
    from mambasdk.models import create_model
    from mambasdk.package import load

    if is_package(args.model):
        if args.overrides:
            raise InvalidArgumentError(
                "--set has no effect on a package", where="train", way_out="give a family to start a new model"
            )
        return load(args.model, device=args.device, dtype=torch.float32)
    torch.manual_seed(args.seed)
    settings = {"vocab_size": processor.vocab_size, **args.overrides}
    return create_model(args.model, device=args.device, **settings)
