"""UPerNet (arXiv 1807.10221): semantic segmentation on the maps of any image encoder. Needs torch."""

from mambasdk_vision.families.upernet.checkpoint import import_upernet
from mambasdk_vision.families.upernet.config import UPerNetConfig
from mambasdk_vision.families.upernet.model import UPerNet, build

__all__ = ["UPerNet", "UPerNetConfig", "build", "import_upernet"]
