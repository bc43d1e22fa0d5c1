"""The network of a checkpoint from nnU-Net's plans and dataset files as they lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.plans.network import NetworkPlan
from mambasdk_medical.plans.plans_file import Plans


def network_plan(plans: Mapping[str, Any], configuration: str, dataset: Mapping[str, Any]) -> NetworkPlan:
    """The network that `plans.json` gives a configuration (`2d`, `3d_fullres`, …) for the labels of `dataset.json`.

    The second network of a cascade has a channel more for each label or region that the first one finds. Raises
    InvalidArgumentError for what is not there.
    """
    entry = Plans(plans).configuration(configuration)
    labels = Labels.parse(dataset.get("labels"), dataset.get("regions_class_order"))
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, Mapping) or not channels:
        raise InvalidArgumentError("bad channel_names", where="dataset.json", expected='{"0": "CT"}', got=channels)
    found = len(labels.foreground) if entry.fields.get("previous_stage") else 0
    return entry.network(len(channels) + found, labels.num_channels)
