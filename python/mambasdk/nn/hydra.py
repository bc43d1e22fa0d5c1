"""The Hydra mixer: a quasiseparable matrix, read from both ends. Source: arXiv 2407.09941; names of its checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.nn.convolution import CentredConv1d
from mambasdk.nn.mamba2 import GatedRMSNorm
from mambasdk.nn.mixer import check_input, heads_of, initial_dt_bias, refuse_state, step_limits
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype
from mambasdk.nn.quasiseparable import Direction, Steps, quasiseparable, quasiseparable_matrix


class Hydra(MarkedParameters):
    """Sequence mixer (B, L, D) -> (B, L, D) in which every position hears all others, in time linear in L.

    With [z | x, B_f, C_f, B_b, C_b | dt_f, dt_b] = in_proj(u) and everything but z and dt through a centred convolution
    and SiLU, `y = M x` head by head: M has rank N strictly below its diagonal (the scan of Mamba-2 from the left, with
    B_f, C_f, dt_f), rank N strictly above it (the same from the right) and a diagonal of its own, `fc_D(x) + D`. Then
    `out_proj(RMSNorm(y) * SiLU(z))`.

    d_model: D. d_state: N. d_conv: K, odd. expand: I = expand * D. headdim: P, H = I / P heads. ngroups: G, of B and C.
    dt_min, dt_max, dt_init_floor: initial step sizes. dt_limit: (low, high) clamps them; None is no bound.
    learnable_init_states: `init_states` (H, P, N), where the scans of both directions begin.
    bias, conv_bias: whether the linear layers and the convolution have biases.
    A_log, D, dt_bias and init_states stay float32 whatever the dtype of the module.
    Source: arXiv 2407.09941, section 3.
    """

    float32 = ("A_log", "D", "dt_bias", "init_states")
    no_weight_decay = ("A_log", "D", "dt_bias", "init_states")
    no_reinit = ("dt_bias",)

    init_states: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 7,
        expand: float = 2,
        headdim: int = 64,
        ngroups: int = 1,
        *,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float | None, float | None] | None = None,
        learnable_init_states: bool = False,
        bias: bool = False,
        conv_bias: bool = True,
        norm_eps: float = 1e-5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.d_state = d_state
        self.d_inner = int(expand * d_model)
        self.headdim = headdim
        self.ngroups = ngroups
        self.nheads = heads_of(self.d_inner, headdim, ngroups, "Hydra")
        self.dt_limit = step_limits(dt_limit, "Hydra")
        self.d_xBC = self.d_inner + 4 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + self.d_xBC + 2 * self.nheads, bias=bias, **factory)
        self.conv1d = CentredConv1d(self.d_xBC, d_conv, bias=conv_bias, silu=True, **factory)
        single = {"device": device, "dtype": torch.float32}
        self.dt_bias = nn.Parameter(torch.empty(self.nheads, **single))
        self.A_log = nn.Parameter(torch.zeros(self.nheads, **single))
        self.D = nn.Parameter(torch.ones(self.nheads, **single))
        self.register_parameter(
            "init_states",
            nn.Parameter(torch.zeros(self.nheads, headdim, d_state, **single)) if learnable_init_states else None,
        )
        self.fc_D = nn.Linear(self.d_inner, self.nheads, bias=False, **factory)
        self.norm = GatedRMSNorm(self.d_inner, self.d_inner, eps=norm_eps, norm_before_gate=True, **factory)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        with torch.no_grad():
            self.dt_bias.copy_(initial_dt_bias(self.nheads, dt_min, dt_max, dt_init_floor, self.dt_bias.device))
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
        there for `Block` and must stay as they are. Raises ShapeError, InvalidArgumentError.
        """
        check_input(x, self.d_model, "Hydra")
        refuse_state(state, return_state, "Hydra")
        packing = Packing.of(mask, x, "Hydra", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, None, False)
        z, heads, forward, backward, d = self._parts(x, cu_seqlens)
        y = quasiseparable(
            heads,
            forward,
            backward,
            self._steps(),
            initial_state=None if self.init_states is None else accumulate_dtype(self.init_states),
            cu_seqlens=cu_seqlens,
        )
        y = y + heads * d.unsqueeze(-1)  # (B, L, H, P)
        return self.out_proj(self.norm(y.flatten(-2), z))

    def matrix(self, x: Tensor) -> Tensor:
        """The matrices (B, H, L, L) that the mixer is for x (B, L, D), without init_states: to look at, not to run."""
        check_input(x, self.d_model, "Hydra")
        _, _, forward, backward, d = self._parts(x, None)
        forward, backward = (Direction(*map(accumulate_dtype, one)) for one in (forward, backward))
        return quasiseparable_matrix(forward, backward, self._steps(), accumulate_dtype(d))

    def _parts(self, u: Tensor, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor, Direction, Direction, Tensor]:
        """The gate z (B, L, I), x (B, L, H, P), what each direction takes, and the diagonal (B, L, H)."""
        z, xBC, dt_f, dt_b = torch.split(self.in_proj(u), [self.d_inner, self.d_xBC, self.nheads, self.nheads], dim=-1)
        xBC = self.conv1d(xBC, cu_seqlens=cu_seqlens)
        x, *BC = torch.split(xBC, [self.d_inner, *[self.ngroups * self.d_state] * 4], dim=-1)
        B_f, C_f, B_b, C_b = (torch.unflatten(part, -1, (self.ngroups, self.d_state)) for part in BC)
        d = (self.fc_D(x) + self.D).to(x.dtype)
        heads = torch.unflatten(x, -1, (self.nheads, self.headdim))
        return z, heads, Direction(dt_f, B_f, C_f), Direction(dt_b, B_b, C_b), d

    def _steps(self) -> Steps:
        return Steps(-torch.exp(accumulate_dtype(self.A_log)), accumulate_dtype(self.dt_bias), self.dt_limit)
