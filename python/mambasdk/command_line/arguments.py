"""Arguments that several commands share, and what their text means."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.element_types import WEIGHT_TYPES
from mambasdk.errors import InvalidArgumentError, PackageError, require_torch
from mambasdk.lowering.program import PRODUCTS
from mambasdk.package.manifest import MANIFEST_FILE, is_package
from mambasdk.threads import usable_cores

if TYPE_CHECKING:
    import torch

DTYPES = WEIGHT_TYPES


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """`--device`, `--dtype` and `--threads`."""
    parser.add_argument("--device", default="cpu", help="where the model runs (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the parameters (default: float32)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice, at most the usable cores)")


def add_products(parser: argparse.ArgumentParser) -> None:
    """`--products`."""
    parser.add_argument(
        "--products",
        choices=PRODUCTS,
        help="of dense layers in the native engine (default: bfloat16 where weights are stored so, else float32)",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`--set FIELD=VALUE`, which ends up as the dict `args.overrides`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="FIELD=VALUE",
        action=_Override,
        default={},
        help="override a field of the model's configuration, for example --set n_layer=4 (repeatable)",
    )


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """`--verify` and `--no-verify` (`args.verify`: True, False, None)."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--verify",
        action="store_true",
        default=None,
        help="check the SHA-256 of all the package's files first (default: of those that changed since the last check)",
    )
    group.add_argument(
        "--no-verify", dest="verify", action="store_false", help="check names and sizes of the files only"
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """`--verify`, `--no-verify` and `--allow-code`."""
    add_verify_arguments(parser)
    parser.add_argument(
        "--allow-code",
        action="store_true",
        help="let a compiled package execute the machine code that comes with it: only where you trust its origin",
    )


class _Override(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        name, equals, text = str(values).partition("=")
        if not equals or not name:
            parser.error(f"{option} {values!r}: expected FIELD=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a name in DTYPES."""
    dtype: torch.dtype = getattr(require_torch("this command"), name)
    return dtype


def set_threads(threads: int | None) -> None:
    """Limit torch to `threads`; None: to the cores that this process may use, where torch counts more."""
    if threads is None:
        cores = usable_cores()
        torch = require_torch("this command")
        if torch.get_num_threads() > cores:
            torch.set_num_threads(cores)
        return
    if threads < 1:
        raise InvalidArgumentError("bad --threads", expected="1 or more", got=threads)
    require_torch("this command").set_num_threads(threads)


def check_device(name: str) -> None:
    """Raise InvalidArgumentError for a device that this torch or this machine does not have."""
    if name == "cpu":
        return
    torch = require_torch(f"--device {name}")
    where = f"--device {name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidArgumentError("no such kind of device", where=where, expected="cpu, cuda, cuda:1, …") from None
    if device.type == "cuda":
        _check_cuda(torch, device, where)
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise InvalidArgumentError("this machine has no Metal device", where=where, way_out="use --device cpu")
    elif device.type not in ("cpu", "xpu"):
        raise InvalidArgumentError("models do not run there", where=where, expected="cpu, cuda, mps or xpu")
    elif device.index:
        raise InvalidArgumentError("there is one CPU device", where=where, expected="cpu")


def _check_cuda(torch: Any, device: Any, where: str) -> None:
    build = f"torch {torch.__version__}"
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        raise InvalidArgumentError(
            f"{build} is built without CUDA",
            where=where,
            way_out="use --device cpu, or install a build with CUDA: https://pytorch.org/get-started",
        )
    if not torch.cuda.is_available():
        raise InvalidArgumentError(
            f"{build} is built with CUDA {torch.version.cuda}, but finds no GPU",
            where=where,
            way_out="use --device cpu, or look at `nvidia-smi` and CUDA_VISIBLE_DEVICES",
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise InvalidArgumentError(
            "no such GPU", where=where, expected=" or ".join(f"cuda:{i}" for i in range(count)), got=str(device)
        )


def check_package(path: str, verb: str) -> None:
    """Raise PackageError, which says what is there instead, unless `path` is a package. verb: the command."""
    from mambasdk.models.registry import list_models
    from mambasdk.plugins.host import get_host

    if is_package(path):
        return
    folder = Path(path)
    if folder.is_dir():
        reason = f"the folder has no {MANIFEST_FILE}: it is no model package"
    elif folder.exists():
        reason = "this is a file; a model package is a folder"
    elif path in list_models() or path in get_host().registrations.families:
        reason = f"this is the name of a model, and there is no such folder; {verb} takes a model package"
    else:
        reason = "there is no such folder"
    raise PackageError(
        reason, where=path, way_out="`mambasdk train` and `mambasdk import` write packages, where --out says"
    )
