"""The contract of a model: what a family's module answers so that it can be packaged, exported and run by name.

Imports no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mambasdk.errors import InvalidArgumentError, LoweringError
from mambasdk.lowering.program import Program

if TYPE_CHECKING:
    from torch import Tensor, nn

Dims = list[int | str]


@runtime_checkable
class Model(Protocol):
    """What the SDK asks of a family's module. Inherit from it beside `torch.nn.Module`: `class Net(nn.Module, Model)`.

    Required are `example_inputs` and `native_outputs`; the other members have the answer of a model with nothing
    special: no state, a fixed size, no native program of its own, the family's head and processors.
    Inputs and outputs are tensors by name. Names that heads know: `logits` (B, C), and `features` for what the last
    layer sees; `p2`, `p3`, … for maps of stride 4, 8, …
    """

    mambasdk_identity: Any = None
    """Family, variant and configuration; the registry sets it. Read it with `mambasdk.models.identity`."""
    vocab_size: int | None = None
    """Token ids are below it; None for a model that takes no tokens."""
    feature_outputs: tuple[str, ...] = ()
    """The outputs that are features for other uses, not results: ("features",), ("p2", "p3", "p4", "p5")."""

    def example_inputs(self) -> dict[str, Tensor]:
        """Inputs of the size that the model was built for, the same on every machine; batch 2 where there is a batch.

        They name the inputs, and a package's golden file is made from them.
        """

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, as every engine gives them."""

    def input_shapes(self) -> dict[str, Dims]:
        """Shapes of the inputs, in the order of `example_inputs`; a string names an extent that is free at run time.

        Extents of one name are equal. Default: the first extent is the batch `B`, the others are fixed.
        """
        return {name: ["B", *tensor.shape[1:]] for name, tensor in self.example_inputs().items()}

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first call: zeros, in any structure of tensors that start with the batch.

        A tensor with one extent of 0 grows there, as a cache of keys (B, 0, H, E): `native_step` answers
        `torch.cat([old, new], dim)` of it. The engine keeps such rows in place.
        Default: None, for a model that keeps no state.
        """
        return None

    def native_step(self, inputs: dict[str, Tensor], state: Any) -> tuple[dict[str, Tensor], Any]:
        """`native_outputs` of inputs that continue `state`, and the state after them."""
        if state is not None:
            raise LoweringError(
                f"{type(self).__name__} keeps a state that it does not hand over: it has initial_state() but no "
                "native_step()",
                way_out="give it native_step(inputs, state) -> (outputs, state)",
            )
        return self.native_outputs(inputs), None

    def lower(self, program: Program) -> Any:
        """Write the model as a native program. Default: NotImplemented; the program is the exported graph's."""
        return NotImplemented

    @property
    def package_head(self) -> str | None:
        """Name of the head of this model's packages, None for none. Default: the family's."""
        return None if self.mambasdk_identity is None else self.mambasdk_identity.head

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """The manifest's `processors` for packages of this model. Default: the family's."""
        return {} if self.mambasdk_identity is None else self.mambasdk_identity.processors

    def package_head_options(self) -> Mapping[str, Any]:
        """What the head of this model's packages has to know of its outputs; what is given for a package comes on top.

        Default: nothing.
        """
        return {}

    @property
    def classes(self) -> int | None:
        """How many classes the last layer tells apart; None for a model that tells none."""
        return None

    def with_classes(self, count: int) -> nn.Module:
        """The model with a last layer for `count` classes, freshly drawn, and its other weights."""
        raise InvalidArgumentError(f"{type(self).__name__} has no classes that could be others", where="with_classes")

    def resized(self, **extents: tuple[int, ...]) -> nn.Module:
        """The model for inputs of another size, with its weights; what depends on the size is interpolated.

        extents: by input the extents that are sizes, for example `image=(384, 512)`. A model whose extents are free
        may give itself.
        """
        raise InvalidArgumentError(f"{type(self).__name__} keeps the size of its inputs", where="resized")


def as_model(module: nn.Module) -> Model:
    """The module as a Model: itself where it is one, else what it offers of the contract under the same names."""
    return module if isinstance(module, Model) else _Partial(module)


def runs_by_name(model: Model) -> bool:
    """Whether the model has named inputs and outputs, which exports, golden files and pipelines need."""
    return bool(model.example_inputs())


def native_program(
    module: nn.Module, storage: Mapping[str, str] | None = None, products: str | None = None
) -> Program | None:
    """The model's native program: the one that its `lower` writes, else its exported graph's.

    None for a model without named inputs and outputs. Raises LoweringError for what a program cannot say.
    storage, products: as of Program.
    """
    if (own := _own_program(module, storage, products)) is not None:
        return own
    if not runs_by_name(as_model(module)):
        return None
    graph = importlib.import_module("mambasdk.lowering.graph")  # needs torch
    program: Program = graph.program_of_graph(module, storage, products)
    return program


def _own_program(
    module: nn.Module, storage: Mapping[str, str] | None = None, products: str | None = None
) -> Program | None:
    """The program that the model's `lower` writes, None where it has none."""
    program = Program(storage, products)
    return None if as_model(module).lower(program) is NotImplemented else program


class _Partial(Model):
    """A module that does not inherit from Model: what it has of the contract, and defaults for the rest."""

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        self.mambasdk_identity = getattr(module, "mambasdk_identity", None)
        self.vocab_size = getattr(module, "vocab_size", None)

    def _own(self, name: str) -> Any:
        """A method of the module, None where it has none."""
        found = getattr(self._module, name, None)
        return found if callable(found) else None

    def example_inputs(self) -> dict[str, Tensor]:
        """The module's; nothing where it cannot be run by name."""
        examples = self._own("example_inputs")
        if examples is None or self._own("native_outputs") is None:
            return {}
        inputs: dict[str, Tensor] = examples()
        return inputs

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """See Model."""
        outputs: dict[str, Tensor] = self._module.native_outputs(inputs)
        return outputs

    def input_shapes(self) -> dict[str, Dims]:
        """The module's, else those of its native program, else none is free."""
        if (shapes := self._own("input_shapes")) is not None:
            return {name: list(shape) for name, shape in shapes().items()}
        program = _own_program(self._module)
        if program is not None:
            return {port["name"]: list(port["shape"]) for port in program.inputs}
        return {name: list(tensor.shape) for name, tensor in self.example_inputs().items()}

    def initial_state(self, batch_size: int) -> Any:
        """See Model."""
        start = self._own("initial_state")
        return None if start is None else start(batch_size)

    def native_step(self, inputs: dict[str, Tensor], state: Any) -> tuple[dict[str, Tensor], Any]:
        """See Model."""
        step = self._own("native_step")
        if step is None and state is not None:
            raise LoweringError(
                f"{type(self._module).__name__} keeps a state that it does not hand over: it has initial_state() but "
                "no native_step()",
                way_out="give it native_step(inputs, state) -> (outputs, state)",
            )
        return (self.native_outputs(inputs), None) if step is None else step(inputs, state)

    def lower(self, program: Program) -> Any:
        """See Model."""
        lower = self._own("lower")
        return NotImplemented if lower is None else lower(program)

    @property
    def package_head(self) -> str | None:
        """See Model."""
        head: str | None = getattr(self._module, "package_head", super().package_head)
        return head

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """See Model."""
        own = self._own("package_processors")
        processors: Mapping[str, Mapping[str, Any]] = super().package_processors() if own is None else own()
        return processors

    def package_head_options(self) -> Mapping[str, Any]:
        """See Model."""
        own = self._own("package_head_options")
        options: Mapping[str, Any] = {} if own is None else own()
        return options
