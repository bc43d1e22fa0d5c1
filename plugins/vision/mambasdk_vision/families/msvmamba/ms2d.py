"""MS2D: one scan of a map at full resolution, and one along three routes of a copy at half of it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm
from mambasdk_vision.families.msvmamba.config import Version, check_full_res_index
from mambasdk_vision.nn import MapConv2d, channel_first, channel_last
from mambasdk_vision.nn.in_place import silu_of, sum_of
from mambasdk_vision.nn.routed_scan import RoutedScan
from mambasdk_vision.nn.routes import cached_routes

_REDUCTION = 8  # of the channels inside SqueezeExcitation


@cached_routes
def low_resolution_routes(
    height: int, width: int, full_res_index: int = 1, device: torch.device | None = None
) -> Tensor:
    """(3, height * width) int32: the pixels, counted row by row, of the sequence at half resolution, by its segments.

    Those of rows from the end (rows where full_res_index is 2), columns, and columns from the end: of the four routes
    the ones that the full resolution does not take (arXiv 2405.14174).
    """
    rows = torch.arange(height * width, dtype=torch.int32, device=device)
    columns = rows.view(height, width).t().reshape(-1)
    return torch.stack([rows if full_res_index == 2 else rows.flip(0), columns, columns.flip(0)])


class SqueezeExcitation(nn.Module):
    """A factor for each channel of (B, H, W, D), made of the means of all (arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // _REDUCTION
        self.fc = nn.Sequential(
            nn.Linear(channels, inner, bias=False), nn.ReLU(), nn.Linear(inner, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, D) to the same shape."""
        factor: Tensor = self.fc(x.mean(dim=(1, 2)))
        return x * factor[:, None, None]


class MS2D(RoutedScan):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C), with 1.75 L steps for L pixels where SS2D takes 4 L.

    u is the map at full resolution, e a copy at half of it, from the same projection by depthwise convolutions of side
    3 and, with stride 2, of side 7. u is scanned along one route, e along the other three as one sequence: the state
    runs from segment to segment. What the segments add at a pixel of e is summed, enlarged to the size of u and added.

    d_model: C. d_state: N. ssm_ratio: D = ssm_ratio * C. dt_rank: R, "auto" is ceil(C / 16). version: "v1" norms what
    each step gives, before the segments are summed, and enlarges bilinearly; its parameters are those of the low, then
    of the high resolution. "v3" norms the sum of both, enlarges by the nearest pixel, and has the high resolution
    first. gate: half of the projection multiplies the map, through SiLU. full_res_index: the route at full resolution,
    1 (rows) or 2 (rows from the end). A_logs (2D, N), Ds (2D) and dt_projs_bias (2, D) stay float32. Parameter names
    are upstream's. Source: arXiv 2405.14174, section 3.2.
    Raises InvalidArgumentError for another full_res_index.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 1,
        ssm_ratio: float = 2.0,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        version: Version = "v1",
        gate: bool = True,
        full_res_index: int = 1,
    ) -> None:
        check_full_res_index(full_res_index, "MS2D")
        inner = int(ssm_ratio * d_model)
        super().__init__(inner, d_state, math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank), 2)
        self.d_model, self.gate, self.full_res_index = d_model, gate, full_res_index
        self.version = version
        self.in_proj = nn.Linear(d_model, 2 * inner if gate else inner, bias=False)
        self.conv2d = MapConv2d(inner, inner, 3, padding=1, groups=inner)
        self.conv2d_b1 = MapConv2d(inner, inner, 7, stride=2, padding=3, groups=inner)
        self.out_norm = LayerNorm(inner)
        self.se = SqueezeExcitation(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self.init_scan()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="MS2D", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        # The gate's half of the projection is made when it is needed, so that both are never there together.
        weight = self.in_proj.weight
        t = functional.linear(x, weight[: self.d_inner] if self.gate else weight)  # (B, H, W, D)
        e = silu_of(self.conv2d_b1(t))  # (B, h, w, D)
        t = silu_of(self.conv2d(t))
        y: Tensor = self.se(self._merged(t, e))
        del t, e
        if self.gate:
            y = y * silu_of(functional.linear(x, weight[self.d_inner :]))
        return self.out_proj(y)  # type: ignore[no-any-return]

    def _merged(self, u: Tensor, e: Tensor) -> Tensor:
        """What both scans give, (B, H, W, D), for u (B, H, W, D) and e (B, h, w, D)."""
        first = self.version == "v1"
        high, low = (1, slice(0, 1)) if first else (0, slice(1, 2))
        routes = low_resolution_routes(e.shape[1], e.shape[2], self.full_res_index, device=e.device)
        y = self.scan_rows(u.flatten(1, 2), high, reverse=self.full_res_index == 2).view(u.shape)
        if not first:
            m = self.scan(e.flatten(1, 2), routes.view(1, -1), low)
            return self.out_norm(sum_of(y, _enlarged(m.view(e.shape), u, "nearest")))  # type: ignore[no-any-return]
        parts = self.scan_in_turn(e.flatten(1, 2), [routes[i : i + 1] for i in range(3)], low)
        m = self.out_norm(parts[0])
        for part in parts[1:]:
            m = m + self.out_norm(part)
        return sum_of(self.out_norm(y), _enlarged(m.view(e.shape), u, "bilinear"))

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"version={self.version!r}, gate={self.gate}, full_res_index={self.full_res_index}"


def _enlarged(m: Tensor, like: Tensor, mode: str) -> Tensor:
    """M (B, h, w, D) at the size of `like` (B, H, W, D); "bilinear" without aligned corners."""
    maps = functional.interpolate(channel_first(m), (like.shape[1], like.shape[2]), mode=mode)
    return channel_last(maps)
