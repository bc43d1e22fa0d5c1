"""A package's engine gives what PyTorch gives: the native engine on every form of a family, and compiled models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from mambasdk import _core
from mambasdk.package import Manifest, load, verify
from mambasdk.testing.property import Property, collected
from mambasdk.testing.subject import Subject

PROPERTIES: list[Property] = []


def _every_form(subject: Subject) -> Iterable[Any]:
    for form in subject.forms:
        yield pytest.param(subject, form, id=f"{subject}-{form}" if form else str(subject))


def _other_forms(subject: Subject) -> Iterable[Any]:
    """The tiny configuration; every form where no other engine runs the family."""
    forms = list(_every_form(subject))
    return forms[:1] if subject.evidence.native else forms


@collected(
    PROPERTIES,
    arguments="subject, form",
    applies=lambda subject: subject.evidence.native,
    cases=_every_form,
)
def test_native_engine_equals_pytorch(subject: Subject, form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every output for inputs of every size, the same bits for any number of threads, and from call to call."""
    package = subject.package(tmp_path_factory, "native", form)
    report = verify(package)
    assert report.passed, report
    assert set(report.errors) == {"torch", "native"}
    _compare(subject, form, package, threads=(1, 2, 3))


@collected(
    PROPERTIES,
    arguments="subject, form",
    applies=lambda subject: subject.exports and not subject.grows,
    cases=_other_forms,
    slow=True,
)
def test_aoti_engine_equals_pytorch(subject: Subject, form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every output for sizes that the graph was not traced for."""
    package = subject.package(tmp_path_factory, "aoti", form)
    assert Manifest.read(package).engine["name"] == "aoti"
    report = verify(package)  # which runs no code of a package
    assert "aoti" in report.skipped
    assert report.passed, report
    _compare(subject, form, package, threads=(1,))


@torch.no_grad()
def _compare(subject: Subject, form: str, package: Path, threads: Iterable[int]) -> None:
    model: Any = load(package)
    loaded = _core.load_package(package, verify=True, allow_code=True)
    assert bool(loaded.states) == subject.spec.causal
    for inputs in (model.example_inputs(), *subject.inputs(model)):
        expected = model.native_outputs(inputs)
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        before: dict[str, Any] = {}
        try:
            for count in threads:
                _core.set_num_threads(count)
                found = loaded.session().run(arrays, list(expected))
                for name, tensor in expected.items():
                    got = torch.from_numpy(found[name])
                    subject.close(got, tensor, f"{name} of {form or 'tiny'}")
                    assert torch.equal(before.setdefault(name, got), got), f"{name}: {count} threads"
        finally:
            _core.set_num_threads(0)
