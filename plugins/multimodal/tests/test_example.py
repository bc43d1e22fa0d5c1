"""The study of two modalities: its stream is what it says it is, its models are those of the table, and they train."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "examples" / "mixture_of_mamba" / "two_modalities.py"


@pytest.fixture(scope="module")
def study() -> Any:
    if not SCRIPT.is_file():
        pytest.skip("the tests run without the repository")
    spec = importlib.util.spec_from_file_location("two_modalities", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_are_told_again_and_the_wave_goes_on(study: Any) -> None:
    tokens = study.stream(20, torch.Generator().manual_seed(0))
    blocks = tokens.unflatten(1, (study.BLOCKS, -1))  # (20, BLOCKS, a block of each)
    digits, wave = blocks[..., : 2 * study.COPIED + 1], blocks[..., 2 * study.COPIED + 1 :]
    assert torch.equal(digits[..., : study.COPIED], digits[..., study.COPIED + 1 :])
    assert bool((digits[..., study.COPIED] == study.SIGN).all())
    assert bool((digits < study.RANGES[0]).all())
    assert bool((wave >= study.RANGES[0]).all())
    assert bool((wave < study.RANGES[1]).all())
    steps = wave.flatten(1).diff().abs()
    assert int(steps.max()) <= 0.8 / 2 * study.LEVELS + 1  # no jump where digits stand in between


def test_models_have_as_many_active_parameters_and_two_steps_are_finite(study: Any) -> None:
    models = {name: study.build(shared, 0) for name, shared in study.MODELS.items()}
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert sizes["all apart"] - sizes["dense"] == sum(
        sizes[name] - sizes["dense"] for name in ("x and dt apart", "in and out apart")
    )
    curve = study.train(models["all apart"], 2, 2, 1e-3, 0, 1)
    assert [point["step"] for point in curve] == [0, 1, 2]
    assert all(0 < value < 10 for point in curve for name, value in point.items() if name != "step")
    assert study.reached(curve, "all", curve[-1]["all"]) <= 2
    assert study.reached(curve, "all", -1.0) == float("inf")
    costs = study.cost_of_a_step(1, 16, 40)
    assert costs["ratio"] > 0
