"""FER-YOLO-Mamba (arXiv 2405.01828): faces and their expressions by a YOLO with eight-route scans. Needs torch."""

from mambasdk_vision.families.fer_yolo_mamba.checkpoint import import_fer_yolo_mamba
from mambasdk_vision.families.fer_yolo_mamba.config import FerYoloMambaConfig
from mambasdk_vision.families.fer_yolo_mamba.model import FerYoloMamba, build
from mambasdk_vision.families.fer_yolo_mamba.neck import FerVSSBlock

__all__ = ["FerVSSBlock", "FerYoloMamba", "FerYoloMambaConfig", "build", "import_fer_yolo_mamba"]
