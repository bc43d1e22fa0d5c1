"""The training-free classifier of classical broad learning: ridge regression on random nodes, in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError


def solve_ridge(nodes: Tensor, labels: Tensor, classes: int, ridge: float = 1e-2) -> tuple[Tensor, Tensor]:
    """(weight (C, F), bias (C)) that minimise |nodes W^T + b - one-hot|^2 + ridge N |W|^2, computed in float64.

    nodes: (N, F). labels: (N) int64, 0 to C - 1. The bias is not penalised. Raises InvalidArgumentError.
    """
    if nodes.ndim != 2 or labels.shape != nodes.shape[:1] or not len(labels):
        raise InvalidArgumentError(
            "bad nodes and labels", where="solve_ridge", expected="(N, F) and (N)", got=(nodes.shape, labels.shape)
        )
    if not ridge > 0:
        raise InvalidArgumentError("bad ridge", where="solve_ridge", expected="a number above 0", got=ridge)
    x, y = nodes.double(), torch.nn.functional.one_hot(labels, classes).double()
    middle, share = x.mean(0), y.mean(0)
    centred = x - middle
    square = centred.T @ centred / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(square, centred.T @ (y - share) / len(x)).T
    return weight, share - weight @ middle


@torch.no_grad()
def fit_ridge(model: Any, batches: Iterable[tuple[dict[str, Any], Tensor]], ridge: float = 1e-2) -> None:
    """Give a model of `classifier="ridge"` its output weights; all others stay as they were drawn.

    batches: (keyword arguments of the model's forward, labels (B, L) int64, below 0 for what counts not).
    """
    if model.config.classifier != "ridge":
        raise InvalidArgumentError(
            "the model has no ridge classifier", where="fit_ridge", way_out='build it with classifier="ridge"'
        )
    rows, targets = [], []
    training = model.training
    model.eval()
    for given, labels in batches:
        counted = labels >= 0
        rows.append(model(**given).nodes[counted])
        targets.append(labels[counted])
    model.train(training)
    if not rows:
        raise InvalidArgumentError("no conversations", where="fit_ridge")
    weight, bias = solve_ridge(torch.cat(rows), torch.cat(targets), model.config.n_classes, ridge)
    model.ridge.weight.copy_(weight)
    model.ridge.bias.copy_(bias)
