"""What U-Mamba and xLSTM-UNet put into the residual U-Net: where their layers are, their order, their precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import mambasdk
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.testing.golden import scatter
from mambasdk_medical.nn.token_layer import TokenLayer

FAMILIES = ("u_mamba", "xlstm_unet")
PLANE: dict[str, Any] = {"patch_size": [16, 16], "features_per_stage": [4, 6, 8], "num_classes": 3}
VOLUME: dict[str, Any] = {
    "patch_size": [8, 16, 16],
    "features_per_stage": [2, 4, 4, 8],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
}


def made(family: str, **settings: Any) -> Any:
    torch.manual_seed(3)
    return scatter(mambasdk.create_model(family, **settings), 4).eval()


def layers(model: nn.Module) -> dict[str, TokenLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, TokenLayer)}


# The table of published plans: stage: (dim of a token, whether tokens are channels), of the encoders' layers.
PLACES: dict[str, dict[int, tuple[int, bool]]] = {
    "xlstm-unet-enc-2d-mr": {2: (128, False), 4: (400, True), 6: (25, True)},
    "xlstm-unet-enc-2d-cell": {3: (256, False), 5: (256, True), 7: (16, True)},
    "xlstm-unet-enc-2d-endoscopy": {2: (128, False), 4: (512, False), 6: (60, True)},
    "xlstm-unet-enc-3d-mr": {3: (256, False), 4: (320, False), 5: (210, True)},
    "u-mamba-enc-2d-mr": {0: (32, False), 2: (128, False), 4: (400, True), 6: (25, True)},
    "u-mamba-enc-2d-cell": {1: (64, False), 3: (256, False), 5: (256, True), 7: (16, True)},
    "u-mamba-enc-3d-mr": {
        **{stage: (32 << stage, False) for stage in range(4)},
        4: (320, False),
        5: (210, True),
    },
}


@pytest.mark.parametrize("variant", sorted(PLACES))
def test_layers_of_the_encoder_are_where_the_published_plans_have_them(variant: str) -> None:
    model: Any = mambasdk.create_model(variant, device="meta")
    listed = model.encoder.mamba_layers if variant.startswith("u-mamba") else model.encoder.xlstm_layers
    found = {
        stage: (layer.dim, layer.channel_tokens)
        for stage, layer in enumerate(listed)
        if isinstance(layer, TokenLayer)
    }
    assert found == PLACES[variant]
    assert model.config.fixed_size
    assert len(layers(model)) == len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_layer_on_the_deepest_map_takes_images_of_any_size(family: str) -> None:
    model = made(family, **PLANE)
    assert len(layers(model)) == 1
    assert not model.config.fixed_size
    assert model(torch.randn(1, 1, 24, 36)).shape == (1, 3, 24, 36)


def test_without_its_layer_u_mamba_is_the_residual_unet() -> None:
    """Names, and so counts: the layer's parameters are all that is more."""
    for plan in ("2d-mr", "3d-mr"):
        whole = mambasdk.create_model(f"u-mamba-bot-{plan}", device="meta").state_dict()
        plain = mambasdk.create_model(f"residual-unet-{plan}", device="meta").state_dict()
        assert {n: t.shape for n, t in whole.items() if not n.startswith("mamba_layer.")} == {
            n: t.shape for n, t in plain.items()
        }


@pytest.mark.parametrize("settings", [PLANE, VOLUME], ids=["plane", "volume"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_layers_are_causal_in_raster_order(family: str, settings: dict[str, Any]) -> None:
    """What changes at one token changes no earlier output, and its own and later ones."""
    model = made(family, **{**settings, "features_per_stage": [4, 4, 8, 8]}, placement="enc") if settings is VOLUME else (
        made(family, **{**settings, "features_per_stage": [4, 4, 8, 4, 4], "patch_size": [32, 32]}, placement="enc")
    )
    assert {layer.channel_tokens for layer in layers(model).values()} == {False, True} or settings is VOLUME
    model = model.double()
    for stage, size in enumerate(model.config.map_sizes):
        for name, layer in layers(model).items():
            if not name.endswith(f".{stage}"):
                continue
            x = torch.randn(2, model.config.features_per_stage[stage], *size, dtype=torch.float64)
            y = layer(x)

            def tokens(t: Tensor, layer: TokenLayer = layer) -> Tensor:
                return t.flatten(2) if layer.channel_tokens else t.flatten(2).transpose(1, 2)

            count = tokens(x).shape[1]
            moved = x.clone()
            tokens(moved)[:, count // 2] += 0.5  # a view
            difference = (tokens(layer(moved)) - tokens(y)).abs().amax((0, 2))
            assert not difference[: count // 2].any(), name
            assert difference[count // 2] > 1e-4, name
            assert difference[count // 2 + 1] > 0, name


@torch.no_grad()
def test_u_mamba_has_no_residual_and_vil_has_its_own() -> None:
    """With the last projection at zero the one gives zeros, the other its input."""
    x = torch.randn(2, 8, 4, 4)
    mamba = made("u_mamba", **PLANE).mamba_layer
    mamba.mamba.out_proj.weight.zero_()
    assert not mamba(x).any()
    vil = made("xlstm_unet", **PLANE).xlstm
    vil.vil.layer.proj_down.weight.zero_()
    assert torch.equal(vil(x), x)
    before = made("xlstm_unet", **PLANE).xlstm
    expected = before(x)
    before.norm.weight.fill_(7.0)
    assert torch.equal(before(x), expected), "the outer norm is never applied"


@pytest.mark.parametrize("family", FAMILIES)
def test_channel_tokens_fix_the_patch(family: str) -> None:
    settings = {"patch_size": [32, 64], "features_per_stage": [2, 4, 8, 8, 8], "num_classes": 2, "placement": "enc"}
    model = made(family, **settings)
    assert model.config.fixed_size
    assert model(torch.randn(1, 1, 32, 64)).shape == (1, 2, 32, 64)
    message = r"not of the plan's patch.*: expected \(B, 1, 32, 64\), got \(1, 1, 64, 64\) \(predict it in tiles"
    for run in (model, model.training_outputs):
        with pytest.raises(ShapeError, match=message):
            run(torch.randn(1, 1, 64, 64))
    deepest = list(layers(model).values())[-1]
    with pytest.raises(ShapeError, match=r"bad map: expected 8 positions, got \(1, 8, 3, 4\)"):
        deepest(torch.randn(1, 8, 3, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_placement_that_is_none_is_refused(family: str) -> None:
    with pytest.raises(InvalidArgumentError, match="bad placement: expected 'bot' or 'enc', got 'end'"):
        mambasdk.create_model(family, placement="end")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_token_layers_compute_in_float32_under_autocast(family: str, dtype: torch.dtype) -> None:
    """The layer gives the float32 result of what it is given, rounded once; its gradients are float32's."""
    layer = layers(made(family, **PLANE)).popitem()[1]
    x = (100 * torch.randn(2, 8, 4, 4)).to(dtype).requires_grad_()
    exact = layer(x.detach().float())
    with torch.autocast("cpu", dtype):
        y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, exact.to(dtype))
    y.float().square().sum().backward()
    parts = [p for name, p in layer.named_parameters() if p.grad is not None]
    assert parts
    assert all(bool(p.grad.isfinite().all()) and p.grad.dtype == torch.float32 for p in parts)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("placement", ["bot", "enc"])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_hundred_steps_in_mixed_precision_stay_finite(family: str, placement: str, dtype: torch.dtype) -> None:
    """Deep supervision, nnU-Net's optimizer, a clipped gradient; every loss is finite, and the last ones are lower."""
    torch.manual_seed(0)
    settings = {"patch_size": [16, 16], "features_per_stage": [2, 4, 8, 8], "num_classes": 2}
    model: Any = mambasdk.create_model(family, **settings, placement=placement)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    image = torch.randn(2, 1, 16, 16)
    target = (image[:, 0] > 0).long()
    losses = []
    for _ in range(200):
        with torch.autocast("cpu", dtype):
            outputs = model.training_outputs(image)
        loss = _cross_entropy(outputs, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert torch.tensor(losses).isfinite().all(), losses
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10]), losses[::20]


def _cross_entropy(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Halved from output to output, as nnU-Net weighs them; targets by nearest."""
    total = torch.zeros(())
    for level, logits in enumerate(outputs):
        small = functional.interpolate(target[:, None].float(), tuple(logits.shape[2:]), mode="nearest")[:, 0].long()
        total = total + 0.5**level * functional.cross_entropy(logits.float(), small)
    return total


def _drawn() -> tuple[Tensor, Tensor]:
    """Eight images (8, 1, 64, 64) of a disc and a square in noise, and their labels (8, 64, 64): 1 and 2."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = torch.zeros(8, 64, 64, dtype=torch.long)
    for one in labels:
        y, x, v, u = (int(n) for n in torch.randint(14, 50, (4,), generator=generator))
        one[(rows - v).abs().maximum((columns - u).abs()) < 9] = 2
        one[(rows - y) ** 2 + (columns - x) ** 2 < 100] = 1
    image = (labels > 0).float() + 0.3 * torch.randn(labels.shape, generator=generator)
    return image[:, None], labels


def _dice(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Soft Dice (2) of the structures over all images."""
    truth = functional.one_hot(labels, 3).movedim(-1, 1).float()
    both = (probabilities * truth).sum((0, 2, 3))
    return (2 * both / (probabilities + truth).sum((0, 2, 3)).clamp(min=1e-8))[1:]


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "residual_unet"])
def test_eight_images_are_learned(family: str) -> None:
    """Base width 8, four stages: DSC above 0.95 for discs and squares."""
    torch.manual_seed(0)
    model: Any = mambasdk.create_model(family, num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    images, labels = _drawn()
    for step in range(120):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(step))[:4]
        outputs = model.training_outputs(images[order])
        loss = _cross_entropy(outputs, labels[order])
        loss = loss + 1 - _dice(outputs[0].softmax(1), labels[order]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = functional.one_hot(model.eval()(images).argmax(1), 3).movedim(-1, 1).float()
    scores = _dice(found, labels)
    assert bool((scores > 0.95).all()), scores
