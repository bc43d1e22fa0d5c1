"""Where plans and prepared cases of a data set lie, and making them where they are missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mambasdk.atomic import write_text
from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_medical.data.dataset import DATASET_FILE, Dataset, open_dataset
from mambasdk_medical.plans.fingerprint import Fingerprint, fingerprint
from mambasdk_medical.plans.planner import plan
from mambasdk_medical.plans.plans_file import PLANS_FILE, Configuration, Plans
from mambasdk_medical.plans.topology import BASE_FEATURES
from mambasdk_medical.preprocessing.store import INDEX_FILE, preprocess

FINGERPRINT_FILE = "dataset_fingerprint.json"
_PLANS_NAMES = (PLANS_FILE, "nnUNetPlans.json")
PREPROCESSED = "nnUNet_preprocessed"  # nnU-Net's environment variable
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Workspace:
    """dataset: what is planned for. folder: for plans and prepared cases; nnU-Net calls it nnUNet_preprocessed/NAME."""

    dataset: Dataset
    folder: Path

    @classmethod
    def of(cls, place: str, folder: str | None = None) -> Workspace:
        """The workspace of a data set: `folder`, or its own under `$nnUNet_preprocessed`, or `preprocessed` in it."""
        dataset = open_dataset(place)
        if folder is not None:
            return cls(dataset, Path(folder).expanduser())
        base = os.environ.get(PREPROCESSED)
        return cls(dataset, Path(base) / dataset.name if base else dataset.root / "preprocessed")

    def fingerprint(self, *, again: bool = False) -> Fingerprint:
        """Read from the folder, or made and written there."""
        path = self.folder / FINGERPRINT_FILE
        if path.is_file() and not again:
            try:
                known = json.loads(path.read_text("utf-8"))
                return Fingerprint(
                    known["spacings"],
                    known["shapes_after_crop"],
                    known["foreground_intensity_properties_per_channel"],
                    known["median_relative_size_after_cropping"],
                )
            except (OSError, ValueError, KeyError) as error:
                raise InvalidArgumentError(f"cannot be read: {error}", where=str(path)) from error
        cases = self.dataset.training_cases()
        found = fingerprint(self.dataset, cases, progress=_bar("fingerprint"))
        write_text(path, json.dumps(found.to_json(), indent=1))
        return found

    def make_plans(self, *, memory: float, features: int = BASE_FEATURES) -> Plans:
        """Plan for `memory` GB and a first stage of `features`; write plans, `dataset.json` and fingerprint."""
        content = plan(self.dataset, self.fingerprint(again=True), memory=memory, features=features)
        path = self.folder / PLANS_FILE
        write_text(path, json.dumps(content, indent=1))
        write_text(self.folder / DATASET_FILE, json.dumps(dict(self.dataset.description), indent=1))
        return Plans(content, str(path))

    def plans(self, file: str | None = None, *, memory: float | None = None) -> Plans:
        """The plans in `file`, else those of the folder, else new ones where `memory` says for how many GB."""
        if file is not None:
            return Plans.read(Path(file).expanduser())
        there = [self.folder / name for name in _PLANS_NAMES if (self.folder / name).is_file()]
        if not there and memory is not None:
            return self.make_plans(memory=memory)
        return Plans.read(there[0] if there else self.folder / PLANS_FILE)

    def prepared(self, configuration: Configuration) -> Path:
        """The folder of the cases that a configuration's network is trained on."""
        return self.folder / configuration.data_identifier

    def preprocess(self, configuration: Configuration) -> Sequence[dict[str, Any]]:
        """Prepare every training case."""
        cases = self.dataset.training_cases()
        bar = _bar(f"preprocessing for {configuration.name}")
        return preprocess(self.dataset, cases, configuration, self.prepared(configuration), progress=bar)

    def is_prepared(self, configuration: Configuration) -> bool:
        """Whether that was done."""
        return (self.prepared(configuration) / INDEX_FILE).is_file()


def _bar(what: str) -> Any:
    def bar(items: Sequence[_Item]) -> Iterable[_Item]:
        return track(items, what, len(items))

    return bar
