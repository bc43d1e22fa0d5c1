"""Evidence for `hybrid`: the published hybrid, and Mamba-2 with attention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import evidence_mamba
import torch
from language_golden import STEPS, TOLERANCES
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors


def hybrid_checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder), load_file(folder / "weights.safetensors")


def recorded_hybrid(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "io.safetensors")
    steps = io.pop("logits_step")[:, golden.config(folder)["prefill"] :]
    return {**io, **{f"{way}logits": steps for way in STEPS}}


def run_hybrid(model: Any, given: Recorded) -> Tensors:
    tokens = given["input_ids"]
    embedded = model.backbone.embedding(tokens).detach().requires_grad_()
    out = model(inputs_embeds=embedded, labels=tokens, output_hidden_states=True)
    out.loss.backward()
    assert embedded.grad is not None
    assert out.hidden_states is not None
    found = {f"layer{index}.out": hidden for index, hidden in enumerate(out.hidden_states[1:])}
    found |= {"logits": out.logits, "loss": out.loss.reshape(1), "grad.embedding_out": embedded.grad}
    return {**found, **_steps(model, tokens, given.config["prefill"])}


def attention_checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    """A model of the authors of Mamba-2 with attention: the language model's configuration with other keys."""
    config = {**golden.config(folder)["lm"], **golden.config(folder)["attn_lm"]}
    config.pop("rest")
    weights = load_file(folder / "weights.safetensors")
    return config, {name[8:]: value for name, value in weights.items() if name.startswith("attn_lm.")}


def recorded_attention(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "io.safetensors")
    logits = io["attn_lm.logits"]  # the authors' own steps with a cache are wrong
    steps = {f"{way}logits": logits[:, golden.config(folder)["prefill"] :] for way in STEPS}
    return {"input_ids": io["input_ids"], "logits": logits, **steps}


def run_attention(model: Any, given: Recorded) -> Tensors:
    tokens = given["input_ids"]
    return {"logits": model(tokens).logits, **_steps(model, tokens, given.config["prefill"])}


def _steps(model: Any, tokens: Tensor, prefill: int) -> Tensors:
    """The logits of single steps after a prompt, run in both ways."""
    found = {}
    for way, gradients in STEPS.items():
        with torch.set_grad_enabled(gradients):
            out = model(tokens[:, :prefill])
            logits = []
            for t in range(prefill, tokens.shape[1]):
                out = model(tokens[:, t : t + 1], out.state)
                logits.append(out.logits)
        found[f"{way}logits"] = torch.cat(logits, 1)
    return found


HYBRID = Golden(
    system="mamba2-hybrid",
    checkpoint=hybrid_checkpoint,
    recorded=recorded_hybrid,
    run=run_hybrid,
    reordered=("mixer.in_proj.weight",),
    **TOLERANCES,
)
ATTENTION = Golden(
    system="mamba2",
    part="attention",
    checkpoint=attention_checkpoint,
    recorded=recorded_attention,
    run=run_attention,
    renumbered=True,
    **TOLERANCES,
)
POSITIONS = {"rotary_dim": 2, "window": 9, "attention_conv": 4, "attention_bias": True, "attention_out_bias": True}
MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "logits_multiplier": 0.5,
    "residual_multiplier": 0.7,
    "attention_scale": 0.3,
}
GATED = {"mlp_gated": True, "mlp_activation": "silu", "d_shared_expert": 12}
# Norms of the 8B transformer: two a layer and the last, each with a bias.
_TRANSFORMER_NORMS = (2 * 32 + 1) * 2 * 4096
EVIDENCE = [
    families.Evidence(
        "hybrid",
        goldens=[HYBRID, ATTENTION],
        forms={
            "positions": {"pattern": "M*-", **POSITIONS, **MULTIPLIERS},
            "experts": {"pattern": "m*E", "dt_norm": "weighted", "num_experts": 4, "d_expert": 8, **GATED},
            "parallel": {"pattern": "P-", "rmsnorm": False, "ssm_multipliers": [0.9, 0.8, 1.2, 1.1, 0.7]},
            "shared": {"pattern": "SS", "adapter_rank": 3, "attention_adapters": True},
        },
        counts={
            "mamba2-hybrid-8b": 8_654_517_248,
            "mamba-8b": 8_148_783_104,
            "mamba2-8b": 8_236_999_680,
            "transformer-8b": 8_539_602_944 + _TRANSFORMER_NORMS,
            "mamba2attn-2.7b": 2_697_590_880,
        },
        bfloat16=0.02,
    ),
]


def write_golden(root: Path) -> None:
    """A folder `mamba2-hybrid` of other sizes, and the attention of `mamba2`, from our own models."""
    _write_hybrid(root / "mamba2-hybrid")
    evidence_mamba.write_golden(root)  # whose tokens the model with attention reads
    _write_attention(root / "mamba2", golden.config(root / "mamba2")["lm"])


def _write_hybrid(folder: Path) -> None:
    config: dict[str, Any] = {
        "pattern": "M*-M-",
        "hidden_size": 24,
        "num_attention_heads": 6,
        "num_query_groups": 3,
        "kv_channels": 8,
        "ffn_hidden_size": 40,
        "activation": "gelu (erf)",
        "mamba_state_dim": 6,
        "mamba_num_heads": 12,
        "mamba_head_dim": 4,
        "mamba_num_groups": 3,
        "vocab_size": 37,
        "prefill": 7,
    }
    torch.manual_seed(8)
    model: Any = golden.scatter(
        mambasdk.create_model(
            "hybrid", d_model=24, pattern="M*-M-", vocab_size=37, d_state=6, headdim=4, ngroups=3,
            num_heads=6, num_kv_heads=3, head_dim=8, d_mlp=40, tie_embeddings=False,
        ),
        8,
    )  # fmt: skip
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", megatron_tensors(model, config))
    tokens = torch.randint(37, (2, 15), generator=torch.Generator().manual_seed(8))
    io = golden.record(HYBRID, model, {"input_ids": tokens}, config)
    steps = io.pop("steps.logits")
    del io["steps with gradients.logits"]
    io["logits_step"] = torch.cat([torch.zeros_like(io["logits"][:, : config["prefill"]]), steps], 1)
    golden.write(folder, "io.safetensors", io)


def megatron_tensors(model: Any, config: Mapping[str, Any]) -> Tensors:
    """The weights of a hybrid under Megatron's names."""
    tensors: Tensors = {}
    groups, width = config["num_query_groups"], config["kv_channels"]
    for name, value in model.state_dict().items():
        if not name.startswith("backbone.layers."):
            theirs = name.replace("backbone.embedding", "embedding.word_embeddings").replace("lm_head", "output_layer")
            tensors[theirs.replace("backbone.norm_f", "decoder.final_norm")] = value
            continue
        index, part = name.removeprefix("backbone.layers.").split(".", 1)
        symbol = config["pattern"][int(index)]
        if symbol == "*" and part == "mixer.in_proj.weight":
            queries = groups * width * (config["num_attention_heads"] // groups)
            q, k, v = value.split([queries, groups * width, groups * width])
            rows = torch.cat([kind.unflatten(0, (groups, -1)) for kind in (q, k, v)], 1).flatten(0, 1)
        else:
            rows = value
        tensors[f"decoder.layers.{index}.{_MEGATRON[symbol].get(part, part)}"] = rows
    return tensors


_MEGATRON: dict[str, dict[str, str]] = {
    "M": {},
    "*": {
        "norm.weight": "self_attention.linear_qkv.layer_norm_weight",
        "mixer.in_proj.weight": "self_attention.linear_qkv.weight",
        "mixer.out_proj.weight": "self_attention.linear_proj.weight",
    },
    "-": {
        "norm.weight": "mlp.linear_fc1.layer_norm_weight",
        "mixer.fc1.weight": "mlp.linear_fc1.weight",
        "mixer.fc2.weight": "mlp.linear_fc2.weight",
    },
}


def _write_attention(folder: Path, lm: Mapping[str, Any]) -> None:
    """Beside the language model of Mamba-2, whose tokens it takes."""
    config = {
        "attn_layer_idx": [0],
        "attn_cfg": {"causal": True, "num_heads": 4, "num_heads_kv": 2, "head_dim": 6, "rotary_emb_dim": 4,
                     "rotary_emb_interleaved": True, "out_proj_bias": False, "mlp_dim": 256},
        "d_intermediate": 20,
        "rest": "as lm",
    }  # fmt: skip
    torch.manual_seed(9)
    ssm = {key: value for key, value in lm["ssm_cfg"].items() if key not in ("layer", "chunk_size")}
    sizes = {key: lm[key] for key in ("d_model", "vocab_size", "pad_vocab_size_multiple", "tie_embeddings")}
    model: Any = golden.scatter(
        mambasdk.create_model(
            "hybrid", **sizes, **ssm, pattern="*-M-", num_heads=4, num_kv_heads=2, head_dim=6, rotary_dim=4,
            rotary_interleaved=True, attention_bias=True, attention_mlp=128, d_mlp=128, mlp_gated=True,
            mlp_activation="silu",
        ),
        9,
    )  # fmt: skip
    golden.write(folder, "config.json", {"attn_lm": config})
    names = {f"layers.{2 * i + 1}.{old}": f"layers.{i}.{new}" for i in range(2)
             for old, new in (("norm", "norm2"), ("mixer", "mlp"))} | {"layers.2.": "layers.1."}  # fmt: skip
    weights = {}
    for name, value in model.state_dict().items():
        start = next((old for old in names if name.startswith(f"backbone.{old}")), None)
        weights["attn_lm." + (name if start is None else name.replace(start, names[start], 1))] = value
    golden.write(folder, "weights.safetensors", weights)
    tokens = load_file(folder / "io.safetensors")["input_ids"]
    io = golden.record(ATTENTION, model, {"input_ids": tokens}, golden.config(folder))
    golden.write(folder, "io.safetensors", {"attn_lm.logits": io["logits"]})
