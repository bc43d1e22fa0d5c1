"""The seven hybrid and Mamba models of transformers, with random weights, and how one reads a prompt and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Size(NamedTuple):
    """d_model, a multiple of 64. blocks: of a mixer and an MLP; where a layer is one of both, twice as many layers."""

    d_model: int
    blocks: int
    vocab_size: int


FULL = Size(768, 12, 50288)  # 130M to 155M parameters
QUICK = Size(128, 4, 512)
NEMOTRON = "M-M-M*-M-M-M*-M-M-M*-M-M"  # 11 Mamba-2, 3 attention, 10 MLP
Sizes = dict[str, Any]


def _attention(size: Size) -> Sizes:
    heads = size.d_model // 64
    return {"num_attention_heads": heads, "num_key_value_heads": max(1, heads // 3)}


def _mamba2(size: Size) -> Sizes:
    return {"mamba_n_heads": size.d_model // 32, "mamba_n_groups": 1, "mamba_d_state": 128}


def _hidden(size: Size) -> int:
    return size.d_model * 8 // 3 // 64 * 64


def _bamba(size: Size) -> Sizes:
    n = size.blocks
    attention = sorted({n // 4, 3 * n // 4})
    return {**_attention(size), **_mamba2(size), "num_hidden_layers": n, "attn_layer_indices": attention,
            "intermediate_size": _hidden(size)}  # fmt: skip


def _jamba(size: Size) -> Sizes:
    return {**_attention(size), "num_hidden_layers": size.blocks, "attn_layer_period": 6, "attn_layer_offset": 3,
            "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2,
            "intermediate_size": _hidden(size) // 2, "mamba_d_state": 16}  # fmt: skip


def _zamba2(size: Size) -> Sizes:
    kinds = ["hybrid" if layer % 6 == 5 else "mamba" for layer in range(2 * size.blocks)]
    return {"num_attention_heads": size.d_model // 64, "num_hidden_layers": len(kinds), "layers_block_type": kinds,
            "n_mamba_heads": size.d_model // 32, "mamba_ngroups": 1, "mamba_d_state": 64, "num_mem_blocks": 1,
            "adapter_rank": 128, "intermediate_size": _hidden(size)}  # fmt: skip


def _nemotron_h(size: Size) -> Sizes:
    return {**_attention(size), "hybrid_override_pattern": NEMOTRON[: 2 * size.blocks], "head_dim": 64,
            "intermediate_size": _hidden(size), "mamba_num_heads": size.d_model // 32, "mamba_head_dim": 64,
            "n_groups": 1, "mlp_hidden_act": "gelu"}  # fmt: skip


def _granite(size: Size) -> Sizes:
    n = size.blocks
    kinds = ["attention" if layer in {n // 4, 3 * n // 4} else "mamba" for layer in range(n)]
    return {**_attention(size), **_mamba2(size), "num_hidden_layers": n, "layer_types": kinds, "num_local_experts": 4,
            "num_experts_per_tok": 2, "intermediate_size": _hidden(size) // 8,
            "shared_intermediate_size": _hidden(size) // 2}  # fmt: skip


def _falcon_h1(size: Size) -> Sizes:
    return {**_attention(size), **_mamba2(size), "num_hidden_layers": size.blocks, "mamba_d_ssm": 2 * size.d_model,
            "intermediate_size": 2 * size.d_model}  # fmt: skip


def _falcon_mamba(size: Size) -> Sizes:
    return {"num_hidden_layers": 2 * size.blocks, "state_size": 16}


# model_type -> (the class' beginning, its sizes, whether transformers runs the scan of a prompt by a Python loop)
MODELS: dict[str, tuple[str, Callable[[Size], Sizes], bool]] = {
    "bamba": ("Bamba", _bamba, False),
    "falcon_h1": ("FalconH1", _falcon_h1, False),
    "falcon_mamba": ("FalconMamba", _falcon_mamba, True),
    "granitemoehybrid": ("GraniteMoeHybrid", _granite, False),
    "jamba": ("Jamba", _jamba, True),
    "nemotron_h": ("NemotronH", _nemotron_h, False),
    "zamba2": ("Zamba2", _zamba2, False),
}


def transformers_model(kind: str, size: Size) -> Any:
    """Transformers' class with its own initialisation of one seed; embeddings are tied where it can."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    name, sizes, _ = MODELS[kind]
    common = {"vocab_size": size.vocab_size, "hidden_size": size.d_model, "eos_token_id": None, "pad_token_id": 0}
    tied = kind != "nemotron_h"  # whose head is its own in any case
    config = getattr(transformers, f"{name}Config")(**common, **sizes(size), tie_word_embeddings=tied)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    if kind == "nemotron_h":  # its floor of the step sizes is no part of the trained models
        for layer in model.model.layers:
            layer.mixer.time_step_limit = (0.0, float("inf"))
    return model


class Transformers:
    """Its model with its cache. logits: (B, V) after the last token."""

    def __init__(self, model: Any, tokens: torch.Tensor) -> None:
        self._model, self._tokens = model, tokens
        self._name = "cache_params" if model.config.model_type == "falcon_mamba" else "past_key_values"
        self._cache, self._length = None, 0

    def prompt(self) -> None:
        out = self._model(input_ids=self._tokens, use_cache=True, logits_to_keep=1)
        self._cache, self._length = out[self._name], self._tokens.shape[1]
        self.logits = out.logits[:, -1]

    def step(self) -> None:
        token = self._tokens[:, :1]
        given: dict[str, Any] = {self._name: self._cache}
        if self._name == "past_key_values":  # Bamba counts from zero where it is not told
            given["position_ids"] = torch.full((len(token), 1), self._length)
        out = self._model(input_ids=token, use_cache=True, logits_to_keep=1, **given)
        self._cache, self._length = out[self._name], self._length + 1
        self.logits = out.logits[:, -1]
