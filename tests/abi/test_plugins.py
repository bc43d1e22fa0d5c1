"""Plugins of other people and times: built with the installed wheel alone, or kept as a binary of an older minor."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "plugins"

pytestmark = pytest.mark.install


def _in_a_process_of_its_own(script: str, *arguments: str) -> Any:
    """What the script prints as JSON; plugins stay in the process that loads them."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OLD = """
import json, sys
import numpy as np
from mambasdk import _core
brought = _core.load_native_plugin(sys.argv[1])
again = _core.load_native_plugin(sys.argv[2])  # another path of the same library
x = np.arange(1000, dtype=np.float32)
op = next(op for op in _core.list_ops() if op["name"] == "abi10_scale")
strided = _core.call("abi10_scale", x=x[::2], factor=3.0)["y"]
try:
    _core.call("abi10_scale", x=x[:13])
    refused = ""
except ValueError as error:
    refused = str(error)
print(json.dumps({
    "brought": brought, "again": again == brought, "kernels": op["kernels"], "origin": op["origin"],
    "cpu": bool((_core.call("abi10_scale", x=x)["y"] == 2 * x).all()),
    "strided": bool((strided == 3 * x[::2]).all()),
    "reference": bool((_core.call("abi10_scale", kernel="reference", x=x, factor=-1.0)["y"] == -x).all()),
    "refused": refused, "listed": [plugin["name"] for plugin in _core.runtime_describe()["plugins"]],
}))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the binaries that are kept are Linux x86-64's"
)
def test_a_binary_of_abi_1_0_still_works(tmp_path: Path) -> None:
    binary = FOLDER / "1.0" / "libabi10-x86_64.so"
    (tmp_path / "link.so").symlink_to(binary)
    found = _in_a_process_of_its_own(OLD, str(binary), str(tmp_path / "link.so"))
    assert found["brought"]["name"] == "abi10"
    assert found["brought"]["abi"] == [1, 0]
    assert found["brought"]["ops"] == ["abi10_scale"]
    assert found["origin"] == "abi10"
    assert found["kernels"] == ["cpu", "cuda"]
    assert [found[what] for what in ("again", "cpu", "strided", "reference")] == [True] * 4
    assert found["refused"].endswith("13 elements are refused")
    assert found["listed"] == ["abi10"]


OLD_ENGINE = """
import json, sys
from mambasdk import _core
brought = _core.load_native_plugin(sys.argv[1])
session = _core.load_package(sys.argv[2]).session()
runs = [session.run({}, ["y"])["y"].tolist() for _ in range(2)]
state = session.state()
session.reset()
runs.append(session.run({}, ["y"])["y"].tolist())
session.restore(state)
runs.append(session.run({}, ["y"])["y"].tolist())
try:
    session.clone()
except NotImplementedError as error:
    refused = str(error)
count = _core.Processor("abi11_count").run({"text": "four"})["count"].tolist()
print(json.dumps({"brought": brought, "runs": runs, "refused": refused, "count": count}))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the binaries that are kept are Linux x86-64's"
)
def test_a_binary_of_abi_1_1_still_works(tmp_path: Path) -> None:
    manifest = {"format": [1, 1], "family": "test", "config": {}, "engine": {"name": "abi11_runs"}, "files": {}}
    y = [{"name": "y", "dtype": "f32", "shape": [1]}]
    (tmp_path / "mambasdk.json").write_text(json.dumps({**manifest, "inputs": [], "outputs": y}))
    binary = FOLDER / "1.1" / "libabi11-x86_64.so"
    found = _in_a_process_of_its_own(OLD_ENGINE, str(binary), str(tmp_path))
    assert found["brought"]["abi"] == [1, 1]
    assert found["brought"]["engines"] == ["abi11_runs"]
    assert found["brought"]["processors"] == ["abi11_count"]
    assert found["runs"] == [[1.0], [2.0], [1.0], [3.0]]
    assert "cannot clone" in found["refused"]
    assert found["count"] == [4.0]


def test_what_is_no_plugin_is_refused(prefix: Path, tmp_path: Path) -> None:
    from mambasdk import _core

    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(OSError, match=r"cannot load plugin: .*text\.so"):
        _core.load_native_plugin(str(tmp_path / "text.so"))
    with pytest.raises(ValueError, match="exports no mambasdk_plugin function"):
        _core.load_native_plugin(str(prefix / "lib" / "libmambasdk.so.1"))
    with pytest.raises(ValueError, match="is not absolute"):
        _core.load_native_plugin("libabi10-x86_64.so")


@pytest.fixture(scope="module")
def built(build_plugin: Callable[[str], Path]) -> Path:
    """The plugin of plugins/cpp, built and installed by someone who has the wheel and a compiler."""
    return build_plugin("cpp") / "abitest_package" / "libabitest.so"


def test_it_exports_one_function_and_links_nothing_of_mambasdk(built: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", built], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["mambasdk_plugin"]
    needed = subprocess.run(["readelf", "-d", built], capture_output=True, text=True, check=True).stdout
    assert "mambasdk" not in needed.replace("libabitest", "")


NEW = """
import json, pathlib, sys
import numpy as np
from mambasdk import _core
brought = _core.load_native_plugin(sys.argv[1])
package = pathlib.Path(sys.argv[2])
x = np.arange(5, dtype=np.float32)
text = _core.Processor("abitest_upper")
runs = [text.run({"text": "abc"})["runs"].tolist() for _ in range(2)]
text.reset()
runs.append(text.run({"text": "abc"})["runs"].tolist())
errors = []
for make in (lambda: _core.Processor("abitest_upper", {"broken": 1}), lambda: text.run({"x": x}),
             lambda: text.run({"text": x})):
    try:
        make()
    except Exception as error:
        errors.append(str(error))
session = _core.load_package(package).session()
sums = [session.run({"x": x}, ["y"])["y"].tolist() for _ in range(2)]
state = session.state()
clone = session.clone()
session.reset()
sums.append(session.run({"x": x}, ["y"])["y"].tolist())
session.restore(state)
sums.append(session.run({"x": x}, ["y"])["y"].tolist())
sums.append(clone.run({"x": x}, ["y"])["y"].tolist())
print(json.dumps({
    "brought": brought, "y": _core.call("abitest_halve", x=x)["y"].tolist(), "runs": runs, "errors": errors,
    "upper": bytes(text.run({"text": "Hi there"})["upper"]).decode(), "sums": sums,
    "head": _core.Processor("abitest_length", head=True).run({"upper": "four"})["json"],
}))
"""


def test_its_operation_processor_head_and_engine_work(built: Path, tmp_path: Path) -> None:
    x = [{"name": "x", "dtype": "f32", "shape": ["L"]}]
    y = [{"name": "y", "dtype": "f32", "shape": [1]}]
    manifest = {"format": [1, 1], "family": "test", "config": {}, "engine": {"name": "abitest_sums"}, "files": {}}
    (tmp_path / "mambasdk.json").write_text(json.dumps({**manifest, "inputs": x, "outputs": y}))
    found = _in_a_process_of_its_own(NEW, str(built), str(tmp_path))
    assert found["brought"]["ops"] == ["abitest_halve"]
    assert found["brought"]["engines"] == ["abitest_sums"]
    assert found["brought"]["processors"] == ["abitest_upper"]
    assert found["brought"]["heads"] == ["abitest_length"]
    assert found["y"] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found["runs"] == [[1], [2], [1]]
    assert found["upper"] == "HI THERE"
    assert found["head"] == {"length": 4}
    assert found["sums"] == [[10.0], [20.0], [10.0], [30.0], [30.0]]
    assert found["errors"] == [
        "a broken configuration",
        "input text is missing; got x",
        "text has another element type",
    ]
