"""What a plugin does while it is imported stays its own: its death in `mambasdk doctor`, its output, its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest

from mambasdk.plugins import PluginHost, PluginRecord, get_host
from mambasdk.plugins.isolation import import_in_a_process

EMPTY = "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_heads():\n    return []\n"


def mambasdk(site: fakes.Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-m", "mambasdk", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def record(host: PluginHost, name: str) -> PluginRecord:
    return next(record for record in host.records if record.name == name)


# What no host in the same process can survive, and how doctor names it.
DEATHS = {
    "os._exit": ("import os; os._exit(0)", r"ends with exit code 0 (_exit)"),
    "segfault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "is killed by SIGSEGV"),
    "abort": ("import os; os.abort()", "is killed by SIGABRT"),
}


@pytest.mark.parametrize("case", DEATHS)
def test_doctor_survives_a_plugin_that_ends_the_process(plugin_site: fakes.Site, case: str) -> None:
    source, death = DEATHS[case]
    plugin_site.install("acme-deadly", "deadly", "deadly_plugin", source)
    plugin_site.install_toy()
    report = json.loads(mambasdk(plugin_site, "doctor", "--json").stdout)
    status = {row["name"]: row["status"] for row in report["plugins"]}
    assert (status["deadly"], status["toy"]) == ("quarantined", "good")
    problem = next(problem for problem in report["problems"] if problem["where"] == "plugin deadly")
    assert problem["reason"] == f"while it is imported, its process {death}"
    assert "leave deadly out of MAMBASDK_PLUGINS" in problem["way_out"]


def test_an_import_that_does_not_come_back(plugin_site: fakes.Site) -> None:
    (plugin_site.folder / "sleepy.py").write_text("import time; time.sleep(60)")
    assert import_in_a_process("sleepy", seconds=0.5) == "does not come back within 0.5 s"


@pytest.mark.parametrize("source", ["", "raise SystemExit(3)", "import nowhere_at_all", "def ("])
def test_what_the_host_survives_is_no_death(plugin_site: fakes.Site, source: str) -> None:
    (plugin_site.folder / "harmless.py").write_text(source)
    assert import_in_a_process("harmless") is None


@pytest.mark.parametrize(
    "writing",
    ["print('hello')", "sys.stdout.write('hello')", "sys.stdout.buffer.write(b'hello')", "os.write(1, b'hello')"],
)
def test_output_at_import_does_not_spoil_json(plugin_site: fakes.Site, writing: str) -> None:
    plugin_site.install("acme-chatty", "chatty", "chatty_plugin", f"import os, sys\n{writing}\n{EMPTY}")
    done = mambasdk(plugin_site, "plugins", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert rows["chatty"]["status"] == "good"
    assert "hello" in done.stderr
    if not writing.startswith("os."):
        assert rows["chatty"]["remarks"] == ["writes to standard output while it is imported"]


def test_a_kept_stream_writes_to_the_real_one_later(
    plugin_site: fakes.Site, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin_site.install("acme-keeper", "keeper", "keeper_plugin", f"import sys\nkept = sys.stdout\n{EMPTY}")
    assert not record(get_host(), "keeper").printed
    sys.modules["keeper_plugin"].kept.write("later")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("later", "")


def test_torch_and_time_are_noted(plugin_site: fakes.Site) -> None:
    """A stand-in named torch: the real one would make every test of a slow import slow itself."""
    (plugin_site.folder / "torch.py").write_text("import time; time.sleep(0.6)\n")
    plugin_site.install("acme-heavy", "heavy", "heavy_plugin", f"import torch\n{EMPTY}")
    code = (
        "import json; from mambasdk.plugins import get_host; "
        "print(json.dumps({r.name: [what for what, _ in r.remarks()] for r in get_host().records}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(plugin_site.folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    slow, torch = json.loads(done.stdout)["heavy"]
    assert slow.startswith("takes 0.")
    assert torch == "imports torch while it is listed"


def test_unknown_name_in_the_allow_list_is_a_problem(
    plugin_site: fakes.Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin_site.install_toy()
    monkeypatch.setenv("MAMBASDK_PLUGINS", "toy,tpy")
    from mambasdk.command_line import main

    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["variables"]["MAMBASDK_PLUGINS"] == "toy,tpy"
    assert [problem["where"] for problem in report["problems"]] == ["MAMBASDK_PLUGINS"]
    assert "tpy, which no installed package has" in report["problems"][0]["reason"]


def test_interruption_names_the_plugin(plugin_site: fakes.Site) -> None:
    plugin_site.install("acme-slow", "slow", "slow_plugin", "raise KeyboardInterrupt")
    done = mambasdk(plugin_site, "models")
    assert done.returncode == 130
    assert done.stderr == "mambasdk: interrupted while plugin slow was imported\n"


def test_importing_the_package_loads_no_plugin(plugin_site: fakes.Site) -> None:
    marker = Path(plugin_site.folder) / "imported"
    plugin_site.install("acme", "acme", "acme_plugin", f"open({str(marker)!r}, 'w').close()\n{EMPTY}")
    environment = {**os.environ, "PYTHONPATH": str(plugin_site.folder)}
    subprocess.run([sys.executable, "-c", "import mambasdk, mambasdk.plugins"], env=environment, check=True)
    assert not marker.exists()
