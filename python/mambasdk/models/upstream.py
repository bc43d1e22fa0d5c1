"""Upstream configurations as importers get them, and what importers share: names, sizes, refusals."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import CheckpointError

if TYPE_CHECKING:
    from mambasdk.models.checkpoint import Checkpoint


class UpstreamConfig(dict[str, Any]):
    """A configuration, its nested objects too.

    where: what error messages call it: its file, or "the configuration". `config[key]` of a key that is not there
    raises CheckpointError with file and key; `in` and `get` are those of a dict.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "the configuration") -> None:
        super().__init__(
            (key, UpstreamConfig(value, f"{where}: {key}") if isinstance(value, Mapping) else value)
            for key, value in values.items()
        )
        self.where = where

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(
            f"no {key!r}", where=self.where, way_out=f"add {key} to it, or give the configuration that came with them"
        )


def config_where(config: Mapping[str, Any]) -> str:
    """What error messages call a configuration."""
    return config.where if isinstance(config, UpstreamConfig) else "the configuration"


def read_object(path: Path) -> UpstreamConfig:
    """The JSON object in a file; raises CheckpointError where there is none."""
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise CheckpointError(f"no file {path}", way_out="give the configuration as a dict or a path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise CheckpointError("not an object", where=str(path), expected="a JSON object", got=type(value).__name__)
    return UpstreamConfig(value, str(path))


def renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The entries of `config` that `names` (theirs -> ours) knows, under our names; None counts as absent."""
    found: dict[str, Any] = {}
    for theirs, ours in names.items():
        value = config.get(theirs)
        if value is None:
            continue
        if found.setdefault(ours, value) != value:
            raise CheckpointError(
                f"{theirs} = {value} and an earlier key say different things", where=config_where(config)
            )
    return found


def require(config: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]], family: str) -> None:
    """Refuse a configuration that sets one of the keys to something else than these values."""
    for key, values in allowed.items():
        if key in config and config[key] not in values:
            raise CheckpointError(
                f"{key} = {config[key]!r} is no model of family {family}",
                where=config_where(config),
                expected=" or ".join(map(repr, values)),
            )


def require_known(config: Mapping[str, Any], known: Collection[str], way_out: str | None = None) -> None:
    """Refuse a configuration with keys that are none of these: what they mean would be dropped in silence."""
    if stray := sorted(set(config) - set(known)):
        raise CheckpointError(f"unknown arguments: {', '.join(stray)}", where=config_where(config), way_out=way_out)


def require_tensors(weights: Checkpoint, names: Sequence[str], what: str) -> None:
    """Refuse weights without one of these tensors; what: the model that they should be of."""
    if absent := [name for name in names if name not in weights]:
        raise CheckpointError(f"no {what}: {', '.join(absent)} missing", where=weights.where)


def layer_count(weights: Iterable[str], prefix: str) -> int:
    """How many numbers stand behind `prefix` in the names: the layers of `layers.0.…`, `layers.1.…`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def require_sizes(config: Mapping[str, Any], *spellings: tuple[str, ...]) -> None:
    """Refuse a configuration without a size, or with one that is no integer of 1 or more.

    spellings: for each size the keys that name it; the first is the one to write.
    """
    for keys in spellings:
        given = [key for key in keys if config.get(key) is not None]
        if not given:
            others = f" (or {' or '.join(keys[1:])})" if keys[1:] else ""
            raise CheckpointError(
                f"no {keys[0]}{others}",
                where=config_where(config),
                way_out=f"add {keys[0]} to it: the import guesses no size",
            )
        for key in given:
            value = config[key]
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CheckpointError(
                    f"bad {key}", where=config_where(config), expected="an integer of 1 or more", got=repr(value)[:80]
                )
