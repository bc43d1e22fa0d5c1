"""What holds for both families: graphs in a batch are alone, orders, odd graphs, gradients, compiled and exported."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_graph import Graph, collate
from mambasdk_graph.nn import layers

FAMILIES = ("graph_mamba", "gmn")
Make = Callable[..., Any]

# Configurations that take every branch.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "graph_mamba": ("graph_mamba", {}),
    "buckets": ("graph_mamba", {"buckets": 3, "pooling": "max", "layers_pre_mp": 1, "node_encoder_bn": True}),
    "by degree": ("graph_mamba", {"order": "degree", "pe_width": 0, "head": "node", "edge_encoder": "dummy"}),
    "by index": ("graph_mamba", {"order": "none", "join_x": False, "edge_encoder_bn": True}),
    "gmn": ("gmn", {}),
    "gmn of nodes": ("gmn", {"head": "node", "max_freqs": 3, "random_walk_se": 2, "edge_encoder": "dummy"}),
    "gmn by core": ("gmn", {"node_order": "core", "mpnn": False, "node_layers": 2, "sub_layers": 2}),
    "gmn without walks": ("gmn", {"walk_length": 0, "repeats": 1, "node_order": "page_rank", "residual": False}),
    "gmn one way": ("gmn", {"bidirectional": False, "node_layers": 0, "pooling": "max", "head": "none"}),
}


def odd_graphs(make_graph: Make) -> dict[str, list[Graph]]:
    ends = torch.tensor([[0, 1, 2], [1, 2, 3]])  # 3 is a sink, 4 is alone
    return {
        "empty": [make_graph(0, 0)],
        "single node": [make_graph(1, 0)],
        "no edges": [make_graph(5, 0)],
        "disconnected": [collate([make_graph(6, 0.6), make_graph(4, 0.9)]).replace(batch=None, ptr=None)],
        "sinks": [Graph(torch.randn(5, 3), ends, torch.randn(3, 1))],
        "loops and repeats": [Graph(torch.randn(2, 3), torch.tensor([[0, 0, 0, 1], [0, 1, 1, 0]]), torch.randn(4, 1))],
        "empty among others": [make_graph(4, 0.5), make_graph(0, 0), make_graph(1, 0), make_graph(9, 0.3)],
        "large": [make_graph(300, 0.02)],
    }


ODD = (
    "empty", "single node", "no edges", "disconnected", "sinks", "loops and repeats", "empty among others", "large"
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_graph_in_a_batch_is_as_if_alone(case: str, tiny: Make, make_graph: Make) -> None:
    family, settings = CASES[case]
    model = tiny(family, **settings)
    graphs = [make_graph(nodes, 0.3) for nodes in (7, 1, 12, 5)]
    with torch.no_grad():
        alone = [model(graph) for graph in graphs]
        together = model(collate(graphs))
        prepared = model(collate([model.prepare(graph) for graph in graphs]))
    torch.testing.assert_close(together.logits, torch.cat([out.logits for out in alone]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.nodes, torch.cat([out.nodes for out in alone]), atol=1e-5, rtol=1e-5)
    assert torch.equal(prepared.logits, together.logits)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_graphs_have_a_result_and_gradients(case: str, odd: str, tiny: Make, make_graph: Make) -> None:
    family, settings = CASES[case]
    model = tiny(family, **settings)
    batch = collate(odd_graphs(make_graph)[odd])
    out = model(batch)
    rows = batch.num_nodes if model.config.head in ("node", "none") else batch.num_graphs
    assert out.logits.shape == (rows, model.config.d_model if model.config.head == "none" else model.config.dim_out)
    assert bool(out.logits.isfinite().all())
    out.logits.square().sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits_from_run_to_run_and_other_draws_from_another_seed(family: str, tiny: Make, make_graph: Make) -> None:
    graph = make_graph(40, 0.2)
    with torch.no_grad():
        first = tiny(family)(graph).logits
        assert torch.equal(tiny(family)(graph).logits, first)
        assert not torch.equal(tiny(family, seed=1)(graph).logits, first)


@pytest.mark.parametrize("case", CASES)
def test_inference_in_pieces_equals_the_whole(
    case: str, tiny: Make, make_graph: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, settings = CASES[case]
    model = tiny(family, **settings)
    graph = model.prepare(collate([make_graph(30, 0.3), make_graph(9, 0.5)]))
    whole = model(graph)
    monkeypatch.setattr(layers, "PIECE", 7)
    with torch.no_grad():
        pieces = model(graph)
    torch.testing.assert_close(pieces.logits, whole.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pieces.nodes, whole.nodes, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns(tiny: Make, make_graph: Make) -> None:
    for family in FAMILIES:
        model = tiny(family).train()
        model(collate([make_graph(9, 0.4), make_graph(8, 0.4)])).logits.square().sum().backward()
        idle = {name for name, p in model.named_parameters() if p.grad is None}
        # Nothing comes after the edges of the last layer (also upstream).
        assert idle == (
            {f"layers.1.local_model.bn_edge_e.{n}" for n in ("weight", "bias")} if "mamba" in family else set()
        )


def test_noise_can_be_given_and_decides_among_equal_degrees(tiny: Make, make_graph: Make) -> None:
    model = tiny("graph_mamba", eval_passes=1)
    ring = torch.arange(6)
    graph = Graph(torch.randn(6, 3), torch.stack((ring, ring.roll(1))), torch.randn(6, 1))
    up, down = (torch.linspace(0, 0.9, 6).mul(sign).add(offset).expand(2, 1, 6) for sign, offset in ((1, 0), (-1, 0.9)))
    with torch.no_grad():
        a, b = model(graph.replace(noise=up)).nodes, model(graph.replace(noise=down)).nodes
        assert not torch.allclose(a, b, atol=1e-6)
        assert torch.equal(model(graph.replace(noise=up * 0.5)).nodes, a)  # the order is all that counts
        passes = tiny("graph_mamba", eval_passes=2)
        both = passes(graph.replace(noise=torch.cat((up, down), 1)))
        assert bool(both.nodes.isfinite().all())


def test_high_degree_comes_last(tiny: Make) -> None:
    star = Graph(torch.zeros(4, 3), torch.tensor([[1, 1, 1, 0], [0, 2, 3, 1]]), torch.zeros(4, 1))
    model = tiny("graph_mamba")
    for order, _, offsets in model.sequences(model.prepare(star), 0):
        assert order[-1] == 1
        assert order[-2] == 0
        assert offsets.tolist() == [0, 4]


def test_buckets_are_sequences_of_their_own(tiny: Make, make_graph: Make) -> None:
    model = tiny("graph_mamba", buckets=3)
    graph = model.prepare(collate([make_graph(10, 0.3), make_graph(2, 1.0)]))
    bucket = graph.buckets[0, 0]
    order, inverse, offsets = model.sequences(graph, 0)[0]
    sizes = [int(((graph.batch == g) & (bucket == b)).sum()) for g in range(2) for b in range(3)]
    assert offsets.diff().tolist() == sizes
    assert torch.equal(order[inverse], torch.arange(12))
    degree = torch.bincount(graph.edge_index[0], minlength=12)
    for begin, end in itertools.pairwise(offsets.tolist()):
        assert degree[order[begin:end]].diff().ge(0).all()


def test_training_draws_orders_and_evaluation_does_not(tiny: Make, make_graph: Make) -> None:
    model = tiny("graph_mamba", eval_passes=1).train()
    graph = model.prepare(make_graph(30, 0.0))
    drawn = [model.sequences(graph, 0)[0][0] for _ in range(2)]
    assert not torch.equal(*drawn)
    model.eval()
    assert torch.equal(model.sequences(graph, 0)[0][0], model.sequences(graph, 0)[0][0])


def test_atoms_and_bonds(tiny: Make) -> None:
    for family in FAMILIES:
        model = tiny(family, node_encoder="atom", edge_encoder="bond", dim_in=9)
        inputs = model.example_inputs()
        assert model.native_outputs(inputs)["logits"].shape == (2, 10)
        with pytest.raises(mambasdk.errors.DtypeError, match="int64"):
            model(Graph(**{**inputs, "x": inputs["x"].float()}))


def test_pairs_of_nodes(tiny: Make) -> None:
    model = tiny("graph_mamba", head="edge")
    inputs = model.example_inputs()
    out = model(Graph(**inputs))
    asked = inputs["edge_label_index"]
    assert out.logits.shape == (asked.shape[1],)
    back = model(Graph(**{**inputs, "edge_label_index": asked.flip(0)}))
    assert torch.equal(back.logits, out.logits)
    with pytest.raises(InvalidArgumentError, match="edge_label_index"):
        model(Graph(**{**inputs, "edge_label_index": None}))


def test_graphs_that_do_not_fit_are_named(tiny: Make, make_graph: Make) -> None:
    for family in FAMILIES:
        with pytest.raises(ShapeError, match=r"bad x: expected \(…, 3\), got \(4, 5\); the model was made for 3"):
            tiny(family)(make_graph(4, 0.5, features=5))
        with pytest.raises(InvalidArgumentError, match=r"no edge_attr: expected \(E, 1\)"):
            tiny(family)(make_graph(4, 0.5, edge_features=0))
    for bad in ({"order": "up"}, {"head": "edges"}, {"d_model": 0}, {"pe_width": 16}, {"layers_post_mp": 0}):
        with pytest.raises(InvalidArgumentError, match=next(iter(bad))):
            tiny("graph_mamba", **bad)
    for bad in ({"node_order": "up"}, {"walks": 0}, {"node_encoder": "none"}, {"repeats": -1}):
        with pytest.raises(InvalidArgumentError, match=r"bad (repeats|walks|node_order|dim_in)"):
            tiny("gmn", **bad)
