"""The configuration of an UltraLight VM-UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig

STAGES = 6
PARTS = 4  # of the channels, for the mixer and for the group norms


@dataclass
class UltraLightVMUNetConfig(MedicalConfig):
    """An UltraLight VM-UNet; the defaults are the published ones, for ISIC's photographs (arXiv 2403.20035).

    patch_size, in_channels, num_classes: see MedicalConfig; sides are multiples of 32. widths: channels of the six
    stages, upstream's `c_list`, multiples of 4. d_state, d_conv, expand: N, K and I per channel of the Mamba mixers,
    see `mambasdk.nn.Mamba`. bridge: attention on the skips.
    """

    patch_size: Sequence[int] = (256, 256)
    in_channels: int = 3
    num_classes: int = 1
    widths: Sequence[int] = (8, 16, 24, 32, 48, 64)
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    bridge: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.spatial_dims != 2:
            raise InvalidArgumentError("bad patch_size", where=where, expected="(H, W)", got=self.patch_size)
        self.widths = tuple(self.widths)
        if len(self.widths) != STAGES or any(
            isinstance(width, bool) or not isinstance(width, int) or width < PARTS or width % PARTS
            for width in self.widths
        ):
            raise InvalidArgumentError(
                "bad widths", where=where, expected=f"{STAGES} multiples of {PARTS}", got=self.widths
            )
        for name in ("d_state", "d_conv", "expand"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="1 or more", got=getattr(self, name))
