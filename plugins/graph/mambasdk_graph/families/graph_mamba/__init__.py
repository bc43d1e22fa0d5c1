"""Graph-Mamba (arXiv 2402.00789): configuration, layers, model, checkpoints. Needs torch."""

from mambasdk_graph.families.graph_mamba.checkpoint import import_graph_mamba
from mambasdk_graph.families.graph_mamba.config import GraphMambaConfig
from mambasdk_graph.families.graph_mamba.gps import GPSLayer, NodeOrder
from mambasdk_graph.families.graph_mamba.model import GraphMamba, build

__all__ = ["GPSLayer", "GraphMamba", "GraphMambaConfig", "NodeOrder", "build", "import_graph_mamba"]
