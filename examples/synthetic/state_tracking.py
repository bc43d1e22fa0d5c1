"""State tracking: Mamba-3 beside Mamba-2, on two tasks that need a state that turns.

- parity: after each bit, whether the ones so far are odd.
- sum: after each digit, the sum so far modulo 5.

A decay alone cannot count: it forgets or adds up. Mamba-3 turns its state by angles that the data give, so a turn by pi
is a parity and one by 2 pi / 5 a digit modulo 5 (arXiv 2603.15569). The third model is Mamba-3 with its angles at 0.

    python examples/synthetic/state_tracking.py --plot accuracy.png

Accuracy at lengths beyond the trained one shows whether a rule was learned or its first steps by heart. README.md has
what came out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fitting import Accuracies, Batch, accuracy, fit, loss_of, plot, table
from torch import Tensor

import mambasdk

MODULUS = 5
LENGTH, SHORTEST = 16, 4  # in training
LENGTHS = (16, 32, 64, 128)  # in the test


def parity(size: int, length: int, generator: torch.Generator) -> Batch:
    """Bits, and the parity so far."""
    bits = torch.randint(2, (size, length), generator=generator)
    return bits, bits.cumsum(1) % 2


def modular_sum(size: int, length: int, generator: torch.Generator) -> Batch:
    """Digits, and their sum so far modulo 5."""
    digits = torch.randint(MODULUS, (size, length), generator=generator)
    return digits, digits.cumsum(1) % MODULUS


# Task -> how it is drawn, its vocabulary.
TASKS: dict[str, tuple[Callable[..., Batch], int]] = {"parity": (parity, 2), "sum": (modular_sum, MODULUS)}
MODELS = ("mamba2", "mamba3", "mamba3 without rotation")


def build(name: str, vocabulary: int, seed: int) -> Any:
    """One layer of D = 64 and N = 32. Steps begin ten times as large as in models of text, for all alike."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": 64, "d_state": 32, "headdim": 16, "vocab_size": vocabulary, "n_layer": 1}
    start = {"dt_min": 0.1, "dt_max": 1.0}
    return mambasdk.create_model(name.split(maxsplit=1)[0], tie_embeddings=False, **sizes, **start)


def hold_angles(model: Any) -> None:
    """Set the rates of the angles to 0: rows of the input projections."""
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.mixer.in_proj.weight[-layer.mixer.angles :] = 0


def train(name: str, task: str, *, steps: int, size: int, lr: float, seed: int) -> Any:
    """A model trained at lengths up to 16."""
    draw, vocabulary = TASKS[task]
    generator = torch.Generator().manual_seed(seed)
    model = build(name, vocabulary, seed)
    held = "without" in name

    def loss() -> Tensor:
        if held:
            hold_angles(model)
        shorter = int(torch.randint(SHORTEST, LENGTH + 1, (), generator=generator))
        return loss_of(model, *draw(size, shorter // 4 * 4, generator))

    fit(model, loss, steps=steps, lr=lr, decay=0.01, name=f"{task}, {name}")
    if held:
        hold_angles(model)
    return model.eval()


def late_accuracy(model: Any, task: str, length: int, count: int = 128) -> float:
    """Share of right answers in the second half of new sequences of this length."""
    tokens, labels = TASKS[task][0](count, length, torch.Generator().manual_seed(1 + length))
    labels[:, : length // 2] = -100
    return accuracy(model, tokens, labels)


def main(argv: list[str] | None = None) -> Accuracies:
    """Train all, print the accuracies as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the accuracies")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    result: Accuracies = {}
    for task in args.tasks:
        result[task] = {}
        for name in args.models:
            model = train(name, task, steps=args.steps, size=args.batch, lr=args.lr, seed=args.seed)
            result[task][name] = {length: late_accuracy(model, task, length) for length in LENGTHS}
    print(table(result))
    if args.plot:
        plot(args.plot, result, LENGTH)
    print(json.dumps({**result, "seconds": round(time.perf_counter() - start)}))
    return result


if __name__ == "__main__":
    main()
