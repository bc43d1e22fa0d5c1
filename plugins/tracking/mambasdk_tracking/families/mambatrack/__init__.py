"""MambaTrack's motion predictor (arXiv 2408.09178): configuration, model, checkpoints. Needs torch."""

from mambasdk_tracking.families.mambatrack.checkpoint import import_mambatrack
from mambasdk_tracking.families.mambatrack.config import MambaTrackConfig
from mambasdk_tracking.families.mambatrack.model import MotionPredictor, build, motion_loss

__all__ = ["MambaTrackConfig", "MotionPredictor", "build", "import_mambatrack", "motion_loss"]
