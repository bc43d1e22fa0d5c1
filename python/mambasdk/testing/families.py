"""Evidence for model families: one suite of properties, made into tests for the families that are declared.

    EVIDENCE = families.Evidence("vim", counts={"vim-tiny": 7_148_008})
    globals().update(families.suite(EVIDENCE))

A property that cannot hold for a family (a state where it is not causal, a native engine that it has no form for) has
no test there. A test's first parameter is the family, or the variant for what is about a variant.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from mambasdk.plugins import get_host
from mambasdk.testing import causal, engines, properties
from mambasdk.testing.property import Property
from mambasdk.testing.subject import Evidence, Subject

__all__ = ["CLAIMS", "Evidence", "Subject", "suite"]

PROPERTIES: Sequence[Property] = (*properties.PROPERTIES, *causal.PROPERTIES, *engines.PROPERTIES)

# What the tests of this suite (and, for transformers, of the language plugin) show about a family when they pass:
# any of the sets of test functions is enough. docs/what_works.py makes the README's table of it.
CLAIMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "imports checkpoints in the authors' format": (("test_original_format_round_trip",),),
    "equals the reference model": (("test_logits_equal_those_of_transformers",), ("test_equals_the_golden",)),
    "continues from a state": (("test_any_split_continues_as_the_full_forward",),),
    "`torch.compile`": (("test_compiled_model_is_one_graph_with_the_same_results",),),
    "`torch.export`": (("test_exported_model_takes_any_batch_and_length",),),
    "native engine equals PyTorch": (("test_native_engine_equals_pytorch",),),
}
COUNTS = ("test_parameter_counts_are_the_published_ones",)


def suite(*evidence: Evidence, distribution: str | None = None, slow: bool = False) -> dict[str, Callable[..., Any]]:
    """The test functions of all properties that apply to the families, by name, for the namespace of a test module.

    distribution: of a plugin ("mambasdk-acme"); then its families without a declaration are tested too, by what holds
    for all.
    slow: the tests marked `slow` too, which compile packages with torch's AOTInductor and need a C++ compiler.
    """
    declared = {one.family: one for one in evidence}
    if distribution is not None:
        host = get_host()
        for name in sorted(host.registrations.families):
            if host.owner("family", name).distribution == distribution:
                declared.setdefault(name, Evidence(name))
    subjects = [Subject(one) for _, one in sorted(declared.items())]
    made = {}
    for one in PROPERTIES:
        cases: list[Any] = []
        for subject in subjects:
            dear = one.slow or one.name in subject.evidence.dear
            if (slow or not dear) and one.applies(subject):
                marks = [pytest.mark.slow] if dear else []
                cases += [case._replace(marks=(*case.marks, *marks)) for case in one.cases(subject)]
        if cases:
            made[one.name] = _parametrised(one, cases)
    return made


def _parametrised(one: Property, cases: Iterable[Any]) -> Callable[..., Any]:
    """A copy of the function, because marks stay with a function and another test module has other cases."""
    source = one.function
    function = types.FunctionType(
        source.__code__, source.__globals__, source.__name__, source.__defaults__, source.__closure__
    )
    function.__dict__.update(source.__dict__)
    function.__doc__ = source.__doc__
    marked: Callable[..., Any] = pytest.mark.parametrize(one.arguments, list(cases))(function)
    return marked
