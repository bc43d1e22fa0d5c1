"""SS2D: the selective scan of a map along four routes, which all read and add to the map where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import LayerNorm, MarkedParameters, accumulate_dtype, initial_dt_bias
from mambasdk_vision.families.vmamba.forward_type import ForwardType
from mambasdk_vision.families.vmamba.routes import ROUTES, route_order
from mambasdk_vision.nn import MapConv2d, activation

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 0.1, 1e-4


class SS2D(MarkedParameters):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C); B and C of the scan are shared by a route's channels.

    d_model: C. d_state: N. ssm_ratio: D = ssm_ratio * C. dt_rank: R, "auto" is ceil(C / 16). d_conv: side of the
    depthwise convolution before the scan, 1 for none. conv_bias, bias: of that convolution and of the linear layers.
    act: of the convolution. dropout: after the output. ssm_init: "v0" as Mamba, "v1" and "v2" as upstream's later
    initialisations. forward_type: see ForwardType. A_logs (4D, N), Ds (4D) and dt_projs_bias (4, D) stay float32.
    Parameter names are upstream's. Source: arXiv 2401.10166.
    """

    float32 = ("A_logs", "Ds", "dt_projs_bias")
    no_weight_decay = ("A_logs", "Ds", "dt_projs_bias")

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        d_conv: int = 3,
        conv_bias: bool = True,
        bias: bool = False,
        act: str = "silu",
        dropout: float = 0.0,
        ssm_init: Literal["v0", "v1", "v2"] = "v0",
        forward_type: str = "v05",
    ) -> None:
        super().__init__()
        self.kind = ForwardType.parse(forward_type)
        self.d_model = d_model
        self.d_state = d_state
        self.d_inner = int(ssm_ratio * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        inner, rank = self.d_inner, self.dt_rank
        self.in_proj = nn.Linear(d_model, 2 * inner if self.kind.gate else inner, bias=bias)
        self.act = activation(act, "SS2D")
        self.conv2d = (
            MapConv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner, bias=conv_bias)
            if d_conv > 1
            else nn.Identity()
        )
        self.x_proj_weight = nn.Parameter(torch.empty(ROUTES, rank + 2 * d_state, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(ROUTES, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(ROUTES, inner))
        self.A_logs = nn.Parameter(torch.empty(ROUTES * inner, d_state))
        self.Ds = nn.Parameter(torch.ones(ROUTES * inner))
        self.out_norm = _out_norm(self.kind.norm, inner)
        self.out_act = nn.GELU() if self.kind.out_act else nn.Identity()
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self._init(ssm_init)
        self.mark_parameters()

    @torch.no_grad()
    def _init(self, ssm_init: str) -> None:
        """As upstream's constructor."""
        self.x_proj_weight.uniform_(-(self.d_inner**-0.5), self.d_inner**-0.5)
        if ssm_init == "v0":
            self.dt_projs_weight.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
            bias = initial_dt_bias(self.dt_projs_bias.numel(), _DT_MIN, _DT_MAX, _DT_FLOOR, self.dt_projs_bias.device)
            self.dt_projs_bias.copy_(bias.view_as(self.dt_projs_bias))
            self.A_logs.copy_(torch.arange(1, self.d_state + 1, device=self.A_logs.device).float().log())
        elif ssm_init == "v1":
            self.dt_projs_weight.normal_().mul_(0.1)
            self.dt_projs_bias.normal_().mul_(0.1)
            self.A_logs.normal_()
        elif ssm_init == "v2":
            self.dt_projs_weight.uniform_().mul_(0.1)
            self.dt_projs_bias.uniform_().mul_(0.1)
            self.A_logs.zero_()
        else:
            raise InvalidArgumentError("bad ssm_init", where="SS2D", expected="'v0', 'v1' or 'v2'", got=repr(ssm_init))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="SS2D", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        u, z = self.in_proj(x), None
        if self.kind.gate:
            u, z = u.chunk(2, dim=-1)
        u = self.act(self.conv2d(u))  # (B, H, W, D)
        y = self._cascade(u) if self.kind.scan == "cascade" else self._routed(u)
        return self.dropout(self.out_proj(self._gated(y, z)))  # type: ignore[no-any-return]

    def _gated(self, y: Tensor, z: Tensor | None) -> Tensor:
        """Norm, activation and gate of y (B, H, W, D)."""
        norm = self.out_norm
        if z is not None and isinstance(norm, LayerNorm) and self.kind.gate_act and not self.kind.out_act:
            gated: Tensor = ops.layer_norm(y, norm.weight, norm.bias, z=z, eps=norm.eps)
            return gated
        y = self.out_act(norm(y))
        if z is None:
            return y
        return y * (functional.silu(z) if self.kind.gate_act else z)

    def _routed(self, u: Tensor) -> Tensor:
        """The four routes over u (B, H, W, D), summed; projections are taken at pixels, so nothing is copied."""
        batch, height, width, _ = u.shape
        order = route_order(height, width, self.kind.scan, u.device)
        y = self._scan(u.flatten(1, 2), slice(0, ROUTES), order)
        return y.view(batch, height, width, self.d_inner)

    def _scan(self, u: Tensor, routes: slice, order: Tensor) -> Tensor:
        """Scan u (S, L, D) along order (K, L) with the weights of `routes`, K of them."""
        count = routes.stop - routes.start
        states, rank = self.d_state, self.dt_rank
        low = functional.linear(u, self.x_proj_weight[routes].flatten(0, 1))
        low = low.unflatten(-1, (count, -1)).transpose(1, 2)  # (S, K, L, R+2N)
        dt_low, B, C = low.split([rank, states, states], dim=-1)
        delta = dt_low @ self.dt_projs_weight[routes].transpose(1, 2)  # (S, K, L, D)
        A = -torch.exp(accumulate_dtype(self.A_logs)).unflatten(0, (ROUTES, -1))  # (4, D, N)
        y: Tensor = ops.selective_scan(
            u,
            delta,
            A[routes],
            B,
            C,
            D=accumulate_dtype(self.Ds).unflatten(0, (ROUTES, -1))[routes],
            delta_bias=accumulate_dtype(self.dt_projs_bias)[routes],
            delta_softplus=True,
            order=order,
        )
        return y

    def _cascade(self, u: Tensor) -> Tensor:
        """Rows with routes 0 and 1, then columns with routes 2 and 3, each sequence by itself (arXiv 2401.10166)."""
        batch, height, width, _ = u.shape
        rows = self._line_pass(_plain_norm(u).flatten(0, 1), slice(0, 2)).view(u.shape)
        columns = _plain_norm(rows).transpose(1, 2).flatten(0, 1)  # (B*W, H, D)
        y = self._line_pass(columns, slice(2, 4))
        return y.view(batch, width, height, self.d_inner).transpose(1, 2)

    def _line_pass(self, u: Tensor, routes: slice) -> Tensor:
        """Lines u (S, L, D) in both directions. The backward outputs are added in the order of their steps.

        Upstream does not turn them round again, and weights are trained for that.
        """
        order = torch.arange(u.shape[1], dtype=torch.int32, device=u.device)[None]
        first, second = slice(routes.start, routes.start + 1), slice(routes.start + 1, routes.stop)
        return self._scan(u, first, order) + self._scan(u, second, order.flip(1)).flip(1)

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"{self.kind}"


def _plain_norm(x: Tensor) -> Tensor:
    y: Tensor = ops.layer_norm(x)
    return y


class _SpatialSoftmax(nn.Module):
    """Softmax over the pixels of each channel of (B, H, W, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2).softmax(dim=1).view(x.shape)


def _out_norm(name: str, channels: int) -> nn.Module:
    """By suffix; the Identity modules keep upstream's numbering of parameters."""

    def depthwise() -> nn.Module:
        return MapConv2d(channels, channels, 3, padding=1, groups=channels, bias=False)

    makers: dict[str, Callable[[], nn.Module]] = {
        "layer": lambda: LayerNorm(channels),
        "onnone": nn.Identity,
        "onsigmoid": nn.Sigmoid,
        "onsoftmax": _SpatialSoftmax,
        "ondwconv3": lambda: nn.Sequential(nn.Identity(), depthwise()),
        "oncnorm": lambda: nn.Sequential(LayerNorm(channels), nn.Identity(), depthwise()),
    }
    return makers[name]()
