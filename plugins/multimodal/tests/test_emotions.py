"""Conversations from files, feature pickles that run nothing, and the head: train, evaluate, predict, pictures."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk import pipeline
from mambasdk.command_line.program import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.package import Manifest
from mambasdk_multimodal import features
from mambasdk_multimodal.conversations import collate, dims_of, read_conversations, save_conversation
from mambasdk_multimodal.emotion_training import EmotionTask, scores_of, split_conversations
from mambasdk_multimodal.feature_pickles import read_feature_pickle, read_pickle
from mambasdk_multimodal.processors import ConversationProcessor, EmotionRecognition

DIMS = {"text": 4, "audio": 3}
LABELS = ("angry", "happy", "sad")
READER = {"modalities": list(DIMS), "in_dims": list(DIMS.values())}


def conversation(index: int, length: int = 6) -> dict[str, Any]:
    """The label of an utterance is the largest of the first three numbers of its text."""
    chance = np.random.default_rng(index)
    utterances = []
    for u in range(length):
        label = int(chance.integers(3))
        vectors = {m: 0.2 * chance.normal(size=d) for m, d in DIMS.items()}
        for vector in vectors.values():
            vector[label] += 2
        given = {m: v.round(4).tolist() for m, v in vectors.items()}
        if u == 1:
            given["audio"] = None
        utterances.append({"speaker": "ba"[u % 2], "label": LABELS[label], "text": f"word {u}", "features": given})
    return {"name": f"talk {index}", "utterances": utterances}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "talks.jsonl").write_text("".join(json.dumps(conversation(i)) + "\n" for i in range(20)))
    (folder / "one.json").write_text(json.dumps(conversation(30)))
    return folder


def run(capsys: pytest.CaptureFixture[str] | None, *arguments: str | Path) -> Any:
    """The JSON of a command that succeeds."""
    code = main([*map(str, arguments), "--json"])
    said = capsys.readouterr().out if capsys is not None else ""
    assert code == 0
    return json.loads(said.splitlines()[-1]) if said else None


@pytest.fixture(scope="module")
def package(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "package"
    sizes = [f"--set={each}" for each in ("d_model=16", "d_state=4", "bls_groups=2", "bls_enhance=8")]
    training = ["--steps", "60", "--lr", "5e-3", "--batch", "8", "--class-weights"]
    run(None, "train", "merc", "--data", data / "talks.jsonl", "--out", out, *sizes, *training)
    return out


def test_reader_by_hand() -> None:
    made = ConversationProcessor(**READER)(conversation(1, 3))
    given = conversation(1, 3)["utterances"]
    assert made["speakers"].tolist() == [[0, 1, 0]]
    assert made["present"].tolist() == [[[1, 1], [1, 0], [1, 1]]]
    np.testing.assert_allclose(made["text"][0], [each["features"]["text"] for each in given], rtol=1e-6)
    assert not made["audio"][0, 1].any()
    numbered = {"utterances": [{"speaker": 4}, {"speaker": 0}], "features": {"text": [[1, 2, 3, 4], None]}}
    made = ConversationProcessor(**READER)(numbered)
    assert made["speakers"].tolist() == [[4, 0]]
    assert made["present"].tolist() == [[[1, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"utterances": []}, "at least one"),
        ({"people": 2}, 'key "people"'),
        ({"utterances": [{"mood": 1}]}, 'utterance 0: the key "mood"'),
        ({"utterances": [{"features": {"text": [1, 2]}}]}, "utterance 0: text: expected 4 numbers"),
        ({"utterances": [{"features": {"smell": [1]}}]}, "the model has text, audio"),
        ({"utterances": [{"features": {"text": [1, 2, 3, "x"]}}]}, "finite numbers"),
        ({"utterances": [{"features": {"text": "a.npy"}}]}, "save_conversation"),
        ({"utterances": [{"speaker": "a"}, {"speaker": 1}]}, "utterance 1: speaker"),
        ({"utterances": [{"speaker": -1}]}, "whole number from 0"),
        ({"utterances": [{"speaker": s} for s in "abc"]}, "the model knows 2 speakers"),
        ({"utterances": [{}], "features": {"text": [[0] * 4] * 2}}, "a list of 1 vectors"),
        ({"utterances": [{"features": {"text": [0] * 4}}], "features": {"text": [[0] * 4]}}, "text twice"),
    ],
)
def test_reader_names_what_is_wrong(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ConversationProcessor(**READER, max_speakers=2)({"utterances": [{}], **change})


def test_native_head_by_hand() -> None:
    logits = torch.tensor([[[0.0, 1.0], [3.0, 3.0]]])
    said = EmotionRecognition(labels=["calm", "sad"], modalities=["text", "audio"])(
        logits, torch.tensor([[[0.25, 0.75], [1.0, 0.0]]]), torch.tensor([[1, 0]])
    )
    assert [each["label"] for each in said] == ["sad", "calm"]  # equal scores by index
    assert said[0]["score"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert said[0]["weights"] == {"text": 0.25, "audio": 0.75}
    assert [each["speaker"] for each in said] == [1, 0]
    with pytest.raises(ValueError, match="3 names, the model has 2"):
        EmotionRecognition(labels=["a", "b", "c"])(logits, torch.ones(1, 2, 2))


def test_files_arrays_and_what_is_written_again(data: Path, tmp_path: Path) -> None:
    """Features in `.npy` files are those of numbers in the JSON; a saved conversation is the same conversation."""
    inline = read_conversations([data / "one.json"])[0]
    row = conversation(30)
    for each in row["utterances"]:
        del each["features"]["text"]
    np.save(tmp_path / "text.npy", inline.features["text"])
    np.save(tmp_path / "audio0.npy", inline.features["audio"][0])
    row["features"] = {"text": "text.npy"}
    row["utterances"][0]["features"]["audio"] = "audio0.npy"
    (tmp_path / "talk.json").write_text(json.dumps(row))
    save_conversation(inline, tmp_path / "saved.json")
    for name in ("talk.json", "saved.json"):
        found = read_conversations([tmp_path / name], DIMS)[0]
        assert (found.labels, found.texts) == (inline.labels, inline.texts)
        assert found.speakers.tolist() == inline.speakers.tolist()
        for modality in DIMS:
            assert found.present[modality].tolist() == inline.present[modality].tolist()
            np.testing.assert_array_equal(found.features[modality], inline.features[modality])
    row["features"] = {"text": "absent.npy"}
    (tmp_path / "talk.json").write_text(json.dumps(row))
    with pytest.raises(InvalidArgumentError, match=r"talk\.json#1.*absent\.npy"):
        read_conversations([tmp_path / "talk.json"])
    with pytest.raises(InvalidArgumentError, match=r"expected 5 numbers"):
        read_conversations([data / "one.json"], {"text": 5, "audio": 3})


def feature_parts(versions: int = 4) -> tuple[Any, ...]:
    chance = np.random.default_rng(0)
    lengths = {"Ses01": 4, "Ses05": 2}
    ids = {k: [f"{k}_{i}" for i in range(n)] for k, n in lengths.items()}
    speakers = {"Ses01": ["M", "F", "F", "M"], "Ses05": [[0, 1], [1, 0]]}
    labels = {"Ses01": [0, 1, 5, 2], "Ses05": [3, 4]}
    dims = [*[8] * versions, 6, 5]
    matrices = [{k: chance.normal(size=(n, d)).astype(np.float32) for k, n in lengths.items()} for d in dims]
    sentences = {k: [f"said {i}" for i in range(n)] for k, n in lengths.items()}
    return (ids, speakers, labels, *matrices, sentences, ["Ses01"], {"Ses05"})


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("versions", [1, 4])
def test_feature_pickles_of_every_protocol(protocol: int, versions: int, tmp_path: Path) -> None:
    parts = feature_parts(versions)
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(parts, protocol))
    first, second = read_feature_pickle(tmp_path / "features.pkl")
    assert (first.split, second.split) == ("train", "test")
    assert first.speakers.tolist() == [0, 1, 1, 0]
    assert second.speakers.tolist() == [1, 0]
    assert first.labels == ["0", "1", "5", "2"]
    assert first.texts[1] == "said 1"
    mean = np.mean([each["Ses01"] for each in parts[3 : 3 + versions]], 0)
    np.testing.assert_allclose(first.features["text"], mean, rtol=1e-6)
    np.testing.assert_array_equal(first.features["audio"], parts[3 + versions]["Ses01"])
    assert dims_of([first, second]) == {"text": 8, "audio": 6, "visual": 5}


def test_plain_values_of_pickles(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, "x", None, True], "n": np.float64(0.5), "i": np.arange(6).reshape(2, 3), "f": (1, b"2")}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, 4))
    found = read_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(found.pop("i"), value.pop("i"))
    assert found == value


class _Executes:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_pickles_that_run_something_are_refused(tmp_path: Path) -> None:
    """Named, with the way out, and nothing has run; so are classes, objects in arrays and damaged files."""
    victim, bad = tmp_path / "victim", tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps({"x": _Executes(str(victim))}))
    with pytest.raises(InvalidArgumentError, match=r"pathlib.*any program") as caught:
        read_pickle(bad)
    assert ".npy" in str(caught.value)
    assert not victim.exists()
    for program in (b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR."):
        bad.write_bytes(program)
        with pytest.raises(InvalidArgumentError, match=r"os\.system|builtins\.eval|numpy\.load"):
            read_pickle(bad)
    for value in (np.array([object()], object), torch.ones(2), np.dtype([("a", "f4")]), range(3)):
        bad.write_bytes(pickle.dumps(value))
        with pytest.raises(InvalidArgumentError, match=r"which is not read|damaged"):
            read_pickle(bad)
    whole = pickle.dumps(feature_parts(), 4)
    for content in (whole[: len(whole) // 2], b"", b"\x80\x04" + struct.pack("<Q", 2**60), whole[:-40] + bytes(40)):
        bad.write_bytes(content)
        with pytest.raises(InvalidArgumentError):
            read_pickle(bad)
    bad.write_bytes(pickle.dumps(np.ones(4)).replace(struct.pack("<d", 1.0), b"", 1))
    with pytest.raises(InvalidArgumentError):
        read_pickle(bad)
    bad.write_bytes(b"cnumpy\ndtype\n}S'x'\nI1\nsb.")  # an attribute for one of the reader's own names
    with pytest.raises(InvalidArgumentError, match="a state of a function"):
        read_pickle(bad)
    bad.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(InvalidArgumentError, match="no feature file"):
        read_feature_pickle(bad)


def test_batches_losses_and_scores(data: Path) -> None:
    """Utterances without a label and padding do not count; rare classes weigh more; weighted F1 by hand."""
    found = read_conversations([data / "talks.jsonl"])
    train, held_out = split_conversations(found, 0.2, 0)
    assert (len(train), len(held_out)) == (16, 4)
    train[0].labels[0] = None
    batch = collate(train[:2], DIMS, {label: i for i, label in enumerate(LABELS)}, absent=["audio"])
    assert batch["labels"][0, 0] == -1
    assert not batch["present"][..., 1].any()
    model = mambasdk.create_model("merc", **READER, d_model=8, n_classes=3, bls_groups=1, bls_enhance=2)
    task = EmotionTask(model, train, held_out, LABELS, class_weights=True, batch=4)
    loss, units = task.loss(0)
    assert loss.isfinite()
    assert units in (23, 24)
    weights = task._class_weights()
    counts = np.array([sum(each.labels.count(label) for each in train) for label in LABELS])
    np.testing.assert_allclose(weights.numpy(), counts.sum() / (3 * counts), rtol=1e-6)
    scores = scores_of(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert scores["weighted_f1"] == pytest.approx(0.8 * 3 / 4 + (2 / 3) / 4)
    assert scores["accuracy"] == pytest.approx(0.75)
    assert scores["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)  # of the classes that occur
    with pytest.raises(InvalidArgumentError, match="no class 'happy'"):
        collate(train[:1], DIMS, {"joyful": 0})


def test_trained_package_is_measured(package: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Manifest.read(package).head_options
    assert options == {"labels": list(LABELS), "modalities": list(DIMS)}
    whole = run(capsys, "evaluate", package, "--data", data / "talks.jsonl")
    assert whole["metrics"]["weighted_f1"] > 0.9
    part = run(capsys, "evaluate", package, "--data", data / "talks.jsonl", "--without", "audio")
    rows = {row["modality"]: row["mean_weight"] for row in part["modalities"]}
    assert rows == {"text": pytest.approx(1.0), "audio": 0.0}


def test_package_predicts_in_the_library_what_pytorch_computes(
    package: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And draws it."""
    said = pipeline.load_pipeline(package).run({"conversation": (data / "one.json").read_bytes()})["json"]["utterances"]
    model: Any = mambasdk.load(package)
    given = ConversationProcessor(**READER)(data / "one.json")
    with torch.no_grad():
        out = model.native_outputs({name: torch.from_numpy(value) for name, value in given.items()})
    expected = out["logits"][0].softmax(-1)
    found = torch.tensor([[each["scores"][label] for label in LABELS] for each in said])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    shares = torch.tensor([[each["weights"][m] for m in DIMS] for each in said])
    torch.testing.assert_close(shares, out["weights"][0], atol=1e-5, rtol=0)
    assert said[1]["weights"]["audio"] == 0
    run(capsys, "predict", package, data / "one.json", "--plot", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_training_goes_on_from_a_package_and_from_a_feature_pickle(
    package: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["--steps", "1", "--batch", "2"]
    run(capsys, "train", package, "--data", data / "talks.jsonl", "--out", tmp_path / "more", *steps)
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(feature_parts()))
    names = "happy,sad,neutral,angry,excited,frustrated"
    arguments = ["--data", tmp_path / "features.pkl", "--labels", names, "--set", "d_model=8"]
    report = run(capsys, "train", "merc", *arguments, "--out", tmp_path / "iemocap", *steps)
    assert report["labels"] == names.split(",")
    config = Manifest.read(tmp_path / "iemocap").config
    assert (config["in_dims"], config["n_classes"], config["n_speakers"]) == ([8, 6, 5], 6, 2)
    report = run(capsys, "evaluate", tmp_path / "iemocap", "--data", tmp_path / "features.pkl")
    assert report["data"]["utterances"] == 2  # those of the file's test split


def test_features_of_raw_text_by_a_local_model(tmp_path: Path) -> None:
    """A tiny BERT of its own: vectors do not depend on what else is in the batch. One that is not here is named."""
    transformers = pytest.importorskip("transformers")
    with pytest.raises(InvalidArgumentError, match=r"no model .* on this machine"):
        features.text(["hello"], tmp_path / "absent")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "you", "there"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    said = ["hello", "hello you there", "you"]
    found = features.text(said, tmp_path, batch=3)
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found, features.text(said, tmp_path, batch=1), atol=1e-5)
    assert features.text([], tmp_path).shape == (0, 8)
