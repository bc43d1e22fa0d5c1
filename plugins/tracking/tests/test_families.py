"""Motion predictors: the golden tensors, import, counts, compiled and exported graphs, and all engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.export import Dim

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import identity
from mambasdk.package import save_package, verify
from mambasdk_tracking.motion import motion_loss

TOLERANCE = 1e-4  # of the golden, absolute
FAMILY = pytest.mark.parametrize("family", ["mambatrack"])
NATIVE = pytest.mark.parametrize("norm", ["pre", "post"])
# (name in the golden, weights, configuration)
SYSTEMS = {
    "paper_preln": ("weights", {"norm": "pre"}),
    "paper_postln": ("weights", {"norm": "post"}),
    "unofficial": ("weights_unofficial", {}),
}


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def deltas(batch: int, length: int) -> torch.Tensor:
    return 0.3 * torch.randn(batch, length, 4, generator=torch.Generator().manual_seed(100 * batch + length))


@FAMILY
@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_the_golden(family: str, system: str, golden: Callable[[str], Path], golden_model: Any) -> None:
    weights, config = SYSTEMS[system]
    model = golden_model(weights, **config)
    assert identity(model).family == family
    tensors = load_file(golden("mambatrack") / "io.safetensors")
    with torch.no_grad():
        for case in ("q", "short"):
            out = model(tensors[f"{case}.input"])
            close(out, tensors[f"{case}.{system}.out"])
        if system == "unofficial":
            return
        x = model.proj_embedding_layer(tensors["q.input"])
        close(x, tensors[f"q.{system}.tokens0"])
        for index, block in enumerate(model.bi_mamba_blocks):
            x = block(x)
            close(x, tensors[f"q.{system}.tokens{index + 1}"])
        if system == "paper_preln":
            loss = motion_loss(model(tensors["q.input"]), tensors["q.label"])
            close(loss.reshape(1), tensors["q.paper_preln.smooth_l1"])


@FAMILY
def test_rollout_equals_the_golden(family: str, golden: Callable[[str], Path], golden_model: Any) -> None:
    tensors = load_file(golden(family) / "io.safetensors")
    found = golden_model(norm="pre").rollout(tensors["rollout.history_cxcywh"][None], (1920, 1080), 8)[0]
    torch.testing.assert_close(found, tensors["rollout.pred_cxcywh"], rtol=0, atol=1e-3)  # pixels: 2000 * 2^-24 a step


@FAMILY
@pytest.mark.parametrize("system", SYSTEMS)
def test_original_format_round_trip(family: str, system: str, golden_model: Any, tmp_path: Path) -> None:
    weights, config = SYSTEMS[system]
    model = golden_model(weights, **config)
    save_package(model, tmp_path / "package")
    again = mambasdk.load(tmp_path / "package")
    assert identity(again).config == identity(model).config
    assert identity(again).config["backward_flip"] == (system != "unofficial")
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    engine = json.loads((tmp_path / "package" / "mambasdk.json").read_text())["engine"]["name"]
    assert engine == ("torch" if system == "unofficial" else "native")
    torch.testing.assert_close(again(deltas(3, 7)), model(deltas(3, 7)), rtol=0, atol=0)
    imported = mambasdk.import_checkpoint(family, {"norm": config.get("norm", "pre")}, model.state_dict())
    assert identity(imported).config == identity(model).config


@pytest.mark.parametrize(
    ("variant", "count"), [("mambatrack-mtp", 13_357_380), ("mambatrack-mtp-unofficial", 13_332_804)]
)
def test_parameter_counts_are_the_published_ones(variant: str, count: int, golden: Callable[[str], Path]) -> None:
    model: Any = mambasdk.create_model(variant, device="meta")
    numel = lambda module: sum(parameter.numel() for parameter in module.parameters())  # noqa: E731
    assert numel(model) == count
    expected = json.loads((golden("mambatrack") / "param_counts.json").read_text())
    assert count in expected.values()
    assert numel(model.bi_mamba_blocks[0]) == expected["one_bimamba_block"]
    assert numel(model.bi_mamba_blocks[0].forward_mamba) == expected["one_mamba_d512"]


@FAMILY
def test_state_dict_shapes_are_those_of_the_golden(family: str, golden: Callable[[str], Path]) -> None:
    expected = json.loads((golden(family) / "state_dict_shapes.json").read_text())
    variant = "mambatrack-mtp" if expected["pred_head.1.weight"][1] == 512 else "mambatrack-mtp-unofficial"
    model = mambasdk.create_model(variant, device="meta")
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == expected


@FAMILY
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({}, id="paper"),
        pytest.param({"backward_flip": False, "pool_channels": 8}, id="unofficial", marks=pytest.mark.slow),
    ],
)
def test_compiled_model_is_one_graph_with_the_same_results(family: str, flags: dict[str, Any]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = mambasdk.create_model(family, d_model=16, n_layer=1, d_state=4, head_hidden=8, **flags)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 9), (3, 5), (5, 2)):
        gradients = []
        for run in (model, compiled):
            model.zero_grad()
            out = run(deltas(*shape))
            out.square().sum().backward()
            gradients.append((out, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}))
        (expected, eager), (found, compiled_gradients) = gradients
        close(found, expected, 1e-6)
        for name, gradient in eager.items():
            torch.testing.assert_close(compiled_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@FAMILY
def test_exported_model_takes_any_batch_and_length(family: str, tiny: Any) -> None:
    assert identity(tiny).family == family
    dynamic = {0: Dim("batch", min=1, max=4096), 1: Dim("length", min=1, max=4096)}
    with torch.no_grad():
        module = torch.export.export(tiny, (deltas(2, 9),), dynamic_shapes={"deltas": dynamic}).module()
        for shape in ((2, 9), (1, 1), (5, 3), (1, 40), (500, 10)):
            close(module(deltas(*shape)), tiny(deltas(*shape)), 1e-6)


@FAMILY
@NATIVE
def test_native_engine_equals_pytorch(family: str, norm: str, golden_model: Any, tmp_path: Path) -> None:
    from mambasdk._core import load_package

    model = golden_model(norm=norm)
    assert identity(model).family == family
    save_package(model, tmp_path / "package")
    assert verify(tmp_path / "package")
    loaded = load_package(tmp_path / "package")
    assert loaded.states == []  # each call is a prediction of its own
    session = loaded.session()
    for shape in ((3, 10), (1, 1), (64, 10), (2, 4), (500, 10), (0, 1), (3, 10)):
        x = deltas(*shape)
        found = torch.from_numpy(session.run({"deltas": x.numpy()}, ["delta"])["delta"])
        with torch.no_grad():
            close(found, model(x), 1e-5)


@pytest.mark.slow
@FAMILY
@pytest.mark.parametrize("system", SYSTEMS)
def test_aoti_engine_equals_pytorch(family: str, system: str, golden_model: Any, tmp_path: Path) -> None:
    from mambasdk._core import load_package

    weights, config = SYSTEMS[system]
    model = golden_model(weights, **config)
    assert identity(model).family == family
    save_package(model, tmp_path / "package", engine="aoti")
    assert verify(tmp_path / "package")
    session = load_package(tmp_path / "package").session()
    for shape in ((3, 10), (1, 1), (64, 10), (2, 4)):
        x = deltas(*shape)
        found = torch.from_numpy(session.run({"deltas": x.numpy()}, ["delta"])["delta"])
        with torch.no_grad():
            close(found, model(x), 1e-5)


@FAMILY
def test_float64_gradients_agree_with_differences(family: str) -> None:
    torch.manual_seed(0)
    model = mambasdk.create_model(family, d_model=8, n_layer=1, d_state=2, head_hidden=4).double()
    x = deltas(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))


@pytest.mark.parametrize(
    ("config", "message"),
    [({"blocks": 7}, "blocks = 7 in the configuration, 2 by the weights"), ({"d_model": 64}, "d_model = 64")],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(
    config: dict[str, int], message: str, golden_model: Any
) -> None:
    with pytest.raises(CheckpointError, match=message):
        golden_model(**config)


def test_other_checkpoints_and_wrong_inputs_are_named(tiny: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no tensor bi_mamba_blocks.*a motion predictor"):
        mambasdk.import_checkpoint("mambatrack", {}, {"proj_embedding_layer.weight": torch.zeros(4, 4)})
    for shape in ((2, 3), (2, 0, 4), (2, 3, 5)):
        with pytest.raises(ShapeError, match=r"expected \(B, L, 4\)"):
            tiny(torch.zeros(shape))
    with pytest.raises(InvalidArgumentError, match=r"bad pool_channels.*a divisor of 16"):
        mambasdk.create_model("mambatrack", d_model=16, pool_channels=5)
    with pytest.raises(InvalidArgumentError, match="'pre' or 'post'"):
        mambasdk.create_model("mambatrack", norm="middle")
