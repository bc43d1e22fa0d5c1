"""The Mamba-3 mixer, SISO and MIMO. Source: arXiv 2603.15569; parameter names of the published checkpoints."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.mamba2 import GatedRMSNorm
from mambasdk.nn.mixer import check_input, heads_of, initial_dt_bias
from mambasdk.nn.norm import RMSNorm
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.trapezoidal import Mamba3State, TrapezoidalInputs, TrapezoidalWeights, trapezoidal_ssd


class Mamba3(MarkedParameters):
    """Causal sequence mixer (B, L, D) -> (B, L, D), without a convolution and without biases of the projections.

    d_model: D. d_state: N, even. expand: I = int(expand * D). headdim: P; H = I / P heads. ngroups: G, groups of B
        and C.
    rope_fraction: share of the state's channels that turn, 0.5 or 1; S = int(N * rope_fraction / 2) angles.
    is_mimo: R = mimo_rank inputs and outputs of each head on its one state; else R = 1. The pairs of channels that turn
        are (2i, 2i+1) without, (i, i + N/2) with it.
    is_outproj_norm: norm each head and rank before the gate.
    A_floor: the least decay rate. A_activation: "heavy_tail" (1 + x above 0, 1 / (1 - x) below), or "softplus" of
        checkpoints before it; which one a published checkpoint needs does not stand in it.
    dt_min, dt_max, dt_init_floor: initialisation.
    dt_bias, B_bias, C_bias, D and mimo_* stay float32 whatever the dtype of the module.
    Source: arXiv 2603.15569.
    """

    float32 = ("dt_bias", "B_bias", "C_bias", "D", "mimo_x", "mimo_z", "mimo_o")
    no_weight_decay = ("dt_bias", "D")
    no_reinit = ("dt_bias",)
    mimo_x: nn.Parameter | None
    mimo_z: nn.Parameter | None
    mimo_o: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        expand: float = 2,
        headdim: int = 64,
        ngroups: int = 1,
        *,
        rope_fraction: float = 0.5,
        is_mimo: bool = False,
        mimo_rank: int = 4,
        is_outproj_norm: bool = False,
        A_floor: float = 1e-4,
        A_activation: Literal["heavy_tail", "softplus"] = "heavy_tail",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        d_inner: int | None = None,
        norm_eps: float = 1e-5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.d_state = d_state
        self.d_inner = int(expand * d_model) if d_inner is None else d_inner
        self.headdim = headdim
        self.ngroups = ngroups
        self.is_mimo = is_mimo
        self.rank = mimo_rank if is_mimo else 1
        self.A_floor = A_floor
        self.A_activation = A_activation
        self.angles = int(d_state * rope_fraction / 2)
        self.nheads = self._heads(rope_fraction)
        width = self.rank * ngroups * d_state
        self._rows = [self.d_inner, self.d_inner, width, width, self.nheads, self.nheads, self.nheads, self.angles]
        self.in_proj = nn.Linear(d_model, sum(self._rows), bias=False, **factory)
        single = {"device": device, "dtype": torch.float32}
        self.dt_bias = nn.Parameter(initial_dt_bias(self.nheads, dt_min, dt_max, dt_init_floor, device))
        self.B_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state, **single))
        self.C_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state, **single))
        self.B_norm = RMSNorm(d_state, norm_eps, **factory)
        self.C_norm = RMSNorm(d_state, norm_eps, **factory)
        self.D = nn.Parameter(torch.ones(self.nheads, **single))
        for name, start in (("mimo_x", 1 / self.rank), ("mimo_z", 1.0), ("mimo_o", 1 / self.rank)):
            filled = nn.Parameter(torch.full((self.nheads, self.rank, headdim), start, **single)) if is_mimo else None
            self.register_parameter(name, filled)
        self.norm = (
            GatedRMSNorm(self.d_inner, headdim, eps=norm_eps, norm_before_gate=True, **factory)
            if is_outproj_norm
            else None
        )
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False, **factory)
        self.mark_parameters()

    def _heads(self, rope_fraction: float) -> int:
        heads = heads_of(self.d_inner, self.headdim, self.ngroups, "Mamba3")
        if self.d_state % 2:
            raise InvalidArgumentError("bad d_state", where="Mamba3", expected="an even number", got=self.d_state)
        if rope_fraction not in (0.5, 1):
            raise InvalidArgumentError("bad rope_fraction", where="Mamba3", expected="0.5 or 1", got=rope_fraction)
        if self.rank < 1:
            raise InvalidArgumentError("bad mimo_rank", where="Mamba3", expected="1 or more", got=self.rank)
        if self.A_activation not in ("heavy_tail", "softplus"):
            raise InvalidArgumentError(
                "bad A_activation", where="Mamba3", expected="'heavy_tail' or 'softplus'", got=repr(self.A_activation)
            )
        return heads

    def initial_state(self, batch_size: int) -> Mamba3State:
        """The zero state: what a call without a state starts from."""
        weight, wide = self.in_proj.weight, self.dt_bias
        return Mamba3State(
            wide.new_zeros(batch_size, self.nheads, self.angles),
            wide.new_zeros(batch_size, self.nheads, self.headdim, self.d_state),
            weight.new_zeros(batch_size, self.rank, self.nheads, self.d_state),
            weight.new_zeros(batch_size, self.nheads, self.headdim),
        )

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: Mamba3State | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Y (B, L, D); with `return_state`, (y, state after the last step). L may be 0.

        state, mask, cu_seqlens: as of `Mamba2.forward`. Raises ShapeError.
        """
        check_input(x, self.d_model, "Mamba3")
        packing = Packing.of(mask, x, "Mamba3", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, state, return_state)
        z, inputs = self._inputs(self.in_proj(x))
        weights = TrapezoidalWeights(
            accumulate_dtype(self.B_bias),
            accumulate_dtype(self.C_bias),
            accumulate_dtype(self.D),
            None if self.mimo_x is None else accumulate_dtype(self.mimo_x),
        )
        y, new_state = trapezoidal_ssd(
            inputs,
            weights,
            state,
            interleaved=not self.is_mimo,
            cu_seqlens=cu_seqlens,
            return_state=return_state,
        )
        out = self.out_proj(self._gated(y, z))
        return (out, new_state) if return_state else out

    def _inputs(self, projected: Tensor) -> tuple[Tensor, TrapezoidalInputs]:
        """The gate z (B, L, H, P), and what the recurrence reads, of in_proj's rows."""
        z, x, B, C, ddt, ddA, trap, rates = torch.split(projected, self._rows, dim=-1)
        by_rank = (self.rank, self.ngroups, self.d_state)
        dt = functional.softplus(accumulate_dtype(ddt) + accumulate_dtype(self.dt_bias))  # (B, L, H)
        return torch.unflatten(z, -1, (self.nheads, self.headdim)), TrapezoidalInputs(
            torch.unflatten(x, -1, (self.nheads, self.headdim)),
            self.B_norm(torch.unflatten(B, -1, by_rank)),
            self.C_norm(torch.unflatten(C, -1, by_rank)),
            dt,
            -self._decay_rate(accumulate_dtype(ddA)) * dt,
            accumulate_dtype(trap),
            math.pi * torch.tanh(accumulate_dtype(rates)).unsqueeze(2),
        )

    def _decay_rate(self, raw: Tensor) -> Tensor:
        """-A: positive, at least A_floor."""
        if self.A_activation == "softplus":
            rate = functional.softplus(raw)
        else:  # the parts meet at 0 with one slope; of the other side each is constant, so that nothing is infinite
            rate = raw.clamp(min=0) + 1 / (1 + functional.relu(-raw))
        return rate.clamp(min=self.A_floor)

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        """Of y (B, L, R, H, P) and z (B, L, H, P) make (B, L, I): norm, gate, sum over the ranks."""
        z = z.unsqueeze(2)
        if self.mimo_z is not None:
            z = (z * self.mimo_z.transpose(0, 1)).to(y.dtype)
        if self.norm is None:
            y = y * functional.silu(z)
        else:
            y = torch.unflatten(self.norm(y.flatten(-2), z.flatten(-2)), -1, (self.nheads, self.headdim))
        if self.mimo_o is None:
            return y.squeeze(2).flatten(-2)
        return (y * self.mimo_o.transpose(0, 1)).sum(2).to(y.dtype).flatten(-2)
