"""What the models of graphs share: preparation of graphs, and tensors by name for export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import Model
from mambasdk_graph.graph import Graph, collate
from mambasdk_graph.processors import prepare


@dataclass
class GraphOutput:
    """logits: (G, C) of graphs, (N, C) of nodes, (Q) of pairs. nodes: (N, D), the nodes' vectors before the head."""

    logits: Tensor
    nodes: Tensor


class GraphModel(nn.Module, Model):
    """A model of graphs. Subclasses say in `preparation` what a graph needs, and compute in `run`."""

    config: Any
    # name -> shape of what the graph of an exported model takes besides x, edge_index, batch and ptr
    extra_inputs: dict[str, list[int | str]]

    def preparation(self) -> dict[str, Any]:
        """Options of the processor `graph` that make what the model needs."""
        raise NotImplementedError

    @property
    def package_head(self) -> str | None:
        """The head of a package of this model."""
        return {"graph": "graph_classification", "node": "node_classification"}.get(self.config.head)

    @property
    def classes(self) -> int | None:
        """Outputs of each graph, node or pair."""
        return int(self.config.dim_out)

    def package_processors(self) -> dict[str, dict[str, Any]]:
        """The manifest's `processors` for a package of this model."""
        config = self.config
        options: dict[str, Any] = {"kind": "graph", "node_features": config.dim_in, **self.preparation()}
        options = {name: value for name, value in options.items() if value not in (0, False) or name == "walk_length"}
        if config.node_encoder == "atom":
            options.update(node_features=9, categorical=True)
        if config.edge_encoder == "bond":
            options.update(edge_features=3, categorical=True)
        elif config.edge_encoder != "dummy":
            options["edge_features"] = config.edge_dim
        return {"graph": options}

    def prepare(self, graph: Graph, *, epoch: int = 0) -> Graph:
        """The graph with what this model needs besides features and edges, made by the native processor.

        epoch: another draw of what is random. What the graph has already stays. Do it once for a graph that is used
        often: `forward` does it where something is missing.
        """
        return prepare(graph, self.preparation(), epoch=epoch)

    def missing(self, graph: Graph) -> list[str]:
        """Names of fields that `prepare` would add."""
        return [name for name in self.extra_inputs if name != "edge_label_index" and getattr(graph, name) is None]

    def forward(self, graph: Graph) -> GraphOutput:
        """Logits and node vectors. Raises ShapeError and InvalidArgumentError for a graph that does not fit."""
        if missing := self.missing(graph):
            if "edge_attr" in missing:
                raise InvalidArgumentError(
                    "the graph has no edge_attr",
                    where=type(self).__name__,
                    expected=f"(E, {self.extra_inputs['edge_attr'][1]})",
                )
            graph = self.prepare(graph)
        return self.run(graph)

    def run(self, graph: Graph) -> GraphOutput:
        """As forward, of a prepared graph."""
        raise NotImplementedError

    def example_inputs(self) -> dict[str, Tensor]:
        """A batch of two small graphs by input name."""
        config = self.config
        generator = torch.Generator().manual_seed(0)

        def made(nodes: int, pairs: list[tuple[int, int]]) -> Graph:
            ends = torch.tensor([*pairs, *((j, i) for i, j in pairs)]).T
            if config.node_encoder == "atom":
                x = torch.randint(0, 2, (nodes, 9), generator=generator)
            else:
                width = config.d_model if config.node_encoder == "none" else config.dim_in
                x = torch.randn(nodes, width, generator=generator)
            attr: Tensor | None = None
            if config.edge_encoder == "bond":
                attr = torch.randint(0, 2, (ends.shape[1], 3), generator=generator)
            elif config.edge_encoder != "dummy":
                width = config.d_model if config.edge_encoder == "none" else config.edge_dim
                attr = torch.randn(ends.shape[1], width, generator=generator)
            asked = torch.tensor([[0, 1, 2], [2, 3, 3]]) if "edge_label_index" in self.extra_inputs else None
            return Graph(x, ends.contiguous(), attr, edge_label_index=asked)

        graphs = [
            made(5, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (1, 3)]),
            made(7, [(0, 1), (0, 2), (0, 3), (3, 4), (4, 5), (5, 6)]),
        ]
        batch = self.prepare(collate(graphs))
        named = {name: getattr(batch, name) for name in self.input_shapes()}
        return {name: tensor.contiguous() for name, tensor in named.items()}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Names and shapes; N nodes, E edges and P - 1 graphs are free."""
        features = 9 if self.config.node_encoder == "atom" else self.config.dim_in
        return {"x": ["N", features], "edge_index": [2, "E"], "batch": ["N"], "ptr": ["P"], **self.extra_inputs}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits"} of the named inputs."""
        return {"logits": self.run(Graph(**inputs)).logits}
