"""The configuration of a Graph Mamba Network."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.config import check_choice, check_numbers
from mambasdk_graph.nn.encoders import check_encoders
from mambasdk_graph.nn.layers import POOLINGS

_WHERE = "gmn"
NODE_ORDERS = ("degree", "core", "page_rank")
HEADS = ("graph", "node", "none")


@dataclass
class GMNConfig:
    """A Graph Mamba Network.

    dim_in: F. edge_dim: Fe. dim_out: C. d_model: D. walk_length: m, the longest walk; 0 gives each node the token of
    itself alone. walks: M per token. repeats: s tokens of each length. sub_layers: bidirectional blocks over the tokens
    of a node. node_layers: those over all nodes of a graph, 0 for none. node_order: what sorts these, ascending.
    mpnn: add a gated graph convolution of the features at the end. bidirectional: False keeps the forward half.
    residual: add a block's input to its output. node_encoder, edge_encoder: "linear", "atom" or "bond" (OGB's
    categories), "dummy" (one learned vector for all edges), "none" (features are D wide already).
    max_freqs: K Laplacian eigenvectors beside the features, 0 for none. flip_signs: training turns their signs at
    random, which only a model of many graphs wants. random_walk_se: R return probabilities beside the features.
    head: "graph" (mean or max of the nodes by `pooling`), "node", or "none", whose logits are the nodes' vectors.
    d_state, d_conv, expand: of the Mamba blocks. dropout: of the nodes' vectors before the head. seed: of the
    walks.
    """

    dim_in: int = 3
    edge_dim: int = 1
    dim_out: int = 10
    d_model: int = 64
    walk_length: int = 4
    walks: int = 2
    repeats: int = 2
    sub_layers: int = 1
    node_layers: int = 1
    node_order: str = "degree"
    mpnn: bool = True
    bidirectional: bool = True
    residual: bool = True
    node_encoder: str = "linear"
    edge_encoder: str = "linear"
    max_freqs: int = 0
    flip_signs: bool = True
    random_walk_se: int = 0
    head: str = "graph"
    pooling: str = "mean"
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(_WHERE, 1, dim_in=self.dim_in, dim_out=self.dim_out, d_model=self.d_model)
        check_numbers(_WHERE, 1, walks=self.walks, repeats=self.repeats, sub_layers=self.sub_layers)
        check_numbers(_WHERE, 0, walk_length=self.walk_length, node_layers=self.node_layers, edge_dim=self.edge_dim)
        check_numbers(_WHERE, 0, max_freqs=self.max_freqs, random_walk_se=self.random_walk_se, seed=self.seed)
        check_encoders(_WHERE, self.node_encoder, self.edge_encoder, self.dim_in, self.d_model)
        check_choice(_WHERE, "node_order", self.node_order, NODE_ORDERS)
        check_choice(_WHERE, "head", self.head, HEADS)
        check_choice(_WHERE, "pooling", self.pooling, tuple(POOLINGS))
        if self.node_encoder != "linear" and self.max_freqs + self.random_walk_se:
            raise InvalidArgumentError(
                "encodings beside features need a layer that takes both",
                where=_WHERE,
                expected="node_encoder 'linear'",
                got=repr(self.node_encoder),
            )

    @property
    def tokens_per_node(self) -> int:
        """L = s (m + 1)."""
        return self.repeats * (self.walk_length + 1)
