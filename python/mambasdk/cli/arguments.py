"""Arguments that several commands share, and what their text means."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError, require_torch
from mambasdk.package.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """`--device`, `--dtype` and `--threads`."""
    parser.add_argument("--device", default="cpu", help="where the model runs (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the parameters (default: float32)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


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
    """Limit torch to `threads`, where given."""
    if threads is None:
        return
    if threads < 1:
        raise InvalidArgumentError("bad --threads", expected="1 or more", got=threads)
    require_torch("this command").set_num_threads(threads)


def is_package(text: str) -> bool:
    """Whether `text` names a directory with a manifest."""
    return (Path(text) / MANIFEST_FILE).is_file()
