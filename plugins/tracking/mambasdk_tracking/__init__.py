"""Multi-object tracking for mambasdk: detections in, tracks out."""

from mambasdk_tracking.processors import DetectionsProcessor
from mambasdk_tracking.tracker import Tracker, kalman_predict, kalman_update, linear_assignment

__version__ = "0.1.0"
__all__ = [
    "DetectionsProcessor",
    "Tracker",
    "__version__",
    "kalman_predict",
    "kalman_update",
    "linear_assignment",
]
