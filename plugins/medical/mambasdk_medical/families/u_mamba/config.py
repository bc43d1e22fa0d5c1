"""The configuration of a U-Mamba."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk_medical.nn.residual_unet_config import TokenUNetConfig


@dataclass
class UMambaConfig(TokenUNetConfig):
    """A U-Mamba (arXiv 2401.04722).

    placement "enc": in two dimensions a layer follows every other stage, the deepest one among them, in three every
    stage. d_state, d_conv, expand: of the Mamba mixers.
    """

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2

    @property
    def token_stages(self) -> tuple[int, ...]:
        """Stages of the encoder with a Mamba layer after them."""
        if self.placement == "bot":
            return ()
        return self.alternating_stages if self.spatial_dims == 2 else tuple(range(len(self.features_per_stage)))
