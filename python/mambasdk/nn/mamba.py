"""The Mamba mixer (selective SSM). Source: arXiv 2312.00752; parameter names of the published checkpoints."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk.lowering import Program, Value
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input, initial_dt_bias, is_single_step, token_mask
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.state import MambaState


class DtProjection(MarkedParameters, nn.Linear):
    """R -> I without its bias: the scan adds `bias` once, in float32."""

    float32 = ("bias",)
    no_reinit = ("bias",)

    def forward(self, x: Tensor) -> Tensor:
        """(…, R) -> (…, I)."""
        return functional.linear(x, self.weight)


class Mamba(MarkedParameters):
    """Causal sequence mixer (B, L, D) -> (B, L, D).

    d_model: D. d_state: N. d_conv: K. expand: I = expand * D. dt_rank: R, "auto" is ceil(D / 16).
    dt_min, dt_max, dt_init, dt_scale, dt_init_floor: initialisation of the step sizes.
    bias, conv_bias: whether the linear layers and the convolution have biases.
    A_log (I, N), D (I) and dt_proj.bias (I) stay float32 whatever the dtype of the module.
    Source: paper section 3, algorithm 2; spec sections 2 to 5.
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
        if dt_init not in ("random", "constant"):
            raise InvalidArgumentError(
                "bad dt_init", where="Mamba", expected="'random' or 'constant'", got=repr(dt_init)
            )
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, **factory)
        self.conv1d = CausalConv1d(self.d_inner, d_conv, bias=conv_bias, silu=True, **factory)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False, **factory)
        self.dt_proj = DtProjection(self.dt_rank, self.d_inner, bias=True, **factory)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state, device=device, dtype=torch.float32))
        self.D = nn.Parameter(torch.empty(self.d_inner, device=device, dtype=torch.float32))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        self._init_dt(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1, d_state + 1, dtype=torch.float32, device=self.A_log.device).log())
            self.D.fill_(1.0)
        self.mark_parameters()

    def _init_dt(self, dt_min: float, dt_max: float, dt_init: str, dt_scale: float, floor: float) -> None:
        bound = self.dt_rank**-0.5 * dt_scale
        if dt_init == "constant":
            nn.init.constant_(self.dt_proj.weight, bound)
        else:
            nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        bias = initial_dt_bias(self.d_inner, dt_min, dt_max, floor, self.dt_proj.weight.device)
        self.dt_proj.bias = nn.Parameter(bias)
        self.dt_proj.mark_parameters()

    def initial_state(self, batch_size: int) -> MambaState:
        """The zero state: what a call without a state starts from."""
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

        state: continues the sequence; batch S with `cu_seqlens`. mask: padding is left out of the convolution's and the
        scan's inputs, so padding on the left is exact. Raises ShapeError.
        """
        check_input(x, self.d_model, "Mamba")
        mask = token_mask(mask, x, "Mamba")
        if mask is not None:
            x = x * mask
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, I) each
        if mask is not None and self.in_proj.bias is not None:
            u = u * mask
        if state is not None and is_single_step(x) and cu_seqlens is None:
            return self._step(u, z, state, mask, return_state)
        u = self.conv1d(u, None if state is None else state.conv, return_state=return_state, cu_seqlens=cu_seqlens)
        if return_state:
            u, conv = u
        if mask is not None:
            u = u * mask
        delta, B, C = self._parameters_of(u)
        y = ops.selective_scan(
            u,
            delta,
            -torch.exp(accumulate_dtype(self.A_log)),
            B,
            C,
            D=accumulate_dtype(self.D),
            z=z,
            delta_bias=accumulate_dtype(self.dt_proj.bias),
            delta_softplus=True,
            initial_state=None if state is None else state.ssm,
            return_final_state=return_state,
            cu_seqlens=cu_seqlens,
        )
        if not return_state:
            return self.out_proj(y)
        y, ssm = y
        return self.out_proj(y), MambaState(conv, ssm)

    def _parameters_of(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Delta (…, I), B and C (…, N) from u (…, I)."""
        dt_low, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return self.dt_proj(dt_low), B, C

    def _step(self, u: Tensor, z: Tensor, state: MambaState, mask: Tensor | None, return_state: bool) -> Any:
        """One token without gradients: u, z (B, 1, I)."""
        u, conv = self.conv1d.step(u.squeeze(1), state.conv)
        if mask is not None:
            u = u * mask.squeeze(1)
        delta, B, C = self._parameters_of(u)
        y, ssm = ops.selective_state_update(
            state.ssm,
            u,
            delta,
            -torch.exp(accumulate_dtype(self.A_log)),
            B,
            C,
            D=accumulate_dtype(self.D),
            z=z.squeeze(1),
            delta_bias=accumulate_dtype(self.dt_proj.bias),
            delta_softplus=True,
        )
        y = self.out_proj(y.unsqueeze(1))
        return (y, MambaState(conv, ssm)) if return_state else y

    def lower(self, program: Program, x: Value, prefix: str) -> Value:
        """Native form, with the states `<prefix>.conv` and `<prefix>.ssm`."""
        inner, states, rank = self.d_inner, self.d_state, self.dt_rank
        conv_state = program.state(f"{prefix}.conv", "f32", ["B", self.d_conv - 1, inner])
        ssm_state = program.state(f"{prefix}.ssm", "f32", ["B", 1, inner, states])
        xz = program.linear(x, f"{prefix}.in_proj", bias=self.in_proj.bias is not None)
        u = program.slice(xz, -1, 0, inner)
        z = program.slice(xz, -1, inner, inner)
        u = self.conv1d.lower(program, u, f"{prefix}.conv1d", conv_state)
        low = program.linear(u, f"{prefix}.x_proj", bias=False)
        delta = program.linear(program.slice(low, -1, 0, rank), f"{prefix}.dt_proj", bias=False)
        A = program.prepare("neg_exp", f"{prefix}.A", x=program.weight(f"{prefix}.A_log"))
        y = program.op(
            "selective_scan",
            into={"final_state": ssm_state},
            u=u,
            delta=program.reshape(delta, ["B", 1, "L", inner]),
            A=program.reshape(A, [1, inner, states]),
            B=program.reshape(program.slice(low, -1, rank, states), ["B", 1, "L", 1, states]),
            C=program.reshape(program.slice(low, -1, rank + states, states), ["B", 1, "L", 1, states]),
            D=program.reshape(program.weight(f"{prefix}.D"), [1, inner]),
            z=z,
            delta_bias=program.reshape(program.weight(f"{prefix}.dt_proj.bias"), [1, inner]),
            initial_state=ssm_state,
            delta_softplus=True,
            return_final_state=True,
        )
        return program.linear(y, f"{prefix}.out_proj", bias=self.out_proj.bias is not None)
