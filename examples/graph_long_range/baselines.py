"""What the example compares with: a stack of gated graph convolutions, and the two-layer GCN of Kipf and Welling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_graph.graph import Graph
from mambasdk_graph.model import GraphOutput
from mambasdk_graph.nn.layers import GatedGCN


class GatedGCNStack(nn.Module):
    """Node labels by `layers` gated graph convolutions: a node hears from `layers` steps away and no further."""

    def __init__(self, features: int, width: int, classes: int, layers: int = 4) -> None:
        super().__init__()
        self.node = nn.Linear(features, width)
        self.edge = nn.Parameter(torch.zeros(1, width))
        self.layers = nn.ModuleList(GatedGCN(width, batch_norm=True) for _ in range(layers))
        self.head = nn.Linear(width, classes)

    def preparation(self) -> dict[str, object]:
        """Nothing is needed beside the graph."""
        return {}

    def prepare(self, graph: Graph, *, epoch: int = 0) -> Graph:
        """The graph itself."""
        return graph

    def forward(self, graph: Graph) -> GraphOutput:
        """Logits (N, C)."""
        h, e = self.node(graph.x), self.edge.expand(graph.num_edges, -1)
        for layer in self.layers:
            h, e = layer(h, e, graph.edge_index)
        return GraphOutput(self.head(h), h)


class GCN(nn.Module):
    """softmax(A relu(A X W1) W2) with A the normalised adjacency with self-loops (arXiv 1609.02907)."""

    def __init__(self, features: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, classes)

    def forward(self, graph: Graph) -> Tensor:
        """Logits (N, C)."""
        linked = torch.eye(graph.num_nodes)
        linked[graph.edge_index[0], graph.edge_index[1]] = 1
        scale = linked.sum(1).rsqrt()
        mean = scale[:, None] * linked * scale
        hidden = functional.dropout(torch.relu(mean @ self.first(graph.x)), 0.5, self.training)
        return mean @ self.second(hidden)


def train_gcn(graph: Graph, classes: int, *, steps: int = 200, lr: float = 0.01, seed: int = 0) -> Tensor:
    """Predicted labels (N) after training on the graph's training nodes, as the paper trains."""
    torch.manual_seed(seed)
    model = GCN(graph.x.shape[1], classes)
    optimizer = torch.optim.Adam(model.parameters(), lr, weight_decay=5e-4)
    known = graph.split == 0
    for _ in range(steps):
        loss = functional.cross_entropy(model(graph)[known], graph.y[known])  # type: ignore[index]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return model(graph).argmax(1)
