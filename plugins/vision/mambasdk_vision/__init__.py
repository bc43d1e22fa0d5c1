"""Images for mambasdk: preparation and results of vision models."""

from mambasdk_vision.processors import (
    BottomUpPose,
    ImageClassification,
    ImageProcessor,
    MaskProcessor,
    ObjectDetection,
    PersonCrop,
    PoseEstimation,
    SemanticSegmentation,
)

__version__ = "0.1.0"
__all__ = [
    "BottomUpPose",
    "ImageClassification",
    "ImageProcessor",
    "MaskProcessor",
    "ObjectDetection",
    "PersonCrop",
    "PoseEstimation",
    "SemanticSegmentation",
    "__version__",
]
