"""A model as one torch.export graph of named tensors: inputs and states in, outputs and new states out.

What a model offers for it is in `mambasdk.lowering.Model`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from mambasdk.element_types import torch_dtypes
from mambasdk.errors import LoweringError
from mambasdk.lowering.model import Dims, Model, as_model, runs_by_name
from mambasdk.lowering.places import place_of_error
from mambasdk.lowering.recurrent import recurrent_operations

_DTYPES = {dtype: name for name, dtype in torch_dtypes().items()}
_WHERE = "torch.export"
# What torch raises where a trace would have to know the values of tensors.
_VALUES = (GuardOnDataDependentSymNode, DataDependentOutputException, DynamicOutputShapeException)
_PAST = "past"  # the rows that states which grow hold before a call
_TRACED_ROWS = 3


@dataclass
class ExportedModel:
    """The graph, whose arguments are `inputs` then `states` and whose results are `outputs` then `states`.

    Ports are {"name", "dtype", "shape"}; a string in a shape is a dim that is free at run time. A state that grows has
    the dim as "grows" too. constants: tensors of the graph that the model's state dict does not have. aliases: names of
    weights that are another weight. symbols: torch's symbols of the free dims -> their names.
    """

    program: torch.export.ExportedProgram
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    states: list[dict[str, Any]] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    symbols: dict[Any, str] = field(default_factory=dict)


class _Flat(nn.Module):
    """The model with flat arguments. It is called `model` here, so its weights are `model.<name>` in the graph."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], spec: Any, places: Sequence[bool] = ()) -> None:
        super().__init__()
        self.model = model
        self._inputs = list(inputs)
        self._spec = spec
        self._places = list(places)  # of the leaves of a state: whether it is a tensor, or None for what is not kept
        self.outputs: list[str] = []

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model = as_model(self.model)
        count = len(self._inputs)
        inputs = dict(zip(self._inputs, tensors[:count], strict=True))
        if self._spec is None:
            outputs, states = model.native_outputs(inputs), []
        else:
            given = iter(tensors[count:])
            leaves = [next(given) if is_tensor else None for is_tensor in self._places]
            outputs, state = model.native_step(inputs, pytree.tree_unflatten(leaves, self._spec))
            states = [leaf for leaf in pytree.tree_leaves(state) if leaf is not None]
        self.outputs = list(outputs)
        # The engine hands out memory as it lies.
        return tuple(tensor.contiguous() for tensor in (*outputs.values(), *states))


@contextmanager
def without_torch_notes() -> Iterator[None]:
    """Keeps to itself what torch says of its own classes, which no caller of ours can do anything about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"The tensor attributes? .*_flat_weights", category=UserWarning)
        yield


def export_model(model: nn.Module) -> ExportedModel:
    """Trace `model`, whose parameters are on the CPU; raises LoweringError that says what cannot be exported."""
    source = as_model(model)
    if not runs_by_name(source):
        raise LoweringError(
            f"{type(model).__name__} has no example_inputs() and native_outputs()",
            where=_WHERE,
            way_out="mambasdk.nn.Model says what they return",
        )
    inputs = source.example_inputs()
    shapes = _input_shapes(source, inputs)
    batch = next(iter(shapes.values()))[:1]
    names, leaves, spec, places = _states(source, type(model).__name__, inputs, batch)
    flat = _Flat(model.eval(), list(inputs), spec, places)
    with torch.no_grad():  # also for the names of the outputs: what forward sets in a trace is forgotten
        after = flat(*inputs.values(), *leaves)[len(flat.outputs) :]
    growing = [_growing_dim(leaf, new) for leaf, new in zip(leaves, after, strict=True)]
    if any(growing) and any(_PAST in shape for shape in shapes.values()):
        raise LoweringError(f"{_PAST} is the extent of an input, and of states that grow", where=_WHERE)
    leaves = [_with_rows(leaf, dim) for leaf, dim in zip(leaves, growing, strict=True)]
    state_shapes = [_state_shape(batch, *entry) for entry in zip(leaves, growing, strict=True)]
    arguments, argument_shapes = [*inputs.values(), *leaves], [*shapes.values(), *state_shapes]
    program = _trace(flat, arguments, argument_shapes)
    _check_size_one(flat, program, arguments, argument_shapes)
    symbols = _symbols(program, argument_shapes)
    results = [node.meta["val"] for node in program.graph.output_node().args[0]]
    return ExportedModel(
        program,
        inputs=[_port(name, tensor, shapes[name]) for name, tensor in inputs.items()],
        outputs=[
            _port(name, value, [_dim(size, symbols) for size in value.shape])
            for name, value in zip(flat.outputs, results, strict=False)
        ],
        states=[
            _port(name, leaf, shape) | ({"grows": dim} if dim else {})
            for name, leaf, shape, dim in zip(names, leaves, state_shapes, growing, strict=True)
        ],
        constants={_own_name(name): tensor.detach().clone() for name, tensor in program.constants.items()},
        aliases=_aliases(model),
        symbols=symbols,
    )


def _input_shapes(source: Model, inputs: Mapping[str, Tensor]) -> dict[str, Dims]:
    shapes = source.input_shapes()
    if list(shapes) != list(inputs):
        raise LoweringError("input_shapes() and example_inputs() differ", expected=list(inputs), got=list(shapes))
    for name, tensor in inputs.items():
        fits = len(shapes[name]) == tensor.ndim and all(
            isinstance(dim, str) or dim == size for dim, size in zip(shapes[name], tensor.shape, strict=True)
        )
        if not fits:
            raise LoweringError(f"example input {name}", expected=shapes[name], got=tuple(tensor.shape))
    return shapes


def _states(
    source: Model, family: str, inputs: Mapping[str, Tensor], batch: Dims
) -> tuple[list[str], list[Tensor], Any, list[bool]]:
    """Names, zeros and tree of the state, for the example's batch; nothing where the model keeps none.

    Last, which leaves of the tree are tensors: what a layer does not keep is None there.
    """
    size = next(iter(inputs.values())).shape[0]
    state = source.initial_state(size)
    if state is None:
        return [], [], None, []
    entries, spec = pytree.tree_flatten_with_path(state)
    places = [leaf is not None for _, leaf in entries]
    entries = [entry for entry in entries if entry[1] is not None]
    names = [re.sub(r"\W+", ".", pytree.keystr(path)).strip(".") for path, _ in entries]
    leaves = [leaf for _, leaf in entries]
    for name, leaf in zip(names, leaves, strict=True):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or leaf.shape[0] != size or bool(leaf.any()):
            raise LoweringError(
                f"state {name} of {family}",
                where=_WHERE,
                expected=f"zeros whose first dim is the batch ({size})",
                got=tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__,
            )
    if not batch:
        raise LoweringError(f"{family} keeps a state, so its first input must start with the batch", where=_WHERE)
    return names, leaves, spec, places


def _growing_dim(leaf: Tensor, after: Tensor) -> int | None:
    """The dim along which a state grows: the one that is empty at first, and is not after a call."""
    empty = [dim for dim, extent in enumerate(leaf.shape) if extent == 0]
    return empty[0] if len(empty) == 1 and empty[0] > 0 and after.shape[empty[0]] > 0 else None


def _with_rows(leaf: Tensor, dim: int | None) -> Tensor:
    """A state as it is traced: with some rows, since torch takes a dim of 0 or 1 for a fixed one."""
    if dim is None:
        return leaf
    return leaf.new_zeros([*leaf.shape[:dim], _TRACED_ROWS, *leaf.shape[dim + 1 :]])


def _state_shape(batch: Dims, leaf: Tensor, growing: int | None) -> Dims:
    shape: Dims = [*batch, *leaf.shape[1:]]
    if growing is not None:
        shape[growing] = _PAST
    return shape


def _trace(flat: _Flat, arguments: Sequence[Tensor], shapes: Sequence[Dims]) -> torch.export.ExportedProgram:
    free = torch.export.Dim.DYNAMIC
    dynamic = tuple({i: free for i, dim in enumerate(shape) if isinstance(dim, str)} for shape in shapes)
    try:
        with torch.no_grad(), recurrent_operations(), without_torch_notes():
            return torch.export.export(flat, tuple(arguments), dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:  # torch raises a dozen kinds
        place = place_of_error(error, flat.model)
        if isinstance(error, _VALUES):
            raise LoweringError(
                f"{type(flat.model).__name__} cannot be exported: a number or a branch depends on the values of tensors"
                f"{place}",
                where=_WHERE,
                got=str(error).split(" (unhinted")[0],
                way_out="sizes and branches may depend on the shapes of the inputs alone; torch.where takes both sides",
            ) from error
        reason = " ".join(str(error).split())
        raise LoweringError(
            f"{type(flat.model).__name__} cannot be exported{place}: {reason[:1500]}",
            where=_WHERE,
            way_out="dims that may not vary are numbers in input_shapes()",
        ) from error


def _check_size_one(
    flat: _Flat, program: torch.export.ExportedProgram, arguments: Sequence[Tensor], shapes: Sequence[Dims]
) -> None:
    """Torch traces a free dim as if it were two or more; a stream's step is one. Where the model takes that, so must
    the graph. Only results count: the least sizes that torch notes follow from strides of dims that it took for two or
    more, and the compiled code does not look at them.
    """
    ones = []
    for tensor, shape in zip(arguments, shapes, strict=True):
        one = tensor
        for index, dim in enumerate(shape):
            one = one.narrow(index, 0, 1) if isinstance(dim, str) else one
        ones.append(one.contiguous())
    with torch.no_grad():
        try:
            expected = _same_draws(flat, ones)
        except Exception:  # the model itself does not take it
            return
        try:
            module = program.module(check_guards=False)
            module._forward_pre_hooks.clear()
            found = _same_draws(module, ones)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        except Exception as error:
            raise LoweringError(
                f"the graph of {type(flat.model).__name__} is wrong where the free dims are 1, the model is not",
                where=_WHERE,
                way_out="a dim that is never 1 can be a number in input_shapes()",
            ) from error


def _same_draws(model: Callable[..., Any], arguments: Sequence[Tensor]) -> Any:
    """What it gives when random operations draw the same numbers in every call."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return model(*arguments)


def _symbols(program: torch.export.ExportedProgram, shapes: Sequence[Dims]) -> dict[Any, str]:
    """Torch's symbols of the free dims -> their names; refuses two names for what must be one size."""
    user = [node.meta["val"] for node in program.graph.nodes if node.name in set(program.graph_signature.user_inputs)]
    symbols: dict[Any, str] = {}
    for value, shape in zip(user, shapes, strict=True):
        for size, dim in zip(value.shape, shape, strict=True):
            if isinstance(dim, str) and symbols.setdefault(size.node.expr, dim) != dim:
                raise LoweringError(
                    f"the model needs {symbols[size.node.expr]} and {dim} to be equal",
                    where=_WHERE,
                    way_out="give them one name in input_shapes()",
                )
    return symbols


def _dim(size: Any, symbols: Mapping[Any, str]) -> int | str:
    """A size, the name of a free dim, or an expression of them such as "(H - 1)//2 + 1"."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    text = str(size.node.expr)
    for symbol, name in symbols.items():
        text = re.sub(rf"\b{re.escape(str(symbol))}\b", name, text)
    return text


def _port(name: str, tensor: Tensor, shape: Dims) -> dict[str, Any]:
    if tensor.dtype not in _DTYPES:
        known = ", ".join(_DTYPES.values())
        raise LoweringError(f"{name} is {tensor.dtype}", where=_WHERE, expected=f"one of {known}")
    return {"name": name, "dtype": _DTYPES[tensor.dtype], "shape": shape}


def _own_name(name: str) -> str:
    return name.removeprefix("model.")


def _aliases(model: nn.Module) -> dict[str, str]:
    """Names of tied parameters -> the name under which the value is stored, the first."""
    first: dict[int, str] = {}
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if (owner := first.setdefault(id(tensor), name)) != name:
            found[name] = owner
    return found
