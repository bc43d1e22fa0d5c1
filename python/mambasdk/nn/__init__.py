"""Modules of state-space models, on the operations of `mambasdk.ops`. Needs torch."""

from mambasdk.errors import require_torch

require_torch("mambasdk.nn")

from mambasdk.nn.bidirectional import BidirectionalMamba  # noqa: E402
from mambasdk.nn.block import Block  # noqa: E402
from mambasdk.nn.causal_lm import CausalLM, ModelOutput  # noqa: E402
from mambasdk.nn.convolution import CausalConv1d  # noqa: E402
from mambasdk.nn.mamba import Mamba  # noqa: E402
from mambasdk.nn.mamba2 import Mamba2, Mamba2State  # noqa: E402
from mambasdk.nn.mlp import GatedMLP  # noqa: E402
from mambasdk.nn.norm import LayerNorm, RMSNorm  # noqa: E402
from mambasdk.nn.optim import parameter_groups  # noqa: E402
from mambasdk.nn.precision import MarkedParameters  # noqa: E402
from mambasdk.nn.stack import MixerModel, StackOutput  # noqa: E402
from mambasdk.nn.state import MambaState, ModelState, register_layer_state  # noqa: E402

__all__ = [
    "BidirectionalMamba",
    "Block",
    "CausalConv1d",
    "CausalLM",
    "GatedMLP",
    "LayerNorm",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "MambaState",
    "MarkedParameters",
    "MixerModel",
    "ModelOutput",
    "ModelState",
    "RMSNorm",
    "StackOutput",
    "parameter_groups",
    "register_layer_state",
]
