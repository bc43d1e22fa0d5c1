"""The mixers of VSSD on maps: state space duality without an order, or in one; attention in the last stage."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import LayerNorm, MarkedParameters, accumulate_dtype, initial_dt_bias, non_causal_ssd
from mambasdk_vision.families.vssd.config import Mixing
from mambasdk_vision.nn import MapConv2d

_A_RANGE = (1, 16)
_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 0.1, 1e-4


class VSSDMixer(MarkedParameters):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C): Mamba-2's projections, a convolution in 2-D, and one state for all.

    d_model: C. heads: h. d_state: N. expand: I = expand * C, P = I / h. ngroups: groups g of B and C.
    mixing: "non_causal", one state of all tokens (`mambasdk.nn.non_causal_ssd`); "causal", the scan of Mamba-2 over the
    rows; "bidirectional", half of the heads so, the others from the end, each with half of the groups. positive: what a
    token brings to the state counts as dt * exp(A_log), else as its negative; for "non_causal" alone.
    With groups, head i uses group i mod g where the mixing is "non_causal", else neighbouring heads share one.
    z is multiplied without an activation, after the norm. A_log, D and dt_bias (h) stay float32. Parameter names are
    upstream's. Source: arXiv 2407.18559, section 3.
    Raises InvalidArgumentError where heads or groups do not divide what they have to.
    """

    float32 = ("A_log", "D", "dt_bias")
    no_weight_decay = ("A_log", "D", "dt_bias")
    no_reinit = ("dt_bias",)

    def __init__(
        self,
        d_model: int,
        heads: int,
        d_state: int = 64,
        expand: float = 2.0,
        ngroups: int = 1,
        *,
        mixing: Mixing = "non_causal",
        positive: bool = True,
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.heads, self.ngroups = d_model, d_state, heads, ngroups
        self.d_inner = int(expand * d_model)
        self.mixing, self.positive = mixing, positive
        self._check()
        wide = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + wide + heads, bias=False)
        self.conv2d = MapConv2d(wide, wide, 3, padding=1, groups=wide)
        self.dt_bias = nn.Parameter(initial_dt_bias(heads, _DT_MIN, _DT_MAX, _DT_FLOOR, None))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(*_A_RANGE).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = LayerNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.mark_parameters()

    def _check(self) -> None:
        def refuse(name: str, expected: str) -> None:
            raise InvalidArgumentError(f"bad {name}", where="VSSDMixer", expected=expected, got=getattr(self, name))

        if self.d_inner % self.heads:
            refuse("heads", f"a divisor of {self.d_inner} channels")
        if self.heads % self.ngroups:
            refuse("ngroups", f"a divisor of {self.heads} heads")
        if self.mixing == "bidirectional" and (self.ngroups % 2 or self.heads % 2):
            refuse("ngroups", "an even number of groups, and of heads, half of them for each direction")

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="VSSDMixer", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        batch, height, width, _ = x.shape
        inner, shared = self.d_inner, self.ngroups * self.d_state
        # Three products for the three parts of the projection: slices of one would be copied before the convolution.
        for_z, for_xBC, for_dt = self.in_proj.weight.split([inner, inner + 2 * shared, self.heads])
        xBC = functional.silu(self.conv2d(functional.linear(x, for_xBC))).flatten(1, 2)  # (B, L, I + 2gN)
        dt = functional.linear(x, for_dt)
        u, B, C = xBC.split([inner, shared, shared], dim=-1)
        y = self._mixed(
            u.unflatten(-1, (self.heads, -1)),
            dt.flatten(1, 2),
            B.unflatten(-1, (self.ngroups, -1)),
            C.unflatten(-1, (self.ngroups, -1)),
        )
        y = self.norm(y.flatten(2)).view(batch, height, width, inner) * functional.linear(x, for_z)
        return self.out_proj(y)  # type: ignore[no-any-return]

    def _mixed(
        self,
        u: Tensor,  # (B, L, h, P)
        dt: Tensor,  # (B, L, h)
        B: Tensor,  # (B, L, g, N)
        C: Tensor,  # (B, L, g, N)
    ) -> Tensor:
        """Y (B, L, h, P)."""
        A = torch.exp(accumulate_dtype(self.A_log))
        bias, D = accumulate_dtype(self.dt_bias), accumulate_dtype(self.D)
        if self.mixing == "non_causal":
            return self._non_causal(u, dt, A if self.positive else -A, B, C, D, bias)
        if self.mixing == "causal":
            return ops.ssd(u, dt, -A, B, C, D=D, dt_bias=bias, dt_softplus=True)  # type: ignore[no-any-return]
        halves = [t.chunk(2, dim) for t, dim in ((u, 2), (dt, 2), (-A, 0), (B, 2), (C, 2), (D, 0), (bias, 0))]
        parts = []
        for reverse, (part_u, part_dt, part_A, part_B, part_C, part_D, part_bias) in enumerate(
            zip(*halves, strict=True)
        ):
            parts.append(
                ops.ssd(
                    part_u,
                    part_dt,
                    part_A,
                    part_B,
                    part_C,
                    D=part_D,
                    dt_bias=part_bias,
                    dt_softplus=True,
                    reverse=bool(reverse),
                )
            )
        return torch.cat(parts, dim=2)

    def _non_causal(self, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        """Heads of one group stand side by side in the function, g apart in upstream's layout."""
        if self.ngroups == 1:
            return non_causal_ssd(u, dt, A, B, C, D=D, dt_bias=bias, dt_softplus=True)
        regrouped = [_regrouped(t, dim, self.ngroups) for t, dim in ((u, 2), (dt, 2), (A, 0), (D, 0), (bias, 0))]
        u, dt, A, D, bias = regrouped
        y = non_causal_ssd(u, dt, A, B, C, D=D, dt_bias=bias, dt_softplus=True)
        return _regrouped(y, 2, self.heads // self.ngroups)

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"heads={self.heads}, d_state={self.d_state}, ngroups={self.ngroups}, mixing={self.mixing!r}"


def _regrouped(x: Tensor, dim: int, inner: int) -> Tensor:
    """`dim` of x, counted as (outer, inner), counted as (inner, outer)."""
    parts: Tensor = torch.unflatten(x, dim, (-1, inner))
    return parts.transpose(dim, dim + 1).flatten(dim, dim + 1)


class VSSDAttention(nn.Module):
    """Self-attention of all pixels of a map (B, H, W, C) -> (B, H, W, C), without positions (arXiv 1706.03762).

    d_model: C. heads: of C / heads channels each. to_qkv.weight (3C, C), rows [q, k, v], has no bias; to_out has one.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        if d_model % heads:
            raise InvalidArgumentError(
                "bad heads", where="VSSDAttention", expected=f"a divisor of {d_model} channels", got=heads
            )
        self.heads = heads
        self.scale = 1 / math.sqrt(d_model // heads)
        self.to_qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.to_out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        qkv = self.to_qkv(x.flatten(1, 2)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, h, C/h)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        y: Any = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.to_out(y.transpose(1, 2).flatten(2)).view(x.shape)  # type: ignore[no-any-return]
