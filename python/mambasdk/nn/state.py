"""The state of a causal model between calls: batch-first tensors that can be copied, moved, saved and restored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree  # torch.export has no public name for NamedTuples

from mambasdk.atomic import replacing_file
from mambasdk.errors import CheckpointError, InvalidArgumentError

_FORMAT = "mambasdk-state"
_LAYER_STATES: dict[str, type[Any]] = {}
_CACHES: set[type[Any]] = set()
_Class = TypeVar("_Class", bound=type[Any])


def register_layer_state(name: str, *, cache: bool = False) -> Callable[[_Class], _Class]:
    """Class decorator for a mixer's state, a NamedTuple of batch-first tensors; a field may be None.

    `name` identifies it in saved states, and in programs that `torch.export.save` writes. cache: among its fields are
    key and value (B, T, …), which grow by columns, and present (B, T) bool: where a row has a token, None where every
    column is a token of every row.
    """

    def register(cls: _Class) -> _Class:
        if name in _LAYER_STATES:
            if _LAYER_STATES[name] is cls:
                return cls
            raise InvalidArgumentError(f"layer state {name!r} is already registered by {_LAYER_STATES[name].__name__}")
        _LAYER_STATES[name] = cls
        if cache:
            _CACHES.add(cls)
        # An exported program keeps its example inputs, which torch reads back without running code.
        torch.serialization.add_safe_globals([cls])
        _pytree._register_namedtuple(cls, serialized_type_name=f"mambasdk.layer_state.{name}")
        return cls

    return register


def map_layer(function: Callable[[Tensor], Tensor], layer: Any) -> Any:
    """A layer's state, or None, with `function` applied to each of its tensors."""
    if layer is None:
        return None
    return type(layer)(*(None if tensor is None else function(tensor) for tensor in layer))


def trimmed(layer: Any) -> Any:
    """A cache without the columns that no row has; tokens stay in their order."""
    if layer.present is None:
        return layer
    columns = layer.present.any(0).nonzero().squeeze(1)
    if columns.numel() < layer.present.shape[1]:
        fields = {name: getattr(layer, name).index_select(1, columns) for name in ("key", "value", "present")}
        layer = layer._replace(**fields)
    return layer._replace(present=None) if bool(layer.present.all()) else layer


def _restarted(layer: Any, kept: Tensor) -> Any:
    """A layer's state at zero in the rows that are not kept (B, bool)."""
    if type(layer) in _CACHES:
        shown = layer.key.new_ones(layer.key.shape[:2], dtype=torch.bool) if layer.present is None else layer.present
        layer = trimmed(layer._replace(present=shown & kept.unsqueeze(1)))
    return map_layer(lambda tensor: tensor * kept.view(-1, *[1] * (tensor.ndim - 1)).to(tensor.dtype), layer)


@register_layer_state("mamba")
class MambaState(NamedTuple):
    """State of one Mamba mixer. conv: the last K-1 inputs of the convolution, oldest first; ssm: the scan's state."""

    conv: Tensor  # (B, K-1, I)
    ssm: Tensor  # (B, I, N) float32


@dataclass
class ModelState:
    """State of a stack: one entry per layer, and how many tokens each sequence has seen.

    layers: NamedTuples of tensors whose first dimension is the batch (None for a layer without a state).
    tokens_seen: (B,) int64.
    """

    layers: list[Any]
    tokens_seen: Tensor

    def __getitem__(self, layer: int) -> Any:
        return self.layers[layer]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    @property
    def batch_size(self) -> int:
        """Number of sequences."""
        return self.tokens_seen.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> ModelState:
        """A state with `function` applied to every tensor."""
        return ModelState([map_layer(function, layer) for layer in self.layers], function(self.tokens_seen))

    def detach(self) -> ModelState:
        """The same values, cut from the autograd graph."""
        return self.map(Tensor.detach)

    def clone(self) -> ModelState:
        """A copy that shares no memory, still in the autograd graph."""
        return self.map(Tensor.clone)

    def to(self, device: torch.device | str) -> ModelState:
        """The state on another device. Dtypes are the model's business and stay."""
        return self.map(lambda tensor: tensor.to(device))

    def select(self, rows: Tensor | list[int]) -> ModelState:
        """The state of some sequences, with repeats where wanted: to fan one prefix out, or to reorder beams."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.tokens_seen.device)
        chosen = self.map(lambda tensor: tensor.index_select(0, index))
        layers = [trimmed(layer) if type(layer) in _CACHES else layer for layer in chosen.layers]
        return ModelState(layers, chosen.tokens_seen)

    def restart(self, rows: Tensor) -> ModelState:
        """The state with some rows, (B) bool, as before their first token."""
        kept = ~rows.to(self.tokens_seen.device)
        return ModelState([_restarted(layer, kept) for layer in self.layers], self.tokens_seen * kept)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one safetensors file."""
        names = {cls: name for name, cls in _LAYER_STATES.items()}
        tensors = {"tokens_seen": self.tokens_seen.detach().cpu().contiguous()}
        kinds: list[str | None] = []
        for index, layer in enumerate(self.layers):
            if layer is None:
                kinds.append(None)
                continue
            if type(layer) not in names:
                raise InvalidArgumentError(
                    f"state class {type(layer).__name__} of layer {index} has no name",
                    way_out="decorate it with mambasdk.nn.register_layer_state",
                )
            kinds.append(names[type(layer)])
            for field, tensor in layer._asdict().items():
                if tensor is None:
                    continue
                # A view would be refused where two fields share memory.
                tensors[f"layers.{index}.{field}"] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        with replacing_file(path) as partial:
            save_file(tensors, partial, metadata={"format": _FORMAT, "version": "1", "layers": json.dumps(kinds)})

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> ModelState:
        """Read what `save` wrote; raises CheckpointError when the file is damaged or something else."""
        where = str(path)
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT or metadata.get("version") != "1":
                    raise CheckpointError("not a saved model state of version 1", where=where)
                kinds = json.loads(metadata["layers"])
                there = set(file.keys())
                layers: list[Any] = []
                for index, kind in enumerate(kinds):
                    if kind is not None and kind not in _LAYER_STATES:
                        raise CheckpointError(
                            f"layer {index} has a state of kind {kind!r}, which nothing registers",
                            where=where,
                            way_out="import the plugin that defines it first",
                        )
                    layers.append(
                        None
                        if kind is None
                        else _LAYER_STATES[kind](*_fields(file, there, f"layers.{index}.", _LAYER_STATES[kind]))
                    )
                return cls(layers, file.get_tensor("tokens_seen"))
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"cannot be read as a model state: {error}", where=where) from error


def _fields(file: Any, there: set[str], prefix: str, cls: Any) -> Iterator[Tensor | None]:
    """The fields of a layer's state in a file; one that may be None is where the file has no tensor of it."""
    for field in cls._fields:
        optional = field in cls._field_defaults and cls._field_defaults[field] is None
        yield None if optional and prefix + field not in there else file.get_tensor(prefix + field)


torch.serialization.add_safe_globals([ModelState])
torch.export.register_dataclass(ModelState, serialized_type_name="mambasdk.nn.ModelState")
