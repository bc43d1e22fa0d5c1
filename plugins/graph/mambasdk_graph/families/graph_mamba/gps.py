"""The layer of Graph-Mamba: a local and a global branch side by side, then an MLP (arXiv 2402.00789)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.nn import Mamba
from mambasdk_graph.graph import Graph
from mambasdk_graph.nn.layers import GatedGCN, out_degree, sorted_within, take_rows

ORDERS = ("none", "random", "degree", "degree_random")


class NodeOrder:
    """How nodes become sequences: by index, at random, or by out-degree ascending with ties at random or by index.

    buckets: each node of a graph goes to one of so many sequences at random; 0 for one sequence.
    """

    def __init__(self, order: str, buckets: int) -> None:
        self.order = order
        self.buckets = buckets

    @property
    def is_random(self) -> bool:
        """Whether passes differ."""
        return self.needs_noise or self.buckets > 1

    @property
    def needs_noise(self) -> bool:
        """Whether a key has a random part."""
        return self.order in ("random", "degree_random")

    def sequences(self, graph: Graph, noise: Tensor | None, bucket: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The order of the nodes (N), its inverse (N) and the sequences' offsets (S+1) int32.

        noise: (N), from 0 to 1, added to the degree. bucket: (N) int64.
        """
        nodes = graph.x.shape[0]
        key = torch.zeros(nodes, device=graph.x.device)
        if self.order.startswith("degree"):
            key = out_degree(graph.edge_index, nodes)
        if noise is not None:
            key = key + noise
        if bucket is None:
            order, inverse = sorted_within(key, graph.batch)
            return order, inverse, graph.ptr.to(torch.int32)
        groups = graph.batch * self.buckets + bucket
        order, inverse = sorted_within(key, groups)
        sizes = torch.zeros((graph.ptr.shape[0] - 1) * self.buckets, dtype=torch.int64, device=key.device)
        sizes = sizes.scatter_add(0, groups, torch.ones_like(groups))
        return order, inverse, torch.cat((sizes.new_zeros(1), sizes.cumsum(0))).to(torch.int32)


class GPSLayer(nn.Module):
    """(h (N, D), e (E, D)) -> the same. All nodes of a graph are one sequence of the Mamba; nothing is padded."""

    def __init__(
        self, width: int, *, d_state: int, d_conv: int, expand: float, dropout: float, attn_dropout: float
    ) -> None:
        super().__init__()
        self.local_model = GatedGCN(width, batch_norm=True, dropout=dropout)
        self.self_attn = Mamba(width, d_state, d_conv, expand)
        self.norm1_local = nn.BatchNorm1d(width)
        self.norm1_attn = nn.BatchNorm1d(width)
        self.ff_linear1 = nn.Linear(width, 2 * width)
        self.ff_linear2 = nn.Linear(2 * width, width)
        self.norm2 = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.attn_dropout = nn.Dropout(attn_dropout)

    def forward(
        self,
        h: Tensor,
        e: Tensor,
        graph: Graph,
        sequences: list[tuple[Tensor, Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """sequences: what NodeOrder.sequences gave, for each pass; the passes' results are averaged."""
        mixed = self.mix(h, sequences)  # first: it needs its memory while there are no new edges yet
        local, e = self.local_model(h, e, graph.edge_index)
        y = self.norm1_local(local) + self.norm1_attn(h + self.attn_dropout(mixed))
        del local, mixed
        hidden = self.dropout(self.ff_linear1(y).relu_())
        y = y + self.dropout(self.ff_linear2(hidden))
        return self.norm2(y), e

    def mix(self, h: Tensor, sequences: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """The Mamba over the nodes of each sequence, (N, D)."""
        total = torch.zeros_like(h)
        for order, inverse, offsets in sequences:
            mixed = self.self_attn(take_rows(h, order).unsqueeze(0), cu_seqlens=offsets).squeeze(0)
            total = total + take_rows(mixed, inverse)
        return total / len(sequences)
