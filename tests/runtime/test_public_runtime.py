"""mambasdk.runtime: packages, sessions, pipelines and operations on arrays, without torch; its page is true."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambasdk import runtime
from mambasdk.errors import InvalidArgumentError, MambaSDKError, PackageError, UnknownNameError, UnsupportedError

ROOT = Path(__file__).parents[2]
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Refuse())
"""


def test_every_public_name_says_what_it_is() -> None:
    for name in runtime.__all__:
        assert inspect.getdoc(getattr(runtime, name)), name


def test_a_session_without_torch(listed: Path) -> None:
    code = f"""
import mambasdk, numpy
session = mambasdk.runtime.load_package({str(listed)!r}).session()
assert int(numpy.argmax(session.step([1, 2]))) == 3
assert mambasdk.runtime.load_pipeline({str(listed)!r}).run({{"text": "ab"}})["json"]["text"] == "cde"
assert mambasdk.runtime.call("neg_exp", x=numpy.zeros(1, numpy.float32))["y"][0] == -1
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", NO_TORCH + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_run_gives_the_outputs_that_were_asked_for_or_all(listed: Path) -> None:
    session = runtime.load_package(listed).session()
    tokens = np.array([[5, 6]], np.int32)
    assert set(session.run({"tokens": tokens})) == {"logits", "last_logits"}
    assert set(session.run({"tokens": tokens}, ["logits"])) == {"logits"}
    with pytest.raises(InvalidArgumentError, match="no output probabilities; it has logits, last_logits"):
        session.run({"tokens": tokens}, ["probabilities"])


def test_step_takes_one_sequence_or_a_batch(listed: Path) -> None:
    model = runtime.load_package(listed)
    one = model.session().step([7, 8])
    assert one.shape == (256,)
    assert int(np.argmax(one)) == 9
    rows = model.session().step(np.array([[7, 8], [1, 2]], np.int64))
    assert rows.shape == (2, 256)
    assert np.argmax(rows, 1).tolist() == [9, 3]
    assert model.session().step(np.array([3], np.uint8)).argmax() == 4


@pytest.mark.parametrize("tokens", [[], [0.5], [[[1]]], 3, [2**40], ["a"]])
def test_step_refuses_what_are_no_tokens(tokens: object, listed: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="step: "):
        runtime.load_package(listed).session().step(tokens)  # type: ignore[arg-type]


def test_errors_are_those_of_the_sdk(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no such package"):
        runtime.load_package(tmp_path / "nothing")
    with pytest.raises(UnknownNameError, match="there is no operation selectiv_scan"):
        runtime.call("selectiv_scan")
    with pytest.raises(UnknownNameError, match=r"did you mean .*selective_scan"):
        runtime.describe("selectiv_scan")
    with pytest.raises(InvalidArgumentError, match="causal_conv1d: weight"):
        runtime.call("causal_conv1d", x=np.zeros((1, 3, 2), np.float32), weight=np.zeros((3, 2), np.float32))
    (listed / "program.json").write_bytes(b" " + (listed / "program.json").read_bytes()[:-1])
    with pytest.raises(PackageError, match=r"program\.json"):
        runtime.load_package(listed)


def test_a_package_of_torch_alone_is_refused_by_name(listed: Path) -> None:
    manifest = listed / "mambasdk.json"
    engine = '{"name": "native", "program": "program.json"}'
    manifest.write_text(manifest.read_text().replace(engine, '{"name": "torch"}'))
    with pytest.raises(UnsupportedError, match="torch"):
        runtime.load_package(listed)


def test_describe_has_the_signature_and_where_it_is_from() -> None:
    for operation in runtime.list_ops():
        text = runtime.describe(operation["name"])
        assert text.startswith(operation["signature"])
        assert text.endswith(f"From: {operation['origin']}")


def test_a_missing_library_is_said_when_the_module_is_imported() -> None:
    code = """
import sys
sys.modules["mambasdk._core"] = None
try:
    import mambasdk.runtime
except ImportError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingDependencyError mambasdk.runtime needs the compiled module")
    assert "pip install" in done.stdout


def test_the_runtime_page_is_true(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import mambasdk

    torch.manual_seed(0)
    model = mambasdk.create_model("mamba", d_model=16, n_layer=1, vocab_size=256).eval()
    mambasdk.save_package(model, tmp_path / "lm")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "runtime.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = [line.split("  # ")[-1] for block in blocks for line in block.splitlines() if "print(" in line]
    for expected in (text for text in said if text[0] in "[(" or text.startswith("mamba ")):
        assert expected in lines


def test_the_page_names_what_is_public() -> None:
    page = (ROOT / "docs" / "runtime.md").read_text()
    table = page.split("## Packages")[0]
    named = set(re.findall(r"`(\w+)`", table)) - {"mambasdk"}
    assert named <= set(runtime.__all__)
    assert set(runtime.__all__) - named <= {"Array", "FileEntry", "Pipeline", "VerifyReport"}
    for name, builtin in re.findall(r"^\| `(\w+)` \(`(\w+)`\)", page, re.MULTILINE):
        error = getattr(__import__("mambasdk.errors").errors, name)
        assert issubclass(error, MambaSDKError)
        assert issubclass(error, getattr(__import__("builtins"), builtin))
