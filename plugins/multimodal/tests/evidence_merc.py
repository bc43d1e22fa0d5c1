"""Evidence for `merc`: a golden reading of the paper with gradients, exact counts, forms of every option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# What the golden's configuration calls otherwise.
FIELDS = {"n_layers": "n_layer"}


def model(folder: Path, _: str) -> Any:
    config = golden.config(folder)["model"]
    dims = config.pop("in_dims")
    options = {FIELDS.get(name, name): value for name, value in config.items()}
    made = mambasdk.create_model("merc", modalities=list(dims), in_dims=list(dims.values()), **options)
    made.load_state_dict(load_file(folder / "weights.safetensors"))
    return made


def run(made: Any, given: Recorded) -> Tensors:
    """All that is recorded, zero where the mask is: there the reference's values mean nothing."""
    features = {name: given[f"x.{name}"].requires_grad_() for name in made.config.modalities}
    mask, labels = given["mask"], given["labels"]
    assert torch.equal(mask.sum(1).long(), given["lengths"])
    out = made(features, given["speaker"], mask=mask)
    counted = torch.where(mask != 0, labels, -1)
    loss = made.loss(out, counted)
    loss.backward()

    def shown(tensor: Tensor) -> Tensor:
        return tensor * mask.unsqueeze(-1)

    return {
        **{f"hidden.{name}": shown(h) for name, h in out.hidden.items()},
        **{f"logits.{name}": shown(logits) for name, logits in out.unimodal.items()},
        "weights": shown(out.weights),
        "fused": shown(out.fused),
        "logits": shown(out.logits),
        "loss": loss.reshape(1),
        "loss_main": torch.nn.functional.cross_entropy(out.logits[mask != 0], labels[mask != 0]).reshape(1),
        **{f"grad_x.{name}": shown(x.grad) for name, x in features.items() if x.grad is not None},
    }


def recorded(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, case)
    padded = ("hidden.", "logits", "weights", "fused", "grad_x.")
    return {name: t * io["mask"].unsqueeze(-1) if name.startswith(padded) else t for name, t in io.items()}


BROAD_MAMBA = Golden(
    system="merc-broad-mamba",
    model=model,
    recorded=recorded,
    run=run,
    tolerance=Tolerance(1e-4),
    gradient=Tolerance(1e-3, "norm"),
    reading=True,
)

# From specs/merc-broad-mamba.md section 7: layers -> width -> parameters.
COUNTS = {
    1: {128: 949_280, 192: 1_660_512, 256: 2_539_680},
    2: {128: 1_500_968, 192: 2_712_360, 256: 4_251_432},
    3: {128: 2_052_656, 192: 3_764_208, 256: 5_963_184},
}
EVIDENCE = (
    families.Evidence(
        "merc",
        goldens=[BROAD_MAMBA],
        forms={
            "time-invariant": {"ssm": "lti_conv", "n_layer": 2},
            "entropy, softmax, concat": {"confidence": "entropy", "weighting": "softmax", "fusion": "concat"},
            "fused, detached": {"confidence": "fused", "detach_weights": True, "temperature": 2.0},
            "average without broad layer": {"confidence": "equal", "bls_groups": 0, "unknown_speakers": "hash"},
            "ridge": {"classifier": "ridge"},
            "one modality": {"modalities": ["text"], "in_dims": [9]},
        },
        counts={
            f"merc-iemocap-{width}x{layers}": {"": count}
            for layers, widths in COUNTS.items()
            for width, count in widths.items()
        },
        bfloat16=0.05,
    ),
)


def write_golden(root: Path) -> None:
    """A folder `merc-broad-mamba` of other sizes, from our own model."""
    folder = root / "merc-broad-mamba"
    dims = {"text": 7, "audio": 5, "visual": 6}
    sizes = {"d_model": 10, "n_layers": 2, "d_state": 3, "d_conv": 3, "expand": 2, "dt_rank": 2}
    broad = {"bls_groups": 2, "bls_group_width": 3, "bls_enhance": 4}
    config = {"in_dims": dims, **sizes, **broad, "n_speakers": 3, "n_classes": 5, "aux_weight": 0.7}
    golden.write(folder, "config.json", {"model": config})
    options = {FIELDS.get(name, name): value for name, value in config.items() if name != "in_dims"}
    torch.manual_seed(7)
    made: Any = mambasdk.create_model("merc", modalities=list(dims), in_dims=list(dims.values()), **options)
    golden.scatter(made, 7)
    golden.write(folder, "weights.safetensors", made.state_dict())
    generator = torch.Generator().manual_seed(7)
    lengths = torch.tensor([4, 8, 1])
    given = {f"x.{name}": torch.randn(3, 8, dim, generator=generator) for name, dim in dims.items()}
    given |= {
        "speaker": torch.randint(3, (3, 8), generator=generator),
        "labels": torch.randint(5, (3, 8), generator=generator),
        "lengths": lengths,
        "mask": (torch.arange(8) < lengths.unsqueeze(1)).float(),
    }
    golden.write(folder, "io.safetensors", golden.record(BROAD_MAMBA, made, given))
