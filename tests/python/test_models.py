"""create_model, list_models: names, overrides, devices, dtypes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, UnknownNameError
from mambasdk.models import UpstreamConfig, identity


def test_list_models_filters_by_pattern(toy: str) -> None:
    assert mambasdk.list_models("toy*") == ["toy-2", "toy-mlp"]
    assert mambasdk.list_models("nothing*") == []


def test_variant_and_overrides_make_the_configuration(toy: str) -> None:
    model = mambasdk.create_model("toy-2", d_model=48)
    who = identity(model)
    assert (who.family, who.variant, who.config["d_model"], who.config["n_layer"]) == (toy, "toy-2", 48, 2)
    assert len(model.backbone.layers) == 2


def test_unknown_model_and_override_suggest(toy: str) -> None:
    with pytest.raises(UnknownNameError, match=r"no model named 'toy-3'; did you mean .*toy-2"):
        mambasdk.create_model("toy-3")
    with pytest.raises(UnknownNameError, match=r"no override named 'd_modle'; did you mean d_model\?; valid: d_inter"):
        mambasdk.create_model("toy", d_modle=3)
    with pytest.raises(InvalidArgumentError, match="floating-point"):
        mambasdk.create_model("toy", dtype=torch.int32)


@pytest.mark.parametrize("how", ["context", "argument"])
def test_meta_device_allocates_nothing_and_counts_alike(toy: str, how: str) -> None:
    if how == "context":
        with torch.device("meta"):
            model = mambasdk.create_model("toy")
    else:
        model = mambasdk.create_model("toy", device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == sum(parameter.numel() for parameter in mambasdk.create_model("toy").parameters())


def test_what_must_stay_float32_does(toy: str) -> None:
    exact = mambasdk.create_model("toy")
    model = mambasdk.create_model("toy", dtype=torch.bfloat16)
    mixer = model.backbone.layers[0].mixer
    for name, parameter in mixer.named_parameters():
        kept = name in ("A_log", "D", "dt_proj.bias")
        assert parameter.dtype == (torch.float32 if kept else torch.bfloat16), name
    before = exact.backbone.layers[0].mixer.dt_proj.bias.detach().clone()
    assert torch.equal(exact.half().backbone.layers[0].mixer.dt_proj.bias, before)
    assert exact.double().backbone.layers[0].mixer.A_log.dtype == torch.float64


def test_a_module_without_identity_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Linear has no registered family; build it with"):
        identity(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("key", ["d_model", "n_layer", "vocab_size"])
def test_a_key_that_an_importer_misses_is_named_with_its_file(toy: str, tmp_path: Path, key: str) -> None:
    """Whatever the importer does, a missing key is no bare KeyError."""
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 61}
    del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"/config\.json: no '{key}'; add {key} to it"):
        mambasdk.import_checkpoint(toy, tmp_path / "config.json", {})
    with pytest.raises(CheckpointError, match=f"the configuration: no '{key}'"):
        mambasdk.import_checkpoint(toy, config, {})


def test_upstream_configurations_name_nested_keys_and_stay_dicts() -> None:
    config = UpstreamConfig({"ssm_cfg": {"d_state": 4}}, "config.json")
    assert config == {"ssm_cfg": {"d_state": 4}}
    assert config.get("absent") is None
    assert "absent" not in config
    with pytest.raises(CheckpointError, match=r"config\.json: ssm_cfg: no 'expand'"):
        config["ssm_cfg"]["expand"]


def test_a_key_that_an_importer_misses_in_the_weights_is_named(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def importer(config: dict[str, object], weights: object) -> object:
        return dict(config)["absent"]

    monkeypatch.setattr(importlib.import_module("toy_model"), "import_upstream", importer)
    with pytest.raises(CheckpointError, match="the importer of family toy looks for 'absent'"):
        mambasdk.import_checkpoint(toy, {"d_model": 32}, {})
