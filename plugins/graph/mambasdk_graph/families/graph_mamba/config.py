"""The configuration of a Graph-Mamba."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk_graph.config import check_choice, check_numbers
from mambasdk_graph.families.graph_mamba.gps import ORDERS
from mambasdk_graph.families.graph_mamba.graphgym import HEADS
from mambasdk_graph.nn.encoders import check_encoders
from mambasdk_graph.nn.layers import POOLINGS

_WHERE = "graph_mamba"


@dataclass
class GraphMambaConfig:
    """A Graph-Mamba; the defaults are those of its MNIST configuration.

    dim_in: F, node features (of "linear"). edge_dim: Fe (of "linear"). dim_out: C. d_model: D. n_layer: GPS layers.
    node_encoder: "linear"; "atom", OGB's nine categories; "none", features are D wide already. edge_encoder: "linear";
    "bond", OGB's three; "dummy", one learned vector; "none". pe_width: P, columns of D that the Laplacian encoding
    takes, 0 for none; max_freqs: K, eigenpairs; pe_layers: of its MLP. join_x: the encoding's own linear layer takes
    the features ("LapPE" alone upstream), else the node encoder does. node_encoder_bn, edge_encoder_bn: batch norm
    after the encoders. layers_pre_mp: layers before the GPS layers, with batch norm. layers_post_mp: of the head's MLP.
    order: how nodes become a sequence: "none" by index, "random", "degree" ascending, "degree_random" with ties drawn.
    buckets: random sequences per graph, 0 for one. eval_passes: draws that evaluation averages. seed: of those draws.
    head: "graph", "node" or "edge". pooling: "mean" or "max" of a graph's nodes. d_state, d_conv, expand: the Mamba's.
    """

    dim_in: int = 3
    edge_dim: int = 1
    dim_out: int = 10
    d_model: int = 52
    n_layer: int = 3
    node_encoder: str = "linear"
    edge_encoder: str = "linear"
    pe_width: int = 8
    max_freqs: int = 8
    pe_layers: int = 2
    join_x: bool = True
    node_encoder_bn: bool = False
    edge_encoder_bn: bool = False
    layers_pre_mp: int = 0
    layers_post_mp: int = 3
    order: str = "degree_random"
    buckets: int = 0
    eval_passes: int = 5
    seed: int = 0
    head: str = "graph"
    pooling: str = "mean"
    d_state: int = 16
    d_conv: int = 4
    expand: float = 1
    dropout: float = 0.0
    attn_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(_WHERE, 1, **{n: getattr(self, n) for n in ("dim_in", "dim_out", "d_model", "n_layer")})
        check_numbers(_WHERE, 1, eval_passes=self.eval_passes, layers_post_mp=self.layers_post_mp)
        check_numbers(_WHERE, 0, pe_width=self.pe_width, layers_pre_mp=self.layers_pre_mp, buckets=self.buckets)
        check_numbers(_WHERE, 0, edge_dim=self.edge_dim, max_freqs=self.max_freqs, seed=self.seed)
        check_encoders(_WHERE, self.node_encoder, self.edge_encoder, self.dim_in, self.d_model - self.pe_width)
        check_choice(_WHERE, "order", self.order, ORDERS)
        check_choice(_WHERE, "head", self.head, HEADS)
        check_choice(_WHERE, "pooling", self.pooling, tuple(POOLINGS))
        if self.pe_width:
            check_numbers(_WHERE, 1, max_freqs=self.max_freqs)
