"""`mambasdk medical import FAMILY RESULTS`: a checkpoint in nnU-Net's result folder becomes a package."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk_medical.data.dataset import DATASET_FILE, read_description
from mambasdk_medical.inference.package import package_entries
from mambasdk_medical.plans.plans_file import PLANS_FILE, Plans

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Family, folder, fold."""
    parser.add_argument("model", metavar="family", help="what the network is, such as u_mamba")
    parser.add_argument(
        "results", help="nnU-Net's folder TRAINER__PLANS__CONFIGURATION with plans.json, dataset.json, fold_0"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the package goes")
    parser.add_argument("--fold", default="0", help="0 to 4, or all (default: 0)")
    parser.add_argument("--checkpoint", metavar="NAME", help=f"file in the fold's folder (default: {_CHECKPOINTS[0]})")
    parser.add_argument("-c", "--configuration", help="of the plans (default: the checkpoint's)")
    parser.add_argument("--overwrite", action="store_true", help="replace a package that is there")


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Import and save."""
    from mambasdk.models import import_checkpoint
    from mambasdk.package import save_package

    folder = Path(args.results).expanduser()
    plans = Plans.read(folder / PLANS_FILE)
    dataset = read_description(folder / DATASET_FILE, folder)
    content = read_checkpoint(_file(folder, args.fold, args.checkpoint))
    name = args.configuration or (content.get("init_args") or {}).get("configuration")
    if name is None:
        raise InvalidArgumentError(
            "the checkpoint names no configuration",
            where=str(folder),
            way_out=f"give -c, one of {', '.join(plans.configurations)}",
        )
    configuration = plans.configuration(name)
    axes = content.get("inference_allowed_mirroring_axes")
    upstream = {"plans": dict(plans.content), "configuration": name, "dataset": dict(dataset.description)}
    model: Any = import_checkpoint(args.model, upstream, content["network_weights"])
    got = (tuple(model.config.patch_size), model.config.in_channels, model.config.num_classes)
    if got != (expected := (configuration.patch_size, len(dataset.channel_names), dataset.labels.num_channels)):
        raise CheckpointError("the weights do not fit the plan", where=str(folder), expected=expected, got=got)
    manifest = save_package(
        model, args.out, overwrite=args.overwrite, **package_entries(dataset, configuration, axes or ())
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    if not args.json:
        print(f"{args.out}: {manifest.family}, {name}, {count:,} parameters")
    return {"package": args.out, "family": manifest.family, "configuration": name, "parameters": count}


def _file(folder: Path, fold: str, name: str | None) -> Path:
    place = folder / f"fold_{fold}"
    names = _CHECKPOINTS if name is None else (name,)
    for one in names:
        if (place / one).is_file():
            return place / one
    raise InvalidArgumentError("no checkpoint", where=str(place), expected=" or ".join(names))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What nnU-Net's trainer saved, with `network_weights`. Only tensors and plain values are read, and no code is run.

    Raises CheckpointError for other files.
    """
    import numpy as np
    import torch

    module: Any = np.core if np.lib.NumpyVersion(np.__version__) < "2.0.0" else np._core  # type: ignore[attr-defined]

    # Losses in the log are NumPy's numbers.
    numbers: list[Any] = [module.multiarray.scalar, np.dtype]
    numbers += [np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of the many kinds that unpickling raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot be read as a checkpoint: {reason}", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), Mapping):
        raise CheckpointError("no checkpoint of nnU-Net: no network_weights", where=str(path))
    content["network_weights"] = {
        name.removeprefix("_orig_mod.").removeprefix("module."): tensor
        for name, tensor in content["network_weights"].items()
    }
    return content
