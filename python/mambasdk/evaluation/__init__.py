"""What `mambasdk evaluate` measures: metrics, tables and pictures that a head makes of a package and data. No torch."""

from mambasdk.evaluation.classification import ClassScores, classification, confusion_matrix, draw_confusion
from mambasdk.evaluation.evaluation import Evaluation

__all__ = ["ClassScores", "Evaluation", "classification", "confusion_matrix", "draw_confusion"]
