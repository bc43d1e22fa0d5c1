"""A Broad Mamba block: a bidirectional SSM, then a broad learning layer. Our reading of arXiv 2404.17858."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk import ops
from mambasdk.nn import CausalConv1d, MambaState
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.selective import (
    DtInit,
    DtProjection,
    Parameters,
    ScanParameters,
    initial_A_log,
    projected,
    selective_ssm,
    skip_weight,
)
from mambasdk_multimodal.families.merc.config import MERCConfig

_HELD = -1e4  # softplus of it is 0: no step, the state is held


class SelectiveDirection(MarkedParameters):
    """One direction: causal convolution, SiLU, selective scan; from the last step to the first with `reverse`."""

    float32 = ("A_log", "D")
    no_weight_decay = ("A_log", "D")

    def __init__(self, config: MERCConfig, *, reverse: bool = False) -> None:
        super().__init__()
        inner = config.expand * config.d_model
        self.reverse = reverse
        self.d_state = config.d_state
        self.conv1d = CausalConv1d(inner, config.d_conv, silu=True)
        self.x_proj = nn.Linear(inner, config.rank + 2 * config.d_state, bias=False)
        self.dt_proj = DtProjection(config.rank, inner, bias=True)
        self.A_log = initial_A_log(inner, config.d_state, None)
        self.D = skip_weight(inner, None)
        DtInit().apply(self.dt_proj, "merc")
        self.mark_parameters()

    def forward(
        self,
        x: Tensor,  # (B, L, I), zero where the mask is
        z: Tensor,  # (B, L, I)
        mask: Tensor | None,  # (B, L, 1) bool
        state: MambaState | None = None,
        *,
        return_state: bool = False,
    ) -> tuple[Tensor, MambaState | None]:
        """(y (B, L, I) times SiLU(z), the state after the last step).

        Where the mask is zero the input is 0 and the state is held. Padding behind a row therefore changes nothing in
        either direction: backwards the scan comes to a row's last utterance with a state of zero, as if it began there.
        """
        parameters = projected(self.x_proj, self.dt_proj, self.d_state)
        if mask is not None:
            parameters = _held(parameters, mask)
        return selective_ssm(
            x,
            z,
            self.conv1d,
            parameters,
            self.A_log,
            self.D,
            state=state,
            return_state=return_state,
            reverse=self.reverse,
        )


def _held(parameters: Parameters, mask: Tensor) -> Parameters:
    def held(u: Tensor) -> ScanParameters:
        made = parameters(u)
        shown = mask if u.ndim == mask.ndim else mask.squeeze(1)
        return made._replace(delta=torch.where(shown, made.delta, _HELD))

    return held


class ConvolvedDirection(MarkedParameters):
    """The time-invariant form: y = k * u + D u, `k[l] = sum_n C[n] dt exp(-dt exp(A_log[n]) l)` in every channel.

    The convolution goes over the whole conversation (S4D, arXiv 2206.11893, with real A and B of ones). What is masked
    is an input of zero; the state decays over it. C (I, N), dt_bias (I), A_log (I, N), D (I): float32.
    """

    float32 = ("A_log", "D", "C", "dt_bias")
    no_weight_decay = ("A_log", "D", "dt_bias")

    def __init__(self, config: MERCConfig, *, reverse: bool = False) -> None:
        super().__init__()
        inner = config.expand * config.d_model
        self.reverse = reverse
        self.conv1d = CausalConv1d(inner, config.d_conv, silu=True)
        self.A_log = initial_A_log(inner, config.d_state, None)
        self.C = nn.Parameter(torch.randn(inner, config.d_state))
        start = DtProjection(1, inner, bias=True)
        DtInit().apply(start, "merc")
        self.dt_bias = nn.Parameter(start.bias.detach().clone())
        self.D = skip_weight(inner, None)
        self.mark_parameters()

    def kernel(self, length: int) -> Tensor:
        """(length, I) float32, or float64."""
        dt = nn.functional.softplus(accumulate_dtype(self.dt_bias)).unsqueeze(-1)  # (I, 1)
        rate = -dt * torch.exp(accumulate_dtype(self.A_log))  # (I, N)
        steps = torch.arange(length, device=rate.device).to(rate.dtype)
        decay = torch.exp(steps.view(-1, 1, 1) * rate)  # (L, I, N)
        return (decay * (dt * accumulate_dtype(self.C))).sum(-1)

    def forward(
        self,
        x: Tensor,  # (B, L, I)
        z: Tensor,  # (B, L, I)
        mask: Tensor | None,  # (B, L, 1) bool
        state: None = None,
        *,
        return_state: bool = False,
    ) -> tuple[Tensor, None]:
        """(y (B, L, I) times SiLU(z), None)."""
        del state, return_state  # MERCConfig refuses a time-invariant model that is online
        u: Any = self.conv1d(x, reverse=self.reverse)
        if mask is not None:
            u = torch.where(mask, u, 0)
        y = convolve(u, self.kernel(u.shape[1]), accumulate_dtype(self.D), reverse=self.reverse)
        return y * nn.functional.silu(z), None


def convolve(x: Tensor, kernel: Tensor, skip: Tensor, *, reverse: bool = False) -> Tensor:
    """(B, L, D) * (L, D) along L, plus skip (D) times x; with `reverse` over what comes after.

    By the operation `fft_convolution`, which has no derivative; with gradients by torch's transforms.
    """
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (x, kernel, skip))
    if not tracked and x.dtype != torch.float64:
        y: Tensor = ops.call("fft_convolution", x=x.contiguous(), kernel=kernel, skip=skip, reverse=reverse)  # type: ignore[assignment]
        return y
    length = x.shape[1]
    size = max(2 * length, 1)
    wide = accumulate_dtype(x.flip(1) if reverse else x)
    spectrum = torch.fft.rfft(wide, size, dim=1) * torch.fft.rfft(kernel, size, dim=0)
    made = torch.fft.irfft(spectrum, size, dim=1)[:, :length]
    whole: Tensor = (made.flip(1) if reverse else made) + skip * accumulate_dtype(x)
    return whole.to(x.dtype)


class BroadMambaBlock(nn.Module):
    """(B, L, D) -> (B, L, D): both directions between shared projections, then feature and enhancement nodes."""

    def __init__(self, config: MERCConfig) -> None:
        super().__init__()
        width, inner = config.d_model, config.expand * config.d_model
        direction = SelectiveDirection if config.ssm == "selective" else ConvolvedDirection
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.fwd = direction(config)
        self.bwd = None if config.online else direction(config, reverse=True)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.broad = config.nodes > 0
        if self.broad:
            features = config.bls_groups * config.bls_group_width
            self.bls_norm = nn.LayerNorm(width, eps=1e-5)
            self.feature = nn.Linear(width, features)
            self.enhance = nn.Linear(features, config.bls_enhance)
            self.bls_out = nn.Linear(config.nodes, width)

    def forward(
        self, h: Tensor, mask: Tensor | None = None, state: MambaState | None = None, *, return_state: bool = False
    ) -> tuple[Tensor, Tensor | None, MambaState | None]:
        """(h (B, L, D), the broad layer's nodes (B, L, nodes) or None, the state). mask: (B, L, 1) bool."""
        x, z = self.in_proj(self.norm(h)).chunk(2, dim=-1)  # (B, L, I) each
        if mask is not None:
            x = torch.where(mask, x, 0)
        y, new_state = self.fwd(x, z, mask, state, return_state=return_state)
        if self.bwd is not None:
            y = y + self.bwd(x, z, mask)[0]
        if mask is not None:
            y = torch.where(mask, y, 0)
        h = h + self.out_proj(y)
        if not self.broad:
            return h, None, new_state
        features = self.feature(self.bls_norm(h))
        nodes = torch.cat([features, torch.tanh(self.enhance(features))], -1)
        return h + self.bls_out(nodes), nodes, new_state
