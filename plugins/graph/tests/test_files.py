"""The JSON format as packages read it, and every reader: round trips, damaged files, odd graphs."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph import Graph, GraphProcessor, collate, read_graphs

Make = Callable[..., Graph]
TEXT = {
    "num_nodes": 3,
    "x": [[1, 2], [3, 4.5], [-1e3, 0]],
    "edges": [[0, 1], [1, 2], [2, 2]],
    "edge_attr": [[0.5], [1], [2]],
    "y": [0, None, 1],
    "split": {"train": [0], "test": [2]},
    "name": "of no account",
}


def test_a_file_as_packages_read_it() -> None:
    made = GraphProcessor(node_features=2, edge_features=1)(json.dumps(TEXT).encode())
    np.testing.assert_array_equal(made["x"], np.float32(TEXT["x"]))
    np.testing.assert_array_equal(made["edge_index"], [[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])
    np.testing.assert_array_equal(made["edge_attr"], np.float32([[0.5], [0.5], [1], [1], [2]]))
    assert (made["batch"].tolist(), made["ptr"].tolist()) == ([0, 0, 0], [0, 3])
    directed = GraphProcessor()(json.dumps({**TEXT, "directed": True}).encode())
    np.testing.assert_array_equal(directed["edge_index"], np.transpose(TEXT["edges"]))


def test_what_a_file_may_leave_out() -> None:
    made = GraphProcessor(node_features=2, edge_features=3)(b'{"num_nodes": 2, "edges": [[0, 1]]}')
    assert (made["x"] == 1).all()
    assert (made["x"].shape, made["edge_attr"].shape) == ((2, 2), (2, 3))
    made = GraphProcessor(node_features=2)(b'{"num_nodes": 0}')
    assert (made["x"].shape, made["edge_index"].shape, made["ptr"].tolist()) == ((0, 2), (2, 0), [0, 0])
    made = GraphProcessor(categorical=True)(b'{"x": [[1, 2], [3, 0]]}')
    assert made["x"].dtype == np.int64


BAD = [
    (b"", "is no JSON"),
    (b"[1]", "expected a JSON object"),
    (b"{}", "neither num_nodes nor x"),
    (b'{"num_nodes": 2, "edges": [[0, 2]]}', r"edges: row 0: expected a whole number from 0 to 1, got 2"),
    (b'{"num_nodes": 2, "edges": [[0, -1]]}', r"edges: row 0: expected a whole number"),
    (b'{"num_nodes": 2, "edges": [[0, 1.0]]}', r"edges: row 0: expected a whole number"),
    (b'{"num_nodes": 2, "edges": [[0]]}', r"edges: row 0: expected \[source, target\]"),
    (b'{"num_nodes": 2, "edges": {}}', "edges: expected a list"),
    (b'{"num_nodes": 3, "x": [[1], [2]]}', "num_nodes is 3, x has 2 rows"),
    (b'{"x": [[1, 2], [3]]}', "x: row 1: expected 2 numbers as before, got 1"),
    (b'{"x": [["a"]]}', "x: row 0: expected finite numbers"),
    (b'{"x": [[1e999]]}', "x: row 0: expected finite numbers|is no JSON"),
    (b'{"num_nodes": 2, "edges": [[0, 1]], "edge_attr": []}', "edge_attr has 0 rows for 1 edges"),
    (b'{"num_nodes": 2, "directed": 1}', "directed: expected true or false"),
    (b'{"num_nodes": 99999999999999999999}', "num_nodes: expected a whole number"),
    (b'{"num_nodes": 5000000}', "5000000 nodes are more than 1000000; raise max_nodes"),
]


BAD += [
    (b'{"num_nodes": 2, "edge_list": [[0, 1]]}', 'the key "edge_list" is unknown; there are num_nodes, x, edges'),
    (b'{"num_nodes": 2, "edges": [], "edge_index": [[], []]}', "edges and edge_index are both there"),
    (b'{"num_nodes": 2, "edge_index": [[0, 1]]}', "edge_index: expected two lists of one length"),
    (b'{"num_nodes": 2, "edge_index": [[0], [1, 1]]}', "edge_index: expected two lists of one length"),
    (b'{"num_nodes": 2, "edge_index": [[0], [2]]}', "edge_index: edge 0: expected a whole number from 0 to 1, got 2"),
    (b'{"num_nodes": 2, "edge_index": [[0], [1]], "directed": false}', "edge_index lists both directions"),
    (b'{"x": [[0.5], [1e39]]}', r"x: row 1: expected finite numbers that float32 holds, got 1e\+39"),
    (b'{"x": [[0], [0]], "edges": [[0, 1]], "edge_attr": [[-1e300]]}', "edge_attr: row 0: expected finite numbers"),
    (b'{"x": [[NaN]]}', "is no JSON"),
    (b'{"x": [[1]], "x": [[2]]}', "duplicate key x"),
    (b'{"num_nodes": 999999}', "999999 nodes without features in a file of 21 bytes, expected at most 1024; give x"),
    (b"[" * 400_000, "nested deeper than 8 levels"),
    (b'{"x": [[' + b"[" * 200_000 + b"]" * 200_000 + b"]]}", "nested deeper than 8 levels"),
    (
        b'{"num_nodes": 2, "edges": [[0, [[[' + b"1," * 200_000 + b"1]]]]]}",
        "expected a whole number .* got a list of 1$",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_damaged_files_are_clear_errors(text: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=message):
        GraphProcessor()(text)
    (tmp_path / "g.json").write_bytes(text)
    with pytest.raises(InvalidArgumentError, match=message):
        read_graphs(tmp_path / "g.json")


def test_wrong_numbers_of_features_and_categories_are_named() -> None:
    with pytest.raises(ValueError, match="x: expected 5 numbers by row, got 2"):
        GraphProcessor(node_features=5)(json.dumps(TEXT).encode())
    with pytest.raises(ValueError, match=r"x: expected categories, whole numbers from 0, got 4\.5"):
        GraphProcessor(categorical=True)(json.dumps(TEXT).encode())
    with pytest.raises(ValueError, match="3 undirected edges are more than 5 directed ones; raise max_edges"):
        GraphProcessor(max_edges=5)(json.dumps(TEXT).encode())


def test_edge_index_is_read_as_in_npz(tmp_path: Path) -> None:
    ends = [[0, 1, 1, 2], [1, 0, 2, 1]]
    made = GraphProcessor()(json.dumps({"num_nodes": 3, "edge_index": ends, "edge_attr": [1, 2, 3, 4]}).encode())
    np.testing.assert_array_equal(made["edge_index"], ends)
    np.testing.assert_array_equal(made["edge_attr"][:, 0], [1, 2, 3, 4])
    (tmp_path / "g.json").write_text(json.dumps({"num_nodes": 3, "edge_index": ends}))
    np.savez(tmp_path / "g.npz", num_nodes=3, edge_index=np.array(ends))
    same(read_graphs(tmp_path / "g.json")[0], read_graphs(tmp_path / "g.npz")[0])


def test_errors_quote_no_container() -> None:
    text = json.dumps({"num_nodes": 2, "edges": [[0, {"a": ["secret"] * 50_000}]]}).encode()
    with pytest.raises(Exception, match="got an object of 1") as caught:
        GraphProcessor()(text)
    assert len(str(caught.value)) < 200


def same(found: Graph, expected: Graph) -> None:
    for name in ("x", "edge_index", "edge_attr", "y", "split"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b)


def test_json_and_json_lines(make_graph: Make, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(TEXT))
    graph = read_graphs(tmp_path / "one.json")[0]
    assert graph.y is not None
    assert graph.split is not None
    assert (graph.y.tolist(), graph.split.tolist()) == ([0, -1, 1], [0, -1, 2])
    graphs = [make_graph(n, 0.5) for n in (4, 1, 6)]
    lines = [
        {
            "x": g.x.tolist(),
            "edges": g.edge_index.T.tolist(),
            "edge_attr": g.edge_attr.tolist(),  # type: ignore[union-attr]
            "directed": True,
            "y": [0.5 * i],
        }
        for i, g in enumerate(graphs)
    ]
    (tmp_path / "many.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    for i, (found, expected) in enumerate(zip(read_graphs(tmp_path / "many.jsonl"), graphs, strict=True)):
        attr = None if expected.num_edges == 0 else expected.edge_attr
        same(found, expected.replace(y=torch.tensor([0.5 * i]), edge_attr=attr))
    (tmp_path / "bad.jsonl").write_text(json.dumps(lines[0]) + "\n{\n")
    with pytest.raises(InvalidArgumentError, match=r"bad.jsonl: line 2: .*no JSON"):
        read_graphs(tmp_path / "bad.jsonl")
    for text, message in (('"a"', "bad y"), ("[1, [2]]", "bad y"), ("[true]", "bad y")):
        (tmp_path / "y.json").write_text(f'{{"num_nodes": 2, "y": {text}}}')
        with pytest.raises(InvalidArgumentError, match=message):
            read_graphs(tmp_path / "y.json")
    (tmp_path / "y.json").write_text('{"num_nodes": 2, "split": {"train": [2]}}')
    with pytest.raises(InvalidArgumentError, match="bad split 'train'"):
        read_graphs(tmp_path / "y.json")


def test_npz(make_graph: Make, tmp_path: Path) -> None:
    graph = make_graph(7, 0.5)
    y, mask = np.arange(7), np.arange(7) % 2 == 0
    arrays = {"x": graph.x.numpy(), "edge_index": graph.edge_index.numpy(), "edge_attr": graph.edge_attr.numpy()}  # type: ignore[union-attr]
    np.savez(tmp_path / "g.npz", **arrays, y=y, train_mask=mask, test_mask=np.stack((~mask, mask), 1))
    split = torch.where(torch.from_numpy(mask), 0, 2)
    same(read_graphs(tmp_path / "g.npz")[0], graph.replace(y=torch.from_numpy(y), split=split))
    np.savez(tmp_path / "bad.npz", edge_index=np.array([[0], [9]]), x=np.zeros((2, 1)))
    with pytest.raises(InvalidArgumentError, match="an edge ends at a node that is not there: expected 0 to 1"):
        read_graphs(tmp_path / "bad.npz")
    np.savez(tmp_path / "unknown.npz", edges=np.array([[0], [1]]), edge_index=np.array([[0], [1]]))
    with pytest.raises(InvalidArgumentError, match="arrays of unknown names: edges: expected x, edge_index"):
        read_graphs(tmp_path / "unknown.npz")
    np.savez(tmp_path / "rows.npz", edge_index=np.array([[0, 1], [1, 2], [2, 0]]))
    with pytest.raises(InvalidArgumentError, match=r"bad edge_index: expected whole numbers \(2, E\), got .*\(3, 2\)"):
        read_graphs(tmp_path / "rows.npz")
    np.savez(tmp_path / "mask.npz", edge_index=np.array([[0], [1]]), train_mask=np.ones(3, bool))
    with pytest.raises(InvalidArgumentError, match=r"bad train_mask: expected \(2,\)"):
        read_graphs(tmp_path / "mask.npz")
    np.savez(tmp_path / "pickled.npz", edge_index=np.array([{}], dtype=object))
    with pytest.raises(InvalidArgumentError, match="cannot be read as a NumPy archive"):
        read_graphs(tmp_path / "pickled.npz")


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("source,target,weight\n0,1,0.5\n1,2,2\n")
    (tmp_path / "nodes.csv").write_text("a,y,b\n1,0,2\n3,1,4\n5,,6\n")
    graph = read_graphs(tmp_path)[0]
    assert graph.x.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert graph.edge_index.tolist() == [[0, 1, 1, 2], [1, 2, 0, 1]]
    assert graph.edge_attr is not None
    assert graph.edge_attr.tolist() == [[0.5], [2], [0.5], [2]]
    assert graph.y is not None
    assert graph.y.tolist() == [0, 1, -1]  # classes, the last not known
    (tmp_path / "edges.csv").write_text("from,to\n0,1\n")
    with pytest.raises(InvalidArgumentError, match="bad columns: expected source,target"):
        read_graphs(tmp_path)
    (tmp_path / "edges.csv").write_text("source,target\n0,x\n")
    with pytest.raises(InvalidArgumentError, match="some fields are no numbers"):
        read_graphs(tmp_path)


def write_ogb(folder: Path, graphs: list[Graph], **tables: list[Any]) -> None:
    folder.mkdir(parents=True)
    half = [graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]] for graph in graphs]
    content: dict[str, list[Any]] = {
        "num-node-list": [[graph.num_nodes] for graph in graphs],
        "num-edge-list": [[ends.shape[1]] for ends in half],
        "edge": [row for ends in half for row in ends.T.tolist()],
        "node-feat": [row for graph in graphs for row in graph.x.tolist()],
        **tables,
    }
    for name, rows in content.items():
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(",".join(map(str, row)) for row in rows))


def test_ogb_folders(make_graph: Make, tmp_path: Path) -> None:
    graphs = [make_graph(n, 0.5) for n in (5, 1, 8)]
    write_ogb(tmp_path / "raw", graphs, **{"graph-label": [[0], [1], [0]]})
    found = read_graphs(tmp_path)
    for a, b, label in zip(found, graphs, (0, 1, 0), strict=True):
        torch.testing.assert_close(a.x, b.x)
        assert sorted(a.edge_index.T.tolist()) == sorted(b.edge_index.T.tolist())
        assert a.y is not None
        assert a.y.tolist() == [label]
    (tmp_path / "raw" / "num-edge-list.csv.gz").write_bytes(gzip.compress(b"1\n2\n"))
    with pytest.raises(InvalidArgumentError, match="3 graphs by nodes, 2 by edges"):
        read_graphs(tmp_path)
    (tmp_path / "raw" / "num-edge-list.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        read_graphs(tmp_path)


@pytest.fixture
def torch_geometric(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class with the name and the pickled form of torch_geometric's Data."""

    class Storage:
        def __init__(self, fields: dict[str, Any]) -> None:
            self._mapping = fields

    class Data:
        def __init__(self, **fields: Any) -> None:
            self._store = Storage(fields)

    for cls, name, place in ((Data, "Data", "data"), (Storage, "GlobalStorage", "storage")):
        module = types.ModuleType(f"torch_geometric.data.{place}")
        cls.__module__, cls.__qualname__ = module.__name__, name
        setattr(module, name, cls)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("torch_geometric", "torch_geometric.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    return Data


def test_processed_files_of_pytorch_geometric(make_graph: Make, tmp_path: Path, torch_geometric: Any) -> None:
    graphs = [make_graph(n, 0.5).replace(y=torch.tensor([n])) for n in (5, 1, 8)]
    joined = {
        "x": torch.cat([g.x for g in graphs]),
        "edge_index": torch.cat([g.edge_index for g in graphs], 1),
        "edge_attr": torch.cat([g.edge_attr for g in graphs]),  # type: ignore[misc]
        "y": torch.cat([g.y for g in graphs]),  # type: ignore[misc]
    }
    edges = [g.num_edges for g in graphs]
    sizes = {"x": [5, 1, 8], "y": [1, 1, 1], "edge_index": edges, "edge_attr": edges}
    slices = {name: torch.tensor([0, *np.cumsum(size)]) for name, size in sizes.items()}
    for content in ((joined, slices, torch_geometric), (torch_geometric(**joined), slices), (joined, slices)):
        torch.save(content, tmp_path / "data.pt")
        for found, expected in zip(read_graphs(tmp_path / "data.pt"), graphs, strict=True):
            same(found, expected)
    torch.save(torch_geometric(x=graphs[0].x, edge_index=graphs[0].edge_index), tmp_path / "one.pt")
    same(read_graphs(tmp_path / "one.pt")[0], graphs[0].replace(edge_attr=None, y=None))


def test_data_in_memory_keeps_its_masks_and_names_what_is_not_used(make_graph: Make) -> None:
    graph = make_graph(6, 0.5)
    held = [0, 2, 4]
    mask = torch.zeros(6, dtype=torch.bool)
    mask[held] = True
    data = types.SimpleNamespace(
        x=graph.x, edge_index=graph.edge_index, edge_weight=torch.ones(graph.num_edges), y=torch.arange(6),
        train_mask=~mask, test_mask=torch.stack((mask, ~mask), 1), val_mask=None, pos=torch.zeros(6, 3), smiles="C",
    )  # fmt: skip
    with pytest.warns(UserWarning, match="Graph.from_pyg: fields that are not used: pos, smiles"):
        found = Graph.from_pyg(data)
    assert found.split is not None
    assert found.split.tolist() == [2, 0, 2, 0, 2, 0]
    assert found.edge_attr is not None
    assert found.edge_attr.shape == (graph.num_edges, 1)
    batch = types.SimpleNamespace(
        x=graph.x[:, 0], edge_index=torch.tensor([[0, 3], [1, 4]]), batch=torch.tensor([0, 0, 0, 1, 1, 1]),
        ptr=torch.tensor([0, 3, 6]), train_mask=mask,
    )  # fmt: skip
    found = Graph.from_pyg(batch)
    assert (found.num_graphs, found.x.shape) == (2, (6, 1))
    assert found.split is not None
    assert found.split.tolist() == [0, -1, 0, -1, 0, -1]
    del data.pos, data.smiles
    data.train_mask = torch.ones(5, dtype=torch.bool)
    with pytest.raises(InvalidArgumentError, match=r"bad train_mask: expected \(6,\)"):
        Graph.from_pyg(data)


def test_saved_data_is_read_the_same_beside_torch_geometric(
    make_graph: Make, tmp_path: Path, torch_geometric: Any
) -> None:
    """torch_geometric allows its own classes for every torch.load of the process; which of two is taken is chance."""
    graph = make_graph(5, 0.5)
    data = torch_geometric(x=graph.x, edge_index=graph.edge_index, test_mask=torch.ones(5, dtype=torch.bool))
    torch.save(data, tmp_path / "one.pt")
    expected = graph.replace(edge_attr=None, split=torch.full((5,), 2))
    storage = type(data._store)
    for allowed in ([], [torch_geometric], [storage], [torch_geometric, storage]):
        with torch.serialization.safe_globals(allowed):
            same(read_graphs(tmp_path / "one.pt")[0], expected)


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "data.pt").open("wb") as file:
        pickle.dump((Hostile(), {}), file)
    torch.save((Hostile(), {}), tmp_path / "zip.pt")
    for name in ("data.pt", "zip.pt"):
        with pytest.raises(InvalidArgumentError, match=r"refused: |cannot be read"):
            read_graphs(tmp_path / name)
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(InvalidArgumentError, match="is no data set of PyTorch Geometric"):
        read_graphs(tmp_path / "other.pt")
    assert capsys.readouterr().out == ""


def test_unknown_files_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "x.json", "no such file"), (tmp_path, "no graphs in the folder")):
        with pytest.raises(InvalidArgumentError, match=message):
            read_graphs(path)
    (tmp_path / "x.gml").write_text("")
    with pytest.raises(InvalidArgumentError, match="unknown kind of file"):
        read_graphs(tmp_path / "x.gml")


def test_a_batch_keeps_everything(make_graph: Make) -> None:
    graphs = [make_graph(n, 0.5).replace(y=torch.full((n,), n)) for n in (3, 0, 5)]
    batch = collate(graphs).validate()
    assert batch.ptr.tolist() == [0, 3, 3, 8]
    assert batch.batch.tolist() == [0] * 3 + [2] * 5
    again = collate([batch, graphs[0]])
    assert again.ptr.tolist() == [0, 3, 3, 8, 11]
    assert Graph.from_pyg(batch).batch.tolist() == batch.batch.tolist()
    with pytest.raises(InvalidArgumentError, match=r"1 of 2 graphs have no y; give all graphs the same fields"):
        collate([graphs[0], graphs[2].replace(y=None)])
    with pytest.raises(InvalidArgumentError, match="an edge goes from one graph to another"):
        Graph(torch.zeros(2, 1), torch.tensor([[0], [1]]), ptr=torch.tensor([0, 1, 2])).validate()
    with pytest.raises(InvalidArgumentError, match="edge_attr has values that are not finite"):
        Graph(torch.zeros(1, 1), torch.tensor([[0], [0]]), torch.tensor([[float("nan")]])).validate()
    with pytest.raises(InvalidArgumentError, match=r"bad edge_index: expected \(2, E\), got \(4, 2\)"):
        Graph(torch.zeros(2, 1), torch.zeros(4, 2, dtype=torch.int64))
