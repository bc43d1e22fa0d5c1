"""Top-down pose by heat maps (arXiv 1804.06208) on any encoder that gives a map of stride 4. Needs torch."""

from mambasdk_vision.families.heatmap_pose.checkpoint import import_heatmap_pose
from mambasdk_vision.families.heatmap_pose.config import HeatmapPoseConfig
from mambasdk_vision.families.heatmap_pose.model import HeatmapPose, build

__all__ = ["HeatmapPose", "HeatmapPoseConfig", "build", "import_heatmap_pose"]
