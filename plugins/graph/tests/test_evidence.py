"""Evidence for graph_mamba and gmn: golden tensors, published counts and shapes, and what holds for every family."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.plugins import get_host
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_graph import Graph, collate

ABSOLUTE = Tolerance(1e-4)  # from the golden README
SYSTEM = "graph-mamba"

# ---- Graph-Mamba ----


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder), load_file(folder / "weights.safetensors")


def graph_of(given: Recorded) -> Graph:
    batch = given["batch"]
    ptr = torch.cat((torch.zeros(1, dtype=torch.int64), batch.bincount().cumsum(0)))
    pairs = {"eigvals": given["EigVals"].squeeze(-1), "eigvecs": given["EigVecs"]}
    drawn = {name: given[name] for name in ("noise", "buckets") if name in given}
    return Graph(given["x"], given["edge_index"], given["edge_attr"], batch=batch, ptr=ptr, **drawn, **pairs)


def run(model: Any, given: Recorded) -> Tensors:
    """Predictions, and nodes and edges after the encoder and every layer."""
    found: Tensors = {}

    def keep(name: str, module: Any, arguments: Any, out: tuple[Tensor, Tensor]) -> None:
        found.update({f"{name}.x": out[0], f"{name}.e": out[1]})

    model.encoder.register_forward_hook(partial(keep, "enc"))
    for index, layer in enumerate(model.layers):
        layer.register_forward_hook(partial(keep, f"layer{index}"))
    return {"pred": model(graph_of(given)).logits, **found}


# ---- GMN ----


def reading_checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder), load_file(folder / "gmn_reading_weights.safetensors")


def recorded_reading(folder: Path, _: str) -> Tensors:
    return load_file(folder / "gmn_reading_io.safetensors")


def tokens_of(membership: Tensor, edge_index: Tensor) -> dict[str, Tensor]:
    """The golden's bit masks (node, repeat, hop, member) as our lists, hops descending, repeats inside."""
    members: list[int] = []
    tokens: list[int] = []
    edges: list[tuple[int, int, int]] = []
    nodes, repeats, hops, _ = membership.shape
    places = [(v, h, r) for v in range(nodes) for h in reversed(range(hops)) for r in range(repeats)]
    for token, (v, h, r) in enumerate(places):
        inside = membership[v, r, h].nonzero()[:, 0].tolist()
        at = {node: len(members) + i for i, node in enumerate(inside)}
        members += inside
        tokens += [token] * len(inside)
        edges += [(e, at[a], at[b]) for e, (a, b) in enumerate(edge_index.T.tolist()) if a in at and b in at]
    return {
        "members": torch.tensor(members),
        "member_tokens": torch.tensor(tokens),
        "token_edges": torch.tensor(edges).T.contiguous(),
    }


def run_reading(model: Any, given: Recorded) -> Tensors:
    edge_index = given["edge_index"]
    lists = tokens_of(given["membership_v_s_m_u"], edge_index)
    graph = Graph(given["x"], edge_index, given["edge_attr"], **lists)
    # Nodes of equal degree may stand in any order; the order by degree is the golden's.
    degree = edge_index[0].bincount(minlength=graph.num_nodes)
    assert bool(degree[given["degree_order"]].diff().ge(0).all())
    h, e = model.encode(graph)
    tokens = model.encode_tokens(graph, h, e)
    mixed = model.sub[0](tokens)
    nodes = model.encode_neighbourhoods(graph, h, e)
    return {
        "phi_tokens": tokens,
        "bimamba_sub_noresidual": mixed,
        "bimamba_sub_residual": tokens + mixed,
        "node_encoding_last_state": nodes,
        "node_bimamba": model.mix_nodes(nodes, graph),
        "mpnn": model.mpnn(h, e, graph.edge_index)[0],
        "output": model(graph).logits,
    }


# ---- published facts ----


def _counts(variant: str) -> dict[str, int]:
    published = golden.facts(f"{SYSTEM}/param_counts.json")
    name = variant.removeprefix("graph-mamba-").replace("-superpixels", "superpixels").replace("-tiny", "tiny")
    of = published[f"{name}-EX"]
    layer = {"self_attn": of["mamba_params_per_layer"], "local_model": of["gatedgcn_params_per_layer"]}
    places = {f"layers.{index}.{part}": count for index in range(of["layers"]) for part, count in layer.items()}
    return {"": of["params"], **places}


def test_every_published_configuration_has_its_variant() -> None:
    published = golden.facts(f"{SYSTEM}/param_counts.json")
    variants = get_host().family("graph_mamba").variants
    assert len(published) == len(variants)
    sizes = sorted((of["layers"], of["dim"]) for of in published.values())
    models: list[Any] = [mambasdk.create_model(name, device="meta") for name in variants]
    assert sorted((len(model.layers), model.config.d_model) for model in models) == sizes


# ---- inputs ----


def graph(nodes: int, chance: float, seed: int) -> Graph:
    generator = torch.Generator().manual_seed(100 * nodes + seed)
    linked = torch.rand(nodes, nodes, generator=generator).triu(1) > 1 - chance
    ends = (linked | linked.T).nonzero().T.contiguous()
    features = torch.randn(nodes, 3, generator=generator)
    return Graph(features, ends, torch.randn(ends.shape[1], 1, generator=generator))


def inputs(model: Any) -> list[dict[str, Tensor]]:
    """Batches with an empty graph, a single node, no edges at all, and a large graph among them."""
    batches = [
        [graph(6, 0.5, 0), graph(3, 0.9, 1)],
        [graph(0, 0, 0), graph(1, 0, 1), graph(5, 0, 2), graph(9, 0.3, 3)],
        [graph(120, 0.05, 0), graph(7, 0.4, 1), graph(2, 1.0, 2)],
    ]
    prepared = [model.prepare(collate(graphs)) for graphs in batches]
    return [{name: getattr(batch, name).contiguous() for name in model.input_shapes()} for batch in prepared]


DEAR = ["test_compiled_model_is_one_graph_with_the_same_results", "test_compiled_model_takes_any_size"]  # minutes
GRAPH_MAMBA = Golden(system=SYSTEM, checkpoint=checkpoint, run=run, tolerance=ABSOLUTE, double=ABSOLUTE)
READING = Golden(
    system=SYSTEM,
    part="reading",
    checkpoint=reading_checkpoint,
    recorded=recorded_reading,
    run=run_reading,
    tolerance=ABSOLUTE,
    double=ABSOLUTE,
    reading=True,
)
EVIDENCE = (
    families.Evidence(
        "graph_mamba",
        goldens=[GRAPH_MAMBA],
        counts={name: partial(_counts, name) for name in sorted(get_host().family("graph_mamba").variants)},
        shapes={"graph-mamba-mnist": partial(golden.facts, f"{SYSTEM}/state_dict_shapes.json")},
        inputs=inputs,
        forms={"largest": {"pooling": "max"}},
        dear=DEAR,
        # Nothing comes after the edges of the last layer (also upstream).
        idle=[f"layers.1.local_model.bn_edge_e.{name}" for name in ("weight", "bias")],
    ),
    families.Evidence("gmn", goldens=[READING], inputs=inputs, forms={"largest": {"pooling": "max"}}, dear=DEAR),
)
globals().update(families.suite(*EVIDENCE, distribution="mambasdk-graph", slow=True))


# ---- another set of the same layout ----

_OVERRIDES = {
    "gnn.layers_pre_mp": 0,
    "gt.batch_norm": True,
    "dataset.node_encoder_name": "LapPE",
    "dataset.edge_encoder_name": "LinearEdge",
    "posenc_LapPE.eigen.max_freqs": 5,
    "posenc_LapPE.dim_pe": 6,
    "posenc_LapPE.layers": 2,
    "gt.layer_type": "CustomGatedGCN+Mamba_Hybrid_Degree_Noise",
    "gt.layers": 3,
    "gt.dim_hidden": 18,
    "gnn.head": "graph",
    "gnn.layers_post_mp": 2,
    "model.graph_pooling": "mean",
}


def write_golden(root: Path) -> None:
    """Folder `graph-mamba` of other sizes, from our own models."""
    folder = root / SYSTEM
    config = {"cfg_overrides": _OVERRIDES, "dim_in": 3, "dim_out": 4, "edge_dim": 1, "eval_passes": 3}
    reading = {"d": 6, "m": 1, "M": 4, "s": 3, "d_state": 5, "expand": 2}
    golden.write(folder, "config.json", {**config, "gmn_reading": reading})
    torch.manual_seed(9)
    sizes = {"d_model": 18, "n_layer": 3, "max_freqs": 5, "pe_width": 6, "pe_layers": 2, "layers_post_mp": 2}
    own: Any = mambasdk.create_model("graph_mamba", **sizes, dim_in=3, dim_out=4, edge_dim=1, eval_passes=3)
    model: Any = golden.scatter(own, 9).eval()
    golden.write(folder, "weights.safetensors", model.state_dict())
    batch = model.prepare(collate([graph(8, 0.4, 0), graph(5, 0.6, 1)]))
    given = {
        "x": batch.x,
        "edge_index": batch.edge_index,
        "edge_attr": batch.edge_attr,
        "batch": batch.batch,
        "EigVals": batch.eigvals.unsqueeze(-1),
        "EigVecs": batch.eigvecs,
        "noise": batch.noise,
    }
    golden.write(folder, "io.safetensors", golden.record(GRAPH_MAMBA, model, given))
    _write_reading(folder, reading)


def _write_reading(folder: Path, sizes: dict[str, int]) -> None:
    settings = {"d_model": 6, "walk_length": 1, "walks": 4, "repeats": 3, "d_state": 5, "expand": 2}
    ends = {"node_encoder": "none", "dim_in": 6, "edge_encoder": "none", "head": "none"}
    torch.manual_seed(10)
    model: Any = golden.scatter(mambasdk.create_model("gmn", **settings, **ends), 10).eval()
    golden.write(folder, "gmn_reading_weights.safetensors", model.state_dict())
    plain = graph(7, 0.5, 4)
    chance = torch.Generator().manual_seed(3)
    membership = torch.zeros(7, sizes["s"], sizes["m"] + 1, 7, dtype=torch.uint8)
    for node in range(7):
        membership[node, ..., node] = 1  # hop 0 is the node itself
        membership[node, :, 1:] |= (torch.rand(sizes["s"], sizes["m"], 7, generator=chance) > 0.6).to(torch.uint8)
    given = {
        "x": torch.randn(7, 6, generator=chance),
        "edge_index": plain.edge_index,
        "edge_attr": torch.randn(plain.edge_index.shape[1], 6, generator=chance),
        "membership_v_s_m_u": membership,
        "degree_order": plain.edge_index[0].bincount(minlength=7).argsort(stable=True),
    }
    golden.write(folder, "gmn_reading_io.safetensors", golden.record(READING, model, given))
