"""Pipelines, processors and the description of the process from Python, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mambasdk import _core


def test_text_in_text_out(shifted: Path) -> None:
    pipeline = _core.Pipeline(_core.load_package(shifted))
    result = pipeline.run({"text": "ab"})
    assert result["json"] == {"text": "cde", "prompt_tokens": 2, "new_tokens": 3}
    assert result["text"].tobytes() == b"cde"
    as_array = pipeline.run({"text": np.frombuffer(b"ab", np.uint8)}, {"max_new_tokens": 1})
    assert as_array["json"]["text"] == "c"
    pieces: list[str] = []
    pipeline.run({"text": b"ab"}, {"max_new_tokens": 2}, on_text=lambda piece: pieces.append(piece) is None)
    assert pieces == ["c", "d"]


def test_an_exception_in_on_text_arrives(shifted: Path) -> None:
    def stop(piece: str) -> bool:
        raise KeyError(piece)

    with pytest.raises(KeyError, match="c"):
        _core.Pipeline(_core.load_package(shifted)).run({"text": "ab"}, on_text=stop)


def test_wrong_inputs_and_options_are_named(shifted: Path) -> None:
    pipeline = _core.Pipeline(_core.load_package(shifted))
    with pytest.raises(ValueError, match="one input, text"):
        pipeline.run({"image": b"ab"})
    with pytest.raises(ValueError, match=r"options\.beams is no option"):
        pipeline.run({"text": "ab"}, {"beams": 2})
    with pytest.raises(ValueError, match="u8 vector"):
        pipeline.run({"text": np.zeros(2, np.float32)})


def test_a_processor_by_itself() -> None:
    result = _core.Processor("bytes").run({"text": "hé"})
    assert result["tokens"].dtype == np.int32
    assert result["tokens"].tolist() == [[0x68, 0xC3, 0xA9]]
    with pytest.raises(LookupError, match="there is no head of kind"):
        _core.Processor("nothing", head=True)


def test_the_process_describes_itself() -> None:
    _core.declare_component("pytest-component", "1.2")
    described = _core.runtime_describe()
    assert {"name": "pytest-component", "version": "1.2", "origin": "host"} in described["components"]
    assert "native" in {engine["name"] for engine in described["engines"]}
    assert {"bytes", "tokenizer"} <= {processor["kind"] for processor in described["processors"]}
    assert all(entry["origin"] for kind in ("engines", "processors", "heads") for entry in described[kind])
