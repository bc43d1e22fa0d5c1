"""A map at positions that are computed: the sampling of deformable convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk.ops._failure import typed


@typed
def deformable_sample(
    x: Tensor,
    offset_mask: Tensor,
    groups: int = 1,
    kernel_size: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    offset_scale: float = 1.0,
) -> Tensor:
    """The sum over a window's taps of x at moved positions, times a mask of each; differentiable in both tensors.

    With (kh, kw) the window, p = output position * stride - padding the window's first element, and T = kh * kw taps::

        y[p, group g] = sum over t of mask_t * x[p + centre + (tap_t - centre + offset_t) * offset_scale, group g]
        tap_t = dilation * (t % kh, t // kh)  (height, width),    centre = dilation * (kernel - 1) // 2

    x between elements is linear in height and width, and outside of it 0. Taps run along the height first
    ("width-major"). Source: DCNv4 (arXiv 2401.06197), whose masks are neither normalised nor bounded.

    Args:
        x: (batch, H, W, C), float32, bfloat16, float16 or float64; sums are in float32 (float64).
        offset_mask: (batch, h, w, E) in the dtype of x, E >= groups * 3 T. Entries [3 T g, 3 T (g + 1)) are group g's:
            2 T offsets in elements of x, (width, height) of tap 0, of tap 1, …; then T masks. What comes behind the
            last group is not read. h and w are those of a convolution with this window.
        groups: groups of C / groups neighbouring channels, each with its own offsets and masks.
        kernel_size, stride, padding, dilation: of both axes, or (height, width). At most 128 taps.
        offset_scale: factor of taps and offsets, about the window's centre.

    Returns:
        y: (batch, h, w, C) as x. The gradient of x is summed in one order whatever the number of threads.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    window = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    sides = {name: (value, value) if isinstance(value, int) else value for name, value in window.items()}
    y: Tensor = torch.ops.mambasdk.deformable_sample(
        x,
        offset_mask,
        groups=groups,
        **{f"{name}_{axis}": side for name, pair in sides.items() for axis, side in zip("hw", pair, strict=True)},
        offset_scale=offset_scale,
    )
    return y
