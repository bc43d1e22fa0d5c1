"""Where in a model an operation is called: its module and the line, as errors name them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import fx, nn

_TORCH = str(Path(torch.__file__).parent)


def place_of_node(node: fx.Node) -> str:
    """` in module a.b (file.py:12)` for a node of an exported graph, as far as torch knows."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0].removeprefix("L['self'].").removeprefix("model.") if stack else ""
    lines = [line for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    if not lines:
        return _place(path)
    file, number = lines[-1].split(",")[:2]
    return _place(path, file.strip()[5:].strip(chr(34)), number.strip().removeprefix("line "))


def place_of_error(error: BaseException, model: nn.Module) -> str:
    """The same for what was raised while `model` ran: its innermost module, and the last line outside of torch."""
    names = {id(module): name for name, module in model.named_modules()}
    path, file, number = "", "", 0
    for frame, line in _frames(error):
        if frame.f_code.co_filename.startswith(_TORCH):
            continue
        first = frame.f_code.co_varnames[:1]  # of a method, the object
        if first and id(owner := frame.f_locals.get(first[0])) in names:
            path = names[id(owner)]
        if path:
            file, number = frame.f_code.co_filename, line
    return _place(path, file, number)


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Outermost first; of the error that was there first, where others were made of it."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    yield from traceback.walk_tb(error.__traceback__)


def _place(path: str, file: str = "", number: int | str = 0) -> str:
    line = f" ({Path(file).name}:{number})" if file else ""
    return (f" in module {path}" if path else "") + line
