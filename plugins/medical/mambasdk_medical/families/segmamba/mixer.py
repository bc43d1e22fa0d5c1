"""SegMamba's mixer: one pair of projections around scans in three orientations, each with parameters of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import CausalConv1d, MarkedParameters, accumulate_dtype
from mambasdk.nn.selective import DtInit, DtProjection, initial_A_log, projected, skip_weight

_CONV = 4  # width of the causal convolutions


class _Route(NamedTuple):
    conv1d: CausalConv1d
    x_proj: nn.Linear
    dt_proj: DtProjection
    A_log: nn.Parameter
    D: nn.Parameter


class TriOrientedMamba(MarkedParameters):
    """Mixer of voxels in row-major order, (B, L, C) -> (B, L, C), with scans forwards, backwards and between slices.

    The third cuts the sequence into n slices and takes the first voxel of each, then the second of each, and so on:
    step t is at slice t mod n, offset t div n. With [x | z] = in_proj(v) the output is
    `out_proj((scan(x) + scan_b(x) + scan_s(x)) * silu(z))`; a gate that is permuted as the route, upstream's, is one
    gate of the sum. Each orientation has a causal convolution of 4 steps and an SSM; names end in nothing, `_b`, `_s`.

    d_model: C. d_state: N. expand: I = expand * C. num_slices: n, a divisor of L. A_log, A_b_log, A_s_log (I, N), D,
    D_b, D_s (I) and the biases of dt_proj stay float32. Nothing is copied for the first two orientations, and one map
    of I channels for the third. Source: arXiv 2401.13560, section 2.3.
    """

    float32 = ("A_log", "D", "A_b_log", "D_b", "A_s_log", "D_s")
    no_weight_decay = float32

    def __init__(self, d_model: int, num_slices: int, d_state: int = 16, expand: int = 2) -> None:
        super().__init__()
        if num_slices < 1:
            raise InvalidArgumentError("bad num_slices", where="TriOrientedMamba", expected="1 or more", got=num_slices)
        self.d_model, self.d_state, self.num_slices = d_model, d_state, num_slices
        self.d_inner, self.dt_rank = expand * d_model, math.ceil(d_model / 16)
        inner, low = self.d_inner, self.dt_rank + 2 * d_state
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d, self.conv1d_b, self.conv1d_s = (CausalConv1d(inner, _CONV, silu=True) for _ in range(3))
        self.x_proj, self.x_proj_b, self.x_proj_s = (nn.Linear(inner, low, bias=False) for _ in range(3))
        self.dt_proj, self.dt_proj_b, self.dt_proj_s = (DtProjection(self.dt_rank, inner) for _ in range(3))
        self.A_log, self.A_b_log, self.A_s_log = (initial_A_log(inner, d_state, None) for _ in range(3))
        self.D, self.D_b, self.D_s = (skip_weight(inner, None) for _ in range(3))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        for projection in (self.dt_proj, self.dt_proj_b, self.dt_proj_s):
            DtInit().apply(projection, "TriOrientedMamba")
        self.mark_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape. Raises ShapeError where n does not divide L."""
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="TriOrientedMamba", expected=f"(B, L, {self.d_model})", got=tuple(x.shape))
        if x.shape[1] % self.num_slices:
            raise ShapeError(
                "the sequence does not divide into slices",
                where="TriOrientedMamba",
                expected=f"a length that is a multiple of num_slices {self.num_slices}",
                got=x.shape[1],
                way_out="choose num_slices by the patch, as SegMambaConfig.for_plan does",
            )
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, I) each
        forth = _Route(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        back = _Route(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        across = _Route(self.conv1d_s, self.x_proj_s, self.dt_proj_s, self.A_s_log, self.D_s)
        y = self._scan(forth, u) + self._scan(back, u, reverse=True)
        y = y + _turned(self._scan(across, _turned(u, self.num_slices)), u.shape[1] // self.num_slices)
        out: Tensor = self.out_proj(y * functional.silu(z))
        return out

    def _scan(self, route: _Route, u: Tensor, *, reverse: bool = False) -> Tensor:
        """Convolution and scan of u (B, L, I), without the gate."""
        u = route.conv1d(u, reverse=reverse)
        given = projected(route.x_proj, route.dt_proj, self.d_state)(u)
        y: Tensor = ops.selective_scan(
            u,
            given.delta,
            -accumulate_dtype(route.A_log).exp(),
            given.B,
            given.C,
            D=accumulate_dtype(route.D),
            delta_bias=None if given.delta_bias is None else accumulate_dtype(given.delta_bias),
            delta_softplus=True,
            reverse=reverse,
        )
        return y


def _turned(x: Tensor, slices: int) -> Tensor:
    """(B, L, I) cut into `slices`, the first voxel of each, then the second of each, …"""
    parts: Tensor = x.unflatten(1, (slices, -1))
    return parts.transpose(1, 2).flatten(1, 2)
