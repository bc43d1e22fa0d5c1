"""Maps for dense prediction from every family that offers them, and the tables of routes that scans share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from mambasdk.errors import InvalidArgumentError
from mambasdk.plugins import get_host
from mambasdk_vision.model import FeatureMaps, ImageModel, feature_maps
from mambasdk_vision.nn.routes import cached_routes, cross_routes


def _families() -> list[str]:
    """Registered image encoders with a form that gives maps."""
    found = []
    for name, family in get_host().registrations.families.items():
        if "image" in family.processors:
            with torch.device("meta"):
                model: Any = mambasdk.create_model(name, **family.tiny)
            if isinstance(model, ImageModel) and model.maps_config:
                found.append(name)
    return found


@pytest.mark.parametrize("family", _families())
def test_maps_have_the_channels_and_strides_that_they_say(family: str) -> None:
    tiny = get_host().family(family).tiny
    maps: Any = feature_maps(family, **tiny).eval()
    assert isinstance(maps, FeatureMaps)
    height, width = 64, 96
    if not isinstance(maps.input_shapes()["image"][-1], str):
        height, width = maps.config.image_size
    with torch.no_grad():
        found = maps(torch.randn(1, 3, height, width))
    expected = [(1, c, height // s, width // s) for c, s in zip(maps.map_channels, maps.map_strides, strict=True)]
    assert [tuple(level.shape) for level in found] == expected
    assert len(maps.feature_outputs) == len(set(maps.feature_outputs)) == len(found)


def test_maps_of_a_classifier_keep_its_weights() -> None:
    classifier: Any = mambasdk.create_model("vmamba", **get_host().family("vmamba").tiny).eval()
    maps: Any = feature_maps(classifier)
    assert maps is feature_maps(maps)
    image = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        expected = classifier.stages(image)[-1]
        assert torch.equal(maps.stages(image)[-1], expected)


def test_a_model_without_maps_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="gives no maps"):
        feature_maps(torch.nn.Linear(2, 2))


def test_route_tables_are_made_once_and_never_kept_from_a_trace() -> None:
    made: list[tuple[int, int]] = []

    @cached_routes
    def rows(height: int, width: int, device: torch.device | None = None) -> Tensor:
        made.append((height, width))
        return torch.arange(height * width, dtype=torch.int32, device=device)

    with torch.inference_mode():
        first = rows(2, 3)
    assert rows(2, 3) is first
    assert not first.is_inference()
    assert made == [(2, 3)]
    rows(3, 2)
    with FlopCounterMode(display=False):
        rows(2, 3)
    assert made == [(2, 3), (3, 2), (2, 3)]
    assert cross_routes(5, 4, device=torch.device("cpu")) is cross_routes(5, 4, device=torch.device("cpu"))
    assert cross_routes(5, 4, device=torch.device("meta")).is_meta
