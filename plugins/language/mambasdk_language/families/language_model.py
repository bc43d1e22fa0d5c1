"""What the language model families share: configuration, the module around the mixers, original configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.nn import Block, CausalLM, GatedMLP, LayerNorm, MixerModel, RMSNorm
from mambasdk_language.families.upstream import renamed, require


@dataclass
class LanguageModelConfig:
    """A stack of mixers between an embedding and a head; the defaults are those of the original configuration files.

    d_model: D. n_layer: blocks. vocab_size: tokens, padded to a multiple of pad_vocab_size_multiple in the matrices.
    d_state: N. d_conv: K. expand: I = expand * D unless d_inner gives I. bias, conv_bias: of the mixer's linear layers
    and its convolution. dt_min, dt_max, dt_init_floor: initial step sizes. rms_norm: RMSNorm between layers, else
    LayerNorm. residual_in_fp32: keep the residual sum in float32. d_intermediate: hidden size of a gated MLP after each
    mixer, 0 for none. tie_embeddings: one matrix for both ends.
    """

    d_model: int = 2560
    n_layer: int = 64
    vocab_size: int = 50277
    pad_vocab_size_multiple: int = 8
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    d_inner: int | None = None
    dt_min: float = 1e-3
    dt_max: float = 0.1
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
        self.check_positive("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "d_state", "d_conv")

    @property
    def padded_vocab_size(self) -> int:
        """Vp, rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    def check_positive(self, *names: str) -> None:
        """Raise InvalidArgumentError unless these fields are integers of 1 or more."""
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=type(self).__name__, expected="an integer of 1 or more", got=repr(value)
                )


def language_model(config: LanguageModelConfig, mixers: list[Any]) -> CausalLM:
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


_ORIGINAL = {
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
# `ssm_cfg` of an original configuration: arguments of the mixer that every one of them has.
_ORIGINAL_MIXER = ("d_state", "d_conv", "expand", "dt_min", "dt_max", "dt_init_floor", "bias", "conv_bias")
# Keys of Hugging Face configurations that every one of them has.
HUGGINGFACE = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "n_layer": "n_layer",
    "vocab_size": "vocab_size",
    "state_size": "d_state",
    "conv_kernel": "d_conv",
    "expand": "expand",
    "time_step_min": "dt_min",
    "time_step_max": "dt_max",
    "time_step_floor": "dt_init_floor",
    "use_bias": "bias",
    "use_conv_bias": "conv_bias",
    "layer_norm_epsilon": "norm_epsilon",
    "residual_in_fp32": "residual_in_fp32",
    "tie_word_embeddings": "tie_embeddings",
}


def original_settings(config: Mapping[str, Any], mixer: tuple[str, ...], layer: str, family: str) -> dict[str, Any]:
    """Overrides from an original configuration; `mixer` names further keys of `ssm_cfg`, `layer` its mixer."""
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
    known = (*_ORIGINAL_MIXER, *mixer)
    if stray := sorted(set(ssm) - set(known)):
        raise CheckpointError(f"unknown entries of ssm_cfg: {', '.join(stray)}", where="config.json")
    return {**renamed(config, _ORIGINAL), **renamed(ssm, {name: name for name in known})}
