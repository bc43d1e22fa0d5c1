"""Makes the modules beside the tests importable, and defines the marker of the long sweeps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="mambasdk.ops needs torch")
sys.path.insert(0, str(Path(__file__).parent))
