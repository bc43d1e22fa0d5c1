"""Induction heads: a Mamba trained on short sequences recalls a token at many times their length.

A special token appears once in random tokens; at the end it comes again, and the model must give the token that
followed it. Source: Mamba paper (arXiv 2312.00752), section 4.1.2.

    python examples/synthetic/induction_heads.py

In about a minute on two cores every answer is right up to 1,024 tokens, 16 times the trained length.
"""

from __future__ import annotations

import argparse
import json

import torch
from fitting import fit
from torch import Tensor, nn
from torch.nn import functional

import mambasdk

VOCAB = 16  # ordinary tokens; then comes the special one
SPECIAL = VOCAB


def batch(size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (B, length) that end with the special token, and what followed it before (B)."""
    tokens = torch.randint(VOCAB, (size, length), generator=generator)
    place = torch.randint(length - 2, (size, 1), generator=generator)
    tokens.scatter_(1, place, SPECIAL)
    answer = tokens.gather(1, place + 1).squeeze(1)
    tokens[:, -1] = SPECIAL
    return tokens, answer


def accuracy(model: nn.Module, length: int, generator: torch.Generator, count: int = 128) -> float:
    """Share of right answers at this length."""
    tokens, answer = batch(count, length, generator)
    with torch.no_grad():
        found = model(tokens, return_state=False, logits_to_keep=1).logits[:, -1, :VOCAB].argmax(-1)
    return float((found == answer).float().mean())


def train(*, length: int, steps: int, size: int, lr: float, seed: int = 0) -> tuple[nn.Module, torch.Generator]:
    """A Mamba of two layers, D = 64, trained at one length."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = mambasdk.create_model("mamba", d_model=64, n_layer=2, vocab_size=VOCAB + 1)

    def loss() -> Tensor:
        tokens, answer = batch(size, length, generator)
        logits = model(tokens, return_state=False, logits_to_keep=1).logits[:, -1]
        return functional.cross_entropy(logits, answer)

    fit(model, loss, steps=steps, lr=lr, decay=0.1, name="induction heads")
    return model, generator


def main(argv: list[str] | None = None) -> dict[int, float]:
    """Train, test at 1 to 16 times the length, print the accuracies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args(argv)
    model, generator = train(length=args.length, steps=args.steps, size=args.batch, lr=args.lr)
    result = {args.length * times: accuracy(model, args.length * times, generator) for times in (1, 2, 4, 8, 16)}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
