"""The README's table of what works: every "yes" stands for tests that passed in the run it was made from.

A claim names test functions. It holds for an operation, a family or a model where those tests ran with its name as
their first parameter (or their last) and all passed. So a new operation or family brings its own line by bringing its
tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mambasdk.plugins import get_host

Evidence = tuple[tuple[str, ...], ...]  # any of these sets of test functions, each of which ran whole
OPERATION_CLAIMS: dict[str, Evidence] = {
    "equals the float64 reference on every instruction set": (("test_forward",),),
    # gradcheck needs outputs in float64; those of neg_exp are float32, whatever its input is.
    "derivative": (("test_backward", "test_gradcheck"), ("test_backward", "test_one_argument")),
    "same bits for any number of threads": (
        ("test_equal_bits_for_any_number_of_threads", "test_equal_bits_in_torchs_threads"),
    ),
    "`torch.compile` and `torch.export`": (("test_compile_fullgraph", "test_export_with_dynamic_shapes"),),
}
# What a user may look for here and will not find; a line goes when the thing comes.
ABSENT = (
    ("CUDA kernels", "operations run on the CPU only"),
    ("Windows, macOS", "sources are portable, but only Linux x86-64 is built and tested"),
    ("quantised weights", "float32, bfloat16 and float16 only"),
)
NOT_RUN = "not run"
_CASE = re.compile(r"(\w+)\[(.*)\]$")


class Report:
    """Outcomes of one test run, from pytest's JUnit file."""

    def __init__(self, path: Path) -> None:
        self._outcomes: dict[str, dict[str, set[str]]] = {}  # test function -> parameters -> outcomes
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            if match := _CASE.match(case.get("name", "")):
                kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
                self._outcomes.setdefault(match[1], {}).setdefault(match[2], set()).update(kinds or {"passed"})

    def outcomes(self, test: str, subject: str) -> set[str]:
        """What became of a test function where `subject` is its first parameter, or its last."""
        return {
            outcome
            for parameters, outcomes in self._outcomes.get(test, {}).items()
            if parameters == subject
            or parameters.startswith((f"{subject}-", f"{subject}["))
            or parameters.endswith(f"-{subject}")
            for outcome in outcomes
        }

    def shows(self, tests: Iterable[str], subject: str) -> bool:
        """Whether every one of the tests ran with this first parameter, and passed."""
        return all(self.outcomes(test, subject) == {"passed"} for test in tests)

    def mentions(self, tests: Iterable[str], subject: str) -> bool:
        """Whether one of the tests is there for the subject at all."""
        return any(self.outcomes(test, subject) for test in tests)


def table(ops: Sequence[dict[str, Any]], report: Report) -> str:
    """Operations and families with what the run showed of each, and what is not there."""
    from mambasdk.testing.families import CLAIMS, COUNTS  # pytest is there where tests were run

    derivatives = {op["backward"] for op in ops}
    names = [op["name"] for op in ops if op["name"] not in derivatives]
    lines = _claims("operation", {f"`{name}`": name for name in names}, OPERATION_CLAIMS, report)
    families = get_host().registrations.families
    rows = {f"`{name}`": name for name in sorted(families)}
    lines += ["", *_claims("family", rows, CLAIMS, report)]
    lines += ["", "| family | models with the published parameter count | other models |", "|---|---|---|"]
    for name, family in sorted(families.items()):
        if not family.variants:
            continue
        groups: tuple[list[str], list[str]] = ([], [])
        for model in family.variants:
            groups[not report.shows(COUNTS, model)].append(f"`{model}`")
        lines.append(f"| `{name}` | {', '.join(groups[0])} | {', '.join(groups[1])} |")
    lines += ["", "| not there yet | |", "|---|---|"]
    lines += [f"| {what} | {why} |" for what, why in ABSENT]
    return "\n".join(lines) + "\n"


def _claims(subject: str, rows: dict[str, str], claims: dict[str, Evidence], report: Report) -> list[str]:
    lines = [f"| {subject} | {' | '.join(claims)} |", "|---" * (len(claims) + 1) + "|"]
    for label, name in rows.items():
        cells = [_cell(evidence, name, report) for evidence in claims.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _cell(evidence: Evidence, name: str, report: Report) -> str:
    mentioned = [tests for tests in evidence if report.mentions(tests, name)]
    if not mentioned:
        return "none"
    whole = [tests for tests in mentioned if all(report.outcomes(test, name) for test in tests)]
    outcomes = [report.outcomes(test, name) for tests in whole for test in tests]
    if not whole or any(found & {"failure", "error"} for found in outcomes):
        return "**fails**"
    return NOT_RUN if any("skipped" in found for found in outcomes) else "yes"


def agrees(shown: str, made: str) -> bool:
    """Whether the table `shown` is what a run made; what that run left out may be anything.

    A run leaves out what needs golden tensors where there are none, or an instruction set that the machine lacks.
    """
    pairs = list(zip(shown.splitlines(), made.splitlines(), strict=False))
    return len(shown.splitlines()) == len(made.splitlines()) and all(
        len(ours := a.split(" | ")) == len(theirs := b.split(" | "))
        and all(x == y or y.strip(" |") == NOT_RUN for x, y in zip(ours, theirs, strict=True))
        for a, b in pairs
    )
