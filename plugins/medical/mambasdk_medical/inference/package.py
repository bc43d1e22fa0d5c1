"""What a package of a medical segmenter says beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk_medical.data.dataset import Dataset
from mambasdk_medical.plans.plans_file import Configuration
from mambasdk_medical.preprocessing.preparation import Preparation

STEP = 0.5  # of tiles


def package_entries(dataset: Dataset, configuration: Configuration, mirror_axes: Sequence[int]) -> dict[str, Any]:
    """`processors` and `head_options` of `save_package` for a model of a plan's configuration.

    mirror_axes: axes of the patch over which the model was trained mirrored, so that it may be asked so.
    """
    labels = dataset.labels
    return {
        "processors": {"image": Preparation.of(configuration).to_entry()},
        "head_options": {
            "patch_size": list(configuration.patch_size),
            "labels": labels.channel_labels,
            "regions_class_order": list(labels.regions_class_order or ()) if labels.has_regions else [],
            "step": STEP,
            "mirror_axes": list(mirror_axes),
            "configuration": configuration.name,
            # For Python: what the values of a label map are called, and how the files of a case are.
            "dataset": {
                "channel_names": {str(index): name for index, name in enumerate(dataset.channel_names)},
                **labels.to_json(),
                "file_ending": dataset.file_ending,
            },
        },
    }
