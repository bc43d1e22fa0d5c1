"""An exported graph as a native program: each operation by one entry of a table (`mambasdk.lowering.aten`)."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mambasdk.errors import LoweringError
from mambasdk.lowering import table
from mambasdk.lowering.exported import ExportedModel, export_model, without_torch_notes
from mambasdk.lowering.extents import Extent, extent_of, extent_text, is_same
from mambasdk.lowering.operand import Operand, regrouped
from mambasdk.lowering.passes import drop_idle_states, simplify
from mambasdk.lowering.passes.graphs import is_random
from mambasdk.lowering.places import place_of_node
from mambasdk.lowering.program import Program, Value
from mambasdk.lowering.signature import Signature, registered_signatures

_WHERE = "native program"
_MOST_DECOMPOSITIONS = 8  # parts of parts of …
_INPUTS = ("f32", "f64", "bf16", "f16", "i32", "i64", "bool")
_COPIES = (torch.ops.aten.clone.default, torch.ops.aten.contiguous.default, torch.ops.aten.alias.default)
_NUMBERS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg, operator.truediv)


def program_of_graph(
    model: torch.nn.Module, storage: dict[str, str] | None = None, products: str | None = None
) -> Program:
    """Export `model` and write its graph as a native program.

    storage, products: as of Program. Raises LoweringError that names the first operation that the native engine lacks,
    with the module and the line that call it.
    """
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in [*model.parameters(), *model.buffers()]):
        model = copy.deepcopy(model).float()  # as the engine computes
    return Graph(export_model(model), storage, products).lower()


class Graph:
    """A graph on its way into a program; what entries of the table work with.

    node: the one that is being written.
    """

    def __init__(
        self, exported: ExportedModel, storage: dict[str, str] | None = None, products: str | None = None
    ) -> None:
        self.exported = exported
        self.program = Program(storage, products)
        self._same = _same_symbols(exported.symbols)
        self.node: Any = next(iter(exported.program.graph.nodes))
        self._storage = dict(storage or {})
        self._operands: dict[fx.Node, Any] = {}
        self._scalars: dict[float, Operand] = {}
        self._numbers: dict[Value, Value] = {}
        self._indices: dict[Value, Value] = {}
        self._flatter: dict[Value, Operand] = {}  # what a view that changes nothing but extents of 1 is a view of
        self._packed: dict[Operand, Value] = {}
        self._appends: dict[fx.Node, dict[str, Any]] = {}  # what makes the next value of a state that grows
        self._signatures = registered_signatures()

    # ---- what entries use ----

    @property
    def shape(self) -> tuple[Extent, ...]:
        """Extents of the node's result."""
        return self.shape_of(self.node.meta["val"])

    def shape_of(self, tensor: Tensor) -> tuple[Extent, ...]:
        """Extents of a traced tensor."""
        return tuple(self._extent(size) for size in tensor.shape)

    def _extent(self, size: int | torch.SymInt) -> Extent:
        """Torch has a symbol for each free dim; those of one name are one."""
        extent = extent_of(size)
        return extent if isinstance(extent, int) or not self._same else extent.subs(self._same)

    def text(self, extent: Extent) -> int | str:
        """An extent as the program writes it."""
        return extent_text(extent, self.exported.symbols)

    def texts(self, extents: Sequence[Extent]) -> list[int | str]:
        """Several of them."""
        return [self.text(extent) for extent in extents]

    def operand(self, value: Value, shape: Sequence[Extent], order: Sequence[int] = (), dtype: str = "f32") -> Operand:
        """A dense result."""
        return Operand(value, tuple(shape), tuple(order), dtype=dtype)

    def signature(self, op: str) -> Signature:
        """The operation's arguments and outputs."""
        if op not in self._signatures:
            raise LoweringError(f"this mambasdk has no operation {op!r}")
        return self._signatures[op]

    def op(self, op: str, **arguments: Any) -> Value:
        """The first output of an operation."""
        return self.ops(op, [next(iter(self.signature(op).outputs))], **arguments)[0]

    def ops(self, op: str, outputs: Sequence[str], **arguments: Any) -> list[Value]:
        """The outputs asked for, in their order. Values are those of operands, in the order of the graph."""
        kinds = self.signature(op).types
        given = {name: self._argument(argument, kinds.get(name, "")) for name, argument in arguments.items()}
        found = self.program.op(op, outputs=list(outputs), **given)
        return [found] if isinstance(found, Value) else list(found)

    def _argument(self, argument: Any, kind: str) -> Any:
        if isinstance(argument, Operand):
            # Activations are float32; only what is declared for weights may be stored in fewer bits.
            return self.plain(self.floats(argument) if kind in ("T", "R", "Z", "acc") else argument)
        return self.text(argument) if _is_expression(argument) else argument

    def plain(self, x: Operand) -> Value:
        """The value in the order of the graph."""
        return self.arranged(x, range(x.ndim))

    def arranged(self, x: Operand, dims: Sequence[int]) -> Value:
        """The value with the graph's dims in the order `dims`."""
        places = [x.order[d] for d in dims]
        return x.value if places == list(range(x.ndim)) else self.program.permute(x.value, places)

    def floats(self, x: Operand) -> Operand:
        """The operand in float32."""
        if x.dtype == "f32":
            return x
        if x.value not in self._numbers:
            narrow = self.indices(x) if x.dtype == "i64" else x
            widening = {"i32": "from_indices", "bool": "from_mask"}.get(narrow.dtype, "widen")
            self._numbers[x.value] = self.op(widening, x=narrow.value)
        return Operand(self._numbers[x.value], x.shape, x.order)

    def indices(self, x: Operand) -> Operand:
        """The operand as i32."""
        if x.dtype == "i32":
            return x
        if x.value not in self._indices:
            narrow, source = ("narrow_indices", x) if x.dtype == "i64" else ("to_indices", self.floats(x))
            self._indices[x.value] = self.op(narrow, x=source.value)
        return Operand(self._indices[x.value], x.shape, x.order, dtype="i32")

    def number(self, value: float) -> Operand:
        """A constant without dims."""
        if value not in self._scalars:
            name = f"constants.{len(self.program.constants)}"
            tensor = torch.tensor(float(value), dtype=torch.float32)
            self._scalars[value] = Operand(self.program.constant(name, tensor), ())
        return self._scalars[value]

    def extent(self, extent: Extent) -> Operand | float:
        """An extent as a number among tensors: where it is free, a count of ones."""
        if isinstance(extent, int):
            return float(extent)
        ones = self.expand(self.number(1.0), (extent, 1))
        return self.reshape(Operand(self.op("sum_rows", x=ones), (1,)), ())

    def constant(self, tensor: Tensor) -> Operand:
        """A tensor that is no weight, in float32, or i32 where it holds integers."""
        integers = not tensor.is_floating_point() and tensor.dtype != torch.bool
        wanted = torch.int32 if integers else torch.float32
        if integers and not torch.equal(tensor.to(wanted).to(tensor.dtype), tensor):
            raise LoweringError("a constant beyond 32 bits")
        name = f"constants.{len(self.program.constants)}"
        value = self.program.constant(name, tensor.detach().to(wanted).contiguous().clone())
        return Operand(value, tuple(tensor.shape), dtype="i32" if integers else "f32")

    def packed(self, weight: Operand) -> Value:
        """A matrix of weights (O, K) in the layout of products, once for all that read it."""
        if weight not in self._packed:
            self._packed[weight] = self.op("pack_weights", weight=weight)
        return self._packed[weight]

    def tensor(self, x: Operand | Extent) -> Operand:
        """The operand, the number or the extent in float32."""
        x = self.extent(x) if _is_expression(x) and not isinstance(x, Operand) else x
        return self.floats(x) if isinstance(x, Operand) else self.number(float(x))

    def reshape(self, x: Operand, shape: Sequence[Extent]) -> Operand:
        """The operand as the graph sees it in another shape; copied where it does not lie in memory that way."""
        if len(shape) == x.ndim and all(is_same(a, b) for a, b in zip(shape, x.shape, strict=True)):
            return x
        found = regrouped(x, shape)
        if found is None:
            x = self.copied(x)
            found = regrouped(x, shape)
        stored, order, breaks = found if found is not None else (list(shape), tuple(range(len(shape))), frozenset())
        made = Operand(self.program.reshape(x.value, self.texts(stored)), tuple(shape), order, breaks, x.dtype)
        if [e for e in shape if e != 1] == [e for e in x.shape if e != 1]:
            self._flatter[made.value] = x
        return made

    def copied(self, x: Operand) -> Operand:
        """The operand, dense in the order of the graph."""
        copy = "copy_indices" if x.dtype == "i32" else "copy"
        return Operand(self.op(copy, x=self.plain(x)), x.shape, dtype=x.dtype)

    def expand(self, x: Operand, shape: Sequence[Extent]) -> Operand:
        """The operand repeated to `shape` as broadcasting does."""
        missing = len(shape) - x.ndim
        if missing:
            x = self.reshape(x, [1] * missing + list(x.shape))
        repeated = {x.order[i] for i in range(x.ndim) if not is_same(x.shape[i], shape[i])}
        if not repeated:
            return x
        stored: list[Extent] = [0] * x.ndim
        for i, extent in enumerate(shape):
            stored[x.order[i]] = extent
        value = self.program.expand(x.value, self.texts(stored))
        return Operand(value, tuple(shape), x.order, x.breaks | repeated | {d + 1 for d in repeated}, x.dtype)

    def slice(self, x: Operand, dim: int, start: Extent, length: Extent, step: int = 1) -> Operand:
        """`length` entries from `start` on, every `step`th."""
        dim = x.dim(dim)
        if step == 1 and is_same(length, x.shape[dim]):
            return x
        place = x.order[dim]
        value = self.program.slice(x.value, place, self.text(start), self.text(length), step)
        shape = (*x.shape[:dim], length, *x.shape[dim + 1 :])
        breaks = x.breaks | ({place} if place else set()) | ({place + 1} if step > 1 else set())
        return Operand(value, shape, x.order, breaks, x.dtype)

    # ---- the walk over the graph ----

    def lower(self) -> Program:
        """The whole program."""
        exported = self.exported
        with without_torch_notes():
            decomposed = _decomposed(exported.program)
        module = decomposed.graph_module
        live = drop_idle_states(module.graph, len(exported.inputs), len(exported.outputs), len(exported.states))
        exported.states = [port for port, is_live in zip(exported.states, live, strict=True) if is_live]
        # A model that keeps a state runs token by token: its weights are read as they lie in the file.
        module = simplify(module, dense_layers=not exported.states)
        self._define_inputs(decomposed, module.graph)
        self._find_appends(module.graph)
        for node in module.graph.nodes:
            if node.op == "call_function":
                self._operands[node] = self._lower(node)
        [output] = [node for node in module.graph.nodes if node.op == "output"]
        results = [self._operands[node] for node in output.args[0]]
        for port, x in zip(exported.outputs, results, strict=False):
            value = self._result(port, x)
            self.program.output(port["name"], value, port["dtype"], port["shape"])
        for port, x in zip(exported.states, results[len(exported.outputs) :], strict=True):
            if "grows" not in port:
                self._store(port, x)
        return self.program

    def _define_inputs(self, decomposed: torch.export.ExportedProgram, graph: fx.Graph) -> None:
        signature = decomposed.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        ports = iter(
            [*((port, False) for port in self.exported.inputs), *((port, True) for port in self.exported.states)]
        )
        constants = {**signature.inputs_to_lifted_tensor_constants}
        aliases = self.exported.aliases
        for node in graph.nodes:
            if node.op != "placeholder":
                continue
            shape = self.shape_of(node.meta["val"])
            if (name := stored.get(node.name)) is not None and name not in decomposed.constants:
                name = name.removeprefix("model.")
                name = aliases.get(name, name)
                self._operands[node] = Operand(self.program.weight(name), shape, dtype=self._storage.get(name, "f32"))
            elif name is not None or node.name in constants:
                self._operands[node] = self.constant(decomposed.constants[name or constants[node.name]])
            else:
                port, is_state = next(ports)
                _check_port(port, is_state)
                self._operands[node] = self._argument_of(port, is_state, shape)

    def _argument_of(self, port: dict[str, Any], is_state: bool, shape: tuple[Extent, ...]) -> Operand:
        name, dtype, extents = port["name"], port["dtype"], port["shape"]
        if not is_state:
            return Operand(self.program.input(name, dtype, extents), shape, dtype=dtype)
        grows = port.get("grows")
        value = self.program.state(name, dtype, extents, grows=grows)
        return Operand(value, shape, breaks=_row_breaks(grows, len(shape)), dtype=dtype)

    def _find_appends(self, graph: fx.Graph) -> None:
        """The concatenations that are states after the call: of what the state held and what comes behind."""
        states = self.exported.states
        [output] = [node for node in graph.nodes if node.op == "output"]
        taken = [node for node in graph.nodes if node.op == "placeholder"]
        held = taken[len(taken) - len(states) :]
        for port, old, result in zip(states, held, output.args[0][len(self.exported.outputs) :], strict=True):
            if "grows" not in port:
                continue
            node = _uncopied(result)
            arguments: list[Any] = list(node.args) if node.target is torch.ops.aten.cat.default else [[]]
            parts, dim = arguments[0], arguments[1] if len(arguments) > 1 else 0
            if len(parts) != 2 or parts[0] is not old or dim % len(port["shape"]) != port["grows"]:
                raise LoweringError(
                    f"state {port['name']} grows along dim {port['grows']}, and its next value is no concatenation",
                    where=_WHERE,
                    way_out=f"native_step returns torch.cat([old, new], {port['grows']}) for it",
                )
            self._appends[node] = port

    def _append(self, node: fx.Node, port: dict[str, Any]) -> Operand:
        parts: Any = node.args[0]
        old, new = (self._operands[part] for part in parts)
        value = self.program.append(old.value, self.plain(self.floats(new)))
        shape = self.shape_of(node.meta["val"])
        return Operand(value, shape, breaks=_row_breaks(port["grows"], len(shape)))

    def _lower(self, node: fx.Node) -> Any:
        if _is_read_from_tensor(node):
            raise _lacking(node)
        if node.target in _NUMBERS or not _has_tensor(node.meta.get("val")):
            return None  # a number of the graph, which `meta` knows, or a check
        if node.target is operator.getitem:
            source: Any = node.args[0]
            return self._operands[source][node.args[1]]
        self.node = node
        if (port := self._appends.get(node)) is not None:
            return self._append(node, port)
        entry = table.find(node.target)
        if entry is None:
            raise _lacking(node)
        try:
            return entry(self, *self._read(list(node.args)), **self._read(dict(node.kwargs)))
        except Exception as error:  # of a plugin's entry too: whatever it is, the place belongs to it
            raise LoweringError(
                f"{_name(node)}{place_of_node(node)}: {error}", where=_WHERE, got=_shapes(node)
            ) from error

    def _read(self, argument: Any) -> Any:
        """Arguments of a node: operands, extents, numbers."""
        if isinstance(argument, fx.Node):
            if (found := self._operands.get(argument)) is not None:
                return found
            value = argument.meta.get("val")
            if isinstance(value, (torch.SymFloat, torch.SymBool)):
                raise LoweringError(
                    f"a number that is computed from extents that are free: {value}",
                    way_out="extents that may not vary are numbers in input_shapes()",
                )
            return self._extent(value) if isinstance(value, (int, torch.SymInt)) else value
        if isinstance(argument, dict):
            return {name: self._read(value) for name, value in argument.items()}
        if isinstance(argument, (list, tuple)):
            return [self._read(value) for value in argument]
        return argument

    def _result(self, port: dict[str, Any], x: Operand) -> Value:
        """An output: dense, float32 or, of integers, i32, which its port then says."""
        port["dtype"] = "i32" if port["dtype"] in ("i32", "i64") else "f32"
        x = self.indices(x) if port["dtype"] == "i32" else self.floats(x)
        if x.order != tuple(range(x.ndim)) or x.breaks or x.value.reference[0] != "%":
            x = self.copied(x)
        return x.value

    def _store(self, port: dict[str, Any], x: Operand) -> None:
        """The next value of a state: by the operation that makes it, else by a copy."""
        source = self._flatter.get(x.value)
        if source is not None and self.program.forget_view(x.value):
            x = source  # a state is written whatever extents of 1 it is seen with
        plain = x.order == tuple(range(x.ndim)) and not x.breaks
        if not (plain and self.program.write_to_state(x.value, port["name"])):
            self.program.op("copy", outputs=[], into={"y": Value(f"${port['name']}")}, x=self.plain(x))


def _decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The graph in torch's largest operations; those without an entry in their parts, where torch knows such."""
    program = program.run_decompositions({})
    parts = torch.export.default_decompositions()
    tried: set[Any] = set()
    for _ in range(_MOST_DECOMPOSITIONS):
        lacking = {node.target for node in program.graph.nodes if _needs_entry(node) and not table.find(node.target)}
        lacking = {target for target in lacking if not is_random(target)}  # no part of one has an entry
        known = {target: parts[target] for target in lacking - tried if target in parts}
        if not known:
            break
        tried |= set(known)
        taken_apart = program.run_decompositions(known)
        if taken_apart.graph_signature.input_tokens:
            break  # into parts with an effect: the whole is what the engine lacks
        program = taken_apart
    return program


def _needs_entry(node: fx.Node) -> bool:
    """Whether an entry of the table has to write it: what counts extents is left to `meta`."""
    return isinstance(node.target, torch._ops.OpOverload) and _has_tensor(node.meta.get("val"))


def _is_read_from_tensor(node: fx.Node) -> bool:
    """Whether the result is a number that stands in a tensor, as of `item`."""
    return torch.Tag.data_dependent_output in getattr(node.target, "tags", ()) and not _has_tensor(node.meta["val"])


def _lacking(node: fx.Node) -> LoweringError:
    way_out = 'write the model without it, or save it with engine="aoti"'
    if is_random(node.target):
        way_out = "draw its numbers outside of the model, and give them to it as an input"
    return LoweringError(
        f"the native engine has no {_name(node)}{place_of_node(node)}",
        where=_WHERE,
        got=_shapes(node),
        way_out=way_out,
    )


def _uncopied(node: fx.Node) -> fx.Node:
    while node.target in _COPIES:
        [node] = node.all_input_nodes
    return node


def _row_breaks(grows: int | None, ndim: int) -> frozenset[int]:
    """Of a state that grows: in memory a row of the whole batch follows the other."""
    return frozenset() if grows is None else frozenset(d for d in (grows, grows + 1) if d < ndim)


def _same_symbols(symbols: dict[Any, str]) -> dict[Any, Any]:
    """Symbols after the first of a name -> the first."""
    first: dict[str, Any] = {}
    for symbol, name in symbols.items():
        first.setdefault(name, symbol)
    return {symbol: first[name] for symbol, name in symbols.items() if symbol is not first[name]}


def _check_port(port: dict[str, Any], is_state: bool) -> None:
    """Refuse what the engine could not read, before it is met at run time."""
    allowed = ("f32",) if is_state else _INPUTS
    if port["dtype"] not in allowed:
        kind = "state" if is_state else "input"
        raise LoweringError(
            f"{kind} {port['name']}", where=_WHERE, expected=f"one of {', '.join(allowed)}", got=port["dtype"]
        )


def _is_expression(argument: Any) -> bool:
    return not isinstance(argument, (Value, bool, int, float, str, type(None)))


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(_has_tensor(v) for v in value))


def _name(node: fx.Node) -> str:
    return str(node.target)


def _shapes(node: fx.Node) -> str:
    found = []
    for argument in node.all_input_nodes:
        if isinstance(value := argument.meta.get("val"), Tensor):
            found.append(f"{str(value.dtype).removeprefix('torch.')} {tuple(str(size) for size in value.shape)}")
    return ", ".join(found).replace("'", "") or "no tensor"
