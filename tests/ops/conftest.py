"""The operations for PyTorch are tested where torch is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("torch"):
    import abi

    collect_ignore_glob: list[str] = []

    @pytest.fixture(params=abi.isas())
    def isa(request: pytest.FixtureRequest) -> Any:
        """Every instruction set of this machine."""
        with abi.isa(request.param):
            yield request.param

else:
    collect_ignore_glob = ["test_*.py"]
