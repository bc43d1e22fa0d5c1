"""How tokens are chosen: the options of a generation, where their defaults come from, and the runtime's sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError

if TYPE_CHECKING:
    from mambasdk.runtime import Sampler


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

    def sampler(self, row: int = 0) -> Sampler:
        """A sampler of the runtime; row i of a batch has seed + i."""
        from mambasdk import runtime

        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 64:
            raise InvalidArgumentError("bad seed", where="generate", expected="0 to 2^64 - 1", got=self.seed)
        try:
            options = runtime.SamplerOptions(
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                seed=(self.seed + row) % (1 << 64),
            )
            return runtime.Sampler(options)
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError(str(error).splitlines()[0], where="generate") from error


@dataclass(frozen=True)
class GenerationOptions:
    """Everything that decides a generation besides model and prompt; see `generate`."""

    max_new_tokens: int = 128
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any], defaults: Mapping[str, Any], where: str = "generate") -> GenerationOptions:
        """What is given and not None, else what `defaults` (a package's head options) say, else ours.

        Raises InvalidArgumentError for an unknown name or a value of another type.
        """
        names = {field.name for field in dataclasses.fields(Sampling)}
        for source, mapping in ((where, given), ("head_options", defaults)):
            if stray := sorted(set(mapping) - names - {"max_new_tokens", "stop"}):
                raise InvalidArgumentError(
                    f"no option {', '.join(stray)}",
                    where=source,
                    expected=", ".join(["max_new_tokens", "stop", *sorted(names)]),
                )
        found = {**defaults, **{name: value for name, value in given.items() if value is not None}}
        count = found.pop("max_new_tokens", cls.max_new_tokens)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise InvalidArgumentError("bad max_new_tokens", where=where, expected="0 or more", got=repr(count)[:80])
        return cls(count, Sampling(**{k: v for k, v in found.items() if k in names}), _texts(found.get("stop", ())))


def _texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgumentError("bad stop", where="generate", expected="texts", got=repr(text)[:80])
    return texts
