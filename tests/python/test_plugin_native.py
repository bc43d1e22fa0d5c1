"""Native libraries of plugins: good ones are listed with what they bring; bad ones quarantine their plugin alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fakes
import pytest

import mambasdk
from mambasdk.errors import PluginError
from mambasdk.plugins import PluginRecord, get_host
from mambasdk.plugins.native import probe_library

pytest.importorskip("mambasdk._core")

# A plugin with one operation, tmpl_<NAME>_double; macros make it bad in one way each.
SOURCE = """
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include "mambasdk/mambasdk.h"
#ifndef MAJOR
#define MAJOR 1
#endif
#ifndef MINOR
#define MINOR 0
#endif
#ifndef ISA
#define ISA ""
#endif
#ifndef TORCH
#define TORCH ""
#endif
static const mambasdk_api* host;
static mambasdk_string text(const char* s) { mambasdk_string out = {s, strlen(s)}; return out; }
static mambasdk_status* kernel(void* self, const mambasdk_op_call* call) {
  (void)self;
  const mambasdk_tensor* x = call->inputs[0].as.tensor;
  const mambasdk_tensor* y = &call->outputs[0];
  for (int64_t i = 0; i < y->shape[0]; ++i) {
    const int64_t step = x->strides == NULL ? 1 : x->strides[0];
    ((float*)y->data)[i] = 2 * ((const float*)((const char*)x->data + x->byte_offset))[i * step];
  }
  return NULL;
}
static mambasdk_status* initialize(const mambasdk_api* api, mambasdk_registrar* registrar) {
  host = api;
#ifdef FAIL
  return api->status_create(MAMBASDK_ERROR_UNSUPPORTED, text("there is no frobnicator here"), text(NAME));
#endif
#ifdef DIE
  DIE;
#endif
#ifdef SLEEP
  sleep(60);
#endif
  mambasdk_op_definition op = {sizeof op};
  op.signature = text("tmpl_" NAME "_double(x: f32[D]) -> (y: f32[D])");
  op.doc = text("2 x.");
  op.reference = kernel;
  return api->register_op(registrar, &op);
}
#ifdef CONSTRUCTOR
__attribute__((constructor)) static void at_load(void) { CONSTRUCTOR; }
#endif
#ifndef NO_ENTRY
MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {
  static mambasdk_plugin_descriptor d = {sizeof d, MAJOR, MINOR, {NAME, sizeof NAME - 1}, {"1.0", 3},
                                         {ISA, sizeof ISA - 1}, initialize,
                                         {TORCH, sizeof TORCH - 1}, {"", 0}};
  return &d;
}
#endif
"""

PLUGIN = """
from pathlib import Path
from mambasdk.plugins import FamilySpec, hookimpl
@hookimpl
def mambasdk_families():
    return [FamilySpec(name="with-native", summary="x", config="toy_model:ToyConfig", factory="toy_model:build",
                       variants={"with-native-1": {}})]
@hookimpl
def mambasdk_native_libraries():
    return [Path(PATH)]
"""

Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def compile_plugin(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function (name, *macros) -> shared library, compiled against the installed headers."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here: cc, gcc and clang are absent")
    folder = tmp_path_factory.mktemp("native")
    (folder / "plugin.c").write_text(SOURCE)
    installed = Path(mambasdk.__file__).parent / "include"
    include = installed if installed.is_dir() else Path(__file__).parents[2] / "cpp" / "include"

    def build(name: str, *macros: str) -> Path:
        library = folder / f"lib{name}.so"
        flags = ["-std=gnu11", "-fPIC", "-shared", f"-I{include}", f'-DNAME="{name}"', *(f"-D{m}" for m in macros)]
        subprocess.run([compiler, *flags, str(folder / "plugin.c"), "-o", str(library)], check=True)
        return library

    return build


def record(name: str) -> PluginRecord:
    return next(record for record in get_host().records if record.name == name)


def install(site: fakes.Site, library: Path) -> PluginRecord:
    """The toy plugin, and one with this library and a family of its own."""
    site.install_toy()
    site.install("acme-native", "acme", "acme_plugin", PLUGIN.replace("PATH", repr(str(library))))
    return record("acme")


def test_a_good_library_is_loaded_with_its_model_and_listed(
    plugin_site: fakes.Site, compile_plugin: Compile, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    found = install(plugin_site, compile_plugin("fine"))
    assert found.status == "good"
    assert found.libraries[0].description is None  # listing models loads nothing
    mambasdk.create_model("with-native-1")
    description = found.libraries[0].description
    assert description is not None
    assert description["ops"] == ["tmpl_fine_double"]
    torch.testing.assert_close(torch.ops.mambasdk.tmpl_fine_double(torch.tensor([1.0, 3.0])), torch.tensor([2.0, 6.0]))
    assert mambasdk.command_line.main(["plugins", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["plugins"]}
    library = rows["acme"]["libraries"][0]
    assert (library["loaded"], library["name"], library["ops"]) == (True, "fine", ["tmpl_fine_double"])
    assert mambasdk.command_line.main(["plugins"]) == 0
    assert "ops tmpl_fine_double" in capsys.readouterr().out


# name of the library -> (macros, what the reason says, what the advice says)
BAD = {
    "wrong_major": (["MAJOR=2"], r"was built for ABI 2\.x; this mambasdk has 1\.", "install --upgrade mambasdk"),
    "newer_minor": (["MINOR=99"], r"needs at least ABI 1\.99", "install --upgrade mambasdk"),
    "fails": (["FAIL"], "there is no frobnicator here", "pip uninstall acme-native"),
    "unknown_isa": (['ISA="zvector"'], "which this mambasdk does not know", "pip uninstall acme-native"),
    "newer_torch": (['TORCH=">=99"'], r"needs torch >=99, this host has \d", "pip install --upgrade"),
    "no_entry": (["NO_ENTRY"], "exports no mambasdk_plugin function", "pip install --upgrade"),
    "missing_symbol": (["DIE=extern void nowhere(void);nowhere()"], "undefined symbol: nowhere", "--force-reinstall"),
    "segfault": (["DIE=raise(SIGSEGV)"], "is killed by SIGSEGV", "report it to its author"),
    "segfault_at_load": (["CONSTRUCTOR=raise(SIGSEGV)"], "is killed by SIGSEGV", "report it to its author"),
    "illegal_instruction": (["CONSTRUCTOR=__builtin_trap()"], "is killed by SIG(ILL|TRAP)", "report it"),
    "abort": (["DIE=raise(SIGABRT)"], "is killed by SIGABRT", "report it to its author"),
    "exits": (["CONSTRUCTOR=_exit(3)"], r"ends with exit code 3 \(_exit\)", "report it to its author"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_library_quarantines_its_plugin_alone(
    plugin_site: fakes.Site, compile_plugin: Compile, case: str
) -> None:
    pytest.importorskip("torch")  # models are made
    macros, reason, advice = BAD[case]
    found = install(plugin_site, compile_plugin(case, *macros))
    for _ in range(2):  # the same error again, not "no such model"
        with pytest.raises(PluginError, match=rf"plugin acme: native library .*lib{case}\.so: .*{reason}"):
            mambasdk.create_model("with-native-1")
    assert found.status == "quarantined"
    assert advice in found.advice
    assert "with-native-1" not in mambasdk.list_models()
    assert "toy-2" in mambasdk.list_models()
    mambasdk.create_model("toy-2")


def test_what_is_no_library_quarantines(plugin_site: fakes.Site, tmp_path: Path) -> None:
    library = tmp_path / "libtext.so"
    library.write_text("not a library")
    found = install(plugin_site, library)
    get_host().activate_all()
    assert found.status == "quarantined"
    assert "invalid ELF header" in found.reason or "file too short" in found.reason
    assert "--force-reinstall acme-native" in found.advice
    assert record("toy").status == "good"


def test_a_library_that_went_away_quarantines(plugin_site: fakes.Site, compile_plugin: Compile, tmp_path: Path) -> None:
    library = shutil.copy(compile_plugin("gone"), tmp_path / "libgone.so")
    found = install(plugin_site, library)
    library.unlink()
    get_host().activate_all()
    assert found.status == "quarantined"
    assert "No such file" in found.reason


def test_a_library_that_hangs_is_noticed(compile_plugin: Compile) -> None:
    assert probe_library(compile_plugin("hangs", "SLEEP"), seconds=0.5) == "does not come back within 0.5 s"


def test_two_plugins_with_one_operation(plugin_site: fakes.Site, compile_plugin: Compile, tmp_path: Path) -> None:
    library = compile_plugin("shared")
    twin = shutil.copy(library, tmp_path / "libtwin.so")
    source = PLUGIN[PLUGIN.index("@hookimpl\ndef mambasdk_native") :].replace("PATH", repr(str(twin)))
    plugin_site.install(
        "zz", "zz", "zz_plugin", "from pathlib import Path\nfrom mambasdk.plugins import hookimpl\n" + source
    )
    install(plugin_site, library)
    get_host().activate_all()
    assert record("acme").status == "good"
    assert record("zz").status == "quarantined"
    assert "tmpl_shared_double" in record("zz").reason


def test_doctor_survives_and_tells(plugin_site: fakes.Site, compile_plugin: Compile) -> None:
    install(plugin_site, compile_plugin("dies", "CONSTRUCTOR=raise(SIGSEGV)"))
    done = subprocess.run(
        [sys.executable, "-m", "mambasdk", "doctor"],
        env={**os.environ, "PYTHONPATH": str(plugin_site.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "plugin acme (acme-native 1.0): quarantined" in done.stdout
    assert "a process that loads it is killed by SIGSEGV" in done.stdout
    assert "way out: pip install --upgrade acme-native" in done.stdout
    assert "plugin toy (mambasdk-toy 1.0): good" in done.stdout


def test_packages_activate_the_plugins_they_require(
    plugin_site: fakes.Site, compile_plugin: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install(plugin_site, compile_plugin("required"))
    host = get_host()
    host.activate_distributions(["mambasdk-toy", "acme-native"])
    assert found.libraries[0].description is not None
    with pytest.raises(PluginError, match="plugin mambasdk-elsewhere is not installed; pip install mambasdk-elsewhere"):
        host.activate_distributions(["mambasdk-elsewhere"])
    monkeypatch.setenv("MAMBASDK_PLUGINS", "toy")
    mambasdk.plugins.reset_host()
    with pytest.raises(PluginError, match="plugin acme-native is not named in MAMBASDK_PLUGINS"):
        get_host().activate_distributions(["acme-native"])
