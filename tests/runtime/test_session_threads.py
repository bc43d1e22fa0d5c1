"""Objects that belong to one thread at a time, shared by Python threads: they take turns, and nothing crashes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mambasdk import _core


def test_threads_that_share_a_session_take_turns(shifted: Path) -> None:
    session = _core.load_package(shifted).session()

    def use(round_: int) -> str:
        if round_ % 5 == 1:
            session.restore(session.state())
        elif round_ % 5 == 2:
            return str(session.clone().generate("ab", max_new_tokens=2)["text"])
        elif round_ % 5 == 3:
            session.run({"tokens": np.array([[97, 98]], np.int32)}, ["logits"])
        elif round_ % 5 == 4:
            session.reset()
        return str(session.generate("ab", max_new_tokens=2)["text"])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(200))) == {"cd"}


def test_threads_that_share_a_pipeline_take_turns(shifted: Path) -> None:
    pipeline = _core.Pipeline(_core.load_package(shifted))

    def use(_: int) -> str:
        shown: list[str] = []
        text = str(pipeline.run({"text": "ab"}, on_text=lambda piece: shown.append(piece) is None)["json"]["text"])
        return text if text == "".join(shown) else "mixed"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(100))) == {"cde"}


def test_a_callback_may_not_use_the_session_that_calls_it(shifted: Path) -> None:
    session = _core.load_package(shifted).session()

    def again(piece: str) -> bool:
        session.reset()
        return True

    with pytest.raises(ValueError, match="whose callback this is"):
        session.generate("ab", on_text=again)
    assert session.generate("ab", max_new_tokens=1)["text"] == "c"
