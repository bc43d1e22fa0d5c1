"""`model.generate`: text and tokens, batches with any mask, end tokens, callbacks; each equals the plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_language import generate

PROMPT = "for x in y:"


def plain_loop(model: Any, tokens: list[int], count: int) -> list[int]:
    """Greedy tokens, the whole sequence run again for each."""
    made = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            logits = model(torch.tensor([made]), return_state=False).logits[0, -1, : model.vocab_size]
            made.append(int(logits.argmax()))
    return made


def test_text_is_continued_as_by_the_function(tiny: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0, "seed": 5}
    found = tiny.generate(PROMPT, **options)
    assert found.tokens == generate(tiny, PROMPT, **options).tokens
    assert [each.text for each in tiny.generate([PROMPT, "a"], **options)] == [
        each.text for each in generate(tiny, [PROMPT, "a"], **options)
    ]
    pieces: list[str] = []
    tiny.generate(PROMPT, on_text=pieces.append, **options)
    assert "".join(pieces) == found.text
    stop = found.text[3:5]
    assert tiny.generate(PROMPT, stop=stop, **options).text == found.text[: found.text.index(stop)]


def test_tokens_are_continued_as_by_the_plain_loop(tiny: Any) -> None:
    tokens = torch.tensor([[5, 9, 200, 3], [1, 1, 2, 250]])
    found = tiny.generate(tokens, max_new_tokens=9)
    assert found.dtype == tokens.dtype
    assert found.tolist() == [plain_loop(tiny, row, 9) for row in tokens.tolist()]
    assert tiny.generate(tokens[0], max_new_tokens=9).tolist() == found[0].tolist()
    assert tiny.generate(tokens.int(), max_new_tokens=0).tolist() == tokens.tolist()


@pytest.mark.parametrize(
    "mask",
    [[[1, 1, 1, 1], [0, 0, 1, 1]], [[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 0, 1, 0], [0, 1, 0, 0]]],
    ids=["left", "right", "holes"],
)
def test_masked_tokens_are_as_if_they_were_not_there(tiny: Any, mask: list[list[int]]) -> None:
    tokens = torch.tensor([[5, 9, 200, 3], [1, 1, 2, 250]])
    found = tiny.generate(tokens, mask=torch.tensor(mask), max_new_tokens=8)
    for row in range(2):
        real = [token for token, kept in zip(tokens[row].tolist(), mask[row], strict=True) if kept]
        assert found[row, 4:].tolist() == plain_loop(tiny, real, 8)[len(real) :]


def test_rows_end_at_any_end_token_and_are_filled(tiny: Any) -> None:
    tokens = torch.tensor([[5, 9], [1, 250], [7, 7]])
    options: dict[str, Any] = {"max_new_tokens": 20, "temperature": 1.0, "seed": 2}
    free = tiny.generate(tokens, **options)[:, 2:].tolist()
    ends = [free[0][4], free[1][7]]
    found = tiny.generate(tokens, eos_token_id=ends, pad_token_id=0, **options)[:, 2:].tolist()
    for before, after in zip(free, found, strict=True):
        stops = [before.index(end) for end in ends if end in before]
        kept = before[: min(stops) + 1] if stops else before
        assert after == (kept + [0] * 20)[: len(after)]
        assert len(after) >= len(kept)
    assert tiny.generate(tokens, eos_token_id=-1, **options)[:, 2:].tolist() == free


def test_a_callback_ends_its_row_alone(tiny: Any) -> None:
    tokens = torch.tensor([[5, 9], [1, 250]])
    seen: list[tuple[int, int]] = []

    def on_token(row: int, token: int) -> bool:
        seen.append((row, token))
        return row == 1 or len(seen) < 4

    free = tiny.generate(tokens, max_new_tokens=6)[:, 2:].tolist()
    found = tiny.generate(tokens, max_new_tokens=6, on_token=on_token)[:, 2:].tolist()
    assert found[1] == free[1]
    assert found[0] == [*free[0][:3], 0, 0, 0]
    assert [token for row, token in seen if row == 1] == free[1]


@pytest.mark.parametrize(
    ("tokens", "options", "error"),
    [
        (torch.zeros(1, 2), {}, ShapeError),
        (torch.zeros(1, 2, 3, dtype=torch.int64), {}, ShapeError),
        (torch.tensor([[256]]), {}, InvalidArgumentError),
        (torch.tensor([[-1]]), {}, InvalidArgumentError),
        (torch.zeros(1, 0, dtype=torch.int64), {}, InvalidArgumentError),
        (torch.zeros(1, 2, dtype=torch.int64), {"mask": torch.zeros(1, 2)}, InvalidArgumentError),
        (torch.zeros(1, 2, dtype=torch.int64), {"stop": "x"}, InvalidArgumentError),
        (torch.zeros(1, 2, dtype=torch.int64), {"tmperature": 1}, InvalidArgumentError),
        (torch.zeros(1, 2, dtype=torch.int64), {"max_new_tokens": True}, InvalidArgumentError),
    ],
)
def test_what_cannot_be_continued_is_refused(
    make_tiny: Any, tokens: torch.Tensor, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make_tiny("mamba").generate(tokens, **options)


def test_the_mode_of_the_model_stays(tiny: Any) -> None:
    tiny.train()
    tiny.generate(PROMPT, max_new_tokens=1)
    assert tiny.training


def test_a_loaded_package_brings_processor_and_defaults(tiny: Any, tmp_path: Path) -> None:
    free = tiny.generate(PROMPT, max_new_tokens=12, temperature=1.0, seed=5).tokens
    entry = {"text": {"kind": "bytes", "eos_token_id": [free[5]]}}
    options = {"temperature": 1.0, "seed": 5, "max_new_tokens": 12}
    mambasdk.save_package(tiny, tmp_path / "package", processors=entry, head_options=options)
    loaded: Any = mambasdk.load(tmp_path / "package")
    assert loaded.generate(PROMPT).tokens == free[: free.index(free[5])]
