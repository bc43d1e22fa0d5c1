"""A small convolutional family of plain torch.nn modules, as a plugin: nothing in it can run on the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fakes

FAMILY = "toyconv"

_PLUGIN = """
from mambasdk.plugins import FamilySpec, HeadSpec, hookimpl

@hookimpl
def mambasdk_families():
    return [
        FamilySpec(name="toyconv", summary="a small image classifier", config="toyconv_model:Config",
                   factory="toyconv_model:build", head="toyconv_head", variants={"toyconv-4": {"channels": 4}},
                   tiny={"channels": 4}),
        FamilySpec(name="toymute", summary="keeps a state and does not hand it over", config="toyconv_model:Config",
                   factory="toyconv_model:build_mute", head="toyconv_head", tiny={"channels": 4}),
    ]

@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="toyconv_head", summary="none", implementation="toyconv_model:Head")]
"""

_MODEL = """
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class Config:
    channels: int = 8
    classes: int = 5

class ConvNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stem = nn.Conv2d(3, config.channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(config.channels)
        self.body = nn.Conv2d(config.channels, config.channels, 3, padding=1, groups=config.channels)
        self.head = nn.Linear(config.channels, config.classes)

    def forward(self, image):
        x = image * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
        x = torch.relu(self.norm(self.stem(x)))
        features = x + torch.nn.functional.gelu(self.body(x))
        return self.head(features.mean((2, 3))), features

    def example_inputs(self):
        values = torch.arange(2 * 3 * 16 * 12, dtype=torch.float32)
        return {"image": torch.sin(values).reshape(2, 3, 16, 12)}

    def input_shapes(self):
        return {"image": ["B", 3, "H", "W"]}

    def native_outputs(self, inputs):
        scores, features = self(inputs["image"])
        return {"scores": scores, "features": features}

class Mute(ConvNet):
    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 1)

def build(config):
    return ConvNet(config)

def build_mute(config):
    return Mute(config)

class Head:
    pass
"""


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The families `toyconv`, which can be compiled, and `toymute`, which cannot, while the context lasts."""
    with fakes.site(folder) as site:
        (folder / "toyconv_model.py").write_text(_MODEL)
        site.install("mambasdk-toyconv", "toyconv", "toyconv_plugin", _PLUGIN)
        yield
