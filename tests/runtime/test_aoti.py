"""Packages of the engine aoti: exported, loaded and run through `_core`, as PyTorch does; what cannot be is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk import _core
from mambasdk.command_line import main
from mambasdk.errors import LoweringError, MambaSDKError, PackageError
from mambasdk.installation import get_native_command
from mambasdk.package import Manifest
from mambasdk.package.manifest import sha256_file
from mambasdk.pipeline import load_pipeline

pytestmark = pytest.mark.usefixtures("convolution_plugin")


def edited(package: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the package with another manifest."""
    shutil.copytree(package, target)
    manifest = json.loads((target / "mambasdk.json").read_text())
    change(manifest)
    (target / "mambasdk.json").write_text(json.dumps(manifest))
    return target


def image(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def test_the_manifest_ties_the_package_to_torch_and_machine(compiled_package: Path) -> None:
    manifest = Manifest.read(compiled_package)
    engine = manifest.engine
    assert (engine["name"], engine["file"]) == ("aoti", "model.pt2")
    assert engine["executes_code"] is True
    assert engine["torch"] == torch.__version__.split("+")[0]
    assert set(engine["target"]) == {"system", "machine", "isa"}
    assert manifest.inputs == [{"name": "image", "dtype": "f32", "shape": ["B", 3, "H", "W"]}]
    assert [port["name"] for port in manifest.outputs] == ["scores", "features"]
    assert manifest.outputs[0]["shape"] == ["B", 5]
    assert {"model.pt2", "model.safetensors", "constants.safetensors", "golden.safetensors"} <= set(manifest.files)


def test_any_batch_and_size_as_in_torch(compiled_package: Path) -> None:
    model = mambasdk.load(compiled_package)
    session = _core.load_package(compiled_package, verify=True, allow_code=True).session()
    for shape in ((2, 16, 12), (1, 20, 14), (5, 9, 31), (1, 1, 1)):
        x = image(*shape)
        with torch.no_grad():
            expected = model.native_outputs({"image": x})
        found = session.run({"image": x.numpy()}, ["features", "scores"])
        for name, tensor in expected.items():
            np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{name} {shape}")
            assert found[name].flags.c_contiguous


def test_strided_inputs_are_taken(compiled_package: Path) -> None:
    session = _core.load_package(compiled_package, allow_code=True).session()
    x = image(2, 18, 24)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    expected = session.run({"image": x.numpy()}, ["scores"])["scores"]
    assert np.array_equal(session.run({"image": channels_last.numpy()}, ["scores"])["scores"], expected)


def test_wrong_inputs_and_outputs_are_named(compiled_package: Path) -> None:
    session = _core.load_package(compiled_package, allow_code=True).session()
    good = image(1, 8, 8).numpy()
    for inputs, outputs, reason in (
        ({"image": good.astype(np.float64)}, ["scores"], "expected f32"),
        ({"image": good[:, :2]}, ["scores"], "B, 3, H, W"),
        ({"picture": good}, ["scores"], "input image is missing"),
        ({"image": good, "more": good}, ["scores"], "each once: image"),
        ({"image": good}, ["labels"], "it has scores, features"),
    ):
        with pytest.raises(ValueError, match=reason):
            session.run(inputs, outputs)


def golden_error(package: Path) -> float:
    """Largest difference of the engine's outputs from the golden ones, as a part of the largest magnitude."""
    from safetensors.numpy import load_file

    golden = load_file(package / "golden.safetensors")
    parts: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}}
    for name, array in golden.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = array
    session = _core.load_package(package, allow_code=True).session()
    found = session.run(parts["inputs"], list(parts["outputs"]))
    return max(
        float(np.abs(found[name] - array).max() / max(1.0, np.abs(array).max()))
        for name, array in parts["outputs"].items()
    )


def test_the_engine_gives_the_golden_outputs(compiled_package: Path) -> None:
    assert golden_error(compiled_package) < 1e-4


# Opening the compiled library would run this; nothing here may.
MARK = """
#include <cstdio>
#include <cstdlib>
struct Mark {
  Mark() { if (const char* path = std::getenv("MAMBASDK_TEST_MARK")) std::fclose(std::fopen(path, "w")); }
};
static Mark mark;
"""


@pytest.fixture
def marking_package(compiled_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose `model.pt2` holds a library that leaves a file, `mark`, when it is opened."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "mark.cpp").write_text(MARK)
    library = tmp_path / "mark.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "mark.cpp"], check=True)
    monkeypatch.setenv("MAMBASDK_TEST_MARK", str(tmp_path / "mark"))

    def replace(manifest: dict[str, Any]) -> None:
        path = tmp_path / "p" / "model.pt2"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.write(library, "p/data/aotinductor/model/x.so")
        manifest["files"]["model.pt2"] = {"sha256": sha256_file(path), "size": path.stat().st_size}

    return edited(compiled_package, tmp_path / "p", replace)


@pytest.mark.parametrize("said", [True, False, None])
def test_code_of_a_package_runs_only_where_it_is_allowed(
    marking_package: Path, tmp_path: Path, said: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the manifest says of itself; verify never runs it."""
    path = marking_package / "mambasdk.json"
    manifest = json.loads(path.read_text())
    manifest["engine"].pop("executes_code")
    if said is not None:
        manifest["engine"]["executes_code"] = said
    path.write_text(json.dumps(manifest))
    mark = tmp_path / "mark"
    image_file = tmp_path / "x.bin"
    image_file.write_bytes(b"x")

    with pytest.raises(NotImplementedError, match=r"executes machine code .*allow_code"):
        _core.load_package(marking_package)
    pipeline = load_pipeline(marking_package)  # runs in PyTorch
    x = image(1, 8, 8)
    with torch.no_grad():
        expected = mambasdk.load(marking_package).native_outputs({"image": x})["scores"]
    np.testing.assert_allclose(pipeline.run({"image": x.numpy()})["scores"], expected.numpy(), rtol=1e-5, atol=1e-6)
    with monkeypatch.context() as without_torch:
        without_torch.setitem(sys.modules, "torch", None)
        with pytest.raises(PackageError, match=r"executes machine code .* allow_code=True \(--allow-code"):
            load_pipeline(marking_package)
    report = mambasdk.verify(marking_package)
    assert report.passed
    assert "never" in report.skipped["aoti"]
    mambasdk.load(marking_package)
    assert main(["verify", str(marking_package)]) == 0
    assert main(["predict", str(marking_package), str(image_file)]) == 2
    assert main(["bench", str(marking_package), "--repeats", "1", "--no-train"]) == 0
    program = get_native_command()
    refused = subprocess.run([program, marking_package, "--prompt", "x"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--allow-code" in refused.stderr
    assert not mark.exists()

    with pytest.raises((ValueError, NotImplementedError)):
        _core.load_package(marking_package, allow_code=True)  # it is no model, but it was opened
    assert mark.exists()


def test_another_torch_is_refused_with_both_versions(compiled_package: Path, tmp_path: Path) -> None:
    package = edited(compiled_package, tmp_path / "p", lambda m: m["engine"].update(torch="2.99.1"))
    with pytest.raises(ValueError, match=r"2\.99 .*this process has torch 2\.\d+.*--engine aoti"):
        _core.load_package(package, allow_code=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": "riscv64"}, "compiled for linux on riscv64"),
        ({"system": "plan9"}, "compiled for plan9"),
        ({"isa": "avx9000"}, "instruction set avx9000"),
    ],
)
def test_another_machine_is_refused(
    compiled_package: Path, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    package = edited(compiled_package, tmp_path / "p", lambda m: m["engine"]["target"].update(change))
    with pytest.raises(NotImplementedError, match=reason):
        _core.load_package(package, allow_code=True)


@pytest.mark.parametrize("key", ["file", "torch", "target"])
def test_an_incomplete_engine_entry_is_refused(compiled_package: Path, tmp_path: Path, key: str) -> None:
    package = edited(compiled_package, tmp_path / "p", lambda m: m["engine"].pop(key))
    with pytest.raises(PackageError, match=key):
        Manifest.read(package)
    with pytest.raises(ValueError, match=key):
        _core.load_package(package, allow_code=True)


def test_a_damaged_archive_is_refused(compiled_package: Path, tmp_path: Path) -> None:
    def shorten(manifest: dict[str, Any]) -> None:
        path = tmp_path / "p" / "model.pt2"
        path.write_bytes(path.read_bytes()[:-100])
        manifest["files"]["model.pt2"] = {"sha256": sha256_file(path), "size": path.stat().st_size}

    package = edited(compiled_package, tmp_path / "p", shorten)
    with pytest.raises(ValueError, match=r"no whole \.pt2 archive"):
        _core.load_package(package, allow_code=True)


def test_weights_stored_in_bfloat16_are_widened(compiled_package: Path, tmp_path: Path) -> None:
    """The compiled model computes in float32 whatever the stored type is."""
    from safetensors.torch import load_file, save_file

    def narrow(manifest: dict[str, Any]) -> None:
        path = tmp_path / "p" / "model.safetensors"
        # Not the vectors: inductor writes those of up to eight elements into the code.
        save_file({k: v.bfloat16() if v.ndim > 1 else v for k, v in load_file(path).items()}, path)
        manifest["files"]["model.safetensors"] = {"sha256": sha256_file(path), "size": path.stat().st_size}

    package = edited(compiled_package, tmp_path / "p", narrow)
    x = image(1, 12, 12)
    with torch.no_grad():
        expected = mambasdk.load(package, dtype=torch.float32).native_outputs({"image": x})
    found = _core.load_package(package, allow_code=True).session().run({"image": x.numpy()}, ["scores"])
    np.testing.assert_allclose(found["scores"], expected["scores"].numpy(), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match=r"native_step"):
        mambasdk.save_package(mambasdk.create_model("toymute"), tmp_path / "p", engine="aoti")
    model = mambasdk.create_model("toyconv-4")
    with pytest.raises(LoweringError, match="cannot compile for 'sse9'"):
        mambasdk.save_package(model, tmp_path / "p", engine="aoti", isa="sse9")
    with pytest.raises(MambaSDKError, match="bad engine"):
        mambasdk.save_package(model, tmp_path / "p", engine="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module", params=["mamba", "mamba2"])
def language_package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model, compiled, its weights in bfloat16."""
    pytest.importorskip("mambasdk_language")
    torch.manual_seed(0)
    small = {"d_model": 32, "n_layer": 2, "vocab_size": 50}
    model = mambasdk.create_model(
        request.param, **small, **({"d_state": 16, "headdim": 16} if request.param == "mamba2" else {})
    )
    folder = tmp_path_factory.mktemp("language") / request.param
    mambasdk.save_package(model, folder, engine="aoti", dtype="bfloat16")
    return folder


@pytest.mark.slow
def test_a_stream_equals_the_whole_sequence(language_package: Path) -> None:
    assert golden_error(language_package) < 1e-4
    session = _core.load_package(language_package, allow_code=True).session()
    tokens = np.arange(2 * 40, dtype=np.int32).reshape(2, 40) * 7 % 50
    whole = session.run({"tokens": tokens}, ["logits"])["logits"]
    session.reset()
    parts = [session.run({"tokens": tokens[:, :17]}, ["logits"])["logits"]]
    saved = session.state()
    parts += [session.run({"tokens": tokens[:, i : i + 1]}, ["logits"])["logits"] for i in range(17, 40)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-3, atol=1e-4)

    # A saved and a cloned state continue alike; another batch is refused and leaves the state alone.
    session.restore(saved)
    clone = session.clone()
    with pytest.raises(ValueError, match="B = 2"):
        session.run({"tokens": tokens[:1]}, ["logits"])
    again = [s.run({"tokens": tokens[:, 17:]}, ["logits"])["logits"] for s in (session, clone)]
    assert np.array_equal(again[0], again[1])
    np.testing.assert_allclose(again[0], whole[:, 17:], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_both_engines_generate_the_same(language_package: Path, tmp_path: Path) -> None:
    model = mambasdk.load(language_package)
    mambasdk.save_package(model, tmp_path / "native", engine="native")
    tokens = np.array([[3, 1, 4, 1, 5]], np.int32)
    found = []
    for package in (language_package, tmp_path / "native"):
        session = _core.load_package(package, allow_code=True).session()
        feed, made = tokens, []
        for _ in range(12):
            logits = session.run({"tokens": feed}, ["last_logits"])["last_logits"]
            made.append(int(np.argmax(logits)))
            feed = np.array([[made[-1]]], np.int32)
        found.append(made)
    assert found[0] == found[1]
