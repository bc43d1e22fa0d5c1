"""A Mamba mixer of transformers, on its own CPU path, and ours with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mambasdk.nn import Mamba

Function = Callable[..., Tensor]


def mixers(d_model: int) -> tuple[dict[str, Tensor], Function, Function]:
    """The parameters by name, and two functions (x (B, L, D), **parameters) -> (B, L, D): ours and transformers'."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    torch.manual_seed(0)
    ours: nn.Module = Mamba(d_model)
    peer: nn.Module = MambaMixer(MambaConfig(hidden_size=d_model), layer_idx=0)
    peer.load_state_dict(ours.state_dict())

    def call(module: nn.Module) -> Function:
        def run(*, x: Tensor, **parameters: Any) -> Tensor:
            y: Tensor = functional_call(module, parameters, (x,))
            return y

        return run

    return {name: p.detach().clone() for name, p in ours.named_parameters()}, call(ours), call(peer)
