"""The Mamba mixer (selective SSM). Source: arXiv 2312.00752; parameter names of the published checkpoints."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters
from mambasdk.nn.selective import (
    DtInit,
    DtProjection,
    ParameterNorms,
    initial_A_log,
    projected,
    selective_ssm,
    skip_weight,
)
from mambasdk.nn.state import MambaState


class Mamba(MarkedParameters):
    """Causal sequence mixer (B, L, D) -> (B, L, D).

    d_model: D. d_state: N. d_conv: K. expand: I = expand * D. dt_rank: R, "auto" is ceil(D / 16).
    dt_min, dt_max, dt_init, dt_scale, dt_init_floor: initialisation of the step sizes.
    bias, conv_bias: whether the linear layers and the convolution have biases.
    norms: of the step sizes' share, B and C before the scan: "none", "weighted" or "plain" RMSNorm with `norm_eps`.
    reverse: run from the last position to the first; such a mixer is not causal and takes and gives no state.
    A_log (I, N), D (I) and dt_proj.bias (I) stay float32 whatever the dtype of the module.
    Source: arXiv 2312.00752, section 3, algorithm 2.
    """

    float32 = ("A_log", "D")
    no_weight_decay = ("A_log", "D")

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init: Literal["random", "constant"] = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        bias: bool = False,
        conv_bias: bool = True,
        d_inner: int | None = None,
        norms: Literal["none", "weighted", "plain"] = "none",
        norm_eps: float = 1e-6,
        reverse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.d_state = d_state
        self.d_conv = d_conv
        self.d_inner = int(expand * d_model) if d_inner is None else d_inner
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.reverse = reverse
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, **factory)
        self.conv1d = CausalConv1d(self.d_inner, d_conv, bias=conv_bias, silu=True, **factory)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False, **factory)
        self.dt_proj = DtProjection(self.dt_rank, self.d_inner, bias=True, **factory)
        self.A_log = initial_A_log(self.d_inner, d_state, device)
        self.D = skip_weight(self.d_inner, device)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        if norms not in ("none", "weighted", "plain"):
            raise InvalidArgumentError(
                "bad norms", where="Mamba", expected="'none', 'weighted' or 'plain'", got=repr(norms)
            )
        self.norms = (
            None
            if norms == "none"
            else ParameterNorms(self.dt_rank, d_state, eps=norm_eps, weighted=norms == "weighted", **factory)
        )
        DtInit(dt_min, dt_max, dt_init, dt_scale, dt_init_floor).apply(self.dt_proj, "Mamba")
        self.mark_parameters()

    def initial_state(self, batch_size: int) -> MambaState:
        """The zero state: what a call without a state starts from. Raises InvalidArgumentError with `reverse`."""
        self._check_stateless(True)
        weight = self.in_proj.weight
        return MambaState(
            weight.new_zeros(batch_size, self.d_conv - 1, self.d_inner),
            torch.zeros(batch_size, self.d_inner, self.d_state, device=weight.device, dtype=self.A_log.dtype),
        )

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: MambaState | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Output (B, L, D); with `return_state`, (output, state after the last step). L may be 0.

        state: continues the sequence; batch S with `cu_seqlens`. mask: what it leaves out is not there, at the ends or
        in between: outputs are those of the tokens alone, zero elsewhere, and the state is that after the last token
        of each row, or the given one where a row has none. Raises ShapeError, and InvalidArgumentError for a state
        with `reverse`.
        """
        check_input(x, self.d_model, "Mamba")
        self._check_stateless(state is not None or return_state)
        packing = Packing.of(mask, x, "Mamba", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, state, return_state)
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, I) each
        parameters = projected(self.x_proj, self.dt_proj, self.d_state, self.norms)
        y, new_state = selective_ssm(
            u,
            z,
            self.conv1d,
            parameters,
            self.A_log,
            self.D,
            state=state,
            return_state=return_state,
            cu_seqlens=cu_seqlens,
            reverse=self.reverse,
        )
        y = self.out_proj(y)
        return (y, new_state) if return_state else y

    def _check_stateless(self, uses_state: bool) -> None:
        if self.reverse and uses_state:
            raise InvalidArgumentError(
                "a mixer with reverse=True has no state that continues a sequence",
                where="Mamba",
                way_out="call it without state and return_state",
            )
