"""Operators under `torch.autocast`: tensors that must agree in dtype are brought to the widest one among them.

Nothing is narrowed: an operation whose inputs already agree runs as it is, and arguments in the accumulator's dtype
(decays, biases, states) stay float32 or are widened to it.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

from mambasdk.ops._signature import DTYPES, Signature, accumulator, saved


def autocast_kernel(op: Any, signature: Signature, key: str) -> Any:
    """The kernel of `op` for an autocast key, as `AutocastCPU`."""
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(_: Any, *args: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return op(*_agree(signature, signature.fill(args)))

    return kernel


def _agree(signature: Signature, args: list[Any]) -> list[Any]:
    widest: dict[str, torch.dtype] = {}
    for a, value in zip(signature.inputs, args, strict=True):
        if a.dtype_kind == "variable" and value is not None:
            widest[a.dtype] = reduce(torch.promote_types, (value.dtype,), widest.get(a.dtype, value.dtype))
    # A variable of inputs alone stands beside T (a step, a gate): it may be wider than T, never narrower. One that an
    # output has (a state) is the caller's choice.
    made = {o.dtype for o in signature.outputs if o.dtype_kind == "variable"}
    if "T" in widest:
        widest |= {v: torch.promote_types(t, widest["T"]) for v, t in widest.items() if v not in made}
    out = list(args)
    for i, (a, value) in enumerate(zip(signature.inputs, args, strict=True)):
        if not a.is_tensor or value is None or not (value.is_floating_point() or value.is_complex()):
            continue
        if a.dtype_kind == "variable":
            wanted = widest[a.dtype]
        elif a.dtype_kind == "accumulator":
            wanted = accumulator(widest.get(a.follows, torch.float32))
        elif a.dtype_kind == "saved":
            wanted = saved(widest.get(a.follows, torch.float32))
        else:
            wanted = DTYPES[a.dtype]
        if value.dtype != wanted and wanted.is_floating_point == value.is_floating_point():
            out[i] = value.to(wanted)
    return out
