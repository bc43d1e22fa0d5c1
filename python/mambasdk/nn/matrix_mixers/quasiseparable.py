"""Quasiseparable matrices whose halves share B and C."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.nn.matrix_mixers.structure import Sizes, Structure
from mambasdk.nn.mixer import initial_dt_bias
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.quasiseparable import Direction, Steps, quasiseparable, quasiseparable_matrix


class Quasiseparable(MarkedParameters, Structure):
    """The matrix of `Hydra` with one B and C, of width N = H q, for both directions; its diagonal is `fc_D(v) + D`."""

    float32 = ("A_log", "D", "dt_bias")
    no_weight_decay = ("A_log", "D", "dt_bias")
    no_reinit = ("dt_bias",)
    residual = False

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        heads = sizes.heads
        self.width = heads * sizes.qk_dim
        self.dt_bias = nn.Parameter(torch.empty(heads, dtype=torch.float32))
        self.A_log = nn.Parameter(torch.zeros(heads, dtype=torch.float32))
        self.D = nn.Parameter(torch.ones(heads, dtype=torch.float32))
        self.fc_D = nn.Linear(heads * sizes.headdim, heads, bias=False)
        self._add_directions()
        with torch.no_grad():
            self.dt_bias.copy_(initial_dt_bias(heads, 1e-3, 0.1, 1e-4, self.dt_bias.device))
        self.mark_parameters()

    def _add_directions(self) -> None:
        self.features = 2 * self.width
        self.steps = 2 * self.sizes.heads

    def _directions(self, v: Tensor, features: Tensor, steps: Tensor) -> list[Direction]:
        B, C = features.unflatten(-1, (2, 1, self.width)).unbind(2)  # (B, L, 1, N)
        return [Direction(dt, B, C) for dt in steps.chunk(2, -1)]

    def _shared(self) -> Steps:
        return Steps(-torch.exp(accumulate_dtype(self.A_log)), accumulate_dtype(self.dt_bias))

    def _diagonal(self, v: Tensor) -> Tensor:
        # Not fc_D(v): with a bounded length torch.export guards a linear layer on a slice by fixing the batch.
        return (torch.matmul(v, self.fc_D.weight.t()) + self.D).to(v.dtype)  # (B, L, H)

    def matrix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """See Structure."""
        forward, backward = (Direction(*map(accumulate_dtype, one)) for one in self._directions(v, features, steps))
        return quasiseparable_matrix(forward, backward, self._shared(), accumulate_dtype(self._diagonal(v)))

    def mix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """By two scans, in time linear in L."""
        x = self.by_head(v)
        forward, backward = self._directions(v, features, steps)
        y = quasiseparable(x, forward, backward, self._shared())
        return y + x * self._diagonal(v).unsqueeze(-1)


class FixedQuasiseparable(Quasiseparable):
    """The same with parameter `BC` (L, 2N) and the step sizes that dt_bias alone gives."""

    data_dependent = False

    def _add_directions(self) -> None:
        self.BC = nn.Parameter(torch.randn(self.sizes.length, 2 * self.width))

    def _directions(self, v: Tensor, features: Tensor, steps: Tensor) -> list[Direction]:
        rows = self.BC[: v.shape[1]].to(v.dtype).expand(v.shape[0], -1, -1)
        B, C = rows.unflatten(-1, (2, 1, self.width)).unbind(2)
        dt = torch.zeros_like(v[..., : self.sizes.heads])  # (B, L, H)
        return [Direction(dt, B, C)] * 2
