"""What holds for models of any family: published facts, goldens, packages, batches, gradients, compiled graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree

from mambasdk.models import create_model, identity
from mambasdk.package import load, save_package, verify
from mambasdk.testing.golden import Golden, find, folder_or_skip
from mambasdk.testing.property import Property, collected
from mambasdk.testing.subject import Subject, trainable

PROPERTIES: list[Property] = []


# ---- published facts ----


def _counted(subject: Subject) -> Iterable[Any]:
    return [pytest.param(subject, variant, id=variant) for variant in subject.evidence.counts]


@collected(PROPERTIES, arguments="subject, variant", cases=_counted)
def test_parameter_counts_are_the_published_ones(subject: Subject, variant: str) -> None:
    """Of the model, and of those submodules whose counts are published."""
    published = subject.evidence.counts[variant]
    if callable(published):
        published = published()
    model = create_model(variant, device="meta")
    expected = {"": published} if isinstance(published, int) else dict(published)
    found = {path: sum(p.numel() for p in model.get_submodule(path).parameters()) for path in expected}
    assert found == expected
    assert all(parameter.is_meta for parameter in model.parameters())
    assert identity(model).variant == variant


def _shaped(subject: Subject) -> Iterable[Any]:
    return [pytest.param(subject, variant, id=f"{subject}-{variant}") for variant in subject.evidence.shapes]


@collected(PROPERTIES, arguments="subject, variant", cases=_shaped)
def test_state_dict_shapes_are_the_published_ones(subject: Subject, variant: str) -> None:
    """Names and shapes of all tensors."""
    expected = {name: list(shape) for name, shape in subject.evidence.shapes[variant]().items()}
    model = create_model(variant, device="meta")
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == expected


# ---- goldens ----


def _recorded(reading: bool, double: bool = True) -> Any:
    def cases(subject: Subject) -> Iterable[Any]:
        for golden in subject.evidence.goldens:
            if golden.reading != reading:
                continue
            folder = find(golden.system)
            dtypes = [torch.float32] + [torch.float64] * (double and golden.double is not None)
            for case in golden.cases(folder) if folder is not None else [""]:
                for dtype in dtypes:
                    width = "float64" if dtype == torch.float64 else ""
                    words = [str(subject), golden.part or golden.system.replace("/", "-"), case, width]
                    yield pytest.param(subject, golden, case, dtype, id="-".join(word for word in words if word))

    return cases


@collected(PROPERTIES, arguments="subject, golden, case, dtype", cases=_recorded(reading=False))
def test_equals_the_golden(subject: Subject, golden: Golden, case: str, dtype: torch.dtype) -> None:
    """Every tensor that the authors' code gave: outputs, what lies between, states, gradients."""
    golden.compare(str(subject), folder_or_skip(golden.system), case, dtype)


@collected(PROPERTIES, arguments="subject, golden, case, dtype", cases=_recorded(reading=True))
def test_equals_the_golden_reading(subject: Subject, golden: Golden, case: str, dtype: torch.dtype) -> None:
    """As above, named apart: the tensors are an evaluation of the published text, not of the authors' code."""
    golden.compare(str(subject), folder_or_skip(golden.system), case, dtype)


def _checkpoints(subject: Subject) -> Iterable[Any]:
    for golden in subject.evidence.goldens:
        folder = find(golden.system)
        for case in golden.cases(folder) if folder is not None and golden.checkpoint else [""]:
            if golden.checkpoint is not None:
                words = [str(subject), golden.part or golden.system.replace("/", "-"), case]
                yield pytest.param(subject, golden, case, id="-".join(word for word in words if word))


@collected(PROPERTIES, arguments="subject, golden, case", cases=_checkpoints)
def test_original_format_round_trip(subject: Subject, golden: Golden, case: str, tmp_path: Path) -> None:
    """The authors' names and values in; saved and loaded again they are the same, under the same configuration."""
    assert golden.checkpoint is not None
    folder = folder_or_skip(golden.system)
    model = golden.build(str(subject), folder, case)
    assert identity(model).family == str(subject)
    save_package(model, tmp_path / "package", engine="torch")
    again = load(tmp_path / "package")
    assert identity(again).config == identity(model).config
    ours, theirs = again.state_dict(), golden.checkpoint(folder, case)[1]
    assert ours.keys() == model.state_dict().keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, model.state_dict()[name]), name
        values = [value for key, value in theirs.items() if key == name or key.endswith(f".{name}")]
        values = [] if golden.renumbered else values
        # A tied weight may stand in the file under its other name alone; linear layers may be convolutions of size 1.
        found = [tensor.flatten(), *(value.flatten() for value in values or theirs.values())]
        if golden.reordered and name.endswith(golden.reordered):
            found = [value.sort().values for value in found]
        assert any(torch.equal(found[0], value) for value in found[1:]), f"{name} is not upstream's"


# ---- models ----


@collected(PROPERTIES)
def test_package_round_trip_is_exact_and_verifies(subject: Subject, tmp_path: Path) -> None:
    """Names, values and dtypes survive; PyTorch and the engine that the package has give its golden outputs."""
    model = subject.model()
    save_package(model, tmp_path / "package")
    again = load(tmp_path / "package")
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    report = verify(tmp_path / "package")
    assert report.golden
    assert "torch" in report.errors
    assert ("native" in report.errors) == subject.evidence.native
    assert report.passed, report


@collected(PROPERTIES, applies=lambda subject: subject.rows)
@torch.no_grad()
def test_rows_of_a_batch_are_as_if_alone(subject: Subject) -> None:
    """Every output of every row, for batches of several sizes and none."""
    model = subject.model()
    for inputs in (model.example_inputs(), *subject.inputs(model)):
        whole = model.native_outputs(inputs)
        count = next(iter(inputs.values())).shape[0]
        for row in range(count):
            alone = model.native_outputs({name: tensor[row : row + 1] for name, tensor in inputs.items()})
            for name, tensor in alone.items():
                subject.close(whole[name][row : row + 1], tensor, f"{name} of row {row}")
        none = model.native_outputs({name: tensor[:0] for name, tensor in inputs.items()})
        for name, tensor in none.items():
            assert tensor.shape == (0, *whole[name].shape[1:])


@collected(PROPERTIES)
def test_same_bits_from_run_to_run_and_the_same_values_for_any_number_of_threads(subject: Subject) -> None:
    """Outputs and every gradient. torch splits its own products by threads, so there the last bits may differ."""

    def run() -> list[Tensor]:
        model = subject.model()
        outputs = model.native_outputs(_differentiable(model.example_inputs()))
        _objective(outputs).backward()
        return [*outputs.values(), *(p.grad for p in trainable(model).values() if p.grad is not None)]

    before = torch.get_num_threads()
    expected = run()
    assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for found, tensor in zip(run(), expected, strict=True):
                subject.close(found, tensor, f"{count} threads")
    finally:
        torch.set_num_threads(before)


@collected(PROPERTIES)
def test_training_steps_reach_every_parameter_and_lower_the_loss(subject: Subject) -> None:
    """Twelve steps towards what the model gives with other weights, so that it can be reached; gradients are finite,
    and none is missing but those declared idle.
    """
    model = subject.model(moved=False).train()
    inputs = model.example_inputs()
    with torch.no_grad():
        targets = subject.model().native_outputs(inputs)
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)
    losses = []
    for step in range(12):
        torch.manual_seed(step)
        outputs = model.native_outputs(inputs)
        loss = torch.stack([(outputs[name] - target).square().mean() for name, target in targets.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in parameters.values() if p.grad is not None)
        idle = {name for name, parameter in parameters.items() if parameter.grad is None}
        assert idle == set(subject.evidence.idle), "parameters without a gradient"
        optimizer.step()
        losses.append(float(loss.detach()))
    assert math.isfinite(losses[-1])
    assert losses[-1] < 0.9 * losses[0], losses


@collected(PROPERTIES, applies=lambda subject: subject.evidence.bfloat16 is not None)
@torch.no_grad()
def test_bfloat16_model_follows_the_float32_one(subject: Subject) -> None:
    """A rounding of 8 bits of mantissa is 0.4 %; what must stay float32 does."""
    model = subject.model()
    limit = subject.evidence.bfloat16
    assert limit is not None
    inputs = model.example_inputs()
    expected = model.native_outputs(inputs)
    kept = {name for name, p in model.named_parameters() if getattr(p, "_keep_float32", False)}
    low = model.to(torch.bfloat16)
    assert {name for name, p in low.named_parameters() if p.dtype == torch.float32} == kept
    found = low.native_outputs({name: t.bfloat16() if t.is_floating_point() else t for name, t in inputs.items()})
    for name, tensor in expected.items():
        error = float((found[name].float() - tensor).norm() / tensor.norm())
        assert error < limit, f"{name}: {error}"


# ---- graphs ----


@collected(PROPERTIES)
def test_compiled_model_is_one_graph_with_the_same_results(subject: Subject) -> None:
    """Every output and every gradient."""
    model = subject.model()
    torch._dynamo.reset()
    compiled: Any = torch.compile(model.native_outputs, fullgraph=True, dynamic=False, backend="aot_eager")
    results = []
    for run in (compiled, model.native_outputs):
        model.zero_grad()
        outputs = run(model.example_inputs())
        _objective(outputs).backward()
        gradients = {name: p.grad.clone() for name, p in trainable(model).items() if p.grad is not None}
        results.append({**outputs, **{f"gradient of {name}": gradient for name, gradient in gradients.items()}})
    assert results[0].keys() == results[1].keys()
    for name, expected in results[1].items():
        subject.close(results[0][name], expected, name)


# A causal family's compiled steps, in causal.py, show this too.
@collected(PROPERTIES, applies=lambda subject: not subject.spec.causal)
@torch.no_grad()
def test_compiled_model_takes_any_size(subject: Subject) -> None:
    """One graph for the example and for inputs of another size, in inference."""
    model = subject.model()
    torch._dynamo.reset()
    compiled: Any = torch.compile(model.native_outputs, fullgraph=True, dynamic=True, backend="aot_eager")
    for inputs in (model.example_inputs(), subject.inputs(model)[-1]):
        found, expected = compiled(inputs), model.native_outputs(inputs)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            subject.close(found[name], tensor, name)


@collected(PROPERTIES, applies=lambda subject: subject.exports)
@torch.no_grad()
def test_exported_model_takes_any_batch_and_length(subject: Subject) -> None:
    """The graph gives the model's outputs for every size that its inputs declare free."""
    model, exported = subject.model(), subject.exported
    assert not exported.states or subject.spec.causal
    module: Any = exported.program.module(check_guards=False)
    module._forward_pre_hooks.clear()  # torch's own runner takes no extent below 2, the engines do
    states = model.initial_state if exported.states else None
    for inputs in (model.example_inputs(), *subject.inputs(model)):
        batch = next(iter(inputs.values())).shape[0]
        leaves = _pytree.tree_leaves(states(batch)) if states is not None else []
        zeros = [leaf for leaf in leaves if leaf is not None]
        found = module(*(inputs[port["name"]] for port in exported.inputs), *zeros)
        expected = model.native_outputs(inputs)
        assert [port["name"] for port in exported.outputs] == list(expected)
        for port, tensor in zip(exported.outputs, found, strict=False):
            subject.close(tensor, expected[port["name"]], port["name"])


def _differentiable(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().clone().requires_grad_(t.is_floating_point()) for name, t in inputs.items()}


def _objective(outputs: dict[str, Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in outputs.values()]).sum()
