"""torch's modules of maps by the number of spatial axes, so that one model has a 2-D and a 3-D form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.nn.convolutions import Conv2d, Conv3d

_CONVOLUTIONS: dict[int, type[Conv2d] | type[Conv3d]] = {2: Conv2d, 3: Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_MAX_POOLS: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


def convolution(
    dims: int,
    channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
) -> Conv2d | Conv3d:
    """A convolution of `dims` axes; padding None is kernel // 2, which keeps the size at stride 1."""
    padding = kernel // 2 if padding is None else padding
    return _CONVOLUTIONS[dims](channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)


def transposed(dims: int, channels: int, out_channels: int, stride: int = 2) -> nn.Module:
    """A transposed convolution without bias that makes a map `stride` times as large."""
    return _TRANSPOSED[dims](channels, out_channels, stride, stride, bias=False)


def max_pool(dims: int, stride: int = 2) -> nn.Module:
    """The largest of each `stride` along every axis."""
    return _MAX_POOLS[dims](stride)


def batch_norm(dims: int, channels: int) -> nn.Module:
    """Batch norm, as torch's defaults."""
    return _BATCH_NORMS[dims](channels)


class LinearUpsample(nn.Module):
    """A map (B, C, *S) to (B, C, *(factor * S)), linear between the centres of voxels."""

    def __init__(self, dims: int, factor: int = 2) -> None:
        super().__init__()
        self.mode, self.factor = _LINEAR[dims], factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *(factor * S))."""
        y: Tensor = functional.interpolate(x, scale_factor=float(self.factor), mode=self.mode, align_corners=False)
        return y


class InstanceNorm(nn.Module):
    """Each channel of each map to mean 0 and deviation 1, without weights; a map of one voxel becomes zero."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        return functional.group_norm(x, self.channels, eps=self.eps)

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"{self.channels}, eps={self.eps}"


def tokens(x: Tensor) -> Tensor:
    """A map (B, C, *S) as tokens (B, L, C) in row-major order; a view."""
    return x.flatten(2).transpose(1, 2)


def untokens(x: Tensor, size: Sequence[int]) -> Tensor:
    """Tokens (B, L, C) as the map (B, C, *size); a view, which lies channel-last."""
    map_of: Tensor = x.transpose(1, 2).unflatten(2, tuple(size))
    return map_of
