"""Labels of graphs and nodes: the native heads, training and prediction from the command line, pictures, and C++."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_pipelines

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.package import Manifest
from mambasdk.training import Trainer, TrainingOptions
from mambasdk_graph import Graph, NodeClassification, collate
from mambasdk_graph.drawing import spring_layout
from mambasdk_graph.plugin import LIBRARY
from mambasdk_graph.readers import read_graphs, read_json
from mambasdk_graph.training import GraphTask, Targets, split_graphs, split_nodes

FAMILIES = ("graph_mamba", "gmn")
Make = Callable[..., Any]
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = {
    "graph_mamba": ["d_model=16", "n_layer=2", "pe_width=4", "max_freqs=4", "d_state=4"],
    "gmn": ["d_model=16", "walk_length=1", "walks=1", "repeats=1", "d_state=4"],
}


def settings(family: str) -> list[str]:
    return [word for text in SMALL[family] for word in ("--set", text)]


def graph_file(path: Path, graph: Graph, **more: Any) -> Path:
    content = {"x": graph.x.tolist(), "edges": graph.edge_index.T.tolist(), "directed": True, **more}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def rings_and_stars(tmp_path: Path) -> Path:
    """Forty graphs of 5 to 9 nodes, rings (0) and stars (1); a node's feature is its number of neighbours."""
    lines = []
    for index in range(40):
        nodes = 5 + index // 2 % 5
        ring = [[i, (i + 1) % nodes] for i in range(nodes)]
        star = [[0, i] for i in range(1, nodes)]
        edges = star if index % 2 else ring
        x = [[sum(node in edge for edge in edges)] for node in range(nodes)]
        lines.append(json.dumps({"x": x, "edges": edges, "y": index % 2}))
    path = tmp_path / "graphs.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_train_predict_and_draw_graphs(
    family: str, rings_and_stars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, curve = tmp_path / "package", tmp_path / "curve.png"
    command = ["train", family, "--data", str(rings_and_stars), "--out", str(out), "--labels", "ring,star"]
    run = ["--steps", "30", "--batch", "8", "--lr", "0.01", "--curve", str(curve), "--json"]
    assert main([*command, *settings(family), *run]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"]["accuracy"] == 1.0
    assert report["targets"] == {"level": "graph", "kind": "classes", "count": 2}
    assert curve.read_bytes().startswith(PNG)
    manifest = Manifest.read(out)
    assert (manifest.head, manifest.head_options) == (
        "graph_classification",
        {"activation": "softmax", "labels": ["ring", "star"]},
    )
    again: Any = mambasdk.load(out)
    leaves = torch.arange(1, 7)
    ends = torch.stack((torch.zeros_like(leaves), leaves))
    star = graph_file(
        tmp_path / "star.json", Graph(torch.tensor([[6.0], *[[1.0]] * 6]), torch.cat((ends, ends.flip(0)), 1))
    )
    with torch.no_grad():
        assert int(again(read_json(star)).logits.argmax()) == 1
    assert main([*command, "--steps", "1"]) != 0
    assert "exists" in capsys.readouterr().err


def test_train_nodes_from_one_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str], make_graph: Make) -> None:
    """The label is a feature, so that a few steps learn it; null is not known."""
    graph = make_graph(60, 0.1)
    y = [None if i % 7 == 0 else int(graph.x[i, 0] > 0) for i in range(60)]
    data = graph_file(tmp_path / "g.json", graph, y=y)
    out = tmp_path / "package"
    command = [
        "train",
        "gmn",
        "--data",
        str(data),
        "--out",
        str(out),
        *settings("gmn"),
        "--steps",
        "60",
        "--lr",
        "0.01",
    ]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["head"] == "node_classification"
    assert report["targets"] == {"level": "node", "kind": "classes", "count": 2}
    assert report["held_out"]["accuracy"] > 0.8
    assert main(["train", str(out), "--data", str(data), "--out", str(tmp_path / "more"), "--steps", "2"]) == 0
    assert "held out: accuracy" in capsys.readouterr().out


def test_evaluate_measures_as_the_task_does(
    rings_and_stars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "package"
    command = ["train", "gmn", "--data", str(rings_and_stars), "--out", str(out), "--labels", "ring,star", "--json"]
    assert main([*command, *settings("gmn"), "--steps", "30", "--batch", "8", "--lr", "0.01"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--data", str(rings_and_stars), "--plot", str(tmp_path / "p"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    graphs = read_graphs(rings_and_stars)
    model: Any = mambasdk.load(out)
    with torch.no_grad():
        right = [int(model(graph).logits.argmax()) == int(graph.y) for graph in graphs]
    assert report["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    assert [row["class"] for row in report["classes"]] == ["ring", "star"]
    assert np.sum(report["confusion_matrix"]) == 40
    assert Path(report["pictures"]["confusion_matrix"]).read_bytes().startswith(PNG)

    files = [graph_file(tmp_path / f"{i}.json", graph, y=[0.5]) for i, graph in enumerate(graphs[:3])]
    assert main(["evaluate", str(out), "--data", *map(str, files), "--json"]) == 2
    assert "the data have other targets" in capsys.readouterr().err


def test_evaluate_values_and_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny: Make) -> None:
    model: Any = tiny("gmn", dim_in=1, dim_out=1, head="node", node_encoder="linear", edge_encoder="dummy")
    mambasdk.save_package(model, tmp_path / "package", head_options={"activation": "none"}, engine="torch")
    graph = Graph(torch.rand(6, 1), torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]))
    y = [0.5, None, 1.5, -2.0, 0.25, 4.0]
    file = graph_file(tmp_path / "g.json", graph, y=y, split={"train": [0], "validation": [2], "test": [1, 3, 4]})
    with torch.no_grad():
        found = model.eval()(read_json(file)).logits[:, 0].tolist()
    for split, nodes in ((None, [3, 4]), ("validation", [2]), ("all", [0, 2, 3, 4, 5])):
        more = ["--split", split] if split else []
        assert main(["evaluate", str(tmp_path / "package"), "--data", str(file), *more, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        errors = [found[node] - float(y[node] or 0) for node in nodes]
        assert report["metrics"]["mean_absolute_error"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-4)
        assert report["metrics"]["root_mean_square_error"] == pytest.approx(
            float(np.sqrt(np.mean(np.square(errors)))), rel=1e-4
        )
        assert report["data"]["nodes"] == len(nodes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_goes_on_with_the_same_bits(family: str, rings_and_stars: Path, tmp_path: Path, tiny: Make) -> None:
    graphs = read_graphs(rings_and_stars)[:12]
    options = TrainingOptions(steps=4, batch=4)

    def trainer() -> Trainer:
        model = tiny(family, dim_in=1, dim_out=2, edge_encoder="dummy")
        return Trainer(model, GraphTask(model, graphs, level="graph", batch=4, resample=True), options)

    whole, first, second = trainer(), trainer(), trainer()
    whole.run(progress=False)
    first.model.train()
    for _ in range(2):
        first.step()
    first.save(tmp_path / "checkpoint")
    second.resume(tmp_path / "checkpoint")
    second.run(progress=False)
    assert second.result.losses == whole.result.losses
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_targets_and_losses_of_every_kind(make_graph: Make, tiny: Make) -> None:
    graphs = [make_graph(n, 0.5) for n in (4, 6, 5, 7)]
    nan = float("nan")
    kinds = {
        "classes": ([torch.tensor([i % 3]) for i in range(4)], 3),
        "labels": ([torch.tensor([[1.0, nan, float(i % 2)]]) for i in range(4)], 3),
        "values": ([torch.tensor([[0.5 * i, nan if i == 1 else 2.0]]) for i in range(4)], 2),
    }
    for kind, (ys, count) in kinds.items():
        data = [graph.replace(y=y) for graph, y in zip(graphs, ys, strict=True)]
        assert Targets.of(data, "graph") == Targets(kind, count)  # type: ignore[arg-type]
        model = tiny("gmn", dim_out=count)
        task = GraphTask(model, data[:3], data[3:], level="graph", batch=3, class_weights=True)
        loss, units = task.loss(0)
        loss.backward()
        assert units == 3
        assert bool(loss.isfinite())
        assert (
            set(task.evaluate())
            == {
                "classes": {"accuracy", "macro_f1"},
                "labels": {"average_precision", "roc_auc"},
                "values": {"mean_absolute_error"},
            }[kind]
        )
    with pytest.raises(InvalidArgumentError, match=r"bad y: expected \(6, …\), one row for each node, got \(1,\)"):
        Targets.of([graphs[1].replace(y=torch.tensor([1]))], "node")
    with pytest.raises(InvalidArgumentError, match="a graph has no y"):
        Targets.of(graphs, "graph")


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize("values", [(-2, 5, 0, -1), (-7, -7, -7, -9)])
def test_negative_whole_numbers_are_values_like_any_other(
    make_graph: Make, tiny: Make, level: str, values: tuple[int, ...], tmp_path: Path
) -> None:
    """From JSON, as tensors of whole numbers, and as floats: the same targets, losses and metrics."""

    def data(kind: str) -> list[Graph]:
        graphs = []
        for i, value in enumerate(values):
            graph = make_graph(4, 0.5, i)
            ys = [value] if level == "graph" else [value, value + 1, value, value]
            if kind == "json":
                content = {"x": graph.x.tolist(), "edges": graph.edge_index.T.tolist(), "directed": True, "y": ys}
                (tmp_path / "g.json").write_text(json.dumps(content))
                graphs.append(read_graphs(tmp_path / "g.json")[0])
            else:
                dtype = torch.int64 if kind == "whole" else torch.float32
                graphs.append(graph.replace(y=torch.tensor(ys, dtype=dtype), edge_attr=None))
        return graphs

    found = []
    model = tiny("gmn", dim_out=1, head=level, edge_encoder="dummy")
    for kind in ("json", "whole", "float"):
        graphs = data(kind)
        task = GraphTask(model, graphs, graphs, level=level, batch=4)
        assert task.targets.kind == "values"
        loss, units = task.loss(0)
        found.append((float(loss), units, task.evaluate()["mean_absolute_error"]))
    assert found[0][1] == (4 if level == "graph" else 16)
    assert found[1:] == [pytest.approx(found[0])] * 2


def test_unknown_targets_are_null_whatever_the_others_are(make_graph: Make, tmp_path: Path) -> None:
    for ys, kind, known in (
        ([3, None, 1], "classes", 2),
        ([3, None, -1], "values", 2),
        ([0.5, None, -1], "values", 2),
        ([None, 2, 2.5], "values", 2),
    ):
        (tmp_path / "g.json").write_text(json.dumps({"num_nodes": 3, "y": ys}))
        graph = read_graphs(tmp_path / "g.json")[0]
        targets = Targets.of([graph], "node")
        assert targets.kind == kind
        assert graph.y is not None
        normal = targets.normal(graph.y[:, None])
        assert int((normal >= 0).sum() if kind == "classes" else (~normal.isnan()).sum()) == known
        assert split_nodes(graph, 0.0, 0, targets).split.tolist().count(0) == known  # type: ignore[union-attr]
    with pytest.raises(InvalidArgumentError, match="at most 65536 classes"):
        Targets.of([make_graph(2, 0.5).replace(y=torch.tensor([10**9]))], "graph")


def test_splits(make_graph: Make) -> None:
    graphs = [make_graph(3, 0.5, seed).replace(y=torch.tensor([seed])) for seed in range(10)]
    train, held_out = split_graphs(graphs, 0.3, 0)
    assert (len(train), len(held_out)) == (7, 3)
    assert {int(g.y) for g in [*train, *held_out]} == set(range(10))
    node = split_nodes(make_graph(10, 0.5).replace(y=torch.tensor([-1, *range(9)])), 0.33, 0)
    assert node.split.tolist().count(2) == 3
    assert node.split[0] == -1


def test_new_walks_each_epoch(make_graph: Make, tiny: Make) -> None:
    data = [make_graph(20, 0.3, seed).replace(y=torch.tensor([seed % 2])) for seed in range(4)]
    torch.manual_seed(0)
    losses = {}
    for resample in (False, True):
        task = GraphTask(tiny("gmn", repeats=1, dim_out=2), data, level="graph", batch=4, resample=resample)
        losses[resample] = [task.loss(step)[0].item() for step in (0, 1)]
    assert losses[False][0] == pytest.approx(losses[False][1], abs=1e-6)
    assert losses[True][0] != pytest.approx(losses[True][1], abs=1e-6)


def test_labels_of_nodes() -> None:
    logits = np.array([[0.0, 2.0], [3.0, 1.0], [1.0, 1.0]], np.float32)
    found = NodeClassification(labels=["a", "b"])(logits)
    assert [(node["node"], node["label"], node["index"]) for node in found] == [(0, "b", 1), (1, "a", 0), (2, "a", 0)]
    assert found[0]["score"] == pytest.approx(1 / (1 + np.exp(-2)))
    found = NodeClassification(activation="sigmoid", labels=["no", "yes"])(np.array([[2.0], [-1.0]], np.float32))
    assert [node["label"] for node in found] == ["yes", "no"]
    assert found[1]["score"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert NodeClassification()(np.zeros((0, 3), np.float32)) == []
    assert NodeClassification(activation="none")(np.array([[np.nan, 1.0]], np.float32))[0]["index"] == 1
    with pytest.raises(ValueError, match="3 labels for 2 classes; give one per class"):
        NodeClassification(labels=["a", "b", "c"])(logits)
    with pytest.raises(ValueError, match=r"expected f32 \(N, C\), got 1 dims"):
        NodeClassification()(np.zeros(3, np.float32))


def test_layout_keeps_neighbours_together() -> None:
    """Two cliques with one edge between them: places within one are nearer than across."""
    clique = [[i, j] for i in range(6) for j in range(6) if i != j]
    ends = np.array([*clique, *([i + 6, j + 6] for i, j in clique), [0, 6]]).T
    places = spring_layout(ends, 12)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert distance[:6, :6].sum() / 30 < 0.5 * distance[1:6, 7:].mean()
    assert np.array_equal(places, spring_layout(ends, 12))
    for nodes in (0, 1, 2, 5):
        assert np.isfinite(spring_layout(np.zeros((2, 0), np.int64), nodes)).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_packages_run_in_python_on_the_command_line_and_in_cpp(
    family: str,
    make_graph: Make,
    tiny: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled packages of nodes and of graphs: the same result from PyTorch, `predict`, and a C++ program."""
    graphs = {"a": make_graph(12, 0.3), "alone": make_graph(1, 0), "loose": make_graph(5, 0), "none": make_graph(0, 0)}
    files = []
    for name, graph in graphs.items():
        attr = graph.edge_attr.tolist() if graph.edge_attr is not None else []
        files.append(graph_file(tmp_path / f"{name}.json", graph, num_nodes=graph.num_nodes, edge_attr=attr))
    labels = [f"class {c}" for c in range(4)]
    for level in ("node", "graph"):
        model = tiny(family, head=level, dim_out=4, dim_in=3)
        package = tmp_path / level
        mambasdk.save_package(model, package, engine="aoti", head_options={"labels": labels})
        assert Manifest.read(package).head == f"{level}_classification"
        capsys.readouterr()
        plots = tmp_path / f"{level} plots"
        assert main(["predict", str(package), *map(str, files), "--allow-code", "--json", "--plot", str(plots)]) == 0
        found = json.loads(capsys.readouterr().out)["results"]
        assert all(Path(result.pop("plot")).read_bytes().startswith(PNG) for result in found)
        with torch.no_grad():
            expected = [model(graph).logits.softmax(1) for graph in graphs.values()]
        for result, scores in zip(found, expected, strict=True):
            rows = result["nodes"] if level == "node" else result["labels"][:1]
            assert [row["index"] for row in rows] == scores.argmax(1).tolist()
            assert [row["score"] for row in rows] == pytest.approx(scores.max(1).values.tolist(), abs=1e-5)
        monkeypatch.setenv("MAMBASDK_LIBTORCH", str(Path(torch.__file__).parent / "lib"))
        said = toy_pipelines.run_cpp(package, "graph", files, LIBRARY)
        assert said == [{key: value for key, value in result.items() if key != "file"} for result in found]


def test_collated_graphs_are_trained_as_one(make_graph: Make, tiny: Make) -> None:
    """Gradients of a batch are the mean of those of its graphs."""
    data = [make_graph(n, 0.4).replace(y=torch.tensor([n % 2])) for n in (5, 8)]
    model = tiny("gmn", dim_out=2)
    task = GraphTask(model, data, level="graph", batch=2)
    task.loss(0)[0].backward()
    together = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for graph in data:
        (torch.nn.functional.cross_entropy(model(graph).logits, graph.y) / 2).backward()
    alone = [p.grad for p in model.parameters() if p.grad is not None]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert collate(data).num_graphs == 2
