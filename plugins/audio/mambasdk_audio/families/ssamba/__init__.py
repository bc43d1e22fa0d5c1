"""SSAMBA: self-supervised audio encoder on bidirectional Mamba (arXiv 2405.11831)."""

from mambasdk_audio.families.ssamba.checkpoint import import_ssamba
from mambasdk_audio.families.ssamba.config import SsambaConfig
from mambasdk_audio.families.ssamba.encoder import Encoder
from mambasdk_audio.families.ssamba.masking import sample_mask
from mambasdk_audio.families.ssamba.model import Ssamba, build, for_fine_tuning
from mambasdk_audio.families.ssamba.position import resample_positions

__all__ = [
    "Encoder",
    "Ssamba",
    "SsambaConfig",
    "build",
    "for_fine_tuning",
    "import_ssamba",
    "resample_positions",
    "sample_mask",
]
