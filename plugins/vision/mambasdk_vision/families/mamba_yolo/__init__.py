"""Mamba-YOLO (arXiv 2406.05835): objects in images by a YOLO of routed scans. Needs torch."""

from mambasdk_vision.families.mamba_yolo.blocks import ODSSBlock, XSSBlock
from mambasdk_vision.families.mamba_yolo.checkpoint import import_mamba_yolo
from mambasdk_vision.families.mamba_yolo.config import MambaYoloConfig
from mambasdk_vision.families.mamba_yolo.model import MambaYolo, build

__all__ = ["MambaYolo", "MambaYoloConfig", "ODSSBlock", "XSSBlock", "build", "import_mamba_yolo"]
