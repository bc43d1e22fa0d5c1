"""The model that a training run begins with: fresh weights, or a package's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError, MambaSDKError, require_torch
from mambasdk.models.create import create_model
from mambasdk.models.registry import find_model
from mambasdk.package.manifest import MANIFEST_FILE, Manifest, is_package
from mambasdk.training.announcement import size_text

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Start:
    """What training goes on from: nothing (a new model), or a package's model with its manifest."""

    model: nn.Module | None = None
    manifest: Manifest | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Start:
        """The package `args.model`, its model in float32 on `args.device`; nothing where that is a model's name.

        Torch's generators are seeded with `args.seed` for what is drawn anew. Raises InvalidArgumentError where
        `--set` is given for a package.
        """
        if not (Path(args.model) / MANIFEST_FILE).is_file():
            return cls()
        model = start_model(args)
        require_torch("training").manual_seed(args.seed)
        return cls(model, Manifest.read(args.model))

    @property
    def labels(self) -> list[str] | None:
        """The labels that the package tells, None where it names none."""
        options = {} if self.manifest is None else self.manifest.head_options or {}
        return options.get("labels")

    def processor(self, slot: str) -> dict[str, Any] | None:
        """The package's processor entry of a slot."""
        return None if self.manifest is None else self.manifest.processors.get(slot)


def refuse_other_targets(args: argparse.Namespace, expected: str, got: str) -> None:
    """Raise InvalidArgumentError where a package's model has other outputs than the data have targets."""
    if expected != got:
        raise InvalidArgumentError("the package learnt something else", where=args.model, expected=expected, got=got)


def start_model(args: argparse.Namespace, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """The model of the package `args.model` in float32; else a new one of that name, initialised with `args.seed`.

    settings: of a new model, under the names that heads use (`FamilySpec.fields` has the configuration's own where they
    differ); `args.overrides` (`--set`) come last. Raises InvalidArgumentError, before anything is allocated, for a new
    model whose weights, gradients and moments exceed the free memory, unless `args.yes`.
    """
    torch = require_torch("training")
    from mambasdk.package.reader import load

    if is_package(args.model):
        if args.overrides:
            raise InvalidArgumentError(
                "--set has no effect on a package", where="train", way_out="give a family to start a new model"
            )
        return load(args.model, device=args.device, dtype=torch.float32)
    family, _ = find_model(args.model)
    values = {**{family.field(name): value for name, value in (settings or {}).items()}, **args.overrides}
    check_fits(args, values)
    torch.manual_seed(args.seed)
    return create_model(args.model, device=args.device, **values)


def check_fits(args: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError for a model that cannot be trained in the memory of `args.device`."""
    torch = require_torch("training")
    from mambasdk.training.memory import available_memory, parameter_bytes

    free = available_memory(torch.device(args.device))
    need = parameter_bytes(create_model(args.model, device="meta", **settings))
    if free is None or need <= free or args.yes:
        return
    raise InvalidArgumentError(
        f"training {args.model} takes {size_text(need)} for weights, gradients and moments alone",
        where="train",
        expected=f"at most the {size_text(free)} that are free on {args.device}",
        way_out=f"{smaller_models(args.model, free)}make it smaller with --set, or start anyway with --yes",
    )


def smaller_models(name: str, free: int) -> str:
    """The largest variants of the family that `free` bytes can train, as "take A or B, "; empty where there is none."""
    from mambasdk.training.memory import parameter_bytes

    family, _ = find_model(name)
    fitting = {}
    for variant in family.variants:
        try:
            need = parameter_bytes(create_model(variant, device="meta"))
        except MambaSDKError:  # a variant that cannot be built is no way out
            continue
        if need <= free / 2:
            fitting[variant] = need
    largest = sorted(fitting, key=lambda variant: fitting[variant])[-3:]
    return f"take {' or '.join(largest)}, " if largest else ""
