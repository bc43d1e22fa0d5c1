"""The model that a plan is trained with: a new one of its sizes, or a package's. Needs torch."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from math import ceil
from typing import Any

from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk.models import create_model, find_model
from mambasdk.plugins import resolve
from mambasdk.training import Start, start_model
from mambasdk_medical.config import MedicalConfig
from mambasdk_medical.data.dataset import Dataset
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.plans.plans_file import Configuration, Plans

_EVERY_MODEL = 32  # a patch of multiples of it fits every model that halves it five times or less
_FIRST = ("3d_fullres", "2d")  # of the configurations, where none is asked for


def fitted_model(args: argparse.Namespace, dataset: Dataset, plans: Plans) -> tuple[Configuration, Any]:
    """(the configuration `args.configuration`, or the first that the model takes; the model).

    The patch becomes larger than the plan's where the model divides it by more than the plan does, which is said.
    Raises InvalidArgumentError for a model of another kind, and for a package of another plan.
    """
    if args.configuration is not None:
        return _fitted(args, dataset, plans.configuration(args.configuration))
    failure: MambaSDKError | None = None
    for name in [name for name in _FIRST if name in plans.configurations] or plans.configurations:
        try:
            return _fitted(args, dataset, plans.configuration(name))
        except MambaSDKError as error:
            failure = failure or error
    raise failure or InvalidArgumentError("no configuration", where=plans.where)


def _fitted(args: argparse.Namespace, dataset: Dataset, configuration: Configuration) -> tuple[Configuration, Any]:
    model: Any = Start.of(args).model
    if model is None:
        configuration = _fitting_patch(args, dataset, configuration)
        model = start_model(args, _settings(args, dataset, configuration))
    if not isinstance(model, MedicalSegmenter):
        raise InvalidArgumentError(f"{args.model} is no segmenter of medical images", where="train")
    classes = len(dataset.channel_names), dataset.labels.num_channels
    got = (tuple(model.config.patch_size), model.config.in_channels, model.config.num_classes)
    if got[0] != configuration.patch_size and len(got[0]) == len(configuration.patch_size) and got[1:] == classes:
        configuration = _with_patch(configuration, got[0])
    if got != (expected := (configuration.patch_size, *classes)):
        raise InvalidArgumentError(
            "the model does not fit the data set",
            where=args.model,
            expected=f"patch, channels, classes {expected}",
            got=got,
        )
    return configuration, model


def _settings(args: argparse.Namespace, dataset: Dataset, configuration: Configuration) -> dict[str, Any]:
    config = resolve(find_model(args.model)[0].config)
    if not issubclass(config, MedicalConfig):
        raise InvalidArgumentError(f"{args.model} is no segmenter of medical images", where="train")
    channels, classes = len(dataset.channel_names), dataset.labels.num_channels
    plan = configuration.network(channels, classes, deep_supervision=args.deep_supervision)
    settings: dict[str, Any] = config.for_plan(plan)
    return settings


def _fitting_patch(args: argparse.Namespace, dataset: Dataset, configuration: Configuration) -> Configuration:
    """The configuration with the least patch, from the plan's on, that the model divides."""

    def divisor(size: tuple[int, ...]) -> tuple[int, ...]:
        settings = _settings(args, dataset, _with_patch(configuration, size))
        model: Any = create_model(args.model, device="meta", **{**settings, **args.overrides})
        found: tuple[int, ...] = model.patch_divisor if isinstance(model, MedicalSegmenter) else (1,) * len(size)
        return found

    planned = configuration.patch_size
    try:
        parts = divisor(planned)
    except MambaSDKError as error:
        try:
            parts = divisor(_multiples(planned, (_EVERY_MODEL,) * len(planned)))
        except MambaSDKError:
            raise error from None
    patch = _multiples(planned, parts)
    if patch == planned or "patch_size" in args.overrides:
        return configuration
    sizes = [" x ".join(map(str, size)) for size in (planned, patch)]
    print(f"{configuration.name}: the patch is {sizes[1]}, not {sizes[0]}, which {args.model} takes", file=sys.stderr)
    return _with_patch(configuration, patch)


def _multiples(size: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(ceil(extent / part) * part for extent, part in zip(size, parts, strict=True))


def _with_patch(configuration: Configuration, patch: tuple[int, ...]) -> Configuration:
    return dataclasses.replace(configuration, fields={**configuration.fields, "patch_size": list(patch)})
