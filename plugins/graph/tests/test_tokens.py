"""Neighbourhood tokens: against a second implementation of walks and random numbers, and their rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mambasdk_graph import Graph, GraphProcessor, collate

Make = Callable[..., Graph]
Ints = npt.NDArray[np.int64]
MASK = (1 << 64) - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draws(*place: int) -> Any:
    """32-bit numbers of the stream (seed, epoch, use, …), as native/stream.hpp says."""
    key = mix((place[0] + GOLDEN_RATIO) & MASK)
    for value in place[1:]:
        key = mix(key ^ mix((value + GOLDEN_RATIO) & MASK))
    count = 0
    while True:
        count += 1
        yield mix((key + count * GOLDEN_RATIO) & MASK) >> 32


def expected_tokens(graph: Graph, m: int, walks: int, repeats: int, seed: int, epoch: int) -> list[list[int]]:
    """Members of every token, node by node, hops descending, repeats inside."""
    tokens = []
    for node in range(graph.num_nodes):
        local = node - int(graph.ptr[graph.batch[node]])
        for hop in range(m, -1, -1):
            for repeat in range(repeats):
                seen = {node}
                for walk in range(walks if hop else 0):
                    stream = draws(seed, epoch, 1, local, hop, repeat, walk)
                    at = node
                    for _ in range(hop):
                        following = graph.edge_index[1][graph.edge_index[0] == at].tolist()
                        if following:
                            at = following[(next(stream) * len(following)) >> 32]
                        seen.add(at)
                tokens.append(sorted(seen))
    return tokens


def tokens_of(graph: Graph, **options: Any) -> tuple[list[list[int]], Ints, dict[str, Any]]:
    epoch = options.pop("epoch", 0)
    made = GraphProcessor(tokens=True, **options).encode(graph.edge_index, graph.ptr, epoch)
    members, numbers = np.asarray(made["members"]), np.asarray(made["member_tokens"])
    count = graph.num_nodes * (options.get("walk_length", 0) + 1) * options.get("repeats", 1)
    return [members[numbers == token].tolist() for token in range(count)], np.asarray(made["token_edges"]), made


@pytest.mark.parametrize("directed", [False, True])
def test_walks_are_those_of_their_streams(directed: bool, make_graph: Make) -> None:
    batch = collate([make_graph(9, 0.3, directed=directed), make_graph(1, 0), make_graph(6, 0.2, directed=directed)])
    for seed, epoch in ((0, 0), (7, 0), (7, 3)):
        found, _, _ = tokens_of(batch, walk_length=3, walks=2, repeats=2, seed=seed, epoch=epoch)
        assert found == expected_tokens(batch, 3, 2, 2, seed, epoch)


def test_token_edges_are_the_induced_ones(make_graph: Make) -> None:
    graph = make_graph(30, 0.15)
    found, edges, made = tokens_of(graph, walk_length=2, walks=3)
    members, numbers = np.asarray(made["members"]), np.asarray(made["member_tokens"])
    assert (np.diff(numbers) >= 0).all()
    source, target = graph.edge_index.numpy()
    np.testing.assert_array_equal(members[edges[1]], source[edges[0]])
    np.testing.assert_array_equal(members[edges[2]], target[edges[0]])
    np.testing.assert_array_equal(numbers[edges[1]], numbers[edges[2]])
    for token, inside in enumerate(found):
        expected = np.flatnonzero(np.isin(source, inside) & np.isin(target, inside))
        assert sorted(edges[0][numbers[edges[1]] == token].tolist()) == expected.tolist()


def test_threads_and_neighbours_in_a_batch_change_nothing(make_graph: Make) -> None:
    graph, other = make_graph(900, 0.005), make_graph(37, 0.2)
    options: dict[str, Any] = {"walk_length": 3, "walks": 2, "repeats": 2}
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(tokens_of(graph, **options)[0])
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]
    behind = tokens_of(collate([other, graph]), **options)[0][other.num_nodes * 8 :]
    assert [[node - other.num_nodes for node in token] for token in behind] == results[0]


def test_steps_are_uniform() -> None:
    """A star's centre: one step to each of 5 leaves with the same chance (3 sigma of 20000 draws)."""
    leaves = np.arange(1, 6)
    graph = Graph(torch.zeros(6, 1), torch.tensor(np.stack((np.zeros(5, np.int64), leaves))))
    found, _, _ = tokens_of(graph, walk_length=1, walks=1, repeats=4000)
    centre = found[:4000]
    counts = np.bincount([token[-1] for token in centre], minlength=6)[1:]
    assert (np.abs(counts - 800) < 3 * np.sqrt(4000 * 0.2 * 0.8)).all()


def test_sinks_and_lonely_nodes_stay_and_hop_zero_is_the_node() -> None:
    graph = Graph(torch.zeros(4, 1), torch.tensor([[0, 1], [1, 2]]))  # 0 -> 1 -> 2, and 3
    found, _, _ = tokens_of(graph, walk_length=5, walks=2)
    by_node = [found[node * 6 : node * 6 + 6] for node in range(4)]
    assert by_node[0] == [[0, 1, 2]] * 4 + [[0, 1], [0]]
    assert by_node[2] == [[2]] * 6
    assert by_node[3] == [[3]] * 6
    assert tokens_of(graph, walk_length=0, repeats=2)[0] == [[0], [0], [1], [1], [2], [2], [3], [3]]


def test_empty_graphs_have_no_tokens(make_graph: Make) -> None:
    _, edges, made = tokens_of(make_graph(0, 0), walk_length=2)
    assert (edges.shape, made["members"].shape) == ((3, 0), (0,))


def test_bad_edges_and_options_are_named() -> None:
    processor = GraphProcessor(tokens=True)
    with pytest.raises(ValueError, match=r"edge 1 goes from node 0 to 2, expected nodes from 0 to 1"):
        processor.encode(torch.tensor([[0, 0], [1, 2]]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="edge 0 goes from one graph to another"):
        processor.encode(torch.tensor([[0], [1]]), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="ptr: expected ascending numbers from 0"):
        processor.encode(torch.tensor([[0], [1]]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="walks: expected an integer from 1"):
        GraphProcessor(walks=0)
    with pytest.raises(ValueError, match='graph has no option "walk"'):
        GraphProcessor(walk=1)


def test_a_hub_costs_no_more_than_its_tokens() -> None:
    """A star of 30,000 leaves: each token holds the hub, and few of its 30,000 edges."""
    leaves = np.arange(1, 30_001)
    out, back = np.stack((np.zeros_like(leaves), leaves)), np.stack((leaves, np.zeros_like(leaves)))
    made = GraphProcessor(tokens=True, walk_length=1, walks=3).encode(
        np.concatenate((out, back), 1), np.array([0, 30_001])
    )
    edge, source, target = made["token_edges"]
    ends = np.concatenate((out, back), 1)
    np.testing.assert_array_equal(made["members"][source], ends[0][edge])
    np.testing.assert_array_equal(made["members"][target], ends[1][edge])
    tokens = made["member_tokens"]
    sizes = np.bincount(tokens)
    # Each member but the hub adds an edge there and one back, where the hub is among them.
    with_hub = np.isin(np.arange(sizes.size), tokens[made["members"] == 0])
    assert edge.size == 2 * (sizes[with_hub] - 1).sum()
