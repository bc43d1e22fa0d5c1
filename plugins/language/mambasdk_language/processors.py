"""Text processors: from a string to token ids and back to bytes. Imports no torch.

`tokenizer.json` is read by the runtime's own tokenizer, the one that C and C++ programs use.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models.generation_config import EndTokens, checkpoint_config, compact, end_tokens, token_ids


class TokenDecoder(Protocol):
    """Text out of tokens as they come, whole characters only."""

    def push(self, token: int) -> str:
        """The text that is complete with this token; may be empty."""

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""


class TextProcessor(Protocol):
    """What generation and training need of a text processor.

    vocab_size: ids are below it. eos_token_id: ends a generation; several may, None where there is none.
    """

    vocab_size: int
    eos_token_id: int | list[int] | None

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
        from mambasdk import runtime

        self._stream = runtime.TextStream(tokenizer, continues=bool(prompt))

    def push(self, token: int) -> str:
        """See TokenDecoder."""
        return self._stream.push(token)

    def finish(self) -> str:
        """See TokenDecoder."""
        text: str = self._stream.finish()
        return text


class BytesProcessor:
    """One token per byte of UTF-8, and perhaps one more for a place that is to be filled in."""

    vocab_size = 256

    def __init__(self, eos_token_id: int | Sequence[int] | None = None, mask_token: str | None = None) -> None:
        """eos_token_id: an id, several, or None or -1 for none. mask_token: how a text spells token 256."""
        self.eos_token_id = _end_tokens(eos_token_id, "BytesProcessor")
        self.mask_token = mask_token or None
        self.mask_token_id = 256 if mask_token else None
        if mask_token:
            self.vocab_size = 257

    def encode(self, text: str) -> list[int]:
        """UTF-8 of `text`; lone surrogates, which have none, become question marks."""
        parts = [text] if self.mask_token is None else text.split(self.mask_token)
        ids = list(parts[0].encode("utf-8", errors="replace"))
        for part in parts[1:]:
            ids += [256, *part.encode("utf-8", errors="replace")]
        return ids

    def decoder(self, prompt: Sequence[int] = ()) -> ByteDecoder:
        """See TextProcessor; ids of 256 and above stand for no byte."""
        return ByteDecoder()

    def manifest_entry(self) -> dict[str, Any]:
        """`{"kind": "bytes"}`, with the mask where there is one."""
        return _with_eos(_with_mask({"kind": "bytes"}, self.mask_token), self.eos_token_id)


class TokenizerProcessor:
    """Byte-level BPE from a `tokenizer.json`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        eos_token_id: int | Sequence[int] | None = None,
        mask_token: str | None = None,
    ) -> None:
        """eos_token_id: an id, several, or None or -1 for none; `from_checkpoint` takes what the checkpoint says.

        mask_token: the token that stands for a place to fill in. Raises InvalidArgumentError where it is no token.
        """
        from mambasdk import runtime

        self.path = Path(path)
        if not self.path.is_file():
            raise InvalidArgumentError(f"no file {str(self.path)!r}", where="tokenizer")
        self._tokenizer = runtime.Tokenizer(self.path)
        self.vocab_size = int(self._tokenizer.vocab_size)
        self.eos_token_id = _end_tokens(eos_token_id, "TokenizerProcessor")
        self.mask_token = mask_token or None
        self.mask_token_id = None if self.mask_token is None else self._mask(self.mask_token)

    @classmethod
    def from_checkpoint(cls, folder: str | os.PathLike[str]) -> TokenizerProcessor:
        """The tokenizer.json of a checkpoint's folder, with every end token that the files beside it name.

        folder: holds tokenizer.json and, where there are any, config.json, generation_config.json and
        tokenizer_config.json. Raises InvalidArgumentError without tokenizer.json, CheckpointError for bad ids.
        """
        return cls.from_file(Path(folder) / "tokenizer.json")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TokenizerProcessor:
        """As `from_checkpoint`, for a tokenizer.json of any name."""
        file = Path(path)
        if not file.is_file():
            raise InvalidArgumentError(f"no file {str(file)!r}", where="tokenizer")
        return cls(file, end_tokens(file.parent, checkpoint_config(file.parent), file))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self._tokenizer.encode(text.encode("utf-8", errors="replace").decode()))

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of `text` without those that the tokenizer's post-processor adds; special tokens in it count."""
        return list(self._tokenizer.encode(text.encode("utf-8", errors="replace").decode(), False))

    def decoder(self, prompt: Sequence[int] = ()) -> TokenizerDecoder:
        """See TextProcessor."""
        return TokenizerDecoder(self._tokenizer, prompt)

    def manifest_entry(self) -> dict[str, Any]:
        """The entry, whose file `save_package` copies into the package."""
        entry = _with_mask({"kind": "tokenizer", "file": str(self.path)}, self.mask_token)
        return _with_eos(entry, self.eos_token_id)

    def _mask(self, token: str) -> int:
        ids = self.encode_plain(token)
        if len(ids) != 1:
            raise InvalidArgumentError(
                f"{token} is no token of it",
                where=str(self.path),
                got=f"{len(ids)} tokens",
                way_out=f"add {token} to its added_tokens, or name its mask token with --mask-token",
            )
        return ids[0]


def bytes_processor(entry: Mapping[str, Any], directory: Path) -> BytesProcessor:
    """The processor of a manifest entry `{"kind": "bytes"}`."""
    return BytesProcessor(_manifest_end_tokens(entry), _manifest_mask(entry))


def tokenizer_processor(entry: Mapping[str, Any], directory: Path) -> TokenizerProcessor:
    """The processor of a manifest entry `{"kind": "tokenizer", "file": …}` in the package `directory`."""
    file = entry.get("file")
    if not isinstance(file, str):
        raise InvalidArgumentError("the tokenizer has no file", where=f"{directory}: processors.text")
    return TokenizerProcessor(directory / file, _manifest_end_tokens(entry), _manifest_mask(entry))


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


def encode_plain(processor: TextProcessor, text: str) -> list[int]:
    """Token ids of a text without the special tokens that a tokenizer puts around it."""
    return processor.encode_plain(text) if isinstance(processor, TokenizerProcessor) else processor.encode(text)


def end_token_ids(processor: TextProcessor) -> frozenset[int]:
    """The ids that end a generation with this processor."""
    ids = processor.eos_token_id
    return frozenset() if ids is None else frozenset((ids,) if isinstance(ids, int) else ids)


def separator_id(processor: TextProcessor) -> int | None:
    """The end token that stands between training documents: the first of several."""
    ids = processor.eos_token_id
    return ids if ids is None or isinstance(ids, int) else ids[0]


def _with_mask(entry: dict[str, Any], mask_token: str | None) -> dict[str, Any]:
    return entry if mask_token is None else {**entry, "mask_token": mask_token}


def _manifest_mask(entry: Mapping[str, Any]) -> str | None:
    value: str | None = entry.get("mask_token")
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError("bad mask_token", where="processors.text", expected="a text", got=repr(value)[:80])
    return value


def _with_eos(entry: dict[str, Any], eos_token_id: EndTokens) -> dict[str, Any]:
    return entry if eos_token_id is None else {**entry, "eos_token_id": eos_token_id}


def _end_tokens(value: object, where: str) -> EndTokens:
    try:
        return compact(token_ids(value, f"{where}: eos_token_id"))
    except CheckpointError as error:
        raise InvalidArgumentError(str(error)) from error


def _manifest_end_tokens(entry: Mapping[str, Any]) -> EndTokens:
    """The ids of a manifest entry, in which none is not written as -1."""
    value = entry.get("eos_token_id")
    for item in value if isinstance(value, list) else [value]:
        if item == -1 or (item is None and value is not None):
            raise InvalidArgumentError(
                "bad eos_token_id",
                where="processors.text",
                expected="an integer of 0 or more, or a list of them",
                got=repr(value)[:80],
                way_out="leave it out where there is none",
            )
    return _end_tokens(value, "processors.text")
