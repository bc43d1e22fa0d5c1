"""What models that find objects have in common: boxes and scores, the loss of an image's objects, other classes."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_vision.model import ImageModel, adapted, field_of
from mambasdk_vision.nn.image_input import check_image


class Detector(ImageModel, abc.ABC):
    """An ImageModel whose outputs are `boxes` (B, A, 4) and `scores` (B, A, classes) of A places of the image.

    `forward(image)` gives the raw maps (B, C, h, w) of every level, which `decode` turns into boxes and `loss` compares
    with the objects that there are. A subclass's configuration has `num_classes`, `in_chans` and `image_size`.

    strides: pixels of the image for each pixel of a level's map. multiple: sides of the image are multiples of it.
    ends: beginnings of the names of tensors that depend on the number of classes.
    """

    strides: tuple[int, ...] = ()
    multiple = 32
    where = "Detector"

    @abc.abstractmethod
    def decode(self, raw: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (B, A, 4), centre, width and height in pixels of the model's image, and probabilities (B, A, classes).

        raw: what `forward` gives. Both are float32 where the maps are narrower.
        """

    @abc.abstractmethod
    def loss(self, raw: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """`loss`, which training lowers, and its parts by name.

        raw: what `forward` gives in training. targets: for each image (n, 5), its objects, n of 0 or more: class,
        and the box's centre, width and height as shares of the image.
        """

    @abc.abstractmethod
    def draw_classes(self) -> None:
        """Draw the layers that tell the classes apart anew, as the constructor does."""

    @property
    def classes(self) -> int:
        """How many kinds of objects there are."""
        count: int = self.config.num_classes
        return count

    def with_classes(self, count: int) -> nn.Module:
        """The model for `count` kinds of objects: what tells them apart is drawn anew, all else has these weights."""
        module: nn.Module = self  # type: ignore[assignment]
        changes: dict[str, Any] = {field_of(module, "num_classes"): count}
        made: Detector = adapted(module, **changes)  # type: ignore[assignment]
        made.draw_classes()
        return made  # type: ignore[return-value]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`boxes` and `scores`, see `decode`."""
        module: nn.Module = self  # type: ignore[assignment]
        boxes, scores = self.decode(module(inputs["image"]))
        return {"boxes": boxes, "scores": scores}

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        size = (2, self.config.in_chans, 2 * self.multiple, 3 * self.multiple)
        return {"image": torch.randn(size, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free."""
        return {"image": ["B", self.config.in_chans, "H", "W"]}

    def package_head_options(self) -> Mapping[str, Any]:
        """What the head `object_detection` has to know: the format of the boxes; one class a box, as YOLO predicts."""
        return {"box_format": "cxcywh", "multi_label": False, "score_threshold": 0.25, "iou_threshold": 0.7}

    def check_image(self, image: Tensor) -> None:
        """Raise ShapeError or DtypeError unless image is (B, C, H, W) with sides that are multiples of `multiple`."""
        check_image(image, self.config.in_chans, self.where, least=self.multiple)
        if image.shape[2] % self.multiple or image.shape[3] % self.multiple:
            raise ShapeError(
                "bad image size",
                where=self.where,
                expected=f"H and W that are multiples of {self.multiple}",
                got=tuple(image.shape),
                way_out='the image processor\'s resize "letterbox" pads images to such a size',
            )


def check_targets(targets: Sequence[Tensor], batch: int, classes: int, where: str) -> None:
    """Raise ShapeError or InvalidArgumentError unless targets are (n, 5) for each image, of known classes."""
    if len(targets) != batch:
        raise ShapeError(
            "bad targets", where=where, expected=f"one tensor for each of {batch} images", got=len(targets)
        )
    for index, rows in enumerate(targets):
        if rows.ndim != 2 or rows.shape[1] != 5:
            raise ShapeError(
                f"bad targets of image {index}",
                where=where,
                expected="(n, 5): class, centre x, centre y, width, height",
                got=tuple(rows.shape),
            )
        if rows.numel() and not (int(rows[:, 0].min()) >= 0 and int(rows[:, 0].max()) < classes):
            raise InvalidArgumentError(
                f"a class of image {index} is out of range",
                where=where,
                expected=f"0 to {classes - 1}",
                got=rows[:, 0].tolist(),
            )
