"""Probability-guided fusion: a modality weighs as much as it is sure of its label. Our reading of arXiv 2404.17858."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST = 1e-12  # of a sum of confidences: an utterance without any modality has weights of zero, not of NaN


def confidence(probabilities: Tensor, kind: str, present: Tensor | None = None) -> Tensor:
    """(B, L, M) confidences of probabilities (B, L, M, C); kinds as in MERCConfig. present: (B, L, M) bool."""
    if kind == "equal":
        return torch.ones_like(probabilities[..., 0])
    if kind == "max":
        return probabilities.amax(-1)
    if kind == "entropy":
        count = max(probabilities.shape[-1], 2)
        spread = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(-1)
        return 1 - spread / math.log(count)
    shown = probabilities if present is None else torch.where(present.unsqueeze(-1), probabilities, 0)
    best = shown.sum(-2).argmax(-1)  # (B, L); the mean has its largest where the sum has
    classes = torch.arange(probabilities.shape[-1], device=best.device)
    chosen = best.unsqueeze(-1).unsqueeze(-1) == classes  # (B, L, 1, C)
    return torch.where(chosen, probabilities, 0).sum(-1)


def weights(confidences: Tensor, present: Tensor | None, weighting: str) -> Tensor:
    """(B, L, M) weights of sum 1 over the modalities that are present, 0 for the others."""
    amount = torch.exp(confidences) if weighting == "softmax" else confidences
    if present is not None:
        amount = torch.where(present, amount, 0)
    return amount / amount.sum(-1, keepdim=True).clamp(min=_LEAST)


def fuse(hidden: Tensor, share: Tensor, kind: str) -> Tensor:
    """The weighted sum (B, L, D) of hidden (B, L, M, D), or the weighted vectors side by side (B, L, M D)."""
    weighted = hidden * share.unsqueeze(-1).to(hidden.dtype)
    return weighted.flatten(-2) if kind == "concat" else weighted.sum(-2)
