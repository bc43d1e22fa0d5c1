"""The mixer of MHS-VM: parts of the channels are scanned along routes of their own, and the routes weighed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

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


class ScanHead(nn.Module):
    """Four scans of S channels, `mambaeng.*`; route 2i is base route i of the head, and 2i + 1 the same from its end.

    channels: S. d_state: N. A base route is a group of channels, whose rows are brought into the order of its steps
    before, and of its pixels after; both base routes are scanned in one call, each direction in its own.
    """

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        self.mambaeng = RoutedScan(channels, d_state, math.ceil(channels / 16), _DIRECTIONS * BASES)
        self.mambaeng.init_scan("v0")

    def forward(self, v: Tensor, tables: Visits) -> Outputs:
        """What each route gives at every pixel, (B, L, S) four times; v (B, L, S), float32 or float64."""
        batch, length, channels = v.shape
        u = _rows(v, tables.enter, tables.leave).view(batch, length, BASES * channels)
        first, third = self._at_pixels(self._scan(u, 0), tables)
        second, fourth = self._at_pixels(self._scan(u, 1), tables)
        return first, second, third, fourth

    def _at_pixels(self, y: Tensor, tables: Visits) -> tuple[Tensor, ...]:
        """Rows y (B, L, 2S) in the order of steps, of each base route in that of pixels: (B, L, S) twice."""
        batch, length, channels = y.shape[0], y.shape[1], self.mambaeng.d_inner
        rows = _rows(y.view(batch, BASES * length, channels), tables.leave, tables.back)
        return rows.view(batch, BASES, length, channels).unbind(1)

    def _scan(self, u: Tensor, direction: int) -> Tensor:
        """One direction of u (B, L, 2S), whose channels are (base, channel), in the order of steps."""
        batch, length, _ = u.shape
        engine = self.mambaeng
        rank, states = engine.dt_rank, engine.d_state
        x_proj, dt_proj = _of(engine.x_proj_weight, direction), _of(engine.dt_projs_weight, direction)
        by_route = (_DIRECTIONS * BASES, engine.d_inner)
        A = -torch.exp(_of(engine.A_logs.unflatten(0, by_route), direction))  # (2, S, N)
        D = _of(engine.Ds.unflatten(0, by_route), direction)
        rows = u.view(batch * length, BASES, engine.d_inner).transpose(0, 1)  # (2, B*L, S)
        low = accumulate_dtype(rows @ x_proj.transpose(1, 2))  # (2, B*L, R+2N)
        dt, B, C = low.split([rank, states, states], dim=-1)
        delta = accumulate_dtype(dt @ dt_proj.transpose(1, 2)).transpose(0, 1).reshape(u.shape)
        B, C = (t.unflatten(1, (batch, length)).permute(1, 2, 0, 3) for t in (B, C))  # (B, L, 2, N)
        y: Tensor = ops.selective_scan(
            u,
            delta,
            A.flatten(0, 1),
            B,
            C,
            D.flatten(),
            delta_bias=_of(engine.dt_projs_bias, direction).flatten(),
            delta_softplus=True,
            reverse=direction == 1,
        )
        return y


class MultiHeadScan(nn.Module):
    """Maps (B, H, W, C) to the same shape: n heads of S = C // n channels, each with a kind of routes.

    d_model: C. d_state: N. heads: n, 3 or 4. with_proj: norm and projection after the heads; without them n divides C.
    threshold: see `route_attention`. Parameter names are upstream's. Source: arXiv 2406.05992.

    The heads are run one after the other, each with its routes' weights: what a head makes on its way stays in the
    cache, which is worth more than one call for all.
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
        parts = [route_attention(head(v, tables), self.threshold) for head, v, tables in self._given(u)]
        y: Tensor = self.y_proj(self.cat_norm(torch.cat(parts, dim=-1)).to(u.dtype))
        return y.view(u.shape)

    def route_outputs(self, u: Tensor) -> list[Outputs]:
        """What each head's four routes give at every pixel, (B, L, S); u (B, H, W, C)."""
        return [head(v, tables) for head, v, tables in self._given(u)]

    def _given(self, u: Tensor) -> Iterable[tuple[nn.Module, Tensor, Visits]]:
        """The heads with their parts of u, (B, L, S) each, and their tables."""
        batch, height, width, _ = u.shape
        v = accumulate_dtype(self.x_ssproj(u)).view(batch, height * width, self.heads, self.channels)
        tables = visits(height, width, device=u.device)
        return zip(map(self.get_submodule, self.names), v.unbind(2), tables[: self.heads], strict=True)


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


def _rows(x: Tensor, at: Tensor, back: Tensor) -> Tensor:
    """Rows x (B, P, S) brought elsewhere, (B, len(at), S), each of them once or several times.

    back: the places of every row, those of a second copy after all first ones.
    """
    moved: Tensor = _Rows.apply(x, at, back)  # type: ignore[no-untyped-call]
    return moved


class _Rows(torch.autograd.Function):
    """As `_rows`; the derivative is a sum over copies, and nothing is scattered."""

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


def _of(parameters: Tensor, direction: int) -> Tensor:
    """Those (4, …) of the two routes in one direction, (2, …); float32 or float64."""
    return accumulate_dtype(parameters).unflatten(0, (BASES, _DIRECTIONS))[:, direction]
