"""What the public functions share: widening of accumulator arguments, and errors about a tensor's rank."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk.errors import ShapeError


def widen(tensor: Tensor | None, like: Tensor) -> Tensor | None:
    """`tensor` in the accumulator's dtype beside `like` (float64 beside float64, else float32); never narrowed."""
    if tensor is None:
        return None
    wanted = torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
    return tensor.to(wanted) if torch.promote_types(tensor.dtype, wanted) == wanted else tensor


def widen_state(state: Tensor, like: Tensor) -> Tensor:
    """A state in its own dtype where that has 16 bits or is the accumulator's beside `like`, else widened to that."""
    if state.dtype in (torch.bfloat16, torch.float16) and like.dtype != torch.float64:
        return state
    widened = widen(state, like)
    assert widened is not None
    return widened


def check_rank(operation: str, name: str, tensor: Tensor | None, *expected: str) -> None:
    """Raise ShapeError unless `tensor` has as many dims as one of `expected`, shapes such as `(batch, channels)`."""
    if tensor is None or any(tensor.dim() == shape.count(",") + 1 for shape in expected):
        return
    raise ShapeError(
        f"{name} has {tensor.dim()} dims", where=operation, expected=" or ".join(expected), got=tuple(tensor.shape)
    )
