"""Images for mambasdk: preparation and results of vision models."""

from mambasdk_vision.processors import (
    ImageClassification,
    ImageProcessor,
    ObjectDetection,
    PersonCrop,
    PoseEstimation,
)

__version__ = "0.1.0"
__all__ = ["ImageClassification", "ImageProcessor", "ObjectDetection", "PersonCrop", "PoseEstimation", "__version__"]
