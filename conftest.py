"""What the tests of the SDK and of every plugin share: golden tensors, files that are made once, a summary of times."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "MAMBASDK_GOLDEN"
# Test files read the names of their cases from the golden files when they are collected.
os.environ.setdefault(VARIABLE, str(Path(__file__).parents[1] / "shared" / "golden"))


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """A function that gives the folder of a system's golden tensors, or skips the test where there is none."""

    def folder(system: str) -> Path:
        path = Path(os.environ[VARIABLE]) / system
        if not path.is_dir():
            pytest.skip(f"no golden tensors at {path}; set {VARIABLE} to the folder that holds {system}/")
        return path

    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function (name, make) -> folder: `make(folder)` runs once in a test run, whichever process is first.

    What is dear and is only read, such as compiled packages, is shared by the processes of pytest-xdist in this way.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path = shared / f"made-{name}"
        with (shared / f"made-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = shared / f"made-{name}.done"
            if not done.exists():
                path.mkdir()
                make(path)
                done.touch()
        return path

    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that read golden tensors are marked, so that `-m golden` runs them on another set."""
    for item in items:
        if "golden" in getattr(item, "fixturenames", ()):
            item.add_marker("golden")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Beside the slowest tests of `--durations`: seconds and tests of every folder."""
    if not config.getoption("durations"):
        return
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = str(Path(report.nodeid.split("::")[0]).parent)
                seconds[folder] += report.duration  # type: ignore[assignment]
                tests[folder] += report.when == "call"
    terminalreporter.section("seconds of folders, of one process")
    for folder, time in seconds.most_common():
        terminalreporter.write_line(f"{time:8.1f} s {tests[folder]:6d} tests  {folder}")
