"""PlainMamba (arXiv 2403.17695): an encoder of one width, whose scans go over the image in snakes. Needs torch."""

from mambasdk_vision.families.plainmamba.checkpoint import import_plainmamba
from mambasdk_vision.families.plainmamba.config import PlainMambaConfig
from mambasdk_vision.families.plainmamba.mixer import PlainMamba2D
from mambasdk_vision.families.plainmamba.model import PlainMambaClassifier, PlainMambaFeatures, build
from mambasdk_vision.families.plainmamba.routes import Snakes, snakes

__all__ = [
    "PlainMamba2D",
    "PlainMambaClassifier",
    "PlainMambaConfig",
    "PlainMambaFeatures",
    "Snakes",
    "build",
    "import_plainmamba",
    "snakes",
]
