"""DEKR (arXiv 2104.02300), bottom-up pose: a centre for each person, and displacements to the keypoints. Needs torch."""

from mambasdk_vision.families.dekr.checkpoint import import_dekr
from mambasdk_vision.families.dekr.config import DEKRConfig
from mambasdk_vision.families.dekr.model import DEKR, AdaptiveBlock, build

__all__ = ["DEKR", "AdaptiveBlock", "DEKRConfig", "build", "import_dekr"]
