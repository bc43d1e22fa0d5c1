"""Checkpoints as nnU-Net's trainers leave them: a folder with plans, data set and weights, aliases among these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.testing.golden import scatter
from mambasdk_medical.plans.upstream import network_plan

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
DATASET: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "liver": 1, "kidney": 2, "ignore": 3},
    "file_ending": ".nii.gz",
}
FLAT = {
    "patch_size": [4, 8, 8],
    "UNet_base_num_features": 4,
    "unet_max_num_features": 6,
    "pool_op_kernel_sizes": STRIDES,
    "conv_kernel_sizes": KERNELS,
    "n_conv_per_stage_encoder": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
}
NESTED = {
    "patch_size": [4, 8, 8],
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 6],
            "strides": STRIDES,
            "kernel_sizes": KERNELS,
            "n_blocks_per_stage": [2, 3, 4],
            "n_conv_per_stage_decoder": 2,
        },
    },
}


def plans(entry: dict[str, Any]) -> dict[str, Any]:
    """A plans file whose `3d_lowres` inherits all but the patch."""
    inherited = {"inherits_from": "3d_fullres", "patch_size": [4, 16, 16]}
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    configurations = {"3d_fullres": entry, "3d_lowres": inherited, "3d_cascade_fullres": cascade}
    return {"dataset_name": "Dataset007_Test", "plans_name": "nnUNetPlans", "configurations": configurations}


def saved(model: Any, wrapper: str = "") -> dict[str, Tensor]:
    """The state dict as upstream's module gives it: convolutions and norms, and the whole encoder, twice."""
    state = dict(model.state_dict())
    aliases = {}
    for name, tensor in state.items():
        for part, number in ((".conv.", 0), (".norm.", 1)):
            owner, found, leaf = name.rpartition(part)
            if found and owner.endswith(("conv1", "conv2")):
                aliases[f"{owner}.all_modules.{number}.{leaf}"] = tensor
    state |= aliases
    state |= {f"decoder.{name}": tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return {f"{wrapper}{name}": tensor for name, tensor in state.items()}


def folder_of(model: Any, entry: dict[str, Any], root: Path, wrapper: str = "") -> Path:
    """What `nnUNetv2_train` writes: plans, data set, and the last checkpoint of fold 0."""
    (root / "fold_0").mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans(entry)))
    (root / "dataset.json").write_text(json.dumps(DATASET))
    weights = saved(model, wrapper)
    assert len(weights) > 1.5 * len(model.state_dict())
    content = {
        "network_weights": weights,
        "optimizer_state": torch.optim.SGD(model.parameters(), 0.1, momentum=0.99, nesterov=True).state_dict(),
        "grad_scaler_state": {"scale": 65536.0},
        "logging": {"train_losses": [np.float32(0.5), np.float32(0.25)], "ema_fg_dice": [np.float64(0.1)]},
        "_best_ema": 0.5,
        "current_epoch": 2,
        "init_args": {"plans": plans(entry), "configuration": "3d_fullres", "fold": 0, "dataset_json": DATASET},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content, root / "fold_0" / "checkpoint_final.pth")
    return root


@pytest.mark.parametrize("wrapper", ["", "_orig_mod.", "module."])
@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("residual_unet", {}),
        ("u_mamba", {"placement": "bot"}),
        ("u_mamba", {"placement": "enc"}),
        ("xlstm_unet", {"placement": "bot"}),
        ("xlstm_unet", {"placement": "enc"}),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_folder_of_nnunet_imports(family: str, own: dict[str, Any], wrapper: str, tmp_path: Path) -> None:
    """Each layout of the plans gives the network that was trained, with its weights."""
    for entry, blocks in ((FLAT, [2, 2, 2]), (NESTED, [2, 3, 4])):
        settings = {"patch_size": [4, 8, 8], "in_channels": 2, "num_classes": 3, "features_per_stage": [4, 6, 6]}
        torch.manual_seed(1)
        model: Any = mambasdk.create_model(
            family, **settings, **own, strides=STRIDES, kernel_sizes=KERNELS, n_conv_per_stage=blocks
        )
        scatter(model, 2).eval()
        root = folder_of(model, entry, tmp_path / entry.get("kind", str(len(entry))), wrapper)
        config = {
            "plans": json.loads((root / "plans.json").read_text()),
            "configuration": "3d_fullres",
            "dataset": json.loads((root / "dataset.json").read_text()),
        }
        found: Any = mambasdk.import_checkpoint(family, config, root / "fold_0" / "checkpoint_final.pth").eval()
        assert found.config == model.config
        image = torch.randn(1, 2, 4, 8, 8)
        assert all(
            torch.equal(one, other)
            for one, other in zip(found.training_outputs(image), model.training_outputs(image), strict=True)
        )


@torch.no_grad()
def test_fields_and_constructor_facts_say_the_same() -> None:
    """The three forms of a configuration."""
    torch.manual_seed(1)
    fields = {"patch_size": [4, 8, 8], "in_channels": 2, "num_classes": 3, "features_per_stage": [4, 6, 6]}
    fields |= {"strides": STRIDES, "kernel_sizes": KERNELS}
    model: Any = mambasdk.create_model("u_mamba", **fields, placement="enc", d_state=5)
    facts = {"patch": [4, 8, 8], "cin": 2, "ncls": 3, "strides": STRIDES, "kernels": KERNELS, "base": 4, "maxf": 6}
    facts |= {"nenc": 2, "ndec": 2, "kind": "Enc", "dim": 3, "fam": "um"}
    plan = {"plans": plans(FLAT), "configuration": "3d_fullres", "dataset": DATASET}
    for config in (fields, {**fields, "placement": "enc"}, facts, plan):
        found: Any = mambasdk.import_checkpoint("u_mamba", {**config, "d_state": 5}, saved(model))
        assert found.config == model.config


def test_labels_regions_cascades_and_inheritance_count() -> None:
    """Regions leave the background out; "ignore" is no class; a cascade sees the labels found before."""
    plan = network_plan(plans(FLAT), "3d_lowres", DATASET)
    assert (plan.patch_size, plan.in_channels, plan.num_classes) == ((4, 16, 16), 2, 3)
    assert network_plan(plans(NESTED), "3d_cascade_fullres", DATASET).in_channels == 2 + 2
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    with_regions = {**DATASET, "labels": regions, "regions_class_order": [1, 2, 3]}
    assert network_plan(plans(FLAT), "3d_fullres", with_regions).num_classes == 3
    old = {"modality": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    assert network_plan(plans(FLAT), "3d_fullres", old).in_channels == 1


def test_an_outer_norm_of_vil_may_be_missing() -> None:
    """It is never applied; files of others that leave it out load as well."""
    model: Any = mambasdk.create_model("xlstm_unet", patch_size=[16, 16], features_per_stage=[4, 6, 8])
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("xlstm.norm.")}
    config = {"patch_size": [16, 16], "in_channels": 1, "num_classes": 2, "features_per_stage": [4, 6, 8]}
    found: Any = mambasdk.import_checkpoint("xlstm_unet", config, state)
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(found(image), model(image))
    assert torch.equal(found.xlstm.norm.weight, torch.ones(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configuration": "2d"}, "plans.json: no configuration '2d': expected 3d_fullres or"),
        ({"dataset": {"labels": {"background": 0}}}, "bad channel_names"),
        ({"dataset": {"channel_names": {"0": "CT"}}}, "dataset.json: bad labels"),
        ({"plans": plans({"patch_size": [4, 8, 8]})}, "no 'pool_op_kernel_sizes'"),
        ({"placement": "enc"}, "the configuration says 'enc': expected 'bot'"),
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"plans": plans({**FLAT, "UNet_base_num_features": 5})}, "wrong shape"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    settings = {"patch_size": [4, 8, 8], "in_channels": 2, "num_classes": 3, "features_per_stage": [4, 6, 6]}
    model = mambasdk.create_model("u_mamba", **settings, strides=STRIDES, kernel_sizes=KERNELS)
    config = {"plans": plans(FLAT), "configuration": "3d_fullres", "dataset": DATASET, **change}
    with pytest.raises((CheckpointError, InvalidArgumentError), match=message):
        mambasdk.import_checkpoint("u_mamba", config, saved(model))


def test_a_file_without_a_layer_of_tokens_is_named() -> None:
    settings = {"patch_size": [16, 16], "in_channels": 1, "num_classes": 2, "features_per_stage": [4, 6, 8]}
    state = mambasdk.create_model("residual_unet", **settings).state_dict()
    with pytest.raises(CheckpointError, match=r"no layer of tokens: expected tensors of either mamba_layer\.\*"):
        mambasdk.import_checkpoint("u_mamba", settings, state)
    with pytest.raises(CheckpointError, match="no patch_size"):
        mambasdk.import_checkpoint("residual_unet", {"num_classes": 2}, state)
