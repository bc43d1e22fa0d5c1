"""UPerNet: its heads against their definition, its published counts and names, every registered encoder under it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import import_checkpoint
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_vision.model import FeatureMaps, ImageModel
from mambasdk_vision.nn.decode_heads import FCNHead, UPerHead

# Millions of parameters that the encoders' papers give for ADE20K; some count the auxiliary head of training too.
WITH_AUXILIARY = {
    "vmamba-tiny-s1l8": 62,
    "vmamba-small-s2l15": 82,
    "vmamba-base-s2l15": 122,
    "efficientvmamba-tiny": 14,
    "efficientvmamba-small": 29,
    "efficientvmamba-base": 65,
    "msvmamba-micro": 42,
    "msvmamba-tiny": 65,
}
WITHOUT = {
    "plainmamba-l1": 35,
    "plainmamba-l2": 55,
    "plainmamba-l3": 81,
    "msvmamba-v3-tiny": 63,
    "vssd-micro": 42,
    "vssd-tiny": 53,
    "hrvmamba-base-seg": 99,
}


def conv(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    """Convolution, batch norm with running statistics, ReLU."""
    kernel = w[f"{name}.conv.weight"]
    y = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    mean, variance = (w[f"{name}.bn.running_{part}"][:, None, None] for part in ("mean", "var"))
    weight, bias = (w[f"{name}.bn.{part}"][:, None, None] for part in ("weight", "bias"))
    return ((y - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)


def at(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def uper_definition(maps: list[Tensor], w: Mapping[str, Tensor], scales: tuple[int, ...]) -> Tensor:
    """Pyramid pooling, top-down sums, a convolution on each level, all levels at the first's size (1807.10221)."""
    pooled = [
        at(conv(functional.adaptive_avg_pool2d(maps[-1], scale), w, f"psp_modules.{i}.1"), maps[-1])
        for i, scale in enumerate(scales)
    ]
    below = conv(torch.cat([maps[-1], *pooled], 1), w, "bottleneck")
    levels = [below]
    for i in reversed(range(len(maps) - 1)):
        below = conv(maps[i], w, f"lateral_convs.{i}") + at(below, maps[i])
        levels.insert(0, below)
    refined = [conv(level, w, f"fpn_convs.{i}") for i, level in enumerate(levels[:-1])] + [levels[-1]]
    fused = conv(torch.cat([at(level, levels[0]) for level in refined], 1), w, "fpn_bottleneck")
    return functional.conv2d(fused, w["conv_seg.weight"], w["conv_seg.bias"])


@pytest.mark.parametrize(
    "sizes",
    [[(16, 24), (8, 12), (4, 6), (2, 3)], [(13, 7), (7, 4), (4, 2), (2, 1)], [(5, 6)] * 4, [(9, 9), (3, 3)]],
    ids=["pyramid", "odd sizes", "one stride", "two maps"],
)
def test_the_head_is_its_definition(sizes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    widths = (6, 10, 5, 8)[: len(sizes)]
    head: Any = scatter(UPerHead(widths, 7, channels=12).double().eval(), 1)
    for name, buffer in head.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    maps = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(widths, sizes, strict=True)]
    with torch.no_grad():
        expected = uper_definition(maps, head.state_dict(), (1, 2, 3, 6))
        torch.testing.assert_close(head(maps), expected, rtol=1e-9, atol=1e-9)
    assert expected.shape == (2, 7, *sizes[0])


def test_the_auxiliary_head_is_its_definition() -> None:
    head: Any = scatter(FCNHead(6, 5, channels=9).double().eval(), 2)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    w = head.state_dict()
    with torch.no_grad():
        expected = functional.conv2d(conv(x, w, "convs.0"), w["conv_seg.weight"], w["conv_seg.bias"])
        torch.testing.assert_close(head(x), expected, rtol=1e-9, atol=1e-9)


def test_gradients_reach_everything_in_training() -> None:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("upernet", **get_host().family("upernet").tiny).train()
    found = model.training_logits(torch.randn(2, 3, 64, 64))
    assert [weight for weight, _ in found] == [1.0, 0.4]
    torch.stack([weight * logits.square().sum() for weight, logits in found]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("encoder", [*WITH_AUXILIARY, *WITHOUT])
def test_published_segmenters_have_the_published_counts(encoder: str) -> None:
    settings = {"auxiliary_channels": 0} if encoder in WITHOUT else {}
    model = mambasdk.create_model(f"upernet-{encoder}", device="meta", **settings)
    expected = {**WITH_AUXILIARY, **WITHOUT}[encoder]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == expected


def test_names_are_those_of_released_files() -> None:
    names = set(mambasdk.create_model("upernet-vmamba-tiny-s1l8", device="meta").state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    units = [
        *(f"decode_head.psp_modules.{i}.1" for i in range(4)),
        *(f"decode_head.{kind}_convs.{i}" for kind in ("lateral", "fpn") for i in range(3)),
        *("decode_head.bottleneck", "decode_head.fpn_bottleneck", "auxiliary_head.convs.0"),
    ]
    expected = {f"{unit}.conv.weight" for unit in units} | {f"{unit}.bn.{part}" for unit in units for part in norm}
    expected |= {f"{head}.conv_seg.{part}" for head in ("decode_head", "auxiliary_head") for part in ("weight", "bias")}
    assert {name for name in names if not name.startswith("backbone.")} == expected
    assert {"backbone.outnorm0.weight", "backbone.layers.3.blocks.1.op.A_logs"} <= names
    assert not any("classifier" in name for name in names)


def _encoders() -> list[str]:
    """Registered image encoders with a form that gives maps."""
    found = []
    for name, family in get_host().registrations.families.items():
        if "image" in family.processors:
            with torch.device("meta"):
                model: Any = mambasdk.create_model(name, **family.tiny)
            if isinstance(model, ImageModel) and (model.maps_config or isinstance(model, FeatureMaps)):
                found.append(name)
    return found


@pytest.mark.parametrize("encoder", _encoders())
def test_every_encoder_carries_it(encoder: str) -> None:
    torch.manual_seed(0)
    settings = {"channels": 8, "auxiliary_channels": 4, "num_classes": 3, "image_size": 64}
    model: Any = mambasdk.create_model(
        "upernet", backbone=encoder, backbone_config=dict(get_host().family(encoder).tiny), **settings
    )
    stride = model.backbone.map_strides[0]
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert model.eval()(image).shape == (2, 3, 64 // stride, 64 // stride)
    losses = [weight * logits.square().mean() for weight, logits in model.train().training_logits(image)]
    torch.stack(losses).sum().backward()
    missed = [name for name, p in model.decode_head.named_parameters() if p.grad is None or not p.grad.any()]
    assert missed == []
    again: Any = mambasdk.create_model("upernet", **model.mambasdk_identity.config)
    again.load_state_dict(model.state_dict())


def _upstream(tmp_path: Path, **changes: Any) -> tuple[Any, Path, dict[str, Any]]:
    """A segmenter, the file that mmsegmentation would write of it, and the arguments of upstream's constructor."""
    torch.manual_seed(3)
    arguments = {
        "dims": 8,
        "depths": [1, 1, 1, 1],
        "forward_type": "v05_noz",
        "ssm_d_state": 1,
        "ssm_ratio": 1.0,
        "ssm_conv_bias": False,
        "patchembed_version": "v2",
        "downsample_version": "v3",
        "norm_layer": "ln2d",
    }
    own = {name: value for name, value in arguments.items() if name != "norm_layer"}
    sizes = {"num_classes": 6, "channels": 8, "auxiliary_channels": 4, **changes}
    model = scatter(mambasdk.create_model("upernet", backbone="vmamba", backbone_config=own, **sizes).eval(), 4)
    file = tmp_path / "upernet.pth"
    torch.save({"meta": {"mmseg_version": "0.24", "CLASSES": ["a"]}, "state_dict": model.state_dict()}, file)
    return model, file, {"backbone": "vmamba", "backbone_config": arguments}


@pytest.mark.parametrize("changes", [{}, {"auxiliary_channels": 0}], ids=["both heads", "no auxiliary head"])
def test_released_files_load_by_their_own_names(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, file, config = _upstream(tmp_path, **changes)
    loaded: Any = import_checkpoint("upernet", config, file).eval()
    image = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    assert loaded.mambasdk_identity.config["num_classes"] == 6
    assert loaded.package_processors()["image"]["size"] == [512, 512]


def test_a_backbone_of_one_size_brings_it(tmp_path: Path) -> None:
    tiny = {"patch_size": 8, "depth": 4, "embed_dim": 16, "d_state": 4}
    sizes = {"image_size": [32, 48], "num_classes": 3, "channels": 8, "auxiliary_channels": 4}
    config = {"img_size": [32, 48], "stride": 8, **tiny}
    model = scatter(mambasdk.create_model("upernet", backbone="vim", backbone_config=tiny, **sizes).eval(), 4)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "vim.pth")
    loaded: Any = import_checkpoint("upernet", {"backbone": "vim", "backbone_config": config}, tmp_path / "vim.pth")
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(image), model(image))
    assert loaded.package_processors()["image"]["size"] == [32, 48]


def test_other_files_are_refused(tmp_path: Path) -> None:
    _, file, config = _upstream(tmp_path)
    with pytest.raises(CheckpointError, match="unknown arguments: decode_head"):
        import_checkpoint("upernet", {**config, "decode_head": {}}, file)
    with pytest.raises(CheckpointError, match="no 'backbone'"):
        import_checkpoint("upernet", {}, file)
    torch.save({"state_dict": {"backbone.x": torch.zeros(1)}}, file)
    with pytest.raises(CheckpointError, match=r"no UPerNet: decode_head\.conv_seg\.weight"):
        import_checkpoint("upernet", config, file)


def test_other_classes_and_sizes_keep_the_rest() -> None:
    torch.manual_seed(0)
    tiny = {"img_size": 32, "patch_size": 8, "depth": 4, "embed_dim": 16, "d_state": 4}
    model: Any = mambasdk.create_model(
        "upernet", backbone="vim", backbone_config=tiny, image_size=32, channels=8, auxiliary_channels=4, num_classes=3
    )
    assert model.input_shapes()["image"][2:] == [32, 32]
    assert model.package_processors()["image"]["size"] == [32, 32]
    other: Any = model.with_classes(5)
    assert other.classes == 5
    assert other.auxiliary_head.conv_seg.weight.shape[0] == 5
    assert torch.equal(other.decode_head.fpn_bottleneck.conv.weight, model.decode_head.fpn_bottleneck.conv.weight)
    larger: Any = model.resized(image=(48, 64))
    with torch.no_grad():
        assert larger.eval()(torch.randn(1, 3, 48, 64)).shape[:2] == (1, 3)
    assert torch.equal(larger.decode_head.conv_seg.weight, model.decode_head.conv_seg.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auxiliary_index": 4}, "bad auxiliary_index"),
        ({"num_classes": 0}, "bad num_classes"),
        ({"pool_scales": [0]}, "bad pool_scales"),
        ({"dropout": 1.0}, "bad dropout"),
        ({"image_size": [1, 2, 3]}, "bad image_size"),
        ({"backbone": "upernet"}, "gives no maps"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    tiny = get_host().family("upernet").tiny
    changes = {"backbone_config": dict(get_host().family("upernet").tiny)} if "backbone" in settings else {}
    with pytest.raises(InvalidArgumentError, match=message):
        mambasdk.create_model("upernet", **{**tiny, **changes, **settings})
