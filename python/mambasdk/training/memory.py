"""How much memory and time a training run will take, before it starts. Needs torch."""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambasdk.lowering import as_model, runs_by_name

_TEMPORARIES = 1.3  # of what is kept for backward: what an operation makes and drops
_PROCESS = 300 << 20  # torch itself


@dataclass(frozen=True)
class Estimate:
    """bytes: of weights, gradients, AdamW's moments and of what a step keeps for backward. seconds: of a step.

    None where the model offers nothing to measure by: then `bytes` is the least.
    """

    bytes: int
    seconds: float | None


def parameter_bytes(model: nn.Module) -> int:
    """Weights, and for each that is trained a gradient and AdamW's two moments; on the meta device too."""
    return sum(p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters())


def estimate(model: nn.Module, task: Any, batch: int, *, autocast: bool = False) -> Estimate:
    """Measured by the forward of a few rows in eval mode; neither the model nor any random number changes."""
    fixed = parameter_bytes(model) + _PROCESS
    sample = getattr(task, "sample_inputs", None)
    contract = as_model(model)
    if not runs_by_name(contract):
        return Estimate(fixed, None)
    parameter = next(model.parameters())
    if callable(sample):
        inputs, rows = sample()
    else:
        inputs = contract.example_inputs()
        rows = max(next(iter(inputs.values())).shape[0], 1)
    inputs = {name: tensor.to(parameter.device) for name, tensor in inputs.items()}
    kept, seconds = _forward(model, inputs, autocast)
    per_row = _TEMPORARIES * kept / rows
    return Estimate(fixed + int(per_row * batch), 3 * seconds / rows * batch)  # backward takes about twice as long


def _forward(model: nn.Module, inputs: dict[str, torch.Tensor], autocast: bool) -> tuple[int, float]:
    """(bytes that backward would need, seconds)."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = model.training
    buffers = copy.deepcopy(list(model.buffers()))
    source = as_model(model.eval())
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            for _ in range(2):  # the first call makes what later ones find
                seen.clear()
                start = time.perf_counter()
                with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                    outputs = source.native_outputs(inputs)
                seconds = time.perf_counter() - start
        # The loss keeps its inputs, and backward makes as much again.
        count = sum(seen.values()) + 2 * sum(tensor.numel() * 4 for tensor in outputs.values())
    finally:
        model.train(training)
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
    return count, seconds


def available_memory(device: torch.device) -> int | None:
    """Bytes that a new run can have on the device now; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = [size for size in (_free_of_machine(), _free_of_cgroup()) if size is not None]
    return min(found) if found else None


def _free_of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return None


def _free_of_cgroup() -> int | None:
    """What is left under the limit of a container."""
    root = Path("/sys/fs/cgroup")
    try:
        return int((root / "memory.max").read_text()) - int((root / "memory.current").read_text())
    except (OSError, ValueError):  # no limit, or none that can be read
        return None
