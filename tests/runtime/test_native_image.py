"""The native engine on programs of image encoders: windows, tokens, broadcast weights, both directions of a mixer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch.nn import functional  # noqa: E402

from mambasdk import _core, nn  # noqa: E402
from mambasdk.lowering import Program, native_program  # noqa: E402

Native = Callable[[Program, Mapping[str, Any]], Callable[..., Any]]


@pytest.fixture
def native(tmp_path: Path) -> Native:
    """A program and its weights as a function of arrays by name."""

    def make(program: Program, weights: Mapping[str, Any]) -> Callable[..., Any]:
        save_file(
            {name: value.detach().contiguous() for name, value in {**weights, **program.constants}.items()},
            tmp_path / "model.safetensors",
        )
        (tmp_path / "program.json").write_text(json.dumps(program.to_json()))
        manifest = {
            "format": [1, 1],
            "family": "test",
            "config": {},
            "engine": {"name": "native", "program": "program.json"},
            "inputs": program.inputs,
            "files": {},
        }
        (tmp_path / "mambasdk.json").write_text(json.dumps(manifest))
        session = _core.load_package(str(tmp_path)).session()
        names = [output["name"] for output in program.outputs]

        def run(**inputs: Any) -> Any:
            arrays = {name: value.numpy() for name, value in inputs.items()}
            return {name: torch.from_numpy(value) for name, value in session.run(arrays, outputs=names).items()}

        return run

    return make


class Alone(torch.nn.Module, nn.Model):
    """A mixer and nothing else."""

    def __init__(self, mixer: Any) -> None:
        super().__init__()
        self.mixer = mixer

    def example_inputs(self) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(2, 5, 24)}

    def input_shapes(self) -> dict[str, list[int | str]]:
        return {"x": ["B", "L", 24]}

    def native_outputs(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": self.mixer(inputs["x"])}


@pytest.mark.parametrize("mixer", ["both", "both divided", "both scaled", "backwards", "swapped"])
@torch.no_grad()
def test_mixers_that_read_backwards(native: Native, mixer: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "both": {"divide_out": False, "bias": True},
        "both divided": {"bias": True},
        "both scaled": {"layer_scale": 0.2},
        "swapped": {"reverse": True},
    }
    make: Any = nn.BidirectionalMamba if mixer in options else nn.Mamba
    module = make(24, d_state=8, **options.get(mixer, {"reverse": True}))
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    program = native_program(Alone(module).eval())
    assert program is not None
    run = native(program, {f"mixer.{name}": value for name, value in module.state_dict().items()})
    for shape in ((1, 7, 24), (3, 150, 24)):
        v = torch.randn(shape)
        torch.testing.assert_close(run(x=v)["y"], module(v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [8, 4])
@torch.no_grad()
def test_image_to_tokens_with_a_class_token_in_the_middle(native: Native, stride: int) -> None:
    torch.manual_seed(0)
    dim, side = 16, (24 - 8) // stride + 1
    count = side * side
    conv = torch.nn.Conv2d(3, dim, 8, stride)
    cls_token, pos_embed = torch.randn(1, 1, dim), torch.randn(1, count + 1, dim)
    program = Program()
    image = program.input("image", "f32", ["B", 3, 24, 24])
    windows = program.unfold2d(image, (8, 8), (stride, stride))
    weight = program.reshape(program.weight("patch.weight"), [dim, 3 * 64])
    tokens = program.op("linear", x=windows, weight=weight, bias=program.weight("patch.bias"))
    tokens = program.reshape(tokens, ["B", count, dim])
    middle = program.expand(program.weight("cls_token"), ["B", 1, dim])
    front = program.concat_rows(program.slice(tokens, 1, 0, count // 2), middle)
    tokens = program.concat_rows(front, program.slice(tokens, 1, count // 2, count - count // 2))
    tokens = program.add(tokens, program.expand(program.weight("pos_embed"), ["B", -1, -1]))
    program.output("tokens", tokens, "f32", ["B", count + 1, dim])
    program.output("mean", program.mean_rows(tokens), "f32", ["B", dim])
    weights = {"patch.weight": conv.weight, "patch.bias": conv.bias, "cls_token": cls_token, "pos_embed": pos_embed}
    run = native(program, weights)
    for batch in (1, 3):
        v = torch.randn(batch, 3, 24, 24)
        patches = conv(v).flatten(2).mT
        cut = [patches[:, : count // 2], cls_token.expand(batch, -1, -1), patches[:, count // 2 :]]
        expected = torch.cat(cut, 1) + pos_embed
        got = run(image=v)
        torch.testing.assert_close(got["tokens"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got["mean"], expected.mean(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_padded_convolution_and_every_activation(native: Native) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 6, 3, 2, padding=1)
    program = Program()
    image = program.input("image", "f32", ["B", 2, "H", "W"])
    weight = program.reshape(program.weight("weight"), [6, 18])
    windows = program.unfold2d(image, (3, 3), (2, 2), (1, 1))
    y = program.op("linear", x=windows, weight=weight, bias=program.weight("bias"))
    outputs = {
        "gelu": (program.gelu(y), functional.gelu),
        "relu": (program.relu(y), functional.relu),
        "leaky": (program.leaky_relu(y, 0.2), lambda v: functional.leaky_relu(v, 0.2)),
        "sigmoid": (program.sigmoid(y), torch.sigmoid),
        "scale": (program.scale(y, -0.5), lambda v: -0.5 * v),
        "square": (program.multiply(y, y), torch.square),
        "silu": (program.op("silu", x=y), functional.silu),
        "tanh": (program.op("tanh", x=y), torch.tanh),
        "softplus": (program.op("softplus", x=y), functional.softplus),
        "squared_relu": (program.op("squared_relu", x=y), lambda v: functional.relu(v).square()),
        "gelu_tanh": (program.op("gelu_tanh", x=y), lambda v: functional.gelu(v, approximate="tanh")),
    }
    for name, (value, _) in outputs.items():
        program.output(name, value, "f32", ["B", "h", "w", 6])
    run = native(program, dict(conv.named_parameters()))
    v = torch.randn(2, 2, 11, 14)
    got, expected = run(image=v), conv(v).permute(0, 2, 3, 1)
    for name, (_, function) in outputs.items():
        torch.testing.assert_close(got[name], function(expected), atol=1e-5, rtol=1e-5)
