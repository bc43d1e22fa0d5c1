"""Limits of the step sizes in configurations: JSON has no infinity, so that a bound that holds nothing back is null."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import Mamba2

TINY = {"d_model": 32, "n_layer": 1, "vocab_size": 61, "d_state": 8, "headdim": 16}


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} in JSON")


@pytest.mark.parametrize(
    ("limit", "stored"),
    [
        ((0.1, math.inf), [0.1, None]),
        ((0.1, None), [0.1, None]),
        ((None, 0.5), [None, 0.5]),
        ((-math.inf, 0.5), [None, 0.5]),
        ((0.0, math.inf), None),
        ((-math.inf, math.inf), None),
        ((None, None), None),
        ((0.01, 0.5), [0.01, 0.5]),
        (None, None),
    ],
)
def test_a_bound_that_is_infinite_is_null_in_a_package(limit: Any, stored: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mambasdk.create_model("mamba2", dt_limit=limit, **TINY)
    mambasdk.save_package(model, tmp_path / "package")
    for file in (tmp_path / "package").glob("*.json"):
        json.loads(file.read_text(), parse_constant=refuse)
    config = json.loads((tmp_path / "package" / "mambasdk.json").read_text())["config"]
    assert config.get("dt_limit") == stored
    again = mambasdk.load(tmp_path / "package")
    low, high = again.backbone.layers[0].mixer.dt_limit
    expected = limit or (None, None)
    assert low == max(expected[0] or 0.0, 0.0)
    assert high == (math.inf if expected[1] is None else expected[1])
    tokens = torch.randint(61, (1, 7))
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert mambasdk.verify(tmp_path / "package").passed


@pytest.mark.parametrize(
    "limit", [(0.5, 0.1), (math.nan, 1.0), (0.1,), ("a", "b"), (math.inf, None), (None, -math.inf)]
)
def test_bad_limits_are_refused_when_the_model_is_built(limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="bad dt_limit: expected two ascending numbers or None"):
        mambasdk.create_model("mamba2", dt_limit=limit, **TINY)


def test_the_mixer_takes_the_same_limits() -> None:
    torch.manual_seed(0)
    mixer = Mamba2(16, d_state=4, headdim=8, dt_limit=(0.1, None))
    assert mixer.dt_limit == (0.1, math.inf)
    with pytest.raises(InvalidArgumentError, match="Mamba2: bad dt_limit"):
        Mamba2(16, d_state=4, headdim=8, dt_limit=(0.5, 0.1))


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
@pytest.mark.parametrize("width", [1, 2, 9])
def test_every_convolution_width_makes_a_package_that_verifies(family: str, width: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"d_model": 32, "n_layer": 1, "vocab_size": 61, "d_state": 8, "d_conv": width}
    model = mambasdk.create_model(family, **settings, **({"headdim": 16} if family == "mamba2" else {}))
    mambasdk.save_package(model, tmp_path / "package")
    report = mambasdk.verify(tmp_path / "package")
    assert report.passed, report
