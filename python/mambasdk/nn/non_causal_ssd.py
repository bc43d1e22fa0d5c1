"""State space duality without an order: one state of the whole sequence, read by every token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk.nn.precision import accumulate_dtype

_NAME = "non_causal_ssd"


def non_causal_ssd(
    x: Tensor,  # (B, L, H, P)
    dt: Tensor,  # (B, L, H)
    A: Tensor,  # (H)
    B: Tensor,  # (B, L, N) or (B, L, G, N)
    C: Tensor,  # (B, L, N) or (B, L, G, N)
    D: Tensor | None = None,  # (H)
    dt_bias: Tensor | None = None,  # (H)
    dt_softplus: bool = False,
) -> Tensor:
    """Non-causal state space duality: two matrix products, no scan; differentiable in every argument.

    With `d = dt + dt_bias` (through softplus where `dt_softplus`), per head::

        S = sum over all l of  d_l * A * x_l B_l^T
        y_l = S C_l + D * x_l

    Every token sees all tokens with the same weights, so a permutation of the sequence permutes the outputs. Where the
    `ssd` operation has A in its decay, here it scales what a token brings, so either sign will do.
    Cost: 2 L N H P multiply-adds for each entry of the batch, linear in the length.
    Source: arXiv 2407.18559, section 3.2.

    x: (B, L, H, P), any floating-point dtype. dt: (B, L, H), of x's dtype or wider. B, C: (B, L, N), or (B, L, G, N):
    group g serves H / G neighbouring heads. A, D, dt_bias: (H). The weights d * A are computed in float32 at least.
    Returns y as x. Raises ShapeError.
    """
    _check(x, dt, A, B, C, D, dt_bias)
    weight = accumulate_dtype(dt)
    if dt_bias is not None:
        weight = weight + dt_bias
    if dt_softplus:
        weight = functional.softplus(weight)
    weight = weight * A
    B, C = (t if t.ndim == 4 else t.unsqueeze(2) for t in (B, C))
    groups = B.shape[2]
    weighted = (x * weight.unsqueeze(-1)).to(x.dtype)
    weighted = weighted.flatten(2).unflatten(2, (groups, -1)).transpose(1, 2)  # (B, G, L, H/G P)
    state = B.permute(0, 2, 3, 1) @ weighted  # (B, G, N, H/G P)
    y = C.transpose(1, 2) @ state  # (B, G, L, H/G P)
    y = y.transpose(1, 2).flatten(2).unflatten(2, (x.shape[2], -1)).to(x.dtype)  # (B, L, H, P)
    return y if D is None else torch.addcmul(y, x, D.to(x.dtype).unsqueeze(-1))


def _check(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, dt_bias: Tensor | None) -> None:
    if x.ndim != 4:
        raise ShapeError("bad x", where=_NAME, expected="(batch, length, heads, headdim)", got=tuple(x.shape))
    batch, length, heads, _ = x.shape
    expected = {
        "dt": (dt, (batch, length, heads)),
        "A": (A, (heads,)),
        "D": (D, (heads,)),
        "dt_bias": (dt_bias, (heads,)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"bad {name}", where=_NAME, expected=shape, got=tuple(tensor.shape))
    for name, tensor in (("B", B), ("C", C)):
        if tensor.ndim not in (3, 4) or tensor.shape[:2] != x.shape[:2]:
            raise ShapeError(
                f"bad {name}",
                where=_NAME,
                expected=f"({batch}, {length}, N) or ({batch}, {length}, groups, N)",
                got=tuple(tensor.shape),
            )
    if B.shape != C.shape:
        raise ShapeError("B and C differ", where=_NAME, expected=tuple(B.shape), got=tuple(C.shape))
    if B.ndim == 4 and (B.shape[2] == 0 or heads % B.shape[2]):
        raise ShapeError("bad groups of B and C", where=_NAME, expected=f"a divisor of {heads} heads", got=B.shape[2])
