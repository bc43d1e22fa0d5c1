"""The selective SSM between the projections of a mixer: convolution, input-dependent parameters, scan; one direction.

Source: arXiv 2312.00752, section 3. A mixer owns the modules and parameters under the names of its checkpoints and
passes them in, so that mixers with one direction and with two share this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import initial_dt_bias, is_single_step
from mambasdk.nn.norm import RMSNorm
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.state import MambaState


class DtProjection(MarkedParameters, nn.Linear):
    """R -> I without its bias: the scan adds `bias` once, in float32."""

    float32 = ("bias",)
    no_reinit = ("bias",)

    def forward(self, x: Tensor) -> Tensor:
        """(…, R) -> (…, I)."""
        return functional.linear(x, self.weight)


@dataclass(frozen=True)
class DtInit:
    """How step sizes start: softplus of the bias is log-uniform in [dt_min, dt_max], at least `floor`."""

    dt_min: float = 1e-3
    dt_max: float = 0.1
    weights: Literal["random", "constant"] = "random"
    scale: float = 1.0
    floor: float = 1e-4

    def apply(self, projection: DtProjection, mixer: str) -> None:
        """Set weight and bias of `projection`; raises InvalidArgumentError."""
        if self.weights not in ("random", "constant"):
            raise InvalidArgumentError(
                "bad dt_init", where=mixer, expected="'random' or 'constant'", got=repr(self.weights)
            )
        bound = projection.in_features**-0.5 * self.scale
        if self.weights == "constant":
            nn.init.constant_(projection.weight, bound)
        else:
            nn.init.uniform_(projection.weight, -bound, bound)
        device = projection.weight.device
        bias = initial_dt_bias(projection.out_features, self.dt_min, self.dt_max, self.floor, device)
        projection.bias = nn.Parameter(bias)
        projection.mark_parameters()


def initial_A_log(channels: int, states: int, device: Any) -> nn.Parameter:
    """(channels, states) float32: log of 1 to `states` in every channel (S4D-real; paper section 3.6)."""
    values = torch.arange(1, states + 1, dtype=torch.float32, device=device).log()
    return nn.Parameter(values.expand(channels, states).contiguous())


def skip_weight(channels: int, device: Any) -> nn.Parameter:
    """(channels) float32 ones: D of the scan."""
    return nn.Parameter(torch.ones(channels, device=device, dtype=torch.float32))


def split_parameters(low: Tensor, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """(…, R + 2N) of x_proj -> the step sizes' share (…, R), B and C (…, N)."""
    rank, B, C = low.split([low.shape[-1] - 2 * states, states, states], dim=-1)
    return rank, B, C


class ParameterNorms(nn.Module):
    """RMSNorm of the step sizes' share, B and C, each alone.

    weighted: with weights (arXiv 2403.19887), else without (arXiv 2410.05355).
    """

    def __init__(
        self, rank: int, states: int, *, eps: float, weighted: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weighted = weighted
        if weighted:
            self.dt = RMSNorm(rank, eps, device=device, dtype=dtype)
            self.B = RMSNorm(states, eps, device=device, dtype=dtype)
            self.C = RMSNorm(states, eps, device=device, dtype=dtype)

    def forward(self, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(…, R), (…, N), (…, N) -> the same shapes."""
        if self.weighted:
            return self.dt(dt), self.B(B), self.C(C)
        dt, B, C = (functional.rms_norm(x, x.shape[-1:], None, self.eps) for x in (dt, B, C))
        return dt, B, C


class ScanParameters(NamedTuple):
    """What a scan is given for each token, and the bias that it adds to the step sizes before softplus."""

    delta: Tensor  # (…, I)
    B: Tensor  # (…, N)
    C: Tensor  # (…, N)
    delta_bias: Tensor | None  # (I), added in float32


Parameters = Callable[[Tensor], ScanParameters]  # of the convolution's output u (…, I)


def projected(x_proj: nn.Module, dt_proj: DtProjection, states: int, norms: ParameterNorms | None = None) -> Parameters:
    """The parameters by the projections of a Mamba mixer: u -> x_proj -> step sizes, B and C."""

    def parameters(u: Tensor) -> ScanParameters:
        dt_low, B, C = split_parameters(x_proj(u), states)
        if norms is not None:
            dt_low, B, C = norms(dt_low, B, C)
        return ScanParameters(dt_proj(dt_low), B, C, dt_proj.bias)

    return parameters


def selective_ssm(
    u: Tensor,  # (B, L, I)
    z: Tensor,  # (B, L, I)
    conv1d: CausalConv1d,
    parameters: Parameters,
    A_log: Tensor,  # (I, N)
    D: Tensor,  # (I)
    *,
    state: MambaState | None = None,
    return_state: bool = False,
    cu_seqlens: Tensor | None = None,  # (S+1) int32
    reverse: bool = False,
) -> tuple[Tensor, MambaState | None]:
    """(y (B, L, I), the state after the last step where asked); with `reverse` from the last position to the first.

    One token on a state, without gradients, goes through the update operations.
    """
    if state is not None and is_single_step(u) and cu_seqlens is None:
        return _selective_step(u, z, conv1d, parameters, A_log, D, state)
    conv = None if state is None else state.conv
    u = conv1d(u, conv, return_state=return_state, cu_seqlens=cu_seqlens, reverse=reverse)
    if return_state:
        u, conv = u
    delta, B, C, delta_bias = parameters(u)
    y = ops.selective_scan(
        u,
        delta,
        -torch.exp(accumulate_dtype(A_log)),
        B,
        C,
        D=accumulate_dtype(D),
        z=z,
        delta_bias=None if delta_bias is None else accumulate_dtype(delta_bias),
        delta_softplus=True,
        initial_state=None if state is None else state.ssm,
        return_final_state=return_state,
        cu_seqlens=cu_seqlens,
        reverse=reverse,
    )
    if not return_state:
        return y, None
    y, ssm = y
    assert conv is not None
    return y, MambaState(conv, ssm)


def _selective_step(
    u: Tensor,  # (B, 1, I)
    z: Tensor,  # (B, 1, I)
    conv1d: CausalConv1d,
    parameters: Parameters,
    A_log: Tensor,  # (I, N)
    D: Tensor,  # (I)
    state: MambaState,
) -> tuple[Tensor, MambaState]:
    """(y (B, 1, I), the state after it)."""
    u, conv = conv1d.step(u.squeeze(1), state.conv)
    delta, B, C, delta_bias = parameters(u)
    y, ssm = ops.selective_state_update(
        state.ssm,
        u,
        delta,
        -torch.exp(accumulate_dtype(A_log)),
        B,
        C,
        D=accumulate_dtype(D),
        z=z.squeeze(1),
        dt_bias=None if delta_bias is None else accumulate_dtype(delta_bias),
        dt_softplus=True,
    )
    return y.unsqueeze(1), MambaState(conv, ssm)
