"""Training: the text a step sees, exact resumption with carried state, and held-out bits that mean what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.training import Trainer, TrainingOptions
from mambasdk_language.corpus import Corpus, Document, Windows, make_corpus, read_documents, split_documents
from mambasdk_language.ngram import NgramModel
from mambasdk_language.processors import BytesProcessor
from mambasdk_language.training import LanguageModeling, bits_per_byte


def documents(count: int = 40) -> list[Document]:
    return [
        Document(f"file{i}.txt", (f"line {i}: the cat sat on the mat\n" * (3 + i % 5)).encode()) for i in range(count)
    ]


@pytest.fixture
def corpus() -> Corpus:
    return make_corpus(*split_documents(documents(), 0.2), BytesProcessor())


def trainer(model: Any, corpus: Corpus, *, steps: int = 12, seed: int = 0, lr: float = 1e-2, **sizes: int) -> Trainer:
    sizes = {"batch": 4, "context": 32, "segment": 3, **sizes}
    options = TrainingOptions(steps=steps, batch=sizes["batch"], lr=lr, seed=seed)
    return Trainer(model, LanguageModeling(model, corpus, **sizes, seed=seed), options)


def test_split_is_by_file_name_and_loses_nothing() -> None:
    train, held_out = split_documents(documents(), 0.2)
    assert sorted(d.name for d in train + held_out) == sorted(d.name for d in documents())
    more_train, more_held_out = split_documents(documents(200), 0.2)
    assert {d.name for d in held_out} <= {d.name for d in more_held_out}
    assert {d.name for d in train} <= {d.name for d in more_train}
    assert 0.1 < len(more_held_out) / 200 < 0.3


def test_single_file_is_cut_at_its_end() -> None:
    document = Document("only.txt", b"0123456789" * 10)
    train, held_out = split_documents([document], 0.1)
    assert train[0].data + held_out[0].data == document.data
    assert len(held_out[0].data) == 10


def test_reading_takes_text_and_leaves_hidden_and_binary_files(tmp_path: Path) -> None:
    for name, data in {
        "a.py": b"a",
        "b.txt": b"b",
        ".hidden": b"h",
        "c.py": b"x\0y",
        "d/e.py": b"e",
        "f.py": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert [d.name for d in read_documents([tmp_path])] == ["a.py", "b.txt", "d/e.py"]
    assert [d.data for d in read_documents([tmp_path], "*.py")] == [b"a", b"e"]
    with pytest.raises(InvalidArgumentError, match="nowhere"):
        read_documents([tmp_path / "nowhere"])


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_windows_follow_each_other_until_a_row_begins_anew(batch: int, context: int, segment: int, seed: int) -> None:
    text = np.arange(200, dtype=np.int32)
    windows = Windows(text, batch=batch, context=context, segment=segment, seed=seed)
    rows, fresh = windows.at(0)
    assert fresh.all()
    for step in range(1, 14):
        following, fresh = windows.at(step)
        assert following.shape == (batch, context + 1)
        for row in range(batch):
            assert (np.diff(following[row]) == 1).all()  # text in one piece
            if not fresh[row]:
                assert following[row][0] == rows[row][-1]
        rows = following
        assert np.array_equal(windows.at(step)[0], rows)


def test_training_learns_and_the_seed_decides_everything(corpus: Corpus, family: str, make_tiny: Any) -> None:
    runs = [trainer(make_tiny(family), corpus, steps=30).run(progress=False) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses[-1] < 0.6 * runs[0].losses[0]
    assert runs[0].units == 30 * 4 * 32
    other = trainer(make_tiny(family), corpus, steps=30, seed=1).run(progress=False)
    assert other.losses != runs[0].losses


def test_losses_are_bits_per_token_and_the_metric_is_bits_per_byte(corpus: Corpus, make_tiny: Any) -> None:
    model = make_tiny("mamba")
    first = trainer(model, corpus)
    rows, _ = Windows(corpus.train, batch=4, context=32, segment=3, seed=0).at(0)
    tokens = torch.from_numpy(rows).long()
    with torch.no_grad():
        log_p = model(tokens[:, :-1]).logits.double().log_softmax(-1).gather(-1, tokens[:, 1:, None])
        bits = bits_per_byte(model, corpus.held_out, corpus.held_out_bytes)
    assert first.evaluate() == {"bits_per_byte": bits}
    assert first.step() == pytest.approx(-float(log_p.mean()) / math.log(2), rel=1e-5)


def test_resumed_run_equals_an_unbroken_one_bit_for_bit(
    corpus: Corpus, family: str, make_tiny: Any, tmp_path: Path
) -> None:
    whole = trainer(make_tiny(family), corpus)
    whole.run(progress=False)

    first = trainer(make_tiny(family), corpus)
    for _ in range(5):
        first.step()
    first.save(tmp_path / "checkpoint")
    second = trainer(make_tiny(family, n_layer=2), corpus)
    second.resume(tmp_path / "checkpoint")
    second.run(progress=False)

    assert second.result.losses == whole.result.losses
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_checkpoints_of_other_sizes_are_refused(corpus: Corpus, make_tiny: Any, tmp_path: Path) -> None:
    trainer(make_tiny("mamba"), corpus).save(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=r"other sizes: expected .*'context': 16.*got .*'context': 32"):
        trainer(make_tiny("mamba"), corpus, context=16).resume(tmp_path / "checkpoint")


def test_bits_per_byte_are_the_cross_entropy_of_each_document_alone(tiny: Any, corpus: Corpus) -> None:
    total = 0.0
    for document in corpus.held_out:
        logits = tiny(torch.from_numpy(document).long()[None]).logits[0].detach().double()
        log_p = logits.log_softmax(-1)
        total += 8 - sum(float(log_p[t, token]) for t, token in enumerate(document[1:].tolist())) / math.log(2)
    expected = total / sum(map(len, corpus.held_out))
    for batch, window in ((1, 1000), (3, 7), (8, 64)):
        found = bits_per_byte(tiny, corpus.held_out, corpus.held_out_bytes, batch=batch, window=window)
        assert found == pytest.approx(expected, rel=1e-5)


def reference_ngram(train: list[bytes], held_out: bytes, order: int) -> float:
    """Interpolated modified Kneser-Ney by dictionaries and sums."""
    tables: list[dict[bytes, int]] = [{} for _ in range(order + 1)]
    for text in train:
        padded = bytes(order - 1) + text
        for end in range(order, len(padded) + 1):
            gram = padded[end - order : end]
            tables[order][gram] = tables[order].get(gram, 0) + 1
    for k in range(order - 1, 0, -1):
        for gram in tables[k + 1]:
            tables[k][gram[1:]] = tables[k].get(gram[1:], 0) + 1

    def discount(k: int, count: int) -> float:
        n = [0, *(max(sum(c == i for c in tables[k].values()), 1) for i in (1, 2, 3, 4))]
        y = n[1] / (n[1] + 2 * n[2])
        values = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        limited = [min(max(value, 0.05 * i), 0.95 * i) for i, value in enumerate(values, start=1)]
        return limited[min(count, 3) - 1] if count else 0.0

    def probability(context: bytes, byte: int) -> float:
        p = 1 / 256
        for k in range(1, order + 1):
            tail = context[len(context) - k + 1 :]
            counts = {gram: count for gram, count in tables[k].items() if gram[:-1] == tail}
            total = sum(counts.values())
            if total:
                count = counts.get(tail + bytes((byte,)), 0)
                reserved = sum(discount(k, c) for c in counts.values())
                p = (count - discount(k, count)) / total + reserved / total * p
        return p

    padded = bytes(order - 1) + held_out
    bits = [-math.log2(probability(padded[i : i + order - 1], padded[i + order - 1])) for i in range(len(held_out))]
    return sum(bits) / len(bits)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_ngram_model_equals_its_definition(order: int) -> None:
    train = [document.data for document in documents(6)]
    held_out = b"line 3: the mat sat on a dog\n"
    assert NgramModel(train, order).bits_per_byte([held_out]) == pytest.approx(reference_ngram(train, held_out, order))


def test_ngram_probabilities_sum_to_one() -> None:
    model = NgramModel([document.data for document in documents()], 4)
    for context in (b"", b"the", b"zzz", b"at o"):
        whole = len(context) + 1
        total = 0.0
        before = model.bits_per_byte([context]) * len(context) if context else 0.0
        for byte in range(256):
            total += 2 ** (before - whole * model.bits_per_byte([context + bytes((byte,))]))
        assert total == pytest.approx(1.0)


def test_higher_order_is_better_on_repetitive_text() -> None:
    train, held_out = split_documents(documents(60), 0.2)
    bits = [
        NgramModel([d.data for d in train], order).bits_per_byte([d.data for d in held_out]) for order in (1, 2, 3, 5)
    ]
    assert bits == sorted(bits, reverse=True)


def test_token_outside_the_vocabulary_is_named(corpus: Corpus, make_tiny: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="below vocab_size 61"):
        trainer(make_tiny("mamba", vocab_size=61), corpus)
