"""Packages of medical segmenters on images in memory: preparation, tiles, the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.package import Manifest
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.inference.sliding_window import Floats, Run, predict
from mambasdk_medical.preprocessing.preparation import Preparation

HEAD = "medical_segmentation"
ENGINES = ("torch", "native")


@dataclass(frozen=True)
class Predicted:
    """labels: integers (D, H, W) on the file's grid. probabilities: float32 (K, D, H, W) there, where asked for.

    Outside the box that is not empty the probability is 1 for the background, 0 for regions.
    """

    labels: npt.NDArray[np.integer[Any]]
    probabilities: Floats | None


@dataclass(frozen=True)
class Predictor:
    """runs: one for each package, of which the logits are averaged. The rest is what the packages have in common.

    channels: names of the image's channels. file_ending: of the data set's files. step, mirror_axes: see `predict`.
    """

    runs: Sequence[Run]
    preparation: Preparation
    labels: Labels
    patch: tuple[int, ...]
    channels: tuple[str, ...]
    file_ending: str
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()

    @classmethod
    def open(
        cls,
        packages: Sequence[str | Path],
        *,
        engine: str | None = None,
        step: float | None = None,
        mirroring: bool = True,
        device: str = "cpu",
    ) -> Predictor:
        """Open packages of one plan. engine: "torch" or "native"; None: native where the packages have a program.

        step: None for the package's own. mirroring: over the axes that the package names. device: for torch.
        """
        if not packages:
            raise InvalidArgumentError("no package", where="predict")
        known = [_description(Path(package)) for package in packages]
        preparation, options = known[0]
        for package, other in zip(packages, known, strict=True):
            if other[0] != preparation or any(
                other[1].get(key) != options.get(key) for key in ("patch_size", "dataset")
            ):
                raise InvalidArgumentError(
                    "packages of different plans", where=str(package), expected=f"the one of {packages[0]}"
                )
        dataset = options["dataset"]
        return cls(
            [_run(Path(package), engine, device) for package in packages],
            preparation,
            Labels.parse(dataset["labels"], dataset.get("regions_class_order"), str(packages[0])),
            tuple(options["patch_size"]),
            tuple(dataset["channel_names"].values()),
            dataset["file_ending"],
            options.get("step", 0.5) if step is None else step,
            tuple(options.get("mirror_axes") or ()) if mirroring else (),
        )

    def logits(self, image: Floats) -> Floats:
        """Mean logits (K, *S) of a prepared image (C, *S)."""
        settings: dict[str, Any] = {"step": self.step, "mirror_axes": self.mirror_axes}
        total: Any = sum(predict(run, image, self.patch, **settings) for run in self.runs)
        mean: Floats = total / np.float32(len(self.runs))
        return mean

    def __call__(
        self, image: Floats, geometry: Geometry, *, probabilities: bool = False, where: str = "image"
    ) -> Predicted:
        """Predict (C, D, H, W). Raises InvalidArgumentError for another number of channels."""
        prepared = self.preparation(image, geometry, None, where)
        logits = self.preparation.logits_back(self.logits(prepared.image), prepared)
        labels = self.preparation.place(self.labels.label_map(logits), prepared)
        if not probabilities:
            return Predicted(labels, None)
        whole = self.preparation.place(_probabilities(logits, regions=self.labels.has_regions), prepared)
        if not self.labels.has_regions:
            whole[0] += whole.sum(0) == 0
        return Predicted(labels, whole)


def _probabilities(logits: Floats, *, regions: bool) -> Floats:
    if regions:
        made: Floats = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        return made
    powers = np.exp(logits - logits.max(0))
    shares: Floats = powers / powers.sum(0)
    return shares


def _description(package: Path) -> tuple[Preparation, dict[str, Any]]:
    manifest = Manifest.read(package)
    options = manifest.head_options or {}
    if manifest.head != HEAD or "patch_size" not in options or "dataset" not in options:
        raise InvalidArgumentError(
            "no package of a medical segmenter",
            where=str(package),
            expected=f"head {HEAD} with patch_size and dataset",
            got=manifest.head,
            way_out="`mambasdk train` and `mambasdk medical import` write them",
        )
    return Preparation.from_entry(manifest.processors.get("image", {}), str(package)), options


def _run(package: Path, engine: str | None, device: str) -> Run:
    name = engine or ("native" if Manifest.read(package).engine.get("name") == "native" else "torch")
    if name == "native":
        from mambasdk.runtime import load_package

        session: Any = load_package(package).session()
        return lambda tiles: np.asarray(session.run({"image": tiles})["logits"])
    if name != "torch":
        raise InvalidArgumentError("bad engine", where="predict", expected=" or ".join(ENGINES), got=repr(engine))
    import torch

    from mambasdk.package import load

    model = load(package, device=device, dtype=torch.float32)

    def run(tiles: Floats) -> Floats:
        with torch.no_grad():
            logits: Floats = model(torch.from_numpy(tiles).to(device)).float().cpu().numpy()
        return logits

    return run
