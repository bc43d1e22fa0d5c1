"""Who a model is: family, variant and configuration, attached to the module when the registry builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, UnknownNameError, closest


@dataclasses.dataclass(frozen=True)
class Identity:
    """family and variant by name; config: the configuration dataclass as a dict.

    head_options: those of the package or checkpoint it came from. source: the folder of that package or checkpoint.
    head, processors: the family's, which a model's packages have unless it says otherwise.
    """

    family: str
    variant: str | None
    config: dict[str, Any]
    head_options: dict[str, Any] | None = None
    source: Path | None = dataclasses.field(default=None, compare=False)
    head: str | None = dataclasses.field(default=None, compare=False)
    processors: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict, compare=False)


NO_FAMILY = Identity("", None, {})  # of a module that no family builds


def known_identity(model: object) -> Identity | None:
    """The identity of `model`; None where `create_model`, `import_checkpoint` or `load` gave it none."""
    found = getattr(model, "mambasdk_identity", None)  # of any module, whatever it is
    return found if isinstance(found, Identity) else None


def identity(model: object) -> Identity:
    """The identity that `create_model`, `import_checkpoint` or `load` gave to `model`."""
    found = known_identity(model)
    if found is None:
        raise InvalidArgumentError(
            f"{type(model).__name__} has no registered family",
            way_out="build it with mambasdk.create_model, mambasdk.import_checkpoint or mambasdk.load",
        )
    return found


def make_config(config_type: type[Any], overrides: Mapping[str, Any], where: str) -> Any:
    """A configuration dataclass from overrides; an unknown field raises UnknownNameError listing the valid ones."""
    fields = {field.name for field in dataclasses.fields(config_type) if field.init}
    for name in overrides:
        if name not in fields:
            near = closest(name, fields)
            listing = "" if near.startswith("known") else f"; valid: {', '.join(sorted(fields))}"
            raise UnknownNameError(f"no override named {name!r}", where=where, way_out=near + listing)
    try:
        return config_type(**overrides)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(str(error), where=where) from error
