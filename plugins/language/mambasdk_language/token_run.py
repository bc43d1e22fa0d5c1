"""The loop of a generation on tokens: one token per row and step, until each row has ended. Knows no text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from mambasdk_language.decoding import Decoder, Logits
from mambasdk_language.sampling import GenerationOptions

FinishReason = Literal["length", "stop", "eos", "callback"]


class TokenRun:
    """One batch in progress.

    finish_reasons: of each row; "length" until something else ends it. end_tokens: row -> the token that ended it.
    prefill_seconds, decode_seconds: of the batch.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        ends: frozenset[int],
        seen: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """ends: tokens that end a row. seen: what the repetition penalty knows of each row; None takes the prompts."""
        self._decoder = decoder
        self._options = options
        self._ends = ends
        self._prompts = prompts
        self._samplers = [options.sampling.sampler(row) for row in range(len(prompts))]
        for sampler, tokens in zip(self._samplers, prompts if seen is None else seen, strict=True):
            sampler.observe(list(tokens))
        self._ended: set[int] = set()
        self.finish_reasons: list[FinishReason] = ["length"] * len(prompts)
        self.end_tokens: dict[int, int] = {}
        self.prefill_seconds = 0.0
        self.decode_seconds = 0.0

    def end(self, row: int, reason: FinishReason) -> None:
        """End a row; a row that has ended stays as it is."""
        if row not in self._ended:
            self._ended.add(row)
            self.finish_reasons[row] = reason

    def tokens(self, prefill: Callable[[], Logits] | None = None) -> Iterator[tuple[int, int]]:
        """(row, new token) as they come, end tokens left out.

        prefill: gives the logits after the prompts; None runs them from the beginning.
        """
        if not self._prompts:
            return
        start = time.perf_counter()
        logits = self._decoder.prefill(self._prompts) if prefill is None else prefill()
        self.prefill_seconds = time.perf_counter() - start
        start = time.perf_counter()
        rows = list(range(len(self._prompts)))  # rows[i]: the prompt that decoder row i continues
        try:
            for count in range(1, self._options.max_new_tokens + 1):
                drawn = {row: self._samplers[row].sample(logits[i]) for i, row in enumerate(rows)}
                for row in rows:
                    if drawn[row] in self._ends:
                        self.end_tokens[row] = drawn[row]
                        self.end(row, "eos")
                    else:
                        yield row, drawn[row]
                going = [i for i, row in enumerate(rows) if row not in self._ended]
                if not going or count == self._options.max_new_tokens:
                    break
                if len(going) < len(rows):
                    self._decoder.keep(going)
                    rows = [rows[i] for i in going]
                logits = self._decoder.step([drawn[row] for row in rows])
        finally:
            self.decode_seconds = time.perf_counter() - start
