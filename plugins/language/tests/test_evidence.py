"""Evidence for each family: the authors' golden tensors, published counts, and what holds for every family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.nn import MATRIX_MIXERS, Hydra, Mamba2, Mamba3, MatrixMixer
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# From the golden READMEs.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4), "gradient": Tolerance(1e-3, "norm")}
KEPT = ("input_ids", "logits", "loss", "layer", "prefill.", "final.", "grad.")
# A prompt and single steps run in two ways: with gradients in the training form, without in that of inference.
STEPS = {"steps.": False, "steps with gradients.": True}

# ---- language models ----


def _is_nested(config: Mapping[str, Any]) -> bool:
    """Mamba-2's folder holds more than the language model, which is `lm` there."""
    return "lm" in config


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    config, weights = golden.config(folder), load_file(folder / "weights.safetensors")
    if not _is_nested(config):
        return config["model"], weights
    return config["lm"], {name[3:]: value for name, value in weights.items() if name.startswith("lm.")}


def recorded(folder: Path, _: str) -> Tensors:
    """The language model's tensors, and those of the steps under the name of each way to run them."""
    io = {name: t for name, t in load_file(folder / "io.safetensors").items() if name.startswith(KEPT)}
    whole = _in_every_way(io, golden.config(folder)["prefill"])
    # Upstream keeps K columns, oldest first; ours are the last K-1, channel-last.
    return {n: t[..., 1:].transpose(1, 2) if n.endswith("conv_state") else t for n, t in whole.items()}


def _in_every_way(io: Tensors, prefill: int) -> Tensors:
    """Tensors of one pass, and those of a prompt and steps under the name of each way to run them."""
    steps = {name: t for name, t in io.items() if name.startswith(("prefill.", "final."))}
    steps["logits_step"] = io["logits_step"][:, prefill:]
    whole = {name: t for name, t in io.items() if not name.startswith(("prefill.", "logits_step"))}
    for way in STEPS:
        whole |= {way + name: t for name, t in steps.items()}
    return {**whole, "prefill": torch.tensor(prefill)}


def run(model: Any, given: Recorded) -> Tensors:
    tokens = given["input_ids"]
    found: Tensors = {}
    leaves: Tensors = {}

    def keep(module: Any, arguments: Any, out: Tensor) -> None:
        out.retain_grad()
        leaves["grad.embedding_out"] = out

    hooks = [model.backbone.embedding.register_forward_hook(keep)]
    for index, layer in enumerate(model.backbone.layers):
        hooks.append(
            layer.mixer.register_forward_hook(lambda m, a, out, i=index: found.update({f"layer{i}.mixer_out": out[0]}))
        )
    out = model(tokens, labels=tokens, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    residuals = {f"layer{index}.residual_in": hidden for index, hidden in enumerate(out.hidden_states[:-1])}
    found |= {name: hidden for name, hidden in residuals.items() if name in given or not _is_recorded(given)}
    found |= {"logits": out.logits, "loss": out.loss.reshape(1), **_states("final", out.state)}
    out.loss.backward()
    leaves |= {f"grad.{name}": parameter for name, parameter in model.named_parameters()}
    first = {name for name in leaves if ".layers.0.mixer." in name or name == "grad.embedding_out"}
    for name in {name for name in given if name.startswith("grad.")} or first:
        gradient = leaves[name].grad
        assert gradient is not None, name
        found[name] = gradient
    for way, gradients in STEPS.items():
        with torch.set_grad_enabled(gradients):
            found |= {way + name: tensor for name, tensor in _steps(model, tokens, int(given["prefill"])).items()}
    return on_the_circle(found, given)


def _is_recorded(given: Recorded) -> bool:
    """Whether there is more than inputs: not where tensors are being written."""
    return "logits" in given


def _steps(model: Any, tokens: Tensor, prefill: int) -> Tensors:
    out = model(tokens[:, :prefill])
    found = _states("prefill", out.state)
    logits = []
    for t in range(prefill, tokens.shape[1]):
        out = model(tokens[:, t : t + 1], out.state)
        logits.append(out.logits)
    return {**found, "logits_step": torch.cat(logits, 1), **_states("final", out.state)}


def _states(stage: str, state: Any) -> Tensors:
    return {name: t for index, layer in enumerate(state) for name, t in _fields(f"{stage}.layer{index}", layer).items()}


def _fields(place: str, layer: Any) -> Tensors:
    return {f"{place}.{field}_state": tensor for field, tensor in layer._asdict().items()}


def on_the_circle(found: Tensors, given: Recorded) -> Tensors:
    """Angles by whole turns nearest to the recorded ones."""

    def near(angle: Tensor, recorded: Tensor) -> Tensor:
        return angle - 2 * math.pi * torch.round((angle - recorded) / (2 * math.pi))

    return {n: near(t, given[n]) if n.endswith("angle_state") and n in given else t for n, t in found.items()}


# ---- mixers of Mamba-2 with other options ----


def weights_of(folder: Path, case: str) -> Tensors:
    weights = load_file(folder / "weights.safetensors")
    return {name[len(case) + 1 :]: w for name, w in weights.items() if name.startswith(f"{case}.")}


def mixer(folder: Path, case: str) -> Mamba2:
    options = dict(golden.config(folder)["mixers"][case])
    options.pop("chunk_size", None)  # how the scan is computed, not what it is
    made = Mamba2(**options)
    made.load_state_dict(weights_of(folder, case))
    return made


def recorded_mixer(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, case)
    return {**io, "steps.y": io["y"]}


def run_mixer(model: Any, given: Recorded) -> Tensors:
    """Output, gradient, and the same from steps: the state contract holds for every option."""
    u = given["u"].requires_grad_()
    y = model(u)
    y.square().sum().backward()
    assert u.grad is not None
    half = u.shape[1] // 4
    with torch.no_grad():
        piece, state = model(u[:, :half], return_state=True)
        pieces = [piece]
        for t in range(half, u.shape[1]):
            piece, state = model(u[:, t : t + 1], state, return_state=True)
            pieces.append(piece)
    return {"y": y, "grad_u_of_sum_y2": u.grad, "steps.y": torch.cat(pieces, 1)}


# ---- hydra: the mixer ----


def hydra_mixer(folder: Path, case: str) -> Hydra:
    options = dict(golden.config(folder)["hydra"][case])
    options.pop("chunk_size")  # how the scan is computed, not what it is
    made = Hydra(**options)
    made.load_state_dict(weights_of(folder, case))
    return made


def run_hydra_mixer(model: Any, given: Recorded) -> Tensors:
    u = given["u"].requires_grad_()
    y = model(u)
    y.backward(given["grad_y"])
    assert u.grad is not None
    gradients = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    return {"y": y, "grad_u": u.grad, **gradients}


# ---- hydra: structured matrices ----


def matrix_mixer(folder: Path, case: str) -> MatrixMixer:
    options = {name: value for name, value in golden.config(folder)["matrix_mixers"].items() if name != "note"}
    kind = case.removeprefix("mm.")
    made = MatrixMixer(kind=kind, shifted=kind.startswith("toeplitz"), **options)
    made.load_state_dict(weights_of(folder, case))
    return made


def recorded_matrix(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, "")
    return {"u": io["mm.u"], "y": io[f"{case}.y"]}


def run_matrix(model: Any, given: Recorded) -> Tensors:
    return {"y": model(given["u"])}


# ---- hydra: encoders ----


def encoders(folder: Path) -> Sequence[str]:
    return list(golden.config(folder)["bert"])


def encoder_checkpoint(folder: Path, case: str) -> tuple[Any, Tensors]:
    return golden.config(folder)["bert"][case or "bert"], weights_of(folder, case)


def run_encoder(model: Any, given: Recorded) -> Tensors:
    """Every real token's logits with upstream's padding, and those of a row without padding with ours."""
    tokens, mask, labels = (given[name] for name in ("input_ids", "attention_mask", "labels"))
    labels = labels.masked_fill(labels <= 0, -100)  # upstream asks for labels above 0 alone
    found = {}
    model.bert.padding = "upstream"
    out = model(tokens, mask, labels=labels)
    found["mlm_loss"] = out.loss.reshape(1)
    there = (mask != 0).unsqueeze(-1)
    found["logits"] = torch.where(there, out.logits, given["logits"])  # the README: compare where the mask is 1
    model.bert.padding = "masked"
    whole = mask.all(1).nonzero().flatten()
    assert len(whole)
    ours: Tensor = model(tokens, mask).logits
    TOLERANCES["tolerance"].check(ours[whole], given["logits"][whole], "logits without padding")
    return found


# ---- Mamba-3: a folder of language models and mixers, each a case ----


def cases3(kind: str) -> Any:
    return lambda folder: [name for name, case in golden.config(folder)["cases"].items() if case["kind"] == kind]


def checkpoint3(folder: Path, case: str) -> tuple[Any, Tensors]:
    weights = load_file(folder / "weights.safetensors")
    mine = {name[len(case) + 1 :]: w for name, w in weights.items() if name.startswith(f"{case}.")}
    return golden.config(folder)["cases"][case].get("config"), mine


def recorded3(folder: Path, case: str) -> Tensors:
    return _in_every_way(golden.read_io(folder, case), golden.config(folder)["cases"][case]["prefill"])


def mixer3(folder: Path, case: str) -> Mamba3:
    options = dict(golden.config(folder)["cases"][case]["mixer"])
    options.pop("chunk_size", None)  # how the scan is computed, not what it is
    made = Mamba3(**options)
    made.load_state_dict(checkpoint3(folder, case)[1])
    return made


def recorded_mixer3(folder: Path, case: str) -> Tensors:
    io, prefill = golden.read_io(folder, case), golden.config(folder)["cases"][case].get("prefill")
    if prefill is None:
        return io
    steps = {name: t for name, t in io.items() if name.startswith(("prefill.", "final.")) or name == "y"}
    whole = {name: t for name, t in io.items() if not name.startswith("prefill.")}
    return {**whole, **{way + n: t for way in STEPS for n, t in steps.items()}, "prefill": torch.tensor(prefill)}


def run_mixer3(model: Any, given: Recorded) -> Tensors:
    """One pass with gradients; then a prompt, steps and a second prompt, which are the pass in pieces."""
    u = given["u"].requires_grad_()
    offsets = given.get("cu_seqlens")
    y, state = model(u, return_state=True, cu_seqlens=offsets)
    leaves = {"u": u, **dict(model.named_parameters())}
    gradients = torch.autograd.grad((y * given["cotangent"]).sum(), list(leaves.values()))
    found = {"y": y, **_fields("final", state)}
    found |= {f"grad.{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    for way, with_gradients in STEPS.items() if offsets is None else ():
        prefill = int(given["prefill"])
        steps = min(3, u.shape[1] - prefill)
        with torch.set_grad_enabled(with_gradients):
            piece, state = model(u[:, :prefill], return_state=True)
            pieces = [piece]
            found |= _fields(f"{way}prefill", state)
            for part in u[:, prefill:].split([1] * steps + [u.shape[1] - prefill - steps], 1):
                piece, state = model(part, state, return_state=True)
                pieces.append(piece)
        found |= {f"{way}y": torch.cat(pieces, 1), **_fields(f"{way}final", state)}
    return on_the_circle(found, given)


# ---- hybrids ----


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
    return {**found, **_hybrid_steps(model, tokens, given.config["prefill"])}


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
    return {"logits": model(tokens).logits, **_hybrid_steps(model, tokens, given.config["prefill"])}


def _hybrid_steps(model: Any, tokens: Tensor, prefill: int) -> Tensors:
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


def _language(system: str) -> Golden:
    return Golden(system=system, checkpoint=checkpoint, recorded=recorded, run=run, **TOLERANCES)


MAMBA, MAMBA2 = _language("mamba"), _language("mamba2")
MIXERS = Golden(
    system="mamba2",
    part="mixer",
    cases=lambda folder: list(golden.config(folder)["mixers"]),
    model=mixer,
    recorded=recorded_mixer,
    run=run_mixer,
    **TOLERANCES,
)
HYDRA_MIXERS = Golden(
    system="hydra",
    part="mixer",
    cases=lambda folder: list(golden.config(folder)["hydra"]),
    model=hydra_mixer,
    run=run_hydra_mixer,
    **TOLERANCES,
)
MATRICES = Golden(
    system="hydra",
    part="matrix",
    cases=lambda folder: [f"mm.{kind}" for kind in MATRIX_MIXERS],
    model=matrix_mixer,
    recorded=recorded_matrix,
    run=run_matrix,
    **TOLERANCES,
)
ENCODERS = Golden(system="hydra", cases=encoders, checkpoint=encoder_checkpoint, run=run_encoder, **TOLERANCES)

HYDRA_BLOCK = 3_825_224  # of the published model's layers
TINY_MATRICES = {"max_seq_len": 32, "qk_dim": 2, "headdim": 16}
# From the golden's README; in float64 what is left is the rounding of what was recorded.
TOLERANCES3: dict[str, Any] = {
    "system": "mamba3",
    "tolerance": Tolerance(5e-5),
    "gradient": Tolerance(1e-3, "largest"),
    "double": Tolerance(5e-5),
}
MAMBA3 = Golden(cases=cases3("lm"), checkpoint=checkpoint3, recorded=recorded3, run=run, **TOLERANCES3)
MIXERS3 = Golden(
    part="mixer", cases=cases3("mixer"), model=mixer3, recorded=recorded_mixer3, run=run_mixer3, **TOLERANCES3
)
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
EVIDENCE = (
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
    families.Evidence(
        "mamba",
        goldens=[MAMBA],
        forms={
            "padded vocabulary": {"vocab_size": 61, "pad_vocab_size_multiple": 8},
            "own head": {"tie_embeddings": False},
        },
        counts={  # the tied head counts once; arXiv 2312.00752 and the published files
            "mamba-130m": 129_135_360,
            "mamba-370m": 371_516_416,
            "mamba-790m": 793_204_224,
            "mamba-1.4b": 1_372_178_432,
            "mamba-2.8b": 2_768_345_600,
            "mamba-2.8b-slimpj": 2_768_345_600,
        },
        bfloat16=0.02,
    ),
    families.Evidence(
        "mamba2",
        goldens=[MAMBA2, MIXERS],
        forms={
            "groups": {"d_model": 32, "d_state": 16, "headdim": 8, "ngroups": 2},
            "own head": {"tie_embeddings": False},
        },
        counts={
            "mamba2-130m": 128_989_632,
            "mamba2-370m": 368_346_624,
            "mamba2-780m": 780_161_280,
            "mamba2-1.3b": 1_343_757_312,
            "mamba2-2.7b": 2_702_599_680,
        },
        bfloat16=0.02,
    ),
    families.Evidence(
        "mamba3",
        goldens=[MAMBA3, MIXERS3],
        forms={
            "groups, ranks and norm": {
                "n_layer": 1,
                "is_mimo": True,
                "mimo_rank": 2,
                "ngroups": 2,
                "rope_fraction": 1.0,
                "is_outproj_norm": True,
            },
            "MLP and softplus": {"n_layer": 1, "d_intermediate": 24, "A_activation": "softplus"},
        },
        counts={  # the tied head counts once; as the authors' code builds them
            "mamba3-siso-187m": 186_849_600,
            "mamba3-mimo-187m": 187_291_968,
            "mamba3-siso-443m": 443_015_680,
            "mamba3-mimo-444m": 444_195_328,
            "mamba3-siso-893m": 892_782_336,
            "mamba3-mimo-894m": 894_551_808,
            "mamba3-siso-1.5b": 1_494_723_584,
            "mamba3-mimo-1.5b": 1_497_082_880,
        },
        bfloat16=0.02,
    ),
    families.Evidence(
        "hydra",
        goldens=[HYDRA_MIXERS, MATRICES, ENCODERS],
        forms={
            "classification": {
                "task": "classification",
                "num_labels": 3,
                "pool": "first",
                "learnable_init_states": True,
            },
            "regression, prenorm, positions": {
                "task": "regression",
                "num_labels": 1,
                "prenorm": True,
                "max_positions": 40,
            },
            **{kind: {"mixer": kind, **TINY_MATRICES} for kind in ("toeplitz_dd", "attention_dd", "quasiseparable_di")},
        },
        counts={
            "hydra-bert": {"": 112_086_712, "bert.encoder.layer.0.layer.mixer": HYDRA_BLOCK},
            "hydra-bert-24": 112_086_712 + HYDRA_BLOCK + 2 * 768,
        },
        bfloat16=0.05,
    ),
)
globals().update(families.suite(*EVIDENCE, distribution="mambasdk-language", slow=True))


# ---- another set of the same layout ----


def write_golden(root: Path) -> None:
    """Folders `mamba`, `mamba2`, `mamba2-hybrid`, `mamba3` and `hydra` of other sizes, from our own models."""
    _write_hydra(root / "hydra")
    _write_mamba3(root / "mamba3")
    common = {"n_layer": 3, "vocab_size": 45, "rms_norm": True, "residual_in_fp32": True, "tie_embeddings": True}
    first = {**common, "d_model": 24, "ssm_cfg": {"layer": "Mamba1", "d_state": 8}, "pad_vocab_size_multiple": 4}
    sizes = {"layer": "Mamba2", "d_state": 8, "headdim": 4, "ngroups": 3, "chunk_size": 4}
    second = {**common, "d_model": 24, "n_layer": 2, "ssm_cfg": sizes, "pad_vocab_size_multiple": 4}
    _write_language(root / "mamba", MAMBA, {"model": first, "prefill": 6}, first, "", seed=5)
    _write_language(root / "mamba2", MAMBA2, {"lm": second, "prefill": 11}, second, "lm.", seed=6)
    _write_attention(root / "mamba2", second)
    _write_hybrid(root / "mamba2-hybrid")
    mixers = {
        "mix_wide": {"d_model": 12, "d_state": 6, "headdim": 4, "ngroups": 3, "d_ssm": 12, "chunk_size": 8},
        "mix_limited": {"d_model": 12, "d_state": 4, "headdim": 6, "rmsnorm": False, "dt_limit": [0.1, 0.4]},
    }
    folder = root / "mamba2"
    golden.write(folder, "config.json", {"mixers": mixers})
    for index, (name, options) in enumerate(mixers.items()):
        torch.manual_seed(index)
        model = golden.scatter(Mamba2(**{k: v for k, v in options.items() if k != "chunk_size"}), index)
        golden.write(folder, "weights.safetensors", {f"{name}.{key}": w for key, w in model.state_dict().items()})
        io = golden.record(MIXERS, model, {"u": torch.randn(3, 14, 12)})
        golden.write(folder, "io.safetensors", {f"{name}.{key}": io[key] for key in ("u", "y", "grad_u_of_sum_y2")})


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


def _write_language(
    folder: Path, which: Golden, config: dict[str, Any], sizes: dict[str, Any], prefix: str, *, seed: int
) -> None:
    torch.manual_seed(seed)
    ssm = {key: value for key, value in sizes["ssm_cfg"].items() if key not in ("layer", "chunk_size")}
    rest = {key: value for key, value in sizes.items() if key != "ssm_cfg"}
    model: Any = golden.scatter(mambasdk.create_model(which.system, **rest, **ssm), seed)
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", {prefix + name: w for name, w in model.state_dict().items()})
    made = _recorded_language(which, model, sizes["vocab_size"], config["prefill"], seed)
    # The layout has all K columns; what nothing compares is zero.
    for name in [name for name in made if name.endswith("conv_state")]:
        made[name] = torch.nn.functional.pad(made[name].transpose(1, 2), (1, 0))
    golden.write(folder, "io.safetensors", made)


def _recorded_language(which: Golden, model: Any, vocab_size: int, prefill: int, seed: int) -> Tensors:
    """A language model's tensors, its logits of all steps, those of the prompt zero."""
    tokens = torch.randint(vocab_size, (3, 17), generator=torch.Generator().manual_seed(seed))
    made = _one_way(golden.record(which, model, {"input_ids": tokens, "prefill": torch.tensor(prefill)}))
    made["logits_step"] = torch.cat([torch.zeros_like(made["logits"][:, :prefill]), made["logits_step"]], 1)
    return made


def _one_way(io: Tensors) -> Tensors:
    """What was recorded of steps under the names that a golden folder has for it."""
    steps = {name.removeprefix("steps."): t for name, t in io.items() if name.startswith("steps.")}
    whole = {name: t for name, t in io.items() if not name.startswith("steps") and name != "prefill"}
    return {**steps, **whole}


def _write_mamba3(folder: Path) -> None:
    mixers: dict[str, dict[str, Any]] = {
        "groups": {"d_model": 12, "d_state": 8, "headdim": 6, "ngroups": 2},
        "ranks": {"d_model": 12, "d_state": 6, "headdim": 4, "is_mimo": True, "mimo_rank": 3, "rope_fraction": 1.0},
    }
    sizes: dict[str, Any] = {"d_model": 24, "n_layer": 2, "vocab_size": 43, "pad_vocab_size_multiple": 4}
    ssm = {"d_state": 8, "headdim": 6}
    language = {**sizes, "ssm_cfg": {"layer": "Mamba3", **ssm}, "rms_norm": True, "residual_in_fp32": True}
    cases = {name: {"kind": "mixer", "prefill": 5, "mixer": options} for name, options in mixers.items()}
    golden.write(folder, "config.json", {"cases": {**cases, "lm": {"kind": "lm", "prefill": 6, "config": language}}})
    for seed, (name, options) in enumerate(mixers.items()):
        torch.manual_seed(seed)
        mixer: Any = golden.scatter(Mamba3(**options), seed)
        golden.write(folder, "weights.safetensors", {f"{name}.{key}": w for key, w in mixer.state_dict().items()})
        u = torch.randn(2, 13, options["d_model"])
        given = {"u": u, "cotangent": torch.randn_like(u), "prefill": torch.tensor(5)}
        io = _one_way(golden.record(MIXERS3, mixer, given))
        golden.write(folder, "io.safetensors", {f"{name}.{key}": t for key, t in io.items()})
    torch.manual_seed(7)
    model: Any = golden.scatter(mambasdk.create_model("mamba3", **sizes, **ssm), 7)
    golden.write(folder, "weights.safetensors", {f"lm.{key}": w for key, w in model.state_dict().items()})
    io = _recorded_language(MAMBA3, model, sizes["vocab_size"], 6, 7)
    golden.write(folder, "io.safetensors", {f"lm.{key}": t for key, t in io.items()})


def _write_hydra(folder: Path) -> None:
    mixers = {
        "wide": {"d_model": 12, "d_state": 5, "d_conv": 3, "headdim": 6, "ngroups": 2, "chunk_size": 4},
        "biased": {"d_model": 8, "d_state": 4, "headdim": 4, "bias": True, "learnable_init_states": True},
    }
    mixers = {name: {"chunk_size": 8, **options} for name, options in mixers.items()}
    matrices = {"d_model": 8, "qk_dim": 3, "max_seq_len": 10, "d_conv": 5, "expand": 2, "headdim": 8}
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "d_state": 4, "headdim": 8, "d_conv": 5}
    golden.write(folder, "config.json", {"hydra": mixers, "matrix_mixers": matrices, "bert": {"small": sizes}})
    for seed, (case, options) in enumerate(mixers.items()):
        torch.manual_seed(seed)
        made = golden.scatter(Hydra(**{key: value for key, value in options.items() if key != "chunk_size"}), seed)
        golden.write(folder, "weights.safetensors", {f"{case}.{name}": w for name, w in made.state_dict().items()})
        u = torch.randn(2, 11, options["d_model"])
        io = golden.record(HYDRA_MIXERS, made, {"u": u, "grad_y": torch.randn_like(u)})
        golden.write(folder, "io.safetensors", {f"{case}.{name}": tensor for name, tensor in io.items()})
    u = torch.randn(2, 10, 8)
    golden.write(folder, "io.safetensors", {"mm.u": u})
    for seed, kind in enumerate(MATRIX_MIXERS):
        torch.manual_seed(seed)
        model: Any = golden.scatter(MatrixMixer(kind=kind, shifted=kind.startswith("toeplitz"), **matrices), seed)
        weights = {f"mm.{kind}.{name}": w for name, w in model.state_dict().items()}
        golden.write(folder, "weights.safetensors", weights)
        golden.write(folder, "io.safetensors", {f"mm.{kind}.y": golden.record(MATRICES, model, {"u": u})["y"]})
    torch.manual_seed(9)
    ours = {"d_model": 16, "n_layer": 1, "vocab_size": 40, "d_state": 4, "headdim": 8, "d_conv": 5}
    model = golden.scatter(mambasdk.create_model("hydra", padding="upstream", **ours), 9).double().eval()
    golden.write(folder, "weights.safetensors", {f"small.{name}": w.float() for name, w in model.state_dict().items()})
    tokens = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(9))
    mask = torch.ones_like(tokens)
    mask[1, 6:] = 0
    labels = torch.full_like(tokens, -100)
    labels[:, 2:4] = tokens[:, 2:4].clamp(min=1)
    out = model(tokens, mask, labels=labels)
    io = {"input_ids": tokens, "attention_mask": mask, "labels": labels, "logits": out.logits.float()}
    io["mlm_loss"] = out.loss.reshape(1).float()
    golden.write(folder, "io.safetensors", {f"small.{name}": tensor for name, tensor in io.items()})
