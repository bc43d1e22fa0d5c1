"""How many parameters the registered models have: counted on the meta device, and kept in the user's cache."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import MambaSDKError
from mambasdk.models.create import create_model
from mambasdk.models.registry import find_model
from mambasdk.plugins.host import get_host
from mambasdk.progress import track


def parameter_counts(names: Sequence[str]) -> dict[str, int | None]:
    """Parameters of each model by name; None where it cannot be built here (without torch nothing can).

    What was counted once for a version of its plugin is read from `$XDG_CACHE_HOME/mambasdk/parameters.json`.
    """
    known = _read()
    keys = {name: _key(name) for name in names}
    missing = [name for name in names if keys[name] not in known]
    if missing and importlib.util.find_spec("torch") is not None:
        for name in track(missing, "counting parameters", len(missing)):
            try:
                model = create_model(name, device="meta")
            except MambaSDKError:  # a plugin whose library does not load is for `mambasdk doctor`
                continue
            known[keys[name]] = sum(parameter.numel() for parameter in model.parameters())
        _write(known)
    return {name: known.get(key) for name, key in keys.items()}


def _key(name: str) -> str:
    family, variant = find_model(name)
    record = get_host().owner("family", family.name)
    overrides = family.variants[variant] if variant else {}
    return f"{record.distribution} {record.version} {family.name} {json.dumps(overrides, sort_keys=True, default=str)}"


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mambasdk" / "parameters.json"


def _read() -> dict[str, int]:
    try:
        value: Any = json.loads(_cache().read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {key: count for key, count in value.items() if isinstance(count, int)}


def _write(counts: dict[str, int]) -> None:
    """A cache that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _cache()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(counts, file)
        os.replace(partial, path)
