"""The family `mamba`: configuration, module, and import of both published checkpoint formats (spec mamba.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import Checkpoint
from mambasdk.nn import Block, CausalLM, GatedMLP, LayerNorm, Mamba, MixerModel, RMSNorm
from mambasdk_language.families.upstream import is_huggingface, original_names, renamed, require, vocabulary


@dataclass
class MambaConfig:
    """A Mamba language model; the defaults are those of the original configuration files.

    d_model: D. n_layer: blocks. vocab_size: tokens, padded to a multiple of pad_vocab_size_multiple in the matrices.
    d_state: N. d_conv: K. expand: I = expand * D unless d_inner gives I. dt_rank: R, "auto" is ceil(D / 16).
    dt_*: initialisation of the step sizes. bias, conv_bias: of the linear layers and the convolution.
    rms_norm: RMSNorm, else LayerNorm. residual_in_fp32: keep the residual sum in float32.
    d_intermediate: hidden size of a gated MLP after each mixer, 0 for none. tie_embeddings: one matrix for both ends.
    """

    d_model: int = 2560
    n_layer: int = 64
    vocab_size: int = 50277
    pad_vocab_size_multiple: int = 8
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    d_inner: int | None = None
    dt_rank: int | Literal["auto"] = "auto"
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init: Literal["random", "constant"] = "random"
    dt_scale: float = 1.0
    dt_init_floor: float = 1e-4
    bias: bool = False
    conv_bias: bool = True
    rms_norm: bool = True
    norm_epsilon: float = 1e-5
    residual_in_fp32: bool = True
    d_intermediate: int = 0
    tie_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        check_positive(self, ("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "d_state", "d_conv"))

    @property
    def padded_vocab_size(self) -> int:
        """Vp, rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple


def check_positive(config: Any, names: tuple[str, ...]) -> None:
    """Raise InvalidArgumentError unless these fields are integers of 1 or more."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgumentError(
                f"bad {name}", where=type(config).__name__, expected="an integer of 1 or more", got=repr(value)
            )


def build(config: MambaConfig) -> CausalLM:
    """The module of a configuration, freshly initialised; also on the meta device."""
    mixers = [
        Mamba(
            config.d_model,
            config.d_state,
            config.d_conv,
            config.expand,
            config.dt_rank,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
            dt_init=config.dt_init,
            dt_scale=config.dt_scale,
            dt_init_floor=config.dt_init_floor,
            bias=config.bias,
            conv_bias=config.conv_bias,
            d_inner=config.d_inner,
        )
        for _ in range(config.n_layer)
    ]
    return language_model(config, mixers)


def language_model(config: Any, mixers: list[Any]) -> CausalLM:
    """Embedding, a pre-norm block around each mixer, final norm and head (spec mamba.md section 6)."""

    def norm() -> nn.Module:
        kind = RMSNorm if config.rms_norm else LayerNorm
        return kind(config.d_model, eps=config.norm_epsilon)

    def block(mixer: nn.Module) -> Block:
        mlp = config.d_intermediate > 0
        return Block(
            mixer,
            norm(),
            mlp=GatedMLP(config.d_model, config.d_intermediate) if mlp else None,
            norm2=norm() if mlp else None,
            residual_in_fp32=config.residual_in_fp32,
        )

    backbone = MixerModel(
        [block(mixer) for mixer in mixers],
        norm(),
        config.d_model,
        vocab_size=config.padded_vocab_size,
        initializer_range=config.initializer_range,
    )
    return CausalLM(backbone, config.vocab_size, tie_embeddings=config.tie_embeddings)


ORIGINAL_NAMES = {
    name: name
    for name in (
        "d_model",
        "n_layer",
        "vocab_size",
        "pad_vocab_size_multiple",
        "rms_norm",
        "norm_epsilon",
        "residual_in_fp32",
        "d_intermediate",
        "tie_embeddings",
    )
}
# `ssm_cfg` of an original configuration: arguments of the mixer.
_ORIGINAL_MIXER = {
    name: name
    for name in (
        "d_state",
        "d_conv",
        "expand",
        "dt_rank",
        "dt_min",
        "dt_max",
        "dt_init",
        "dt_scale",
        "dt_init_floor",
        "bias",
        "conv_bias",
    )
}
_HUGGINGFACE = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "n_layer": "n_layer",
    "vocab_size": "vocab_size",
    "state_size": "d_state",
    "conv_kernel": "d_conv",
    "expand": "expand",
    "intermediate_size": "d_inner",
    "time_step_rank": "dt_rank",
    "time_step_min": "dt_min",
    "time_step_max": "dt_max",
    "time_step_init_scheme": "dt_init",
    "time_step_scale": "dt_scale",
    "time_step_floor": "dt_init_floor",
    "use_bias": "bias",
    "use_conv_bias": "conv_bias",
    "layer_norm_epsilon": "norm_epsilon",
    "residual_in_fp32": "residual_in_fp32",
    "tie_word_embeddings": "tie_embeddings",
    "initializer_range": "initializer_range",
}


def original_settings(config: Mapping[str, Any], mixer: Mapping[str, str], layer: str, family: str) -> dict[str, Any]:
    """Overrides from an original configuration; `mixer` names the known keys of `ssm_cfg`, `layer` its mixer."""
    require(config, {"attn_layer_idx": ([], None)}, family)
    ssm = dict(config.get("ssm_cfg") or {})
    found = ssm.pop("layer", "Mamba1")
    if found != layer:
        raise CheckpointError(
            f"the layers are {found}",
            where="config.json",
            expected=layer,
            way_out="import it as family " + ("mamba2" if found == "Mamba2" else "mamba"),
        )
    for key in ("chunk_size", "use_fast_path", "use_mem_eff_path"):  # choices of kernels
        ssm.pop(key, None)
    if stray := sorted(set(ssm) - set(mixer)):
        raise CheckpointError(f"unknown entries of ssm_cfg: {', '.join(stray)}", where="config.json")
    return {**renamed(config, ORIGINAL_NAMES), **renamed(ssm, mixer)}


def import_mamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba or of transformers."""
    if is_huggingface(config):
        require(config, {"model_type": ("mamba",), "hidden_act": ("silu",)}, "mamba")
        settings = renamed(config, _HUGGINGFACE)
        settings.setdefault("pad_vocab_size_multiple", 8)
        # The usual width is left to `expand`, so that a published variant keeps its identity.
        if settings.get("d_inner") == int(settings.get("expand", 2) * settings["d_model"]):
            del settings["d_inner"]
        if settings.get("dt_rank") == -(-settings["d_model"] // 16):
            del settings["dt_rank"]
        # Only the published values matter once weights are loaded; Hugging Face initialises otherwise.
        settings.pop("initializer_range", None)
        settings.update(vocabulary(settings["vocab_size"], weights))
    else:
        settings = original_settings(config, _ORIGINAL_MIXER, "Mamba1", "mamba")
    return settings, original_names(weights)
