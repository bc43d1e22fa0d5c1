"""From images to the map of the first stage, channel-last; the Identity modules keep upstream's numbers of layers."""

from __future__ import annotations

from torch import nn

from mambasdk.nn import LayerNorm
from mambasdk_vision.nn.maps import MapConv2d


def patch_stem(in_chans: int, width: int, patch_size: int = 4, patch_norm: bool = True) -> nn.Sequential:
    """(B, H, W, in_chans) to (B, H // patch_size, W // patch_size, width): patches side by side, then a norm.

    Parameters are `0.*` of the convolution and `2.*` of the norm. Source: arXiv 2401.10166, its first version.
    """
    conv = MapConv2d(in_chans, width, patch_size, stride=patch_size)
    return nn.Sequential(conv, nn.Identity(), _norm(width, patch_norm))


def overlapping_stem(in_chans: int, width: int, patch_size: int = 4, patch_norm: bool = True) -> nn.Sequential:
    """(B, H, W, in_chans) to (B, h, w, width) by two strided convolutions that overlap, each with a norm.

    Parameters are `0.*` and `5.*` of the convolutions, `2.*` and `7.*` of the norms; patch_size: even, the stride of
    both together. Source: arXiv 2401.10166, its second version.
    """
    stride = patch_size // 2
    first = MapConv2d(in_chans, width // 2, stride + 1, stride=stride, padding=1)
    second = MapConv2d(width // 2, width, stride + 1, stride=stride, padding=1)
    between = [nn.Identity(), _norm(width // 2, patch_norm), nn.Identity(), nn.GELU()]
    return nn.Sequential(first, *between, second, nn.Identity(), _norm(width, patch_norm))


def _norm(channels: int, there: bool) -> nn.Module:
    return LayerNorm(channels) if there else nn.Identity()
