"""MedMamba: patches, stages of SSConvSSM blocks with merging of patches between, and logits or maps of every stage."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk_medical.families.medmamba.block import SSConvSSM
from mambasdk_medical.families.medmamba.config import MedMambaConfig
from mambasdk_medical.nn.vss import PatchEmbed
from mambasdk_vision.model import ImageClassifier
from mambasdk_vision.nn import check_image
from mambasdk_vision.nn.downsampling import PatchMerging
from mambasdk_vision.nn.stages import StagedEncoder, StageMaps, init_linear, make_stages

_PATCH = 4  # side of the stem's patches


class MedMambaEncoder(StagedEncoder):
    """Patches and stages; parameter names are upstream's.

    Images may have any size of a patch or more. Maps of odd sides get a row or column of zeros where they are halved,
    as VMamba's; a side of 32 times the stem's patches and their halves has none.
    """

    ends = ("head.", "outnorm")
    where = "MedMamba"
    least = _PATCH

    def __init__(self, config: MedMambaConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config.in_chans, config.widths[0], _PATCH)
        self.layers = make_stages(
            config,
            config.drop_path_rate,
            lambda channels, rate: SSConvSSM(channels, config.d_state, rate),
            PatchMerging,
        )
        self.mark_parameters()

    def embed(self, image: Tensor) -> Tensor:
        """See StagedEncoder."""
        check_image(image, self.config.in_chans, self.where, least=self.least)
        x: Tensor = self.patch_embed(image)
        return x


class MedMambaClassifier(ImageClassifier, MedMambaEncoder):
    """Image (B, 3, H, W) to logits (B, classes): the mean over the last map without a norm, then `head`."""

    def __init__(self, config: MedMambaConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.widths[-1], config.num_classes)
        init_linear(self)

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, (B, C of the last stage)."""
        return self.stages(image)[-1].mean(dim=(1, 2))


class MedMambaFeatures(StageMaps, MedMambaEncoder):
    """Image to the maps of the stages in out_indices."""

    def __init__(self, config: MedMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


def build(config: MedMambaConfig) -> MedMambaClassifier | MedMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return MedMambaFeatures(config) if config.out_indices else MedMambaClassifier(config)
