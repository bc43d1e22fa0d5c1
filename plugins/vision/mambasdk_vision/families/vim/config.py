"""The configuration of a Vim and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair

Task = Literal["classification", "segmentation", "detection"]
ClassToken = Literal["middle", "first", "none"]
_CHOICES = {
    "class_token": ("middle", "first", "none"),
    "pool": ("mean", "max", "last", "all"),
    "task": ("classification", "segmentation", "detection"),
    "feature_stream": ("mixer", "residual"),
}
_SIZES = ("patch_size", "stride", "depth", "embed_dim", "d_state", "d_conv", "channels", "num_classes", "out_channels")


@dataclass
class VimConfig:
    """A Vim; the defaults are Vim-tiny's (arXiv 2401.09417).

    img_size: height and width, one integer for both. patch_size, stride: of the patch embedding; stride None is
    patch_size. channels: of the image. depth: layers. embed_dim: D. d_state: N. d_conv: K. expand: E = expand * D.
    num_classes: of the head. class_token: where it stands among the M tokens, "middle" is M // 2. pool: what the head
    sees without a class token: "mean", "last", "max" (of the logits) or "all" (one row of logits per token).
    drop_path_rate: of the last layer. rms_norm: else LayerNorm. divide_out: halve the sum of both directions.
    init_layer_scale: start of `mixer.gamma`, None for none. symmetric_init: start the backward direction's step sizes
    as the forward ones; upstream leaves them at softplus(0). rope, rope_residual: rotate the branch, and the residual
    too, before every layer; rope_grid: side of the grid that its frequencies are for. rope_skips_first: with a class
    token, leave the first token out rather than the class token, as upstream does.
    task: "classification" gives logits; "segmentation" maps of strides 4 to 32 (UPerNet); "detection" ViTDet's simple
    feature pyramid. Without classification there is no class token. out_layers, feature_stream: what segmentation
    takes, outputs of those layers' mixers, or the residual stream after them; by default the layers are the last of
    each quarter of the depth. out_channels: of the detection pyramid.
    """

    img_size: int | Sequence[int] = 224
    patch_size: int = 16
    stride: int | None = None
    channels: int = 3
    depth: int = 24
    embed_dim: int = 192
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    num_classes: int = 1000
    class_token: ClassToken = "middle"
    pool: Literal["mean", "max", "last", "all"] = "mean"
    drop_path_rate: float = 0.0
    rms_norm: bool = True
    norm_epsilon: float = 1e-5
    residual_in_fp32: bool = True
    divide_out: bool = True
    init_layer_scale: float | None = None
    symmetric_init: bool = False
    rope: bool = False
    rope_residual: bool = False
    rope_grid: int = 14
    rope_skips_first: bool = False
    task: Task = "classification"
    out_layers: Sequence[int] | None = None
    feature_stream: Literal["mixer", "residual"] = "mixer"
    out_channels: int = 256

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.img_size = pair(self.img_size, "img_size", where)
        self.stride = self.patch_size if self.stride is None else self.stride
        for name in _SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected="an integer of 1 or more", got=repr(value)
                )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected=" or ".join(choices), got=repr(getattr(self, name))
                )
        if min(self.img_size) < self.patch_size:
            raise InvalidArgumentError(
                "the image is smaller than one patch",
                where=where,
                expected=f"img_size of {self.patch_size} or more",
                got=self.img_size,
                way_out="give a larger img_size or a smaller patch_size",
            )
        if self.task != "classification":
            self.class_token = "none"
        if self.out_layers is None:
            self.out_layers = [max(self.depth * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)]
        self.out_layers = tuple(self.out_layers)
        if self.task == "segmentation":
            self._check_out_layers(where)
        if self.rope and self.embed_dim % 4:
            raise InvalidArgumentError(
                "rope needs pairs", where=where, expected="embed_dim a multiple of 4", got=self.embed_dim
            )

    def _check_out_layers(self, where: str) -> None:
        layers: Any = self.out_layers
        if len(layers) != 4 or list(layers) != sorted(layers) or layers[0] < 0 or layers[-1] >= self.depth:
            raise InvalidArgumentError(
                "bad out_layers", where=where, expected=f"four layers in order, from 0 to {self.depth - 1}", got=layers
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return pair(self.img_size, "img_size", type(self).__name__)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches; what remains of the image at the bottom and right is not seen."""
        assert self.stride is not None
        height, width = self.image_size
        return (height - self.patch_size) // self.stride + 1, (width - self.patch_size) // self.stride + 1

    @property
    def class_position(self) -> int | None:
        """Index of the class token among the tokens, None without one."""
        rows, columns = self.grid
        return {"middle": rows * columns // 2, "first": 0, "none": None}[self.class_token]
