"""UltraLight VM-UNet: three convolutions and three ParallelMambas down, the same up, attention on the skips."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.families.ultralight_vm_unet.bridge import AttentionBridge
from mambasdk_medical.families.ultralight_vm_unet.config import PARTS, UltraLightVMUNetConfig
from mambasdk_medical.families.ultralight_vm_unet.parallel_mamba import ParallelMamba
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.convolutions import Conv2d

_SKIPS = 5
_CONVOLUTIONS = 3  # stages of the encoder before the mixers


class UltraLightVMUNet(nn.Module, MedicalSegmenter):
    """`image` (B, C, H, W) to `logits` (B, classes, H, W), H and W multiples of 32.

    Upstream applies the sigmoid inside the network; here logits come out. Parameter names are upstream's. The mixers
    begin as Mamba does: upstream's pass over all layers, which draws their step sizes anew, is not repeated.
    Source: arXiv 2403.20035.
    """

    def __init__(self, config: UltraLightVMUNetConfig) -> None:
        super().__init__()
        self.config: UltraLightVMUNetConfig = config
        widths = tuple(config.widths)
        down = list(zip((config.in_channels, *widths), widths, strict=False))
        for level, (channels, following) in enumerate(down, 1):
            self.add_module(f"encoder{level}", self._layer(channels, following, level > _CONVOLUTIONS))
        if config.bridge:
            self.scab = AttentionBridge(widths[:_SKIPS])
        for level in range(1, _SKIPS + 1):
            channels, following = widths[-level], widths[-level - 1]
            self.add_module(f"decoder{level}", self._layer(channels, following, level <= _CONVOLUTIONS))
        for level in range(1, _SKIPS + 1):
            self.add_module(f"ebn{level}", nn.GroupNorm(PARTS, widths[level - 1]))
            self.add_module(f"dbn{level}", nn.GroupNorm(PARTS, widths[-level - 1]))
        self.final = nn.Conv2d(widths[0], config.num_classes, 1)
        self._init()

    def _layer(self, channels: int, following: int, mixes: bool) -> nn.Sequential:
        c = self.config
        return nn.Sequential(
            ParallelMamba(channels, following, c.d_state, c.d_conv, c.expand)
            if mixes
            else Conv2d(channels, following, 3, padding=1)
        )

    @torch.no_grad()
    def _init(self) -> None:
        """Linear layers of deviation 0.02, convolutions by He's rule for what they give; biases zero."""
        for name, module in self.named_modules():
            if ".mamba." in name:
                continue
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (module.out_channels * module.weight[0, 0].numel())))
            else:
                continue
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """Five halvings."""
        return (2**_SKIPS,) * 2

    def _run(self, name: str, norm: str, x: Tensor) -> Tensor:
        return cast(Tensor, self.get_submodule(norm)(self.get_submodule(name)(x)))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W); image (B, C, H, W). Raises ShapeError."""
        self.check_image(image)
        x, skips = image, []
        for level in range(1, _SKIPS + 1):
            x = functional.gelu(functional.max_pool2d(self._run(f"encoder{level}", f"ebn{level}", x), 2))
            skips.append(x)
        if self.config.bridge:
            skips = self.scab(skips)
        x = functional.gelu(self.get_submodule(f"encoder{_SKIPS + 1}")(x))
        for level in range(1, _SKIPS + 1):
            x = self._run(f"decoder{level}", f"dbn{level}", x)
            x = functional.gelu(x if level == 1 else _doubled(x)) + skips[-level]
        return _doubled(self.final(x))


def _doubled(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C, 2h, 2w), corners on corners."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


def build(config: UltraLightVMUNetConfig) -> UltraLightVMUNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return UltraLightVMUNet(config)
