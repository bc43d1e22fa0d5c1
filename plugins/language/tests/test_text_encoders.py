"""Text encoders: masks and padding, training from the command line, heads in PyTorch and in the library alone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import import_checkpoint
from mambasdk.runtime import load_package
from mambasdk.testing.golden import scatter
from mambasdk_language.corpus import split_rows
from mambasdk_language.documents import Document, read_texts
from mambasdk_language.processors import BytesProcessor
from mambasdk_language.text_training import UNASKED, mask_tokens, regression_scores

TINY: dict[str, Any] = {"d_model": 16, "n_layer": 2, "vocab_size": 257, "d_state": 4, "headdim": 8, "dropout": 0.0}
SMALL = [word for name, value in TINY.items() if name != "vocab_size" for word in ("--set", f"{name}={value}")]


def encoder(**options: Any) -> Any:
    torch.manual_seed(0)
    return scatter(mambasdk.create_model("hydra", **{**TINY, **options}), 1).eval()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(257, shape, generator=torch.Generator().manual_seed(3))


# ---- padding ----


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prenorm": True, "max_positions": 20, "learnable_init_states": True},
        {"mixer": "attention_dd"},
        {"task": "classification", "pool": "first", "num_labels": 3},
        {"task": "regression", "pool": "mean", "num_labels": 1},
    ],
    ids=lambda options: ", ".join(map(str, options.values())) or "default",
)
@torch.no_grad()
def test_padding_is_not_there(options: dict[str, Any]) -> None:
    """On either side, as much of it as there may be, and holes: what the tokens alone give."""
    model, row = encoder(**options), tokens(1, 7)
    expected = model(row).logits
    for before, after in ((0, 5), (4, 2)):
        padding = [torch.full((1, count), 11) for count in (before, after)]
        mask = torch.zeros(1, 7 + before + after)
        mask[:, before : before + 7] = 1
        found = model(torch.cat([padding[0], row, padding[1]], 1), mask).logits
        found = found[:, before : before + 7] if found.ndim == 3 else found
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    holes = torch.tensor([[1, 0, 1, 1, 0, 1, 0]])
    found = model(row, holes).logits
    found = found[holes != 0][None] if found.ndim == 3 else found
    torch.testing.assert_close(found, model(row[holes != 0][None]).logits, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_upstreams_padding_leaks_and_is_to_be_asked_for() -> None:
    """The published code's outputs depend on how much padding there is; the flag repeats that, for its numbers."""
    model, row = encoder(padding="upstream"), tokens(1, 7)
    found = []
    for count in (0, 1, 6):
        mask = torch.cat([torch.ones(1, 7), torch.zeros(1, count)], 1)
        given = torch.cat([row, torch.zeros(1, count, dtype=torch.int64)], 1)
        found.append(model(given, mask).logits[:, :7])
    assert float((found[1] - found[0]).abs().max()) > 1e-4
    assert float((found[2] - found[1]).abs().max()) > 1e-4
    assert mambasdk.create_model("hydra", **TINY).config.padding == "masked"


# ---- checkpoints ----


def test_importer_reads_what_upstream_writes_and_refuses_the_rest() -> None:
    """The wrapper's prefix, a decoder of its own, classifiers, an encoder alone."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 45, "headdim": 8, "d_state": 4}
    model = encoder(n_layer=1, vocab_size=45, pool="first")
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    words = weights["model.bert.embeddings.word_embeddings.weight"]
    assert words.shape == (48, 16)
    decoder = {"model.cls.predictions.decoder.weight": words.clone()}
    again = import_checkpoint("hydra", sizes, weights | decoder)
    given = tokens(2, 5) % 45
    assert torch.equal(again.eval()(given).logits, model(given).logits)
    with pytest.raises(CheckpointError, match="not the word embedding"):
        import_checkpoint("hydra", sizes, weights | {name: value + 1 for name, value in decoder.items()})
    alone = {name: value for name, value in weights.items() if ".cls." not in name}
    with pytest.raises(CheckpointError, match="an encoder alone"):
        import_checkpoint("hydra", sizes, alone)
    for labels, task in ((3, "classification"), (1, "regression")):
        other = model.with_task(task, labels)
        made: Any = import_checkpoint("hydra", sizes, other.state_dict())
        assert made.config.task == task
        assert torch.equal(made.eval()(given).logits, other.eval()(given).logits)
    with pytest.raises(CheckpointError, match="rows"):
        import_checkpoint("hydra", {**sizes, "vocab_size": 50}, weights)


# ---- data ----


def test_masks_are_drawn_at_the_rate_and_never_none() -> None:
    rows = np.arange(4000, dtype=np.int32).reshape(4, 1000) % 200
    read, labels = mask_tokens(rows, np.random.default_rng(0), rate=0.3, mask_token=256, vocab_size=257)
    asked = labels != UNASKED
    assert abs(asked.mean() - 0.3) < 0.03
    assert (labels[asked] == rows[asked]).all()
    assert (read[~asked] == rows[~asked]).all()
    assert abs((read[asked] == 256).mean() - 0.8) < 0.03
    assert abs((read[asked] == rows[asked]).mean() - 0.1) < 0.03
    _, labels = mask_tokens(rows[:, :2], np.random.default_rng(0), rate=1e-9, mask_token=256, vocab_size=257)
    assert ((labels != UNASKED).sum(1) == 1).all()


def test_labelled_rows_are_read_by_column_and_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,mood,stars\nfine,up,4\n"so, so",,2\n,down,1\n')
    (tmp_path / "b.jsonl").write_text('{"text": "bad", "mood": "down", "stars": 1.5}\n{"text": "none"}\n')
    (tmp_path / "c.txt").write_text("no columns")
    reading = read_texts([tmp_path], label="mood")
    assert [(each.data, each.label) for each in reading.documents] == [(b"fine", "up"), (b"bad", "down")]
    assert reading.skipped["rows without mood"] == ["a.csv#2", "b.jsonl#2"]
    assert reading.skipped["no rows with a column mood"] == ["c.txt"]
    rows = [Document(f"row {i}", b"x", i) for i in range(200)]
    train, held_out = split_rows(rows, 0.1)
    assert 8 <= len(held_out) <= 40
    assert {each.name for each in train}.isdisjoint(each.name for each in held_out)
    some = split_rows(rows[:120], 0.1)[1]
    assert set(some) <= set(held_out)
    assert len(split_rows(rows[:2], 0.01)[1]) == 1


def test_bytes_with_a_mask_are_the_librarys(tmp_path: Path) -> None:
    processor = BytesProcessor(mask_token="[MASK]")
    assert processor.vocab_size == 257
    assert processor.encode("[MASK]é[MASK][M") == [256, 195, 169, 256, *b"[M"]
    mambasdk.save_package(encoder(), tmp_path / "package")
    native = load_package(tmp_path / "package").tokenizer()
    assert list(native.encode("[MASK]é[MASK][M")) == processor.encode("[MASK]é[MASK][M")


def test_regression_scores_of_numbers_that_are_known() -> None:
    found = regression_scores([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0])
    assert found == pytest.approx({"r2": 0.2, "mean_absolute_error": 1.0, "pearson": 1.0})
    assert np.isnan(regression_scores([1.0, 1.0], [1.0, 2.0])["r2"])


# ---- the command line ----


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of two words that go together, whose class is in them and whose number is that of their vowels."""
    chance = np.random.default_rng(0)
    lines = []
    for _ in range(240):
        up = bool(chance.integers(2))
        word = "good" if up else "bad"
        text = f"{word} {'yes' if up else 'no'} {word}"
        lines.append({"text": text, "mood": "up" if up else "down", "stars": 4 if up else 1})
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def call(capsys: Any, *arguments: object) -> Any:
    code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_pretraining_then_classes_then_numbers(capsys: Any, rows: Path, tmp_path: Path) -> None:
    """One package becomes the next; each says what it learnt, natively as in PyTorch."""
    run = ["--held-out", "0.1", "--lr", "1e-2", "--batch", "8", "--seed", "1"]
    masked, classes, numbers = (tmp_path / name for name in ("masked", "classes", "numbers"))
    # Small matrices want larger weights than 0.02 to begin with.
    new = ["--context", "24", "--steps", "120", "--set", "initializer_range=0.1", *SMALL]
    report = call(capsys, "train", "hydra", "--data", rows, "--out", masked, *new, *run)
    assert report["masked_accuracy"] > 0.3  # of 257
    texts = ["--text", "good y[MASK]s good", "--text", "bad [MASK]o bad"]
    results = call(capsys, "predict", masked, *texts, "--top-k", 2)["results"]
    assert [result["input"] for result in results] == texts[1::2]
    assert [len(result["fills"]) for result in results] == [2, 2]
    model: Any = mambasdk.load(masked).eval()
    with torch.no_grad():
        logits = model(torch.tensor([BytesProcessor(mask_token="[MASK]").encode(texts[1])])).logits[0, 6, :256]
    best = results[0]["fills"][0]
    assert best["index"] == int(logits.argmax())
    assert best["token"] == chr(best["index"])
    assert results[0]["text"] == texts[1].replace("[MASK]", best["token"])
    every = torch.softmax(logits, 0)[best["index"]]
    assert best["score"] == pytest.approx(float(every), abs=1e-4)

    report = call(capsys, "train", masked, "--data", rows, "--label", "mood", "--out", classes, "--steps", 40, *run)
    assert report["labels"] == ["down", "up"]
    assert report["accuracy"] == 1
    (tmp_path / "one.txt").write_text("good yes good")
    said = call(capsys, "predict", classes, tmp_path / "one.txt", "--text", "bad no bad")["results"]
    assert [result["labels"][0]["label"] for result in said] == ["down", "up"]
    measured = call(capsys, "evaluate", classes, "--data", rows, "--label", "mood")
    assert measured["metrics"]["accuracy"] == 1

    report = call(capsys, "train", classes, "--data", rows, "--target", "stars", "--out", numbers, "--steps", 60, *run)
    assert report["r2"] > 0.8
    said = call(capsys, "predict", numbers, "--text", "good yes good")["results"][0]["values"]
    assert said[0]["label"] == "stars"
    assert said[0]["score"] == pytest.approx(4, abs=0.8)
    assert call(capsys, "evaluate", numbers, "--data", rows, "--target", "stars")["metrics"]["r2"] > 0.8
    assert call(capsys, "evaluate", masked, "--data", rows)["metrics"]["masked_bits"] < 6
    for package in (masked, classes, numbers):
        call(capsys, "verify", package)


def test_what_cannot_be_learnt_or_measured_is_said(capsys: Any, rows: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    mambasdk.save_package(encoder(task="classification"), package, head_options={"labels": ["a", "b"]}, engine="torch")
    small = [*SMALL, "--steps", "2", "--out", str(tmp_path / "out")]
    (tmp_path / "words.csv").write_text("text,stars\nfine,many\nbad,few\nso,4\n")
    for arguments, message in (
        (["evaluate", package, "--data", rows], "name it with --label"),
        (["evaluate", package, "--data", rows, "--label", "mood"], "bad label: expected a, b, got 'up'"),
        (["predict", package], "nothing to predict"),
        (["train", "hydra", "--data", rows, "--label", "text", "--target", "stars", *small], "not allowed with"),
        (
            ["train", "hydra", "--data", rows, "--label", "moods", *small],
            "without rows that have moods (they have text, mood",
        ),
        (["train", "hydra", "--data", tmp_path / "words.csv", "--target", "stars", *small], "expected a number"),
        (["train", "mamba2", "--data", rows, "--label", "mood", *small], "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit) if message.startswith(("not allowed", "unrecog")) else contextlib.nullcontext():
            assert main([*map(str, arguments)]) != 0
        assert message in capsys.readouterr().err, message
    with pytest.raises(InvalidArgumentError, match="masked_lm or classification"):
        mambasdk.create_model("hydra", task="tagging")


def test_the_papers_structures_have_its_sizes() -> None:
    """Arxiv 2407.09941, section 4: 70 to 72 million parameters each."""
    names = mambasdk.list_models("hydra-*-d?")
    assert len(names) == 12
    for name in names:
        count = sum(parameter.numel() for parameter in mambasdk.create_model(name, device="meta").parameters())
        assert 70e6 <= count <= 72e6, (name, count)
