"""DCNv4: a convolution whose taps move, and are weighted, by what the map itself says."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_vision.nn.maps import MapConv2d


class DCNv4(nn.Module):
    """Deformable convolution v4 (arXiv 2401.06197) from (B, H, W, C) to the same shape, stride 1.

    channels: C. groups: G, of C / G channels, each with its own offsets and masks. kernel_size: of the square window,
    an odd number K. offset_scale: factor of taps and offsets. depthwise: a depthwise 3 x 3 convolution before the layer
    that gives offsets and masks. projections: linear layers on channels before and after the sampling, without which no
    channel sees another but through offsets and masks.

    Parameters: offset_mask (E, C) with bias, E = 8 * ceil(3 K^2 G / 8), whose entries are as
    `mambasdk.ops.deformable_sample` has them; offset_mask_dw; value_proj with bias and output_proj without. Offsets and
    masks start near zero (deviation 0.02), so that without a trained layer little comes through.
    Raises InvalidArgumentError for numbers that do not fit, and forward ShapeError.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 1,
        kernel_size: int = 3,
        *,
        offset_scale: float = 1.0,
        depthwise: bool = False,
        projections: bool = False,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise InvalidArgumentError("bad groups", where="DCNv4", expected=f"a divisor of {channels}", got=groups)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InvalidArgumentError("bad kernel_size", where="DCNv4", expected="an odd number", got=kernel_size)
        self.channels, self.groups, self.kernel_size, self.offset_scale = channels, groups, kernel_size, offset_scale
        entries = -(-3 * kernel_size**2 * groups // 8) * 8
        self.offset_mask_dw: nn.Module = (
            MapConv2d(channels, channels, 3, padding=1, groups=channels) if depthwise else nn.Identity()
        )
        self.offset_mask = nn.Linear(channels, entries)
        self.value_proj: nn.Module = nn.Linear(channels, channels) if projections else nn.Identity()
        self.output_proj: nn.Module = nn.Linear(channels, channels, bias=False) if projections else nn.Identity()
        nn.init.trunc_normal_(self.offset_mask.weight, std=0.02)
        nn.init.zeros_(self.offset_mask.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        if x.ndim != 4 or x.shape[-1] != self.channels:
            raise ShapeError("bad x", where="DCNv4", expected=f"(B, H, W, {self.channels})", got=tuple(x.shape))
        entries = self.offset_mask(self.offset_mask_dw(x))
        y = ops.deformable_sample(
            self.value_proj(x),
            entries,
            groups=self.groups,
            kernel_size=self.kernel_size,
            padding=self.kernel_size // 2,
            offset_scale=self.offset_scale,
        )
        out: Tensor = self.output_proj(y)
        return out

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        named: dict[str, Any] = {"groups": self.groups, "offset_scale": self.offset_scale}
        return ", ".join([str(self.channels), *(f"{name}={value}" for name, value in named.items())])
