"""What is declared about a family, and the family as tests see it: small models, inputs of other sizes, packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mambasdk.errors import MambaSDKError
from mambasdk.lowering import native_program
from mambasdk.lowering.exported import ExportedModel, export_model
from mambasdk.models import build
from mambasdk.package import save_package
from mambasdk.plugins import FamilySpec, get_host
from mambasdk.testing.golden import Golden, scatter

Inputs = dict[str, Tensor]
Shapes = dict[str, list[int | str]]
Counts = int | Mapping[str, int]


@dataclass(frozen=True)
class Evidence:
    """What tests need to know of a family beside its FamilySpec. A bare `Evidence("acme")` is enough to begin with.

    family: its name.
    goldens: tensors of another implementation.
    forms: name -> overrides of the spec's `tiny` configuration that change the model's graph; engines are compared on
        each. The tiny configuration itself is always among them, under the empty name.
    counts: variant -> the published number of parameters, of the model or of its submodules by path ("" is the model);
        or a function without arguments that gives it, from `mambasdk.testing.golden.facts`.
    shapes: variant -> a function without arguments that gives the names and shapes of the published state dict.
    inputs: model -> inputs of other sizes than `example_inputs`; None: rows and lengths of the example, repeated.
    native: whether the native engine runs the family, on every form.
    idle: names of parameters, in the tiny model, that an output never depends on, and why they are there is upstream's.
    bfloat16: the error of a bfloat16 model, norm of the difference over norm of the outputs; None: the family has none.
    dear: names of test functions that take long for this family alone: they are marked slow.
    equal: the largest difference between two ways to compute in float32, of the largest magnitude (or 1).
    """

    family: str
    goldens: Sequence[Golden] = ()
    forms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: Mapping[str, Counts | Callable[[], Counts]] = field(default_factory=dict)
    shapes: Mapping[str, Callable[[], Mapping[str, Sequence[int]]]] = field(default_factory=dict)
    inputs: Callable[[Any], Sequence[Inputs]] | None = None
    native: bool = True
    idle: Sequence[str] = ()
    bfloat16: float | None = 0.05
    equal: float = 1e-4
    dear: Sequence[str] = ()


class Subject:
    """A family under test. Its packages and its exported graph are made once in a session and shared."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._packages: dict[tuple[str, str], Path] = {}

    def __str__(self) -> str:
        return self.evidence.family

    @cached_property
    def spec(self) -> FamilySpec:
        """The family's FamilySpec."""
        return get_host().family(self.evidence.family)

    @cached_property
    def forms(self) -> dict[str, Mapping[str, Any]]:
        """Every form's overrides by name; "" is the tiny configuration."""
        return {"": {}, **self.evidence.forms}

    def model(self, form: str = "", *, moved: bool = True) -> Any:
        """A new model of the tiny configuration, in eval mode: the same numbers each time.

        moved: with every parameter away from where it begins, which for many is zero or one.
        """
        torch.manual_seed(0)
        model = build(self.spec, {**self.spec.tiny, **self.forms[form]}).eval()
        return scatter(model, 1) if moved else model

    @cached_property
    def exports(self) -> bool:
        """Whether the model hands its state over, where it keeps one, as a graph has to."""
        model = self.model()
        return not hasattr(model, "initial_state") or hasattr(model, "native_step")

    @cached_property
    def grows(self) -> bool:
        """Whether its state grows from call to call, as a cache of keys does; a compiled package has no such state."""
        start = getattr(self.model(), "initial_state", None)
        leaves = [] if start is None else _pytree.tree_leaves(start(1))
        return any(isinstance(leaf, Tensor) and not leaf.numel() for leaf in leaves)

    @cached_property
    def rows(self) -> bool:
        """Whether every input and output has one row for each entry of a batch."""
        shapes = input_shapes(self.model())
        first = next(iter(shapes.values()))[0]
        return isinstance(first, str) and all(shape and shape[0] == first for shape in shapes.values())

    @cached_property
    def exported(self) -> ExportedModel:
        """The graph of the tiny model."""
        return export_model(self.model())

    def package(self, factory: pytest.TempPathFactory, engine: str, form: str = "") -> Path:
        """A package of the form for an engine."""
        if (key := (engine, form)) not in self._packages:
            folder = factory.mktemp(f"{self}-{engine}") / "package"
            save_package(self.model(form), folder, engine=engine)
            self._packages[key] = folder
        return self._packages[key]

    def inputs(self, model: Any) -> list[Inputs]:
        """Inputs of several sizes that `native_outputs` takes; free extents of 1 are among them."""
        if self.evidence.inputs is not None:
            return list(self.evidence.inputs(model))
        example, shapes = model.example_inputs(), input_shapes(model)
        sizes = {
            dim: tensor.shape[axis]
            for name, tensor in example.items()
            for axis, dim in enumerate(shapes[name])
            if isinstance(dim, str)
        }
        batch = next(iter(sizes), None)
        choices = [
            dict.fromkeys(sizes, 1),
            {dim: 3 if dim == batch else size + 5 + 2 * i for i, (dim, size) in enumerate(sizes.items())},
            {dim: 5 if dim == batch else max(size // 2, 1) for dim, size in sizes.items()},
        ]
        made = [_resized(example, shapes, extents) for extents in choices]
        return [inputs for inputs in made if _takes(model, inputs)] or [example]

    def close(self, found: Tensor, expected: Tensor, what: str = "") -> None:
        """Fail unless both are equal as two ways to compute in float32 are."""
        scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
        torch.testing.assert_close(
            found,
            expected,
            atol=self.evidence.equal * scale,
            rtol=0,
            equal_nan=True,
            msg=lambda message: f"{self}: {what}: {message}",
        )


def input_shapes(model: Any) -> Shapes:
    """Names and shapes of the model's inputs; a string is an extent that is free at run time."""
    if callable(getattr(model, "input_shapes", None)):
        return {name: list(shape) for name, shape in model.input_shapes().items()}
    program = native_program(model)
    if program is None:
        return {name: list(tensor.shape) for name, tensor in model.example_inputs().items()}
    return {port["name"]: list(port["shape"]) for port in program.inputs}


def _resized(example: Inputs, shapes: Shapes, extents: Mapping[str, int]) -> Inputs:
    """The example with other extents: its rows in another order, floating-point numbers moved by a tenth."""
    generator = torch.Generator().manual_seed(sum(extents.values()))
    made = {}
    for name, tensor in example.items():
        for axis, dim in enumerate(shapes[name]):
            if isinstance(dim, str):
                rows = (torch.arange(extents[dim]) * 7 + 1) % tensor.shape[axis]
                tensor = tensor.index_select(axis, rows)  # noqa: PLW2901
        if tensor.is_floating_point():
            tensor = tensor + 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor)  # noqa: PLW2901
        made[name] = tensor.contiguous()
    return made


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _takes(model: Any, inputs: Inputs) -> bool:
    """Whether inputs of that size are not too small for the model."""
    try:
        with torch.no_grad():
            model.native_outputs(inputs)
    except (MambaSDKError, ValueError):
        return False
    return True
