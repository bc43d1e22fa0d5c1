"""Who runs a model. Each engine prepares files once, and opens them without whatever it does not need.

An opened model is a function without arguments that gives the output as an array; where it decodes, it carries its
state from call to call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .workloads import Workload

OURS, ONNX, EAGER, COMPILED = "mambasdk", "onnxruntime", "eager", "torch.compile"
ENGINES = (OURS, ONNX, EAGER, COMPILED)
Run = Callable[[], Any]


def prepare(engine: str, workload: Workload, folder: Path) -> None:
    """Write what `open_model` reads. Its inputs are there for all."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    inputs = workload.inputs()
    np.savez(folder / "inputs.npz", **{name: tensor.numpy() for name, tensor in inputs.items()})
    (folder / "decode").write_text("1" if workload.decode else "")
    (folder / "output").write_text(workload.output)
    if engine == OURS:
        from mambasdk.package import save_package

        dtype = None if workload.dtype == "float32" else workload.dtype
        save_package(workload.module(), folder / "package", engine="native", dtype=dtype, golden=False, overwrite=True)
    elif engine == ONNX:
        module = workload.module().net
        with torch.no_grad():
            torch.onnx.export(
                module, tuple(inputs.values()), str(folder / "model.onnx"), dynamo=True, external_data=False,
                optimize=True, verbose=False,
            )  # fmt: skip
    else:
        torch.save(workload.module(), folder / "module.pt")


def imports(engine: str) -> None:
    """What the engine is made of, so that its memory and time can be told from the model's."""
    if engine == OURS:
        import mambasdk.runtime  # noqa: F401
    elif engine == ONNX:
        import onnxruntime  # noqa: F401
    else:
        from . import workloads  # noqa: F401  (torch, and the classes that are unpickled)


def open_model(engine: str, folder: Path, threads: int) -> Run:
    """The model, ready to be called."""
    with np.load(folder / "inputs.npz") as stored:
        inputs = {name: stored[name] for name in stored.files}
    output = (folder / "output").read_text()
    if engine == OURS:
        return _ours(folder, inputs, output, threads)
    if engine == ONNX:
        return _onnx(folder, inputs, output, threads)
    return _torch(folder, inputs, output, threads, compiled=engine == COMPILED)


def _ours(folder: Path, inputs: dict[str, Any], output: str, threads: int) -> Run:
    from mambasdk import runtime

    runtime.set_num_threads(threads)
    session = runtime.load_package(folder / "package").session()
    decodes = (folder / "decode").read_text() != ""

    def once() -> Any:
        if not decodes:
            session.reset()  # a model that keeps a state starts anew
        return session.run(inputs, [output])[output]

    return once


def _onnx(folder: Path, inputs: dict[str, Any], output: str, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    given = dict(zip((port.name for port in session.get_inputs()), inputs.values(), strict=True))
    index = int(output[1:] or 0)  # "y", or "y0", "y1", …
    return lambda: session.run(None, given)[index]


def _torch(folder: Path, inputs: dict[str, Any], output: str, threads: int, *, compiled: bool) -> Run:
    import torch

    torch.set_num_threads(threads)
    module = torch.load(folder / "module.pt", weights_only=False)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    if (folder / "decode").read_text():
        held = [None]

        def step() -> Any:
            with torch.inference_mode():
                out = module(tensors["tokens"], held[0])
                held[0] = out.state
                return out.logits[:, -1, : module.vocab_size].float().numpy()

        return step

    call = module.native_outputs
    if hasattr(module, "backbone"):  # a language model: only the last token goes through the head

        def call(given: dict[str, Any]) -> dict[str, Any]:
            out = module(given["tokens"], return_state=False, logits_to_keep=1)
            return {"last_logits": out.logits[:, -1, : module.vocab_size].float()}

    run = torch.compile(call, dynamic=False) if compiled else call

    def once() -> Any:
        with torch.inference_mode():
            return run(tensors)[output].numpy()

    return once


def environment(threads: int) -> dict[str, str]:
    """Of a process that runs one engine: the same number of threads for all, and torch's defaults for the rest."""
    dropped = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"OMP_NUM_THREADS": str(threads), "MAMBASDK_NUM_THREADS": str(threads)}
