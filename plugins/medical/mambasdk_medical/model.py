"""What models of medical images have in common. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import Model
from mambasdk_medical.config import MedicalConfig


class MedicalModel(Model):
    """Base of a model of patches, beside `torch.nn.Module`: `image` (B, C, *patch) to `logits`.

    config: its MedicalConfig.
    """

    config: MedicalConfig

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """Every extent of a patch is a multiple of these."""
        return (1,) * self.config.spatial_dims

    def check_image(self, image: Tensor) -> None:
        """Raises ShapeError for what is not (B, C, *S) with extents that the model divides."""
        where = type(self).__name__
        dims, channels, divisor = self.config.spatial_dims, self.config.in_channels, self.patch_divisor
        if image.ndim != dims + 2 or image.shape[1] != channels:
            axes = "H, W" if dims == 2 else "D, H, W"
            raise ShapeError("bad image", where=where, expected=f"(B, {channels}, {axes})", got=tuple(image.shape))
        if any(extent % step for extent, step in zip(image.shape[2:], divisor, strict=True)):
            raise ShapeError(
                "the image's size does not divide",
                where=where,
                expected=f"multiples of {divisor}",
                got=tuple(image.shape[2:]),
                way_out="pad the image, or predict it in tiles",
            )

    def example_inputs(self) -> dict[str, Tensor]:
        """Two patches of noise."""
        size = (2, self.config.in_channels, *self.config.patch_size)
        return {"image": torch.randn(size, generator=torch.Generator().manual_seed(0))}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits`."""
        module: nn.Module = self  # type: ignore[assignment]
        return {"logits": module(inputs["image"])}

    @property
    def classes(self) -> int | None:
        """Channels of the logits."""
        return self.config.num_classes


class MedicalSegmenter(MedicalModel):
    """Base of a segmenter, beside `torch.nn.Module`: `image` (B, C, *patch) to `logits` (B, classes, *patch).

    Logits stand before softmax (labels) or sigmoid (regions, or one class). config: its MedicalConfig. A package's
    program is for tiles of the patch's size; images of any size are cut into them (`medical_segmentation`).
    """

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """What deep supervision looks at: logits (B, classes, *size), full resolution first, each later one smaller.

        Without deep supervision the model's logits alone.
        """
        module: nn.Module = self  # type: ignore[assignment]
        return [module(image)]
