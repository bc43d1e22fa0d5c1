"""Graphs for mambasdk: Graph-Mamba and GMN, graphs as tensors, neighbourhood tokens, readers and metrics."""

__version__ = "0.1.0"
