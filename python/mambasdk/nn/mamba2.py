"""The Mamba-2 mixer (state space duality). Source: arXiv 2405.21060; parameter names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input, heads_of, initial_dt_bias, is_single_step, step_limits
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype, scaled
from mambasdk.nn.state import register_layer_state


@register_layer_state("mamba2")
class Mamba2State(NamedTuple):
    """State of one Mamba-2 mixer. conv: the last K-1 inputs of the convolution, oldest first; ssm: the scan's state."""

    conv: Tensor  # (B, K-1, S + 2GN)
    ssm: Tensor  # (B, H, P, N) float32


class GatedRMSNorm(nn.Module):
    """`RMSNorm(x * SiLU(z))`, or `RMSNorm(x) * SiLU(z)` with norm_before_gate; groups of channels normed apart.

    weight: (S). Statistics in float32 (arXiv 2405.21060).
    """

    def __init__(
        self,
        dim: int,
        group_size: int,
        *,
        eps: float = 1e-5,
        norm_before_gate: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.eps = eps
        self.norm_before_gate = norm_before_gate
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x, z (…, S) -> (…, S)."""
        y: Tensor = ops.rms_norm(
            x, self.weight, z=z, eps=self.eps, group_size=self.group_size, norm_before_gate=self.norm_before_gate
        )
        return y


class Mamba2(MarkedParameters):
    """Causal sequence mixer (B, L, D) -> (B, L, D).

    d_model: D. d_state: N. d_conv: K. expand: I = expand * D. headdim: P. ngroups: G, groups of B and C.
    d_ssm: S, channels of the scan, H = S / P heads; None is I, fewer make the other I - S a gated MLP.
    A_init_range, dt_min, dt_max, dt_init_floor, conv_init: initialisation.
    D_has_hdim: a skip weight per channel instead of one per head. dt_limit: (low, high) clamps delta after softplus;
        None is no bound.
    rmsnorm: gated norm after the scan, else the gate alone; norm_before_gate: which comes first.
    norm_groups: how many groups of channels are normed apart, None is G. norm_eps: of that norm.
    bias, conv_bias: whether the linear layers and the convolution have biases; out_bias: of out_proj, None is `bias`.
    in_multiplier: of the input. multipliers: of z, x, B, C and dt as in_proj gives them (arXiv 2507.22448).
    A_log, D and dt_bias stay float32 whatever the dtype of the module.
    Source: arXiv 2405.21060, section 7.
    """

    float32 = ("A_log", "D", "dt_bias")
    no_weight_decay = ("A_log", "D", "dt_bias")
    no_reinit = ("dt_bias",)

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: float = 2,
        headdim: int = 64,
        ngroups: int = 1,
        *,
        d_ssm: int | None = None,
        A_init_range: tuple[float, float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float | None, float | None] | None = None,
        conv_init: float | None = None,
        bias: bool = False,
        conv_bias: bool = True,
        d_inner: int | None = None,
        norm_eps: float = 1e-5,
        norm_groups: int | None = None,
        out_bias: bool | None = None,
        in_multiplier: float = 1.0,
        multipliers: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.d_state = d_state
        self.d_conv = d_conv
        self.d_inner = int(expand * d_model) if d_inner is None else d_inner
        self.d_ssm = self.d_inner if d_ssm is None else d_ssm
        self.headdim = headdim
        self.ngroups = ngroups
        self.nheads = self._heads()
        self.d_mlp = self.d_inner - self.d_ssm
        self.D_has_hdim = D_has_hdim
        self.dt_limit = step_limits(dt_limit, "Mamba2")
        self.d_xBC = self.d_ssm + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, 2 * self.d_mlp + self.d_ssm + self.d_xBC + self.nheads, bias=bias, **factory)
        self.conv1d = CausalConv1d(self.d_xBC, d_conv, bias=conv_bias, silu=True, **factory)
        if conv_init is not None:
            nn.init.uniform_(self.conv1d.weight, -conv_init, conv_init)
        single = {"device": device, "dtype": torch.float32}
        self.dt_bias = nn.Parameter(torch.empty(self.nheads, **single))
        self.A_log = nn.Parameter(torch.empty(self.nheads, **single))
        self.D = nn.Parameter(torch.ones(self.d_ssm if D_has_hdim else self.nheads, **single))
        self.norm = (
            GatedRMSNorm(
                self.d_ssm,
                self.d_ssm // (norm_groups or ngroups),
                eps=norm_eps,
                norm_before_gate=norm_before_gate,
                **factory,
            )
            if rmsnorm
            else None
        )
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias if out_bias is None else out_bias, **factory)
        self.in_multiplier = in_multiplier
        self.multipliers = self._multipliers(multipliers)
        self._init_scan(A_init_range, dt_min, dt_max, dt_init_floor)
        self.mark_parameters()

    def _multipliers(self, given: Sequence[float]) -> tuple[float, ...]:
        multipliers = tuple(float(factor) for factor in given)
        if len(multipliers) != 5:
            raise InvalidArgumentError(
                "bad multipliers", where="Mamba2", expected="five: of z, x, B, C and dt", got=repr(given)
            )
        if self.d_mlp and set(multipliers) != {1.0}:
            raise InvalidArgumentError("multipliers together with d_ssm below d_inner", where="Mamba2")
        return multipliers

    def _heads(self) -> int:
        if not 0 < self.d_ssm <= self.d_inner:
            raise InvalidArgumentError("bad d_ssm", where="Mamba2", expected=f"1 to {self.d_inner}", got=self.d_ssm)
        return heads_of(self.d_ssm, self.headdim, self.ngroups, "Mamba2")

    @torch.no_grad()
    def _init_scan(self, A_range: tuple[float, float], dt_min: float, dt_max: float, floor: float) -> None:
        """A uniform in A_range; softplus(dt_bias) log-uniform in [dt_min, dt_max] (arXiv 2405.21060)."""
        if not 0 < A_range[0] <= A_range[1]:
            raise InvalidArgumentError("bad A_init_range", where="Mamba2", expected="0 < low <= high", got=A_range)
        self.A_log.copy_(torch.empty_like(self.A_log).uniform_(*A_range).log())
        self.dt_bias.copy_(initial_dt_bias(self.nheads, dt_min, dt_max, floor, self.dt_bias.device))

    def initial_state(self, batch_size: int) -> Mamba2State:
        """The zero state: what a call without a state starts from."""
        weight = self.in_proj.weight
        return Mamba2State(
            weight.new_zeros(batch_size, self.d_conv - 1, self.d_xBC),
            torch.zeros(
                batch_size, self.nheads, self.headdim, self.d_state, device=weight.device, dtype=self.A_log.dtype
            ),
        )

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: Mamba2State | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Y (B, L, D); with `return_state`, (y, state after the last step). L may be 0.

        state: continues the sequence; batch S with `cu_seqlens`. mask: what it leaves out is not there, at the ends or
        in between: outputs are those of the tokens alone, zero elsewhere, and the state is that after the last token
        of each row, or the given one where a row has none. Raises ShapeError.
        """
        check_input(x, self.d_model, "Mamba2")
        packing = Packing.of(mask, x, "Mamba2", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, state, return_state)
        z0, x0, z, xBC, dt = self._split(self._project(x))
        if state is not None and is_single_step(x) and cu_seqlens is None:
            y, new_state = self._step(z, xBC, dt, state)
        else:
            y, new_state = self._sequence(z, xBC, dt, state, cu_seqlens, return_state)
        if self.d_mlp:
            y = torch.cat([functional.silu(z0) * x0, y], dim=-1)  # (B, L, I)
        out = self.out_proj(y)
        return (out, new_state) if return_state else out

    def _project(self, x: Tensor) -> Tensor:
        projected: Tensor = self.in_proj(scaled(x, self.in_multiplier))
        if set(self.multipliers) == {1.0}:
            return projected
        width = self.ngroups * self.d_state
        sizes = (self.d_ssm, self.d_ssm, width, width, self.nheads)
        parts = zip(sizes, self.multipliers, strict=True)
        return projected * torch.cat([projected.new_full((size,), factor) for size, factor in parts])

    def _split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """z0, x0 (…, I-S), z (…, S), xBC (…, S + 2GN), dt (…, H): the row order of in_proj."""
        return torch.split(projected, [self.d_mlp, self.d_mlp, self.d_ssm, self.d_xBC, self.nheads], dim=-1)

    def _scan_inputs(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """X (…, H, P), B and C (…, G, N) of xBC (…, S + 2GN)."""
        width = self.ngroups * self.d_state
        x, B, C = torch.split(xBC, [self.d_ssm, width, width], dim=-1)
        return (
            torch.unflatten(x, -1, (self.nheads, self.headdim)),
            torch.unflatten(B, -1, (self.ngroups, self.d_state)),
            torch.unflatten(C, -1, (self.ngroups, self.d_state)),
        )

    def _constants(self) -> dict[str, Any]:
        """What the scan and its single step take beside the inputs."""
        D = accumulate_dtype(self.D)
        return {
            "D": D.view(self.nheads, self.headdim) if self.D_has_hdim else D,
            "dt_bias": accumulate_dtype(self.dt_bias),
            "dt_softplus": True,
            "dt_limit": self.dt_limit,
        }

    def _sequence(
        self,
        z: Tensor,  # (B, L, S)
        xBC: Tensor,  # (B, L, S + 2GN)
        dt: Tensor,  # (B, L, H)
        state: Mamba2State | None,
        cu_seqlens: Tensor | None,
        return_state: bool,
    ) -> tuple[Tensor, Mamba2State | None]:
        xBC = self.conv1d(xBC, None if state is None else state.conv, return_state=return_state, cu_seqlens=cu_seqlens)
        if return_state:
            xBC, conv = xBC
        x, B, C = self._scan_inputs(xBC)
        y = ops.ssd(
            x,
            dt,
            -torch.exp(accumulate_dtype(self.A_log)),
            B,
            C,
            z=None if self.norm is not None else torch.unflatten(z, -1, (self.nheads, self.headdim)),
            initial_state=None if state is None else state.ssm,
            cu_seqlens=cu_seqlens,
            return_final_state=return_state,
            **self._constants(),
        )
        new_state = None
        if return_state:
            y, ssm = y
            new_state = Mamba2State(conv, ssm)
        return self._gate(y.flatten(-2), z), new_state

    def _step(self, z: Tensor, xBC: Tensor, dt: Tensor, state: Mamba2State) -> tuple[Tensor, Mamba2State | None]:
        """One token without gradients: z, xBC, dt (B, 1, …)."""
        xBC, conv = self.conv1d.step(xBC.squeeze(1), state.conv)
        x, B, C = self._scan_inputs(xBC)
        y, ssm = ops.ssd_state_update(
            state.ssm,
            x,
            dt.squeeze(1),
            -torch.exp(accumulate_dtype(self.A_log)),
            B,
            C,
            z=None if self.norm is not None else torch.unflatten(z.squeeze(1), -1, (self.nheads, self.headdim)),
            **self._constants(),
        )
        return self._gate(y.flatten(-2).unsqueeze(1), z), Mamba2State(conv, ssm)

    def _gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Norm and gate; without a norm the scan has applied the gate already."""
        return y if self.norm is None else self.norm(y, z)
