"""Forward-mode differentiation: no operation has it, so a tangent is refused wherever it would be lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad

from mambasdk.errors import UnsupportedError


def refuse_forward_mode(name: str, is_differentiable: bool) -> NoReturn:
    """Raise UnsupportedError for the operation `name`."""
    way_out = (
        "use reverse mode: torch.func.grad, vjp or jacrev, or .backward()"
        if is_differentiable
        else f"it has no derivative at all: give {name} tensors without tangents (.detach())"
    )
    raise UnsupportedError(
        f"{name} has no forward-mode derivative: torch.func.jvp, jacfwd and hessian, and torch.autograd.forward_ad "
        "cannot go through it",
        way_out=way_out,
    )


def refuse_hidden_tangents(name: str, values: Iterable[Any]) -> None:
    """Raise UnsupportedError if one of `values` has a tangent that inference mode hides from the dispatcher."""
    if not torch.is_inference_mode_enabled():
        return
    with torch.inference_mode(False):
        for value in values:
            if isinstance(value, torch.Tensor) and forward_ad.unpack_dual(value).tangent is not None:
                raise UnsupportedError(
                    "a tensor has a tangent of forward mode, which torch.inference_mode() drops",
                    where=name,
                    way_out="leave inference mode, or give it .detach()",
                )
