"""The model of the family `hybrid`: each symbol of the pattern is one pre-norm residual layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mambasdk.nn import (
    MLP,
    Attention,
    Block,
    GatedMLP,
    LayerNorm,
    Mamba,
    Mamba2,
    MixerModel,
    MixtureOfExperts,
    RMSNorm,
    Rotary,
    Router,
)
from mambasdk_language.families.hybrid.config import HybridConfig
from mambasdk_language.families.mamba import model as mamba
from mambasdk_language.families.mamba2 import model as mamba2
from mambasdk_language.model import LanguageModel
from mambasdk_language.nn.parallel import ParallelMixer
from mambasdk_language.nn.shared import SharedBlock, SharedTransformer, SharingModel


def build(config: HybridConfig) -> LanguageModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    pattern = config.pattern or ""
    transformers = [_transformer(config) for _ in range(min(config.shared_blocks, pattern.count("S")))]
    blocks: list[Block] = []
    for symbol in pattern:
        if symbol == "S":
            which = sum(isinstance(block, SharedBlock) for block in blocks) % len(transformers)
            blocks.append(_shared(config, transformers[which], which))
        else:
            blocks.append(_block(config, _LAYERS[symbol](config), pointwise=symbol in "-E"))
    made: dict[str, Any] = {
        "vocab_size": config.padded_vocab_size,
        "initializer_range": config.initializer_range,
        "embedding_multiplier": config.embedding_multiplier,
    }
    arguments = (blocks, _norm(config), config.d_model)
    backbone = (
        SharingModel(*arguments, transformers=transformers, **made) if transformers else MixerModel(*arguments, **made)
    )
    return LanguageModel(
        backbone,
        config.vocab_size,
        tie_embeddings=config.tie_embeddings,
        logits_multiplier=config.logits_multiplier,
    )


def _norm(config: HybridConfig) -> nn.Module:
    kind = RMSNorm if config.rms_norm else LayerNorm
    return kind(config.d_model, eps=config.norm_epsilon)


def _block(config: HybridConfig, mixer: nn.Module, *, pointwise: bool) -> Block:
    return Block(
        mixer,
        _norm(config),
        residual_in_fp32=config.residual_in_fp32,
        pointwise=pointwise,
        multiplier=config.residual_multiplier,
    )


def _mixer_epsilon(config: HybridConfig) -> float:
    return config.norm_epsilon if config.mixer_norm_epsilon is None else config.mixer_norm_epsilon


def _mamba2(config: HybridConfig) -> Mamba2:
    return mamba2.mixer_of(
        config,
        norm_eps=_mixer_epsilon(config),
        norm_groups=config.norm_groups,
        out_bias=config.out_bias,
        in_multiplier=config.ssm_in_multiplier,
        multipliers=config.ssm_multipliers,
    )


def _mamba(config: HybridConfig) -> Mamba:
    return mamba.mixer_of(config, norms=config.dt_norm, norm_eps=_mixer_epsilon(config))


def _attention(config: HybridConfig, **shape: Any) -> Attention:
    rotary = Rotary(config.rotary_dim, config.rotary_base, config.rotary_interleaved) if config.rotary_dim > 0 else None
    return Attention(
        config.d_model,
        config.num_heads,
        config.num_kv_heads,
        **{"head_dim": config.head_dim, **shape},
        rotary=rotary,
        window=config.window,
        scale=config.attention_scale,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_out_bias,
        d_conv=config.attention_conv,
        d_mlp=config.attention_mlp,
        key_multiplier=config.key_multiplier,
    )


def _mlp(config: HybridConfig, hidden: int) -> MLP | GatedMLP:
    gate, out = config.mlp_multipliers
    options: dict[str, Any] = {
        "activation": config.mlp_activation,
        "bias": config.mlp_bias,
        "out_multiplier": out,
    }
    if config.mlp_gated:
        return GatedMLP(config.d_model, hidden, multiple_of=1, gate_multiplier=gate, **options)
    return MLP(config.d_model, hidden, **options)


def _experts(config: HybridConfig) -> MixtureOfExperts:
    router = Router(
        config.d_model,
        config.num_experts,
        config.experts_per_token,
        scores=config.router_scores,
        groups=config.router_groups,
        top_groups=config.router_top_groups,
        normalize=config.router_normalize,
        factor=config.router_factor,
        initializer_range=config.initializer_range,
    )
    return MixtureOfExperts(
        config.d_model,
        config.d_expert,
        router,
        gated=config.mlp_gated,
        activation=config.mlp_activation,
        d_latent=config.d_latent,
        shared=_mlp(config, config.d_shared_expert) if config.d_shared_expert else None,
        bias=config.mlp_bias,
        initializer_range=config.initializer_range,
    )


def _parallel(config: HybridConfig) -> ParallelMixer:
    return ParallelMixer(
        _mamba2(config),
        _attention(config),
        ssm_out_multiplier=config.ssm_out_multiplier,
        attention_in_multiplier=config.attention_in_multiplier,
        attention_out_multiplier=config.attention_out_multiplier,
    )


def _transformer(config: HybridConfig) -> SharedTransformer:
    """Its heads split the 2D channels of its input."""
    width = 2 * config.d_model
    head_dim = width // config.num_heads if config.head_dim is None else config.head_dim
    mlp = GatedMLP(
        config.d_model,
        config.d_mlp,
        multiple_of=1,
        activation=config.mlp_activation,
        bias=config.mlp_bias,
    )
    return SharedTransformer(_attention(config, d_input=width, head_dim=head_dim), mlp, config.norm_epsilon)


def _shared(config: HybridConfig, transformer: SharedTransformer, which: int) -> SharedBlock:
    return SharedBlock(
        _mamba2(config),
        _norm(config),
        transformer,
        which,
        rank=config.adapter_rank,
        attention_adapters=config.attention_adapters,
        residual_in_fp32=config.residual_in_fp32,
    )


_LAYERS: dict[str, Callable[[HybridConfig], nn.Module]] = {
    "M": _mamba2,
    "m": _mamba,
    "*": _attention,
    "-": lambda config: _mlp(config, config.d_mlp),
    "E": _experts,
    "P": _parallel,
}
