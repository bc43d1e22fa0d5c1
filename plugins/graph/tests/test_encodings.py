"""Encodings and orders of nodes, against NumPy and networkx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx
import numpy as np
import numpy.typing as npt
import pytest
import torch

from mambasdk_graph import Graph, GraphProcessor, collate

Make = Callable[..., Graph]
SIZES = [(1, 0.0), (2, 1.0), (3, 0.5), (12, 0.3), (40, 0.05), (150, 0.03), (64, 0.0)]


def adjacency(graph: Graph) -> npt.NDArray[np.float64]:
    linked = np.zeros((graph.num_nodes,) * 2)
    linked[tuple(graph.edge_index.numpy())] = 1
    return linked


def encode(graph: Graph, **options: Any) -> dict[str, npt.NDArray[Any]]:
    made = GraphProcessor(**options).encode(graph.edge_index.numpy(), graph.ptr.numpy())
    return {name: np.asarray(value) for name, value in made.items()}


@pytest.mark.parametrize(("nodes", "chance"), SIZES)
def test_laplacian_eigenpairs(nodes: int, chance: float, make_graph: Make) -> None:
    """Eigenvectors are not unique: the pairs satisfy the equation, are orthonormal, and have NumPy's eigenvalues."""
    graph = make_graph(nodes, chance)
    linked = adjacency(graph)
    laplacian = np.diag(linked.sum(1)) - linked
    made = encode(graph, laplacian=10)
    count = min(10, nodes)
    values, vectors = made["eigvals"], made["eigvecs"][:, :count].astype(np.float64)
    expected = np.linalg.eigvalsh(laplacian)[:count].clip(0)
    np.testing.assert_allclose(values[:, :count], np.tile(expected, (nodes, 1)), atol=1e-5)
    np.testing.assert_allclose(laplacian @ vectors, vectors * values[0, :count], atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-5)
    assert np.isnan(made["eigvecs"][:, count:]).all()
    assert np.isnan(values[:, count:]).all()
    largest = np.abs(vectors).max(0)
    for column in range(count):
        first = np.flatnonzero(np.abs(vectors[:, column]) > 0.99999 * largest[column])[0]
        assert vectors[first, column] > 0


def test_structures_with_repeated_eigenvalues() -> None:
    for structure in (networkx.complete_graph(9), networkx.cycle_graph(12), networkx.star_graph(8)):
        ends = torch.tensor(list(structure.to_directed().edges)).T.contiguous()
        graph = Graph(torch.zeros(structure.number_of_nodes(), 1), ends)
        made = encode(graph, laplacian=graph.num_nodes)
        linked = adjacency(graph)
        laplacian = np.diag(linked.sum(1)) - linked
        rebuilt = (made["eigvecs"] * made["eigvals"][0]) @ made["eigvecs"].T
        np.testing.assert_allclose(rebuilt, laplacian, atol=1e-5)


def test_directions_loops_and_repeats_do_not_count() -> None:
    plain = Graph(torch.zeros(3, 1), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    other = Graph(torch.zeros(3, 1), torch.tensor([[0, 0, 2, 2], [1, 1, 1, 2]]))
    for name, value in encode(plain, laplacian=3).items():
        np.testing.assert_array_equal(encode(other, laplacian=3)[name], value)


def test_encodings_of_a_batch_are_those_of_its_graphs(make_graph: Make) -> None:
    graphs = [make_graph(8, 0.4), make_graph(0, 0), make_graph(3, 1.0), make_graph(20, 0.2)]
    options: dict[str, Any] = {"laplacian": 4, "random_walk": 3, "order": "page_rank"}
    together = encode(collate(graphs), **options)
    for name, value in together.items():
        np.testing.assert_array_equal(value, np.concatenate([encode(graph, **options)[name] for graph in graphs]))


def test_too_large_a_graph_for_the_laplacian_is_refused(make_graph: Make) -> None:
    with pytest.raises(ValueError, match=r"3001 nodes are too many .* expected 3000 or fewer; use random_walk"):
        encode(make_graph(3001, 0), laplacian=2)


@pytest.mark.parametrize("directed", [False, True])
def test_return_probabilities(directed: bool, make_graph: Make) -> None:
    graph = make_graph(40, 0.08, directed=directed)
    linked = adjacency(graph)
    out = linked.sum(1, keepdims=True)
    step = np.divide(linked, out, out=np.zeros_like(linked), where=out > 0)
    power = np.eye(40)
    expected = []
    for _ in range(6):
        power = power @ step
        expected.append(np.diag(power))
    np.testing.assert_allclose(encode(graph, random_walk=6)["rwse"], np.stack(expected, 1), atol=1e-6)


def test_core_numbers_and_page_rank(make_graph: Make) -> None:
    for seed in range(3):
        graph = make_graph(60, 0.08, seed)
        structure = networkx.from_numpy_array(adjacency(graph))
        core = networkx.core_number(structure)
        np.testing.assert_array_equal(encode(graph, order="core")["order_key"], [core[node] for node in range(60)])
        rank = networkx.pagerank(structure.to_directed(), tol=1e-12)
        found = encode(graph, order="page_rank")["order_key"]
        np.testing.assert_allclose(found, [rank[node] for node in range(60)], atol=1e-6)


def test_noise_is_uniform_and_of_its_place(make_graph: Make) -> None:
    graph = make_graph(2000, 0)
    made = encode(graph, noise_layers=2, noise_passes=3, buckets=4, seed=5)
    noise, buckets = made["noise"], made["buckets"]
    assert noise.shape == buckets.shape == (2, 3, 2000)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.01
    assert len(np.unique(noise.reshape(6, -1), axis=0)) == 6
    share = np.bincount(buckets.ravel(), minlength=4) / buckets.size
    assert np.abs(share - 0.25).max() < 0.015
    assert (encode(graph, noise_layers=2, noise_passes=3, buckets=4, seed=6)["noise"] != noise).any()
