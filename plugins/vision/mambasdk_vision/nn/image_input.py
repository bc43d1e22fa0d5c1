"""Checks of what comes in: image sizes in a configuration, and the tensor of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mambasdk.errors import DtypeError, InvalidArgumentError, ShapeError


def pair(value: int | Sequence[int], name: str, where: str) -> tuple[int, int]:
    """(height, width) of one size for both or of two; raises InvalidArgumentError for anything else."""
    sizes: list[Any] = [value, value] if isinstance(value, int) else list(value)
    if len(sizes) != 2 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise InvalidArgumentError(
            f"bad {name}", where=where, expected="an integer of 1 or more, or [height, width]", got=repr(value)
        )
    return sizes[0], sizes[1]


def check_image(
    image: Tensor, channels: int, where: str, *, size: tuple[int, int] | None = None, least: int = 1, way_out: str = ""
) -> None:
    """Raise ShapeError or DtypeError unless image is floating point (B, channels, H, W), with H, W = size or >= least.

    way_out: what to do about another size.
    """
    height, width = size or ("H", "W")
    expected = f"(B, {channels}, {height}, {width})"
    if image.ndim != 4:
        raise ShapeError("bad image", where=where, expected=expected, got=tuple(image.shape))
    if image.shape[1] != channels:
        names = {1: "grey", 2: "grey with alpha", 3: "colour", 4: "colour with alpha"}
        found = names.get(int(image.shape[1]), f"{image.shape[1]} channels")
        raise ShapeError(
            f"the image is {found}",
            where=where,
            expected=expected,
            got=tuple(image.shape),
            way_out="the image processor makes three channels of any file; image.expand(-1, 3, -1, -1) repeats grey"
            if channels == 3
            else "build the model for as many channels as the images have",
        )
    if size is not None and tuple(image.shape[2:]) != size:
        raise ShapeError(
            "the image has another size than the model was built for",
            where=where,
            expected=expected,
            got=tuple(image.shape),
            way_out=way_out,
        )
    if size is None and (image.shape[2] < least or image.shape[3] < least):
        raise ShapeError(
            "the image is smaller than one patch",
            where=where,
            expected=f"H and W of {least} or more",
            got=tuple(image.shape),
            way_out="resize the image",
        )
    if not image.is_floating_point():
        raise DtypeError(
            "the image holds integers",
            where=where,
            expected="floating point, normalised as in training",
            got=image.dtype,
            way_out="the image processor makes such tensors",
        )
