"""A selective scan of a map along several routes, each with weights of its own, which read and add where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import MarkedParameters, accumulate_dtype, initial_dt_bias

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 0.1, 1e-4
ScanInit = Literal["v0", "v1", "v2", "normal"]


class RoutedScan(MarkedParameters):
    """The parameters of `routes` scans of D channels with N states, and the scan; a mixer inherits from it.

    B and C of a scan are shared by a route's channels. Parameters, under VMamba's names: x_proj_weight (K, R+2N, D),
    dt_projs_weight (K, D, R), and dt_projs_bias (K, D), A_logs (K*D, N) and Ds (K*D), which stay float32. The subclass
    calls `init_scan` when it has made its own. Source: arXiv 2401.10166.
    """

    float32 = ("A_logs", "Ds", "dt_projs_bias")
    no_weight_decay = ("A_logs", "Ds", "dt_projs_bias")

    def __init__(self, d_inner: int, d_state: int, dt_rank: int, routes: int) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.dt_rank, self.routes = d_inner, d_state, dt_rank, routes
        self.x_proj_weight = nn.Parameter(torch.empty(routes, dt_rank + 2 * d_state, d_inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(routes, d_inner, dt_rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(routes, d_inner))
        self.A_logs = nn.Parameter(torch.empty(routes * d_inner, d_state))
        self.Ds = nn.Parameter(torch.ones(routes * d_inner))

    @torch.no_grad()
    def init_scan(self, kind: ScanInit = "v0") -> None:
        """Draw the parameters, as VMamba's constructor: "v0" as Mamba, "v1" and "v2" as its later ones; and mark them.

        "normal": every decay -1, steps from weights and biases of deviation 1 (arXiv 2406.05835).
        Raises InvalidArgumentError for another kind.
        """
        self.x_proj_weight.uniform_(-(self.d_inner**-0.5), self.d_inner**-0.5)
        if kind == "v0":
            self.dt_projs_weight.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
            bias = initial_dt_bias(self.dt_projs_bias.numel(), _DT_MIN, _DT_MAX, _DT_FLOOR, self.dt_projs_bias.device)
            self.dt_projs_bias.copy_(bias.view_as(self.dt_projs_bias))
            self.A_logs.copy_(torch.arange(1, self.d_state + 1, device=self.A_logs.device).float().log())
        elif kind == "v1":
            self.dt_projs_weight.normal_().mul_(0.1)
            self.dt_projs_bias.normal_().mul_(0.1)
            self.A_logs.normal_()
        elif kind == "v2":
            self.dt_projs_weight.uniform_().mul_(0.1)
            self.dt_projs_bias.uniform_().mul_(0.1)
            self.A_logs.zero_()
        elif kind == "normal":
            self.dt_projs_weight.normal_()
            self.dt_projs_bias.normal_()
            self.A_logs.zero_()
        else:
            raise InvalidArgumentError(
                "bad ssm_init", where=type(self).__name__, expected="'v0', 'v1', 'v2' or 'normal'", got=repr(kind)
            )
        self.mark_parameters()

    def scan(self, u: Tensor, order: Tensor, routes: slice | None = None) -> Tensor:
        """The sum (S, L, D) of what the routes add at the pixels of u (S, L, D).

        order: (k, steps) int32, the pixel that each route reads and adds to in step t, once or several times. routes:
        which of the parameters they take, all by default. Projections are taken at pixels, so nothing is copied.
        """
        y: Tensor = ops.selective_scan(u, **self._given_at(u, routes), order=order)
        return y

    def scan_rows(self, u: Tensor, route: int, *, reverse: bool = False) -> Tensor:
        """As `scan` of one route in the order of u (S, L, D), or from its end: no table is read."""
        given = self._given_at(u, slice(route, route + 1))
        for name, dim in (("delta", 1), ("B", 1), ("C", 1), ("A", 0), ("D", 0), ("delta_bias", 0)):
            given[name] = given[name].squeeze(dim)
        y: Tensor = ops.selective_scan(u, **given, reverse=reverse)
        return y

    def scan_in_turn(self, u: Tensor, orders: Sequence[Tensor], routes: slice | None = None) -> list[Tensor]:
        """As `scan` along the orders one after another, the state running on; what each adds, (S, L, D), by itself."""
        given = self._given_at(u, routes)
        parts: list[Tensor] = []
        state = None
        for order in orders:
            y, state = ops.selective_scan(u, **given, order=order, initial_state=state, return_final_state=True)
            parts.append(y)
        return parts

    def _given_at(self, u: Tensor, routes: slice | None) -> dict[str, Any]:
        """What the scan takes beside u (S, L, D), at each of its pixels."""
        chosen = slice(0, self.routes) if routes is None else routes
        low = functional.linear(u, self.x_proj_weight[chosen].flatten(0, 1))
        low = low.unflatten(-1, (chosen.stop - chosen.start, -1)).transpose(1, 2)  # (S, k, L, R+2N)
        return self._given(low, chosen)

    def scan_steps(self, u: Tensor, order: Tensor) -> Tensor:
        """As `scan` of all routes, for those that visit a part of the pixels each: (S, L, D) from u (S, L, D).

        order: (K, M) int32. Projections are taken at steps, K * M of them, of one copy of the pixels in their order.
        """
        visited = u.index_select(1, order.flatten()).unflatten(1, (self.routes, -1))  # (S, K, M, D)
        low = visited @ self.x_proj_weight.transpose(1, 2)  # (S, K, M, R+2N)
        y: Tensor = ops.selective_scan(u, **self._given(low, slice(0, self.routes)), order=order, step_params=True)
        return y

    def _given(self, low: Tensor, chosen: slice) -> dict[str, Any]:
        """What the scan takes for projections low (S, k, P, R+2N)."""
        dt_low, B, C = low.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        A = -torch.exp(accumulate_dtype(self.A_logs)).unflatten(0, (self.routes, -1))  # (K, D, N)
        return {
            "delta": dt_low @ self.dt_projs_weight[chosen].transpose(1, 2),  # (S, k, P, D)
            "A": A[chosen],
            "B": B,
            "C": C,
            "D": accumulate_dtype(self.Ds).unflatten(0, (self.routes, -1))[chosen],
            "delta_bias": accumulate_dtype(self.dt_projs_bias)[chosen],
            "delta_softplus": True,
        }
