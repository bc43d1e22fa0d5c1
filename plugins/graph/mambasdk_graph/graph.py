"""A batch of graphs as tensors, shaped as PyTorch Geometric shapes it, without needing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import DtypeError, InvalidArgumentError, ShapeError


@dataclass
class Graph:
    """One graph or several side by side. N nodes, E directed edges, G graphs; an undirected edge is there both ways.

    x: (N, F) float32, or int64 categories. edge_index: (2, E) int64, sources then targets. edge_attr: (E, Fe) or None.
    y: targets, of any shape, or None. ptr: (G+1) int64, the first node of each graph; batch: (N) int64, the graph of
    each node; both may be left out for one graph. edge_label_index: (2, Q) int64, pairs of nodes that an edge-level
    head is asked about. split: (N) int64, what a node's label is for: 0 training, 1 validation, 2 test, -1 nothing.

    What a model's `prepare` adds: eigvals, eigvecs (N, K), Laplacian eigenpairs, NaN beyond the graph's size;
    rwse (N, R), return probabilities; noise (layers, passes, N) and buckets (layers, passes, N), draws of the random
    orders; order_key (N), what node sequences are sorted by; and neighbourhood tokens: members (T) int64, nodes of the
    tokens one after another, member_tokens (T) int64, the token of each, token_edges (3, P) int64, the edge, its source
    and its target as places in members.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None = None
    y: Tensor | None = None
    batch: Tensor = None  # type: ignore[assignment]  # made where both are left out
    ptr: Tensor = None  # type: ignore[assignment]
    edge_label_index: Tensor | None = None
    split: Tensor | None = None
    eigvals: Tensor | None = None
    eigvecs: Tensor | None = None
    rwse: Tensor | None = None
    order_key: Tensor | None = None
    noise: Tensor | None = None
    buckets: Tensor | None = None
    members: Tensor | None = None
    member_tokens: Tensor | None = None
    token_edges: Tensor | None = None

    def __post_init__(self) -> None:
        nodes = self.x.shape[0] if self.x.ndim else 0
        if self.ptr is None:
            if self.batch is not None:
                raise InvalidArgumentError(
                    "batch without ptr", where="Graph", way_out="give ptr too, or make the batch with collate()"
                )
            self.ptr = torch.tensor([0, nodes], device=self.x.device)
        if self.batch is None:
            self.batch = torch.repeat_interleave(self.ptr.diff(), output_size=nodes)
        self._check_shapes()

    def _check_shapes(self) -> None:
        if self.x.ndim != 2:
            raise ShapeError("bad x", where="Graph", expected="(N, F)", got=tuple(self.x.shape))
        nodes, edges = self.x.shape[0], self.edge_index.shape[-1] if self.edge_index.ndim else -1
        if self.edge_index.ndim != 2 or self.edge_index.shape[0] != 2:
            raise ShapeError("bad edge_index", where="Graph", expected="(2, E)", got=tuple(self.edge_index.shape))
        if self.edge_index.dtype != torch.int64:
            raise DtypeError("bad edge_index", where="Graph", expected="int64", got=self.edge_index.dtype)
        attr = self.edge_attr
        if attr is not None and (attr.ndim != 2 or attr.shape[0] != edges):
            raise ShapeError("bad edge_attr", where="Graph", expected=f"({edges}, Fe)", got=tuple(attr.shape))
        if self.batch.shape != (nodes,):
            raise ShapeError("bad batch", where="Graph", expected=f"({nodes},)", got=tuple(self.batch.shape))

    def validate(self) -> Graph:
        """Check what shapes do not show: ends of edges exist and lie in one graph, features are finite; returns self.

        Raises InvalidArgumentError.
        """
        nodes = self.num_nodes
        ends = self.edge_index
        if ends.numel() and (int(ends.min()) < 0 or int(ends.max()) >= nodes):
            raise InvalidArgumentError(
                "an edge ends at a node that is not there",
                where="edge_index",
                expected=f"0 to {nodes - 1}" if nodes else "no edges where there are no nodes",
                got=f"{int(ends.min())} to {int(ends.max())}",
            )
        steps = self.ptr.diff()
        if self.ptr.ndim != 1 or int(self.ptr[0]) != 0 or int(self.ptr[-1]) != nodes or bool((steps < 0).any()):
            raise InvalidArgumentError(
                "bad ptr", where="Graph", expected=f"ascending from 0 to {nodes}", got=self.ptr.tolist()[:8]
            )
        if not torch.equal(self.batch, torch.repeat_interleave(steps, output_size=nodes)):
            raise InvalidArgumentError("batch and ptr say different things", where="Graph")
        if ends.numel() and bool((self.batch[ends[0]] != self.batch[ends[1]]).any()):
            raise InvalidArgumentError("an edge goes from one graph to another", where="edge_index")
        for name in ("x", "edge_attr"):
            value = getattr(self, name)
            if value is not None and value.is_floating_point() and not bool(value.isfinite().all()):
                raise InvalidArgumentError(f"{name} has values that are not finite", where="Graph")
        return self

    @property
    def num_nodes(self) -> int:
        """N."""
        return int(self.x.shape[0])

    @property
    def num_edges(self) -> int:
        """E."""
        return int(self.edge_index.shape[1])

    @property
    def num_graphs(self) -> int:
        """G."""
        return self.ptr.shape[0] - 1

    def replace(self, **changes: Any) -> Graph:
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Graph:
        """A graph with `function` applied to every tensor."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {name: None if v is None else function(v) for name, v in values.items()}
        return Graph(**changed)

    def to(self, device: torch.device | str) -> Graph:
        """The graph on another device."""
        return self.map(lambda tensor: tensor.to(device))

    @classmethod
    def from_pyg(cls, data: Any) -> Graph:
        """From a torch_geometric Data or Batch, or anything with its attributes.

        x (N) becomes (N, 1), and ones where there is none; without edge_attr, edge_weight takes its place. train_mask,
        val_mask and test_mask, (N) or (N, S) of which the first column counts, become `split`. Fields that a graph does
        not have are named in a warning. Raises InvalidArgumentError for masks of another length.
        """
        from mambasdk_graph.readers.pyg import from_data

        return from_data(data)


def collate(graphs: Sequence[Graph]) -> Graph:
    """One batch of several graphs (or batches), with everything that all of them have.

    Targets are joined along their first dim. noise and buckets are joined along the nodes. Raises InvalidArgumentError
    where the graphs do not have the same fields.
    """
    if not graphs:
        raise InvalidArgumentError("no graphs", where="collate", expected="one or more")
    if len(graphs) == 1:
        return graphs[0]
    nodes = _offsets(graph.num_nodes for graph in graphs)
    edges = _offsets(graph.num_edges for graph in graphs)
    counts = _offsets(graph.num_graphs for graph in graphs)
    members = _offsets(0 if graph.members is None else graph.members.shape[0] for graph in graphs)
    tokens = _token_offsets(graphs)
    shift: dict[str, Callable[[Tensor, int], Tensor]] = {
        "y": lambda t, i: torch.atleast_1d(t),
        "edge_index": lambda t, i: t + nodes[i],
        "edge_label_index": lambda t, i: t + nodes[i],
        "batch": lambda t, i: t + counts[i],
        "ptr": lambda t, i: (t if i == 0 else t[1:]) + nodes[i],
        "members": lambda t, i: t + nodes[i],
        "member_tokens": lambda t, i: t + tokens[i],
        "token_edges": lambda t, i: t + torch.tensor([[edges[i]], [members[i]], [members[i]]], device=t.device),
    }
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(Graph):
        values = [getattr(graph, field.name) for graph in graphs]
        absent = sum(value is None for value in values)
        if absent == len(values):
            joined[field.name] = None
            continue
        if absent:
            raise InvalidArgumentError(
                f"{absent} of {len(values)} graphs have no {field.name}",
                where="collate",
                way_out="give all graphs the same fields",
            )
        change = shift.get(field.name)
        moved = values if change is None else [change(value, i) for i, value in enumerate(values)]
        last = field.name in ("edge_index", "edge_label_index", "token_edges", "noise", "buckets")
        joined[field.name] = torch.cat(moved, -1 if last else 0)
    return Graph(**joined)


def _offsets(sizes: Any) -> list[int]:
    total, found = 0, []
    for size in sizes:
        found.append(total)
        total += size
    return found


def _token_offsets(graphs: Sequence[Graph]) -> list[int]:
    """Every token has members, so the highest number says how many there are."""
    return _offsets(
        0 if graph.member_tokens is None or graph.member_tokens.numel() == 0 else int(graph.member_tokens.max()) + 1
        for graph in graphs
    )
