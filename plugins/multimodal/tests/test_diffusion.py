"""Noise on latents: the schedule's ends, noise that is known goes away, and images that follow a text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import InvalidArgumentError
from mambasdk_multimodal.diffusion import denoised, noisy, signal_share
from mambasdk_multimodal.generation import draw_image


def test_the_signal_fades_from_all_to_almost_nothing() -> None:
    share = signal_share(torch.arange(1001), 1000)
    assert float(share[0]) == 1
    assert float(share[-1]) <= 1e-3
    assert bool((share.diff() <= 0).all())
    # arXiv 2102.09672, equation 17, at half of the way.
    half = torch.cos(torch.tensor((0.5 + 0.008) / 1.008 * torch.pi / 2)) ** 2
    start = torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2
    torch.testing.assert_close(share[500].float(), half / start)


@pytest.mark.parametrize("limit", [None, 10.0])
def test_noise_that_is_known_goes_away(limit: float | None) -> None:
    """At once or by any steps in between."""
    torch.manual_seed(0)
    latents, noise = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    now = torch.full((2, 5), 800.0)
    x = noisy(latents, noise, now, 1000)
    for then in (500.0, 100.0, 0.0):
        to = torch.full((2, 5), then)
        x = denoised(x, noise, now, to, 1000, limit)
        torch.testing.assert_close(x, noisy(latents, noise, to, 1000), atol=1e-5, rtol=0)
        now = to
    torch.testing.assert_close(x, latents, atol=1e-5, rtol=0)


def test_an_image_follows_its_text_and_its_seed() -> None:
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1, latent_dim=4)
    with torch.no_grad():
        model.latent_out.weight.mul_(5)
    text = torch.tensor([[5, 6, 7], [1, 2, 3]])
    image = draw_image(model, text, 6, steps=4)
    assert image.shape == (2, 6, 4)
    assert image.abs().max() <= 4.0 + 1e-4
    assert torch.equal(image, draw_image(model, text, 6, steps=4))
    assert not torch.equal(image, draw_image(model, text, 6, steps=4, seed=1))
    assert not torch.equal(image[0], draw_image(model, text[[1, 0]], 6, steps=4)[0])
    with pytest.raises(InvalidArgumentError, match="draws no image"):
        draw_image(mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1), text, 6)
