"""A language in which what is hidden is told before or after: Hydra, causal Mamba-2, and other matrices on it.

python grammar.py --out results
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import mambasdk
from mambasdk import ops
from mambasdk.nn import MATRIX_MIXERS, Hydra, Mamba2, MatrixMixer

KEYS, VALUES, PAIRS = 8, 8, 16
MASK = KEYS + VALUES
LENGTH = 2 * PAIRS
CHANNELS, LAYERS, STATE, RANK, HEAD = 64, 2, 16, 8, 32
TOLERANCE = 1e-10  # of the largest singular value, in float64: what counts for the rank


class Sentences(NamedTuple):
    """tokens: (n, LENGTH) with masks. labels: (n, LENGTH) int64, -100 where nothing is asked.

    before, after: (n, LENGTH) bool, whether the same pair stands on that side, unhidden.
    """

    tokens: Tensor
    labels: Tensor
    before: Tensor
    after: Tensor


def sentences(generator: np.random.Generator, count: int) -> Sentences:
    """Pairs of a key and a value; in one sentence a key has one value, in the next another. A fifth of the values is
    hidden, and asked for where the same pair stands somewhere else in the sentence.
    """
    meaning = generator.integers(0, VALUES, (count, KEYS))
    keys = generator.integers(0, KEYS, (count, PAIRS))
    values = KEYS + np.take_along_axis(meaning, keys, 1)
    hidden = generator.random(keys.shape) < 0.2
    told = (keys[:, :, None] == keys[:, None, :]) & ~hidden[:, None, :]  # (n, asked, where it is told)
    before, after = (np.where(part(np.ones((PAIRS, PAIRS))), told, False).any(2) for part in (_below, _above))
    asked = hidden & (before | after)
    tokens = np.stack([keys, np.where(hidden, MASK, values)], 2)
    labels = np.stack([np.full_like(keys, -100), np.where(asked, values, -100)], 2)
    nowhere = np.zeros_like(asked)
    sides = (np.stack([nowhere, side & asked], 2) for side in (before, after))
    return Sentences(*(torch.from_numpy(each.reshape(count, LENGTH)) for each in (tokens, labels, *sides)))


def _below(square: Any) -> Any:
    return np.tril(square, -1) > 0


def _above(square: Any) -> Any:
    return np.triu(square, 1) > 0


class Sum(Hydra):
    """Two scans, one from each end, added: both have the diagonal, and nothing is shifted ("Add" in the paper)."""

    def forward(self, x: Tensor, state: None = None, **_: Any) -> Any:
        """(B, L, D) -> (B, L, D)."""
        z, heads, forward, backward, _ = self._parts(x, None)
        steps = self._steps()
        y = heads * self.D.unsqueeze(-1)
        for one, reverse in ((forward, False), (backward, True)):
            y = y + ops.ssd(
                heads, one.dt, steps.A, one.B, one.C, dt_bias=steps.dt_bias, dt_softplus=True, reverse=reverse
            )
        return self.out_proj(self.norm(y.flatten(-2), z))


def with_mixers(make: Callable[[], nn.Module]) -> nn.Module:
    """The Hydra encoder with other mixers in its layers."""
    model: Any = encoder("hydra")
    for layer in model.bert.encoder.layer:
        layer.layer.mixer = make()
    return model  # type: ignore[no-any-return]


def encoder(mixer: str) -> nn.Module:
    """A masked language model of the sentences."""
    return mambasdk.create_model(
        "hydra",
        vocab_size=MASK + 1,
        d_model=CHANNELS,
        n_layer=LAYERS,
        mixer=mixer,
        d_state=STATE,
        headdim=HEAD,
        qk_dim=RANK,
        max_seq_len=LENGTH,
        prenorm=True,
        dropout=0.0,
        initializer_range=0.1,
    )


def models() -> dict[str, Callable[[], nn.Module]]:
    """What is compared, by name."""
    return {
        "Hydra": lambda: encoder("hydra"),
        "Mamba-2, causal": lambda: with_mixers(lambda: Mamba2(CHANNELS, STATE, 4, 2, HEAD)),
        "Mamba-2, both directions added": lambda: with_mixers(lambda: Sum(CHANNELS, STATE, 7, 2, HEAD)),
        **{kind: (lambda kind=kind: encoder(kind)) for kind in MATRIX_MIXERS},  # type: ignore[misc]
    }


def ranks(length: int = 64, rank: int = 4, width: int = 16) -> dict[str, dict[str, int]]:
    """Largest ranks of the mixers' matrices (length x length) for noise, with two heads and a state, or q, of `rank`.

    below, above: of all blocks that begin beside the diagonal and end in a corner. whole: of the matrix.
    """
    torch.manual_seed(0)
    x = torch.randn(1, length, width, dtype=torch.float64)
    made: dict[str, Any] = {"Hydra": Hydra(width, rank, headdim=width)}
    made |= {kind: MatrixMixer(width, kind, length, qk_dim=rank, headdim=width) for kind in MATRIX_MIXERS}
    found = {}
    for name, mixer in made.items():
        with torch.no_grad():
            matrix = mixer.double().matrix(x)[0]  # (H, L, L)
        cuts = range(1, length)
        found[name] = {
            "below": max(_rank(matrix[:, cut:, :cut]) for cut in cuts),
            "above": max(_rank(matrix[:, :cut, cut:]) for cut in cuts),
            "whole": _rank(matrix),
        }
    return found


def _rank(matrices: Tensor) -> int:
    return int(torch.linalg.matrix_rank(matrices, rtol=TOLERANCE).max())


def train(make: Callable[[], nn.Module], steps: int, batch: int, rate: float, seed: int) -> dict[str, float]:
    """Accuracy on sentences that were not seen: of all, and of those told on one side alone."""
    torch.manual_seed(seed)
    model: Any = make()
    optimizer = torch.optim.AdamW(mambasdk.nn.parameter_groups(model, 0.01), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    generator = np.random.default_rng(seed)
    start = time.perf_counter()
    for _ in range(steps):
        given = sentences(generator, batch)
        loss = model(given.tokens, labels=given.labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    model.eval()
    given = sentences(np.random.default_rng(10_000), 2000)
    with torch.no_grad():
        out = model(given.tokens, labels=given.labels)
    right = out.logits.argmax(-1) == given.labels
    asked = given.labels >= 0
    parts = {"all": asked, "before": given.before & ~given.after, "after": given.after & ~given.before}
    scores = {name: float(right[part].double().mean()) for name, part in parts.items()}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {**scores, "loss": float(out.loss), "parameters": parameters, "seconds": seconds}


def draw(results: dict[str, dict[str, float]], out: Path) -> None:
    """Bars for values that are told before, and after, by model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(results))
    for shift, (part, label, colour) in enumerate(
        (("before", "told before", "#08519c"), ("after", "told after", "#d94801"))
    ):
        axes.barh(places + 0.4 * shift - 0.2, [one[part] for one in results.values()], 0.4, label=label, color=colour)
    axes.axvline(1 / VALUES, color="grey", linestyle="--", label="chance")
    axes.set_yticks(places, list(results))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on hidden values")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out)


def main() -> None:
    """Print the ranks, train all, print the table, write results.json and grammar.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", nargs="*", help="(default: all)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| matrix, 64 x 64 | rank below | rank above | rank of all |\n|---|---|---|---|")
    structure = ranks()
    for name, found in structure.items():
        print(f"| {name} | {found['below']} | {found['above']} | {found['whole']} |")
    print()
    results = {}
    print("| model | all | told before | told after | loss | parameters | seconds |\n|---|---|---|---|---|---|---|")
    for name, make in models().items():
        if args.models and name not in args.models:
            continue
        runs = [train(make, args.steps, args.batch, args.lr, seed) for seed in range(args.seeds)]
        one = results[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        shares = " | ".join(f"{one[part]:.1%}" for part in ("all", "before", "after"))
        rest = f"{one['loss']:.3f} | {one['parameters']:,.0f} | {one['seconds']:.1f}"
        print(f"| {name} | {shares} | {rest} |", flush=True)
    (args.out / "results.json").write_text(json.dumps({"ranks": structure, "grammar": results}, indent=1))
    draw(results, args.out / "grammar.png")


if __name__ == "__main__":
    main()
