"""The block of HRVMamba: convolutions of several sizes, the deformable scan, an MLP. Maps are channel-last."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.nn.deformable import DCNv4
from mambasdk_vision.nn.maps import MapConv2d
from mambasdk_vision.nn.mlp import Mlp
from mambasdk_vision.nn.routed_scan import RoutedScan
from mambasdk_vision.nn.routes import ROUTES, cross_routes

_KERNELS = (3, 5, 7, 9)  # one for each quarter of the channels
_EXCITATION = 8  # channels to one hidden unit
_DEPTHWISE_OFFSETS = 80  # of multiples of so many channels offsets see their neighbours


class SqueezeExcitation(nn.Module):
    """Channels times what two linear layers make of their means (arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _EXCITATION
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        factors: Tensor = self.fc(x.mean(dim=(1, 2)))
        return x * factors[:, None, None]


class DSS2D(RoutedScan):
    """Deformable convolution, then the scan of four routes: (B, H, W, C) to the same shape (arXiv 2410.03174).

    channels: C; D = ssm_ratio * C channels are scanned with one state each; R = ceil(C / 16) is the rank of the steps
    and the number of groups of the convolution. se: squeeze-and-excitation before the last layer. projections,
    offset_scale: see DCNv4. dropout: after the last layer.
    """

    def __init__(
        self,
        channels: int,
        *,
        ssm_ratio: float = 2.0,
        se: bool = False,
        projections: bool = False,
        offset_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        inner, rank = int(ssm_ratio * channels), math.ceil(channels / 16)
        super().__init__(inner, 1, rank, ROUTES)
        self.in_proj = nn.Linear(channels, inner, bias=False)
        self.conv2d = DCNv4(
            inner,
            rank,
            offset_scale=offset_scale,
            depthwise=channels % _DEPTHWISE_OFFSETS == 0,
            projections=projections,
        )
        self.out_norm = LayerNorm(inner)
        self.se: nn.Module = SqueezeExcitation(inner) if se else nn.Identity()
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.init_scan()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        _, height, width, _ = x.shape
        u = functional.silu(self.conv2d(self.in_proj(x)))
        y = self.scan(u.flatten(1, 2), cross_routes(height, width, device=u.device)).view(u.shape)
        out: Tensor = self.dropout(self.out_proj(self.se(self.out_norm(y))))
        return out


class DVSSBlock(nn.Module):
    """A block of HRVMamba on (B, H, W, C): see the equations in `forward`.

    channels: C, a multiple of 4. se_lpu: squeeze-and-excitation in the scan, and local perception, a depthwise
    convolution added before the first norm and after the scan. drop_path: of the scan and the MLP; drop_first: of the
    convolutions. Others as DSS2D.
    """

    def __init__(
        self,
        channels: int,
        *,
        mlp_ratio: float = 2.0,
        se_lpu: bool = False,
        drop_path: float = 0.0,
        drop_first: float = 0.0,
        **scan: Any,
    ) -> None:
        super().__init__()

        def depthwise(width: int, kernel: int) -> MapConv2d:
            return MapConv2d(width, width, kernel, padding=kernel // 2, groups=width)

        self.cpe1 = depthwise(channels, 3) if se_lpu else None
        self.norm0 = LayerNorm(channels)
        self.conv2d = nn.ModuleList(depthwise(channels // len(_KERNELS), kernel) for kernel in _KERNELS)
        self.norm = LayerNorm(channels)
        self.op = DSS2D(channels, se=se_lpu, **scan)
        self.cpe2 = depthwise(channels, 3) if se_lpu else None
        self.norm2 = LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio))
        self.drop_path, self.drop_first = DropPath(drop_path), DropPath(drop_first)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape::

            x = x + gelu(shuffle(convolutions of norm0(x + cpe1(x))))
            x = x + op(norm(x))
            x = x + cpe2(x)
            x = x + mlp(norm2(x))

        The convolutions see a quarter of the channels each; `shuffle` takes one channel of each in turn.
        """
        seen = x if self.cpe1 is None else x + self.cpe1(x)
        parts = self.norm0(seen).chunk(len(_KERNELS), dim=-1)
        convolved = [convolution(part) for convolution, part in zip(self.conv2d, parts, strict=True)]
        x = x + self.drop_first(functional.gelu(torch.stack(convolved, dim=-1).flatten(-2)))
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.cpe2 is not None:
            x = x + self.cpe2(x)
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]
