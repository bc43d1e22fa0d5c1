"""Evidence for ssamba: the authors' golden tensors, published counts and shapes, and what holds for every family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_audio import FbankProcessor
from mambasdk_audio.families.ssamba import Ssamba, for_fine_tuning

LARGEST = Tolerance(1e-4, "largest")  # from the golden README
DOUBLE = Tolerance(1e-6, "largest")


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder), load_file(folder / "weights.safetensors")


def recorded(folder: Path, _: str) -> Tensors:
    return golden.read_io(folder, "pretrain")


def run(model: Any, given: Recorded) -> Tensors:
    """Masked patches through the encoder, and the losses of both heads."""
    x, hidden = given["input"], given["mask_index"]
    mask = torch.zeros(len(x), model.config.patches, dtype=torch.bool).scatter(1, hidden, value=True)
    tokens = model.v.tokens(x, mask, model.mask_embed)
    # The second layer of a pair runs backwards; upstream flips its input and its output.
    forward, backward, pair = model.v.pair(*model.v.layers[:2], tokens, None)
    h, residual = model.v.hidden(tokens)
    twice = model.v.normed(h, residual)
    LARGEST.check(model.v(x, mask, model.mask_embed), twice, "the encoder in one call")
    contrastive, right = model.discriminative(x, hidden)
    generative = model.generative(x, hidden)
    losses = {"mpc_nce": contrastive, "mpc_acc": right.to(x), "mpg_mse": generative}
    losses["joint_loss_same_mask"] = contrastive + 10 * generative
    return {
        "tokens_in": tokens,
        "layer0_hidden": forward,
        "layer1_hidden_flipped": backward.flip(1),
        "layer0_residual": pair,
        "layer1_residual_flipped": pair.flip(1),
        "final_residual_sum": h + residual,
        "norm_once": model.v.norm_f(h, residual)[0],
        "norm_twice": twice,
        **{name: loss.reshape(1) for name, loss in losses.items()},
    }


# ---- classifiers ----


def poolings(folder: Path) -> Sequence[str]:
    start = "finetune.logits_"
    return sorted(name.removeprefix(start) for name in load_file(folder / "io.safetensors") if name.startswith(start))


def tuned(folder: Path, case: str) -> Ssamba:
    """The pretrained encoder on another grid, under the golden head."""
    pretrained: Any = mambasdk.import_checkpoint("ssamba", *checkpoint(folder, ""))
    settings = golden.config(folder)["finetune"]
    made = for_fine_tuning(
        pretrained,
        settings["label_dim"],
        input_tdim=settings["input_tdim"],
        stride=settings["stride"],
        pooling=f"ft_{case}",  # type: ignore[arg-type]
        upstream_quirks=True,
    )
    made.mlp_head.load_state_dict(golden.read_io(folder, "finetune.mlp_head"))
    return made


def recorded_tuned(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, "finetune")
    return {name: io[name] for name in ("input", "pos_embed_resampled", f"logits_{case}")}


def run_tuned(model: Any, given: Recorded) -> Tensors:
    pooling = model.config.pooling.removeprefix("ft_")
    return {"pos_embed_resampled": model.v.pos_embed, f"logits_{pooling}": model(given["input"])}


def _shapes() -> dict[str, list[int]]:
    """The file holds two sizes of the input too, and an ImageNet head that nothing uses."""
    shapes = {name.removeprefix("module."): s for name, s in golden.facts("ssamba/state_dict_shapes.json").items()}
    return {name: s for name, s in shapes.items() if "p_input_" not in name and not name.startswith("v.head.")}


def _counts(whole: int, encoder: int, head: int, unused: int) -> dict[str, int]:
    return {"": whole - unused - 2, "v": encoder, "cpredlayer": head, "gpredlayer": head}


PRETRAINING = Golden(
    system="ssamba", checkpoint=checkpoint, recorded=recorded, run=run, tolerance=LARGEST, double=DOUBLE
)
TUNED = Golden(
    system="ssamba",
    part="finetune",
    cases=poolings,
    model=tuned,
    recorded=recorded_tuned,
    run=run_tuned,
    tolerance=LARGEST,
)
EVIDENCE = families.Evidence(
    "ssamba",
    goldens=[PRETRAINING, TUNED],
    forms={
        "class token, overlapping patches": {"pooling": "ft_cls", "fstride": 10, "tstride": 10},
        "seconds": {"pooling": "ft_avgtok_1sec", "input_tdim": 330},
        "upstream's slots": {"pooling": "ft_avgtok_1sec", "input_tdim": 480, "upstream_slots": True},
        "pretraining": {"label_dim": 0},
        "s3prl": {"label_dim": 0, "pairs": False, "rms_norm": True},
        "from scratch": {"label_dim": 0, "residual_double": False, "norm_twice": False, "input_tdim": 77},
    },
    counts={  # arXiv 2405.11831 and the published files
        "ssamba-tiny": _counts(7_288_298, 6_922_176, 86_464, 193_000),
        "ssamba-small": _counts(26_224_106, 25_345_920, 246_400, 385_000),
        "ssamba-base": _counts(99_042_794, 96_698_112, 787_456, 769_000),
    },
    shapes={"ssamba-tiny": _shapes},
    bfloat16=0.02,
)
globals().update(families.suite(EVIDENCE, distribution="mambasdk-audio", slow=True))


# ---- another set of the same layout ----


def write_golden(root: Path) -> None:
    """Folder `ssamba` of other sizes, from our own model and filterbank."""
    folder = root / "ssamba"
    sizes = {"fshape": 8, "tshape": 16, "input_fdim": 32, "input_tdim": 80}
    config = {
        "vision_mamba_config": {"embed_dim": 24, "depth": 2, "rms_norm": False, "if_bidirectional": True},
        **sizes,
        "finetune": {"label_dim": 4, "stride": 6, "input_tdim": 64},
        "fbank": {"num_mel_bins": 64, "target_length": 90, "dataset_mean": -3.5, "dataset_std": 3.25},
    }
    torch.manual_seed(8)
    overrides = {"embed_dim": 24, "depth": 2, "fstride": 8, "tstride": 16, **sizes}
    model: Any = golden.scatter(mambasdk.create_model("ssamba", **overrides), 8, 0.05).eval()
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", {f"module.{name}": t for name, t in model.state_dict().items()})
    hidden = torch.stack([torch.randperm(model.config.patches)[:5].sort().values for _ in range(3)])
    io = golden.record(PRETRAINING, model, {"input": torch.randn(3, 80, 32), "mask_index": hidden})
    golden.write(folder, "io.safetensors", {f"pretrain.{name}": tensor for name, tensor in io.items()})
    head = {
        "0.weight": torch.randn(24),
        "0.bias": torch.randn(24),
        "1.weight": torch.randn(4, 24),
        "1.bias": torch.randn(4),
    }
    golden.write(folder, "io.safetensors", {f"finetune.mlp_head.{name}": tensor for name, tensor in head.items()})
    x = torch.randn(3, 64, 32)
    for pooling in ("avgtok", "cls"):
        found = golden.record(TUNED, tuned(folder, pooling), {"input": x})
        golden.write(folder, "io.safetensors", {f"finetune.{name}": tensor for name, tensor in found.items()})
    wave = np.random.default_rng(0).normal(0, 0.1, 12000).astype(np.float32)
    options: dict[str, Any] = {"num_mel_bins": 64}
    fbank = {"waveform": wave, "log_mel": FbankProcessor(**options)(wave)[0]}
    fbank["model_input"] = FbankProcessor(**options, target_length=90, mean=-3.5, std=3.25)(wave)[0]
    golden.write(folder, "io.safetensors", {f"fbank.{name}": torch.from_numpy(a.copy()) for name, a in fbank.items()})
