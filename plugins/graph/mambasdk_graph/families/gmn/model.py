"""The family `gmn`: neighbourhood tokens, local encoding and bidirectional Mamba (arXiv 2402.08678)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.nn import Mamba
from mambasdk_graph.families.gmn.config import GMNConfig
from mambasdk_graph.graph import Graph
from mambasdk_graph.model import GraphModel, GraphOutput
from mambasdk_graph.nn import encoders
from mambasdk_graph.nn.encoders import Categories, LinearFeatures, OneVector
from mambasdk_graph.nn.layers import POOLINGS, GatedGCN, out_degree, segment_mean, sorted_within, take_rows

# Tokens that inference takes at a time: what belongs to them stays in the cache, whatever the size of the graph.
TOKENS = 1024


class BiMamba(nn.Module):
    """out(Mamba_f(LN_f(x)) + Mamba_b(LN_b(x))), Mamba_b from the last position to the first: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, *, d_state: int, d_conv: int, expand: float, bidirectional: bool) -> None:
        super().__init__()
        self.ln_f = nn.LayerNorm(width)
        self.fwd = Mamba(width, d_state, d_conv, expand)
        self.ln_b = nn.LayerNorm(width) if bidirectional else None
        self.bwd = Mamba(width, d_state, d_conv, expand, reverse=True) if bidirectional else None
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """cu_seqlens: (S+1) int32, offsets of the sequences packed in batch 1."""
        y = self.fwd(self.ln_f(x), cu_seqlens=cu_seqlens)
        if self.bwd is not None and self.ln_b is not None:
            y = y + self.bwd(self.ln_b(x), cu_seqlens=cu_seqlens)
        mixed: Tensor = self.out(y)
        return mixed


class GMN(GraphModel):
    """Graph -> GraphOutput."""

    def __init__(self, config: GMNConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        mamba: dict[str, Any] = {name: getattr(config, name) for name in ("d_state", "d_conv", "expand")}
        mamba["bidirectional"] = config.bidirectional
        self.node_encoder, self.edge_encoder = _encoders(config)
        self.phi = GatedGCN(width)
        self.sub = nn.ModuleList(BiMamba(width, **mamba) for _ in range(config.sub_layers))
        self.node = nn.ModuleList(BiMamba(width, **mamba) for _ in range(config.node_layers))
        self.mpnn = GatedGCN(width) if config.mpnn else None
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, config.dim_out) if config.head != "none" else None
        self.extra_inputs = self._extra_inputs()

    def _extra_inputs(self) -> dict[str, list[int | str]]:
        config = self.config
        found: dict[str, list[int | str]] = {}
        if config.edge_encoder != "dummy":
            width = {"bond": 3, "none": config.d_model}.get(config.edge_encoder, config.edge_dim)
            found["edge_attr"] = ["E", width]
        if config.max_freqs:
            found["eigvecs"] = ["N", config.max_freqs]
        if config.random_walk_se:
            found["rwse"] = ["N", config.random_walk_se]
        if config.node_order != "degree" and config.node_layers:
            found["order_key"] = ["N"]
        return {**found, "members": ["T"], "member_tokens": ["T"], "token_edges": [3, "J"]}

    def preparation(self) -> dict[str, Any]:
        """Tokens and encodings."""
        config = self.config
        return {
            "tokens": True,
            "walk_length": config.walk_length,
            "walks": config.walks,
            "repeats": config.repeats,
            "seed": config.seed,
            "laplacian": config.max_freqs,
            "random_walk": config.random_walk_se,
            "order": config.node_order,
        }

    def run(self, graph: Graph) -> GraphOutput:
        """Of a prepared graph."""
        h, e = self.encode(graph)
        nodes = self.mix_nodes(self.encode_neighbourhoods(graph, h, e), graph)
        if self.mpnn is not None:
            nodes = nodes + self.mpnn(h, e, graph.edge_index)[0]
        if self.head is None:
            return GraphOutput(nodes, nodes)
        pooled = self.dropout(nodes)
        if self.config.head == "graph":
            pooled = POOLINGS[self.config.pooling](pooled, graph.batch, graph.ptr.shape[0] - 1)
        return GraphOutput(self.head(pooled), nodes)

    def encode(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Nodes (N, D) and edges (E, D)."""
        x = graph.x
        if self.config.max_freqs:
            vectors = graph.eigvecs.nan_to_num(0.0)  # type: ignore[union-attr]
            if self.training and self.config.flip_signs:  # the sign of an eigenvector means nothing
                vectors = vectors * (torch.randint(0, 2, (vectors.shape[1],), device=vectors.device) * 2 - 1)
            x = torch.cat((x, vectors), 1)
        if self.config.random_walk_se:
            x = torch.cat((x, graph.rwse), 1)  # type: ignore[arg-type]
        dummy = isinstance(self.edge_encoder, OneVector)
        return self.node_encoder(x), self.edge_encoder(graph.edge_index.shape[1] if dummy else graph.edge_attr)

    def encode_tokens(self, graph: Graph, h: Tensor, e: Tensor) -> Tensor:
        """(N, L, D): the mean of the local encoding over each token's nodes."""
        assert graph.members is not None
        assert graph.member_tokens is not None
        assert graph.token_edges is not None
        length = self.config.tokens_per_node
        local = self.phi.on_subgraphs(h, e, graph.members, graph.token_edges)
        tokens = segment_mean(local, graph.member_tokens, h.shape[0] * length).view(-1, length, h.shape[1])
        return self._shuffled(tokens) if self.training and self.config.repeats > 1 else tokens

    def _shuffled(self, tokens: Tensor) -> Tensor:
        """Tokens of one length in random order; evaluation keeps the order of the repeats."""
        nodes, length, width = tokens.shape
        repeats = self.config.repeats
        rank = torch.rand(nodes, length // repeats, repeats, device=tokens.device).argsort(-1)
        by_length = tokens.view(nodes, length // repeats, repeats, width)
        return by_length.gather(2, rank.unsqueeze(-1).expand_as(by_length)).reshape(nodes, length, width)

    def encode_neighbourhoods(self, graph: Graph, h: Tensor, e: Tensor) -> Tensor:
        """(N, D): the state behind each node's last token, which is the node itself."""
        tokens = self.encode_tokens(graph, h, e)  # (N, L, D)
        nodes = max(TOKENS // tokens.shape[1], 1)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or tokens.shape[0] <= nodes:
            return self._mix_tokens(tokens)
        return torch.cat([self._mix_tokens(piece) for piece in tokens.split(nodes)])

    def _mix_tokens(self, tokens: Tensor) -> Tensor:
        """(N, D): the last of each node's tokens (N, L, D) after the blocks."""
        for block in self.sub:
            mixed = block(tokens)
            tokens = tokens + mixed if self.config.residual else mixed
        return tokens[:, -1]

    def mix_nodes(self, nodes: Tensor, graph: Graph) -> Tensor:
        """(N, D): all nodes of a graph as one sequence, through the last blocks and back in place."""
        if not len(self.node):
            return nodes
        key = graph.order_key if graph.order_key is not None else out_degree(graph.edge_index, nodes.shape[0])
        order, inverse = sorted_within(key, graph.batch)
        y = take_rows(nodes, order).unsqueeze(0)  # (1, N, D)
        offsets = graph.ptr.to(torch.int32)
        for block in self.node:
            mixed = block(y, cu_seqlens=offsets)
            y = y + mixed if self.config.residual else mixed
        return take_rows(y.squeeze(0), inverse)


def _encoders(config: GMNConfig) -> tuple[nn.Module, nn.Module]:
    width = config.d_model
    node: nn.Module = nn.Identity()
    if config.node_encoder == "linear":
        node = LinearFeatures(config.dim_in + config.max_freqs + config.random_walk_se, width, "x")
    elif config.node_encoder == "atom":
        node = Categories(encoders.ATOM_FEATURES, width, "atom_embedding_list")
    edge: nn.Module = nn.Identity()
    if config.edge_encoder == "linear":
        edge = LinearFeatures(config.edge_dim, width, "edge_attr")
    elif config.edge_encoder == "bond":
        edge = Categories(encoders.BOND_FEATURES, width, "bond_embedding_list")
    elif config.edge_encoder == "dummy":
        edge = OneVector(width)
    return node, edge


def build(config: GMNConfig) -> GMN:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return GMN(config)
