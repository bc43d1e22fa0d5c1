"""A mixture of experts: each token goes through the few MLPs that a router chooses for it. Source: arXiv 1701.06538."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.groups import Groups
from mambasdk.nn.mlp import MLP, GatedMLP, activation_of
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype

Scores = Literal["softmax", "softmax of chosen", "sigmoid"]


class Router(MarkedParameters):
    """Tokens -> the experts of each and their weights, which are numbers in float32.

    scores: "softmax" over all experts, of which the chosen keep theirs; "softmax of chosen" alone; or "sigmoid".
    groups, top_groups: experts lie in so many groups, and only those of the best `top_groups` (by their two best
    experts) can be chosen; with "sigmoid". normalize: weights sum to one. factor: of the weights.
    weight: (experts, D). correction: (experts), added to the scores for the choice alone; with "sigmoid".
    """

    correction: nn.Parameter | None
    float32 = ("correction",)
    no_weight_decay = ("correction",)

    def __init__(
        self,
        dim: int,
        experts: int,
        chosen: int,
        *,
        scores: Scores = "softmax",
        groups: int = 1,
        top_groups: int = 1,
        normalize: bool = False,
        factor: float = 1.0,
        initializer_range: float = 0.02,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if scores not in ("softmax", "softmax of chosen", "sigmoid"):
            raise InvalidArgumentError("bad scores", where="Router", got=repr(scores))
        if not 0 < chosen <= experts or experts % groups or not 0 < top_groups <= groups:
            raise InvalidArgumentError(
                "bad numbers of experts",
                where="Router",
                expected="chosen <= experts, groups that divide them, top_groups <= groups",
                got=f"{chosen} of {experts}, {top_groups} of {groups} groups",
            )
        self.chosen = chosen
        self.scores = scores
        self.groups = groups
        self.top_groups = top_groups
        self.normalize = normalize
        self.factor = factor
        self.weight = nn.Parameter(torch.empty(experts, dim, device=device, dtype=dtype))
        nn.init.normal_(self.weight, std=initializer_range)
        correction = torch.zeros(experts, device=device, dtype=torch.float32) if scores == "sigmoid" else None
        # Set by the load of the experts during training, not by a gradient.
        self.register_parameter(
            "correction", None if correction is None else nn.Parameter(correction, requires_grad=False)
        )
        self.mark_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X (T, D) -> weights (T, K) and experts (T, K) int64."""
        # Rounded logits would choose other experts.
        logits = functional.linear(accumulate_dtype(x), accumulate_dtype(self.weight))  # (T, experts)
        if self.scores == "softmax of chosen":
            best, experts = logits.topk(self.chosen, dim=-1)
            weights = best.softmax(-1)
        elif self.scores == "softmax":
            weights, experts = logits.softmax(-1).topk(self.chosen, dim=-1)
        else:
            scores = logits.sigmoid()
            assert self.correction is not None
            experts = self._allowed(scores + self.correction).topk(self.chosen, dim=-1)[1]
            weights = scores.gather(1, experts)
        if self.normalize:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * self.factor, experts

    def _allowed(self, scores: Tensor) -> Tensor:
        """The scores, -inf in groups that are not among the best."""
        if self.groups == 1:
            return scores
        grouped = scores.unflatten(-1, (self.groups, -1))  # (T, groups, experts of a group)
        worth = grouped.topk(min(2, grouped.shape[-1]), dim=-1)[0].sum(-1)
        best = worth.topk(self.top_groups, dim=-1)[1]
        allowed = torch.zeros_like(worth).scatter(1, best, torch.ones_like(worth)).unsqueeze(-1) > 0
        return torch.where(allowed, grouped, float("-inf")).flatten(-2)


class MixtureOfExperts(nn.Module):
    """`y = sum of the chosen experts, weighted, + shared(x)`; maps (…, D) to (…, D).

    router: of the D channels. hidden: F. gated: experts are `fc2(value * act(gate))`, else `fc2(act(fc1))`.
    d_latent: experts work on so many channels, between two projections; None: on D. shared: an MLP that every token
    goes through, None for none.
    fc1: (experts, 2F, D), rows [value, gate], or (experts, F, D); fc2: (experts, D, F).
    Tokens are sorted by expert, and each expert is one product over its own.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        router: Router,
        *,
        gated: bool = True,
        activation: str = "silu",
        d_latent: int | None = None,
        shared: MLP | GatedMLP | None = None,
        bias: bool = False,
        initializer_range: float = 0.02,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.router = router
        self.gated = gated
        self.activation = activation
        self._act = activation_of(activation, "MixtureOfExperts")
        self.shared = shared
        factory = {"device": device, "dtype": dtype}
        width = dim if d_latent is None else d_latent
        experts = router.weight.shape[0]
        self.latent_in = None if d_latent is None else nn.Linear(dim, d_latent, bias=bias, **factory)
        self.latent_out = None if d_latent is None else nn.Linear(d_latent, dim, bias=bias, **factory)
        self.fc1 = nn.Parameter(torch.empty(experts, 2 * hidden if gated else hidden, width, **factory))
        self.fc2 = nn.Parameter(torch.empty(experts, width, hidden, **factory))
        nn.init.normal_(self.fc1, std=initializer_range)
        nn.init.normal_(self.fc2, std=initializer_range)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, D) to (…, D)."""
        tokens = x.flatten(0, -2)  # (T, D)
        weights, experts = self.router(tokens)
        inner = tokens if self.latent_in is None else self.latent_in(tokens)
        groups = Groups.of(experts.flatten(), self.fc1.shape[0])  # of T K rows
        sorted_ = self._inner(groups.linear(groups.sort(inner, experts.shape[1]), self.fc1))
        by_token = groups.restore(groups.linear(sorted_, self.fc2))  # (T K, D)
        by_token = torch.unflatten(by_token, 0, experts.shape)  # (T, K, D)
        y: Tensor = (by_token * weights.to(inner.dtype).unsqueeze(-1)).sum(1)
        y = y if self.latent_out is None else self.latent_out(y)
        y = y.reshape(x.shape)
        return y if self.shared is None else y + self.shared(x)

    def _inner(self, projected: Tensor) -> Tensor:
        """What fc2 is given."""
        if not self.gated:
            return self._act(projected)
        value, gate = projected.chunk(2, dim=-1)
        return value * self._act(gate)
