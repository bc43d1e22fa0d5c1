"""What the comparisons with transformers share: its forward without a cache, and how far logits are from others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def uncached(model: Any, tokens: Tensor) -> Tensor:
    """Logits (B, L, V) of transformers' forward without a cache, which is the reference."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


def greedy(model: Any, tokens: Tensor, count: int) -> Tensor:
    """Likeliest tokens by that forward: (B, L + count)."""
    for _ in range(count):
        tokens = torch.cat([tokens, uncached(model, tokens)[:, -1:].argmax(-1)], 1)
    return tokens


def is_as_near_in_bfloat16(ours: Any, theirs: Any, tokens: Tensor) -> bool:
    """Whether our model, cast to bfloat16, is as near to transformers' float32 as its own in bfloat16 is, and is near.

    Both round, in other places. Of the tokens' distances, in root mean squares of the logits, the medians are compared,
    which scatter by some percent: where two experts are nearly tied, either model may choose another.
    """
    expected = uncached(theirs, tokens)
    with torch.no_grad():
        found = ours.to(torch.bfloat16)(tokens).logits
    other = uncached(theirs.to(torch.bfloat16), tokens)
    assert found.dtype == torch.bfloat16
    return _distance(found, expected) <= 1.1 * _distance(other, expected) < 0.03


def _distance(logits: Tensor, expected: Tensor) -> float:
    of_tokens = (logits.float() - expected).square().mean(-1).sqrt()
    return float(of_tokens.median() / expected.square().mean().sqrt())
