"""`python -m mambasdk_language.quickstart`: train a byte-level Mamba on Python's own standard library, run it from C++.

The run is the same everywhere: so many steps of the same data with the same seed. How long it takes is up to
the machine, about two minutes on two quiet cores; the time left is shown. Ends with a table: bits per byte on held-out
files beside an order-5 n-gram model of the same training files, parameters, training speed, generation speed in C++ and
in PyTorch. Exit code 1 when the n-gram model is not beaten.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mambasdk
from mambasdk.command_line import json_text
from mambasdk.errors import InvalidArgumentError, MambaSDKError, MissingDependencyError, require_torch
from mambasdk.progress import show_progress
from mambasdk.threads import load_warnings, usable_cores, wait_passively
from mambasdk_language.corpus import Corpus, Document, make_corpus, read_documents
from mambasdk_language.ngram import NgramModel
from mambasdk_language.processors import BytesProcessor

# Tests are larger than the library itself; encodings and pydoc_data are generated tables.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "encodings", "pydoc_data", "idle_test", "__pycache__"}
HELD_OUT = 0.03
STEPS = 1900
NGRAM_ORDER = 5
PROMPT = 'def read_lines(path):\n    """Return'
MODEL: dict[str, Any] = {"d_model": 192, "n_layer": 4, "d_state": 16, "vocab_size": 256}


@dataclass
class Report:
    """What the run printed at its end."""

    bits_per_byte: float
    ngram_bits_per_byte: float
    parameters: int
    training_tokens: int
    training_tokens_per_second: float
    cpp_tokens_per_second: float
    torch_tokens_per_second: float
    same_text: bool
    seconds: float
    package: str
    curve: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the model beats the n-gram model and the package verifies."""
    wait_passively()
    args = _parse(argv)
    try:
        with show_progress():
            report = run(args)
    except MambaSDKError as error:
        print(f"quickstart: error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json_text(vars(report)))
    return 0 if report.bits_per_byte < report.ngram_bits_per_byte else 1


def run(args: argparse.Namespace) -> Report:
    """The whole way, from text files to a package that the C++ program runs."""
    started = time.perf_counter()
    say = _silent if args.json else _say
    torch = require_torch("the quickstart")
    from mambasdk.training import Trainer, TrainingOptions, write_curve
    from mambasdk_language.heads.causal_lm import CURVE
    from mambasdk_language.training import LanguageModeling

    out = Path(args.out)
    corpus, train, held_out = standard_library() if args.data is None else _other(args.data)
    say(f"1. text: {corpus.train_bytes / 1e6:.1f} MB to train on, {corpus.held_out_bytes / 1e3:.0f} KB held out")

    ngram = NgramModel([document.data for document in train], NGRAM_ORDER)
    ngram_bits = ngram.bits_per_byte([document.data for document in held_out])
    del ngram
    say(f"2. order-{NGRAM_ORDER} n-gram model: {ngram_bits:.3f} bits per byte on the held-out files")

    torch.manual_seed(args.seed)
    model: Any = mambasdk.create_model("mamba", **MODEL)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    torch.set_num_threads(args.threads or min(torch.get_num_threads(), usable_cores()))
    say(
        f"3. training a Mamba of {parameters:,} parameters: {args.steps} steps of {args.batch} rows of {args.context} "
        f"bytes, {torch.get_num_threads()} threads"
    )
    for warning in load_warnings():
        say(f"   {warning}")
    options = TrainingOptions(
        steps=args.steps,
        batch=args.batch,
        lr=args.lr,
        seed=args.seed,
        autocast="bfloat16" if has_bfloat16_products() else None,
    )
    task = LanguageModeling(model, corpus, batch=args.batch, context=args.context, segment=args.segment, seed=args.seed)
    trainer = Trainer(model, task, options)
    result = trainer.run(evaluate_at=(0.25, 0.5, 0.75), progress=not args.json)
    bits = trainer.evaluate()["bits_per_byte"]

    out.mkdir(parents=True, exist_ok=True)
    curve = out / "loss.png"
    label = f"order-{NGRAM_ORDER} n-gram, held-out"
    write_curve(curve, result, title="Mamba on Python's standard library", baselines={label: ngram_bits}, **CURVE)
    package = out / "package"
    mambasdk.save_package(model, package, processors={"text": BytesProcessor().manifest_entry()}, overwrite=True)
    verified = mambasdk.verify(package)
    if not verified.passed or verified.skipped:
        raise MambaSDKError("the package does not verify", where=str(package), got=verified)
    say(f"4. package {package}: verified in {' and '.join(verified.errors)}; loss curve {curve}")

    say(f"5. mambasdk-run, the C++ program, continues {PROMPT!r}:\n")
    text, cpp_speed = _run_native(package, args.seed)
    say(PROMPT + text + "\n")
    torch_text, torch_speed = _run_torch(model, args.seed)

    report = Report(
        bits_per_byte=bits,
        ngram_bits_per_byte=ngram_bits,
        parameters=parameters,
        training_tokens=result.units,
        training_tokens_per_second=result.units_per_second,
        cpp_tokens_per_second=cpp_speed,
        torch_tokens_per_second=torch_speed,
        same_text=text == torch_text,
        seconds=time.perf_counter() - started,
        package=str(package),
        curve=str(curve),
    )
    say(table(report))
    return report


def table(report: Report) -> str:
    """The closing lines."""
    change = 100 * (report.bits_per_byte / report.ngram_bits_per_byte - 1)
    words = f"{abs(change):.1f} % {'fewer' if change < 0 else 'MORE'} than the n-gram model"
    rows = [
        (
            "held-out bits per byte, Mamba",
            f"{report.bits_per_byte:.3f}, {words}",
        ),
        (f"held-out bits per byte, order-{NGRAM_ORDER} n-gram", f"{report.ngram_bits_per_byte:.3f}"),
        ("parameters", f"{report.parameters:,}"),
        ("training", f"{report.training_tokens_per_second:,.0f} tokens/s, {report.training_tokens / 1e6:.1f} M tokens"),
        ("generation, C++", f"{report.cpp_tokens_per_second:,.0f} tokens/s"),
        ("generation, PyTorch", f"{report.torch_tokens_per_second:,.0f} tokens/s"),
        ("same text from both", "yes" if report.same_text else "no: rounding differs, and sampling with it"),
        ("time in all", f"{report.seconds:.0f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def has_bfloat16_products() -> bool:
    """Whether the processor multiplies matrices of bfloat16 itself, which is faster than float32 then."""
    from mambasdk import runtime

    return runtime.cpu_info()["isa_detected"] in ("avx512_bf16", "avx512_amx")


def standard_library() -> tuple[Corpus, list[Document], list[Document]]:
    """Python's own sources, split by file: (corpus, training documents, held-out documents)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [
        Document(path.relative_to(root).as_posix(), path.read_bytes())
        for path in sorted(root.rglob("*.py"))
        if not _LEFT_OUT & set(path.relative_to(root).parts) and path.is_file()
    ]
    if sum(len(document.data) for document in found) < 1 << 20:
        raise InvalidArgumentError(f"less than 1 MB of Python sources in {root}", way_out="pass --data DIR")
    return _split([document for document in found if document.data])


def _other(paths: Sequence[str]) -> tuple[Corpus, list[Document], list[Document]]:
    return _split(read_documents(paths))


def _split(documents: list[Document]) -> tuple[Corpus, list[Document], list[Document]]:
    from mambasdk_language.corpus import split_documents

    train, held_out = split_documents(documents, HELD_OUT)
    return make_corpus(train, held_out, BytesProcessor()), train, held_out


def _run_native(package: Path, seed: int) -> tuple[str, float]:
    """Text and tokens per second of `mambasdk-run`."""
    command = [native_command(), str(package), "--prompt", PROMPT, "--max-new-tokens", "400", "--stats"]
    command += ["--temperature", "0.6", "--top-p", "0.95", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    stats = done.stderr.decode(errors="replace")
    speed = re.search(r"generated: \d+ tokens, ([\d.]+) tokens/s", stats)
    if done.returncode != 0 or speed is None:
        raise MambaSDKError(f"mambasdk-run failed: {stats.strip()}", got=f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace").removesuffix("\n"), float(speed[1])


def _run_torch(model: Any, seed: int) -> tuple[str, float]:
    from mambasdk_language.generation import generate

    result = generate(model.eval(), PROMPT, max_new_tokens=400, temperature=0.6, top_p=0.95, seed=seed)
    return result.text, result.tokens_per_second


def native_command() -> str:
    """The path of `mambasdk-run`: the program in the installed package, else the first on the PATH."""
    shipped = Path(mambasdk.__file__).parent / "bin" / "mambasdk-run"
    found = str(shipped) if shipped.is_file() else shutil.which("mambasdk-run")
    if found is None:
        raise MissingDependencyError("there is no mambasdk-run", way_out="pip install mambasdk, see `mambasdk doctor`")
    return found


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    pass


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mambasdk_language.quickstart", description=__doc__)
    parser.add_argument("--out", default="quickstart", help="where package and curve go (default: %(default)s)")
    parser.add_argument("--data", nargs="+", help="other text than Python's standard library: files and directories")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--context", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--segment", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--lr", type=float, default=4e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
