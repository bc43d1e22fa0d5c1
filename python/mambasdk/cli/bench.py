"""`mambasdk bench MODEL`: prefill, decode and training speed, in PyTorch and in the native engine; medians."""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mambasdk.cli.arguments import add_device_arguments, add_overrides, is_package, set_threads, torch_dtype
from mambasdk.errors import InvalidArgumentError, require_torch
from mambasdk.models import create_model
from mambasdk.package import Manifest, load, save_package


class BenchCommand:
    """A package is measured as it is; a model name with fresh weights."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Model, sizes and repeats."""
        parser.add_argument("model", help="a package, a variant or a family")
        parser.add_argument("--batch", type=int, default=1, help="sequences (default: 1)")
        parser.add_argument(
            "--length", type=int, default=512, help="tokens of a prefill or training step (default: 512)"
        )
        parser.add_argument("--decode", type=int, default=32, help="tokens decoded one by one (default: 32)")
        parser.add_argument("--repeats", type=int, default=5, help="repeats; the median counts (default: 5)")
        parser.add_argument("--no-train", action="store_true", help="leave out forward and backward")
        add_overrides(parser)
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Measure and print tokens per second."""
        for name in ("batch", "length", "repeats", "decode"):
            if getattr(args, name) < 1:
                raise InvalidArgumentError(f"bad --{name}", expected="1 or more", got=getattr(args, name))
        set_threads(args.threads)
        model = _model(args)
        rows = _torch_rows(model, args)
        with tempfile.TemporaryDirectory() as scratch:
            rows += _native_rows(model, args, Path(scratch))
        result = {
            "model": args.model,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "batch": args.batch,
            "length": args.length,
            "threads": require_torch("bench").get_num_threads(),
            "rows": rows,
        }
        if not args.json:
            print(f"{args.model}: {result['parameters']:,} parameters, batch {args.batch}, {result['threads']} threads")
            for row in rows:
                speed = f"{row['seconds'] * 1e3:10.2f} ms {row['tokens_per_second']:12.1f} tokens/s"
                print(f"{row['engine']:<7} {row['work']:<17} {speed}")
        return result


def _model(args: argparse.Namespace) -> Any:
    dtype = torch_dtype(args.dtype)
    if is_package(args.model):
        return load(args.model, device=args.device, dtype=dtype)
    return create_model(args.model, device=args.device, dtype=dtype, **args.overrides).eval()


def _torch_rows(model: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    torch = require_torch("bench")
    tokens = torch.randint(model.vocab_size, (args.batch, args.length), device=args.device)
    total = tokens.numel()

    def prefill() -> None:
        with torch.no_grad():
            model(tokens, logits_to_keep=1)

    with torch.no_grad():
        start = model(tokens[:, :8], logits_to_keep=1).state

    def decode() -> None:
        state = start
        with torch.no_grad():
            for _ in range(args.decode):
                state = model(tokens[:, :1], state).state

    def train() -> None:
        model.zero_grad(set_to_none=True)
        model(tokens, labels=tokens, return_state=False).loss.backward()

    rows = [
        _row("torch", "prefill", _median(prefill, args.repeats), total),
        _row("torch", "decode", _median(decode, args.repeats), args.decode * args.batch),
    ]
    if not args.no_train:
        rows.append(_row("torch", "forward+backward", _median(train, args.repeats), total))
        model.zero_grad(set_to_none=True)
    return rows


def _native_rows(model: Any, args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    try:
        core = importlib.import_module("mambasdk._core")
    except ImportError:
        return []
    numpy = importlib.import_module("numpy")

    package = Path(args.model)
    if not is_package(args.model):
        package = scratch / "package"
        save_package(model, package, golden=False, readme=False)
    if Manifest.read(package).engine["name"] != "native":
        return []
    session = core.load_package(str(package)).session()
    tokens = numpy.random.default_rng(0).integers(model.vocab_size, size=(args.batch, args.length), dtype=numpy.int32)

    def prefill() -> None:
        session.reset()
        session.run({"tokens": tokens}, outputs=["last_logits"])

    def decode() -> None:
        for _ in range(args.decode):
            session.run({"tokens": tokens[:, :1]}, outputs=["last_logits"])

    return [
        _row("native", "prefill", _median(prefill, args.repeats), tokens.size),
        _row("native", "decode", _median(decode, args.repeats), args.decode * args.batch),
    ]


def _row(engine: str, work: str, seconds: float, tokens: int) -> dict[str, Any]:
    return {"engine": engine, "work": work, "seconds": seconds, "tokens_per_second": tokens / seconds}


def _median(work: Callable[[], None], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
