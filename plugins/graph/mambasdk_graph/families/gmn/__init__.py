"""Graph Mamba Network (arXiv 2402.08678): configuration, model, checkpoints. Needs torch."""

from mambasdk_graph.families.gmn.checkpoint import import_gmn
from mambasdk_graph.families.gmn.config import GMNConfig
from mambasdk_graph.families.gmn.model import GMN, build

__all__ = ["GMN", "GMNConfig", "build", "import_gmn"]
