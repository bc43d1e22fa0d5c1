"""What trainers and wrappers put around the tensors of a model: keys of a file, and beginnings of names. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The state dict is under one of these keys, one inside another too: Lightning and many others; timm, DeiT and MMEngine;
# an average of the weights alone; nnU-Net.
KEYS = ("state_dict", "model", "model_ema", "network_weights")
# Every name begins with it: of DistributedDataParallel and DataParallel, and of torch.compile.
WRAPPERS = ("module.", "_orig_mod.")


def unwrapped(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The state dict inside what a trainer wrote, without what wrappers put before all of its names."""
    for key in KEYS:
        inner = value.get(key)
        if isinstance(inner, Mapping):
            value = inner
    while (prefix := wrapper_of(value)) is not None:
        value = {name.removeprefix(prefix): tensor for name, tensor in value.items()}
    return value


def wrapper_of(names: Iterable[Any]) -> str | None:
    """The one of WRAPPERS that all the names begin with, None where there is none."""
    found = list(names)
    for prefix in WRAPPERS:
        if found and all(isinstance(name, str) and name.startswith(prefix) for name in found):
            return prefix
    return None
