"""SSAMBA: its checkpoints, its options, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import torch

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import identity
from mambasdk_audio.families.ssamba import Ssamba, SsambaConfig, for_fine_tuning

POOLINGS = ["ft_avgtok", "ft_cls", "ft_avgtok_1sec"]
SMALL = {"embed_dim": 32, "depth": 4, "input_fdim": 32, "input_tdim": 64, "drop_path_rate": 0.0}


def near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Within `tolerance` (by default the golden README's) of the largest magnitude."""
    scale = float(expected.detach().abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found.detach(), expected.detach().reshape(found.shape), atol=tolerance * scale, rtol=0)


def create(**changes: Any) -> Ssamba:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("ssamba", **{**SMALL, **changes})
    return model.eval()  # type: ignore[no-any-return]


def spectrogram(model: Ssamba, batch: int = 2) -> torch.Tensor:
    config = model.config
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, config.input_tdim, config.input_fdim, generator=generator)


def test_a_fine_tuned_file_is_imported_saved_and_loaded_without_a_change(upstream: Any, tmp_path: Path) -> None:
    first = upstream.fine_tuned("ft_avgtok")
    weights = {f"module.{name}": tensor for name, tensor in first.state_dict().items()}
    weights["module.v.head.weight"] = torch.zeros(7, first.config.embed_dim)
    config = {**upstream.config, **upstream.tuned_grid(first), "task": "ft_avgtok"}
    torch.save(weights, tmp_path / "ssamba.pth")
    (tmp_path / "config.json").write_text(json.dumps(config))
    imported: Any = mambasdk.import_checkpoint("ssamba", tmp_path / "config.json", tmp_path / "ssamba.pth")
    mambasdk.save_package(imported, tmp_path / "package")
    loaded: Any = mambasdk.load(tmp_path / "package")
    assert identity(loaded).config == identity(imported).config == identity(first).config
    for model in (imported, loaded):
        assert model.state_dict().keys() == first.state_dict().keys()
        for name, tensor in first.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name
            assert torch.equal(weights[f"module.{name}"], tensor), name


def test_import_command_makes_a_package_that_reads_clips(
    upstream: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The processor follows the imported model's input, so that the package runs as it is."""
    tuned = upstream.fine_tuned("ft_avgtok")
    torch.save({f"module.{name}": t for name, t in tuned.state_dict().items()}, tmp_path / "tuned.pth")
    (tmp_path / "config.json").write_text(json.dumps(upstream.tuned_grid(tuned)))
    files = [str(tmp_path / "tuned.pth"), "--config", str(tmp_path / "config.json")]
    assert main(["import", "ssamba", *files, "--out", str(tmp_path / "package")]) == 0
    scipy.io.wavfile.write(tmp_path / "x.wav", 16000, np.arange(8000, dtype=np.int16))
    assert main(["predict", str(tmp_path / "package"), str(tmp_path / "x.wav")]) == 0
    assert "label" in capsys.readouterr().out


def test_published_file_needs_no_configuration() -> None:
    model: Any = mambasdk.create_model("ssamba-tiny")
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    weights["module.p_input_fdim"], weights["module.p_input_tdim"] = torch.tensor(128), torch.tensor(1024)
    again = mambasdk.import_checkpoint("ssamba-tiny", {"model_size": "tiny"}, weights)
    assert identity(again) == identity(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_mamba_config": {"bimamba_type": "v1"}}, "bimamba_type = 'v1'"),
        ({"vision_mamba_config": {"if_rope": True}}, "if_rope = True"),
        ({"vision_mamba_config": {"depth": 6}}, "depth = 6"),
        ({"model_size": "base"}, "embed_dim = 768"),
        ({"model_size": "huge"}, "unknown model_size"),
        ({"input_tdim": 96}, r"make 48 patches.*expected 32"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    weights = {f"module.{name}": tensor for name, tensor in create(input_fdim=128).state_dict().items()}
    config = {"input_fdim": 128, "input_tdim": 64}
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("ssamba", {**config, **changes}, weights)


def test_topology_of_the_s3prl_expert(upstream: Any) -> None:
    """Without pairs and with RMSNorm the layers follow each other; the biases of the file's norms have no place."""
    encoder = {**upstream.config["vision_mamba_config"], "if_bidirectional": False, "rms_norm": True}
    model = upstream.pretrained(vision_mamba_config=encoder)
    assert not model.config.pairs
    assert "v.layers.0.norm.bias" not in model.state_dict()
    x = upstream.io["pretrain.input"]
    h, residual = model.v.tokens(x), torch.zeros(())
    for layer in model.v.layers:
        assert not layer.mixer.reverse
        residual = residual + h
        h = layer.mixer(_rms_norm(residual, layer.norm))
    twice = _rms_norm(_rms_norm(residual + h, model.v.norm_f), model.v.norm_f)
    near(model.v(x), twice)


def _rms_norm(x: torch.Tensor, norm: Any) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps) * norm.weight


def test_residual_that_does_not_double() -> None:
    """The formula of section 2 with and without its doubling and its second final norm."""
    for double, twice in ((False, False), (True, False), (False, True)):
        model = create(residual_double=double, norm_twice=twice)
        h, residual = model.v.tokens(x := spectrogram(model)), torch.zeros(())
        layers: Any = model.v.layers
        for first, second in zip(layers[::2], layers[1::2], strict=True):
            residual = residual + h
            h = first.mixer(first.norm(residual)) + second.mixer(second.norm(residual))
            residual = 2 * residual if double else residual
        expected = model.v.norm_f(residual + h)
        near(model.v(x), model.v.norm_f(expected) if twice else expected)


def test_pooling_by_seconds_and_by_upstreams_slots() -> None:
    config = {"label_dim": 3, "pooling": "ft_avgtok_1sec", "input_tdim": 640, "fstride": 16, "tstride": 16}
    model = create(**config)
    rows, columns = model.config.grid
    # 40 columns of 16 frames: those whose middle lies before 1 s, before 2 s, …
    assert model.config.seconds == [(0, 6), (6, 12), (12, 19), (19, 25), (25, 31), (31, 37), (37, 40)]
    tokens = torch.randn(2, 1 + rows * columns, 32)
    seconds = model.pooled(tokens)
    first = torch.stack([tokens[:, 1 + f * columns + t] for f in range(rows) for t in range(6)], 1).mean(1)
    torch.testing.assert_close(seconds[:, 0], first)
    assert model(spectrogram(model)).shape == (2, 7, 3)

    slots = create(**config, upstream_slots=True)
    assert (1 + rows * columns) // 60 == 1
    torch.testing.assert_close(slots.pooled(tokens), tokens[:, :60])
    assert slots(spectrogram(slots)).shape == (2, 60, 3)


def test_drop_path_drops_whole_clips_and_only_in_training() -> None:
    from mambasdk.nn import drop_path

    h = torch.ones(2000, 2, 3)
    dropped = drop_path(h, 0.25)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / 0.75]))
    assert (dropped == dropped[:, :1, :1]).all()
    assert abs(float((dropped[:, 0, 0] == 0).float().mean()) - 0.25) < 0.05

    model = create(label_dim=3, drop_path_rate=0.5)
    assert [layer.drop_path for layer in model.v.layers] == pytest.approx([0, 0, 0.5 / 3, 1 / 3])
    x = spectrogram(model, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    plain = create(label_dim=3)
    assert torch.equal(plain.train()(x), plain.eval()(x))


def test_bfloat16_model_follows_the_float32_one() -> None:
    """The residual stays float32: in bfloat16 the doubled sum would lose the late layers."""
    model = create(label_dim=3, depth=24)
    x = spectrogram(model)
    with torch.no_grad():
        expected = model.embed(x)
        low = model.to(torch.bfloat16)
        h, residual = low.v.hidden(low.v.tokens(x.bfloat16()))
        found = low.embed(x.bfloat16())
    assert residual.dtype == torch.float32
    assert h.dtype == torch.bfloat16
    assert low.v.layers[0].mixer.A_b_log.dtype == torch.float32
    error = (found.float() - expected).norm() / expected.norm()
    assert error < 0.02  # bfloat16 has 8 bits of mantissa: 0.4 % a rounding


def test_fine_tuning_keeps_the_encoder_and_takes_the_new_grid() -> None:
    model = create()
    tuned = for_fine_tuning(model, 5, input_tdim=100, stride=10, pooling="ft_cls", drop_path_rate=0.2)
    assert tuned.config.grid == (2, 9)
    assert tuned.config.drop_path_rate == 0.2
    assert tuned(spectrogram(tuned)).shape == (2, 5)
    for name, tensor in model.v.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(tuned.v.state_dict()[name], tensor), name
    assert torch.equal(tuned.v.pos_embed[:, 0], model.v.pos_embed[:, 0])
    with torch.no_grad():  # nothing is shared
        tuned.v.cls_token.zero_()
    assert model.v.cls_token.abs().sum() > 0
    assert identity(tuned).family == "ssamba"
    with pytest.raises(InvalidArgumentError, match="depth cannot change"):
        for_fine_tuning(model, 2, depth=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_tdim": 15}, "input_tdim 15 holds no patch"),
        ({"input_fdim": 8}, "input_fdim 8 holds no patch"),
        ({"depth": 3}, "odd depth"),
        ({"pooling": "mean"}, "bad pooling.*ft_avgtok"),
        ({"embed_dim": 0}, "bad embed_dim"),
        ({"label_dim": 2, "pooling": "ft_avgtok_1sec", "upstream_slots": True}, "too few tokens.*got 9"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SsambaConfig(**{**SMALL, **changes})


def test_inputs_that_do_not_fit_are_named() -> None:
    model = create(label_dim=3)
    for x in (torch.zeros(1, 63, 32), torch.zeros(1, 32, 64), torch.zeros(64, 32)):
        with pytest.raises(ShapeError, match=r"expected \(batch, 64 frames, 32 bins\).*target_length"):
            model(x)
    assert model(torch.zeros(0, 64, 32)).shape == (0, 3)
    with pytest.raises(InvalidArgumentError, match="no heads for pretraining"):
        model.generative(torch.zeros(1, 64, 32), torch.ones(1, 1, dtype=torch.int64))
    with pytest.raises(ShapeError, match="expected int64"):
        create().generative(torch.zeros(1, 64, 32), torch.ones(1, 1))


def test_lengths_that_are_no_multiple_of_the_patch_are_cut() -> None:
    model = create(label_dim=3, input_tdim=77)
    assert model.config.grid == (2, 4)
    x = spectrogram(model)
    changed = x.clone()
    changed[:, 64:] = 9.0
    assert torch.equal(model(x), model(changed))
