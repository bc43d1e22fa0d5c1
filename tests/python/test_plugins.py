"""The plugin host: good plugins are used; broken ones of every kind are quarantined and take nothing down."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from mambasdk.errors import UnknownNameError
from mambasdk.plugins import PluginHost, PluginRecord, get_host, official
from mambasdk.plugins.resolution import broken_imports

HEAD = """
from mambasdk.plugins import HeadSpec, hookimpl
@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="{name}", summary="a head", implementation="nowhere.at_all:Head")]
"""


def record(name: str) -> PluginRecord:
    return next(record for record in get_host().records if record.name == name)


def test_good_plugin_registers_everything(toy: str) -> None:
    found = record("toy")
    assert (found.status, found.distribution, found.version) == ("good", "mambasdk-toy", "1.0")
    host = get_host()
    assert host.family(toy).head == "toy_head"
    assert host.head("toy_head").summary == "echoes"
    assert host.processor("shout", "upper").slot == "shout"
    assert "toy-hello" in host.registrations.commands
    assert host.owner("family", toy) is found


BROKEN = {
    "missing module": (None, "No module named 'broken'"),
    "syntax": ("def (", "SyntaxError"),
    "missing dependency": ("import a_module_that_is_nowhere", "No module named 'a_module_that_is_nowhere'"),
    "exits": ("import sys; sys.exit(3)", "called sys.exit(3)"),
    "raises at import": ("raise ValueError('boom')", "ValueError: boom"),
    "raises what is no Exception": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "crashing hook": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_families():\n    return [1 / 0]",
        "ZeroDivisionError",
    ),
    "exiting hook": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_families():\n    raise SystemExit",
        "called sys.exit(None)",
    ),
    "unknown hook": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_familys():\n    return []",
        "mambasdk_familys",
    ),
    "wrong item": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_families():\n    return ['mamba']",
        "expected FamilySpec",
    ),
    "wrong result": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_families():\n    return 3",
        "expected a list",
    ),
    "bad name": (HEAD.format(name="No Good"), "bad name"),
    "relative library": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_native_libraries():\n    return ['a.so']",
        "is relative",
    ),
    "absent library": (
        "from mambasdk.plugins import hookimpl\n@hookimpl\ndef mambasdk_native_libraries():\n    return ['/no/a.so']",
        "no file",
    ),
    "own command's name": (
        "from mambasdk.plugins import CommandSpec, hookimpl\n@hookimpl\ndef mambasdk_commands():\n"
        "    return [CommandSpec(name='doctor', summary='x', implementation='a:b')]",
        "one of mambasdk's own",
    ),
    "asks the host": ("import mambasdk\nmambasdk.list_models()", "while it was being imported"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_quarantined_and_others_work(plugin_site: fakes.Site, case: str) -> None:
    source, reason = BROKEN[case]
    plugin_site.install("acme-broken", "broken", "broken", source)
    plugin_site.install_toy()
    found = record("broken")
    assert found.status == "quarantined"
    assert reason in found.reason
    assert "acme-broken" in found.advice or "uninstall" in found.advice
    assert found.traceback
    assert not any(found.registrations.tables().values())
    assert record("toy").status == "good"


def test_registration_is_all_or_nothing(plugin_site: fakes.Site) -> None:
    second = HEAD.format(name="second") + "\n@hookimpl\ndef mambasdk_families():\n    raise RuntimeError('late')\n"
    plugin_site.install("acme", "acme", "acme_plugin", second)
    assert record("acme").status == "quarantined"
    assert "second" not in get_host().registrations.heads


def test_duplicate_names_quarantine_the_later_plugin_by_name(plugin_site: fakes.Site) -> None:
    plugin_site.install("zzz-first-installed", "b_plugin", "plugin_b", HEAD.format(name="same"))
    plugin_site.install("aaa-last-installed", "a_plugin", "plugin_a", HEAD.format(name="same"))
    assert record("a_plugin").status == "good"
    loser = record("b_plugin")
    assert loser.status == "quarantined"
    assert loser.reason == "head 'same' is already registered by plugin a_plugin"
    assert "uninstall one of the two" in loser.advice


OFFICIAL = """
from mambasdk.plugins import FamilySpec, HeadSpec, hookimpl
@hookimpl
def mambasdk_families():
    return [FamilySpec(name="land", summary="", config="a:b", factory="a:b", variants={"land-1": {}})]
@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="land_head", summary="", implementation="a:b")]
"""


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mambasdk-zland` is one of mambasdk's own plugins; by name it would be loaded last."""
    monkeypatch.setattr(official, "RESERVED_DISTRIBUTIONS", ("mambasdk-zland",))


TAKERS = {
    "family": ("mambasdk_families", "FamilySpec(name='land', summary='', config='a:b', factory='a:b')"),
    "variant": (
        "mambasdk_families",
        "FamilySpec(name='x', summary='', config='a:b', factory='a:b', variants={'land-1': {}})",
    ),
    "head": ("mambasdk_heads", "HeadSpec(name='land_head', summary='', implementation='a:b')"),
}


@pytest.mark.parametrize("kind", TAKERS)
@pytest.mark.parametrize("distribution", ["aaa", "mambasdk-aaa"])
def test_a_plugin_that_takes_an_official_name_is_quarantined_itself(
    plugin_site: fakes.Site, reserved: None, kind: str, distribution: str
) -> None:
    hook, item = TAKERS[kind]
    taker = f"from mambasdk.plugins import *\n@hookimpl\ndef {hook}():\n    return [{item}]"
    plugin_site.install(distribution, "aaa", "aaa_plugin", taker)
    plugin_site.install("mambasdk-zland", "zland", "mambasdk_zland", OFFICIAL)
    assert record("zland").status == "good"
    assert record("zland").official
    taken = record("aaa")
    assert (taken.status, taken.official) == ("quarantined", False)
    assert "is already registered by plugin zland" in taken.reason


def test_an_official_name_alone_makes_no_plugin_official(plugin_site: fakes.Site, reserved: None) -> None:
    """Neither a distribution's name nor an entry point's does, and nothing is loaded of who tries."""
    plugin_site.install("mambasdk-zland", "aaa", "aaa_plugin", "raise ValueError('loaded')")
    plugin_site.install("acme", "zland", "acme_plugin", "raise ValueError('loaded')")
    assert "is the name of one of mambasdk's own plugins, which this is not" in record("aaa").reason
    assert "the entry point's name 'zland' is reserved for mambasdk-zland" in record("zland").reason
    assert not any(found.official for found in get_host().records if found.name in ("aaa", "zland"))


def test_reserved_names_are_those_of_the_repository() -> None:
    plugins = Path(__file__).parents[2] / "plugins"
    if not plugins.is_dir():
        pytest.skip("the tests run without the repository")
    assert list(official.RESERVED_DISTRIBUTIONS) == sorted(
        f"mambasdk-{path.parent.name}" for path in plugins.glob("*/pyproject.toml")
    )


def test_broken_import_strings_are_found(plugin_site: fakes.Site) -> None:
    plugin_site.install_toy()
    source = HEAD.format(name="absent") + (
        "from mambasdk.plugins import FamilySpec, ProcessorSpec\n@hookimpl\ndef mambasdk_families():\n"
        "    return [FamilySpec(name='half', summary='', config='toy_model:ToyConfig', factory='toy_model:biuld',"
        " importer='toy_model:fakes')]\n"
    )
    plugin_site.install("acme", "acme", "acme_plugin", source)
    (plugin_site.folder / "toy_model.py").write_text(fakes.FAMILY_MODEL + "\nfakes = 3\n")
    assert broken_imports([record("toy")]) == []
    found = {what: why for _, what, why in broken_imports([record("toy"), record("acme")])}
    assert set(found) == {"head absent", "family half: factory", "family half: importer"}
    assert "no module nowhere" in found["head absent"]
    assert "no attribute biuld" in found["family half: factory"]
    assert "nothing that can be called" in found["family half: importer"]


def test_an_import_that_ends_the_process_is_found_by_plugin(plugin_site: fakes.Site) -> None:
    plugin_site.install_toy()
    plugin_site.install("acme", "acme", "acme_plugin", HEAD.format(name="deadly").replace("nowhere.at_all", "deadly"))
    (plugin_site.folder / "deadly.py").write_text("import os; os._exit(3)")
    found = broken_imports([record("toy"), record("acme")])
    assert found == [("acme", "what it registers", "a process that imports it ends with exit code 3")]


def test_variant_that_another_family_has_is_a_duplicate(plugin_site: fakes.Site) -> None:
    plugin_site.install_toy()
    source = (
        "from mambasdk.plugins import FamilySpec, hookimpl\n@hookimpl\ndef mambasdk_families():\n"
        "    return [FamilySpec(name='other', summary='', config='a:b', factory='a:b', variants={'toy-2': {}})]"
    )
    plugin_site.install("zother", "zother", "zother_plugin", source)
    assert "model 'toy-2' is already registered by plugin toy" in record("zother").reason


@pytest.mark.parametrize(("value", "good"), [("", []), ("toy", ["toy"]), (" toy , a ", ["a", "toy"])])
def test_allow_list(plugin_site: fakes.Site, monkeypatch: pytest.MonkeyPatch, value: str, good: list[str]) -> None:
    plugin_site.install_toy()
    plugin_site.install("a-plugin", "a", "plugin_a", HEAD.format(name="first"))
    monkeypatch.setenv("MAMBASDK_PLUGINS", value)
    assert [record.name for record in PluginHost().records if record.status == "good"] == good
    assert all(record.status == "disabled" for record in PluginHost().records if record.name not in good)


def test_slow_import_and_torch_import_are_recorded(plugin_site: fakes.Site) -> None:
    plugin_site.install("slow", "slow", "slow_plugin", "import time; time.sleep(0.6)")
    found = record("slow")
    assert found.status == "good"
    assert found.slow
    assert found.seconds >= 0.6


def test_unreadable_metadata_is_quarantined(plugin_site: fakes.Site) -> None:
    info = plugin_site.folder / "mangled-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mangled\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(b"[mambasdk.plugins]\nx = \xff\xfe")
    plugin_site.install_toy()
    assert "unreadable metadata" in next(r for r in get_host().records if "mangled" in r.distribution).reason
    assert record("toy").status == "good"


def test_unknown_names_suggest_and_point_at_quarantine(plugin_site: fakes.Site) -> None:
    plugin_site.install_toy()
    plugin_site.install("acme-broken", "broken", "broken", "raise ValueError")
    with pytest.raises(UnknownNameError, match=r"no head named 'toy_haed'; did you mean toy_head\?.*broken"):
        get_host().head("toy_haed")
