"""The family `graph_mamba`: GPS layers whose global branch is a Mamba (arXiv 2402.00789)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk_graph.families.graph_mamba.config import GraphMambaConfig
from mambasdk_graph.families.graph_mamba.gps import GPSLayer, NodeOrder
from mambasdk_graph.families.graph_mamba.graphgym import Head, Stack
from mambasdk_graph.graph import Graph
from mambasdk_graph.model import GraphModel, GraphOutput
from mambasdk_graph.nn import encoders
from mambasdk_graph.nn.encoders import Categories, LaplacianEncoder, LinearFeatures, NodeEncoder, OneVector


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
