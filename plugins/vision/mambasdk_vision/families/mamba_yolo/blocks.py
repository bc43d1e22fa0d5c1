"""The blocks of Mamba-YOLO (arXiv 2406.05835): maps (B, C, H, W) around the routed scan, under upstream's names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import LayerNorm
from mambasdk_vision.nn.conv_norm import ConvNorm, batch_norm, phases, pooled
from mambasdk_vision.nn.ss2d import SS2D

_NORM_EPS = 1e-6  # of the norms over the channels of maps


class SimpleStem(nn.Module):
    """Image to a map of stride 4 by two strided convolutions."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv = nn.Sequential(
            nn.Conv2d(channels, half, 3, stride=2, padding=1, bias=False),
            batch_norm(half),
            nn.GELU(),
            nn.Conv2d(half, out_channels, 3, stride=2, padding=1, bias=False),
            batch_norm(out_channels),
            nn.SiLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, H/4, W/4)."""
        y: Tensor = self.conv(x)
        return y


class VisionClueMerge(nn.Module):
    """Half the sides: neighbours side by side, then a convolution of each place."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.pw_linear = _projection(4 * channels, out_channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W), H and W even, to (B, out, H/2, W/2)."""
        y: Tensor = self.pw_linear(phases(x))
        return y


class LocalBlock(nn.Module):
    """What a scan does not see well: a place's neighbours, by a depthwise convolution (upstream's LSBlock)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = batch_norm(channels)
        self.fc2 = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()
        self.fc3 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.fc3(self.act(self.fc2(self.norm(self.fc1(x)))))
        return x + y


class ResidualGatedMlp(nn.Module):
    """An MLP of each place whose gate also sees the neighbours (upstream's RGBlock)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * 4 * channels // 3
        self.fc1 = nn.Conv2d(channels, 2 * hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        a, v = self.fc1(x).chunk(2, dim=1)
        y: Tensor = self.fc2(functional.gelu(self.dwconv(a) + a) * v)
        return y


class _ScanBlock(nn.Module):
    """What blocks of backbone and neck share: local block, scan, MLP; the residual is the projection's map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lsblock = LocalBlock(channels)
        self.norm = _norm(channels)
        self.norm2 = _norm(channels)
        self.mlp = ResidualGatedMlp(channels)

    def mixed(self, u: Tensor, scan: nn.Module) -> Tensor:
        """Map u (B, C, H, W) to the same shape; scan: of maps (B, H, W, C)."""
        y = u + _first(scan(self.norm["norm"](_last(self.lsblock(u)))))
        out: Tensor = self.mlp(_first(self.norm2["norm"](_last(y))))
        return y + out


class ODSSBlock(_ScanBlock):
    """Block of the backbone: projection, local block, scan, MLP."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(out_channels)
        self.proj_conv = _projection(channels, out_channels, bias=True)
        self.op = _scan(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, H, W)."""
        return self.mixed(self.proj_conv(x), self.op)


class XSSBlock(_ScanBlock):
    """Block of the neck: as ODSSBlock, with several scans in series and a projection only where channels change."""

    def __init__(self, channels: int, out_channels: int, scans: int) -> None:
        super().__init__(out_channels)
        same = channels == out_channels
        self.in_proj = nn.Identity() if same else _projection(channels, out_channels, bias=False)
        self.ss2d = nn.Sequential(*(_scan(out_channels) for _ in range(scans)))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, H, W)."""
        return self.mixed(self.in_proj(x), self.ss2d)


class SPPF(nn.Module):
    """The largest values within growing distances, beside the map itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = ConvNorm(channels, channels // 2)
        self.cv2 = ConvNorm(channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.cv2(pooled(self.cv1(x)))
        return y


def _projection(channels: int, out_channels: int, *, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, bias=bias), batch_norm(out_channels), nn.SiLU())


def _norm(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"norm": LayerNorm(channels, _NORM_EPS)})


def _scan(channels: int) -> SS2D:
    return SS2D(channels, act="gelu", gate_act="gelu", ssm_init="normal", forward_type="v0")


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
