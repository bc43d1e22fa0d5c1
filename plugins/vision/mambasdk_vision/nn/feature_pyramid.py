"""Maps of several strides from one stride, for dense prediction on isotropic encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), as ViTDet has it."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        channels = (x.shape[1],)
        y = functional.layer_norm(x.permute(0, 2, 3, 1), channels, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class _NormedConv2d(nn.Conv2d):
    """A convolution without bias that carries its norm, under the names that detectron2 gives them."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(super().forward(x))
        return y


def fpn_adapters(channels: int) -> dict[str, nn.Module]:
    """`fpn1` to `fpn4`: maps (B, C, h, w) of stride 16 to strides 4, 8, 16 and 32, of Vim's segmentation backbone.

    Upstream's norm is SyncBN: `nn.SyncBatchNorm.convert_sync_batchnorm` makes it that, under the same names.
    """

    def double() -> nn.Module:
        return nn.ConvTranspose2d(channels, channels, 2, stride=2)

    return {
        "fpn1": nn.Sequential(double(), nn.BatchNorm2d(channels), nn.GELU(), double()),
        "fpn2": nn.Sequential(double()),
        "fpn3": nn.Identity(),
        "fpn4": nn.MaxPool2d(2),
    }


class FeaturePyramid(nn.Module):
    """ViTDet's simple feature pyramid (arXiv 2203.16527): one map of stride 16 to p2 … p6 at strides 4 to 64.

    channels: C of the map. out_channels: of every level. p6 is every second pixel of p5.
    Parameter names are detectron2's (`simfp_2.0.weight` … `simfp_5.2.norm.bias`).
    """

    def __init__(self, channels: int, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        scalings: list[tuple[list[nn.Module], int]] = [
            (
                [
                    nn.ConvTranspose2d(channels, half, 2, stride=2),
                    ChannelNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ],
                quarter,
            ),
            ([nn.ConvTranspose2d(channels, half, 2, stride=2)], half),
            ([], channels),
            ([nn.MaxPool2d(2)], channels),
        ]
        for level, (layers, width) in enumerate(scalings, start=2):
            ends = [_NormedConv2d(width, out_channels, 1), _NormedConv2d(out_channels, out_channels, 3)]
            self.add_module(f"simfp_{level}", nn.Sequential(*layers, *ends))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map x (B, C, h, w) to {"p2": (B, out, 4h, 4w), "p3", "p4", "p5": (B, out, h//2, w//2), "p6"}."""
        maps: dict[str, Tensor] = {f"p{level}": self.get_submodule(f"simfp_{level}")(x) for level in range(2, 6)}
        maps["p6"] = functional.max_pool2d(maps["p5"], 1, stride=2)
        return maps
