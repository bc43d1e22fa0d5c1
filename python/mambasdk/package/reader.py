"""Reading a model package into PyTorch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import CheckpointError, PackageError, PluginError, UnknownNameError, require_torch
from mambasdk.models.checkpoint import Checkpoint, load_tensors
from mambasdk.models.create import build
from mambasdk.models.identity import Identity, identity
from mambasdk.package.manifest import WEIGHTS_FILE, Manifest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import resolve

if TYPE_CHECKING:
    import torch
    from torch import nn


def load(
    directory: str | os.PathLike[str],
    *,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> nn.Module:
    """The model of a package, in eval mode.

    dtype: of the parameters; None keeps what is stored. verify: check every file's SHA-256, once for each state of a
    file (docs/packages.md); sizes are checked always. The package's head options stay with the model: `save_package`
    writes them again. Nothing in the package is executed: the weights go into the family's own class.
    Raises PackageError for a damaged package, PackageVersionError for a newer format, PluginError when the plugin that
    brings the family is not installed.
    """
    require_torch("loading a package into PyTorch")
    folder = Path(directory)
    manifest = Manifest.read(folder)
    manifest.check_abi(str(folder))
    manifest.check_sizes(folder)
    if verify:
        manifest.check_hashes(folder, again=False)
    if WEIGHTS_FILE not in manifest.files:
        raise PackageError(f"no {WEIGHTS_FILE}", where=str(folder))
    model = empty_model(Identity(manifest.family, manifest.variant, manifest.config), manifest)
    try:
        with Checkpoint.open(folder / WEIGHTS_FILE) as tensors:
            load_tensors(model, tensors, where=str(folder / WEIGHTS_FILE), device=device or "cpu", dtype=dtype)
    except CheckpointError as error:
        raise PackageError(str(error)) from error
    model.mambasdk_identity = replace(  # type: ignore[assignment]
        identity(model), head_options=manifest.head_options, source=folder
    )
    return model.eval()


def load_processors(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The processors of a package by slot ("text", …), made by the plugins that registered their kinds."""
    folder = Path(directory)
    manifest = Manifest.read(folder)
    manifest.check_sizes(folder)
    host = get_host()
    return {
        slot: resolve(host.processor(slot, entry["kind"]).factory)(entry, folder)
        for slot, entry in manifest.processors.items()
    }


def empty_model(who: Identity, manifest: Manifest | None = None) -> nn.Module:
    """The module of `who` on the meta device, in float32."""
    try:
        family = get_host().family(who.family)
    except UnknownNameError as error:
        plugins = " ".join(plugin["name"] for plugin in (manifest.requires.get("plugins", []) if manifest else []))
        raise PluginError(
            f"no plugin registers family {who.family!r}",
            way_out=f"pip install {plugins}" if plugins else "see `mambasdk doctor`",
        ) from error
    variant = who.variant if who.variant in family.variants else None
    return build(family, who.config, variant=variant, device="meta")
