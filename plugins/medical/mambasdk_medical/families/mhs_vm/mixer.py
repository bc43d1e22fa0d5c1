"""The mixer of MHS-VM: parts of the channels are scanned along routes of their own, and the routes weighed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mambasdk import ops
from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm, accumulate_dtype
from mambasdk_medical.families.mhs_vm.config import HEADS
from mambasdk_medical.families.mhs_vm.route_attention import route_attention
from mambasdk_medical.families.mhs_vm.routes import BASES, Visits, visits
from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.routed_scan import RoutedScan

_DIRECTIONS = 2  # a base route is walked from its beginning, and from its end
Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


class _Given(NamedTuple):
    """The heads' parameters side by side, by direction and table: (2, 2n, …), or (2, 2n * S, …)."""

    x_proj: Tensor  # (2, 2n, R+2N, S)
    dt_proj: Tensor  # (2, 2n, S, R)
    dt_bias: Tensor  # (2, 2n*S)
    A: Tensor  # (2, 2n*S, N)
    D: Tensor  # (2, 2n*S)


class ScanHead(nn.Module):
    """The parameters of a head's four scans, `mambaeng.*`; route 2i is base route i, and 2i + 1 the same from its end.

    channels: S. d_state: N.
    """

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        self.mambaeng = RoutedScan(channels, d_state, math.ceil(channels / 16), _DIRECTIONS * BASES)
        self.mambaeng.init_scan("v0")


class MultiHeadScan(nn.Module):
    """Maps (B, H, W, C) to the same shape: n heads of S = C // n channels, each with a kind of routes.

    d_model: C. d_state: N. heads: n, 3 or 4. with_proj: norm and projection after the heads; without them n divides C.
    threshold: see `route_attention`. Parameter names are upstream's. Source: arXiv 2406.05992.

    All heads are scanned in two calls, one for each direction: a table of a head is a group of channels, whose rows are
    brought into the order of its steps before, and of its pixels after.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, heads: int = 4, *, with_proj: bool = True, threshold: float = 0.5
    ) -> None:
        super().__init__()
        self.heads, self.threshold = heads, threshold
        self.channels = d_model // heads
        inner = heads * self.channels
        self.x_ssproj = nn.Linear(d_model, inner, bias=False)
        self.names = tuple(f"scanhead_{kind}" for kind in HEADS[:heads])
        for name in self.names:
            self.add_module(name, ScanHead(self.channels, d_state))
        self.cat_norm = LayerNorm(inner) if with_proj else nn.Identity()
        self.y_proj = nn.Linear(inner, d_model, bias=False) if with_proj else nn.Identity()

    def forward(self, u: Tensor) -> Tensor:
        """Map u (B, H, W, C) to the same shape and dtype; what lies between the projections is float32."""
        y = route_attention(self.route_outputs(u), self.threshold)  # (B, L, n, S)
        y = self.y_proj(self.cat_norm(y.flatten(2)).to(u.dtype))
        return y.view(u.shape)

    def route_outputs(self, u: Tensor) -> Outputs:
        """What each of the four routes gives at every pixel: (B, L, n, S) four times; u (B, H, W, C)."""
        batch, height, width, _ = u.shape
        tables = visits(height, width, self.heads, device=u.device)
        v = accumulate_dtype(self.x_ssproj(u)).view(batch, height * width * self.heads, self.channels)
        v = _Rows.apply(v, tables.enter, tables.leave)  # type: ignore[no-untyped-call]
        v = v.view(batch, height * width, BASES * self.heads * self.channels)  # in the order of steps
        given = self._parameters_by_direction()
        first, third = self._at_pixels(self._scan(v, given, 0), tables)
        second, fourth = self._at_pixels(self._scan(v, given, 1), tables)
        return first, second, third, fourth

    def _at_pixels(self, y: Tensor, tables: Visits) -> tuple[Tensor, ...]:
        """Rows y (B, L, 2n * S) in the order of steps, of both bases in that of pixels: (B, L, n, S) twice."""
        batch, length, _ = y.shape
        rows = y.view(batch, length * BASES * self.heads, self.channels)
        rows = _Rows.apply(rows, tables.leave, tables.back)  # type: ignore[no-untyped-call]
        return rows.view(batch, BASES, length, self.heads, self.channels).unbind(1)  # type: ignore[no-any-return]

    def _parameters_by_direction(self) -> _Given:
        engines: list[Any] = [self.get_submodule(name).get_submodule("mambaeng") for name in self.names]
        A_logs = _stacked([engine.A_logs.unflatten(0, (-1, self.channels)) for engine in engines])
        return _Given(
            x_proj=_stacked([engine.x_proj_weight for engine in engines]),
            dt_proj=_stacked([engine.dt_projs_weight for engine in engines]),
            dt_bias=_stacked([engine.dt_projs_bias for engine in engines]).flatten(1),
            A=-torch.exp(A_logs.flatten(1, 2)),
            D=_stacked([engine.Ds.unflatten(0, (-1, self.channels)) for engine in engines]).flatten(1),
        )

    def _scan(self, u: Tensor, given: _Given, direction: int) -> Tensor:
        """One direction of u (B, L, 2n * S), whose channels are (base, head, channel), in the order of steps."""
        batch, length, _ = u.shape
        rank, states = given.dt_proj.shape[-1], given.A.shape[-1]
        rows = u.view(batch * length, BASES * self.heads, self.channels).transpose(0, 1)  # (2n, B*L, S)
        low = accumulate_dtype(rows @ given.x_proj[direction].transpose(1, 2))  # (2n, B*L, R+2N)
        dt, B, C = low.split([rank, states, states], dim=-1)
        delta = accumulate_dtype(dt @ given.dt_proj[direction].transpose(1, 2)).transpose(0, 1).reshape(u.shape)
        B, C = (t.unflatten(1, (batch, length)).permute(1, 2, 0, 3) for t in (B, C))  # (B, L, 2n, N)
        y: Tensor = ops.selective_scan(
            u,
            delta,
            given.A[direction],
            B,
            C,
            given.D[direction],
            delta_bias=given.dt_bias[direction],
            delta_softplus=True,
            reverse=direction == 1,
        )
        return y


class VSSGate(nn.Module):
    """Maps (B, H, W, C) to the same shape: `norm(scan(silu(conv(a)))) * silu(z)`; no projection after the gate.

    d_model: C. The other arguments are those of MultiHeadScan. Source: arXiv 2406.05992.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, heads: int = 4, *, with_proj: bool = True, threshold: float = 0.5
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.in_proj = nn.Linear(d_model, 2 * d_model, bias=False)
        self.conv2d = MapConv2d(d_model, d_model, 3, padding=1, groups=d_model)
        self.act = nn.SiLU()
        self.mhs = MultiHeadScan(d_model, d_state, heads, with_proj=with_proj, threshold=threshold)
        self.out_norm = LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="VSSGate", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        a, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.mhs(self.act(self.conv2d(a)))
        norm = self.out_norm
        gated: Tensor = ops.layer_norm(y, norm.weight, norm.bias, z=z, eps=norm.eps)
        return gated


class _Rows(torch.autograd.Function):
    """Rows x (B, P, S) brought elsewhere, (B, len(at), S), each of them once or several times.

    back: the places of every row, those of a second copy after all first ones. The derivative is a sum over copies, and
    nothing is scattered.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        ctx.rows = x.shape[1]
        return x.index_select(1, at)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        rows = grads[0].index_select(1, back)
        if rows.shape[1] != ctx.rows:
            rows = rows.unflatten(1, (-1, ctx.rows)).sum(1)
        return rows, None, None


def _stacked(parameters: list[Tensor]) -> Tensor:
    """Parameters (4, …) of n heads as (2, 2n, …): by direction, then by base route and head; float32 or float64."""
    stacked = torch.stack([accumulate_dtype(parameter) for parameter in parameters])  # (n, 4, ...)
    stacked = stacked.unflatten(1, (BASES, _DIRECTIONS)).transpose(0, 1)  # (base, head, direction, ...)
    return stacked.movedim(2, 0).flatten(1, 2)
