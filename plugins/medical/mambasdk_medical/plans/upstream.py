"""nnU-Net's plans and dataset files as they lie beside a checkpoint: the network of one configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mambasdk.errors import CheckpointError
from mambasdk_medical.plans.network import NetworkPlan

_IGNORE = "ignore"


def network_plan(plans: Mapping[str, Any], configuration: str, dataset: Mapping[str, Any]) -> NetworkPlan:
    """The network that `plans.json` gives a configuration (`2d`, `3d_fullres`, …) for the labels of `dataset.json`.

    Both layouts of nnU-Net v2 are read: `architecture.arch_kwargs`, and the flat one before it, whose widths double up
    to a limit. Raises CheckpointError for what is not there.
    """
    entry = _configuration(plans, configuration)
    labels = Labels(dataset)
    channels = dataset.get("channel_names") or dataset.get("modality")
    if not channels:
        raise CheckpointError("no channel_names", where="dataset.json", expected="names by number")
    # A cascade sees what the configuration before it found, one channel for each label or region.
    previous = labels.foreground if entry.get("previous_stage") else 0
    architecture = entry.get("architecture") or {}
    kwargs = architecture.get("arch_kwargs") or _flat(entry, configuration)
    return NetworkPlan(
        patch_size=tuple(_given(entry, "patch_size", configuration)),
        in_channels=len(channels) + previous,
        num_classes=labels.outputs,
        strides=_per_axis(_given(kwargs, "strides", configuration)),
        kernel_sizes=_per_axis(_given(kwargs, "kernel_sizes", configuration)),
        features_per_stage=tuple(_given(kwargs, "features_per_stage", configuration)),
        n_conv_per_stage=_counts(kwargs, ("n_conv_per_stage", "n_blocks_per_stage"), 0),
        n_conv_per_stage_decoder=_counts(kwargs, ("n_conv_per_stage_decoder",), -1),
        deep_supervision=True,
    )


class Labels:
    """The `labels` of a `dataset.json`: name -> number, or numbers of a region. "ignore" is none.

    outputs: channels of logits: labels with the background, or regions without it. foreground: labels but the
    background, or regions.
    """

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        labels = dataset.get("labels")
        if not isinstance(labels, Mapping) or not labels:
            raise CheckpointError("no labels", where="dataset.json", expected="numbers, or lists of them, by name")
        values = [value for name, value in labels.items() if name != _IGNORE]
        self.regions = any(isinstance(value, Sequence) and len(value) > 1 for value in values)
        self.foreground = sum(_numbers(value) != {0} for value in values)
        if self.regions:
            self.outputs = self.foreground
            return
        self.outputs = len({0, *(number for value in values for number in _numbers(value))})


def _numbers(value: Any) -> set[int]:
    return set(value) if isinstance(value, Sequence) and not isinstance(value, str) else {int(value)}


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration's entries, those that it inherits below its own."""
    known = plans.get("configurations") or {}
    seen: list[str] = []
    found: dict[str, Any] = {}
    while name is not None:
        if name not in known or name in seen:
            raise CheckpointError(
                f"no configuration {name!r}", where="plans.json", expected=" or ".join(map(repr, known)) or "some"
            )
        seen.append(name)
        found = {**known[name], **found}
        name = known[name].get("inherits_from")
    return found


def _flat(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    strides = _given(entry, "pool_op_kernel_sizes", where)
    width = _given(entry, "UNet_base_num_features", where)
    widest = _given(entry, "unet_max_num_features", where)
    return {
        "strides": strides,
        "kernel_sizes": _given(entry, "conv_kernel_sizes", where),
        "features_per_stage": [min(width << stage, widest) for stage in range(len(strides))],
        "n_conv_per_stage": _given(entry, "n_conv_per_stage_encoder", where),
        "n_conv_per_stage_decoder": _given(entry, "n_conv_per_stage_decoder", where),
    }


def _given(entry: Mapping[str, Any], name: str, where: str) -> Any:
    if entry.get(name) is None:
        raise CheckpointError(f"no {name}", where=f"plans.json: configuration {where}")
    return entry[name]


def _per_axis(values: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(number) for number in one) for one in values)


def _counts(kwargs: Mapping[str, Any], names: Sequence[str], more: int) -> tuple[int, ...]:
    """Blocks of every stage; one number stands for all, of `more` stages beside those of the encoder."""
    value = next((kwargs[name] for name in names if kwargs.get(name) is not None), ())
    return (value,) * (len(kwargs["strides"]) + more) if isinstance(value, int) else tuple(value)
