"""Modules of state-space models, on the operations of `mambasdk.ops`. Needs torch."""

from mambasdk.errors import require_torch

require_torch("mambasdk.nn")

from mambasdk.lowering import Model  # noqa: E402
from mambasdk.nn.attention import Attention, AttentionState  # noqa: E402
from mambasdk.nn.bidirectional import BidirectionalMamba  # noqa: E402
from mambasdk.nn.block import Block  # noqa: E402
from mambasdk.nn.causal_lm import CausalLM, ModelOutput  # noqa: E402
from mambasdk.nn.convolution import CausalConv1d, CentredConv1d  # noqa: E402
from mambasdk.nn.drop_path import DropPath, drop_path  # noqa: E402
from mambasdk.nn.experts import MixtureOfExperts, Router  # noqa: E402
from mambasdk.nn.hydra import Hydra  # noqa: E402
from mambasdk.nn.mamba import Mamba  # noqa: E402
from mambasdk.nn.mamba2 import Mamba2, Mamba2State  # noqa: E402
from mambasdk.nn.mamba3 import Mamba3  # noqa: E402
from mambasdk.nn.matrix_mixers import MATRIX_MIXERS, MatrixMixer  # noqa: E402
from mambasdk.nn.mixer import initial_dt_bias  # noqa: E402
from mambasdk.nn.mlp import MLP, GatedMLP  # noqa: E402
from mambasdk.nn.mlstm import mlstm_chunkwise, mlstm_parallel  # noqa: E402
from mambasdk.nn.non_causal_ssd import non_causal_ssd  # noqa: E402
from mambasdk.nn.norm import LayerNorm, ResidualLayerNorm, RMSNorm, add_norm  # noqa: E402
from mambasdk.nn.optim import parameter_groups  # noqa: E402
from mambasdk.nn.patches import PatchEmbedding  # noqa: E402
from mambasdk.nn.precision import MarkedParameters, accumulate_dtype, scaled  # noqa: E402
from mambasdk.nn.rotary import Rotary  # noqa: E402
from mambasdk.nn.stack import MixerModel, StackOutput  # noqa: E402
from mambasdk.nn.state import MambaState, ModelState, register_layer_state  # noqa: E402
from mambasdk.nn.trapezoidal import Mamba3State  # noqa: E402
from mambasdk.nn.vision_lstm import MLSTM, MLSTMState, ViLBlock  # noqa: E402

__all__ = [
    "MATRIX_MIXERS",
    "MLP",
    "MLSTM",
    "Attention",
    "AttentionState",
    "BidirectionalMamba",
    "Block",
    "CausalConv1d",
    "CausalLM",
    "CentredConv1d",
    "DropPath",
    "GatedMLP",
    "Hydra",
    "LayerNorm",
    "MLSTMState",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "Mamba3",
    "Mamba3State",
    "MambaState",
    "MarkedParameters",
    "MatrixMixer",
    "MixerModel",
    "MixtureOfExperts",
    "Model",
    "ModelOutput",
    "ModelState",
    "PatchEmbedding",
    "RMSNorm",
    "ResidualLayerNorm",
    "Rotary",
    "Router",
    "StackOutput",
    "ViLBlock",
    "accumulate_dtype",
    "add_norm",
    "drop_path",
    "initial_dt_bias",
    "mlstm_chunkwise",
    "mlstm_parallel",
    "non_causal_ssd",
    "parameter_groups",
    "register_layer_state",
    "scaled",
]
