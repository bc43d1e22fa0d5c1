"""What every registered family is for the commands: a family that a plugin adds is tested here without another line."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mambasdk
from mambasdk.command_line import main
from mambasdk.models.sizes import parameter_counts
from mambasdk.plugins import get_host

FAMILIES = sorted(get_host().registrations.families)


@pytest.mark.parametrize("name", mambasdk.list_models())
def test_every_variant_builds_on_the_meta_device(name: str) -> None:
    model = mambasdk.create_model(name, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_family_name_is_a_model_that_trains_on_an_ordinary_machine(family: str) -> None:
    bare: Any = mambasdk.create_model(family, device="meta")
    count = sum(parameter.numel() for parameter in bare.parameters())
    assert count < 20_000_000
    spec = get_host().family(family)
    assert mambasdk.models.identity(bare).variant == spec.default_variant
    if spec.default_variant is not None:
        assert parameter_counts([spec.default_variant]) == {spec.default_variant: count}


@pytest.mark.parametrize("family", FAMILIES)
def test_models_shows_sizes_and_the_default(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    own = [row for row in rows.values() if row["family"] == family]
    spec = get_host().family(family)
    assert all(isinstance(row["parameters"], int) and row["parameters"] > 0 for row in own)
    default = spec.default_variant or (family if not spec.variants else None)
    assert [row["name"] for row in own if row["default"]] == ([default] if default else [])


@pytest.mark.parametrize("family", FAMILIES)
def test_bench_measures_every_family(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in get_host().family(family).tiny.items()]
    assert main(["bench", family, *settings, "--length=8", "--decode=2", "--repeats=1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"torch"} <= {row["engine"] for row in rows}
    assert any(row["work"] == "forward+backward" for row in rows)
    assert all(row["seconds"] > 0 for row in rows)
