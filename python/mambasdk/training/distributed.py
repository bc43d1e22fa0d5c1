"""Training in several processes (`torchrun -m mambasdk train …`). Torch is imported only by what needs it.

Every process computes the rows of its rank; gradients are averaged by units, so that a run of n processes is a run of
one with the n-fold batch but for rounding. Rank 0 evaluates and writes.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def _group() -> Any:
    """torch.distributed where a process group is running, else None."""
    if "torch" not in sys.modules:
        return None
    distributed: Any = importlib.import_module("torch.distributed")
    return distributed if distributed.is_available() and distributed.is_initialized() else None


def rank() -> int:
    """The number of this process, 0 where there is only one."""
    group = _group()
    return int(group.get_rank()) if group else 0


def world_size() -> int:
    """How many processes train together."""
    group = _group()
    return int(group.get_world_size()) if group else 1


def launched() -> bool:
    """Whether torchrun (or another launcher that sets its variables) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1) > 1 and "RANK" in os.environ


def reports() -> bool:
    """Whether this process prints the result of a command: not those of rank 1 and above, before and after the run."""
    return rank() == 0 and not (launched() and os.environ["RANK"] != "0")


def start(device: str) -> str:
    """Join the other processes of the launcher; the device of this rank ("cuda" becomes "cuda:LOCAL_RANK")."""
    torch: Any = importlib.import_module("torch")
    kind = device.partition(":")[0]
    if kind == "cuda" and ":" not in device:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if _group() is None:
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return device


def stop() -> None:
    """Leave the process group."""
    if (group := _group()) is not None:
        group.destroy_process_group()


def sum_numbers(values: Sequence[float], device: torch.device) -> list[float]:
    """The sums over all processes, in float64."""
    group = _group()
    if group is None:
        return list(values)
    torch: Any = importlib.import_module("torch")
    total = torch.tensor(values, dtype=torch.float64, device=device)
    group.all_reduce(total)
    return [float(value) for value in total.tolist()]


def average_gradients(parameters: Iterable[nn.Parameter], share: float) -> None:
    """Replace gradients by their sum over all processes, each times the `share` of its process in the step's units.

    A parameter that had a gradient in no process keeps none.
    """
    group = _group()
    if group is None:
        return
    torch: Any = importlib.import_module("torch")
    by_dtype: dict[Any, list[Any]] = {}
    for parameter in parameters:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for several in by_dtype.values():
        first = several[0]
        present = torch.tensor([float(p.grad is not None) for p in several], device=first.device)
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in several]
        flat = torch.cat([piece.flatten() for piece in pieces]) * share
        group.all_reduce(flat)
        group.all_reduce(present)
        parts = flat.split([p.numel() for p in several])
        for parameter, part, count in zip(several, parts, present.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if count else None


def broadcast_model(model: nn.Module) -> None:
    """Parameters and buffers of rank 0 in every process."""
    group = _group()
    if group is None:
        return
    torch: Any = importlib.import_module("torch")
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            whole = tensor.contiguous()
            group.broadcast(whole, 0)
            if whole is not tensor:
                tensor.copy_(whole)


def broadcast_object(value: Any) -> Any:
    """What rank 0 has, in every process: plain values."""
    group = _group()
    if group is None:
        return value
    box = [value]
    group.broadcast_object_list(box, 0)
    return box[0]
