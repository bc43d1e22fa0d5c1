"""Text generation with a PyTorch model, a package or a native model: prefill, then one token at a time.

Every engine shares the runtime's sampler (`mambasdk._core.Sampler`), so the same seed and logits give the same tokens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np

from mambasdk.errors import InvalidArgumentError, PackageError
from mambasdk.package.manifest import Manifest
from mambasdk.package.reader import load_processors
from mambasdk_language.decoding import Decoder, NativeDecoder, TorchDecoder
from mambasdk_language.text import BytesProcessor, TextProcessor, TextStream, TokenizerDecoder, native_module

Engine = Literal["auto", "native", "torch"]
OnText = Callable[[str], bool | None]


@dataclass
class Generation:
    """What one prompt gave.

    text: without prompt and stop string. tokens: the new ones, without the end token. finish_reason: "length", "stop"
    (a stop string), "eos" (the end token) or "callback" (it returned False). Seconds are those of the whole batch.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    finish_reason: Literal["length", "stop", "eos", "callback"] = "length"
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens of this sequence per second of decoding."""
        return len(self.tokens) / self.decode_seconds if self.decode_seconds > 0 else 0.0


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; the exact procedure is the runtime's (`Sampler`).

    temperature: 0 takes the most likely token. top_k: only the k most likely, 0 for all. top_p: only the most likely
    that together have this probability. min_p: only those with this share of the highest probability.
    repetition_penalty: logits of tokens seen before are divided by it where positive, else multiplied. seed: of the
    random numbers.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def sampler(self, row: int = 0) -> Any:
        """A sampler of the runtime; row i of a batch has seed + i."""
        core = native_module("sampling")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 64:
            raise InvalidArgumentError("bad seed", where="generate", expected="0 to 2^64 - 1", got=self.seed)
        try:
            options = core.SamplerOptions(
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                seed=(self.seed + row) % (1 << 64),
            )
            return core.Sampler(options)
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError(str(error).splitlines()[0], where="generate") from error


@overload
def generate(model: Any, prompt: str, **options: Any) -> Generation: ...
@overload
def generate(model: Any, prompt: Sequence[str], **options: Any) -> list[Generation]: ...
def generate(model: Any, prompt: str | Sequence[str], **options: Any) -> Generation | list[Generation]:
    """Continue a prompt, or each of a list of prompts as one batch.

    model: a package directory, a causal model of `mambasdk` in PyTorch, or what `mambasdk._core.load_package` returns.
    options:
        max_new_tokens (128).
        temperature (0: greedy), top_k, top_p, min_p, repetition_penalty, seed: see `Sampling`. Row i of a batch draws
            with seed + i, and so gives what it would give alone with that seed.
        stop: a string or several; the text ends before the first of them, across token borders too.
        on_text: called with each new piece of text, always whole characters; returning False ends the generation. With
            a list of prompts it is called with (row, piece).
        engine: for a package: "native", "torch" or "auto" (native where the package has a program).
        processor: text processor; None takes the package's, or raw bytes for a PyTorch model.
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
    """One batch in progress."""

    def __init__(
        self,
        model: Any,
        prompts: list[str],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        engine: Engine = "auto",
        processor: TextProcessor | None = None,
    ) -> None:
        if max_new_tokens < 0:
            raise InvalidArgumentError("bad max_new_tokens", where="generate", expected="0 or more", got=max_new_tokens)
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        self._decoder, self._processor = open_model(model, engine, processor)
        self._max_new_tokens = max_new_tokens
        self._prompts = [self._processor.encode(prompt) for prompt in prompts]
        for row, tokens in enumerate(self._prompts):
            if not tokens:
                raise InvalidArgumentError(
                    "the prompt has no tokens", where=f"generate: prompt {row}", way_out="give at least one character"
                )
        stops = [stop] if isinstance(stop, str) else list(stop)
        self._samplers = [sampling.sampler(row) for row in range(len(prompts))]
        self._streams = [TextStream(self._processor.decoder(tokens), stops) for tokens in self._prompts]
        self._ended: set[int] = set()
        self.results = [Generation(prompt_tokens=len(tokens)) for tokens in self._prompts]

    def end(self, row: int) -> None:
        """End a row early."""
        if row not in self._ended:
            self._ended.add(row)
            self.results[row].finish_reason = "callback"

    def pieces(self) -> Iterator[tuple[int, str]]:
        """(row, new text) as it comes; fills `results`."""
        if not self._prompts:
            return
        for sampler, tokens in zip(self._samplers, self._prompts, strict=True):
            sampler.observe(tokens)
        start = time.perf_counter()
        logits = self._decoder.prefill(self._prompts)
        prefill_seconds = time.perf_counter() - start
        start = time.perf_counter()
        rows = list(range(len(self._prompts)))  # rows[i]: the prompt that decoder row i continues
        try:
            for count in range(1, self._max_new_tokens + 1):
                drawn = {row: self._samplers[row].sample(logits[i]) for i, row in enumerate(rows)}
                for row in rows:
                    yield from self._accept(row, drawn[row])
                going = [i for i, row in enumerate(rows) if row not in self._ended]
                if not going or count == self._max_new_tokens:
                    break
                if len(going) < len(rows):
                    self._decoder.keep(going)
                    rows = [rows[i] for i in going]
                logits = self._decoder.step([drawn[row] for row in rows])
            for row in range(len(self._prompts)):
                yield from self._finish(row)
        finally:
            for result in self.results:
                result.prefill_seconds = prefill_seconds
                result.decode_seconds = time.perf_counter() - start

    def _accept(self, row: int, token: int) -> Iterator[tuple[int, str]]:
        result, stream_ = self.results[row], self._streams[row]
        if token == self._processor.eos_token_id:
            self._ended.add(row)
            result.finish_reason = "eos"
            return
        result.tokens.append(token)
        piece = stream_.push(token)
        if stream_.stopped:
            self._ended.add(row)
            result.finish_reason = "stop"
        yield from self._show(row, piece)

    def _finish(self, row: int) -> Iterator[tuple[int, str]]:
        if self.results[row].finish_reason in ("stop", "callback"):
            return
        piece = self._streams[row].finish()
        if self._streams[row].stopped:
            self.results[row].finish_reason = "stop"
        yield from self._show(row, piece)

    def _show(self, row: int, piece: str) -> Iterator[tuple[int, str]]:
        if piece:
            self.results[row].text += piece
            yield row, piece


def open_model(model: Any, engine: Engine, processor: TextProcessor | None) -> tuple[Decoder, TextProcessor]:
    """A decoder and a text processor for a package directory, a PyTorch model or a native model."""
    if engine not in ("auto", "native", "torch"):
        raise InvalidArgumentError("bad engine", where="generate", expected="auto, native or torch", got=repr(engine))
    if not isinstance(model, (str, os.PathLike)):
        if hasattr(model, "session"):
            return NativeDecoder(model), processor or _native_processor(model)
        return TorchDecoder(model), processor or _bytes_for(model)
    manifest = Manifest.read(model)
    if processor is None:
        processor = load_processors(model).get("text")
        if processor is None:
            raise PackageError("the package has no text processor", where=str(model), way_out="pass processor=…")
    if engine == "auto":
        engine = "native" if manifest.engine["name"] == "native" else "torch"
    if engine == "native":
        if manifest.engine["name"] != "native":
            raise PackageError("the package has no native program", where=str(model), way_out="use engine='torch'")
        return NativeDecoder(native_module("the native engine").load_package(model)), processor
    from mambasdk.package import load

    return TorchDecoder(load(model)), processor


def _bytes_for(model: Any) -> TextProcessor:
    if getattr(model, "vocab_size", None) != BytesProcessor.vocab_size:
        raise InvalidArgumentError(
            "which text processor?",
            where="generate",
            got=f"a model with {getattr(model, 'vocab_size', 'an unknown number of')} tokens",
            way_out="pass processor=mambasdk_language.text.TokenizerProcessor('tokenizer.json')",
        )
    return BytesProcessor()


class _NativeText:
    """The tokenizer of a native model, as a text processor."""

    def __init__(self, model: Any) -> None:
        self._tokenizer = model.tokenizer()
        self.vocab_size = int(self._tokenizer.vocab_size)
        entry = model.manifest["processors"]["text"]
        self.eos_token_id: int | None = entry.get("eos_token_id")
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
