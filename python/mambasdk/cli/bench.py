"""`mambasdk bench MODEL`: inference and training speed, in PyTorch and in the native engine; medians.

Language models are measured by tokens (prefill, decode, training), all others by calls with their example inputs.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mambasdk.command_line.arguments import (
    add_device_arguments,
    add_loading_arguments,
    add_overrides,
    set_threads,
    torch_dtype,
)
from mambasdk.errors import InvalidArgumentError, MissingDependencyError, require_torch
from mambasdk.lowering import Model, as_model, runs_by_name
from mambasdk.models import create_model
from mambasdk.package import Manifest, is_package, load, save_package


class BenchCommand:
    """A package is measured as it is; a model name with fresh weights."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Model, sizes and repeats."""
        parser.add_argument("model", help="a package, a variant or a family")
        parser.add_argument("--batch", type=int, default=1, help="sequences, images, clips, … (default: 1)")
        parser.add_argument("--length", type=int, default=512, help="language models: tokens of a step (default: 512)")
        parser.add_argument(
            "--decode", type=int, default=32, help="language models: tokens decoded one by one (default: 32)"
        )
        parser.add_argument("--repeats", type=int, default=5, help="repeats; the median counts (default: 5)")
        parser.add_argument("--no-train", action="store_true", help="leave out forward and backward")
        add_overrides(parser)
        add_loading_arguments(parser)
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Measure and print tokens per second."""
        for name in ("batch", "length", "repeats", "decode"):
            if getattr(args, name) < 1:
                raise InvalidArgumentError(f"bad --{name}", expected="1 or more", got=getattr(args, name))
        set_threads(args.threads)
        model = _model(args)
        session = None
        with tempfile.TemporaryDirectory() as scratch:
            session = _session(model, args, Path(scratch))
            contract = as_model(model)
            generates = contract.vocab_size is not None and contract.initial_state(1) is not None
            bench = _tokens if generates else _calls
            unit, rows = bench(model, session, args)
        result = {
            "model": args.model,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "batch": args.batch,
            **({"length": args.length} if unit == "tokens" else {}),
            "threads": require_torch("bench").get_num_threads(),
            "rows": [
                {"engine": engine, "work": work, "seconds": seconds, f"{unit}_per_second": count / seconds}
                for engine, work, seconds, count in rows
            ],
        }
        if not args.json:
            print(f"{args.model}: {result['parameters']:,} parameters, batch {args.batch}, {result['threads']} threads")
            for engine, work, seconds, count in rows:
                print(f"{engine:<7} {work:<17} {seconds * 1e3:10.2f} ms {count / seconds:12.1f} {unit}/s")
        return result


Rows = list[tuple[str, str, float, int]]  # engine, what it did, seconds, units done


def _model(args: argparse.Namespace) -> Any:
    dtype = torch_dtype(args.dtype)
    if is_package(args.model):
        return load(args.model, device=args.device, dtype=dtype, verify=args.verify is not False)
    return create_model(args.model, device=args.device, dtype=dtype, **args.overrides).eval()


def _session(model: Any, args: argparse.Namespace, scratch: Path) -> Any:
    """A session of the package's engine, None where it runs in PyTorch alone, or its code is not allowed."""
    package = Path(args.model)
    if not is_package(args.model):
        package = scratch / "package"
        save_package(model, package, golden=False, readme=False)
    manifest = Manifest.read(package)
    if manifest.engine["name"] == "torch" or (manifest.executes_code and not args.allow_code):
        return None
    try:
        runtime = importlib.import_module("mambasdk.runtime")
    except MissingDependencyError:
        return None
    return runtime.load_package(package, verify=args.verify, allow_code=args.allow_code).session()


def _tokens(model: Any, session: Any, args: argparse.Namespace) -> tuple[str, Rows]:
    """A language model: prefill, decode, and forward with backward."""
    torch = require_torch("bench")
    tokens = torch.randint(model.vocab_size, (args.batch, args.length), device=args.device)
    decoded = args.decode * args.batch

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

    rows: Rows = [
        ("torch", "prefill", _median(prefill, args.repeats), tokens.numel()),
        ("torch", "decode", _median(decode, args.repeats), decoded),
    ]
    if not args.no_train:
        rows.append(("torch", "forward+backward", _median(train, args.repeats), tokens.numel()))
        model.zero_grad(set_to_none=True)
    if session is None:
        return "tokens", rows
    array = tokens.to("cpu", torch.int32).numpy()

    def native_prefill() -> None:
        session.reset()
        session.run({"tokens": array}, outputs=["last_logits"])

    def native_decode() -> None:
        for _ in range(args.decode):
            session.run({"tokens": array[:, :1]}, outputs=["last_logits"])

    rows.append(("native", "prefill", _median(native_prefill, args.repeats), array.size))
    rows.append(("native", "decode", _median(native_decode, args.repeats), decoded))
    return "tokens", rows


def _calls(model: Any, session: Any, args: argparse.Namespace) -> tuple[str, Rows]:
    """Any other model: one call with its example inputs, repeated along the batch where they have one."""
    torch = require_torch("bench")
    contract = as_model(model)
    if not runs_by_name(contract):
        raise InvalidArgumentError(
            f"{type(model).__name__} has no example_inputs and native_outputs", where=f"bench {args.model}"
        )
    inputs = _batched(contract, args)

    def infer() -> None:
        with torch.no_grad():
            contract.native_outputs(inputs)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        outputs = contract.native_outputs(inputs)
        loss: Any = sum(output.float().square().mean() for output in outputs.values() if output.requires_grad)
        loss.backward()

    rows: Rows = [("torch", "forward", _median(infer, args.repeats), args.batch)]
    if not args.no_train:
        rows.append(("torch", "forward+backward", _median(train, args.repeats), args.batch))
        model.zero_grad(set_to_none=True)
    if session is not None:
        arrays = {name: (t.float() if t.is_floating_point() else t).cpu().numpy() for name, t in inputs.items()}
        with torch.no_grad():
            names = list(contract.native_outputs(inputs))

        def native() -> None:
            session.reset()
            session.run(arrays, outputs=names)

        rows.append(("native", "forward", _median(native, args.repeats), args.batch))
    return "items", rows


def _batched(model: Model, args: argparse.Namespace) -> dict[str, Any]:
    """The example inputs with `--batch` rows; raises InvalidArgumentError where an input has no batch in front."""
    shapes = model.input_shapes()
    dtype, inputs = torch_dtype(args.dtype), {}
    for name, example in model.example_inputs().items():
        tensor = example
        if shapes[name][:1] == ["B"]:
            tensor = example[[i % len(example) for i in range(args.batch)]]
        elif args.batch != 1:
            raise InvalidArgumentError(
                "bad --batch", where=f"bench {args.model}", expected=f"1: input {name} has no batch", got=args.batch
            )
        inputs[name] = tensor.to(args.device, dtype if tensor.is_floating_point() else tensor.dtype)
    return inputs


def _median(work: Callable[[], None], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
