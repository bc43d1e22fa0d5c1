"""Who a model is: family, variant and configuration, attached to the module when the registry builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mambasdk.errors import InvalidArgumentError, UnknownNameError, closest


@dataclasses.dataclass(frozen=True)
class Identity:
    """family and variant by name; config: the configuration dataclass as a dict; head_options: a package's."""

    family: str
    variant: str | None
    config: dict[str, Any]
    head_options: dict[str, Any] | None = None


def identity(model: object) -> Identity:
    """The identity that `create_model`, `import_checkpoint` or `load` gave to `model`."""
    found = getattr(model, "mambasdk_identity", None)
    if not isinstance(found, Identity):
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
