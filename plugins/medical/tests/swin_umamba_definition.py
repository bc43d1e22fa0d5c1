"""Swin-UMamba and its D variant by their definition: loops over pixels, one image at a time."""

from __future__ import annotations

from typing import Any

import torch
from scan_definition import embedded, merged_patches, normed, part_of, ss2d
from torch import Tensor
from torch.nn import functional


def encoder_by_definition(w: dict[str, Tensor], image: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
    """Maps (h, w, C) of every stage, of one image (C, H, W)."""
    part = part_of(w)
    v, maps = embedded(part("patch_embed."), image), []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            v = scan_block(part(f"layers.{stage}.blocks.{block}."), v)
        maps.append(v)
        if stage + 1 < len(depths):
            v = merged_patches(part(f"layers.{stage}.downsample."), v)
    return maps


def scan_block(w: dict[str, Tensor], v: Tensor) -> Tensor:
    return v + ss2d(part_of(w)("self_attention."), normed(v, w["ln_1.weight"], w["ln_1.bias"]))


def each_normed(x: Tensor) -> Tensor:
    """Every channel of one map (C, H, W) by its own mean and deviation."""
    centred = x - x.mean(dim=(1, 2), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2), keepdim=True) + 1e-5).sqrt()


def conv(weight: Tensor, x: Tensor) -> Tensor:
    return functional.conv2d(x[None], weight, padding=weight.shape[-1] // 2)[0]


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def residual(w: dict[str, Tensor], x: Tensor) -> Tensor:
    y = leaky(each_normed(conv(w["conv1.conv.weight"], x)))
    y = each_normed(conv(w["conv2.conv.weight"], y))
    around = each_normed(conv(w["conv3.conv.weight"], x)) if "conv3.conv.weight" in w else x
    return leaky(y + around)


def up(w: dict[str, Tensor], x: Tensor, skip: Tensor) -> Tensor:
    _, height, width = x.shape
    kernel = w["transp_conv.conv.weight"]  # (C, C', 2, 2)
    large = torch.einsum("chw,copq->ohpwq", x, kernel).reshape(kernel.shape[1], 2 * height, 2 * width)
    return residual(part_of(w)("conv_block."), torch.cat([large, skip]))


def convolutions_by_definition(model: Any, image: Tensor) -> list[Tensor]:
    w = dict(model.state_dict())
    part, depths = part_of(w), model.config.depths
    small = functional.conv2d(image[None], w["stem.0.weight"], w["stem.0.bias"], stride=2, padding=3)[0]
    small = each_normed(small) * w["stem.1.weight"][:, None, None] + w["stem.1.bias"][:, None, None]
    maps = [image, small]
    maps += [v.permute(2, 0, 1) for v in encoder_by_definition(part("vssm_encoder."), small, depths)]
    x, found = maps[-1], []
    for level in range(len(maps) - 1, 0, -1):
        x = up(part(f"decoder{level + 1}."), x, residual(part(f"encoder{level}.layer."), maps[level - 1]))
        found.append(x)
    seen = [residual(part("decoder1.layer."), found[-1]), *found[1:-1][::-1]]
    return [
        torch.einsum("kc,chw->khw", w[f"out_layers.{i}.conv.conv.weight"][:, :, 0, 0], x)
        + w[f"out_layers.{i}.conv.conv.bias"][:, None, None]
        for i, x in enumerate(seen)
    ]


def expanded(w: dict[str, Tensor], v: Tensor) -> Tensor:
    """A map (H, W, C) with every pixel made into scale x scale of them."""
    height, width, _ = v.shape
    channels = w["norm.weight"].shape[0]
    scale = round((w["expand.weight"].shape[0] // channels) ** 0.5)
    y = v @ w["expand.weight"].T
    large = torch.empty(scale * height, scale * width, channels, dtype=v.dtype)
    for row in range(scale):
        for column in range(scale):
            at = (row * scale + column) * channels
            large[row::scale, column::scale] = y[..., at : at + channels]
    return normed(large, w["norm.weight"], w["norm.bias"])


def scans_by_definition(model: Any, image: Tensor) -> list[Tensor]:
    w = dict(model.state_dict())
    part, depths = part_of(w), model.config.depths
    maps = encoder_by_definition(part("vssm_encoder."), image, depths)
    v, found = maps[-1], []
    for index in range(len(depths)):
        v = expanded(part(f"decoder.expand_layers.{index}."), v)
        if index + 1 < len(depths):
            back = part(f"decoder.concat_back_dim.{index}.")
            v = torch.cat([v, maps[len(depths) - 2 - index]], dim=-1) @ back["weight"].T + back["bias"]
            for block in range(model.config.decoder_depth):
                v = scan_block(part(f"decoder.stages.{index}.blocks.{block}."), v)
        layer = part(f"decoder.seg_layers.{index}.")
        found.append((v @ layer["weight"][:, :, 0, 0].T + layer["bias"]).permute(2, 0, 1))
    return found[::-1]
