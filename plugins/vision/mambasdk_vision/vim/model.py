"""Vim: a stack of bidirectional mixers over image patches, and its ends for classification and dense tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import LoweringError
from mambasdk.lowering import Program, Value
from mambasdk.nn import BidirectionalMamba, LayerNorm, MarkedParameters, RMSNorm
from mambasdk_vision.nn import DropPath, FeaturePyramid, check_image, fpn_adapters
from mambasdk_vision.vim.config import VimConfig
from mambasdk_vision.vim.rope import PatchRotation


class PatchEmbedding(nn.Module):
    """Patches of an image, each to a vector: `proj` is a convolution, its strides may be less than its kernel."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        assert config.stride is not None
        self.proj = nn.Conv2d(config.channels, config.embed_dim, config.patch_size, stride=config.stride)
        # LeCun normal, cut at two standard deviations, whose loss of variance 0.8796 makes up for.
        deviation = math.sqrt(1 / (config.channels * config.patch_size**2)) / 0.87962566103423978
        nn.init.trunc_normal_(self.proj.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Map image (B, C, H, W) to tokens (B, M, D), row by row."""
        y: Tensor = self.proj(image)
        return y.flatten(2).transpose(1, 2)

    def lower(self, program: Program, image: Value, prefix: str, tokens: int) -> Value:
        """Native form."""
        width, channels, kernel, _ = self.proj.weight.shape
        size, stride = channels * kernel * kernel, self.proj.stride[0]
        patches = program.unfold2d(image, (kernel, kernel), (stride, stride))  # (B, rows, columns, C*k*k)
        weight = program.reshape(program.weight(f"{prefix}.proj.weight"), [width, size])
        y: Value = program.op(
            "linear",
            x=program.reshape(patches, ["B", tokens, size]),
            weight=weight,
            bias=program.weight(f"{prefix}.proj.bias"),
        )
        return y


class VimLayer(nn.Module):
    """`residual += drop(branch); branch = mixer(norm(residual))`; the sum is added inside the norm (section 1.3)."""

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
        h = self.drop_path(h)
        if residual is None:
            residual = h.float() if self.residual_in_fp32 and h.dtype != torch.float64 else h
            h = self.norm(h)
        else:
            h, residual = self.norm(h, residual)
        h = self.mixer(h)
        assert residual is not None
        return h, residual

    def lower(
        self, program: Program, h: Value, prefix: str, residual: Value | None, length: int
    ) -> tuple[Value, Value]:
        """Native form."""
        norm: Any = self.norm
        h, total = norm.lower(program, h, f"{prefix}.norm", residual)
        return self.mixer.lower(program, h, f"{prefix}.mixer", length), total


class VimEncoder(MarkedParameters):
    """Patches, positions and layers, without an end. Parameter names are upstream's (spec section 4)."""

    no_weight_decay = ("cls_token", "pos_embed")

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        dim = config.embed_dim
        self.patch_embed = PatchEmbedding(config)
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
        taken, _, _ = self.encode(image, layers)
        return [self.to_map(h if stream == "mixer" else h + residual) for h, residual in taken]

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

    def input_shapes(self) -> dict[str, list[int | str]]:
        """The batch is free; positions fix the image's size."""
        return {"image": ["B", self.config.channels, *self.config.image_size]}


class VimClassifier(VimEncoder):
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

    def lower(self, program: Program) -> None:
        """Write the native program: image -> logits, features."""
        config = self.config
        if config.rope or (config.class_token == "none" and config.pool in ("max", "all")):
            raise LoweringError(
                "the native engine has neither rotary positions nor the pools max and all",
                where="Vim",
                way_out='save it with engine="aoti"',
            )
        rows, columns = config.grid
        dim, length = config.embed_dim, self.pos_embed.shape[1]
        image = program.input("image", "f32", ["B", config.channels, *config.image_size])
        h = self.patch_embed.lower(program, image, "patch_embed", rows * columns)
        position = config.class_position
        if position is not None:
            token = program.expand(program.weight("cls_token"), ["B", 1, dim])
            parts = [program.slice(h, 1, 0, position)] if position else []
            parts += [token, program.slice(h, 1, position, rows * columns - position)]
            h = parts[0]
            for part in parts[1:]:
                h = program.concat_rows(h, part)
        h = program.add(h, program.expand(program.weight("pos_embed"), ["B", length, dim]))
        residual: Value | None = None
        for index, layer in enumerate(self.layers):
            one: Any = layer
            h, residual = one.lower(program, h, f"layers.{index}", residual, length)
        if position is None and config.pool == "last":
            position = length - 1
        if position is not None:
            assert residual is not None
            h = program.reshape(program.slice(h, 1, position, 1), ["B", dim])
            residual = program.reshape(program.slice(residual, 1, position, 1), ["B", dim])
        norm: Any = self.norm_f
        features = norm.lower(program, h, "norm_f", residual)[0]
        if position is None:
            features = program.mean_rows(features)
        program.output("logits", program.linear(features, "head", bias=True), "f32", ["B", config.num_classes])
        program.output("features", features, "f32", ["B", dim])


class VimSegmentationFeatures(VimEncoder):
    """Image to maps of strides 4, 8, 16 and 32 for UPerNet (section 7): four layers, each through an adapter."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config)
        for name, adapter in fpn_adapters(config.embed_dim).items():
            self.add_module(name, adapter)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps (B, D, h, w), largest first; image (B, C, H, W). Raises ShapeError."""
        maps = self.feature_maps(image, list(self.config.out_layers), self.config.feature_stream)
        return [self.get_submodule(f"fpn{index}")(level) for index, level in enumerate(maps, start=1)]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`p2` to `p5`."""
        return {f"p{level}": y for level, y in enumerate(self(inputs["image"]), start=2)}


class VimDetectionFeatures(FeaturePyramid):
    """Image to ViTDet's simple feature pyramid p2 … p6 of the last layer's sum (section 7). The encoder is `net`."""

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

    def input_shapes(self) -> dict[str, list[int | str]]:
        """The batch is free; positions fix the image's size."""
        return self.net.input_shapes()


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
