"""Reading `plans.json` of nnU-Net v2, of today and with the earlier fields of the network. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.plans.network import NetworkPlan

PLANS_FILE = "plans.json"
# nnU-Net's classes -> our schemes.
_SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}
# Our figures of a CT channel -> those of a fingerprint.
_FIGURES = {"mean": "mean", "std": "std", "lower": "percentile_00_5", "upper": "percentile_99_5"}
_BASE_FEATURES, _MOST_FEATURES = 32, {2: 512, 3: 320}  # where an old plan leaves them out


@dataclass(frozen=True)
class Plans:
    """content: of the file, as it stands. where: what messages call it."""

    content: Mapping[str, Any]
    where: str = PLANS_FILE

    @classmethod
    def read(cls, path: Path) -> Plans:
        """Raises InvalidArgumentError for what is no plans file."""
        try:
            content = json.loads(path.read_text("utf-8-sig"))
        except FileNotFoundError:
            raise InvalidArgumentError(
                "no plans", where=str(path), way_out="`mambasdk medical plan DATASET` makes them"
            ) from None
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"cannot be read as JSON: {error}", where=str(path)) from error
        if not isinstance(content, dict) or not isinstance(content.get("configurations"), dict):
            raise InvalidArgumentError("no plans of nnU-Net v2: no configurations", where=str(path))
        return cls(content, str(path))

    @property
    def configurations(self) -> list[str]:
        """Their names."""
        return list(self.content["configurations"])

    @property
    def transpose_forward(self) -> tuple[int, ...]:
        """The order of the image's axes for the network."""
        return tuple(self.content.get("transpose_forward", (0, 1, 2)))

    def configuration(self, name: str) -> Configuration:
        """One configuration, with what it inherits. Raises InvalidArgumentError for an unknown or incomplete one."""
        return Configuration(name, self._fields(name, ()), self)

    def _fields(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        known = self.content["configurations"]
        if name not in known or name in seen:
            raise InvalidArgumentError(
                f"no configuration {name!r}", where=self.where, expected=" or ".join(known), got=repr(name)
            )
        own = dict(known[name])
        parent = own.pop("inherits_from", None)
        return own if parent is None else {**self._fields(parent, (*seen, name)), **own}

    def default_configuration(self, dims: Sequence[int] = (3, 2)) -> str:
        """The first of 3d_fullres and 2d that is there, or else the first at all."""
        for dim in dims:
            name = {2: "2d", 3: "3d_fullres"}[dim]
            if name in self.configurations:
                return name
        return self.configurations[0]


@dataclass(frozen=True)
class Configuration:
    """One configuration of a plans file: name, its fields, the plans it is of."""

    name: str
    fields: Mapping[str, Any]
    plans: Plans

    def field(self, name: str) -> Any:
        """A field that must be there."""
        if name not in self.fields:
            raise InvalidArgumentError(f"no {name!r}", where=f"{self.plans.where}: {self.name}")
        return self.fields[name]

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Of a tile."""
        return tuple(int(extent) for extent in self.field("patch_size"))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Of the network's axes, as many as the patch has."""
        return tuple(float(value) for value in self.field("spacing"))[-len(self.patch_size) :]

    @property
    def batch_size(self) -> int:
        """Patches of a step."""
        return int(self.field("batch_size"))

    @property
    def batch_dice(self) -> bool:
        """Whether Dice is of the whole batch."""
        return bool(self.fields.get("batch_dice", False))

    @property
    def data_identifier(self) -> str:
        """The folder of the preprocessed cases."""
        return str(self.fields.get("data_identifier", f"{self.plans.content.get('plans_name', 'plans')}_{self.name}"))

    def normalisation(self) -> dict[str, list[Any]]:
        """Lists with an entry for each channel: `normalization` (scheme), `mean`, `std`, `lower`, `upper`."""
        known = self.plans.content.get("foreground_intensity_properties_per_channel") or {}
        masks = self.fields.get("use_mask_for_norm", [])
        if isinstance(masks, Mapping):  # of early plans
            masks = [masks[key] for key in sorted(masks, key=int)]
        schemes, figures = [], []
        for channel, name in enumerate(self.field("normalization_schemes")):
            if name not in _SCHEMES:
                raise InvalidArgumentError(
                    "no such normalisation",
                    where=f"{self.plans.where}: {self.name}",
                    expected=", ".join(_SCHEMES),
                    got=name,
                )
            found = known.get(str(channel), {})
            if name == "CTNormalization" and not all(key in found for key in _FIGURES.values()):
                raise InvalidArgumentError(
                    f"no intensities of channel {channel}",
                    where=self.plans.where,
                    expected="foreground_intensity_properties_per_channel, which CT normalisation needs",
                )
            masked = _SCHEMES[name] == "zscore" and channel < len(masks) and masks[channel]
            schemes.append("zscore_masked" if masked else _SCHEMES[name])
            figures.append(found)
        return {
            "normalization": schemes,
            **{ours: [float(found.get(theirs, 0.0)) for found in figures] for ours, theirs in _FIGURES.items()},
        }

    def network(self, in_channels: int, num_classes: int, *, deep_supervision: bool = True) -> NetworkPlan:
        """The network's plan, of `architecture.arch_kwargs` or of the earlier fields."""
        dims = len(self.patch_size)
        if "architecture" in self.fields:
            network = self.fields["architecture"].get("arch_kwargs") or {}
            strides, kernels = network.get("strides", ()), network.get("kernel_sizes", ())
            features = network.get("features_per_stage", ())
            blocks = network.get("n_conv_per_stage", network.get("n_blocks_per_stage", ()))
            decoder = network.get("n_conv_per_stage_decoder", ())
        else:
            strides, kernels = self.field("pool_op_kernel_sizes"), self.field("conv_kernel_sizes")
            base = int(self.fields.get("UNet_base_num_features", _BASE_FEATURES))
            most = int(self.fields.get("unet_max_num_features", _MOST_FEATURES[dims]))
            features = [min(base << stage, most) for stage in range(len(strides))]
            blocks = self.fields.get("n_conv_per_stage_encoder", ())
            decoder = self.fields.get("n_conv_per_stage_decoder", ())
        stages = len(strides)
        return NetworkPlan(
            patch_size=self.patch_size,
            in_channels=in_channels,
            num_classes=num_classes,
            strides=tuple(_axes(stride, dims) for stride in strides),
            kernel_sizes=tuple(_axes(kernel, dims) for kernel in kernels),
            features_per_stage=_each(features, stages),
            n_conv_per_stage=_each(blocks, stages),
            n_conv_per_stage_decoder=_each(decoder, stages - 1),
            deep_supervision=deep_supervision,
        )


def _axes(value: Any, dims: int) -> tuple[int, ...]:
    return (int(value),) * dims if isinstance(value, int) else tuple(int(part) for part in value)


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(int(part) for part in value)
