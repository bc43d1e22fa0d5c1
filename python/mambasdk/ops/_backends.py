"""Tensors of a device or a layout that an operation has no kernel for: refused by name, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError, UnsupportedError
from mambasdk.ops._signature import Signature

# The first stands for every backend but nested tensors.
REFUSING_KEYS = ("CompositeExplicitAutograd", "NestedTensorCPU", "NestedTensorCUDA")
# torch's dispatch keys of devices by the library's (DLPack's) number, as in libmambasdk_torch.
DEVICE_KEYS = {1: "CPU", 2: "CUDA", 8: "MPS", 12: "PrivateUse1", 14: "XPU"}


def refusing_kernel(
    op: Any, signature: Signature, refresh: Callable[[], None], kernels: Callable[[], list[str]]
) -> Any:
    """The kernel of every backend that has none of its own.

    One that a plugin brings takes its place. refresh: registers what plugins brought meanwhile. kernels: names of the
    devices that the operation has kernels for.
    """

    def kernel(*args: Any) -> Any:
        before = kernels()
        refresh()
        if kernels() != before:  # only dispatch knows whether it is for these tensors
            return op(*args)
        given = [
            (a.name, value)
            for a, value in zip(signature.inputs, signature.fill(args), strict=True)
            if isinstance(value, torch.Tensor)
        ]
        if not given:
            missing = next(a.name for a in signature.inputs if a.is_tensor and not a.optional)
            raise InvalidArgumentError(f"{missing} is missing", where=signature.name)
        name, tensor = next(((n, t) for n, t in given if not _is_plain(t)), given[0])
        kind, way_out = _kind(tensor)
        raise UnsupportedError(
            f"{name} is {kind}, and there is no kernel for that (there is: {', '.join(before)})",
            where=signature.name,
            way_out=way_out,
        )

    return kernel


def _is_plain(tensor: torch.Tensor) -> bool:
    special = tensor.is_quantized or tensor.is_nested or tensor.layout != torch.strided
    return tensor.device.type == "cpu" and not special


def _kind(tensor: torch.Tensor) -> tuple[str, str]:
    if tensor.is_quantized:
        return "quantised", "call .dequantize() on it"
    if tensor.is_nested:
        return "nested", "pack the sequences into one and give cu_seqlens, or call .to_padded_tensor(0) on it"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}", "call .to_dense() on it"
    return f"on {tensor.device}", "move the tensors to the CPU with .cpu(), or install a plugin with kernels for them"
