"""The configuration of a Swin-UMamba. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.nn.vss_config import VSSConfig
from mambasdk_medical.plans import NetworkPlan

_DECODERS = ("convolutions", "scans")


@dataclass
class SwinUMambaConfig(VSSConfig):
    """A Swin-UMamba; the defaults are the published ones (arXiv 2402.03302).

    patch_size: sides are multiples of 4 * 2^(stages - 1), 32 for four. in_channels: of the image, as it is: a grey one
    stays one channel. dims, depths, d_state, drop_path_rate: of the encoder, see VSSConfig. decoder: "convolutions",
    or "scans" for the D variant, which has no stem and whose decoder is of VSS blocks. stem_width: channels of the
    stem and of the last stage of a decoder of convolutions. decoder_depth: blocks of each stage of a decoder of scans,
    whose widths double. deep_supervision: whether `training_outputs` gives the coarser logits too.
    """

    in_channels: int = 1
    num_classes: int = 2
    depths: Sequence[int] = (2, 2, 9, 2)
    drop_path_rate: float = 0.1
    decoder: Literal["convolutions", "scans"] = "convolutions"
    stem_width: int = 48
    decoder_depth: int = 2
    deep_supervision: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.decoder not in _DECODERS:
            raise InvalidArgumentError(
                "bad decoder", where=where, expected=" or ".join(map(repr, _DECODERS)), got=repr(self.decoder)
            )
        for name in ("stem_width", "decoder_depth"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="1 or more", got=getattr(self, name))
        if len(self.dims) < 2:
            raise InvalidArgumentError("bad dims", where=where, expected="two stages or more", got=self.dims)

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """Overrides that fit a 2-D plan; its patch is enlarged to what the stages divide."""
        return {**super().for_plan(plan), "deep_supervision": plan.deep_supervision}
