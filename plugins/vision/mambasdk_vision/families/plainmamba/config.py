"""The configuration of a PlainMamba and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair

_SIZES = ("patch_size", "in_channels", "num_classes", "embed_dims", "num_layers", "d_state", "expand", "conv_size")
_INITS = ("recipe", "module")


@dataclass
class PlainMambaConfig:
    """A PlainMamba; the defaults are L1's (arXiv 2403.17695).

    img_size: height and width that the position table is for, one integer for both; images of other sizes resize it.
    patch_size: of a token, an even number. in_channels: of the image. num_classes: of the head.
    embed_dims: C, of every layer. num_layers: their number. num_convs_patch_embed: 3x3 convolutions of the stem.
    layers_with_dwconv: layers that end in a depthwise convolution. d_state: N. expand: E = expand * C.
    dt_rank: R, "auto" is ceil(C / 16). conv_size: side of the convolution before the scan. conv_bias: of that
    convolution. bias: of the mixer's linear layers.
    params_follow_route: whether step size, B and C are those of the pixel that a route visits, as the paper has it.
    Released models take them from pixel t, counted row by row, in step t of every route, and have been trained so.
    init: "recipe" draws every linear layer normal with deviation 0.02, dt_proj too, as the released models began;
    "module" as the mixer's constructor does, with step sizes from 1e-3 to 0.1.
    drop_path_rate: of the last layer. out_indices: layers whose maps come out, each through its own norm; "quarters"
    are the last of each quarter of the layers, empty makes a classifier.
    """

    img_size: int | Sequence[int] = 224
    patch_size: int = 16
    in_channels: int = 3
    num_classes: int = 1000
    embed_dims: int = 192
    num_layers: int = 24
    num_convs_patch_embed: int = 1
    layers_with_dwconv: Sequence[int] = (0,)
    d_state: int = 16
    expand: int = 2
    dt_rank: int | Literal["auto"] = "auto"
    conv_size: int = 7
    conv_bias: bool = True
    bias: bool = True
    params_follow_route: bool = False
    init: Literal["recipe", "module"] = "recipe"
    drop_path_rate: float = 0.0
    out_indices: Sequence[int] | Literal["quarters"] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.img_size = pair(self.img_size, "img_size", where)
        self.layers_with_dwconv = tuple(self.layers_with_dwconv)
        for name in _SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected="an integer of 1 or more", got=repr(value)
                )
        if self.patch_size % 2:
            raise InvalidArgumentError("bad patch_size", where=where, expected="an even number", got=self.patch_size)
        if not self.conv_size % 2:
            raise InvalidArgumentError("bad conv_size", where=where, expected="an odd number", got=self.conv_size)
        if self.init not in _INITS:
            raise InvalidArgumentError("bad init", where=where, expected=" or ".join(_INITS), got=repr(self.init))
        if self.out_indices == "quarters":
            self.out_indices = [max(self.num_layers * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)]
        self.out_indices = tuple(self.out_indices)
        for name in ("layers_with_dwconv", "out_indices"):
            layers = getattr(self, name)
            if any(layer not in range(self.num_layers) for layer in layers) or list(layers) != sorted(layers):
                raise InvalidArgumentError(
                    f"bad {name}",
                    where=where,
                    expected=f"layers in order, from 0 to {self.num_layers - 1}",
                    got=layers,
                )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the position table is for."""
        return pair(self.img_size, "img_size", type(self).__name__)

    @property
    def maps(self) -> tuple[int, ...]:
        """Layers whose maps come out."""
        assert not isinstance(self.out_indices, str)
        return tuple(self.out_indices)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the position table: every pixel counts, what is short of a patch is filled with zeros."""
        half = self.patch_size // 2
        rows, columns = (-(-((side + 1) // 2) // half) for side in self.image_size)
        return rows, columns
