"""Image preparation: a thin face of the native processor `image`."""

from __future__ import annotations

import os
from typing import Any

from mambasdk.pipeline import PluginProcessor, raw_input


class ImageProcessor(PluginProcessor):
    """A PNG or JPEG file, or pixels, to the tensor that a model takes.

    Options, all by keyword: size (224, one integer or height and width), resize ("shortest", "exact" or "none"),
    crop_pct (1.0), interpolation ("bicubic" or "bilinear"; both antialiased as Pillow does), mean and std (of
    samples from 0 to 1), layout ("channels_first" or "channels_last"), output ("image"), max_pixels (67108864).
    """

    plugin = "vision"
    kind = "image"

    def __call__(self, image: str | os.PathLike[str] | bytes | Any) -> dict[str, Any]:
        """image: a path, a file's bytes, or uint8 (H, W, 3). Returns

        image: float32 (1, 3, H, W), or (1, H, W, 3) with layout "channels_last";
        image_size: int64 (2), height and width of the upright original;
        image_transform: float64 (4), scale_x, scale_y, offset_x, offset_y: original = scale * output + offset.

        Raises ValueError for a file that is damaged, too large or of another format.
        """
        return self.run(image=raw_input(image))
