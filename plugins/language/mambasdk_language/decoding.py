"""Decoders: one interface over a PyTorch model and a native session, from tokens to the logits of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import require_torch

# Tokens of a prompt that run at once; bounds the memory of a long prompt.
PROMPT_CHUNK = 512
Logits = NDArray[np.float32]  # (rows, vocabulary)


class Decoder(Protocol):
    """Sequences in progress, one per row."""

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Start one row per prompt; logits after the last token of each."""

    def step(self, tokens: Sequence[int]) -> Logits:
        """Append one token to each row."""

    def extend(self, tokens: Sequence[int]) -> Logits:
        """Append several tokens to the only row; logits after the last of them."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""


class TorchDecoder:
    """Decoding with a causal model in PyTorch: prompts of unequal length are padded on the left, which is exact."""

    def __init__(self, model: Any) -> None:
        self._torch = require_torch("generation in PyTorch")
        self._model = model
        self._device = next(model.parameters()).device
        self._state: Any = None

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """See Decoder."""
        torch = self._torch
        length = max(map(len, prompts))
        tokens = torch.zeros(len(prompts), length, dtype=torch.int64)  # (B, L)
        mask = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens[row, length - len(prompt) :] = torch.tensor(prompt, dtype=torch.int64)
            mask[row, length - len(prompt) :] = True
        padded = not bool(mask.all())
        self._state, logits = None, None
        for start in range(0, length, PROMPT_CHUNK):
            part = slice(start, start + PROMPT_CHUNK)
            logits = self._run(tokens[:, part], mask[:, part] if padded else None)
        assert logits is not None
        return logits

    def step(self, tokens: Sequence[int]) -> Logits:
        """See Decoder."""
        return self._run(self._torch.tensor(tokens, dtype=self._torch.int64).unsqueeze(1), None)

    def extend(self, tokens: Sequence[int]) -> Logits:
        """See Decoder."""
        row = self._torch.tensor(tokens, dtype=self._torch.int64).unsqueeze(0)  # (1, L)
        logits = [self._run(part, None) for part in row.split(PROMPT_CHUNK, 1)]
        return logits[-1]

    def keep(self, rows: Sequence[int]) -> None:
        """See Decoder."""
        self._state = self._state.select(list(rows))

    def _run(self, tokens: Any, mask: Any) -> Logits:
        with self._torch.no_grad():
            out = self._model(
                tokens.to(self._device),
                self._state,
                mask=None if mask is None else mask.to(self._device),
                logits_to_keep=1,
            )
        self._state = out.state
        logits: Logits = out.logits[:, -1, : self._model.vocab_size].float().cpu().numpy()
        return logits


class NativeDecoder:
    """Decoding with the native engine: one session per row."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._sessions: list[Any] = []

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """See Decoder."""
        self._sessions = [self._model.session() for _ in prompts]
        return np.concatenate([_feed(session, prompt) for session, prompt in zip(self._sessions, prompts, strict=True)])

    def step(self, tokens: Sequence[int]) -> Logits:
        """See Decoder."""
        rows = [
            _run_session(session, np.asarray([[token]], dtype=np.int32))
            for session, token in zip(self._sessions, tokens, strict=True)
        ]
        return np.concatenate(rows)

    def extend(self, tokens: Sequence[int]) -> Logits:
        """See Decoder."""
        return _feed(self._sessions[0], tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """See Decoder."""
        self._sessions = [self._sessions[row] for row in rows]


def _feed(session: Any, prompt: Sequence[int]) -> Logits:
    """Logits after the last token of a prompt, which is run in pieces."""
    tokens = np.asarray(prompt, dtype=np.int32)[None]  # (1, L)
    pieces = [tokens[:, start : start + PROMPT_CHUNK] for start in range(0, tokens.shape[1], PROMPT_CHUNK)]
    for piece in pieces[:-1]:
        session.run({"tokens": piece}, [])
    return _run_session(session, pieces[-1])


def _run_session(session: Any, tokens: NDArray[np.int32]) -> Logits:
    logits: Logits = session.run({"tokens": tokens}, ["last_logits"])["last_logits"]
    return logits
