"""Synthetic conversations: hidden moods, noisy views of them by modality, one modality corrupted in each utterance."""

from __future__ import annotations

import numpy as np

from mambasdk_multimodal.conversations import Conversation

MOODS = ("calm", "happy", "sad", "angry")
DIMS = {"text": 12, "audio": 10, "visual": 8}
NOISE = {"text": 2.0, "audio": 2.5, "visual": 3.0}  # deviation of a view's noise; the moods' own views have 1
STAYS = 0.85  # probability that a speaker's mood is the one of the speaker's utterance before


def conversations(
    count: int, seed: int, *, length: tuple[int, int] = (10, 18), corrupted: bool = True
) -> list[Conversation]:
    """`count` conversations of two speakers; the views of the moods are the same for every seed.

    A mood goes on with probability STAYS, else it is drawn anew. In each utterance one modality, drawn by chance, has
    noise and nothing else, unless `corrupted` is false.
    """
    fixed, chance = np.random.default_rng(1234), np.random.default_rng(seed)
    views = {name: fixed.normal(size=(len(MOODS), dim)) for name, dim in DIMS.items()}
    made = []
    for number in range(count):
        size = int(chance.integers(length[0], length[1] + 1))
        speakers = chance.integers(0, 2, size)
        state = chance.integers(0, len(MOODS), 2)
        moods = np.zeros(size, np.int64)
        for u, speaker in enumerate(speakers):
            if chance.random() > STAYS:
                state[speaker] = chance.integers(0, len(MOODS))
            moods[u] = state[speaker]
        spoilt = chance.integers(0, len(DIMS), size) if corrupted else np.full(size, -1)
        features = {}
        for m, (name, view) in enumerate(views.items()):
            signal = np.where((spoilt == m)[:, None], 0.0, view[moods])
            features[name] = (signal + NOISE[name] * chance.normal(size=signal.shape)).astype(np.float32)
        present = {name: np.ones(size, bool) for name in DIMS}
        labels: list[str | None] = [MOODS[mood] for mood in moods]
        made.append(Conversation(f"conversation {number}", features, present, speakers.astype(np.int64), labels))
    return made


def utterances(given: list[Conversation]) -> list[Conversation]:
    """Each utterance as a conversation of its own."""
    return [
        Conversation(
            f"{each.name}, {u}",
            {name: values[u : u + 1] for name, values in each.features.items()},
            {name: shown[u : u + 1] for name, shown in each.present.items()},
            each.speakers[u : u + 1],
            [each.labels[u]],
        )
        for each in given
        for u in range(len(each))
    ]


def only(given: list[Conversation], modality: str) -> list[Conversation]:
    """The conversations with one modality."""
    return [
        Conversation(
            each.name,
            {modality: each.features[modality]},
            {modality: each.present[modality]},
            each.speakers,
            each.labels,
        )
        for each in given
    ]
