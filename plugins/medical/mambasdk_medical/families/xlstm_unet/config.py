"""The configuration of an xLSTM-UNet."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk_medical.nn.residual_unet_config import TokenUNetConfig

_FIRST_2D, _FIRST_3D = 2, 3  # stages before these have convolutions at most


@dataclass
class XLSTMUNetConfig(TokenUNetConfig):
    """An xLSTM-UNet (arXiv 2407.01530).

    placement "enc": in two dimensions a ViL layer follows every other stage from the third on, the deepest one among
    them, and a block of convolutions the second; in three a ViL layer follows every stage from the fourth on, and a
    block of convolutions those before.
    """

    @property
    def token_stages(self) -> tuple[int, ...]:
        """Stages of the encoder with a ViL layer after them."""
        if self.placement == "bot":
            return ()
        if self.spatial_dims == 2:
            return tuple(stage for stage in self.alternating_stages if stage >= _FIRST_2D)
        return tuple(range(_FIRST_3D, len(self.features_per_stage)))

    @property
    def block_stages(self) -> tuple[int, ...]:
        """Stages of the encoder with a block of convolutions after them."""
        if self.placement == "bot":
            return ()
        stages = (1,) if self.spatial_dims == 2 else range(_FIRST_3D)
        return tuple(stage for stage in stages if stage < len(self.features_per_stage))
