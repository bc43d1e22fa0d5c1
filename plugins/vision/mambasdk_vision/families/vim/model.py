"""Vim: a stack of bidirectional mixers over image patches, and its ends for classification and dense tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mambasdk.nn import BidirectionalMamba, DropPath, LayerNorm, MarkedParameters, PatchEmbedding, RMSNorm, add_norm
from mambasdk_vision.families.vim.config import VimConfig
from mambasdk_vision.families.vim.positions import resize_positions
from mambasdk_vision.families.vim.rope import PatchRotation
from mambasdk_vision.model import FeatureMaps, ImageClassifier, ImageModel
from mambasdk_vision.nn import FeaturePyramid, check_image, fpn_adapters


class VimLayer(nn.Module):
    """`residual += drop(branch); branch = mixer(norm(residual))`; the sum is added inside the norm."""

    def __init__(self, config: VimConfig, drop_path: float) -> None:
        super().__init__()
        self.residual_in_fp32 = config.residual_in_fp32
        self.drop_path = DropPath(drop_path)
        self.norm = _norm(config)
        self.mixer = BidirectionalMamba(
            config.embed_dim,
            config.d_state,
            config.d_conv,
            config.expand,
            divide_out=config.divide_out,
            layer_scale=config.init_layer_scale,
            symmetric_init=config.symmetric_init,
        )

    def forward(self, h: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """(branch, residual), both (B, L, D); residual is None before the first layer."""
        h, residual = add_norm(self.norm, self.drop_path(h), residual, residual_in_fp32=self.residual_in_fp32)
        return self.mixer(h), residual


class _VimWeights(ImageModel):
    """How the weights of one Vim go into another: positions are interpolated, rotations follow from the sizes."""

    ends = ("head.", "norm_f.", "fpn", "simfp_", "rope.")
    maps_config: ClassVar = {"task": "segmentation"}

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel."""
        if name.startswith("rope."):
            return None
        if name == "pos_embed" and value is not None:
            return resize_positions(value, old.config, self.config, legacy=legacy)
        return value


class VimEncoder(MarkedParameters, _VimWeights):
    """Patches, positions and layers, without an end. Parameter names are upstream's."""

    no_weight_decay = ("cls_token", "pos_embed")

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        dim = config.embed_dim
        assert config.stride is not None
        self.patch_embed = PatchEmbedding(config.channels, dim, (config.patch_size,) * 2, (config.stride,) * 2)
        # LeCun normal, cut at two standard deviations, whose loss of variance 0.8796 makes up for.
        deviation = math.sqrt(1 / (config.channels * config.patch_size**2)) / 0.87962566103423978
        nn.init.trunc_normal_(self.patch_embed.proj.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]
        has_token = config.class_token != "none"
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if has_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * columns + has_token, dim))
        rates = torch.linspace(0, config.drop_path_rate, config.depth, device="cpu").tolist()
        self.layers = nn.ModuleList(VimLayer(config, rates[max(index - 1, 0)]) for index in range(config.depth))
        self.last_drop_path = DropPath(config.drop_path_rate)
        skip = 0 if has_token and config.rope_skips_first else config.class_position
        self.rope = PatchRotation(dim, config.grid, config.rope_grid, skip) if config.rope else None
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        for layer in self.layers:
            mixer: Any = layer.mixer
            out = mixer.out_proj
            nn.init.kaiming_uniform_(out.weight, a=math.sqrt(5))
            with torch.no_grad():
                out.weight.div_(math.sqrt(config.depth))
        self.mark_parameters()

    def embed(self, image: Tensor) -> Tensor:
        """Map image (B, C, H, W) of the configured size to tokens with positions (B, L, D). Raises ShapeError."""
        config = self.config
        height, width = image.shape[-2:] if image.ndim >= 2 else (0, 0)
        check_image(
            image,
            config.channels,
            "Vim",
            size=config.image_size,
            way_out="resize the image, or interpolate the position embedding: "
            f"mambasdk_vision.adaptation.adapted(model, img_size=({height}, {width}))",
        )
        x: Tensor = self.patch_embed(image)
        if self.cls_token is not None and config.class_position is not None:
            before, after = x.tensor_split([config.class_position], dim=1)
            x = torch.cat([before, self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), after], dim=1)
        return x + self.pos_embed

    def encode(self, image: Tensor, layers: Sequence[int] = ()) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Run all layers. Returns (branch, residual) after each of `layers`, then those of the last; (B, L, D) each."""
        h, residual = self.embed(image), None
        taken: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(self.layers):
            if self.rope is not None:
                h = self.rope(h)
                if residual is not None and self.config.rope_residual:
                    residual = self.rope(residual)
            h, residual = layer(h, residual)
            if index in layers:
                taken.append((h, residual))
        assert residual is not None
        return taken, h, residual

    def feature_maps(self, image: Tensor, layers: Sequence[int], stream: str = "mixer") -> list[Tensor]:
        """Maps (B, D, rows, columns) after each of `layers`.

        stream: "mixer" takes a layer's branch alone, "residual" the sum that the next layer would see.
        """
        chosen = sorted(set(layers))
        taken, _, _ = self.encode(image, chosen)
        maps = {
            layer: self.to_map(h if stream == "mixer" else h + residual)
            for layer, (h, residual) in zip(chosen, taken, strict=True)
        }
        return [maps[layer] for layer in layers]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`tokens` (B, L, D): the residual sum after the last layer."""
        _, h, residual = self.encode(inputs["image"])
        return {"tokens": h + residual}

    def to_map(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, D) to (B, D, rows, columns); the class token is left out."""
        if (position := self.config.class_position) is not None:
            tokens = torch.cat([tokens[:, :position], tokens[:, position + 1 :]], dim=1)
        y: Tensor = tokens.transpose(1, 2).unflatten(2, self.config.grid)
        return y

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        size = (2, self.config.channels, *self.config.image_size)
        return {"image": torch.randn(size, generator=torch.Generator().manual_seed(0))}


class VimClassifier(VimEncoder, ImageClassifier):
    """Image (B, C, H, W) to logits (B, classes): final norm at the class token, then a linear layer."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config)
        self.norm_f = _norm(config)
        self.head = nn.Linear(config.embed_dim, config.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def features(self, image: Tensor) -> Tensor:
        """What the head sees: (B, D), or (B, L, D) with pool "max" and "all". Raises ShapeError."""
        _, h, residual = self.encode(image)
        position, pool = self.config.class_position, self.config.pool
        if position is None and pool == "last":
            position = -1
        if position is not None:  # the norm is by token, so the others need none
            h, residual = h[:, position], residual[:, position]
        h, _ = self.norm_f(self.last_drop_path(h), residual)
        y: Tensor = h.mean(dim=1) if position is None and pool == "mean" else h
        return y

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes), or (B, L, classes) with pool "all"; image (B, C, H, W). Raises ShapeError."""
        return self._logits(self.features(image))

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        if self.config.class_token == "none" and self.config.pool == "max":
            return logits.amax(dim=1)
        return logits

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` and, for other uses than classification, `features`."""
        features = self.features(inputs["image"])
        return {"logits": self._logits(features), "features": features}


class VimSegmentationFeatures(FeatureMaps, VimEncoder):
    """Image to maps of strides 4, 8, 16 and 32 for UPerNet: four layers, each through an adapter."""

    feature_outputs = ("p2", "p3", "p4", "p5")

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config)
        self.map_channels = (config.embed_dim,) * 4
        assert config.stride is not None
        self.map_strides = tuple(config.stride * factor // 4 for factor in (1, 2, 4, 8))
        for name, adapter in fpn_adapters(config.embed_dim).items():
            self.add_module(name, adapter)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps (B, D, h, w), largest first; image (B, C, H, W). Raises ShapeError."""
        assert self.config.out_layers is not None
        maps = self.feature_maps(image, self.config.out_layers, self.config.feature_stream)
        return [self.get_submodule(f"fpn{index}")(level) for index, level in enumerate(maps, start=1)]


class VimDetectionFeatures(FeaturePyramid, _VimWeights):
    """Image to ViTDet's simple feature pyramid p2 … p6 of the last layer's sum. The encoder is `net`."""

    feature_outputs = ("p2", "p3", "p4", "p5", "p6")

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config.embed_dim, config.out_channels)
        self.config = config
        self.net = VimEncoder(config)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """{"p2": (B, out, h, w), …, "p6"}; image (B, C, H, W). Raises ShapeError."""
        _, h, residual = self.net.encode(image)
        return super().forward(self.net.to_map(h + residual))

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`p2` to `p6`."""
        return self(inputs["image"])  # type: ignore[no-any-return]

    def example_inputs(self) -> dict[str, Tensor]:
        """Two images of noise."""
        return self.net.example_inputs()


def build(config: VimConfig) -> VimClassifier | VimSegmentationFeatures | VimDetectionFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    kinds: dict[str, type[VimClassifier | VimSegmentationFeatures | VimDetectionFeatures]] = {
        "classification": VimClassifier,
        "segmentation": VimSegmentationFeatures,
        "detection": VimDetectionFeatures,
    }
    return kinds[config.task](config)


def _norm(config: VimConfig) -> nn.Module:
    return (RMSNorm if config.rms_norm else LayerNorm)(config.embed_dim, eps=config.norm_epsilon)
