"""Hybrids of transformers: logits of the whole, of a prompt and steps, of padded rows, and greedy text.

The reference is transformers' own forward without a cache, on the row without padding. Where its cached or padded path
gives something else, the test says so and compares with that forward alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_parity import greedy, is_as_near_in_bfloat16, uncached
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError

transformers = pytest.importorskip("transformers")

COMMON = {"vocab_size": 61, "hidden_size": 32, "pad_token_id": 0, "eos_token_id": None}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
MAMBA2 = {"mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16, "mamba_chunk_size": 8}
# model_type -> the class' beginning, sizes, and two sets of optional fields: all on, all off.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "bamba": (
        "Bamba",
        {**HEADS, **MAMBA2, "num_hidden_layers": 3, "intermediate_size": 48, "attn_layer_indices": [1]},
        {"mamba_proj_bias": True, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
         "time_step_limit": (0.01, 0.6), "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"mamba_conv_bias": False, "num_key_value_heads": None, "attn_layer_indices": None},
    ),
    "jamba": (
        "Jamba",
        {**HEADS, "num_hidden_layers": 4, "intermediate_size": 48, "num_experts": 4, "attn_layer_period": 3,
         "attn_layer_offset": 1, "mamba_d_state": 8},
        {"mamba_proj_bias": True, "mamba_dt_rank": 3, "tie_word_embeddings": True, "num_experts_per_tok": 3},
        {"mamba_conv_bias": False, "num_experts": 1},
    ),
    "zamba2": (
        "Zamba2",
        {"num_attention_heads": 4, "num_hidden_layers": 5, "intermediate_size": 48, "n_mamba_heads": 8,
         "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "hybrid"], "mamba_ngroups": 2,
         "mamba_d_state": 16, "chunk_size": 8, "num_mem_blocks": 2, "adapter_rank": 6},
        {"use_shared_attention_adapter": True, "use_mem_rope": True, "add_bias_linear": True, "time_step_min": 0.2,
         "hidden_act": "gelu_pytorch_tanh"},
        {"num_key_value_heads": 2, "num_mem_blocks": 1, "intermediate_size": None},
    ),
    "nemotron_h": (
        "NemotronH",
        {**HEADS, "hybrid_override_pattern": "M-*EM", "head_dim": 8, "intermediate_size": 48, "mamba_num_heads": 8,
         "mamba_head_dim": 8, "ssm_state_size": 16, "n_groups": 2, "chunk_size": 8, "n_routed_experts": 4,
         "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 40},
        {"use_bias": True, "mlp_bias": True, "moe_latent_size": 12, "n_group": 2, "topk_group": 1,
         "routed_scaling_factor": 2.5, "hybrid_override_pattern": "E*ME"},
        {"use_conv_bias": False, "norm_topk_prob": False, "mlp_hidden_act": "silu"},
    ),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {**HEADS, **MAMBA2, "num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"],
         "intermediate_size": 24, "shared_intermediate_size": 40, "num_local_experts": 4},
        {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2,
         "position_embedding_type": "rope", "attention_bias": True, "mamba_proj_bias": True,
         "tie_word_embeddings": True, "time_step_limit": (0.01, 0.6)},
        {"num_local_experts": 0, "num_experts_per_tok": 0, "mamba_conv_bias": False, "num_key_value_heads": None},
    ),
    "falcon_h1": (
        "FalconH1",
        {**HEADS, **MAMBA2, "num_hidden_layers": 2, "intermediate_size": 48, "mamba_d_ssm": 48, "mamba_n_heads": 6},
        {"mamba_rms_norm": True, "mamba_proj_bias": True, "projectors_bias": True, "attention_bias": True,
         "mlp_bias": True, "tie_word_embeddings": True, "lm_head_multiplier": 0.7, "embedding_multiplier": 2.0,
         "mlp_multipliers": [0.8, 1.3], "key_multiplier": 0.6, "attention_out_multiplier": 0.9,
         "attention_in_multiplier": 1.1, "ssm_multipliers": [0.7, 1.2, 0.8, 1.1, 0.9], "ssm_in_multiplier": 1.2,
         "ssm_out_multiplier": 0.8},
        {"mamba_conv_bias": False, "num_key_value_heads": None, "mamba_d_ssm": None, "mamba_n_heads": 8},
    ),
    "falcon_mamba": (
        "FalconMamba",
        {"num_hidden_layers": 2, "state_size": 8},
        {"use_bias": True, "tie_word_embeddings": False, "time_step_rank": 5, "mixer_rms_eps": 1e-3},
        {"use_conv_bias": False, "residual_in_fp32": False},
    ),
}  # fmt: skip
CASES = [(kind, options) for kind in MODELS for options in ("sizes", "on", "off")]
# A bias of in_proj leaks from padding through the convolution.
LEAKS = {(kind, "on") for kind in MODELS}
# The single step does not clamp the step sizes, which a sequence does.
UNCACHED = {("bamba", "off")}  # its cache refuses a model without attention
CLAMPS = {("bamba", "on"), ("granitemoehybrid", "on"), ("zamba2", "on")}


def reference(kind: str, options: str) -> Any:
    """A model of transformers whose every parameter counts."""
    name, sizes, on, off = MODELS[kind]
    torch.manual_seed(4)
    chosen = {"sizes": {}, "on": on, "off": off}[options]
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **sizes, **chosen})
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    tensors = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if "correction" in n)]
    with torch.no_grad():
        for name, tensor in tensors:
            if tensor.ndim < 2 or name.endswith("A_log"):
                tensor.add_(0.1 * torch.randn_like(tensor))
            elif "conv1d" not in name:
                tensor.normal_(std=0.3 if "embed" in name or "lm_head" in name else 0.15)
    if kind == "nemotron_h":  # its floor of the step sizes is no part of the trained models
        for layer in model.model.layers:
            layer.mixer.time_step_limit = (0.0, float("inf"))
    return model


@pytest.fixture(params=CASES, ids=lambda case: f"hybrid-{case[0]}-{case[1]}")
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[tuple[str, str], Any, Any]:
    """(case, transformers' model, ours from its files)."""
    kind, options = request.param
    theirs = reference(kind, options)
    theirs.save_pretrained(tmp_path)
    return request.param, theirs, mambasdk.import_checkpoint("hybrid", tmp_path)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def equal(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(found, expected, atol=1e-4, rtol=0))


def test_hybrid_equals_transformers(pair: tuple[tuple[str, str], Any, Any]) -> None:
    """The whole; a prompt and steps; a prompt in two pieces; left padding; greedy text. One model for all of it."""
    case, theirs, ours = pair
    trained = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in theirs.parameters())
    tokens = torch.randint(1, 61, (2, 15), generator=torch.Generator().manual_seed(1))
    expected = uncached(theirs, tokens)
    close(ours(tokens).logits, expected)
    with torch.no_grad():
        close(ours(tokens).logits, expected)
        state, pieces = None, []
        for piece in tokens.split([6, 5, 1, 1, 2], 1):
            out = ours(piece, state)
            state = out.state
            pieces.append(out.logits)
        close(torch.cat(pieces, 1), expected)
        mask = torch.cat([torch.zeros(2, 4), torch.ones(2, 15)], 1).long()
        padded = torch.cat([torch.zeros(2, 4, dtype=torch.int64), tokens], 1)
        close(ours(padded, mask=mask).logits[:, 4:], expected)
        leaking = theirs(input_ids=padded, attention_mask=mask, use_cache=False).logits[:, 4:]
        assert equal(leaking, expected) == (case not in LEAKS)
        if case not in UNCACHED:
            assert equal(cached_step(theirs, tokens, 9), expected[:, 9:10]) == (case not in CLAMPS)
    count = 64 if case[1] == "sizes" else 6
    found = ours.generate(tokens[:1, :7], max_new_tokens=count)
    assert torch.equal(found, greedy(theirs, tokens[:1, :7], count))
    if case not in CLAMPS | UNCACHED:
        assert torch.equal(found, theirs.generate(tokens[:1, :7], max_new_tokens=count, do_sample=False))


@pytest.mark.parametrize("kind", list(MODELS))
def test_hybrid_in_bfloat16_is_as_near_to_float32_as_transformers(kind: str, tmp_path: Path) -> None:
    theirs = reference(kind, "sizes")
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(1, 61, (4, 33), generator=torch.Generator().manual_seed(2))
    assert is_as_near_in_bfloat16(mambasdk.import_checkpoint("hybrid", tmp_path), theirs, tokens)


def cached_step(model: Any, tokens: Tensor, at: int) -> Tensor:
    """Logits of one token after a prompt, through transformers' cache."""
    name = "cache_params" if model.config.model_type == "falcon_mamba" else "past_key_values"
    options: dict[str, Any] = {name: model(input_ids=tokens[:, :at], use_cache=True)[name]}
    if name == "past_key_values":  # Bamba counts from zero where it is not told
        options["position_ids"] = torch.full((len(tokens), 1), at)
    logits: Tensor = model(input_ids=tokens[:, at : at + 1], use_cache=True, **options).logits
    return logits


@pytest.mark.parametrize("kind", list(MODELS))
def test_hybrid_from_shards(kind: str, tmp_path: Path) -> None:
    theirs = reference(kind, "sizes")
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = mambasdk.import_checkpoint("hybrid", tmp_path)
    tokens = torch.arange(1, 10).unsqueeze(0)
    close(ours(tokens).logits, uncached(theirs, tokens))


def refused(kind: str, changes: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    reference(kind, "sizes").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("hybrid", tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bamba", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rotary positions of type 'yarn'"),
        ("bamba", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("zamba2", {"hidden_act": "tanh"}, "bad hidden_act"),
        ("bamba", {"mamba_d_head": 7}, "is not the inner width"),
        ("bamba", {"num_hidden_layers": 4}, "missing"),
        ("bamba", {"num_hidden_layers": 2}, "unexpected"),
        ("bamba", {"model_type": "gpt2"}, "no model of family hybrid"),
        ("zamba2", {"layers_block_type": ["mamba", "rnn"]}, "bad layer types"),
        ("nemotron_h", {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers"),
    ],
)
def test_what_a_hybrid_cannot_be_is_named(kind: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    refused(kind, changes, message, tmp_path)


@pytest.mark.parametrize("equal", [True, False])
def test_shared_blocks_that_are_written_once_more(equal: bool, tmp_path: Path) -> None:
    theirs = reference("zamba2", "sizes")
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = dict(theirs.state_dict())
    del tensors["lm_head.weight"]
    name = "model.layers.4.shared_transformer.self_attn.o_proj.weight"
    tensors[name] = tensors[name] + (not equal)
    if not equal:
        with pytest.raises(CheckpointError, match=r"layers\.4.*is not .*layers\.1.*which it shares"):
            mambasdk.import_checkpoint("hybrid", config, tensors)
        return
    ours = mambasdk.import_checkpoint("hybrid", config, tensors)
    tokens = torch.arange(1, 10).unsqueeze(0)
    close(ours(tokens).logits, uncached(theirs, tokens))
