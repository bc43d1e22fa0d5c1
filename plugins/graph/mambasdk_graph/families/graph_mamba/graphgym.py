"""What comes after the layers, under GraphGym's parameter names."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.nn.layers import POOLINGS, take_rows

HEADS = ("graph", "node", "edge")


def _holder(**modules: nn.Module) -> nn.Sequential:
    """A module whose children have these names."""
    return nn.Sequential(OrderedDict(modules))


class NormalizedLinear(nn.Module):
    """Linear, batch norm where asked (then without bias), ReLU, and rows of length 1."""

    def __init__(self, features: int, width: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.layer = _holder(model=nn.Linear(features, width, bias=not batch_norm))
        if batch_norm:
            self.post_layer = nn.Sequential(nn.BatchNorm1d(width))
        self._batch_norm = batch_norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, D)."""
        x = self.layer(x)
        if self._batch_norm:
            x = self.post_layer(x)
        return functional.normalize(torch.relu(x), dim=1)


class Stack(nn.Module):
    """`layers` NormalizedLinear layers, called Layer_0 and so on."""

    def __init__(self, features: int, width: int, layers: int, *, batch_norm: bool) -> None:
        super().__init__()
        for index in range(layers):
            layer = NormalizedLinear(features if index == 0 else width, width, batch_norm=batch_norm)
            self.add_module(f"Layer_{index}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, D)."""
        for layer in self.children():
            x = layer(x)
        return x


class Head(nn.Module):
    """`layers` - 1 hidden layers and a last linear one, on nodes, pooled graphs or pairs of nodes.

    kind: "graph" pools the nodes first; "edge" gives the dot product of two nodes' vectors, "node" each node's.
    """

    def __init__(self, width: int, out: int, *, layers: int, kind: str, pooling: str) -> None:
        super().__init__()
        if layers < 1:
            raise InvalidArgumentError("bad layers_post_mp", where="Head", expected="1 or more", got=layers)
        self.kind = kind
        self.pooling = pooling
        modules: list[nn.Module] = [Stack(width, width, layers - 1, batch_norm=False)] if layers > 1 else []
        modules.append(_holder(model=nn.Linear(width, width if kind == "edge" else out)))
        self.layer_post_mp = _holder(model=nn.Sequential(*modules))

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Logits: (G, C) of graphs, (N, C) of nodes, (Q) of the pairs in edge_label_index."""
        if self.kind == "graph":
            h = POOLINGS[self.pooling](h, graph.batch, graph.ptr.shape[0] - 1)
        h = self.layer_post_mp(h)
        if self.kind != "edge":
            return h
        pairs = graph.edge_label_index
        if pairs is None:
            raise InvalidArgumentError(
                "no pairs to score", where="edge head", way_out="give edge_label_index (2, Q) in the graph"
            )
        return (take_rows(h, pairs[0]) * take_rows(h, pairs[1])).sum(1)
