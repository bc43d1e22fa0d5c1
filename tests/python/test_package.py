"""Model packages: exact round trips, atomic writing, and a clear error for everything that is damaged or hostile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError, MambaSDKError, PackageError, PackageVersionError, PluginError
from mambasdk.package import Manifest, load_processors
from mambasdk.package import manifest as manifest_module
from mambasdk.package.manifest import sha256_file
from mambasdk.package.verification import ROUNDED_TOLERANCE
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
    report = mambasdk.verify(tmp_path / "p")
    assert report.passed
    assert report.tolerances == ({"native": ROUNDED_TOLERANCE} if dtype == "bfloat16" else {})
    mambasdk.save_package(model, tmp_path / "exact", dtype=dtype, products="float32")
    report = mambasdk.verify(tmp_path / "exact")
    assert report.passed
    assert report.tolerances == {}
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

    monkeypatch.setattr("mambasdk.atomic.sync_tree", fail)
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
        "the package needs another SDK: expected ABI 1.0 to 1.2, got 1.9",
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


SPECIAL: dict[str, Callable[[Path, Path], Any]] = {
    "a link out of the folder": lambda path, outside: path.symlink_to(outside),
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "a folder": lambda path, outside: path.mkdir(),
    "a socket": lambda path, outside: bind_socket(path),
}


def bind_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have some 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["mambasdk.json", "model.safetensors", "program.json", "second.json"])
def test_files_that_are_no_files_are_refused_alike(package: Path, tmp_path: Path, kind: str, name: str) -> None:
    """By the reader, by verify and by the runtime; no pipe is waited for, no device read."""
    entry = {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2}
    edit(package, lambda m: (m["files"].update({"second.json": entry}), m["processors"].update(SECOND)))
    (package / "second.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.write_bytes((package / name).read_bytes())
    (package / name).unlink()
    SPECIAL[kind](package / name, outside)
    for opened in (mambasdk.load, mambasdk.verify, mambasdk._core.load_package):
        with pytest.raises((ValueError, OSError), match=re.escape(name)):
            opened(package)


SECOND = {"second": {"kind": "tokenizer", "file": "second.json"}}


@pytest.mark.parametrize("name", ["model.safetensors", "program.json"])
def test_files_that_are_used_must_be_listed(package: Path, name: str) -> None:
    edit(package, lambda m: m["files"].pop(name))
    for opened in (mambasdk.verify, mambasdk._core.load_package):
        with pytest.raises(ValueError, match=re.escape(name)):
            opened(package)


@pytest.mark.parametrize("golden", [True, False])
def test_what_the_loader_refuses_fails_verification(toy: str, tmp_path: Path, golden: bool) -> None:
    package = tmp_path / "p"
    mambasdk.save_package(mambasdk.create_model("toy-2"), package, golden=golden)
    program = json.loads((package / "program.json").read_text())
    program["nodes"][0]["op"] = "no_such_operation"
    (package / "program.json").write_text(json.dumps(program))
    entry = {
        "sha256": sha256_file(package / "program.json"),
        "size": (package / "program.json").stat().st_size,
    }
    edit(package, lambda m: m["files"].update({"program.json": entry}))
    with pytest.raises(PackageError, match=r"its engine refuses the package: .*no_such_operation"):
        mambasdk.verify(package)


@pytest.mark.parametrize("name", ["model.safetensors", "program.json"])
def test_a_flipped_byte_is_refused_on_load_unless_told_otherwise(package: Path, name: str) -> None:
    path = package / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    for opened in (mambasdk.load, mambasdk._core.load_package):
        with pytest.raises(ValueError, match=re.escape(name)):
            opened(package)
    if name == "model.safetensors":
        mambasdk.load(package, verify=False)
        mambasdk._core.load_package(package, verify=False)


def test_hashes_are_computed_once_for_each_state_of_a_file(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "p"
    mambasdk.save_package(mambasdk.create_model("toy-2", vocab_size=9000), package)  # more than a mebibyte
    weights = package / "model.safetensors"
    hashed: list[str] = []
    real = manifest_module.sha256_file

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(manifest_module, "sha256_file", counted)
    mambasdk.load(package)
    assert "model.safetensors" in hashed
    time.sleep(2.1)  # a file that has just changed is not remembered
    mambasdk.load(package)
    hashed.clear()
    mambasdk.load(package)
    assert "model.safetensors" not in hashed
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    status = weights.stat()
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # the time of change cannot be set back
    for opened in (mambasdk.load, mambasdk._core.load_package):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            opened(package)
    # What C++ remembers, Python knows, and an unwritable cache is no error.
    weights.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    time.sleep(2.1)
    mambasdk._core.load_package(package)
    hashed.clear()
    mambasdk.load(package)
    assert "model.safetensors" not in hashed
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    mambasdk.load(package)
    mambasdk._core.load_package(package)


TRUNCATE = """
import numpy as np, os, sys
from mambasdk import _core
session = _core.load_package(sys.argv[1]).session()
tokens = np.array([[1, 2, 3]], np.int32)
before = session.run({"tokens": tokens}, ["logits"])["logits"]
os.truncate(sys.argv[1] + "/model.safetensors", 16)
session.reset()
assert np.array_equal(session.run({"tokens": tokens}, ["logits"])["logits"], before)
"""


def test_weights_truncated_under_a_running_session(toy: str, tmp_path: Path) -> None:
    package = tmp_path / "p"
    mambasdk.save_package(mambasdk.create_model("toy-2", vocab_size=9000), package)
    done = subprocess.run([sys.executable, "-c", TRUNCATE, str(package)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e5), ("bfloat16", 3.4e38)])
def test_a_weight_that_its_type_cannot_hold_is_named(toy: str, tmp_path: Path, dtype: str, value: float) -> None:
    model = mambasdk.create_model("toy-2")
    name, parameter = next((n, p) for n, p in model.named_parameters() if not getattr(p, "_keep_float32", False))
    with torch.no_grad():
        parameter.view(-1)[3] = -value
    with pytest.raises(
        InvalidArgumentError, match=rf"{re.escape(name)} does not fit {dtype}: .* got {value:g}".replace("+", r"\+")
    ):
        mambasdk.save_package(model, tmp_path / "p", dtype=dtype)
    assert not (tmp_path / "p").exists()
    with torch.no_grad():
        parameter.view(-1)[3] = math.inf  # what is infinite already stays so
    mambasdk.save_package(model, tmp_path / "p", dtype=dtype, golden=False)


def test_infinity_is_no_json_and_its_place_is_named() -> None:
    manifest = Manifest(family="toy", config={"dt_limit": (0.1, math.inf)}, engine={"name": "torch"})
    with pytest.raises(InvalidArgumentError, match=r"config\.dt_limit\[1\] is inf, which JSON cannot hold"):
        manifest.to_json()
    with pytest.raises(PackageError, match="too large a number"):
        Manifest.parse(b'{"format": [1, 0], "config": {"a": 1e999}}')


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
