"""Encodings and orders of nodes, against NumPy and networkx."""

from __future__ import annotations

import json
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


def test_a_file_has_a_smaller_budget_for_the_laplacian_unless_told() -> None:
    """40 KB of a path of 3,000 nodes: the decomposition takes nodes cubed."""
    edges = [[i, i + 1] for i in range(1599)]
    text = json.dumps({"x": [[0]] * 1600, "edges": edges}).encode()
    with pytest.raises(
        ValueError, match=r"1600 nodes are too many .* expected 1500 or fewer; .* raise max_laplacian_nodes"
    ):
        GraphProcessor(laplacian=2)(text)
    made = GraphProcessor(laplacian=2, max_laplacian_nodes=1600)(text)
    # Of a path: 2 - 2 cos(pi k / n).
    np.testing.assert_allclose(made["eigvals"][0], [0, 2 - 2 * np.cos(np.pi / 1600)], atol=1e-9)
    with pytest.raises(ValueError, match="eigenvectors of 1600 nodes take too long; lower laplacian"):
        GraphProcessor(laplacian=1600, max_laplacian_nodes=1600)(text)


def test_return_probabilities_too_small_for_a_double() -> None:
    """A chain of double edges with dead ends: after 249 steps of 1/20 the chance counts as 0, and what is reached by a
    chance of 0 must not be listed once for each edge, twice as often with each step."""
    length, dead = 300, 38
    source = np.repeat(np.arange(length), 2 + dead)
    target = np.concatenate([[i + 1, i + 1, *range(length + 1, length + 1 + dead)] for i in range(length)])
    made = GraphProcessor(random_walk=length).encode(np.stack((source, target)), np.array([0, length + 1 + dead]))
    assert not made["rwse"].any()


def test_results_and_walks_have_limits(make_graph: Make) -> None:
    graph = make_graph(2000, 0.01)
    for options, message in (
        ({"noise_layers": 100_000, "noise_passes": 1000}, "noise: .* numbers are more than 268435456"),
        ({"tokens": True, "walk_length": 10_000, "walks": 10_000, "repeats": 10_000}, "tokens' walks are too many"),
        (
            {"tokens": True, "repeats": 10_000_000 // 1000, "walk_length": 1000, "walks": 1},
            "tokens' walks are too many",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            encode(graph, **options)
    with pytest.raises(ValueError, match=r"node_features: \(1024, 1000000\) numbers are more than"):
        GraphProcessor(node_features=1_000_000)(b'{"num_nodes": 1024}')


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
