"""`mambasdk new-plugin`: names, targets, licences; what is written is well-formed, whatever the name's length."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import fakes
import pytest

from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.plugins.new import DOMAINS, LICENSES, check_name, write_plugin

NAMES = ["mambasdk-acme", "x", "three-word-name", "mambasdk-abcdefghijklmnopqrstuvwxyz01234"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("domain", DOMAINS)
def test_generated_project_is_clean(tmp_path: Path, domain: str, native: bool, name: str) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    files = write_plugin(name, tmp_path / "new", domain=domain, native=native)
    package = tmp_path / "new" / name.replace("-", "_")
    family = package / "families" / package.name.removeprefix("mambasdk_")
    parts = {family / f"{part}.py" for part in ("__init__", "spec", "config", "model")}
    assert {package / "plugin.py", package / "py.typed", *parts} <= set(files)
    assert (tmp_path / "new" / "CMakeLists.txt").exists() == native
    assert (tmp_path / "new" / ".github" / "workflows" / "test.yml").is_file()
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "."], cwd=tmp_path / "new", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    assert not [path for path in files if "%if" in path.read_text() or "${" in path.read_text().replace("${{", "")]


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("domain", DOMAINS)
def test_generated_project_type_checks(tmp_path: Path, domain: str, native: bool) -> None:
    write_plugin("mambasdk-acme", tmp_path / "new", domain=domain, native=native)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path.parent / "mypy")],
        cwd=tmp_path / "new",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*NAMES, "mambasdk-d3"])
def test_good_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "bad name"),
        ("Acme", "bad name"),
        ("acme_x", "bad name"),
        ("-acme", "bad name"),
        ("acme--x", "bad name"),
        ("../acme", "bad name"),
        ("3d", "bad name"),
        ("a" * 41, "at most 40"),
        ("json", "module of Python's own"),
        ("class", "module of Python's own"),
        ("mambasdk-class", "cannot name a family"),
        ("mambasdk-3d", "cannot name a family"),
        ("mambasdk", "mambasdk itself"),
        ("torch", "PyTorch"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        write_plugin(name, tmp_path / "new", domain="language")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["mambasdk-toy", "toy-2"])
def test_names_of_installed_plugins_are_taken(plugin_site: fakes.Site, name: str) -> None:
    plugin_site.install("acme-toys", "toys", "toy_plugin", fakes.FAMILY_PLUGIN)
    with pytest.raises(InvalidArgumentError, match="is taken by plugin toys of acme-toys"):
        check_name(name)


def test_a_plugin_may_be_written_again_under_its_own_name(plugin_site: fakes.Site) -> None:
    plugin_site.install_toy()
    check_name("mambasdk-toy")


def test_target_in_the_way_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(InvalidArgumentError, match="the target exists and is not empty; give another --out"):
            write_plugin("acme", target, domain="series")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    assert write_plugin("acme", tmp_path / "empty", domain="series")


@pytest.mark.parametrize("name", LICENSES)
def test_licence(tmp_path: Path, name: str) -> None:
    write_plugin("acme", tmp_path, domain="series", license_name=name, author="ACME Ltd")
    text = (tmp_path / "LICENSE").read_text()
    assert ("Apache License" in text) if name == "apache-2.0" else ("Copyright (c) ACME Ltd" in text)
    assert f'license = "{LICENSES[name]}"' in (tmp_path / "pyproject.toml").read_text()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "mambasdk-acme", "--domain", "series"]) == 0
    shown = capsys.readouterr().out
    assert "-m pip install --no-build-isolation ./mambasdk-acme\n" in shown
    assert "-m pytest ./mambasdk-acme/tests\n" in shown
    assert main(["new-plugin", "mambasdk-acme", "--domain", "series"]) == 2
    assert capsys.readouterr().err.startswith("mambasdk: error: mambasdk-acme: the target exists")
