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


def _forms(native: bool) -> Any:
    """Every form that the native engine runs; or those that it does not, beside the tiny configuration."""

    def cases(subject: Subject) -> Iterable[Any]:
        for form in subject.forms:
            if subject.native(form) == native or not (native or form):
                yield pytest.param(subject, form, id=f"{subject}-{form}" if form else str(subject))

    return cases


@collected(PROPERTIES, arguments="subject, form", cases=_forms(native=True))
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
    cases=_forms(native=False),
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
