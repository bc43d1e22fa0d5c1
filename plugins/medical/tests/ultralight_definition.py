"""UltraLight VM-UNet by its definition: loops over tokens and channels, one image at a time."""

from __future__ import annotations

import math

import torch
from scan_definition import normed, part_of
from torch import Tensor
from torch.nn import functional


def mamba_by_definition(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """arXiv 2312.00752, algorithm 2, for one sequence x (L, D); w: the mixer's tensors."""
    inner, states = w["A_log"].shape
    length, taps = len(x), w["conv1d.weight"].shape[-1]
    u, z = (x @ w["in_proj.weight"].T).split(inner, dim=1)
    seen = torch.empty_like(u)
    for t in range(length):
        total = w["conv1d.bias"].clone()
        for k in range(taps):
            if t - taps + 1 + k >= 0:
                total += w["conv1d.weight"][:, 0, k] * u[t - taps + 1 + k]
        seen[t] = total / (1 + torch.exp(-total))
    rank = w["dt_proj.weight"].shape[1]
    h = torch.zeros(inner, states, dtype=x.dtype)
    y = torch.empty_like(u)
    for t in range(length):
        low, B, C = (w["x_proj.weight"] @ seen[t]).split([rank, states, states])
        delta = torch.log1p(torch.exp(w["dt_proj.weight"] @ low + w["dt_proj.bias"]))
        for d in range(inner):
            h[d] = torch.exp(-delta[d] * w["A_log"][d].exp()) * h[d] + delta[d] * B * seen[t, d]
            y[t, d] = C @ h[d] + w["D"][d] * seen[t, d]
    return (y * z / (1 + torch.exp(-z))) @ w["out_proj.weight"].T


def parallel_by_definition(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """A ParallelMamba on one map x (C, H, W); w: its tensors."""
    channels, height, width = x.shape
    mixer = part_of(w)("mamba.")
    tokens = normed(x.reshape(channels, -1).T, w["norm.weight"], w["norm.bias"])
    quarter = channels // 4
    parts = [tokens[:, i * quarter : (i + 1) * quarter] for i in range(4)]
    mixed = torch.cat([mamba_by_definition(mixer, part) + w["skip_scale"] * part for part in parts], dim=1)
    out = normed(mixed, w["norm.weight"], w["norm.bias"]) @ w["proj.weight"].T + w["proj.bias"]
    return out.T.reshape(-1, height, width)


def group_normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Four groups of the channels of one map (C, H, W)."""
    groups = x.reshape(4, -1)
    centred = groups - groups.mean(dim=1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return scaled.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def doubled(x: Tensor) -> Tensor:
    """(C, h, w) to (C, 2h, 2w): corners on corners, linear in between."""

    def lines(size: int) -> Tensor:
        weights = torch.zeros(2 * size, size, dtype=x.dtype)
        for i in range(2 * size):
            at = i * (size - 1) / (2 * size - 1)
            first = min(int(at), max(size - 2, 0))
            weights[i, first] += 1 - (at - first)
            if size > 1:
                weights[i, first + 1] += at - first
        return weights

    return lines(x.shape[1]) @ x @ lines(x.shape[2]).T


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def network_by_definition(w: dict[str, Tensor], image: Tensor) -> Tensor:
    """Logits (classes, H, W) of one image (C, H, W)."""

    part = part_of(w)

    def layer(name: str, x: Tensor) -> Tensor:
        own = part(f"{name}.0.")
        if "weight" in own:
            return functional.conv2d(x[None], own["weight"], own["bias"], padding=1)[0]
        return parallel_by_definition(own, x)

    x, skips = image, []
    for level in range(1, 6):
        x = group_normed(layer(f"encoder{level}", x), w[f"ebn{level}.weight"], w[f"ebn{level}.bias"])
        channels, height, width = x.shape
        x = gelu(x.reshape(channels, height // 2, 2, width // 2, 2).amax(dim=(2, 4)))
        skips.append(x)
    placed, both = [], []
    for skip in skips:
        seen = torch.stack([skip.mean(dim=0), skip.amax(dim=0)])
        padded = functional.pad(seen, (9, 9, 9, 9))
        kernel, found = w["scab.satt.shared_conv2d.0.weight"][0], torch.zeros_like(skip[0])
        for row in range(7):
            for column in range(7):
                moved = padded[:, 3 * row : 3 * row + skip.shape[1], 3 * column : 3 * column + skip.shape[2]]
                found += (kernel[:, row, column, None, None] * moved).sum(dim=0)
        placed.append(skip * torch.sigmoid(found + w["scab.satt.shared_conv2d.0.bias"]))
        both.append(placed[-1] + skip)
    means = functional.pad(torch.cat([x.mean(dim=(1, 2)) for x in both]), (1, 1))
    kernel = w["scab.catt.get_all_att.weight"].flatten()
    along = kernel[0] * means[:-2] + kernel[1] * means[1:-1] + kernel[2] * means[2:]
    skips = []
    for level in range(1, 6):
        own = torch.sigmoid(w[f"scab.catt.att{level}.weight"] @ along + w[f"scab.catt.att{level}.bias"])
        skips.append(own[:, None, None] * both[level - 1] + placed[level - 1])
    x = gelu(layer("encoder6", x))
    for level in range(1, 6):
        x = group_normed(layer(f"decoder{level}", x), w[f"dbn{level}.weight"], w[f"dbn{level}.bias"])
        x = gelu(doubled(x) if level > 1 else x) + skips[-level]
    return doubled(torch.einsum("kc,chw->khw", w["final.weight"][:, :, 0, 0], x) + w["final.bias"][:, None, None])
