"""The family `graph_mamba`: GPS layers whose global branch is a Mamba (arXiv 2402.00789; spec graph-mamba.md, B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.families import encoders
from mambasdk_graph.families.encoders import Categories, LaplacianEncoder, LinearFeatures, NodeEncoder, OneVector
from mambasdk_graph.families.gps import ORDERS, GPSLayer, NodeOrder
from mambasdk_graph.families.graphgym import HEADS, POOLINGS, Head, Stack
from mambasdk_graph.families.model import GraphModel, GraphOutput, check_choice, check_numbers
from mambasdk_graph.graph import Graph

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
        check_choice(_WHERE, "node_encoder", self.node_encoder, encoders.NODE_ENCODERS)
        check_choice(_WHERE, "edge_encoder", self.edge_encoder, encoders.EDGE_ENCODERS)
        check_choice(_WHERE, "order", self.order, ORDERS)
        check_choice(_WHERE, "head", self.head, HEADS)
        check_choice(_WHERE, "pooling", self.pooling, POOLINGS)
        if self.pe_width:
            check_numbers(_WHERE, 1, max_freqs=self.max_freqs)
        if self.node_encoder == "none" and self.dim_in != self.d_model - self.pe_width:
            raise InvalidArgumentError(
                "bad dim_in without a node encoder",
                where=_WHERE,
                expected=f"d_model - pe_width = {self.d_model - self.pe_width}",
                got=self.dim_in,
            )


class FeatureEncoder(nn.Module):
    """Node and edge features to (N, D) and (E, D)."""

    def __init__(self, config: GraphMambaConfig) -> None:
        super().__init__()
        width, pe = config.d_model, config.pe_width
        features = 9 if config.node_encoder == "atom" else config.dim_in
        joined = bool(pe) and config.join_x and config.node_encoder == "linear"
        first: nn.Module = nn.Identity()
        if config.node_encoder == "atom":
            first = Categories(encoders.ATOM_FEATURES, width - pe, "atom_embedding_list")
        elif config.node_encoder == "linear" and not joined:
            first = LinearFeatures(features, width - pe, "x")
        self.node_encoder: nn.Module = first
        if pe:
            laplacian = LaplacianEncoder(width, pe, layers=config.pe_layers, features=features if joined else None)
            self.node_encoder = laplacian if joined else NodeEncoder(first, laplacian)
        self.edge_encoder: nn.Module = nn.Identity()
        if config.edge_encoder == "linear":
            self.edge_encoder = LinearFeatures(config.edge_dim, width, "edge_attr")
        elif config.edge_encoder == "bond":
            self.edge_encoder = Categories(encoders.BOND_FEATURES, width, "bond_embedding_list")
        elif config.edge_encoder == "dummy":
            self.edge_encoder = OneVector(width)
        self.node_encoder_bn = _batch_norm(width) if config.node_encoder_bn else None
        self.edge_encoder_bn = _batch_norm(width) if config.edge_encoder_bn else None
        self._laplacian = bool(pe)

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Of a prepared graph."""
        pairs = (graph.eigvals, graph.eigvecs) if self._laplacian else ()
        h = self.node_encoder(graph.x, *pairs)
        dummy = isinstance(self.edge_encoder, OneVector)
        e = self.edge_encoder(graph.edge_index.shape[1] if dummy else graph.edge_attr)
        if self.node_encoder_bn is not None:
            h = self.node_encoder_bn(h)
        if self.edge_encoder_bn is not None:
            e = self.edge_encoder_bn(e)
        return h, e


def _batch_norm(width: int) -> nn.Module:
    holder = nn.Sequential()
    holder.add_module("bn", nn.BatchNorm1d(width))
    return holder


class GraphMamba(GraphModel):
    """Graph -> GraphOutput. Evaluation averages `eval_passes` random orders, drawn from `seed` or given as noise."""

    def __init__(self, config: GraphMambaConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.encoder = FeatureEncoder(config)
        self.pre_mp = Stack(width, width, config.layers_pre_mp, batch_norm=True) if config.layers_pre_mp else None
        self.layers = nn.ModuleList(
            GPSLayer(
                width,
                d_state=config.d_state,
                d_conv=config.d_conv,
                expand=config.expand,
                dropout=config.dropout,
                attn_dropout=config.attn_dropout,
            )
            for _ in range(config.n_layer)
        )
        self.post_mp = Head(
            width, config.dim_out, layers=config.layers_post_mp, kind=config.head, pooling=config.pooling
        )
        self.order = NodeOrder(config.order, config.buckets)
        self.passes = config.eval_passes if self.order.is_random else 1
        self.extra_inputs = self._extra_inputs()

    def _extra_inputs(self) -> dict[str, list[int | str]]:
        config, found = self.config, {}
        if config.edge_encoder != "dummy":
            width = {"bond": 3, "none": config.d_model}.get(config.edge_encoder, config.edge_dim)
            found["edge_attr"] = ["E", width]
        if config.pe_width:
            found.update(eigvals=["N", config.max_freqs], eigvecs=["N", config.max_freqs])
        if self.order.needs_noise:
            found["noise"] = [config.n_layer, self.passes, "N"]
        if config.buckets > 1:
            found["buckets"] = [config.n_layer, self.passes, "N"]
        if config.head == "edge":
            found["edge_label_index"] = [2, "Q"]
        return found

    def preparation(self) -> dict[str, Any]:
        """Eigenpairs, and the draws of the evaluation's orders."""
        config = self.config
        options: dict[str, Any] = {"laplacian": config.max_freqs if config.pe_width else 0}
        if self.order.is_random:
            options.update(noise_layers=config.n_layer, noise_passes=self.passes, seed=config.seed)
            options["buckets"] = config.buckets if config.buckets > 1 else 0
        return options

    def missing(self, graph: Graph) -> list[str]:
        """Draws are made anew in training."""
        drawn = ("noise", "buckets") if self.training else ()
        return [name for name in super().missing(graph) if name not in drawn]

    def run(self, graph: Graph) -> GraphOutput:
        """Of a prepared graph."""
        h, e = self.encoder(graph)
        if self.pre_mp is not None:
            h = self.pre_mp(h)
        for index, layer in enumerate(self.layers):
            h, e = layer(h, e, graph, self.sequences(graph, index))
        return GraphOutput(self.post_mp(h, graph), h)

    def sequences(self, graph: Graph, layer: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The passes of a layer: one with draws of its own in training, else those of the graph."""
        buckets = self.config.buckets > 1
        nodes, device = graph.x.shape[0], graph.x.device
        if self.training:
            noise = torch.rand(nodes, device=device) if self.order.needs_noise else None
            bucket = torch.randint(self.config.buckets, (nodes,), device=device) if buckets else None
            return [self.order.sequences(graph, noise, bucket)]
        made = []
        for index in range(self.passes):
            noise = graph.noise[layer, index] if self.order.needs_noise else None  # type: ignore[index]
            bucket = graph.buckets[layer, index] if buckets else None  # type: ignore[index]
            made.append(self.order.sequences(graph, noise, bucket))
        return made


def build(config: GraphMambaConfig) -> GraphMamba:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return GraphMamba(config)
