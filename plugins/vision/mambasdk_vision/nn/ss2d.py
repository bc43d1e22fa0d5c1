"""SS2D: the selective scan of a map along four routes or eight, which all read and add to the map where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mambasdk import ops
from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm
from mambasdk_vision.nn import MapConv2d, activation
from mambasdk_vision.nn.forward_type import ForwardType
from mambasdk_vision.nn.routed_scan import RoutedScan, ScanInit
from mambasdk_vision.nn.routes import ROUTES, cross_routes, diagonal_routes


class SS2D(RoutedScan):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C); B and C of the scan are shared by a route's channels.

    d_model: C. d_state: N. ssm_ratio: D = ssm_ratio * C. dt_rank: R, "auto" is ceil(C / 16). d_conv: side of the
    depthwise convolution before the scan, 1 for none. conv_bias, bias: of that convolution and of the linear layers.
    act: of the convolution. gate_act: of the gate. dropout: after the output. ssm_init: see RoutedScan. forward_type:
    see ForwardType. diagonals: eight routes, see `diagonal_routes`, in place of the four of a cross scan. A_logs
    (K*D, N), Ds (K*D) and dt_projs_bias (K, D) stay float32, for K routes. Parameter names are upstream's.
    Source: arXiv 2401.10166.
    """

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
        gate_act: str = "silu",
        dropout: float = 0.0,
        ssm_init: ScanInit = "v0",
        forward_type: str = "v05",
        diagonals: bool = False,
    ) -> None:
        inner = int(ssm_ratio * d_model)
        rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        super().__init__(inner, d_state, rank, 2 * ROUTES if diagonals else ROUTES)
        self.kind = ForwardType.parse(forward_type)
        self.diagonals = diagonals
        self.d_model = d_model
        self.in_proj = nn.Linear(d_model, 2 * inner if self.kind.gate else inner, bias=bias)
        self.act = activation(act, "SS2D")
        self.gate_act = activation(gate_act, "SS2D")
        self.conv2d = (
            MapConv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner, bias=conv_bias)
            if d_conv > 1
            else nn.Identity()
        )
        self.out_norm = _out_norm(self.kind.norm, inner)
        self.out_act = nn.GELU() if self.kind.out_act else nn.Identity()
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.init_scan(ssm_init)

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
        fused = isinstance(self.gate_act, nn.SiLU) and self.kind.gate_act and not self.kind.out_act
        if z is not None and isinstance(norm, LayerNorm) and fused:
            gated: Tensor = ops.layer_norm(y, norm.weight, norm.bias, z=z, eps=norm.eps)
            return gated
        y = self.out_act(norm(y))
        if z is None:
            return y
        return y * (self.gate_act(z) if self.kind.gate_act else z)

    def _routed(self, u: Tensor) -> Tensor:
        """The routes over u (B, H, W, D), summed; projections are taken at pixels, so nothing is copied."""
        batch, height, width, _ = u.shape
        scan: Any = self.kind.scan  # a cascade is none of them, and does not come here
        if self.diagonals:
            order = diagonal_routes(height, width, device=u.device)
        else:
            order = cross_routes(height, width, scan, device=u.device)
        y = self.scan(u.flatten(1, 2), order)
        return y.view(batch, height, width, self.d_inner)

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
        return self.scan(u, order, first) + self.scan(u, order.flip(1), second).flip(1)

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
