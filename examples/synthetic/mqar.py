"""Recall of many pairs (MQAR, arXiv 2312.04927): Mamba-3 beside Mamba-2 with states of several sizes.

Pairs of a key and a value, then all keys once more in another order, each to be answered with its value. What a model
can answer is bounded by what its state can hold, so both have the same layers, widths and state sizes N.

    python examples/synthetic/mqar.py --plot mqar.png

README.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from fitting import Accuracies, Batch, accuracy, fit, loss_of, plot, table
from torch import Tensor

import mambasdk

KEYS, VALUES = 32, 32
PAIRS, FEWEST = 8, 2  # in training
TESTED = (4, 8, 16, 32)
MODELS = ("mamba2", "mamba3")


def pairs(size: int, count: int, generator: torch.Generator) -> Batch:
    """Pairs of a key and a value, then each key and its value once more in another order: (B, 4 count)."""
    keys = torch.rand(size, KEYS, generator=generator).argsort(1)[:, :count]
    values = KEYS + torch.randint(VALUES, (size, count), generator=generator)
    again = torch.rand(size, count, generator=generator).argsort(1)
    asked, answers = keys.gather(1, again), values.gather(1, again)
    tokens = torch.cat([torch.stack([keys, values], 2), torch.stack([asked, answers], 2)], 1).flatten(1)
    labels = torch.full_like(tokens, -100)
    labels[:, 2 * count :: 2] = answers
    return tokens, labels


def train(name: str, d_state: int, *, steps: int, size: int, lr: float, seed: int) -> Any:
    """Two layers of D = 64, trained with up to 8 pairs."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": 64, "n_layer": 2, "d_state": d_state, "headdim": 32}
    model: Any = mambasdk.create_model(name, vocab_size=KEYS + VALUES, tie_embeddings=False, **sizes)

    def loss() -> Tensor:
        count = int(torch.randint(FEWEST, PAIRS + 1, (), generator=generator))
        return loss_of(model, *pairs(size, count, generator))

    fit(model, loss, steps=steps, lr=lr, decay=0.01, name=f"{name}, N = {d_state}")
    return model.eval()


def main(argv: list[str] | None = None) -> Accuracies:
    """Train all, print the accuracies by number of pairs as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--states", nargs="+", type=int, default=[16, 64], help="N (default: 16 64)")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the accuracies")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    result: Accuracies = {}
    for d_state in args.states:
        task = f"recall, N = {d_state}"
        result[task] = {}
        for name in args.models:
            model = train(name, d_state, steps=args.steps, size=args.batch, lr=args.lr, seed=args.seed)
            result[task][name] = {
                count: accuracy(model, *pairs(128, count, torch.Generator().manual_seed(1 + count))) for count in TESTED
            }
            print(table({task: {name: result[task][name]}}), flush=True)
    print(table(result))
    if args.plot:
        plot(args.plot, result, PAIRS, "pairs")
    print(json.dumps({**result, "seconds": round(time.perf_counter() - start)}))
    return result


if __name__ == "__main__":
    main()
