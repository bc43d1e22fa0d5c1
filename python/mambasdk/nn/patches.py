"""Patches of an image, each to a vector."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """Image (B, C, H, W) to tokens (B, M, D), row by row; what remains at the bottom and right is not seen.

    channels: C. dim: D. patch, stride: (height, width); a stride below the patch makes patches overlap.
    proj.weight: (D, C, height, width), proj.bias: (D), drawn as torch's Conv2d does.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        patch: tuple[int, int],
        stride: tuple[int, int] | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride or patch, device=device, dtype=dtype)

    def forward(self, image: Tensor) -> Tensor:
        """Map image (B, C, H, W) to tokens (B, M, D)."""
        y: Tensor = self.proj(image)
        return y.flatten(2).transpose(1, 2)
