"""The bidirectional Mamba mixer of Vision Mamba. Source: arXiv 2401.09417, algorithm 1; names of its checkpoints."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input, refuse_state
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters
from mambasdk.nn.selective import (
    DtInit,
    DtProjection,
    initial_A_log,
    projected,
    selective_ssm,
    skip_weight,
)


class BidirectionalMamba(MarkedParameters):
    """Sequence mixer (B, L, D) -> (B, L, D) that scans forwards and backwards; type "v2" of the published models.

    Both directions share in_proj and out_proj; each has its own convolution and SSM parameters, the backward ones under
    names with `_b` (and `A_b_log`). With [x | z] = in_proj(v): `out_proj((ssm(x, z) + ssm_b(x, z)) / 2)`, where
    `ssm_b` runs from the last position to the first.

    d_model: D. d_state: N. d_conv: K. expand: I = expand * D. dt_rank: R, "auto" is ceil(D / 16).
    divide_out: the division by 2. layer_scale: initial value of `gamma` (D), a factor on the output; None for no gamma.
    reverse: swap the directions: the result of flipping x, mixing and flipping back, without the flips.
    symmetric_init: start the backward step sizes as the forward ones. The published code leaves them out: dt_proj_b has
        the weights that torch's Linear draws and a bias of 0, so its step sizes start near softplus(0) = 0.69.
    bias, conv_bias: whether the linear layers and the convolutions have biases. The other options are those of `Mamba`.
    A_log, A_b_log (I, N), D, D_b (I) and the biases of dt_proj stay float32 whatever the dtype of the module.
    """

    float32 = ("A_log", "D", "A_b_log", "D_b")
    no_weight_decay = ("A_log", "D", "A_b_log", "D_b")

    gamma: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        divide_out: bool = True,
        layer_scale: float | None = None,
        reverse: bool = False,
        symmetric_init: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init: Literal["random", "constant"] = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        bias: bool = False,
        conv_bias: bool = True,
        d_inner: int | None = None,
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
        self.divide_out = divide_out
        self.reverse = reverse
        inner, low = self.d_inner, self.dt_rank + 2 * d_state
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias, **factory)
        self.conv1d = CausalConv1d(inner, d_conv, bias=conv_bias, silu=True, **factory)
        self.x_proj = nn.Linear(inner, low, bias=False, **factory)
        self.dt_proj = DtProjection(self.dt_rank, inner, bias=True, **factory)
        self.A_log = initial_A_log(inner, d_state, device)
        self.D = skip_weight(inner, device)
        self.A_b_log = initial_A_log(inner, d_state, device)
        self.conv1d_b = CausalConv1d(inner, d_conv, bias=conv_bias, silu=True, **factory)
        self.x_proj_b = nn.Linear(inner, low, bias=False, **factory)
        self.dt_proj_b = DtProjection(self.dt_rank, inner, bias=True, **factory)
        self.D_b = skip_weight(inner, device)
        self.out_proj = nn.Linear(inner, d_model, bias=bias, **factory)
        self.register_parameter(
            "gamma", None if layer_scale is None else nn.Parameter(torch.full((d_model,), layer_scale, **factory))
        )
        init = DtInit(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        init.apply(self.dt_proj, "BidirectionalMamba")
        if symmetric_init:
            init.apply(self.dt_proj_b, "BidirectionalMamba")
        else:
            zeros = torch.zeros(inner, device=self.dt_proj_b.weight.device, dtype=torch.float32)
            self.dt_proj_b.bias = nn.Parameter(zeros)
            self.dt_proj_b.mark_parameters()
        self.mark_parameters()

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Output (B, L, D). L may be 0.

        mask: what it leaves out is not there in either direction, and its outputs are zero. state and return_state are
        there for `Block` and must stay as they are: there is no state that continues a sequence which is read from
        both ends.
        Raises ShapeError, InvalidArgumentError.
        """
        check_input(x, self.d_model, "BidirectionalMamba")
        refuse_state(state, return_state, "BidirectionalMamba")
        packing = Packing.of(mask, x, "BidirectionalMamba", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, None, False)
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, I) each
        y, _ = selective_ssm(
            u,
            z,
            self.conv1d,
            projected(self.x_proj, self.dt_proj, self.d_state),
            self.A_log,
            self.D,
            cu_seqlens=cu_seqlens,
            reverse=self.reverse,
        )
        y_b, _ = selective_ssm(
            u,
            z,
            self.conv1d_b,
            projected(self.x_proj_b, self.dt_proj_b, self.d_state),
            self.A_b_log,
            self.D_b,
            cu_seqlens=cu_seqlens,
            reverse=not self.reverse,
        )
        # One pass over memory either way: the mean costs no more than the sum.
        y = self.out_proj(torch.lerp(y, y_b, 0.5) if self.divide_out else y + y_b)
        return y if self.gamma is None else y * self.gamma
