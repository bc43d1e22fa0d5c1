"""Building models by name, and import of upstream checkpoints through the family's importer."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mambasdk.errors import CheckpointError, InvalidArgumentError, MambaSDKError, require_torch
from mambasdk.lowering import as_model
from mambasdk.models.checkpoint import Checkpoint, load_tensors
from mambasdk.models.identity import Identity, identity, make_config
from mambasdk.models.imported import imported_settings
from mambasdk.models.registry import find_model
from mambasdk.models.source import CONFIG_FILE, resolve_source
from mambasdk.models.upstream import UpstreamConfig, read_object
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import FamilySpec, resolve

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Device = torch.device | str | int | None
    Weights = Mapping[str, Tensor] | str | os.PathLike[str]
    Config = Mapping[str, Any] | str | os.PathLike[str]


def create_model(name: str, *, device: Device = None, dtype: torch.dtype | None = None, **overrides: Any) -> nn.Module:
    """A model with freshly initialised weights.

    name: a variant ("mamba-130m"), see `list_models`, or a family ("mamba"), which means its default variant.
    device, dtype: of the parameters; parameters that must stay float32 (A_log, D, the dt bias) do. Under
        `torch.device("meta")`, or with device="meta", nothing is allocated.
    overrides: fields of the family's configuration, for example `n_layer=2`.
    Raises UnknownNameError for an unknown model or override.
    """
    family, variant = find_model(name)
    if variant is None and family.default_variant is not None:
        defaults = family.variants[family.default_variant]
        variant = None if overrides else family.default_variant
    else:
        defaults = family.variants[variant] if variant else {}
    settings = {**defaults, **overrides}
    return build(family, settings, variant=variant, device=device, dtype=dtype)


def build(
    family: FamilySpec,
    settings: Mapping[str, Any],
    *,
    variant: str | None = None,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A model of `family` with configuration `settings`; loads the owning plugin's native libraries first."""
    torch = require_torch("building a model")
    host = get_host()
    host.activate(host.owner("family", family.name))
    config = make_config(resolve(family.config), settings, f"create_model({variant or family.name!r})")
    with torch.device(device) if device is not None else contextlib.nullcontext():
        model = cast("nn.Module", resolve(family.factory)(config))
    if dtype is not None:
        if not dtype.is_floating_point:
            raise InvalidArgumentError("bad dtype", where="create_model", expected="a floating-point dtype", got=dtype)
        model = model.to(dtype)
    who = Identity(
        family.name, variant, dataclasses.asdict(config), head=family.head, processors=dict(family.processors)
    )
    model.mambasdk_identity = who  # type: ignore[assignment]
    return model


def import_checkpoint(
    family: str,
    config: Config,
    weights: Weights | None = None,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A model with the weights of an upstream checkpoint.

    family: a family or one of its variants.
    config: the upstream configuration as a dict, a `config.json`, a directory that holds one, or a hub repository
        ("state-spaces/mamba-130m-hf").
    weights: a state dict, a `.safetensors`, `.bin` or `.pt` file, a directory (shards with an index file too), or a hub
        repository; None takes them from where `config` is. Pickled files are read with `weights_only=True`.
    dtype: of the parameters, float32 when None.
    Raises CheckpointError that lists missing, unexpected and wrongly shaped tensors.
    """
    torch = require_torch("importing a checkpoint")
    spec, variant = find_model(family)
    if spec.importer is None:
        raise CheckpointError("the family has no checkpoint importer", where=f"family {spec.name}")
    if weights is None:
        if isinstance(config, Mapping):
            raise InvalidArgumentError("no weights given", where="import_checkpoint")
        weights = config
    upstream = _read_config(config)
    with Checkpoint.open(weights if isinstance(weights, Mapping) else resolve_source(weights)) as checkpoint:
        settings, tensors = _imported(spec, upstream, checkpoint)
        model = build(spec, settings, variant=_same_variant(spec, variant, settings), device="meta")
        load_tensors(
            model,
            tensors,
            where=checkpoint.where,
            device=device or torch.get_default_device(),
            dtype=dtype or torch.float32,
        )
    if (source := _folder(weights) or _folder(config)) is not None:
        _, options = imported_settings(as_model(model).package_head, source, upstream, spec.processors)
        who = replace(identity(model), source=source, head_options=dict(options) or None)
        model.mambasdk_identity = who  # type: ignore[assignment]
    return model


def _folder(place: Weights | Config) -> Path | None:
    """The folder of weights or of a configuration, None for those in memory."""
    if isinstance(place, Mapping):
        return None
    path = resolve_source(place)
    return path if path.is_dir() else path.parent


def _imported(
    family: FamilySpec, config: UpstreamConfig, weights: Checkpoint
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """What the family's importer makes of a checkpoint; a key that it looks up in vain is named with its file."""
    assert family.importer is not None
    try:
        settings, tensors = resolve(family.importer)(config, weights)
    except KeyError as error:
        if isinstance(error, MambaSDKError):
            raise
        raise CheckpointError(
            f"the importer of family {family.name} looks for {error}, which is neither there nor in the weights",
            where=config.where,
        ) from error
    return settings, tensors


def _same_variant(family: FamilySpec, variant: str | None, settings: Mapping[str, Any]) -> str | None:
    """The named variant if the imported configuration is really its configuration."""
    if variant is None:
        return None
    config_type = resolve(family.config)
    wanted = make_config(config_type, family.variants[variant], f"variant {variant}")
    found = make_config(config_type, settings, "imported configuration")
    return variant if wanted == found else None


def _read_config(config: Config) -> UpstreamConfig:
    if isinstance(config, Mapping):
        return config if isinstance(config, UpstreamConfig) else UpstreamConfig(config)
    path = resolve_source(config)
    if path.is_dir():
        path = path / CONFIG_FILE
    elif path.suffix != ".json":
        path = path.parent / CONFIG_FILE
    return read_object(path)


def local_config(path: str | os.PathLike[str]) -> UpstreamConfig:
    """The upstream configuration in `config.json` at or beside `path`."""
    return _read_config(Path(path))
