"""Vim by its definition: tokens and their order, positions of another grid, dense features, upstream's settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import identity
from mambasdk_vision.adaptation import adapted
from mambasdk_vision.families.vim import VimConfig, resize_positions
from mambasdk_vision.families.vim.rope import PatchRotation

Make = Callable[..., Any]


def images(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("token", "place"), [("middle", 7), ("first", 0), ("none", None)])
def test_tokens_are_patches_row_by_row_with_the_class_token_in_its_place(
    token: str, place: int | None, make_tiny: Make
) -> None:
    model = make_tiny("vim", class_token=token, img_size=[26, 43], stride=8)
    assert model.config.grid == (3, 5)
    image = images(26, 43)
    with torch.no_grad():
        tokens = model.embed(image) - model.pos_embed
        patch = model.patch_embed.proj
        for row in range(3):
            for column in range(5):
                window = image[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                expected = functional.linear(window.flatten(1), patch.weight.flatten(1), patch.bias)
                index = 5 * row + column
                index += place is not None and index >= place
                torch.testing.assert_close(tokens[:, index], expected, atol=1e-5, rtol=1e-5)
        if place is not None:
            torch.testing.assert_close(tokens[:, place], model.cls_token[:, 0].expand(2, -1), atol=1e-6, rtol=0)
    assert tokens.shape[1] == 15 + (place is not None)


def test_the_backward_direction_reads_the_image_from_the_end(make_tiny: Make) -> None:
    """With the directions' weights exchanged, tokens from the end give the outputs from the end."""
    mixer = make_tiny("vim").layers[0].mixer
    state = mixer.state_dict()
    swapped = {}
    for name, value in state.items():
        backward = name.replace("A_b_log", "A_log").replace("_b.", ".").replace("D_b", "D")
        forward = {"A_log": "A_b_log", "D": "D_b"}.get(
            name, name.replace("1d.", "1d_b.").replace("x_proj.", "x_proj_b.")
        )
        forward = forward.replace("dt_proj.", "dt_proj_b.")
        swapped[backward if backward != name else forward] = value.clone()
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        expected = mixer(x).flip(1)
        mixer.load_state_dict(swapped)
        torch.testing.assert_close(mixer(x.flip(1)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("token", ["middle", "first", "none"])
def test_positions_of_the_same_grid_stay_and_others_are_the_resized_grid(token: str) -> None:
    old = VimConfig(img_size=[32, 48], patch_size=8, embed_dim=4, class_token=token)
    new = VimConfig(img_size=[72, 56], patch_size=8, embed_dim=4, class_token=token)
    count = 24 + (token != "none")
    positions = torch.randn(1, count, 4)
    assert torch.equal(resize_positions(positions, old, old), positions)
    found = resize_positions(positions, old, new)
    place = old.class_position
    patches = positions[0] if place is None else torch.cat([positions[0, :place], positions[0, place + 1 :]])
    grid = patches.T.reshape(1, 4, 4, 6)
    expected = functional.interpolate(grid, (9, 7), mode="bicubic", align_corners=False).flatten(2)[0].T
    at = new.class_position
    if at is not None and place is not None:
        assert at == {"middle": 31, "first": 0}[token]
        assert torch.equal(found[0, at], positions[0, place])
        found = torch.cat([found[:, :at], found[:, at + 1 :]], 1)
    torch.testing.assert_close(found[0], expected)


def test_legacy_interpolation_takes_row_0_for_the_class_token() -> None:
    """Upstream's shift: the same grid is left as it is, another is resized without row 0 and with the token's row."""
    old = VimConfig(img_size=32, patch_size=8, embed_dim=4)
    new = VimConfig(img_size=48, patch_size=8, embed_dim=4)
    positions = torch.randn(1, 17, 4)
    assert torch.equal(resize_positions(positions, old, old, legacy=True), positions)
    found = resize_positions(positions, old, new, legacy=True)
    grid = positions[0, 1:].T.reshape(1, 4, 4, 4)
    expected = functional.interpolate(grid, (6, 6), mode="bicubic", align_corners=False).flatten(2)[0].T
    torch.testing.assert_close(found[0, 1:], expected)
    assert torch.equal(found[0, 0], positions[0, 0])
    assert not torch.equal(found, resize_positions(positions, old, new))
    none = VimConfig(img_size=32, patch_size=8, embed_dim=4, class_token="none")
    with pytest.raises(InvalidArgumentError, match="legacy interpolation needs a class token"):
        resize_positions(positions, old, none, legacy=True)
    with pytest.raises(InvalidArgumentError, match="the old model has no class token"):
        resize_positions(positions[:, 1:], none, new)


def test_a_classifier_goes_to_other_sizes_strides_and_tasks(make_tiny: Make) -> None:
    model = make_tiny("vim", depth=4)
    larger: Any = adapted(model, img_size=[50, 33])
    assert larger(images(50, 33)).shape == (2, 10)
    finer: Any = adapted(model, stride=4)
    assert finer.config.grid == (7, 7)
    assert finer.config.class_position == 24
    assert torch.equal(finer.layers[1].mixer.A_log, model.layers[1].mixer.A_log)

    segmentation: Any = adapted(model, task="segmentation", out_layers=[0, 1, 2, 3], img_size=[64, 48])
    maps = segmentation(images(64, 48))
    assert [tuple(level.shape) for level in maps] == [(2, 16, 32, 24), (2, 16, 16, 12), (2, 16, 8, 6), (2, 16, 4, 3)]
    names = set(segmentation.state_dict())
    assert {"fpn1.0.weight", "fpn1.1.running_mean", "fpn1.3.bias", "fpn2.0.weight"} <= names
    assert not names & {"cls_token", "head.weight", "norm_f.weight"}

    detection: Any = adapted(model, task="detection", img_size=64, rope=True, out_channels=24)
    pyramid = detection(images(64, 64))
    assert {name: tuple(level.shape[1:]) for name, level in pyramid.items()} == {
        "p2": (24, 32, 32),
        "p3": (24, 16, 16),
        "p4": (24, 8, 8),
        "p5": (24, 4, 4),
        "p6": (24, 2, 2),
    }
    assert {"net.rope.freqs_cos", "simfp_2.0.weight", "simfp_5.2.norm.bias"} <= set(detection.state_dict())


@pytest.mark.parametrize("stream", ["mixer", "residual"])
def test_segmentation_takes_the_stream_that_is_asked_for(stream: str, make_tiny: Make) -> None:
    model = make_tiny("vim", task="segmentation", depth=5, out_layers=[0, 1, 3, 4], feature_stream=stream)
    with torch.no_grad():
        x = model.embed(images())
        h, residual = x, None
        expected = []
        for index, layer in enumerate(model.layers):
            h, residual = layer(h, residual)
            if index in (0, 1, 3, 4):
                tokens = h if stream == "mixer" else h + residual
                expected.append(tokens.transpose(1, 2).reshape(2, 16, 4, 4))
        found = model(images())
        torch.testing.assert_close(found[2], expected[2])
        torch.testing.assert_close(found[3], functional.max_pool2d(expected[3], 2))
        torch.testing.assert_close(found[1], model.fpn2(expected[1]))
        torch.testing.assert_close(found[0], model.fpn1(expected[0]))


def test_rotation_keeps_lengths_and_turns_by_row_and_column() -> None:
    rope = PatchRotation(8, (3, 5), reference=14, skip=None)
    x = torch.randn(2, 15, 8)
    y = rope(x)
    torch.testing.assert_close(y[:, 0], x[:, 0])  # angle 0
    torch.testing.assert_close(y.view(2, 15, 4, 2).norm(dim=-1), x.view(2, 15, 4, 2).norm(dim=-1))
    pairs = torch.view_as_complex(x.view(2, 3, 5, 4, 2))
    theta = torch.tensor([1.0, 10000**-0.5])
    turns = torch.zeros(3, 5, 4)
    turns[..., :2] = (torch.arange(3) / 3 * 14)[:, None, None] * theta
    turns[..., 2:] = (torch.arange(5) / 5 * 14)[None, :, None] * theta
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(turns), turns)).reshape(2, 15, 8)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    skipping = PatchRotation(8, (3, 5), reference=14, skip=7)
    token = torch.randn(2, 1, 8)
    with_token = skipping(torch.cat([x[:, :7], token, x[:, 7:]], 1))
    assert torch.equal(with_token[:, 7:8], token)
    torch.testing.assert_close(torch.cat([with_token[:, :7], with_token[:, 8:]], 1), y)


def test_pools_without_a_class_token(make_tiny: Make) -> None:
    logits = {}
    for pool in ("mean", "last", "max", "all"):
        logits[pool] = make_tiny("vim", class_token="none", pool=pool)(images())
    assert logits["all"].shape == (2, 16, 10)
    torch.testing.assert_close(logits["last"], logits["all"][:, -1])
    torch.testing.assert_close(logits["max"], logits["all"].amax(1))
    torch.testing.assert_close(logits["mean"], logits["all"].mean(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_initialisation_follows_the_published_one() -> None:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("vim-tiny")
    assert abs(float(model.pos_embed.std()) - 0.02) < 1e-3
    assert abs(float(model.head.weight.std()) - 0.02) < 1e-3
    assert abs(float(model.patch_embed.proj.weight.std()) - (3 * 16 * 16) ** -0.5) < 1e-3
    mixer = model.layers[3].mixer
    assert float(mixer.out_proj.weight.abs().max()) <= 384**-0.5 / 24**0.5
    assert torch.equal(mixer.dt_proj_b.bias, torch.zeros(384))
    step = functional.softplus(mixer.dt_proj.bias)
    assert 1e-4 <= float(step.min()) < float(step.max()) <= 0.1001
    symmetric: Any = mambasdk.create_model("vim-tiny", symmetric_init=True)
    assert float(functional.softplus(symmetric.layers[0].mixer.dt_proj_b.bias).max()) <= 0.1001


def test_a_released_file_needs_no_arguments(make_tiny: Make) -> None:
    """Sizes are read off the tensors: stride 16 and 8 at 224, as released."""
    for variant in ("vim-tiny", "vim-tiny-plus"):
        model = mambasdk.create_model(variant, depth=2)
        found = mambasdk.import_checkpoint("vim", {}, {"model": model.state_dict(), "epoch": torch.tensor(1)})
        assert identity(found).config == {**identity(model).config, "drop_path_rate": 0.0}
    small = make_tiny("vim", img_size=48, stride=4)
    found = mambasdk.import_checkpoint("vim", {"img_size": 48, "stride": 4}, small.state_dict())
    assert identity(found).config == identity(small).config


def test_a_trainers_file_loads_without_running_anything(make_tiny: Make, tmp_path: Path) -> None:
    """As released: weights, their average, the optimiser, and the command line as an object."""
    state = make_tiny("vim").state_dict()
    arguments = argparse.Namespace(model="vim_tiny", lr=1e-3)
    torch.save({"model": state, "epoch": 299, "args": arguments}, tmp_path / "vim.pth")
    torch.save({"model_ema": state, "args": arguments}, tmp_path / "average.pth")
    for name in ("vim.pth", "average.pth"):
        found = mambasdk.import_checkpoint("vim", {"img_size": 32}, tmp_path / name)
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bimamba_type": "v1"}, "bimamba_type = 'v1' is no model"),
        ({"if_bidirectional": True}, "if_bidirectional"),
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"depth": 3}, "missing"),
        ({"embed_dim": 32}, "wrong shape"),
        ({"img_size": 40, "stride": 8}, "wrong shape"),
        ({"if_cls_token": False}, "cls_token"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    state = make_tiny("vim").state_dict()
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("vim", {"img_size": 32, **arguments}, state)


def test_a_file_of_something_else_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"no Vim: patch_embed\.proj\.weight, pos_embed.* missing"):
        mambasdk.import_checkpoint("vim", {}, {"weight": torch.zeros(3)})


def test_a_whole_segmenters_file_gives_its_backbone(make_tiny: Make) -> None:
    model = make_tiny("vim", task="segmentation", depth=4, out_layers=[0, 1, 2, 3])
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    state["decode_head.conv_seg.weight"] = torch.zeros(2, 3, 1, 1)
    arguments = {"task": "segmentation", "img_size": 32, "out_indices": [0, 1, 2, 3], "if_cls_token": False}
    found: Any = mambasdk.import_checkpoint("vim", arguments, state).eval()
    with torch.no_grad():
        for ours, theirs in zip(found(images()), model(images()), strict=True):
            assert torch.equal(ours, theirs)
