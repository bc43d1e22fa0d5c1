"""How well label maps agree: overlap, surfaces, instances, and a report over cases. NumPy and SciPy, no torch."""

from mambasdk_medical.metrics.instances import instance_scores, instances_of
from mambasdk_medical.metrics.report import Report
from mambasdk_medical.metrics.scores import scores
from mambasdk_medical.metrics.surface import Surfaces

__all__ = ["Report", "Surfaces", "instance_scores", "instances_of", "scores"]
