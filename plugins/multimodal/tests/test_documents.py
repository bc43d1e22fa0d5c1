"""Documents: what the native processor makes of them, what it refuses by name, which files hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk.errors import InvalidArgumentError
from mambasdk_multimodal.documents import Sequences, encode, read_document, read_rows
from mambasdk_multimodal.generation import segments
from mambasdk_multimodal.objectives import Batch
from mambasdk_multimodal.processors import DocumentProcessor

TWO = {"modalities": ["text", "image"], "ranges": [256, 300]}


def text(said: str) -> dict[str, Any]:
    return {"modality": "text", "text": said}


def image(*tokens: int) -> dict[str, Any]:
    return {"modality": "image", "tokens": list(tokens)}


def test_segments_become_one_sequence_and_back() -> None:
    processor = DocumentProcessor(**TWO)
    made = processor(
        {"name": "a", "segments": [text("aé"), image(0, 43), text(""), {"modality": "text", "tokens": [7]}]}
    )
    assert made["tokens"].dtype == np.int32
    assert made["tokens"].tolist() == [[97, 0xC3, 0xA9, 256, 299, 7]]
    back = segments(made["tokens"][0].tolist(), TWO["modalities"], TWO["ranges"])
    assert back == [
        {"modality": "text", "tokens": [97, 0xC3, 0xA9]},
        {"modality": "image", "tokens": [0, 43]},
        {"modality": "text", "tokens": [7]},
    ]
    assert processor({"segments": []})["tokens"].shape == (1, 0)


def test_latents_stand_where_their_tokens_are() -> None:
    processor = DocumentProcessor(modalities=["text", "image"], ranges=[256, 257], latent_dim=2)
    made = processor({"segments": [text("a"), {"modality": "image", "latents": [[1, 2], [3.5, -4]]}, text("b")]})
    assert made["tokens"].tolist() == [[97, 256, 256, 98]]
    assert made["latents"].tolist() == [[[0, 0], [1, 2], [3.5, -4], [0, 0]]]
    assert made["times"].tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[]", "expected an object"),
        ("{", "no JSON at byte 1"),
        ({"segment": []}, 'the key "segment" is unknown'),
        ({"segments": 3}, 'expected "segments", a list'),
        ({"segments": [image(1), {"text": "a"}]}, 'segment 1: expected a "modality"'),
        ({"segments": [{"modality": "sound", "tokens": []}]}, 'no modality "sound"; the model has text, image'),
        ({"segments": [{"modality": "text"}]}, "expected one of"),
        ({"segments": [{"modality": "text", "text": "a", "tokens": [1]}]}, "expected one of"),
        ({"segments": [image(44)]}, "token 44 of image, expected 0 to 43"),
        ({"segments": [image(-1)]}, "token -1 of image"),
        ({"segments": [{"modality": "image", "tokens": [1.5]}]}, "expected whole numbers"),
        ({"segments": [{"modality": "image", "latents": [[1]]}]}, "image has no latent vectors"),
        ({"segments": [{"modality": "text", "text": 5}]}, "expected a string"),
    ],
)
def test_what_is_no_document_is_said(document: Any, said: str) -> None:
    data = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ValueError, match=said):
        DocumentProcessor(**TWO)(data.encode())


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        (image(0), "image is latent vectors"),
        ({"modality": "image", "latents": [[1]]}, "expected lists of 2 numbers"),
        ({"modality": "image", "latents": [[1, "a"]]}, "expected finite numbers"),
        ({"modality": "image", "latents": [[1, 1e39]]}, "expected finite numbers"),
    ],
)
def test_latents_of_another_kind_are_refused(segment: Any, said: str) -> None:
    processor = DocumentProcessor(modalities=["text", "image"], ranges=[256, 257], latent_dim=2)
    with pytest.raises(ValueError, match=said):
        processor({"segments": [segment]})


@pytest.mark.parametrize("options", [{"ranges": [300, 256]}, {"ranges": [256]}, {"modalities": []}, {"codes": 3}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ranges|no option"):
        DocumentProcessor(**{**TWO, **options})


def test_files_of_documents(tmp_path: Path) -> None:
    one, two = {"segments": [text("a")]}, {"segments": [image(1)]}
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(one)}\n\n{json.dumps(two)}\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c.json").write_text(json.dumps([two]))
    (tmp_path / "notes.txt").write_text("no document")
    found = read_rows([tmp_path])
    assert [document.name for document in found] == ["a/c.json#1", "b.jsonl#1", "b.jsonl#2"]
    made = encode(found, DocumentProcessor(**TWO))
    assert [each.tokens.tolist() for each in made] == [[257], [97], [257]]
    with pytest.raises(InvalidArgumentError, match="holds no documents"):
        read_rows([tmp_path / "notes.txt"])
    with pytest.raises(InvalidArgumentError, match="no file or directory"):
        read_rows([tmp_path / "absent"])
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps(one)}\nno\n")
    with pytest.raises(InvalidArgumentError, match=r"bad.jsonl: line 2"):
        read_rows([tmp_path / "bad.jsonl"])
    (tmp_path / "wrong.json").write_text(json.dumps({"segments": [image(99)]}))
    with pytest.raises(InvalidArgumentError, match=r"wrong.json#1.*token 99 of image"):
        encode(read_rows([tmp_path / "wrong.json"]), DocumentProcessor(**TWO))


@pytest.mark.parametrize(
    ("written", "said"),
    [('{"segments": [', "cannot be read"), ("[{}, {}]", "2 documents"), (None, "cannot be read")],
)
def test_a_file_that_holds_no_one_document_is_named(written: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    if written is not None:
        path.write_text(written)
    with pytest.raises(InvalidArgumentError, match=rf"one\.json: {said}"):
        read_document(path)


def test_numbers_of_a_document_are_bounded_before_there_is_memory_for_them() -> None:
    """Text beside latent vectors has as many numbers as they, all zero."""
    processor = DocumentProcessor(modalities=["text", "image"], ranges=[256, 257], latent_dim=1 << 20)
    with pytest.raises(ValueError, match="segment 0: with 1048576 numbers for each token more than 268435456"):
        processor({"segments": [text("a" * 300)]})


def test_targets_follow_their_tokens_and_stop_at_the_end_of_a_row() -> None:
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1)
    rows = [Sequences("a", np.asarray([1, 2, 300, 3], np.int32)), Sequences("b", np.asarray([4, 5], np.int32))]
    batch = Batch.of(model, rows, "cpu")
    assert batch.tokens.tolist() == [[1, 2, 300], [4, 5, 0]]
    assert batch.targets.tolist() == [[2, 300, 3], [5, -100, -100]]


def test_within_an_image_of_latents_no_token_is_asked_for() -> None:
    model: Any = mambasdk.create_model(
        "mixture_of_mamba", d_model=16, n_layer=1, modality_ranges=[256, 257], latent_dim=2
    )
    tokens = np.asarray([1, 256, 256, 2, 256, 3], np.int32)
    batch = Batch.of(model, [Sequences("a", tokens, np.ones((6, 2), np.float32))], "cpu")
    assert batch.targets.tolist() == [[256, -100, 2, 256, 3, -100]]
    assert batch.image is not None
    assert batch.image.tolist() == [[-1, 0, 0, -1, 1, -1]]
    assert batch.images == 2
    assert isinstance(batch.latents, torch.Tensor)
