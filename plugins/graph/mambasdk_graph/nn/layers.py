"""Message passing: sums by segment, the gated graph convolution, and orders of nodes within their graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Beside the sum of gates, so that a node without incoming edges divides by something (arXiv 1711.07553).
GATE_EPSILON = 1e-6
# Edges that inference takes at a time: what belongs to them stays in the cache, and memory does not grow with their
# number but for the result.
PIECE = 384


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """(P, D): rows of x (N, D) by index (P) int64.

    As x[index], whose gradient on the CPU differs from run to run; this one's is segment_sum and takes two thirds of
    the time.
    """
    return x.gather(0, index.unsqueeze(1).expand(-1, x.shape[1]))


def segment_sum(x: Tensor, index: Tensor, count: int) -> Tensor:
    """(count, D): the sum of the rows of x (P, D) that have each index (P) int64; the same bits in every run."""
    return x.new_zeros(count, x.shape[1]).scatter_add(0, index.unsqueeze(1).expand_as(x), x)


def segment_mean(x: Tensor, index: Tensor, count: int) -> Tensor:
    """As segment_sum, divided by how many rows there are; 0 where there are none."""
    rows = segment_sum(x.new_ones(x.shape[0], 1), index, count)
    return segment_sum(x, index, count) / rows.clamp(min=1)


def segment_max(x: Tensor, index: Tensor, count: int) -> Tensor:
    """The largest of each column by segment; 0 where there are no rows."""
    lowest = x.new_zeros(count, x.shape[1])
    return lowest.scatter_reduce(0, index.unsqueeze(1).expand_as(x), x, "amax", include_self=False)


# How the vectors of a graph's nodes become one.
POOLINGS = {"mean": segment_mean, "max": segment_max}


def out_degree(edge_index: Tensor, nodes: int) -> Tensor:
    """(nodes) float32: edges that start at each node."""
    ones = torch.ones(edge_index.shape[1], dtype=torch.float32, device=edge_index.device)
    return torch.zeros(nodes, dtype=torch.float32, device=edge_index.device).scatter_add(0, edge_index[0], ones)


def sorted_within(key: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The order that sorts nodes by group, then key, ties as they are; and its inverse. All (N); key first to last."""
    by_key = torch.sort(key, stable=True).indices
    order = by_key[torch.sort(group[by_key], stable=True).indices]
    places = torch.arange(order.shape[0], device=order.device)
    return order, torch.zeros_like(order).scatter(0, order, places)


class GatedGCN(nn.Module):
    """The gated graph convolution of arXiv 1711.07553, residual, with batch norm where asked.

    For an edge e from j to i, z_e = D h_i + E h_j + C e, and
    h_i' = h_i + ReLU(BN(A h_i + sum_j sigmoid(z_e) * B h_j / (sum_j sigmoid(z_e) + 1e-6))); e' = e + ReLU(BN(z_e)).
    batch_norm: without it there is no BN and edges come back as they were.
    """

    def __init__(self, width: int, *, batch_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.A = nn.Linear(width, width)
        self.B = nn.Linear(width, width)
        self.C = nn.Linear(width, width)
        self.D = nn.Linear(width, width)
        self.E = nn.Linear(width, width)
        self.bn_node_x = nn.BatchNorm1d(width) if batch_norm else None
        self.bn_edge_e = nn.BatchNorm1d(width) if batch_norm else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, e: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Both new ones, of h (N, D), e (E, D) and edge_index (2, E)."""
        source, target = edge_index[0], edge_index[1]
        if self._in_pieces(e.shape[0]):
            arrived, e = self._arrivals_in_pieces(h, e, source, target)
            return h + torch.relu(self._normalised(self.A(h) + arrived)), e
        z = take_rows(self.D(h), target) + take_rows(self.E(h), source) + self.C(e)  # (E, D)
        new = self._normalised(self.A(h) + self.aggregate(z, take_rows(self.B(h), source), target, h.shape[0]))
        if self.bn_edge_e is not None:
            e = e + self.dropout(torch.relu(self.bn_edge_e(z)))
        return h + self.dropout(torch.relu(new)), e

    def _normalised(self, new: Tensor) -> Tensor:
        if self.bn_node_x is None:
            return new
        normalised: Tensor = self.bn_node_x(new)
        return normalised

    def _in_pieces(self, edges: int) -> bool:
        """Whether to take the edges in pieces: where nothing is kept for a gradient, and no graph is traced."""
        return not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()) and edges > PIECE

    def _arrivals_in_pieces(self, h: Tensor, e: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What arrives at each node (N, D), and the new edges."""
        messages, to, of = self.B(h), self.D(h), self.E(h)
        sums = h.new_zeros(h.shape[0], 2 * h.shape[1])
        new_e = torch.empty_like(e) if self.bn_edge_e is not None else e
        for begin in range(0, e.shape[0], PIECE):
            rows = slice(begin, begin + PIECE)
            z = self.C(e[rows])
            z += take_rows(to, target[rows])
            z += take_rows(of, source[rows])
            _add_gated(sums, z, take_rows(messages, source[rows]), target[rows])
            if self.bn_edge_e is not None:
                torch.add(e[rows], torch.relu_(self.bn_edge_e(z)), out=new_e[rows])
        return _weighted_mean(sums), new_e

    @staticmethod
    def aggregate(z: Tensor, messages: Tensor, target: Tensor, count: int) -> Tensor:
        """(count, D): the mean of the messages (E, D) that arrive at each target, weighted by sigmoid(z)."""
        gate = torch.sigmoid(z)
        both = segment_sum(torch.cat((gate * messages, gate), 1), target, count)  # (count, 2D)
        total, weight = both.chunk(2, 1)
        return total / (weight + GATE_EPSILON)

    def on_subgraphs(
        self,
        h: Tensor,  # (N, D)
        e: Tensor,  # (E, D)
        members: Tensor,  # (T) nodes of the subgraphs
        token_edges: Tensor,  # (3, P): edge, source and target as places in members
    ) -> Tensor:
        """(T, D): the layer on the disjoint union of induced subgraphs; what depends on one node is computed once."""
        edge, source, target = token_edges[0], token_edges[1], token_edges[2]
        to, of, along, messages = self.D(h), self.E(h), self.C(e), self.B(h)
        if self._in_pieces(edge.shape[0]):
            sums = h.new_zeros(members.shape[0], 2 * h.shape[1])
            for begin in range(0, edge.shape[0], PIECE):
                rows = slice(begin, begin + PIECE)
                source_node = members[source[rows]]
                z = take_rows(along, edge[rows])
                z += take_rows(to, members[target[rows]])
                z += take_rows(of, source_node)
                _add_gated(sums, z, take_rows(messages, source_node), target[rows])
            arrived = _weighted_mean(sums)
        else:
            source_node = members[source]
            z = take_rows(to, members[target]) + take_rows(of, source_node) + take_rows(along, edge)  # (P, D)
            arrived = self.aggregate(z, take_rows(messages, source_node), target, members.shape[0])
        return take_rows(h, members) + torch.relu(take_rows(self.A(h), members) + arrived)


def _add_gated(sums: Tensor, z: Tensor, messages: Tensor, target: Tensor) -> None:
    """Adds sigmoid(z) * messages and sigmoid(z), (E, D) each, to rows `target` of sums (N, 2D); uses messages up."""
    total, weight = sums.chunk(2, 1)
    gate = torch.sigmoid(z)
    rows = target.unsqueeze(1).expand_as(gate)
    total.scatter_add_(0, rows, messages.mul_(gate))
    weight.scatter_add_(0, rows, gate)


def _weighted_mean(sums: Tensor) -> Tensor:
    """(N, D) in the memory of sums (N, 2D): what _add_gated added, divided."""
    total, weight = sums.chunk(2, 1)
    return total.div_(weight.add_(GATE_EPSILON))
