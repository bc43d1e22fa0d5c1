"""The contract of a model: defaults of `nn.Model`, and modules that only have parts of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, LoweringError
from mambasdk.lowering import Program, as_model, native_program, runs_by_name
from mambasdk.lowering.exported import export_model
from mambasdk.models import Identity
from mambasdk.nn import Model


class Pair(nn.Module, Model):
    """Two inputs, two outputs, and nothing else of the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 2)

    def example_inputs(self) -> dict[str, Tensor]:
        return {"image": torch.ones(2, 3), "text": torch.ones(2, 5, 3)}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image, text = self.mix(inputs["image"]), self.mix(inputs["text"])
        return {"scores": torch.einsum("bc,blc->bl", image, text), "embedding": image}


def test_defaults_are_those_of_a_model_with_nothing_special() -> None:
    model = Pair()
    assert as_model(model) is model
    assert runs_by_name(model)
    assert model.input_shapes() == {"image": ["B", 3], "text": ["B", 5, 3]}
    assert (model.initial_state(2), model.vocab_size, model.classes, model.feature_outputs) == (None, None, None, ())
    assert native_program(model) is not None
    outputs, state = model.native_step(model.example_inputs(), None)
    assert state is None
    torch.testing.assert_close(outputs, model.native_outputs(model.example_inputs()))
    with pytest.raises(InvalidArgumentError, match="Pair keeps the size of its inputs"):
        model.resized(image=(4,))
    with pytest.raises(InvalidArgumentError, match="Pair has no classes"):
        model.with_classes(4)


def test_head_and_processors_are_the_familys_until_the_model_says_otherwise() -> None:
    model = Pair()
    assert model.package_head is None
    assert model.package_processors() == {}
    entry = {"image": {"kind": "image"}}
    model.mambasdk_identity = Identity("pair", None, {}, head="pairing", processors=entry)
    assert model.package_head == "pairing"
    assert model.package_processors() == entry


def test_several_inputs_and_outputs_export_with_a_free_batch() -> None:
    model = Pair().eval()
    exported = export_model(model)
    assert [port["shape"] for port in exported.inputs] == [["B", 3], ["B", 5, 3]]
    assert [(port["name"], port["shape"]) for port in exported.outputs] == [
        ("scores", ["B", 5]),
        ("embedding", ["B", 2]),
    ]
    inputs = torch.randn(7, 3), torch.randn(7, 5, 3)
    expected = model.native_outputs({"image": inputs[0], "text": inputs[1]})
    torch.testing.assert_close(exported.program.module()(*inputs), tuple(expected.values()))


def test_a_state_without_a_step_is_refused() -> None:
    class Stateful(Pair):
        def initial_state(self, batch_size: int) -> Any:
            return torch.zeros(batch_size, 2)

    with pytest.raises(LoweringError, match=r"Stateful keeps a state .* no native_step\(\)"):
        export_model(Stateful().eval())


class Old(nn.Module):
    """A family's module from before the contract: no base, some of the methods."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 2)

    def example_inputs(self) -> dict[str, Tensor]:
        return {"x": torch.ones(2, 3)}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": self.mix(inputs["x"])}


def test_a_module_without_the_base_has_what_it_offers() -> None:
    module = Old()
    model = as_model(module)
    assert model.input_shapes() == {"x": [2, 3]}  # what it does not name is fixed
    assert native_program(module) is not None
    torch.testing.assert_close(
        model.native_outputs(model.example_inputs()), module.native_outputs(module.example_inputs())
    )

    class Lowered(Old):
        package_head = None

        def lower(self, program: Program) -> None:
            program.output("y", program.linear(program.input("x", "f32", ["B", 3]), "mix", bias=True), "f32", ["B", 2])

        def package_processors(self) -> dict[str, dict[str, Any]]:
            return {"x": {"kind": "numbers"}}

    lowered = Lowered()
    lowered.mambasdk_identity = Identity("old", None, {}, head="of the family")  # type: ignore[assignment]
    assert as_model(lowered).input_shapes() == {"x": ["B", 3]}
    assert as_model(lowered).package_head is None
    assert as_model(lowered).package_processors() == {"x": {"kind": "numbers"}}
    assert native_program(lowered) is not None


def test_a_plain_module_runs_by_no_name() -> None:
    assert not runs_by_name(as_model(nn.Linear(3, 2)))
    with pytest.raises(LoweringError, match="Linear has no example_inputs"):
        export_model(nn.Linear(3, 2))
