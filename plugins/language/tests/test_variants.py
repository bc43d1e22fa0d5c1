"""What listing models costs."""

from __future__ import annotations

import subprocess
import sys


def test_listing_imports_neither_torch_nor_model_code() -> None:
    code = (
        "import sys, mambasdk, mambasdk_language; mambasdk.list_models();"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('mambasdk_language.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['mambasdk_language.plugin', 'mambasdk_language.families']"
