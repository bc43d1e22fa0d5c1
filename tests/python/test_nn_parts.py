"""Small public parts of `mambasdk.nn`: patches, stochastic depth, the pre-norm residual, types and step sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn as torch_nn
from torch.nn import functional

from mambasdk import nn


@pytest.mark.parametrize(("patch", "stride"), [((4, 4), None), ((4, 6), (2, 3))])
def test_patches_are_those_of_a_convolution_row_by_row(patch: tuple[int, int], stride: tuple[int, int] | None) -> None:
    embed = nn.PatchEmbedding(3, 8, patch, stride)
    image = torch.randn(2, 3, 12, 14)
    maps = functional.conv2d(image, embed.proj.weight, embed.proj.bias, stride or patch)  # (B, D, rows, columns)
    tokens = embed(image)
    assert tokens.shape == (2, maps.shape[2] * maps.shape[3], 8)
    torch.testing.assert_close(tokens[:, maps.shape[3]], maps[:, :, 1, 0])  # the first patch of the second row
    torch.testing.assert_close(tokens.transpose(1, 2).unflatten(2, maps.shape[2:]), maps)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2, dtype=torch.bfloat16)
    dropped = nn.drop_path(x, 0.25)
    assert dropped.dtype == torch.bfloat16
    kept = dropped[:, 0, 0] != 0
    assert bool(((dropped != 0) == kept[:, None, None]).all())
    assert abs(float(kept.float().mean()) - 0.75) < 0.03
    torch.testing.assert_close(dropped[kept].unique().float(), torch.tensor([1 / 0.75]), rtol=5e-3, atol=0)
    module = nn.DropPath(0.25)
    assert module.eval()(x) is x
    assert bool((module.train()(x) == 0).any())
    assert nn.drop_path(x, 0) is x


@pytest.mark.parametrize("kind", [nn.RMSNorm, nn.LayerNorm])
def test_add_norm_is_the_norm_of_the_sum_and_the_sum(kind: type[torch_nn.Module]) -> None:
    norm = kind(16)
    h, before = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    normed, total = nn.add_norm(norm, h, before)
    torch.testing.assert_close(total, h + before)
    torch.testing.assert_close(normed, norm(h + before))
    first, total = nn.add_norm(norm, h, None)
    torch.testing.assert_close(first, norm(h))
    assert total is h


def test_add_norm_keeps_the_sum_in_float32_where_asked() -> None:
    norm, h = nn.RMSNorm(8).to(torch.bfloat16), torch.randn(1, 2, 8).bfloat16()
    assert nn.add_norm(norm, h, None)[1].dtype == torch.float32
    assert nn.add_norm(norm, h, None, residual_in_fp32=False)[1].dtype == torch.bfloat16
    assert nn.add_norm(norm, h, torch.zeros(1, 2, 8))[1].dtype == torch.float32


def test_accumulate_dtype_is_float64_or_float32() -> None:
    for given, wanted in ((torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)):
        assert nn.accumulate_dtype(torch.zeros(1, dtype=given)).dtype == wanted


def test_initial_step_sizes_are_log_uniform_between_their_bounds() -> None:
    torch.manual_seed(0)
    dt = functional.softplus(nn.initial_dt_bias(20_000, 1e-3, 0.1, 2e-3, "cpu"))
    assert float(dt.min()) == pytest.approx(2e-3, rel=1e-4)  # the floor
    assert float(dt.max()) <= 0.1 * (1 + 1e-5)
    assert float((dt > 1e-2).float().mean()) == pytest.approx(0.5, abs=0.02)  # the middle of the logarithms
