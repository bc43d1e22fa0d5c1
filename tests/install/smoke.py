"""What an installation can do, in a minute: run by the wheels' tests, and by cibuildwheel in each wheel's environment.

Prints JSON: the torch that was there (or null), what each plugin showed, and families that were verified. Fails loudly.
Needs the installed packages alone. Where torch is not installed, models cannot be made, so only the runtime is tried,
and the packages of byte-level language models that the arguments name.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mambasdk
from mambasdk import runtime
from mambasdk.plugins import get_host
from mambasdk.plugins.specs import resolve


def operation() -> None:
    """The library, the extension and the native command answer; an operation gives what its formula says."""
    out = runtime.call("neg_exp", x=np.array([0.0, 1.0], np.float32))
    np.testing.assert_allclose(np.asarray(out["y"]), [-1.0, -np.e], rtol=1e-6)
    prefix = Path(mambasdk.__file__).parent
    subprocess.run([str(prefix / "bin" / "mambasdk-run"), "--version"], check=True, capture_output=True)


def plugin(record: Any) -> dict[str, Any]:
    """What it brings can be loaded; its smallest models are made, exported, and run by every engine."""
    assert record.status == "good", f"{record.name}: {record.reason}"
    host = get_host()
    host.activate(record)  # native libraries
    brought = record.registrations
    for spec in brought.processors.values():
        resolve(spec.factory)
    verified = {}
    if importlib.util.find_spec("torch") is not None:
        for head in brought.heads.values():
            resolve(head.implementation)
        for family in brought.families:
            verified[family] = model(family)
    return {
        "families": verified,
        "processors": sorted(brought.processors),
        "libraries": [Path(path).name for path in brought.libraries],
    }


def model(family: str) -> list[str]:
    """Engines on which a tiny model of the family gave its golden outputs, from its package."""
    from mambasdk.models import build
    from mambasdk.package.verification import verify

    spec = get_host().family(family)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / family
        mambasdk.save_package(build(spec, spec.tiny).eval(), package)
        report = verify(package)
        assert report.golden, f"{family}: the package has no golden outputs"
        assert report.passed, f"{family}: {report.errors}"
        return sorted(report.errors)


def native_package(folder: Path) -> str:
    """The package verifies, its session continues its own state, and its pipeline writes text; returns the family."""
    from mambasdk.package import Manifest, load_processors, verify
    from mambasdk.pipeline import load_pipeline

    report = verify(folder)
    assert report.passed, report
    assert "native" in report.errors, report.skipped
    assert "text" in load_processors(folder)

    tokens = np.frombuffer(b"def f(x):", np.uint8).astype(np.int32)[None]  # (1, L)
    whole = np.asarray(runtime.load_package(folder).session().run({"tokens": tokens}, ["last_logits"])["last_logits"])
    session = runtime.load_package(folder).session()
    session.run({"tokens": tokens[:, :4]}, ["last_logits"])
    rest = np.asarray(session.run({"tokens": tokens[:, 4:]}, ["last_logits"])["last_logits"])
    np.testing.assert_allclose(rest, whole, rtol=1e-4, atol=1e-5)

    made = load_pipeline(folder, verify=True).run({"text": b"def "}, {"max_new_tokens": 5})
    assert isinstance(made["json"]["text"], str)
    return Manifest.read(folder).family


def main() -> int:
    """Everything; the JSON line comes last."""
    operation()
    packages = [native_package(Path(name)) for name in sys.argv[1:]]
    plugins = {record.name: plugin(record) for record in get_host().records}
    version = None
    if importlib.util.find_spec("torch") is not None:
        import torch

        version = str(torch.__version__)
    print(json.dumps({"torch": version, "python": sys.version.split()[0], "plugins": plugins, "packages": packages}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
