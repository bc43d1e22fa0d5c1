"""Importing mambasdk is light: no torch, no plugin, under 0.3 s; without torch it says what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mambasdk
from mambasdk.errors import MambaSDKError, UnknownNameError, closest

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Refuse())
"""


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_torch_and_takes_under_300_ms() -> None:
    code = (
        "import time, sys; t = time.perf_counter(); import mambasdk; "
        "print(time.perf_counter() - t, 'torch' in sys.modules)"
    )
    runs = [_python(code).split() for _ in range(3)]
    assert all(torch == "False" for _, torch in runs)
    assert min(float(seconds) for seconds, _ in runs) < 0.3


def test_listing_models_and_reading_a_manifest_load_no_torch() -> None:
    code = (
        "import sys, mambasdk, mambasdk.package, mambasdk.lowering; mambasdk.list_models(); "
        "print('torch' in sys.modules)"
    )
    assert _python(code) == "False"


@pytest.mark.parametrize("use", ["mambasdk.nn", "mambasdk.load('.')", "mambasdk.import_checkpoint('x', {}, {})"])
def test_without_torch_the_error_names_the_pip_command(use: str) -> None:
    code = NO_TORCH + f"import mambasdk\ntry:\n    {use}\nexcept ImportError as error:\n    print(error)\n"
    if "import_checkpoint" in use:
        code = code.replace(use, "from mambasdk.models import Checkpoint; Checkpoint.open({})")
    assert "pip install 'torch>=2.10'" in _python(code)


def test_all_public_names_resolve() -> None:
    pytest.importorskip("torch")
    for name in mambasdk.__all__:
        assert getattr(mambasdk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mambasdk.nonsense  # noqa: B018


def test_error_message_has_all_parts() -> None:
    error = MambaSDKError("bad x", where="op", expected="(2, 3)", got=(3, 2), way_out="transpose it")
    assert str(error) == "op: bad x: expected (2, 3), got (3, 2); transpose it"
    assert str(UnknownNameError("no model")) == "no model"  # KeyError would quote it


def test_closest_suggests_or_lists() -> None:
    assert closest("mamba-130", ["mamba-130m", "vim"]) == "did you mean mamba-130m?"
    assert closest("zzz", ["mamba", "vim"]) == "known: mamba, vim"
    assert closest("zzz", []) == "none is registered"
