"""The neck of FER-YOLO-Mamba (arXiv 2405.01828): blocks that look along eight routes, up and down the levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.nn import LayerNorm
from mambasdk_vision.families.fer_yolo_mamba.darknet import CSPDarknet
from mambasdk_vision.nn.conv_norm import ConvNorm, doubled
from mambasdk_vision.nn.ss2d import SS2D

_REDUCTION = 16  # channels of a map for each hidden channel of its attention


class ChannelAttention(nn.Module):
    """Scale each channel by what all channels hold on the average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _REDUCTION
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        scale: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * scale[:, :, None, None]


class FerVSSBlock(nn.Module):
    """One half of the channels refined by attention, the other by a scan; both mixed and added to the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.ln_1 = LayerNorm(half)
        self.self_attention = SS2D(half, forward_type="v0", diagonals=True)
        self.frm = nn.Sequential(
            nn.Conv2d(half, quarter, 1, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(),
            ChannelAttention(quarter),
            nn.Conv2d(quarter, half, 1, bias=False),
            nn.BatchNorm2d(half),
        )
        self.finalconv11 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        left, right = x.chunk(2, dim=1)
        scanned: Tensor = self.self_attention(self.ln_1(right.permute(0, 2, 3, 1)))
        both = torch.cat([self.frm(left), right + scanned.permute(0, 3, 1, 2)], dim=1)
        y: Tensor = self.finalconv11(both)
        return x + y


class Neck(nn.Module):
    """Maps (B, C, h, w) of strides 8, 16, 32 to maps of strides 16, 16, 32, each of as many channels as it came with.

    widths: channels of the three maps. backbone: what makes them of an image; they are given where it is None.
    """

    def __init__(self, widths: tuple[int, int, int], backbone: CSPDarknet | None = None) -> None:
        super().__init__()
        low, middle, high = widths
        self.backbone = backbone
        self.lateral_conv0 = ConvNorm(high, middle)
        self.C3_p4 = nn.Sequential(FerVSSBlock(2 * middle))
        self.reduce_conv1 = ConvNorm(2 * middle, low)
        self.C3_p3 = nn.Sequential(FerVSSBlock(2 * low))
        self.bu_conv2 = ConvNorm(2 * low, low, 3, stride=2)
        self.reduce_conv111 = ConvNorm(2 * low, low, 3, stride=2)
        self.C3_n3 = nn.Sequential(FerVSSBlock(2 * low))
        self.bu_conv1 = ConvNorm(2 * low, middle, 3, stride=2)
        self.C3_n4 = nn.Sequential(FerVSSBlock(2 * middle))

    def mixed(self, low: Tensor, middle: Tensor, high: Tensor) -> list[Tensor]:
        """The maps that come out, of the three that come in."""
        p5 = self.lateral_conv0(high)
        p4 = self.reduce_conv1(self.C3_p4(torch.cat([doubled(p5), middle], dim=1)))
        fine = self.C3_p3(torch.cat([doubled(p4), low], dim=1))
        n3 = self.C3_n3(torch.cat([self.bu_conv2(fine), p4], dim=1))
        n4 = self.C3_n4(torch.cat([self.bu_conv1(n3), p5], dim=1))
        return [self.reduce_conv111(fine), n3, n4]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w); image (B, 3, H, W), H and W multiples of 32."""
        assert self.backbone is not None
        return self.mixed(*self.backbone(image))
