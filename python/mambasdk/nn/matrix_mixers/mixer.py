"""The mixer around a structured matrix, and the structures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn.convolution import CentredConv1d
from mambasdk.nn.mamba2 import GatedRMSNorm
from mambasdk.nn.matrix_mixers.cauchy import Cauchy, FixedCauchy
from mambasdk.nn.matrix_mixers.dense import FixedDense
from mambasdk.nn.matrix_mixers.low_rank import Attention, FixedLowRank, LowRank
from mambasdk.nn.matrix_mixers.quasiseparable import FixedQuasiseparable, Quasiseparable
from mambasdk.nn.matrix_mixers.structure import Sizes, Structure
from mambasdk.nn.matrix_mixers.toeplitz import FixedToeplitz, Toeplitz
from mambasdk.nn.matrix_mixers.vandermonde import Fourier, Vandermonde
from mambasdk.nn.mixer import check_input, heads_of, refuse_state

MATRIX_MIXERS: Mapping[str, Callable[[Sizes], Structure]] = {
    "dense_di": FixedDense,
    "toeplitz_dd": Toeplitz,
    "toeplitz_di": FixedToeplitz,
    "vandermonde_dd": Vandermonde,
    "vandermonde_di": Fourier,
    "cauchy_dd": Cauchy,
    "cauchy_di": FixedCauchy,
    "low_rank_dd": LowRank,
    "low_rank_di": FixedLowRank,
    "attention_dd": Attention,
    "quasiseparable_dd": Quasiseparable,
    "quasiseparable_di": FixedQuasiseparable,
}
"""The structures of `MatrixMixer` by name: "dd" is made of the tokens, "di" the same for all of them."""


class MatrixMixer(nn.Module):
    """Sequence mixer (B, L, D) -> (B, L, D) whose matrix has the structure `kind`, one of MATRIX_MIXERS.

    With [z | v, features | steps] = in_proj(u) and v and features through a centred convolution (and SiLU), head by
    head `y = M v + v`, where M is made of features and steps or is a parameter; `out_proj(RMSNorm(y) * SiLU(z))`.

    d_model: D. max_seq_len: the longest L; "di" has parameters for it, and scales go by it. qk_dim: q, rank per head.
    d_conv: K, odd. expand: I = expand * D. headdim: P, H = I / P heads.
    shifted: of "toeplitz" only, the published code's lag; see `FixedToeplitz`.
    Source: arXiv 2407.09941, section 2 and table 1.
    """

    def __init__(
        self,
        d_model: int,
        kind: str,
        max_seq_len: int = 128,
        qk_dim: int = 16,
        d_conv: int = 7,
        expand: float = 2,
        headdim: int = 128,
        *,
        shifted: bool = False,
        bias: bool = False,
        conv_bias: bool = True,
        norm_eps: float = 1e-5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if kind not in MATRIX_MIXERS:
            raise InvalidArgumentError(
                "no such structure", where="MatrixMixer", expected=", ".join(MATRIX_MIXERS), got=repr(kind)
            )
        if shifted and not kind.startswith("toeplitz"):
            raise InvalidArgumentError("only toeplitz can be shifted", where="MatrixMixer", got=kind)
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.kind = kind
        self.d_inner = int(expand * d_model)
        self.headdim = headdim
        self.nheads = heads_of(self.d_inner, headdim, 1, "MatrixMixer")
        self.max_seq_len = max_seq_len
        options: dict[str, Any] = {"shifted": True} if shifted else {}
        made = MATRIX_MIXERS[kind](Sizes(self.nheads, headdim, qk_dim, max_seq_len), **options)
        self.matrix_mixer = made if device is None and dtype is None else made.to(device=device, dtype=dtype)
        self.d_convolved = self.d_inner + made.features
        self.in_proj = nn.Linear(d_model, self.d_inner + self.d_convolved + made.steps, bias=bias, **factory)
        self.conv1d = CentredConv1d(self.d_convolved, d_conv, bias=conv_bias, silu=made.activated, **factory)
        self.norm = GatedRMSNorm(self.d_inner, self.d_inner, eps=norm_eps, norm_before_gate=True, **factory)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)

    def forward(
        self,
        x: Tensor,  # (B, L, D)
        state: None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: None = None,
    ) -> Any:
        """Output (B, L, D).

        mask: the tokens of a row are mixed as if they stood alone, from the first place on, and outputs elsewhere are
        zero. state, return_state and cu_seqlens are there for `Block` and must stay as they are. Raises ShapeError,
        InvalidArgumentError.
        """
        self._check(x, state, return_state, cu_seqlens)
        if mask is None:
            return self._mixed(x, None)
        if mask.shape != x.shape[:2]:
            raise ShapeError("bad mask", where="MatrixMixer", expected=tuple(x.shape[:2]), got=tuple(mask.shape))
        present = mask != 0
        order = torch.argsort((~present).to(torch.uint8), dim=1, stable=True)  # (B, L): tokens first
        kept = present.gather(1, order)
        rows = order.unsqueeze(-1).expand_as(x)
        there = kept.unsqueeze(-1)
        y = self._mixed(torch.where(there, x.gather(1, rows), 0), kept)
        return torch.zeros_like(y).scatter(1, rows, torch.where(there, y, 0))

    def matrix(self, x: Tensor) -> Tensor:
        """The matrices (B, H, L, L), or (1, H, L, L) where all are the same, that the mixer is for x (B, L, D).

        What is added to the values beside the product counts in: the mixer's `y` is their product with v.
        """
        self._check(x, None, False, None)
        _, v, features, steps = self._parts(x, None)
        matrix = self.matrix_mixer.matrix(v, features, steps)
        return matrix + torch.eye(x.shape[1]).to(matrix) if self.matrix_mixer.residual else matrix

    def _check(self, x: Tensor, state: Any, return_state: bool, cu_seqlens: Any) -> None:
        check_input(x, self.d_model, "MatrixMixer")
        refuse_state(state, return_state, "MatrixMixer")
        if cu_seqlens is not None:
            raise InvalidArgumentError("packed sequences share no matrix", where="MatrixMixer", way_out="give a mask")
        if x.shape[1] > self.max_seq_len:
            raise ShapeError("too long", where="MatrixMixer", expected=f"at most {self.max_seq_len}", got=x.shape[1])

    def _mixed(self, x: Tensor, kept: Tensor | None) -> Tensor:
        z, v, features, steps = self._parts(x, kept)
        y = self.matrix_mixer.mix(v, features, steps, kept)
        if self.matrix_mixer.residual:
            y = y + self.matrix_mixer.by_head(v)
        return self.out_proj(self.norm(y.flatten(-2), z))  # type: ignore[no-any-return]

    def _parts(self, x: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gate z and v (B, L, I), features and steps (B, L, …)."""
        made = self.matrix_mixer
        z, values, steps = torch.split(self.in_proj(x), [self.d_inner, self.d_convolved, made.steps], dim=-1)
        if kept is not None:
            values = torch.where(kept.unsqueeze(-1), values, 0)
        values = self.conv1d(values)
        v, features = torch.split(values, [self.d_inner, made.features], dim=-1)
        if not made.activated:
            v = functional.silu(v)
        if kept is not None:
            v = torch.where(kept.unsqueeze(-1), v, 0)
        return z, v, features, steps
