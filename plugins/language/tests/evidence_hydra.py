"""Evidence for `hydra`: its mixer, the structured matrices, the encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from language_golden import TOLERANCES, weights_of
from torch import Tensor

import mambasdk
from mambasdk.nn import MATRIX_MIXERS, Hydra, MatrixMixer
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors


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
EVIDENCE = [
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
]


def write_golden(root: Path) -> None:
    """A folder `hydra` of other sizes, from our own models."""
    folder = root / "hydra"
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
