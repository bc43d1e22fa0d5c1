"""Every writer replaces its target whole or not at all: killed at each system call, two at once, on a full disk."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import traced

import mambasdk
from mambasdk import atomic
from mambasdk.atomic import replacing_file, replacing_folder, write_text
from mambasdk.lowering import native_program
from mambasdk.nn import ModelState
from mambasdk.package import Manifest, writer
from mambasdk.training import TrainingResult, write_curve
from mambasdk.training.checkpoint import read_checkpoint, write_checkpoint

needs_tracing = pytest.mark.skipif(not traced.available, reason="ptrace of x86-64 Linux")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def write_training_checkpoint(path: Path, value: float) -> None:
    content = {"model": {"w": torch.full((1000,), value)}, "optimizer": {}, "task": {}}
    write_checkpoint({**content, "unit": "x", "options": {}, "result": {}}, path)


def read_training_checkpoint(path: Path) -> float:
    tensor = read_checkpoint(path, torch.device("cpu"))["model"]["w"]
    assert (tensor == tensor[0]).all()
    return float(tensor[0])


def write_state(path: Path, value: float) -> None:
    ModelState([], torch.full((3,), int(value))).save(path)


def read_state(path: Path) -> float:
    return float(ModelState.load(path).tokens_seen[2])


WRITERS: dict[str, tuple[Callable[[Path, float], None], Callable[[Path], float]]] = {
    "text": (lambda path, value: write_text(path, f"{value}" * 9000), lambda path: float(path.read_text()[:3])),
    "training checkpoint": (write_training_checkpoint, read_training_checkpoint),
    "state": (write_state, read_state),
}


@needs_tracing
@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path: Path, kind: str) -> None:
    write, read = WRITERS[kind]
    path = tmp_path / "file.bin"
    write(path, 1.0)
    found, calls = [], []
    for calls in traced.killed_at(lambda: write(path, 2.0)):  # noqa: B007
        found.append(read(path))
        if found[-1] == 2.0:
            write(path, 1.0)
            assert leftovers(tmp_path) == [], "the next writer removes what a dead one left"
    assert set(found) == {1.0, 2.0}
    # Power cuts: the content is on the disk before its name is, and then the name.
    rename = max(index for index, call in enumerate(calls) if call.startswith("rename"))
    assert "fsync" in calls[:rename]
    assert "fsync" in calls[rename:]


@needs_tracing
def test_a_killed_save_leaves_the_old_or_the_new_package(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "out" / "package"
    models = {name: mambasdk.create_model(name) for name in ("toy-2", "toy-mlp")}
    # Exported once, not before every kill: it writes nothing.
    programs = {id(model): native_program(model) for model in models.values()}
    monkeypatch.setattr(writer, "native_program", lambda model, *_: programs[id(model)])
    mambasdk.save_package(models["toy-2"], package)
    found = []

    def save() -> None:
        mambasdk.save_package(models["toy-mlp"], package, overwrite=True)

    for _ in traced.killed_at(save):
        manifest = Manifest.read(package)
        manifest.check_sizes(package)
        manifest.check_hashes(package)
        found.append(manifest.variant)
        if manifest.variant == "toy-mlp":
            mambasdk.save_package(models["toy-2"], package, overwrite=True, golden=False, readme=False)
            assert leftovers(package.parent) == []
    assert set(found) == {"toy-2", "toy-mlp"}


@needs_tracing
def test_where_names_cannot_be_exchanged_the_next_writer_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    folder = tmp_path / "folder"

    def write(text: str) -> None:
        with replacing_folder(folder, lambda there: None) as work:
            (work / "a").write_text(text)
            (work / "b").write_text(text)

    write("old")
    for _ in traced.killed_at(lambda: write("new")):
        if not folder.exists():  # between the two renames
            atomic._sweep(folder)
        assert {path.read_text() for path in folder.iterdir()} in ({"old"}, {"new"})
        write("old")
        assert leftovers(tmp_path) == []


@needs_tracing
def test_mambasdk_run_killed_while_it_saves_the_state(toy: str, tmp_path: Path) -> None:
    program = native_command()
    model = mambasdk.create_model("toy-2", vocab_size=256)
    mambasdk.save_package(model, tmp_path / "p", processors={"text": {"kind": "bytes"}})
    state = tmp_path / "state.bin"
    arguments = [program, str(tmp_path / "p"), "--prompt", "ab", "--max-new-tokens", "1", "--threads", "1"]
    subprocess.run([*arguments, "--save-state", str(tmp_path / "new")], check=True, capture_output=True)
    old, new = b"old" * 500, (tmp_path / "new").read_bytes()
    state.write_bytes(old)

    def save() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(program, [*arguments, "--save-state", str(state)])

    found = []
    for _ in traced.killed_at(save, last=40):
        found.append(state.read_bytes())
        assert found[-1] in (old, new)
        state.write_bytes(old)
    assert set(found) == {old, new}


def native_command() -> str:
    from mambasdk.errors import MissingDependencyError
    from mambasdk.installation import get_native_command

    try:
        return get_native_command()
    except MissingDependencyError:
        pytest.skip("mambasdk-run is not in this build")


WRITE_OFTEN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_atomic_write import WRITERS
for _ in range(15):
    WRITERS[sys.argv[3]][0](Path(sys.argv[2]), float(sys.argv[4]))
"""


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    kind = "training checkpoint"
    write, read = WRITERS[kind]
    write(path, 1.0)
    command = [sys.executable, "-c", WRITE_OFTEN, str(Path(__file__).parent), str(path), kind]
    writers = [subprocess.Popen([*command, str(value)]) for value in (1.0, 2.0)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        assert read(path) in (1.0, 2.0)
        reads += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert reads > 0
    assert sorted(os.listdir(tmp_path)) == ["checkpoint"]


def test_two_packages_saved_at_once(toy: str, tmp_path: Path) -> None:
    first, second = mambasdk.create_model("toy-2"), mambasdk.create_model("toy-mlp")
    with replacing_folder(tmp_path / "p", lambda there: None) as work:
        mambasdk.save_package(first, tmp_path / "p")  # the other is quicker
        (work / "mambasdk.json").write_text((tmp_path / "p" / "mambasdk.json").read_text())
    mambasdk.save_package(second, tmp_path / "p", overwrite=True)
    assert Manifest.read(tmp_path / "p").variant == "toy-mlp"
    assert leftovers(tmp_path) == []


def test_living_writers_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    others = [".f.xyz.partial", ".g.0123456789ab.partial", "f.0123456789ab.partial"]
    for name in (".f.0123456789ab.partial", *others):
        (tmp_path / name).write_text("x")
    with replacing_file(tmp_path / "f") as partial:
        assert sorted(os.listdir(tmp_path)) == sorted([partial.name, *others])
        write_text(tmp_path / "f", "quick")
        assert partial.exists(), "another writer does not sweep one that lives"
        partial.write_text("slow")
    assert (tmp_path / "f").read_text() == "slow"


def test_links_modes_and_devices(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    write_text("/dev/null", "gone")
    assert not Path("/dev/null").is_file()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "x")


@pytest.mark.parametrize("kind", [*WRITERS, "curve"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.png"
    path.write_text("old")

    def full(file: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(atomic, "_sync_file", full)
    result = TrainingResult(steps=2, units=2, losses=[1.0, 0.5])
    with pytest.raises(OSError, match="No space left"):
        write_curve(path, result) if kind == "curve" else WRITERS[kind][0](path, 2.0)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.png"]


def test_the_lock_is_released(tmp_path: Path) -> None:
    write_text(tmp_path / "f", "x")
    with (tmp_path / "f").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
