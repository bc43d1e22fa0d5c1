"""PlainMamba's mixer: one set of weights for four snakes, and a learned term for the direction of each step."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import ShapeError
from mambasdk.nn import MarkedParameters, accumulate_dtype, initial_dt_bias
from mambasdk_vision.families.plainmamba.routes import DIRECTIONS, Snakes, snakes
from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.routes import ROUTES

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 0.1, 1e-4


class PlainMamba2D(MarkedParameters):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C).

    The four routes share A (E, N), D (E), the step sizes and C; B of a step is that of its pixel and row d of
    direction_Bs (5, N), where d is the move that the step makes. dt_proj's bias counts twice, and D once for each
    route, as in the released models. d_model: C of the map. d_state: N. expand: E = expand * C. dt_rank: R, "auto" is
    ceil(C / 16). conv_size, conv_bias: of the depthwise convolution. bias: of the linear layers.
    params_follow_route: see PlainMambaConfig. A_log and D stay float32. Parameter names are upstream's.
    Source: arXiv 2403.17695.
    """

    float32 = ("A_log", "D")
    no_weight_decay = ("A_log", "D", "direction_Bs")

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        expand: int = 2,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        conv_size: int = 7,
        conv_bias: bool = True,
        bias: bool = True,
        params_follow_route: bool = False,
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_inner = d_model, d_state, expand * d_model
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        self.params_follow_route = params_follow_route
        inner = self.d_inner
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias)
        self.conv2d = MapConv2d(inner, inner, conv_size, padding=conv_size // 2, groups=inner, bias=conv_bias)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.direction_Bs = nn.Parameter(torch.empty(DIRECTIONS, d_state))
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        nn.init.trunc_normal_(self.direction_Bs, std=0.02)
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
            self.dt_proj.bias.copy_(initial_dt_bias(inner, _DT_MIN, _DT_MAX, _DT_FLOOR, self.dt_proj.bias.device))
        self.mark_parameters()

    def forward(self, x: Tensor, routes: Snakes | None = None) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. routes: `snakes(H, W)`. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="PlainMamba2D", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = functional.silu(self.conv2d(u))  # (B, H, W, E)
        y: Tensor = self.out_proj(self.scan(u, z, routes))
        return y

    def scan(self, u: Tensor, z: Tensor | None = None, routes: Snakes | None = None) -> Tensor:
        """The routes over u (B, H, W, E), added up where they visit, and gated by silu(z), z as u: (B, H, W, E).

        Nothing is copied for a route: u is read at its pixels, and step sizes and C stand once for all.
        """
        order, directions = routes or snakes(u.shape[1], u.shape[2], device=u.device)
        if self.params_follow_route:  # the move by which a route comes to each pixel
            directions = torch.zeros_like(directions).scatter(1, order.long(), directions)
        flat = u.flatten(1, 2)  # (B, L, E)
        low = self.x_proj(flat)
        dt_low, B, C = low.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y: Tensor = ops.selective_scan(
            flat,
            _each_route(self.dt_proj(dt_low), 1),
            _each_route(-torch.exp(accumulate_dtype(self.A_log)), 0),
            B.unsqueeze(1) + self.direction_Bs[directions].to(B.dtype),  # (B, 4, L, N)
            _each_route(C, 1),
            D=_each_route(accumulate_dtype(self.D), 0),
            z=None if z is None else z.flatten(1, 2),
            delta_bias=_each_route(accumulate_dtype(self.dt_proj.bias), 0),
            delta_softplus=True,
            order=order,
            step_params=not self.params_follow_route,
        )
        return y.view(u.shape)


def _each_route(tensor: Tensor, dim: int) -> Tensor:
    """The tensor for every route, at dim: a view without memory of its own."""
    shape = list(tensor.shape)
    return tensor.unsqueeze(dim).expand(*shape[:dim], ROUTES, *shape[dim:])
