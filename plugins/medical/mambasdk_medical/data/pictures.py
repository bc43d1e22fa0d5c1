"""Two-dimensional pictures by Pillow: PNG and TIFF, grey or colours, of 8 or 16 bits, or floats in TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import LabelMap

_CONVERTED = {"RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
NO_SPACING = (999.0, 1.0, 1.0)  # a single slice, as nnU-Net writes it


def read(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Samples (C, 1, H, W): one channel for grey and for indices of a palette, else red, green, blue."""
    module: Any = require_module("PIL.Image", "reading pictures", "pip install pillow")
    try:
        with module.open(path) as picture:
            pages = getattr(picture, "n_frames", 1)
            picture.load()
            mode = _CONVERTED.get(picture.mode)
            samples = np.asarray(picture if mode is None else picture.convert(mode))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidArgumentError(f"cannot be read as a picture: {reason}", where=str(path)) from error
    if pages > 1:
        raise InvalidArgumentError(
            f"{pages} pages", where=str(path), expected="one picture", way_out="write volumes as NIfTI"
        )
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8)
    channels = samples[None] if samples.ndim == 2 else samples.transpose(2, 0, 1)
    return channels[:, None], Geometry(NO_SPACING, (1, *channels.shape[1:]))


def write(path: Path, labels: LabelMap, geometry: Geometry) -> None:
    """Write a label map (1, H, W) as grey of 8 bits, or 16 where there are more than 256 labels."""
    del geometry
    module: Any = require_module("PIL.Image", "writing pictures", "pip install pillow")
    kind = np.uint8 if labels.max(initial=0) < 256 else np.uint16
    module.fromarray(np.ascontiguousarray(labels[0], kind)).save(path)
