"""Images for mambasdk: preparation and results of vision models."""

from mambasdk_vision.processors import (
    ImageClassification,
    ImageProcessor,
    MaskProcessor,
    ObjectDetection,
    SemanticSegmentation,
)

__version__ = "0.1.0"
__all__ = [
    "ImageClassification",
    "ImageProcessor",
    "MaskProcessor",
    "ObjectDetection",
    "SemanticSegmentation",
    "__version__",
]
