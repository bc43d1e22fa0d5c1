"""Native programs on a device: the same bits, on streams of their own, and nothing of the host's reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_programs_of_every_family_give_the_bits_of_the_cpu(
    fake_device: Path, in_own_process: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    found = in_own_process("programs.py", fake_device, tmp_path)
    assert {"mamba", "mamba2", "vim"} <= set(found["families"])
    assert found["different"] == []
    assert found["kernels"] > 0
    assert found["kernels_on_default_stream"] == 0
    assert found["live_streams"] == 0
    assert found["live_blocks"] == 0
