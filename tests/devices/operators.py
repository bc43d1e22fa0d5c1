"""Script: every operation through torch on the fake device, with its derivative: PLUGIN LIBRARY, TORCH LIBRARY.

Prints what differs from the CPU in a bit, and what was counted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cases
import torch
from counts import FakeDevice

from mambasdk import _core, ops
from mambasdk.ops._library import adapter

LACKS = "gelu_tanh"  # FAKE_DEVICE_LACKS


def _bits(t: torch.Tensor) -> torch.Tensor:
    return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _on(device: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments there, leaves of the graph where a gradient can be asked for, with the strides that they had."""
    out = dict(arguments)
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            there = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device).copy_(value)
            out[name] = there.requires_grad_(value.is_floating_point() or value.is_complex())
    return out


def _results(op: str, arguments: dict[str, Any], device: str, differentiable: bool) -> dict[str, torch.Tensor]:
    """Outputs, and gradients where the operation has a derivative."""
    placed = _on(device, arguments)
    with torch.set_grad_enabled(differentiable):
        made = ops.call(op, **placed)
    outputs = made if isinstance(made, tuple) else (made,)
    results = {f"output {i}": o for i, o in enumerate(outputs)}
    graded = [o for o in outputs if o.requires_grad]
    leaves = {k: v for k, v in placed.items() if isinstance(v, torch.Tensor) and v.requires_grad}
    if differentiable and graded:
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype).to(device) for o in graded]
        found = torch.autograd.grad(graded, list(leaves.values()), grads, allow_unused=True)
        results |= {f"gradient of {k}": g for k, g in zip(leaves, found, strict=True) if g is not None}
    for name, tensor in results.items():
        assert tensor.device == torch.device(device), f"{op}: {name} is on {tensor.device}"
    return results


def _strided(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v.transpose(0, -1).contiguous().transpose(0, -1) if isinstance(v, torch.Tensor) and v.dim() > 1 else v
        for k, v in arguments.items()
    }


def _differences(op: str, arguments: dict[str, Any], what: str, differentiable: bool) -> list[str]:
    expected, actual = (_results(op, arguments, device, differentiable) for device in ("cpu", "fake:1"))
    if expected.keys() != actual.keys():
        return [f"{what}: {sorted(expected)} and {sorted(actual)}"]
    return [f"{what}: {name}" for name in expected if not torch.equal(_bits(expected[name]), _bits(actual[name]))]


def _every_operation(different: list[str]) -> list[str]:
    tried = []
    derived = set(cases.differentiable_ops())
    for op in cases.forward_ops():
        if op == LACKS:
            continue
        for name, types in cases.type_choices(op).items():
            for case in cases.cases(op):
                different += _differences(op, cases.values(case, types), f"{case} {name}", op in derived)
        strided = _strided(cases.values(cases.cases(op)[0], types))
        different += _differences(op, strided, f"{op} strided", op in derived)
        tried.append(op)
    return tried


def _error(function: Any) -> str:
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _errors() -> dict[str, str]:
    x = torch.ones(2, 3)
    far = x.to("fake:0")
    return {
        "no kernel": _error(lambda: ops.call(LACKS, x=far)),
        "mixed": _error(lambda: ops.call("add", x=far, y=x)),
        "two devices": _error(lambda: ops.call("add", x=far, y=x.to("fake:1"))),
        "no reference": _error(lambda: _with_reference(lambda: ops.call("add", x=far, y=far))),
        "shape": _error(lambda: ops.call("add", x=far, y=torch.ones(2, 4).to("fake:0"))),
    }


def _with_reference(function: Any) -> Any:
    with ops.use_reference():
        return function()


def _model(different: list[str]) -> None:
    """A model and its training step: operations on the device between torch's own.

    Torch's products get copies there, which may lie otherwise and are then summed in another order: what differs by
    more than rounding is named.
    """
    import mambasdk

    losses = []
    for device in ("cpu", "fake:0"):
        torch.manual_seed(0)
        model = mambasdk.create_model("mamba", d_model=16, n_layer=2, vocab_size=32).to(device)
        tokens = torch.arange(24).reshape(2, 12).to(device) % 32
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        losses.append({"loss": loss.detach().cpu(), **{n: p.grad.cpu() for n, p in model.named_parameters()}})
    here, there = losses
    for name, expected in here.items():
        if (there[name] - expected).abs().max() > 1e-6 * expected.square().mean().sqrt():
            different.append(f"a training step of mamba: {name}")


def _module() -> ModuleType:
    """What torch asks of a device's Python module."""
    module = ModuleType("torch.fake")
    answers = {"is_available": True, "is_initialized": True, "device_count": 2, "current_device": 0}
    for name, answer in answers.items():
        setattr(module, name, lambda answer=answer: answer)
    module._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    module._lazy_init = lambda: None  # type: ignore[attr-defined]
    return module


def main(plugin: Path, library: Path) -> dict[str, Any]:
    """Compare everything."""
    torch.set_num_threads(1)
    torch.ops.load_library(str(library))
    torch.utils.rename_privateuse1_backend("fake")
    torch._register_device_module("fake", _module())  # type: ignore[no-untyped-call]
    x = torch.ones(2, 3)
    found: dict[str, Any] = {"before": _error(lambda: ops.call("add", x=x.to("fake:0"), y=x.to("fake:0")))}
    _core.load_native_plugin(str(plugin))  # what operators do not hear of until they are called
    device = FakeDevice(plugin)
    found["late"] = ops.call("add", x=x.to("fake:0"), y=x.to("fake:0")).cpu().tolist()
    found["kernels of add"] = adapter.kernels("add")
    different: list[str] = []
    default = torch.accelerator.current_stream(1)
    stream = torch.Stream("fake:1")
    torch.accelerator.set_stream(stream)
    before = device.counts()
    found["operations"] = _every_operation(different)
    after = device.counts()
    found["counts"] = {key: after[key] - before[key] for key in after}
    # A call puts its work on the stream and nobody waits.
    far = torch.ones(4, device="fake:1")
    before = device.counts()
    twice = ops.call("add", x=far, y=far)
    found["waits of a call"] = device.counts()["synchronizations"] - before["synchronizations"]
    found["twice"] = twice.cpu().tolist()
    torch.accelerator.set_stream(default)
    found["errors"] = _errors()
    _model(different)
    return {**found, "different": different}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
