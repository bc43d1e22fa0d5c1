"""Every golden tensor of Graph-Mamba and of the GMN reading; checkpoints, names, shapes and counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.plugins import get_host
from mambasdk_graph import Graph

TOLERANCE = 1e-4  # absolute, from the golden README
Golden = Callable[[str], Path]
FAMILIES = ("graph_mamba", "gmn")
FILES = {"graph_mamba": ("weights", "io"), "gmn": ("gmn_reading_weights", "gmn_reading_io")}
VARIANTS = sorted(get_host().family("graph_mamba").variants)


def load(golden: Golden, family: str, dtype: torch.dtype = torch.float32) -> tuple[Any, dict[str, Tensor]]:
    folder = golden("graph-mamba")
    config = json.loads((folder / "config.json").read_text())
    weights, io = (load_file(folder / f"{name}.safetensors") for name in FILES[family])
    return mambasdk.import_checkpoint(family, config, weights, dtype=dtype).eval(), io


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.float(), expected, atol=TOLERANCE, rtol=0)


def golden_graph(family: str, io: dict[str, Tensor], dtype: torch.dtype) -> Graph:
    x, attr = io["x"].to(dtype), io["edge_attr"].to(dtype)
    if family == "gmn":
        return Graph(x, io["edge_index"], attr, **tokens_of(io["membership_v_s_m_u"], io["edge_index"]))
    ptr = torch.cat((torch.zeros(1, dtype=torch.int64), io["batch"].bincount().cumsum(0)))
    pairs = {"eigvals": io["EigVals"].squeeze(-1).to(dtype), "eigvecs": io["EigVecs"].to(dtype)}
    return Graph(x, io["edge_index"], attr, batch=io["batch"], ptr=ptr, noise=io["noise"], **pairs)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["graph_mamba"])
def test_equals_the_golden(golden: Golden, family: str, dtype: torch.dtype) -> None:
    model, io = load(golden, family, dtype)
    seen: dict[str, Tensor] = {}
    model.encoder.register_forward_hook(lambda _, __, out: seen.update({"enc.x": out[0], "enc.e": out[1]}))
    for index, layer in enumerate(model.layers):
        layer.register_forward_hook(
            lambda _, __, out, i=index: seen.update({f"layer{i}.x": out[0], f"layer{i}.e": out[1]})
        )
    seen["pred"] = model(golden_graph(family, io, dtype)).logits
    assert len(seen) == 7
    for name, found in seen.items():
        near(found, io[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["gmn"])
def test_equals_the_golden_reading(golden: Golden, family: str, dtype: torch.dtype) -> None:
    """Named apart: this golden is an evaluation of the normative reading, not of upstream's code."""
    model, io = load(golden, family, dtype)
    graph = golden_graph(family, io, dtype)
    h, e = model.encode(graph)
    tokens = model.encode_tokens(graph, h, e)
    near(tokens, io["phi_tokens"])
    mixed = model.sub[0](tokens)
    near(mixed, io["bimamba_sub_noresidual"])
    near(tokens + mixed, io["bimamba_sub_residual"])
    nodes = model.encode_neighbourhoods(graph, h, e)
    near(nodes, io["node_encoding_last_state"])
    near(model.mix_nodes(nodes, graph), io["node_bimamba"])
    near(model.mpnn(h, e, graph.edge_index)[0], io["mpnn"])
    near(model(graph).logits, io["output"])


@pytest.mark.parametrize("family", FAMILIES)
def test_original_format_round_trip(golden: Golden, family: str, tmp_path: Path) -> None:
    """Upstream's configuration and names in; our package and back; the same output and the same names."""
    model, io = load(golden, family)
    graph = golden_graph(family, io, torch.float32)
    expected = model(graph).logits
    mambasdk.save_package(model, tmp_path / "package", engine="torch")
    again: Any = mambasdk.load(tmp_path / "package")
    assert torch.equal(again(graph).logits, expected)
    weights = load_file(golden("graph-mamba") / f"{FILES[family][0]}.safetensors")
    state = again.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], value) for name, value in weights.items())


@pytest.mark.parametrize("family", ["graph_mamba"])
def test_state_dict_shapes_are_those_of_the_golden(golden: Golden, family: str) -> None:
    shapes = json.loads((golden("graph-mamba") / "state_dict_shapes.json").read_text())
    model = mambasdk.create_model("graph-mamba-mnist", device="meta")
    assert family == "graph_mamba"
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == shapes


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts_are_the_published_ones(golden: Golden, variant: str) -> None:
    published = json.loads((golden("graph-mamba") / "param_counts.json").read_text())
    name = variant.removeprefix("graph-mamba-").replace("-superpixels", "superpixels").replace("-tiny", "tiny") + "-EX"
    expected = published[name]
    model: Any = mambasdk.create_model(variant, device="meta")

    def count(module: Any) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(model) == expected["params"]
    assert count(model.layers[0].self_attn) == expected["mamba_params_per_layer"]
    assert count(model.layers[0].local_model) == expected["gatedgcn_params_per_layer"]
    assert (len(model.layers), model.config.d_model) == (expected["layers"], expected["dim"])


def test_every_published_configuration_has_its_count(golden: Golden) -> None:
    assert len(json.loads((golden("graph-mamba") / "param_counts.json").read_text())) == len(VARIANTS)


CONFIGS = {
    "gnn.act": "gelu",
    "gt.layer_type": "CustomGatedGCN+Transformer",
    "dataset.node_encoder_name": "PPANode",
    "dataset.edge_encoder_name": "TypeDictEdge",
    "gnn.head": "san_graph",
}


@pytest.mark.parametrize("key", CONFIGS)
def test_configurations_that_are_not_built_are_refused_by_name(golden: Golden, key: str) -> None:
    folder = golden("graph-mamba")
    config = json.loads((folder / "config.json").read_text())
    config["cfg_overrides"][key] = CONFIGS[key]
    with pytest.raises(mambasdk.errors.CheckpointError, match=f"{key} = .*{CONFIGS[key].split('+')[-1]}.*expected"):
        mambasdk.import_checkpoint("graph_mamba", config, load_file(folder / "weights.safetensors"))


LAYER_TYPES = {
    "Mamba": ("none", 1, 0),
    "Mamba_Permute": ("random", 1, 0),
    "Mamba_Degree": ("degree", 1, 0),
    "Mamba_Hybrid_Degree_Noise": ("degree_random", 5, 0),
    "Mamba_Hybrid_Degree_Noise_Bucket": ("degree_random", 5, 3),
    "Mamba_Hybrid_Noise": ("random", 5, 3),  # upstream runs the other's body
    "Mamba_Hybrid_Noise_Bucket": ("random", 5, 0),
}


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_layer_types_of_upstream_and_nested_configurations(golden: Golden, name: str) -> None:
    folder = golden("graph-mamba")
    flat = json.loads((folder / "config.json").read_text())["cfg_overrides"]
    nested: dict[str, Any] = {}
    for key, value in {**flat, "gt.layer_type": f"CustomGatedGCN+{name}"}.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    model: Any = mambasdk.import_checkpoint("graph_mamba", nested, load_file(folder / "weights.safetensors"))
    config = model.config
    assert (config.order, config.eval_passes, config.buckets) == LAYER_TYPES[name]
    assert (config.dim_in, config.edge_dim, config.dim_out) == (3, 1, 5)  # from the weights
