"""Motion predictors: gradients, checkpoints of upstream and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import identity
from mambasdk.package import save_package


def deltas(batch: int, length: int) -> torch.Tensor:
    return 0.3 * torch.randn(batch, length, 4, generator=torch.Generator().manual_seed(100 * batch + length))


def test_float64_gradients_agree_with_differences() -> None:
    torch.manual_seed(0)
    model = mambasdk.create_model("mambatrack", d_model=8, n_layer=1, d_state=2, head_hidden=4).double()
    x = deltas(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))


@pytest.mark.parametrize(("weights", "published"), [("weights", True), ("weights_unofficial", False)])
def test_the_unofficial_model_is_told_by_its_head(
    weights: str, published: bool, golden_model: Any, tmp_path: Path
) -> None:
    """Its flip is missing."""
    model = golden_model(weights)
    assert identity(model).config["backward_flip"] == published
    assert save_package(model, tmp_path / "package").engine["name"] == "native"
    imported = mambasdk.import_checkpoint("mambatrack", {"q": model.window}, model.state_dict())
    assert identity(imported).config == identity(model).config


@pytest.mark.parametrize(
    ("config", "message"),
    [({"blocks": 7}, r"blocks = 7 in the configuration, \d by the weights"), ({"d_model": 64}, "d_model = 64")],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(
    config: dict[str, int], message: str, golden_model: Any
) -> None:
    with pytest.raises(CheckpointError, match=message):
        golden_model(**config)


def test_other_checkpoints_and_wrong_inputs_are_named(tiny: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no tensor bi_mamba_blocks.*a motion predictor"):
        mambasdk.import_checkpoint("mambatrack", {}, {"proj_embedding_layer.weight": torch.zeros(4, 4)})
    for shape in ((2, 3), (2, 0, 4), (2, 3, 5)):
        with pytest.raises(ShapeError, match=r"expected \(B, L, 4\)"):
            tiny(torch.zeros(shape))
    with pytest.raises(InvalidArgumentError, match=r"bad pool_channels.*a divisor of 16"):
        mambasdk.create_model("mambatrack", d_model=16, pool_channels=5)
    with pytest.raises(InvalidArgumentError, match="'pre' or 'post'"):
        mambasdk.create_model("mambatrack", norm="middle")
