"""The public feature files of IEMOCAP and MELD, which are pickles, read without executing any of them.

A pickle is a program: `pickle.load` may call anything. Here it may name only NumPy's arrays and numbers, and what it
gets for these names are plain stand-ins of our own, so nothing of what a file says is called, not even NumPy.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk_multimodal.conversations import Conversation

_WAY_OUT = (
    "read the file where you trust it, and write its arrays as .npy and the rest as JSON (docs/multimodal.md), "
    "or pickle only numpy arrays, dicts, lists, strings and numbers"
)


class _Refused(pickle.UnpicklingError):
    """What a pickle holds that is not read."""


class _Type:
    """A dtype: a name such as "f8", and an order of bytes."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        if not isinstance(name, str) or name[:1] not in "fiubSU" or not name[1:].isdigit():
            raise _Refused(f"an array of dtype {name!r}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise _Refused("a dtype of unknown form")
        self.order = order

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(("<" if self.order == "=" else self.order) + self.name)


class _Array:
    """An array, once its state has come."""

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        fits = isinstance(state, tuple) and len(state) == 5
        if not fits or not isinstance(state[1], tuple) or not isinstance(state[2], _Type):
            raise _Refused("an array of unknown form")
        _, shape, kind, in_columns, data = state
        self.value = _filled(kind, shape, data, "F" if in_columns else "C")


def _filled(kind: _Type, shape: tuple[Any, ...], data: Any, order: Any) -> NDArray[Any]:
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray)) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise _Refused("an array of unknown form")
    dtype, count = kind.dtype(), 1
    for extent in shape:
        count *= extent
    if dtype.itemsize == 0 or count * dtype.itemsize != len(raw):
        raise _Refused("an array whose shape and data differ")
    return np.frombuffer(bytes(raw), dtype).reshape(shape, order=order)


def _array(*_: Any) -> _Array:
    return _Array()


def _buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """An array of protocol 5."""
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise _Refused("an array of unknown form")
    made = _Array()
    made.value = _filled(kind, shape, data, order)
    return made


def _number(kind: Any, data: Any = None) -> Any:
    if not isinstance(kind, _Type):
        raise _Refused("a number of unknown form")
    return _filled(kind, (1,), data, "C")[0].item()


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """What Python 3 writes for bytes in old protocols."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("bytes of unknown form")
    return text.encode("latin1")


def _set(values: Any = ()) -> set[Any]:
    if not isinstance(values, (list, tuple)):
        raise _Refused("a set of unknown form")
    return set(values)


class _Named:
    """What a pickle gets for a name: it can be called, and nothing of it can be changed."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[..., Any]) -> None:
        self._made = made

    def __call__(self, *given: Any) -> Any:
        return self._made(*given)

    def __setstate__(self, _: Any) -> None:
        raise _Refused("a state of a function")


_KNOWN: dict[tuple[str, str], Any] = {
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (("_reconstruct", _array), ("scalar", _number))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _array,  # the class that an array's reconstruction is told
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _Named(_KNOWN[module, name])


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle of NumPy arrays, dicts, lists, tuples, sets, strings and numbers holds.

    Raises InvalidArgumentError, before anything was called, that names whatever else is in it, or what is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_Reader(file, encoding="latin1").load())
    except _Refused as error:
        raise InvalidArgumentError(
            f"the pickle holds {error}, which is not read: a pickle may run any program",
            where=str(path),
            expected="NumPy arrays, dicts, lists, strings and numbers",
            way_out=_WAY_OUT,
        ) from error
    except Exception as error:  # a damaged pickle makes the reader fail in any way
        raise InvalidArgumentError(f"the pickle is damaged: {error!r}", where=str(path)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise _Refused("an array without numbers")
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    if isinstance(value, (str, bytes, int, float, set, type(None))):
        return value
    raise _Refused(f"a {type(value).__name__.lstrip('_').lower()} that stands for nothing")


def read_feature_pickle(path: str | os.PathLike[str], *, text: str = "mean") -> list[Conversation]:
    """The conversations of a public feature file of IEMOCAP or MELD, as MMGCN and M3Net have it.

    That is a tuple: dicts by conversation of ids, speakers and labels, then of features (L, width) by modality, text
    (one or four versions), audio, visual, then of sentences, then the ids of the train and of the test conversations.
    text: "mean" of the versions of text, or "first". Raises InvalidArgumentError.
    """
    parts = read_pickle(path)
    where = str(path)
    if not isinstance(parts, (list, tuple)) or len(parts) < 6 or not all(isinstance(p, dict) for p in parts[:3]):
        raise InvalidArgumentError(
            "no feature file", where=where, expected="a tuple that begins with dicts of ids, speakers and labels"
        )
    _, speakers, labels = parts[:3]
    features = [p for p in parts[3:] if isinstance(p, dict) and p and _is_matrix(next(iter(p.values())))]
    if len(features) not in (3, 6):
        raise InvalidArgumentError(
            f"{len(features)} dicts of features", where=where, expected="3 (text, audio, visual) or 6 (four of text)"
        )
    sentences = next((p for p in parts[3:] if isinstance(p, dict) and p and _is_words(next(iter(p.values())))), {})
    split = [p for p in parts[3:] if isinstance(p, (list, set, tuple)) and not isinstance(p, str)][:2]
    test = set(split[1]) if len(split) == 2 else set()
    made = []
    for name in labels:
        versions = [np.asarray(each[name], np.float32) for each in features[:-2]]
        chosen = versions[0] if text == "first" else np.stack(versions).mean(0, dtype=np.float32)
        audio, visual = (np.asarray(each[name], np.float32) for each in features[-2:])
        values = {"text": chosen, "audio": audio, "visual": visual}
        length = len(labels[name])
        if any(v.ndim != 2 or len(v) != length for v in values.values()) or len(speakers[name]) != length:
            raise InvalidArgumentError(f"conversation {name!r} has parts of different lengths", where=where)
        made.append(
            Conversation(
                str(name),
                values,
                {m: np.ones(length, bool) for m in values},
                _speakers(speakers[name]),
                [str(int(label)) for label in labels[name]],
                split=("test" if name in test else "train") if split else None,
                texts=[str(each) for each in sentences.get(name, ())],
            )
        )
    return made


def _is_matrix(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 2 and value.dtype.kind == "f"
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], (np.ndarray, list))


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], str)


def _speakers(given: Sequence[Any]) -> NDArray[np.int64]:
    """Numbers by who speaks first, of names; one-hot rows as the place of the one."""
    numbers: dict[Any, int] = {}
    found = []
    for said in given:
        if isinstance(said, (list, tuple, np.ndarray)):
            found.append(int(np.argmax(said)))
        elif isinstance(said, (int, np.integer)):
            found.append(int(said))
        else:
            found.append(numbers.setdefault(said, len(numbers)))
    return np.asarray(found, np.int64)
