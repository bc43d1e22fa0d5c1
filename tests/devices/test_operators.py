"""Operators of torch on a device: dispatch, allocator and stream are that device's, and no bit differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def found(fake_device: Path, fake_torch: Path, in_own_process: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What the script operators.py found."""
    return in_own_process("operators.py", fake_device, fake_torch)


def test_every_operation_and_derivative_gives_the_bits_of_the_cpu(found: dict[str, Any]) -> None:
    import cases

    assert set(found["operations"]) == set(cases.forward_ops()) - {"gelu_tanh"}
    assert found["different"] == []
    assert found["counts"]["kernels"] > 1000


def test_kernels_run_on_the_current_stream_and_nobody_waits(found: dict[str, Any]) -> None:
    assert found["counts"]["kernels_on_default_stream"] == 0
    assert found["waits of a call"] == 0
    assert found["twice"] == [2.0] * 4


def test_a_kernel_that_comes_later_is_found(found: dict[str, Any]) -> None:
    assert found["before"].startswith(
        "UnsupportedError: add: x is on fake:0, and there is no kernel for that (there is:"
    )
    assert found["late"] == [[2.0] * 3] * 2
    assert found["kernels of add"] == ["cpu", "fake"]


def test_errors_name_operation_device_and_what_there_is(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert errors["no kernel"].startswith("UnsupportedError: gelu_tanh: x is on fake:0")
    assert "(there is: cpu)" in errors["no kernel"]
    assert "expected fake:0, where x is; move them to one device" in errors["mixed"]
    assert "is on fake:1, expected fake:0, where x is" in errors["two devices"]
    assert "add: there is no reference kernel for fake:0" in errors["no reference"]
    assert "add: y is (2, 4), expected (2, 3" in errors["shape"]
