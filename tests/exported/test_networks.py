"""Plain PyTorch networks, of no family of ours, run natively as torch runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.lowering.graph import program_of_graph
from mambasdk.package import save_package
from mambasdk.runtime import load_package, set_num_threads

from .networks import SMALL, Named


def network(name: str) -> Named:
    """One whose running statistics are not those of a fresh batch norm."""
    torch.manual_seed(0)
    net = SMALL[name]().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net


def assert_close(found: Mapping[str, np.ndarray], expected: Mapping[str, Tensor]) -> None:
    """Within 1e-4 of the root mean square, everywhere."""
    for name, tensor in expected.items():
        scale = float(tensor.square().mean().sqrt())
        torch.testing.assert_close(torch.from_numpy(np.array(found[name])), tensor, rtol=0, atol=1e-4 * scale)


def run(package: Path, inputs: Mapping[str, Tensor], outputs: list[str]) -> dict[str, np.ndarray]:
    session = load_package(package).session()
    return session.run({name: tensor.numpy() for name, tensor in inputs.items()}, outputs)


def sized(net: Named, extent: Mapping[str, int]) -> dict[str, Tensor]:
    """Inputs whose free extents are as given."""
    generator = torch.Generator().manual_seed(5)
    inputs = {}
    for name, tensor in net.example_inputs().items():
        shape = [extent[d] if isinstance(d, str) else d for d in net.input_shapes()[name]]
        made = torch.randn(shape, generator=generator)
        inputs[name] = (
            made if tensor.is_floating_point() else torch.arange(made.numel()).reshape(shape).to(tensor.dtype)
        )
    return inputs


SIZES = {
    "resnet": ({"B": 1, "H": 64, "W": 64}, {"B": 3, "H": 64, "W": 96}, {"B": 2, "H": 75, "W": 51}),
    "denoiser": ({"B": 1, "S": 7}, {"B": 3, "S": 1}, {"B": 2, "S": 40}),
    "gru": ({"B": 1, "L": 9}, {"B": 5, "L": 1}, {"B": 3, "L": 37}),
}


@pytest.fixture(scope="module", params=list(SMALL))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Named, Path]:
    net = network(request.param)
    path = tmp_path_factory.mktemp(request.param) / "package"
    save_package(net, path, engine="native")
    return net, path


def test_a_network_gives_what_torch_gives(saved: tuple[Named, Path]) -> None:
    net, path = saved
    inputs = net.example_inputs()
    with torch.no_grad():
        expected = net.native_outputs(inputs)
    assert_close(run(path, inputs, list(expected)), expected)


def test_extents_that_are_free_may_have_any_size(saved: tuple[Named, Path], request: pytest.FixtureRequest) -> None:
    net, path = saved
    name = request.node.callspec.params["saved"]
    for extents in SIZES.get(name, ({"B": 1}, {"B": 3})):
        inputs = sized(net, extents)
        with torch.no_grad():
            expected = net.native_outputs(inputs)
        assert_close(run(path, inputs, list(expected)), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["resnet", "deit", "denoiser"])
def test_weights_in_half_precision_are_those_of_the_rounded_network(name: str, dtype: str, tmp_path: Path) -> None:
    net = network(name)
    save_package(net, tmp_path / "package", engine="native", dtype=dtype, products="float32")
    rounded = network(name)
    with torch.no_grad():
        for tensor in [*rounded.parameters(), *rounded.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(getattr(torch, dtype)))
        inputs = net.example_inputs()
        expected = rounded.native_outputs(inputs)
    assert_close(run(tmp_path / "package", inputs, list(expected)), expected)


def test_dense_layers_in_bfloat16_round_their_inputs_unless_products_are_float32(tmp_path: Path) -> None:
    net = network("deit")
    inputs = net.example_inputs()
    results, rounded = {}, {}
    for dtype in ("float32", "bfloat16", "float16"):
        for products in (None, "float32"):
            path = tmp_path / f"{dtype}-{products}"
            save_package(net, path, engine="native", dtype=dtype, products=products)
            nodes = json.loads((path / "program.json").read_text())["nodes"]
            dense = [node["args"] for node in nodes if node.get("op", "").startswith("linear")]
            rounded[dtype, products] = {args.get("round_x", False) for args in dense}
            results[dtype, products] = run(path, inputs, ["y"])["y"]
    assert rounded == {key: {key == ("bfloat16", None)} for key in rounded}
    exact, narrow = results["bfloat16", "float32"], results["bfloat16", None]
    error = np.abs(narrow - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.02  # 2^-9 of each input, through all layers
    assert np.array_equal(results["float32", None], results["float32", "float32"])
    with pytest.raises(InvalidArgumentError, match="bad products: expected 'float32', got 'int8'"):
        save_package(net, tmp_path / "other", dtype="bfloat16", products="int8")


def test_a_network_for_images_runs_channel_last_throughout() -> None:
    """One change of layout of the image and none behind it; batch norms are gone and so are separate activations."""
    program = program_of_graph(network("resnet")).to_json()
    called = [node["op"] for node in program["nodes"] if "op" in node]
    assert set(called) == {"convolution_packed", "max_pool", "adaptive_average_pool", "linear_packed"}
    folded = [node["args"] for node in program["nodes"] if node.get("op") == "convolution_packed"]
    assert sum(args["activation"] != 0 for args in folded) == len(folded) - 4  # but those of the shortcuts
    assert sum("residual" in args for args in folded) == 5


def test_numbers_of_threads_do_not_change_bits(saved: tuple[Named, Path]) -> None:
    net, path = saved
    inputs = net.example_inputs()
    names = list(net.native_outputs(inputs))
    results = []
    try:
        for count in (1, 2, 3):
            set_num_threads(count)
            results.append(run(path, inputs, names))
    finally:
        set_num_threads(0)
    for other in results[1:]:
        assert all(np.array_equal(other[name], results[0][name]) for name in names)


def test_a_profile_has_each_node_that_ran(
    saved: tuple[Named, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = saved
    monkeypatch.setenv("MAMBASDK_PROFILE", str(tmp_path / "profile.jsonl"))
    inputs = {name: tensor.numpy() for name, tensor in net.example_inputs().items()}
    session = load_package(path).session()
    for _ in range(3):
        session.run(inputs)
    del session
    lines = [json.loads(line) for line in (tmp_path / "profile.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["prepare"], ["nodes"]]
    program = json.loads((path / "program.json").read_text())
    for line, runs in zip(lines, (1, 3), strict=True):
        [(part, found)] = line.items()
        assert [(entry["node"], entry["op"]) for entry in found] == [
            (index, node["op"]) for index, node in enumerate(program[part]) if "op" in node
        ]
        for entry in found:
            least, whole = (round(1e3 * entry[name]) for name in ("least_us", "whole_us"))  # ns, which are whole
            assert entry["runs"] == runs
            assert 0 < least * runs <= whole
