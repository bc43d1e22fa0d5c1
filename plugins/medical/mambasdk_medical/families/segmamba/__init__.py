"""SegMamba (arXiv 2401.13560): volumes segmented with scans in three orientations. Needs torch."""

from mambasdk_medical.families.segmamba.checkpoint import import_segmamba
from mambasdk_medical.families.segmamba.config import SegMambaConfig
from mambasdk_medical.families.segmamba.mixer import TriOrientedMamba
from mambasdk_medical.families.segmamba.model import SegMamba, build

__all__ = ["SegMamba", "SegMambaConfig", "TriOrientedMamba", "build", "import_segmamba"]
