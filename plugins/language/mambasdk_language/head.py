"""The head `causal_lm`: `mambasdk train` and `mambasdk generate` for language models. Imports torch only to train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.text import BytesProcessor, TextProcessor, TokenizerProcessor

if TYPE_CHECKING:
    from mambasdk_language.training import TrainingOptions


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
        run = parser.add_argument_group("training")
        run.add_argument("--steps", type=int, help="end after so many steps (default: 1000 unless --minutes is given)")
        run.add_argument("--minutes", type=float, help="end after so much time")
        run.add_argument("--batch", type=int, default=8, help="rows per step (default: 8)")
        run.add_argument("--context", type=int, default=512, help="tokens per row and step (default: 512)")
        run.add_argument("--segment", type=int, default=8, help="steps through which a row's state goes (default: 8)")
        run.add_argument("--lr", type=float, default=3e-3, help="peak learning rate (default: 0.003)")
        run.add_argument("--warmup", type=float, default=0.03, help="share of the run for warm-up (default: 0.03)")
        run.add_argument("--weight-decay", type=float, default=0.1, help="of matrices (default: 0.1)")
        run.add_argument("--clip", type=float, default=1.0, help="largest gradient norm (default: 1)")
        run.add_argument("--evaluate-every", type=int, default=0, help="steps between held-out evaluations")
        run.add_argument("--checkpoint", metavar="FILE", help="where checkpoints go (default: OUT.checkpoint)")
        run.add_argument("--checkpoint-every", type=int, default=0, help="steps between checkpoints (default: none)")
        run.add_argument("--resume", action="store_true", help="go on from the checkpoint, where there is one")
        run.add_argument("--curve", metavar="FILE", help="write the loss curve as PNG")
        run.add_argument("--overwrite", action="store_true", help="replace a package that is there")

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.package import save_package
        from mambasdk_language.corpus import make_corpus, read_documents, split_documents
        from mambasdk_language.training import Trainer

        out = Path(args.out)
        if out.exists() and any(out.iterdir()) and not args.overwrite:
            raise InvalidArgumentError(f"{out} exists", where="train", way_out="pass --overwrite or another --out")
        options = _options(args)
        processor = _processor(args)
        train, held_out = split_documents(read_documents(args.data, args.pattern), args.held_out)
        corpus = make_corpus(train, held_out, processor)
        model = _model(args, processor)
        trainer = Trainer(model, corpus, options)
        checkpoint = Path(args.checkpoint or f"{out}.checkpoint")
        if args.resume and checkpoint.is_file():
            trainer.resume(checkpoint)
        result = trainer.run(
            evaluate_every=args.evaluate_every, checkpoint=checkpoint, checkpoint_every=args.checkpoint_every
        )
        bits = trainer.evaluate()
        manifest = save_package(model, out, processors={"text": processor.manifest_entry()}, overwrite=args.overwrite)
        if args.curve:
            from mambasdk_language.curve import write_curve

            write_curve(args.curve, result)
        report = {
            "package": str(out),
            "family": manifest.family,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_bytes": corpus.train_bytes,
            "held_out_bytes": corpus.held_out_bytes,
            "steps": result.steps,
            "tokens": result.tokens,
            "tokens_per_second": result.tokens_per_second,
            "loss_bits": result.losses[-1] if result.losses else None,
            "held_out_bits_per_byte": bits,
        }
        if not args.json:
            print(f"{out}: {report['parameters']:,} parameters, {result.steps} steps, {result.tokens:,} tokens")
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


def _options(args: argparse.Namespace) -> TrainingOptions:
    from mambasdk.cli.arguments import torch_dtype
    from mambasdk_language.training import TrainingOptions

    steps = args.steps if args.steps is not None or args.minutes is not None else 1000
    return TrainingOptions(
        steps=steps,
        minutes=args.minutes,
        batch=args.batch,
        context=args.context,
        segment=args.segment,
        lr=args.lr,
        warmup=args.warmup,
        weight_decay=args.weight_decay,
        clip=args.clip,
        seed=args.seed,
        autocast=None if args.dtype == "float32" else torch_dtype(args.dtype),
    )


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
