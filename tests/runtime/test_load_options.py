"""What loading may do: hashes, memory, code; from Python and from the command line."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mambasdk import _core

TOKENS = {"tokens": np.zeros((1, 4096), np.int32)}


def _damage(package: Path) -> None:
    weights = bytearray((package / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (package / "model.safetensors").write_bytes(weights)


def test_a_flipped_bit_is_refused_on_load_unless_told_otherwise(listed: Path) -> None:
    _core.load_package(listed)
    _damage(listed)
    for verify in (None, True):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            _core.load_package(listed, verify)
    _core.load_package(listed, verify=False)


def test_memory_is_capped_with_the_bytes_that_were_wanted(shifted: Path) -> None:
    _core.load_package(shifted).session().run(TOKENS, ["logits"])
    session = _core.load_package(shifted, max_memory=1 << 20).session()
    with pytest.raises(MemoryError, match=r"needs .* MiB .*the limit is 1 MiB .*max_memory"):
        session.run(TOKENS, ["logits"])
    session.run({"tokens": np.zeros((1, 4), np.int32)}, ["logits"])
    with pytest.raises(ValueError, match="max_memory is 0"):
        _core.load_package(shifted, max_memory=0)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    spec = importlib.util.find_spec("mambasdk")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "bin" / "mambasdk-run"
    if not program.is_file():
        pytest.skip("mambasdk-run is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_mambasdk_run_verifies_unless_told_otherwise(listed: Path) -> None:
    arguments = [str(listed), "--prompt", "ab", "--max-new-tokens", "2"]
    assert _run(*arguments).stdout == "cd\n"
    _damage(listed)
    refused = _run(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "model.safetensors" in refused.stderr
    assert _run(*arguments, "--no-verify").returncode == 0


def test_mambasdk_run_takes_a_limit_of_memory(shifted: Path) -> None:
    arguments = [str(shifted), "--prompt", "a" * 400, "--max-new-tokens", "1"]
    assert _run(*arguments, "--memory", "64M").returncode == 0
    refused = _run(*arguments, "--memory", "100K")
    assert refused.returncode == 1
    assert "the limit is 100 KiB" in refused.stderr
    assert _run(*arguments, "--memory", "much").returncode == 2
