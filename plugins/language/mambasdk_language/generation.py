"""Text generation with a PyTorch model, a package or a native model: prefill, then one token at a time.

Every engine shares one sampler, `mambasdk.runtime.Sampler`, so the same seed and logits give the same tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from mambasdk.errors import InvalidArgumentError, PackageError
from mambasdk.lowering import as_model
from mambasdk.models.generation_config import checkpoint_config, end_tokens
from mambasdk.models.identity import known_identity
from mambasdk.package.manifest import MANIFEST_FILE, Manifest
from mambasdk.package.reader import load_processors
from mambasdk_language.decoding import Decoder, NativeDecoder, TorchDecoder
from mambasdk_language.processors import (
    BytesProcessor,
    TextProcessor,
    TextStream,
    TokenizerDecoder,
    TokenizerProcessor,
    end_token_ids,
)
from mambasdk_language.sampling import GenerationOptions, Sampling
from mambasdk_language.token_run import FinishReason, TokenRun

__all__ = ["Generation", "GenerationOptions", "Opened", "Sampling", "generate", "greedy", "open_model", "stream"]

HEAD = "causal_lm"
Engine = Literal["auto", "native", "torch"]
OnText = Callable[[str], bool | None]


@dataclass
class Generation:
    """What one prompt gave.

    text: without prompt and stop string. tokens: the new ones, without the end token. finish_reason: "length", "stop"
    (a stop string), "eos" (an end token) or "callback" (it returned False). Seconds are those of the whole batch.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    finish_reason: FinishReason = "length"
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens of this sequence per second of decoding."""
        return len(self.tokens) / self.decode_seconds if self.decode_seconds > 0 else 0.0


@overload
def generate(model: Any, prompt: str, **options: Any) -> Generation: ...
@overload
def generate(model: Any, prompt: Sequence[str], **options: Any) -> list[Generation]: ...
def generate(model: Any, prompt: str | Sequence[str], **options: Any) -> Generation | list[Generation]:
    """Continue a prompt, or each of a list of prompts as one batch.

    model: a package directory, a causal model of `mambasdk` in PyTorch, or a `mambasdk.runtime.Model`.
    options:
        max_new_tokens (128).
        temperature (0: greedy), top_k, top_p, min_p, repetition_penalty, seed: see `Sampling`. Row i of a batch draws
            with seed + i, and so gives what it would give alone with that seed.
            What is left out, or None, is as the package says (its head options, which an import takes from
            generation_config.json), else as given here.
        stop: a string or several; the text ends before the first of them, across token borders too.
        on_text: called with each new piece of text, always whole characters; returning False ends the generation. With
            a list of prompts it is called with (row, piece).
        engine: for a package: "native", "torch" or "auto" (native where the package has a program).
        processor: text processor; None takes the package's, or raw bytes for a PyTorch model of 256 tokens. Each of its
            end tokens ends a text.
        verify: of a package: None checks the SHA-256 of the files that changed since they were last checked, True of
            all of them, False of none.
    Raises InvalidArgumentError for an empty prompt or an option out of range.
    """
    single = isinstance(prompt, str)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    callback = options.pop("on_text", None)
    run = _Run(model, prompts, **options)
    for row, piece in run.pieces():
        if callback is not None and (callback(piece) if single else callback(row, piece)) is False:
            run.end(row)
    return run.results[0] if single else run.results


def stream(model: Any, prompt: str, **options: Any) -> Iterator[str]:
    """Pieces of text as they are generated; arguments as `generate`. Closing the iterator ends the generation."""
    run = _Run(model, [prompt], **options)
    return (piece for _, piece in run.pieces())


class _Run:
    """One batch of texts in progress."""

    def __init__(
        self,
        model: Any,
        prompts: list[str],
        *,
        engine: Engine = "auto",
        processor: TextProcessor | None = None,
        verify: bool | None = None,
        **given: Any,
    ) -> None:
        opened = open_model(model, engine, processor, verify=verify)
        options = GenerationOptions.of(given, opened.defaults)
        self._prompts = [opened.processor.encode(prompt) for prompt in prompts]
        for row, tokens in enumerate(self._prompts):
            if not tokens:
                raise InvalidArgumentError(
                    "the prompt has no tokens", where=f"generate: prompt {row}", way_out="give at least one character"
                )
        self._run = TokenRun(opened.decoder, self._prompts, options, end_token_ids(opened.processor))
        self._streams = [TextStream(opened.processor.decoder(tokens), options.stop) for tokens in self._prompts]
        self.results = [Generation(prompt_tokens=len(tokens)) for tokens in self._prompts]

    def end(self, row: int) -> None:
        """End a row early."""
        self._run.end(row, "callback")

    def pieces(self) -> Iterator[tuple[int, str]]:
        """(row, new text) as it comes; fills `results`."""
        try:
            for row, token in self._run.tokens():
                self.results[row].tokens.append(token)
                piece = self._streams[row].push(token)
                if self._streams[row].stopped:
                    self._run.end(row, "stop")
                yield from self._show(row, piece)
            for row in range(len(self._prompts)):
                yield from self._finish(row)
        finally:
            for row, result in enumerate(self.results):
                result.finish_reason = self._run.finish_reasons[row]
                result.prefill_seconds = self._run.prefill_seconds
                result.decode_seconds = self._run.decode_seconds

    def _finish(self, row: int) -> Iterator[tuple[int, str]]:
        if self._run.finish_reasons[row] in ("stop", "callback"):
            return
        piece = self._streams[row].finish()
        if self._streams[row].stopped:
            self._run.finish_reasons[row] = "stop"
        yield from self._show(row, piece)

    def _show(self, row: int, piece: str) -> Iterator[tuple[int, str]]:
        if piece:
            self.results[row].text += piece
            yield row, piece


class Opened(NamedTuple):
    """What a generation needs of a model; defaults: the head options of its package."""

    decoder: Decoder
    processor: TextProcessor
    defaults: Mapping[str, Any]


def open_model(
    model: Any, engine: Engine = "auto", processor: TextProcessor | None = None, *, verify: bool | None = None
) -> Opened:
    """A decoder, a text processor and defaults for a package directory, a PyTorch model or a native model.

    verify: of a package, as in `generate`.
    """
    if engine not in ("auto", "native", "torch"):
        raise InvalidArgumentError("bad engine", where="generate", expected="auto, native or torch", got=repr(engine))
    if not isinstance(model, (str, os.PathLike)):
        if hasattr(model, "session"):
            said = model.description
            defaults = said["head_options"] if said["head"] == HEAD else {}
            return Opened(NativeDecoder(model), processor or _native_processor(model), defaults)
        return Opened(TorchDecoder(model), processor or _processor_for(model), options_of(model))
    manifest = Manifest.read(model)
    if processor is None:
        processor = load_processors(model).get("text")
        if processor is None:
            raise PackageError("the package has no text processor", where=str(model), way_out="pass processor=…")
    defaults = (manifest.head_options or {}) if manifest.head == HEAD else {}
    if engine == "auto":
        engine = "native" if manifest.engine["name"] == "native" else "torch"
    if engine == "native":
        if manifest.engine["name"] != "native":
            raise PackageError("the package has no native program", where=str(model), way_out="use engine='torch'")
        from mambasdk import runtime

        return Opened(NativeDecoder(runtime.load_package(model, verify=verify)), processor, defaults)
    from mambasdk.package import load

    if verify:
        manifest.check_hashes(model)
    return Opened(TorchDecoder(load(model, verify=verify is None)), processor, defaults)


def options_of(model: Any) -> Mapping[str, Any]:
    """The head options of the package or checkpoint that a PyTorch model was made from."""
    who = known_identity(model)
    return {} if who is None else who.head_options or {}


def _processor_of(source: Path) -> TextProcessor | None:
    """The text processor of a package's folder, or the tokenizer and the end tokens of a checkpoint's."""
    if (source / MANIFEST_FILE).is_file():
        found: TextProcessor | None = load_processors(source).get("text")
        return found
    if (source / "tokenizer.json").is_file():
        return TokenizerProcessor.from_checkpoint(source)
    return None


def _processor_for(model: Any) -> TextProcessor:
    who = known_identity(model)
    source = None if who is None else who.source
    if source is not None and (own := _processor_of(source)) is not None:
        return own
    tokens = as_model(model).vocab_size
    if tokens != BytesProcessor.vocab_size:
        raise InvalidArgumentError(
            "which text processor?",
            where="generate",
            got=f"a model with {'an unknown number of' if tokens is None else tokens} tokens",
            way_out="pass processor=mambasdk_language.processors.TokenizerProcessor.from_checkpoint(FOLDER)",
        )
    if source is None or (source / MANIFEST_FILE).is_file():
        return BytesProcessor()
    return BytesProcessor(end_tokens(source, checkpoint_config(source)))


class _NativeText:
    """The tokenizer of a native model, as a text processor."""

    def __init__(self, model: Any) -> None:
        self._tokenizer = model.tokenizer()
        self.vocab_size = int(self._tokenizer.vocab_size)
        entry = model.manifest["processors"]["text"]
        self.eos_token_id: int | list[int] | None = entry.get("eos_token_id")
        self._entry: dict[str, Any] = dict(entry)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def decoder(self, prompt: Sequence[int] = ()) -> TokenizerDecoder:
        return TokenizerDecoder(self._tokenizer, prompt)

    def manifest_entry(self) -> dict[str, Any]:
        return self._entry


def _native_processor(model: Any) -> TextProcessor:
    return _NativeText(model)


def greedy(decoder: Decoder, prompt: Sequence[int], count: int) -> list[int]:
    """`count` most likely tokens after `prompt`, ties to the lower id: generation without text."""
    logits = decoder.prefill([prompt])
    tokens: list[int] = []
    while len(tokens) < count:
        tokens.append(int(np.argmax(logits[0])))
        if len(tokens) < count:
            logits = decoder.step(tokens[-1:])
    return tokens
