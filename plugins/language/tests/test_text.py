"""Text out of tokens: whole characters, and never the beginning of a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.processors import BytesProcessor, TextStream, TokenizerProcessor, bytes_processor


class Pieces:
    """Decodes tokens of several bytes: token i stands for the i-th of some byte strings."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.bytes = BytesProcessor().decoder()

    def push(self, token: int) -> str:
        return "".join(map(self.bytes.push, self.pieces[token]))

    def finish(self) -> str:
        return self.bytes.finish()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(position, len(data)) for position in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def run(pieces: list[bytes], stop: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(Pieces(pieces), stop)
    shown = []
    for token in range(len(pieces)):
        shown.append(stream.push(token))
        if stream.stopped:
            return shown, True
    shown.append(stream.finish())
    return shown, stream.stopped


@given(st.text(), st.lists(st.integers(0, 60)))
def test_any_cut_of_utf8_gives_the_text_in_whole_characters(text: str, cuts: list[int]) -> None:
    text = text.encode(errors="replace").decode()
    shown, _ = run(cut(text.encode(), cuts), [])
    assert "".join(shown) == text
    for piece in shown:
        piece.encode()
        assert "�" not in piece or "�" in text


@given(st.binary(), st.lists(st.integers(0, 60)))
def test_any_bytes_decode_as_a_whole_would(data: bytes, cuts: list[int]) -> None:
    shown, _ = run(cut(data, cuts), [])
    assert "".join(shown) == data.decode(errors="replace")


@given(st.text("ab\né"), st.lists(st.text("ab\né", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 60)))
def test_text_ends_before_the_first_stop_string_wherever_tokens_end(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    shown, stopped = run(cut(text.encode(), cuts), stops)
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    assert stopped == bool(found)
    result = "".join(shown)
    assert text.startswith(result)
    assert not any(stop in result for stop in stops)
    if found:
        # Where tokens end decides only how early a stop string is noticed, not what is before it.
        assert result == text[: min(found)] or any(text.startswith(stop, len(result)) for stop in stops)
    else:
        assert result == text


def test_bytes_processor() -> None:
    processor = BytesProcessor()
    assert processor.encode("aé\n") == [97, 0xC3, 0xA9, 10]
    assert processor.encode("\ud800") == [63]
    decoder = processor.decoder()
    assert [decoder.push(token) for token in (0xC3, 300, 0xA9, 0xFF, 97)] == ["", "", "é", "�", "a"]
    assert bytes_processor({"kind": "bytes", "eos_token_id": 0}, None).eos_token_id == 0  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="eos_token_id"):
        bytes_processor({"kind": "bytes", "eos_token_id": -1}, None)  # type: ignore[arg-type]


def test_missing_tokenizer_file_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no\.json"):
        TokenizerProcessor("no.json")
