"""Model packages: exact round trips, atomic writing, and a clear error for everything that is damaged or hostile."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mambasdk
from mambasdk.cli import main
from mambasdk.errors import InvalidArgumentError, MambaSDKError, PackageError, PackageVersionError, PluginError
from mambasdk.package import Manifest, load_processors
from mambasdk.package.manifest import sha256_file
from mambasdk.plugins import reset_host


@pytest.fixture
def package(toy: str, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    mambasdk.save_package(mambasdk.create_model("toy-2"), tmp_path / "package")
    return tmp_path / "package"


def edit(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = package / "mambasdk.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_weight_types_and_what_stays_float32(toy: str, tmp_path: Path, dtype: str | None) -> None:
    model = mambasdk.create_model("toy-mlp")
    mambasdk.save_package(model, tmp_path / "p", dtype=dtype)
    again = mambasdk.load(tmp_path / "p")
    wanted = torch.float32 if dtype is None else getattr(torch, dtype)
    for name, parameter in again.named_parameters():
        kept = name.rsplit(".", 1)[-1] in ("A_log", "D") or name.endswith("dt_proj.bias")
        assert parameter.dtype == (torch.float32 if kept else wanted), name
        assert torch.equal(parameter, model.get_parameter(name).to(parameter.dtype)), name
    assert mambasdk.verify(tmp_path / "p").passed
    assert mambasdk.load(tmp_path / "p", dtype=torch.float32).lm_head.weight.dtype == torch.float32


def test_manifest_says_what_the_package_is(package: Path) -> None:
    manifest = Manifest.read(package)
    assert (manifest.family, manifest.variant, manifest.head) == ("toy", "toy-2", "toy_head")
    assert manifest.engine == {"name": "native", "program": "program.json"}
    assert [port["name"] for port in manifest.outputs] == ["logits", "last_logits"]
    assert manifest.outputs[0]["shape"] == ["B", "L", 61]
    assert manifest.requires["plugins"] == [{"name": "mambasdk-toy", "version": "1.0"}]
    assert set(manifest.files) == {"README.md", "golden.safetensors", "model.safetensors", "program.json"}
    assert Manifest.parse(manifest.to_json()) == manifest
    assert "toy-2" in (package / "README.md").read_text()
    assert load_processors(package)["shout"]("a") == "A"


def test_processor_files_are_copied_in(toy: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    entry = {"kind": "tokenizer", "file": str(tmp_path / "tokenizer.json"), "eos_token_id": 0}
    mambasdk.save_package(mambasdk.create_model("toy"), tmp_path / "p", processors={"text": entry})
    assert Manifest.read(tmp_path / "p").processors["text"]["file"] == "tokenizer.json"
    assert (tmp_path / "p" / "tokenizer.json").read_text() == "{}"
    with pytest.raises(PackageError, match="processor text: no file"):
        mambasdk.save_package(
            mambasdk.create_model("toy"), tmp_path / "q", processors={"text": {"kind": "x", "file": "/no/such"}}
        )
    assert not (tmp_path / "q").exists()


EYES = """
from mambasdk.plugins import ProcessorSpec, hookimpl

@hookimpl
def mambasdk_processors():
    return [ProcessorSpec(slot="eye", kind="native", summary="sees", factory="toy_model:processor")]

@hookimpl
def mambasdk_native_libraries():
    return [LIBRARY]
"""


@pytest.mark.parametrize("native", [False, True])
def test_a_package_requires_the_native_plugins_of_its_processors(
    toy: str, plugin_site: Any, tmp_path: Path, native: bool
) -> None:
    library = tmp_path / "libeyes.so"
    library.touch()  # saving does not load it
    source = EYES.replace("[LIBRARY]", f"[{str(library)!r}]" if native else "[]")
    plugin_site.install("acme-eyes", "eyes", "eyes", source)
    reset_host()
    entry = {"kind": "native"}
    manifest = mambasdk.save_package(mambasdk.create_model("toy"), tmp_path / "p", processors={"eye": entry})
    required = [plugin["name"] for plugin in manifest.requires["plugins"]]
    assert required == ["mambasdk-toy", *(["acme-eyes"] if native else [])]


def test_head_options_are_written_and_stay_with_the_model(toy: str, tmp_path: Path) -> None:
    options = {"labels": ["cat", "dög"], "top_k": 2, "nested": {"threshold": 0.25}}
    manifest = mambasdk.save_package(mambasdk.create_model("toy"), tmp_path / "p", head_options=options)
    assert Manifest.read(tmp_path / "p").head_options == options == manifest.head_options
    model = mambasdk.load(tmp_path / "p")
    assert mambasdk.save_package(model, tmp_path / "again").head_options == options
    assert mambasdk.save_package(model, tmp_path / "other", head_options={"top_k": 1}).head_options == {"top_k": 1}
    assert mambasdk.save_package(mambasdk.create_model("toy"), tmp_path / "none").head_options is None
    assert main(["export", str(tmp_path / "p"), "--out", str(tmp_path / "half"), "--dtype", "float16"]) == 0
    assert Manifest.read(tmp_path / "half").head_options == options
    for value in ({1, 2}, math.inf):
        with pytest.raises(InvalidArgumentError, match=r"head_options: not JSON: .* expected text, numbers"):
            mambasdk.save_package(model, tmp_path / "bad", head_options={"labels": value})
    assert not (tmp_path / "bad").exists()


def test_targets_are_replaced_only_when_asked_and_only_packages(package: Path) -> None:
    model = mambasdk.create_model("toy")
    with pytest.raises(PackageError, match="the target exists; pass overwrite=True"):
        mambasdk.save_package(model, package)
    mambasdk.save_package(model, package, overwrite=True)
    assert Manifest.read(package).variant is None
    precious = package.parent / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    with pytest.raises(PackageError, match="is no model package"):
        mambasdk.save_package(model, precious, overwrite=True)
    assert (precious / "thesis.tex").exists()
    assert sorted(p.name for p in package.parent.iterdir()) == ["package", "precious", "site"]


def test_a_failed_save_leaves_nothing_behind(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in package.iterdir()}

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mambasdk.package.writer._sync", fail)
    with pytest.raises(OSError, match="disk full"):
        mambasdk.save_package(mambasdk.create_model("toy"), package, overwrite=True)
    assert {path.name: path.read_bytes() for path in package.iterdir()} == before
    assert sorted(p.name for p in package.parent.iterdir()) == ["package", "site"]


def test_meta_models_and_bad_dtypes_are_refused(toy: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="meta device"):
        mambasdk.save_package(mambasdk.create_model("toy", device="meta"), tmp_path / "p")
    with pytest.raises(InvalidArgumentError, match="expected float32 or bfloat16 or float16, got 'int8'"):
        mambasdk.save_package(mambasdk.create_model("toy"), tmp_path / "p", dtype="int8")


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "program.json", "README.md"])
def test_truncated_missing_and_flipped_files_are_named(package: Path, name: str) -> None:
    path = package / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(PackageError, match=rf"file {name} is damaged: expected {len(data)} bytes, got {len(data) - 1}"):
        mambasdk.load(package)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(PackageError, match=f"file {name} is damaged: expected sha256"):
        mambasdk.verify(package)
    path.unlink()
    with pytest.raises(PackageError, match=f"file {name} is missing"):
        mambasdk.load(package)


def test_wrong_outputs_fail_verification(package: Path) -> None:
    path = package / "golden.safetensors"
    tensors = load_file(path)
    tensors["outputs.logits"][1, 2, 3] += 0.5
    save_file(tensors, path)
    entry = {"sha256": sha256_file(path), "size": path.stat().st_size}
    edit(package, lambda m: m["files"].update({"golden.safetensors": entry}))
    report = mambasdk.verify(package)
    assert not report.passed
    assert report.errors["torch"]["logits"] == pytest.approx(0.5, abs=1e-3)
    assert report.errors["torch"]["last_logits"] < 1e-4


def test_without_torch_the_native_engine_is_verified_alone(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    report = mambasdk.verify(package)
    assert report.passed
    assert list(report.errors) == ["native"]
    assert report.skipped == {"torch": "torch is not installed"}
    edit(package, lambda m: m.update(engine={"name": "torch"}))
    report = mambasdk.verify(package)
    assert (report.passed, report.errors) == (False, {})  # nothing was compared


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "newer major": (lambda m: m.update(format=[2, 0]), PackageVersionError, "expected 1.x, got 2.0; pip install --up"),
    "format of text": (lambda m: m.update(format="1.0"), PackageError, r"bad format: expected \[major, minor\]"),
    "newer abi": (
        lambda m: m["requires"].update(mambasdk_abi=[1, 9]),
        PackageVersionError,
        "the package needs another SDK: expected ABI 1.0 to 1.1, got 1.9",
    ),
    "no family": (lambda m: m.pop("family"), PackageError, "bad family: expected a string"),
    "unknown family": (lambda m: m.update(family="alien"), PluginError, "family 'alien'; pip install mambasdk-toy"),
    "unknown option": (lambda m: m["config"].update(d_modle=1), MambaSDKError, "no override named 'd_modle'"),
    "other shape": (lambda m: m["config"].update(d_model=64), PackageError, r"is \(\d+, 32\), expected \(\d+, 64\)"),
    "path that leaves": (
        lambda m: m["files"].update({"../../etc/passwd": m["files"]["README.md"]}),
        PackageError,
        "bad file name '../../etc/passwd'",
    ),
    "absolute path": (
        lambda m: m["files"].update({"/etc/passwd": m["files"]["README.md"]}),
        PackageError,
        "bad file name '/etc/passwd'",
    ),
    "negative size": (lambda m: m["files"]["README.md"].update(size=-1), PackageError, "bad size of README.md"),
    "size of true": (lambda m: m["files"]["README.md"].update(size=True), PackageError, "bad size of README.md"),
    "bad hash": (lambda m: m["files"]["README.md"].update(sha256="0"), PackageError, "bad sha256 of README.md"),
    "weights not listed": (lambda m: m["files"].pop("model.safetensors"), PackageError, "no model.safetensors"),
    "program not listed": (lambda m: m["files"].pop("program.json"), PackageError, "which `files` does not list"),
    "processor not listed": (
        lambda m: m["processors"].update(text={"kind": "tokenizer", "file": "/etc/passwd"}),
        PackageError,
        "processors.text.file is '/etc/passwd', which `files` does not list",
    ),
    "port without a name": (lambda m: m["inputs"].append({}), PackageError, "inputs: bad entry"),
    "engine of text": (lambda m: m.update(engine="native"), PackageError, "bad engine: expected an object, got str"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_manifests_are_clear_errors(package: Path, case: str) -> None:
    change, kind, message = HOSTILE[case]
    edit(package, change)
    with pytest.raises(kind, match=message):
        mambasdk.load(package)


def test_a_newer_minor_is_read_and_its_fields_are_kept(package: Path) -> None:
    edit(package, lambda m: m.update(format=[1, 7], novelty={"a": 1}))
    assert Manifest.read(package).extra == {"novelty": {"a": 1}}
    mambasdk.load(package)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"format": [1, 0]',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
    ],
)
def test_hostile_json_is_a_clear_error(package: Path, data: bytes) -> None:
    (package / "mambasdk.json").write_bytes(data)
    with pytest.raises(PackageError, match=r"mambasdk\.json"):
        mambasdk.load(package)


def test_a_link_out_of_the_package_is_refused(package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((package / "README.md").read_bytes())
    (package / "README.md").unlink()
    os.symlink(outside, package / "README.md")
    with pytest.raises(PackageError, match="no regular file inside the package"):
        mambasdk.load(package)


def test_random_damage_to_manifest_and_weights_never_raises_anything_else(package: Path) -> None:
    chance = random.Random(0)
    for name in ("mambasdk.json", "model.safetensors"):
        data = (package / name).read_bytes()
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(min(len(data), 3000))] = chance.randrange(256)
            (package / name).write_bytes(broken)
            with contextlib.suppress(MambaSDKError):
                mambasdk.load(package)
        (package / name).write_bytes(data)
    mambasdk.load(package)


def test_no_directory_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no such package directory"):
        mambasdk.load(tmp_path / "nothing")
    with pytest.raises(PackageError, match="not a model package"):
        mambasdk.load(tmp_path)
