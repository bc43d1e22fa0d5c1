"""Mamba-2, attention and both, of equal parameters: looking up, copying and text (the claims of arXiv 2406.07887).

- phonebook: entries of a name (one of 26) and a number (two digits), then names, each to be answered with its number. A
  number counts if it is right as a whole.
- copying: letters, a mark, and the letters once more.
- text: bytes of Python's own standard library, held-out files; bits a byte.

The paper says that a state space model lags in the first two, and that a few layers of attention mend it. Mamba-2 here
has 6 layers and a small state (N = 16); the hybrid 2 of them, 1 attention and 3 MLPs, spread as in the paper; the
Transformer 3 attentions with rotary positions and 3 MLPs. MLPs are as wide as makes parameters equal.

    python examples/synthetic/hybrid_recall.py --plot recall.png

README.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from fitting import Accuracies, Batch, accuracy, draw, fit, loss_of, table
from torch import Tensor

import mambasdk
from mambasdk_language.families.hybrid.pattern import allocate
from mambasdk_language.quickstart import standard_library

NAMES, DIGITS, NUMBER, QUERIES = 26, 10, 2, 8
LETTERS = NAMES
MARK = NAMES + DIGITS
VOCABULARY = MARK + 1
LAYERS, WIDTH = 6, 64
CONTEXT = 256  # bytes of text
PATTERNS = {"mamba2": "M" * LAYERS, "transformer": "*-" * (LAYERS // 2), "hybrid": allocate(LAYERS, 1 / LAYERS, 0.5)}
# Task -> largest size in training, sizes in the test: entries, letters.
RECALL = {"phonebook": (8, (4, 8, 16, 26)), "copying": (16, (8, 16, 32, 64))}


def build(name: str, vocab_size: int, seed: int = 0) -> Any:
    """A language model of the pattern with the parameters of the pure Mamba-2."""

    def made(pattern: str, d_mlp: int) -> Any:
        torch.manual_seed(seed)
        return mambasdk.create_model(
            "hybrid", pattern=pattern, d_model=WIDTH, vocab_size=vocab_size, d_state=16, headdim=32, ngroups=1,
            num_heads=4, num_kv_heads=2, d_mlp=d_mlp, rotary_dim=16 if "M" not in pattern else 0, tie_embeddings=False,
        )  # fmt: skip

    pattern = PATTERNS[name]
    mlps = pattern.count("-")
    if not mlps:
        return made(pattern, 1)
    missing = parameters(made(PATTERNS["mamba2"], 1)) - parameters(made(pattern, 4 * WIDTH))
    return made(pattern, 4 * WIDTH + round(missing / (2 * WIDTH * mlps)))


def parameters(model: Any) -> int:
    """How many there are."""
    return sum(parameter.numel() for parameter in model.parameters())


def phonebook(size: int, entries: int, generator: torch.Generator) -> Batch:
    """Entries of different names, then a mark, a name and its number for eight of them: (B, 3 entries + 32)."""
    names = torch.rand(size, NAMES, generator=generator).argsort(1)[:, :entries, None]  # (B, entries, 1)
    numbers = torch.randint(DIGITS, (size, entries, NUMBER), generator=generator) + NAMES
    book = torch.cat([names, numbers], 2)  # (B, entries, 3)
    asked = torch.rand(size, entries, generator=generator).argsort(1)[:, :QUERIES, None]  # (B, 8 or fewer, 1)
    questions = torch.cat([torch.full_like(asked, MARK), book.gather(1, asked.expand(-1, -1, 1 + NUMBER))], 2)
    labels = torch.full_like(questions, -100)  # (B, 8, 4)
    labels[:, :, 1:-1] = questions[:, :, 2:]  # at each place the token after it
    tokens = torch.cat([book.flatten(1), questions.flatten(1)], 1)
    return tokens, torch.cat([torch.full_like(book.flatten(1), -100), labels.flatten(1)], 1)


def copying(size: int, length: int, generator: torch.Generator) -> Batch:
    """Letters, a mark, the letters: (B, 2 length + 1)."""
    letters = torch.randint(LETTERS, (size, length), generator=generator)
    tokens = torch.cat([letters, torch.full((size, 1), MARK), letters], 1)
    labels = torch.full_like(tokens, -100)
    labels[:, length:-1] = letters
    return tokens, labels


DRAWN = {"phonebook": (phonebook, NUMBER), "copying": (copying, 1)}  # and how many labels are one answer


def recall(task: str, name: str, args: argparse.Namespace) -> dict[int, float]:
    """Share of right answers by size of the task."""
    largest, sizes = RECALL[task]
    make, span = DRAWN[task]
    generator = torch.Generator().manual_seed(args.seed)
    model = build(name, VOCABULARY, args.seed)

    def loss() -> Tensor:
        size = int(torch.randint(2, largest + 1, (), generator=generator))
        return loss_of(model, *make(args.batch, size, generator))

    fit(model, loss, steps=args.steps, lr=args.lr, decay=0.1, name=f"{task}, {name}")
    model.eval()
    return {size: accuracy(model, *make(128, size, torch.Generator().manual_seed(1)), span=span) for size in sizes}


def text(name: str, args: argparse.Namespace) -> float:
    """Bits a byte of held-out files, windows of 256 bytes read from nothing."""
    corpus, _, held_out = standard_library()
    train = torch.from_numpy(corpus.train)
    generator = torch.Generator().manual_seed(args.seed)
    model = build(name, 256, args.seed)
    offsets = torch.arange(CONTEXT + 1)

    def loss() -> Tensor:
        starts = torch.randint(len(train) - CONTEXT, (max(1, args.batch // 4), 1), generator=generator)
        rows = train[starts + offsets].long()
        return loss_of(model, rows[:, :-1], rows[:, 1:])

    fit(model, loss, steps=args.text_steps, lr=args.lr, decay=0.1, name=f"text, {name}")
    model.eval()
    unseen = torch.frombuffer(bytearray(b"".join(document.data for document in held_out)), dtype=torch.uint8).long()
    rows = unseen[: len(unseen) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)[:: args.text_every]
    with torch.no_grad():
        losses = [float(loss_of(model, part[:, :-1], part[:, 1:])) * len(part) for part in rows.split(32)]
    return sum(losses) / len(rows) / math.log(2)


def plot(path: Path, result: Accuracies, bits: dict[str, float]) -> None:
    """Accuracies by size, and bars of the bits a byte."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(result) + bool(bits), squeeze=False)[0]
    for axis, (task, models) in zip(axes, result.items(), strict=False):
        draw(axis, task, models, RECALL[task][0], "entries" if task == "phonebook" else "letters")
    if bits:
        axes[-1].bar_label(axes[-1].bar(list(bits), list(bits.values()), color=["C0", "C1", "C2"]), fmt="%.2f")
        axes[-1].set(title="text", ylabel="bits a byte, held-out files")
    axes[0].legend(fontsize="small")
    figure.savefig(path)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train all, print the table and all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[*RECALL, "text"], default=[*RECALL, "text"])
    parser.add_argument("--models", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--steps", type=int, default=400, help="of phonebook and copying (default: 400)")
    parser.add_argument("--text-steps", type=int, default=200, help="(default: 200)")
    parser.add_argument("--text-every", type=int, default=8, help="held-out windows: one of so many (default: 8)")
    parser.add_argument("--batch", type=int, default=32, help="of text a quarter (default: 32)")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps: does it run")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the figures")
    args = parser.parse_args(argv)
    if args.quick:
        args.steps = args.text_steps = 2
        args.batch, args.text_every = 4, 200
    start = time.perf_counter()
    accuracies: Accuracies = {}
    bits: dict[str, float] = {}
    for task, name in product(args.tasks, args.models):
        if task == "text":
            bits[name] = text(name, args)
        else:
            accuracies.setdefault(task, {})[name] = recall(task, name, args)
            print(table({task: {name: accuracies[task][name]}}), flush=True)
    counts = {name: parameters(build(name, VOCABULARY)) for name in args.models}
    print(table(accuracies))
    for name, value in bits.items():
        print(f"  text, {name:<18}{value:>8.3f} bits a byte")
    if args.plot:
        plot(args.plot, accuracies, bits)
    result = {**accuracies, "text": bits, "parameters": counts, "patterns": PATTERNS}
    print(json.dumps({**result, "seconds": round(time.perf_counter() - start)}))
    return result


if __name__ == "__main__":
    main()
