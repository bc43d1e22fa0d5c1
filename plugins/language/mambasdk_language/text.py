"""Text processors: from a string to token ids and back to bytes. Imports no torch.

`tokenizer.json` is read by the runtime's own tokenizer, the one that C and C++ programs use.
"""

from __future__ import annotations

import codecs
import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mambasdk.errors import InvalidArgumentError, MissingDependencyError


class TokenDecoder(Protocol):
    """Text out of tokens as they come, whole characters only."""

    def push(self, token: int) -> str:
        """The text that is complete with this token; may be empty."""

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""


class TextProcessor(Protocol):
    """What generation and training need of a text processor.

    vocab_size: ids are below it. eos_token_id: ends a generation, None where there is none.
    """

    vocab_size: int
    eos_token_id: int | None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with the special tokens that the tokenizer itself adds."""

    def decoder(self, prompt: Sequence[int] = ()) -> TokenDecoder:
        """Turns the tokens that follow a prompt into text, one by one."""

    def manifest_entry(self) -> dict[str, Any]:
        """The entry `processors.text` of a package that uses this processor."""


class ByteDecoder:
    """A TokenDecoder of bytes; those that are no UTF-8 become U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """See TokenDecoder."""
        return self._decoder.decode(bytes((token,)) if token < 256 else b"")

    def finish(self) -> str:
        """See TokenDecoder."""
        return self._decoder.decode(b"", final=True)


class TokenizerDecoder:
    """A TokenDecoder over a tokenizer of the runtime: its own stream decoder, as the native engine uses it."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._stream = native_module("a tokenizer").TextStream(tokenizer, continues=bool(prompt))

    def push(self, token: int) -> str:
        """See TokenDecoder."""
        text: str = self._stream.push(token)
        return text

    def finish(self) -> str:
        """See TokenDecoder."""
        text: str = self._stream.finish()
        return text


class BytesProcessor:
    """One token per byte of UTF-8."""

    vocab_size = 256

    def __init__(self, eos_token_id: int | None = None) -> None:
        self.eos_token_id = eos_token_id

    def encode(self, text: str) -> list[int]:
        """UTF-8 of `text`; lone surrogates, which have none, become question marks."""
        return list(text.encode("utf-8", errors="replace"))

    def decoder(self, prompt: Sequence[int] = ()) -> ByteDecoder:
        """See TextProcessor; ids of 256 and above stand for no byte."""
        return ByteDecoder()

    def manifest_entry(self) -> dict[str, Any]:
        """`{"kind": "bytes"}`."""
        return _with_eos({"kind": "bytes"}, self.eos_token_id)


class TokenizerProcessor:
    """Byte-level BPE from a `tokenizer.json`."""

    def __init__(self, path: str | os.PathLike[str], eos_token_id: int | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InvalidArgumentError(f"no file {str(self.path)!r}", where="tokenizer")
        self._tokenizer = native_module("a tokenizer").Tokenizer(self.path)
        self.vocab_size = int(self._tokenizer.vocab_size)
        self.eos_token_id = eos_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self._tokenizer.encode(text.encode("utf-8", errors="replace").decode()))

    def decoder(self, prompt: Sequence[int] = ()) -> TokenizerDecoder:
        """See TextProcessor."""
        return TokenizerDecoder(self._tokenizer, prompt)

    def manifest_entry(self) -> dict[str, Any]:
        """The entry, whose file `save_package` copies into the package."""
        return _with_eos({"kind": "tokenizer", "file": str(self.path)}, self.eos_token_id)


def bytes_processor(entry: Mapping[str, Any], directory: Path) -> BytesProcessor:
    """The processor of a manifest entry `{"kind": "bytes"}`."""
    return BytesProcessor(_token_id(entry))


def tokenizer_processor(entry: Mapping[str, Any], directory: Path) -> TokenizerProcessor:
    """The processor of a manifest entry `{"kind": "tokenizer", "file": …}` in the package `directory`."""
    file = entry.get("file")
    if not isinstance(file, str):
        raise InvalidArgumentError("the tokenizer has no file", where=f"{directory}: processors.text")
    return TokenizerProcessor(directory / file, _token_id(entry))


def native_module(what: str) -> Any:
    """`mambasdk._core`, or an error that says what needs it."""
    try:
        return importlib.import_module("mambasdk._core")
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the native module, which cannot be imported ({error})",
            way_out="reinstall mambasdk (pip install --force-reinstall mambasdk), see `mambasdk doctor`",
        ) from error


class TextStream:
    """Text out of tokens as they come: whole characters only, and never the beginning of a stop string.

    `stopped` turns true when a stop string is complete; the text ends before it.
    """

    def __init__(self, decoder: TokenDecoder, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is safe to show after one more token."""
        return self._filter(self._decoder.push(token))

    def finish(self) -> str:
        """The rest, once no token follows."""
        text = self._filter(self._decoder.finish())
        if not self.stopped:
            text, self._held = text + self._held, ""
        return text

    def _filter(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [position for stop in self._stop if (position := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        end = len(self._held) - keep
        shown, self._held = self._held[:end], self._held[end:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def _with_eos(entry: dict[str, Any], eos_token_id: int | None) -> dict[str, Any]:
    return entry if eos_token_id is None else {**entry, "eos_token_id": eos_token_id}


def _token_id(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("eos_token_id")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InvalidArgumentError(
            "bad eos_token_id", where="processors.text", expected="an integer of 0 or more", got=repr(value)
        )
    return value
