"""VM-UNet V2 against its definition in loops and float64; supervision, weights, files, mixed precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from scan_definition import embedded, merged_patches, normed, part_of, ss2d
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.vm_unet_v2 import VMUNetV2Config, begin_from_vmamba
from mambasdk_medical.plans import NetworkPlan

_THREE: dict[str, Any] = {"dims": [6, 8, 12], "depths": [1, 2, 1], "mid_channel": 3, "d_state": 3, "num_classes": 2}


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("vm_unet_v2", **{**get_host().family("vm_unet_v2").tiny, **overrides})
    return scatter(model, 2).eval()


# ---- the definition, of one image ----


def attended(w: dict[str, Tensor], spatial: Tensor, x: Tensor) -> Tensor:
    """Channels, then pixels of x (C, H, W) scaled by what their mean and maximum say."""
    first, second = w["fc1.weight"][:, :, 0, 0], w["fc2.weight"][:, :, 0, 0]
    said = [second @ (first @ pooled).clamp(min=0) for pooled in (x.mean(dim=(1, 2)), x.flatten(1).max(dim=1).values)]
    x = x / (1 + torch.exp(-(said[0] + said[1])))[:, None, None]
    maps = functional.pad(torch.stack([x.mean(dim=0), x.max(dim=0).values]), (3, 3, 3, 3))
    scale = torch.empty(x.shape[1:], dtype=x.dtype)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            scale[i, j] = (maps[:, i : i + 7, j : j + 7] * spatial[0]).sum()
    return x / (1 + torch.exp(-scale))


def between_corners(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (C, h, w), whose corners stay corners, at another size: linear along rows, then along columns."""
    for axis, extent in zip((1, 2), size, strict=True):
        steps = torch.arange(extent, dtype=x.dtype) * ((x.shape[axis] - 1) / (extent - 1))
        low = steps.floor().long().clamp(max=x.shape[axis] - 1)
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        part = (steps - low).view([-1 if dim == axis else 1 for dim in range(3)])
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


def enlarged(x: Tensor, scale: int) -> Tensor:
    """x (C, h, w) at `scale` times the sides, pixels as areas."""
    for axis in (1, 2):
        extent = x.shape[axis]
        steps = ((torch.arange(scale * extent, dtype=x.dtype) + 0.5) / scale - 0.5).clamp(min=0)
        low = steps.floor().long().clamp(max=extent - 1)
        high = (low + 1).clamp(max=extent - 1)
        part = (steps - low).view([-1 if dim == axis else 1 for dim in range(3)])
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


def spread(x: Tensor, kernel: Tensor, stride: int, padding: int, more: int) -> Tensor:
    """The transposed convolution of x (C, h, w): every pixel adds the kernel (C, out, k, k) where it lies."""
    _, height, width = x.shape
    side = kernel.shape[-1]
    full = torch.zeros(
        kernel.shape[1], (height - 1) * stride + side + more, (width - 1) * stride + side + more, dtype=x.dtype
    )
    for i in range(height):
        for j in range(width):
            rows, columns = slice(i * stride, i * stride + side), slice(j * stride, j * stride + side)
            full[:, rows, columns] += torch.einsum("c,copq->opq", x[:, i, j], kernel)
    return full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]


def by_definition(w: dict[str, Tensor], image: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
    """What training looks at, the finest first."""
    part, levels = part_of(w), len(depths)
    encoder = part_of(part("vmunet."))
    v, maps = embedded(encoder("patch_embed."), image), []
    for stage, depth in enumerate(depths):
        maps.append(v.permute(2, 0, 1))
        if stage + 1 == levels:
            break  # upstream does not look at what the last stage gives
        for index in range(depth):
            block = encoder(f"layers.{stage}.blocks.{index}.")
            v = v + ss2d(part_of(block)("self_attention."), normed(v, block["ln_1.weight"], block["ln_1.bias"]))
        v = merged_patches(encoder(f"layers.{stage}.downsample."), v)
    narrow = []
    for level, x in enumerate(maps, 1):
        x = attended(part(f"ca_{level}."), w[f"sa_{level}.conv1.weight"], x)  # noqa: PLW2901
        x = torch.einsum("chw,oc->ohw", x, w[f"Translayer_{level}.conv.weight"][:, :, 0, 0])  # noqa: PLW2901
        norm = {name: t[:, None, None] for name, t in part(f"Translayer_{level}.bn.").items() if t.ndim}
        x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]  # noqa: PLW2901
        narrow.append(x)
    ends: list[Tensor] = []
    y: Tensor | None = None
    for step, level in enumerate(reversed(range(levels))):
        infused = torch.ones_like(narrow[level])
        for index, x in enumerate(narrow):
            kernel, bias = (w[f"sdi_{level + 1}.convs.{index}.{name}"] for name in ("weight", "bias"))
            if index < level:  # finer
                ratio = 1 << (level - index)
                x = x.unflatten(1, (-1, ratio)).unflatten(3, (-1, ratio)).mean(dim=(2, 4))  # noqa: PLW2901
            elif index > level:
                x = between_corners(x, tuple(narrow[level].shape[1:]))  # type: ignore[arg-type]  # noqa: PLW2901
            infused = infused * functional.conv2d(x[None], kernel, bias, padding=1)[0]
        y = infused if y is None else spread(y, w[f"deconv{step + 1}.weight"], 2, 1, 0) + infused
        end = torch.einsum("chw,oc->ohw", y, w[f"seg_outs.{step}.weight"][:, :, 0, 0])
        ends.insert(0, enlarged(end + w[f"seg_outs.{step}.bias"][:, None, None], 4))
    last = spread(ends[1], w[f"deconv{levels + 2}.weight"], 2, 1, 1)
    return [ends[0] + last + w[f"deconv{levels + 2}.bias"][:, None, None], *ends[1:]]


@torch.no_grad()
def test_equals_its_definition() -> None:
    """All outputs in float64, one image after the other; the logits in float32 too."""
    model = tiny(**_THREE, in_channels=3, patch_size=[32, 48]).double()
    image = torch.randn(2, 3, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = model.training_outputs(image)
    expected = [by_definition(model.state_dict(), one, model.config.depths) for one in image]
    assert [tuple(one.shape[2:]) for one in found] == [(32, 48), (16, 24), (8, 12)]
    for level, ours in enumerate(found):
        torch.testing.assert_close(ours, torch.stack([one[level] for one in expected]), atol=1e-10, rtol=1e-9)
    assert torch.equal(model(image), found[0])
    single = model.float()(image.float()).double()
    torch.testing.assert_close(single, found[0], atol=2e-4, rtol=2e-4)


# ---- supervision, plans, weights ----


def test_without_supervision_the_finest_level_alone_gives_the_logits() -> None:
    model = tiny(deep_supervision=False)
    image = model.example_inputs()["image"]
    (only,) = model.training_outputs(image)
    assert torch.equal(only, model(image))
    assert only.shape == (2, 2, 16, 24)


def test_supervision_reaches_what_the_logits_do_not_depend_on() -> None:
    """All but upstream's parts without effect."""
    model = tiny(**_THREE, patch_size=[32, 48], in_channels=3).train()
    sum(one.square().mean() for one in model.training_outputs(model.example_inputs()["image"])).backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert {name.split(".blocks.")[0] for name in idle} == {"vmunet.layers.2", "deconv4.weight"}


def test_a_plan_decides_about_supervision() -> None:
    plan = NetworkPlan(patch_size=(32, 40), in_channels=3, num_classes=4, deep_supervision=False)
    assert VMUNetV2Config.for_plan(plan) == {
        "patch_size": (32, 64),
        "in_channels": 3,
        "num_classes": 4,
        "deep_supervision": False,
    }


@torch.no_grad()
def test_upstreams_files_load_without_a_configuration() -> None:
    model = tiny(**_THREE, in_channels=3, patch_size=[32, 48])
    weights = model.state_dict()
    assert "Translayer_1.bn.num_batches_tracked" in weights
    again: Any = mambasdk.import_checkpoint("vm_unet_v2", {"depths_decoder": [2, 9, 2, 2]}, weights).eval()
    image = model.example_inputs()["image"]
    assert torch.equal(again(image), model(image))
    with pytest.raises(CheckpointError, match="mid_channel = 48 in the configuration, 3 in the weights"):
        mambasdk.import_checkpoint("vm_unet_v2", {"mid_channel": 48}, weights)


def test_weights_of_a_vmamba_begin_the_encoder() -> None:
    model = tiny(**_THREE, in_channels=3, patch_size=[32, 48])
    encoder = {name.removeprefix("vmunet."): t + 1 for name, t in model.state_dict().items() if name[:6] == "vmunet"}
    found = begin_from_vmamba(model, encoder)
    assert set(found) == {f"vmunet.{name}" for name in encoder}
    assert all(torch.equal(model.state_dict()[f"vmunet.{name}"], tensor) for name, tensor in encoder.items())


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="bad mid_channel"):
        tiny(mid_channel=0)
    with pytest.raises(InvalidArgumentError, match="two stages or more"):
        tiny(dims=[8], depths=[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_two_hundred_steps_of_mixed_precision_are_finite(dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(drop_path_rate=0.1), dtype)
