"""Swin-UMamba and Swin-UMamba-D (arXiv 2402.03302): segmenters around the encoder of VMamba. Needs torch."""

from mambasdk_medical.families.swin_umamba.checkpoint import begin_from_imagenet, import_swin_umamba
from mambasdk_medical.families.swin_umamba.config import SwinUMambaConfig
from mambasdk_medical.families.swin_umamba.encoder import SwinEncoder
from mambasdk_medical.families.swin_umamba.model import SwinUMamba, build
from mambasdk_medical.families.swin_umamba.scan_decoder import ScanDecoder, SwinUMambaD

__all__ = [
    "ScanDecoder",
    "SwinEncoder",
    "SwinUMamba",
    "SwinUMambaConfig",
    "SwinUMambaD",
    "begin_from_imagenet",
    "build",
    "import_swin_umamba",
]
