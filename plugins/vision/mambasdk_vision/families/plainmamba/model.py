"""PlainMamba: a convolutional stem, positions, layers of one width, and their ends: logits, or maps of some layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import DropPath, LayerNorm, MarkedParameters
from mambasdk_vision.families.plainmamba.config import PlainMambaConfig
from mambasdk_vision.families.plainmamba.mixer import PlainMamba2D
from mambasdk_vision.families.plainmamba.routes import Snakes, snakes
from mambasdk_vision.model import FeatureMaps, ImageClassifier, ImageModel
from mambasdk_vision.nn import channel_first, channel_last, check_image
from mambasdk_vision.nn.positions import resize_grid
from mambasdk_vision.nn.stages import init_linear

_STEM_CHANNELS = 64
_END_EPSILON = 1e-6  # of the norms after the last layer and after those whose maps come out


class PlainMambaStem(nn.Module):
    """Image (B, C, H, W) to tokens (B, h, w, D): a convolution of stride 2, some of stride 1, one over each patch.

    h is ceil(ceil(H / 2) / (patch_size / 2)), w likewise: zeros fill the last patch at the bottom and right.
    """

    def __init__(self, config: PlainMambaConfig) -> None:
        super().__init__()
        width, self.half_patch = _STEM_CHANNELS, config.patch_size // 2
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        convs: list[nn.Module] = []
        for _ in range(config.num_convs_patch_embed):
            convs += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.convs = nn.Sequential(*convs)
        self.projection = nn.Conv2d(width, config.embed_dims, self.half_patch, stride=self.half_patch)

    def forward(self, image: Tensor) -> Tensor:
        """Map image (B, C, H, W) to (B, h, w, D)."""
        x = self.convs(self.stem(channel_first(image.permute(0, 2, 3, 1).contiguous())))
        short = [-side % self.half_patch for side in x.shape[-2:]]
        if torch.compiler.is_compiling():  # what is left of the zeros is not seen, and sizes are simpler expressions
            short = [self.half_patch - 1] * 2
        return channel_last(self.projection(functional.pad(x, (0, short[1], 0, short[0]))))


class PlainMambaLayer(nn.Module):
    """`x += drop(mamba(norm(x)))`; where there is a depthwise convolution, x becomes GELU(BN(dw(x))) after that."""

    def __init__(self, config: PlainMambaConfig, drop_path: float, has_dwconv: bool) -> None:
        super().__init__()
        channels = config.embed_dims
        self.norm = LayerNorm(channels)
        self.mamba = PlainMamba2D(
            channels,
            config.d_state,
            config.expand,
            config.dt_rank,
            conv_size=config.conv_size,
            conv_bias=config.conv_bias,
            bias=config.bias,
            params_follow_route=config.params_follow_route,
        )
        self.drop_path = DropPath(drop_path)
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.dw = nn.Sequential(depthwise, nn.BatchNorm2d(channels), nn.GELU()) if has_dwconv else None

    def forward(self, x: Tensor, routes: Snakes) -> Tensor:
        """Map x (B, H, W, C) to the same shape; routes: `snakes(H, W)`."""
        x = x + self.drop_path(self.mamba(self.norm(x), routes))
        return x if self.dw is None else channel_last(self.dw(channel_first(x)))


class PlainMambaEncoder(MarkedParameters, ImageModel):
    """Stem, positions and layers; parameter names are upstream's, without `backbone.`."""

    no_weight_decay = ("pos_embed",)
    ends = ("head.", "norm_layer", "ln1.")
    maps_config: ClassVar = {"out_indices": "quarters"}

    def __init__(self, config: PlainMambaConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        self.patch_embed = PlainMambaStem(config)
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, config.embed_dims))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = torch.linspace(0, config.drop_path_rate, config.num_layers, device="cpu").tolist()
        self.layers = nn.ModuleList(
            PlainMambaLayer(config, rate, index in config.layers_with_dwconv) for index, rate in enumerate(rates)
        )
        self.mark_parameters()

    def encode(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Maps (B, h, w, C) after each of `layers`; image (B, C, H, W), any size. Raises ShapeError, DtypeError."""
        check_image(image, self.config.in_channels, "PlainMamba")
        x: Tensor = self.patch_embed(image)
        rows, columns = x.shape[1:3]
        x = x + self.positions(rows, columns)
        routes = snakes(rows, columns, device=x.device)
        maps: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            x = layer(x, routes)
            if index in layers:
                maps[index] = x
        return [maps[index] for index in layers]

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position table of a grid, (1, rows, columns, C): resized where the model was built for another."""
        table = self.pos_embed.transpose(1, 2).unflatten(2, self.config.grid)
        return resize_grid(table, rows, columns).permute(0, 2, 3, 1)

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise, of another size than the position table."""
        height, width = self.config.image_size
        size = (2, self.config.in_channels, height, width + self.config.patch_size)
        return {"image": torch.randn(size, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free."""
        return {"image": ["B", self.config.in_channels, "H", "W"]}

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel: the position table is interpolated."""
        if name == "pos_embed" and value is not None:
            table = value.transpose(1, 2).unflatten(2, old.config.grid)
            return resize_grid(table, *self.config.grid).flatten(2).transpose(1, 2).contiguous()
        return value


class PlainMambaClassifier(PlainMambaEncoder, ImageClassifier):
    """Image (B, C, H, W) to logits (B, classes): norm, mean over the tokens, linear."""

    def __init__(self, config: PlainMambaConfig) -> None:
        super().__init__(config)
        self.ln1 = LayerNorm(config.embed_dims, _END_EPSILON)
        self.head = nn.ModuleDict({"fc": nn.Linear(config.embed_dims, config.num_classes)})
        if config.init == "recipe":
            init_linear(self)

    def last_layer(self) -> nn.Linear:
        """See ImageClassifier."""
        layer: Any = self.head["fc"]
        return layer  # type: ignore[no-any-return]

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, (B, C)."""
        y: Tensor = self.ln1(*self.encode(image, [self.config.num_layers - 1]))
        return y.mean(dim=(1, 2))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes); image (B, C, H, W) of any size. Raises ShapeError, DtypeError."""
        logits: Tensor = self.head["fc"](self.features(image))
        return logits

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` and, for other uses than classification, `features`."""
        features = self.features(inputs["image"])
        return {"logits": self.head["fc"](features), "features": features}


class PlainMambaFeatures(FeatureMaps, PlainMambaEncoder):
    """Image to the maps of the layers in out_indices, each through its own norm, all of the stride patch_size."""

    def __init__(self, config: PlainMambaConfig) -> None:
        super().__init__(config)
        self.feature_outputs = tuple(f"map{index}" for index in range(len(config.maps)))
        self.map_channels = (config.embed_dims,) * len(config.maps)
        self.map_strides = (config.patch_size,) * len(config.maps)
        for index in sorted(set(config.maps)):
            self.add_module(self.norm_of(index), LayerNorm(config.embed_dims, _END_EPSILON))
        if config.init == "recipe":
            init_linear(self)

    def norm_of(self, layer: int) -> str:
        """The name of the norm behind a layer; that of the last is the classifier's."""
        return "ln1" if layer + 1 == self.config.num_layers else f"norm_layer{layer}"

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w), one for each of out_indices; image (B, C, H, W). Raises ShapeError, DtypeError."""
        layers = self.config.maps
        maps = zip(layers, self.encode(image, layers), strict=True)
        return [channel_first(self.get_submodule(self.norm_of(index))(x)) for index, x in maps]


def build(config: PlainMambaConfig) -> PlainMambaClassifier | PlainMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return PlainMambaFeatures(config) if config.maps else PlainMambaClassifier(config)
