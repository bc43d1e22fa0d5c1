"""Text data: what each kind of file gives, what is left out and named, and which texts are held out."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk_language.corpus import split_documents
from mambasdk_language.documents import Document, read_texts

ROWS = [{"text": "first\n", "id": 1}, {"text": "zweiter é", "id": 2}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'id,text\n1,"first\n"\n2,zweiter é\n'
TEXTS = ["first\n", "zweiter é"]


def texts(folder: Path, **options: Any) -> list[str]:
    return [document.data.decode() for document in read_texts([folder], **options).documents]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.ndjson", JSONL),
        ("A.JSONL", JSONL),
        ("a.json", json.dumps(ROWS)),
        ("a.csv", CSV),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.jsonl", "\ufeff" + JSONL.replace("\n", "\r\n")),
        ("a.jsonl", json.dumps("first\n") + "\n\n" + json.dumps("zweiter é")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_documents_of_their_text(name: str, content: str, packed: bool, tmp_path: Path) -> None:
    data = content.encode()
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert texts(tmp_path) == texts(path) == TEXTS
    plain = texts(path, raw=True)
    assert plain == [content.removeprefix("\ufeff")]


@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.md", "README", "a.b.c", "a.txt.gz"])
def test_other_files_are_one_document_each(name: str, tmp_path: Path) -> None:
    data = "line é\n{}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert texts(tmp_path) == ["line é\n{}\n"]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "b", "title": "t", "content": "c"}\n')
    assert texts(path) == ["c"]
    assert texts(path, column="body") == ["b"]
    with pytest.raises(InvalidArgumentError, match=r"no column 'bodi'.*did you mean body.*one of body, title, content"):
        read_texts([path], column="bodi")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InvalidArgumentError, match="no file has columns"):
        read_texts([tmp_path / "a.txt"], column="body")


def test_json_without_the_column_is_never_trained_on_raw(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x", "version": 1}')
    with pytest.raises(InvalidArgumentError, match=r"no column 'text' or 'content'.*one of name, version.*--column"):
        read_texts([tmp_path])
    (tmp_path / "a.py").write_text("code")
    reading = read_texts([tmp_path])
    assert [document.name for document in reading.documents] == ["a.py"]
    assert "package.json" in reading.summary()


def test_everything_left_out_is_counted_and_named(tmp_path: Path) -> None:
    files = {
        "good.txt": b"text",
        "image.png": b"\x89PNG\0\0",
        "latin.txt": "é".encode("latin-1"),
        "empty.txt": b"",
        "bom.txt": b"\xef\xbb\xbf",
        ".hidden": b"h",
        ".git/config": b"c",
        "broken.gz": b"no gzip",
        "cut.gz": gzip.compress(b"text" * 1000)[:-9],
        "bad.json": b"{",
        "rows.jsonl": b'{"text": "row"}\n{"text": ""}\n{"other": 1}\n{"text": ["list"]}\nnot json\n{"text": 3}\n',
        "wide.txt": "wide".encode("utf-16"),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.txt").symlink_to("good.txt")
    os.mkfifo(tmp_path / "pipe")
    reading = read_texts([tmp_path])
    assert [(document.name, document.data) for document in reading.documents] == [
        ("good.txt", b"text"),
        ("rows.jsonl#1", b"row"),
        ("wide.txt", b"wide"),
    ]
    skipped = {reason: set(names) for reason, names in reading.skipped.items()}
    assert skipped == {
        "binary": {"image.png"},
        "not UTF-8": {"latin.txt"},
        "empty": {"empty.txt", "bom.txt"},
        "hidden": {".hidden", ".git/"},
        "cannot be read: not a whole gzip file": {"broken.gz", "cut.gz"},
        "no JSON": {"bad.json"},
        "links": {"link.txt"},
        "no regular files": {"pipe"},
        "empty rows": {"rows.jsonl#2"},
        "rows without text or content": {"rows.jsonl#3"},
        "rows whose text is a list": {"rows.jsonl#4"},
        "rows that are no JSON": {"rows.jsonl#5"},
        "rows whose text is no text": {"rows.jsonl#6"},
    }
    line = reading.summary()
    assert line.startswith("read 3 texts from 3 files, 11 bytes; skipped ")
    assert "\n" not in line
    assert "1 not UTF-8 (latin.txt)" in line
    assert reading.report()["bytes"] == 11


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.bin", b"\0\1", "a.bin: binary"),
        ("a.txt", b"\xff", "a.txt: not UTF-8"),
        ("a.txt", b"", "a.txt: empty"),
        ("a.jsonl", b"\n\n", "a.jsonl: without a text"),
        ("a.csv", b"text\n", "a.csv: without a text"),
        ("a.json", b"[1, 2", "a.json: no JSON"),
        ("a.json", b"[" * 100_000, "a.json: no JSON"),
    ],
)
def test_a_named_file_without_text_is_an_error(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidArgumentError, match=message.replace(".", r"\.")):
        read_texts([tmp_path / name])


def test_no_data_says_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no file or directory"):
        read_texts([tmp_path / "nowhere"])
    with pytest.raises(InvalidArgumentError, match="no text; read 0 texts from 0 files"):
        read_texts([tmp_path])
    (tmp_path / "image.png").write_bytes(b"\0")
    with pytest.raises(InvalidArgumentError, match=r"1 binary \(image\.png\)"):
        read_texts([tmp_path])
    with pytest.raises(InvalidArgumentError, match=r"1 not named \*\.py \(image\.png\)"):
        read_texts([tmp_path], "*.py")


def test_a_gzip_bomb_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mambasdk_language.documents._SMALL", 1000)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"a" * 1_000_000))
    (tmp_path / "text.txt").write_text("text")
    assert "bomb.txt.gz" in read_texts([tmp_path]).summary()


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert len(read_texts([tmp_path, tmp_path / "a.txt"]).documents) == 1


def documents(sizes: list[int]) -> list[Document]:
    return [Document(f"d{i}", bytes(97 + i % 26 for _ in range(size))) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "sizes", [[10_000] + [100] * 300, [1000] * 3, [5000], [100] * 2000, [1_000_000, 10, 10], [7] * 15]
)
def test_held_out_texts_are_a_fair_share_and_no_odd_file(sizes: list[int], seed: int) -> None:
    given = documents(sizes)
    train, held_out = split_documents(given, 0.05, seed)
    total, out = sum(sizes), sum(len(document.data) for document in held_out)
    assert sum(len(document.data) for document in train) + out == total
    assert 0.02 * total <= out <= 0.1 * total + len(sizes)
    whole = {document.name for document in held_out} - {document.name for document in train}
    assert len(held_out) >= 2 or len(given) == 1
    assert all(len(given[int(name[1:])].data) <= 0.05 * total for name in whole)
    assert split_documents(given, 0.05, seed) == (train, held_out)


def test_another_seed_holds_out_other_texts() -> None:
    given = documents([100] * 1000)
    chosen = [{document.name for document in split_documents(given, 0.05, seed)[1]} for seed in (0, 1)]
    assert chosen[0] != chosen[1]


def test_cut_texts_keep_whole_characters() -> None:
    train, held_out = split_documents([Document("a", "é€😀".encode() * 50)], 0.3)
    assert (train[0].data + held_out[0].data).decode() == train[0].data.decode() + held_out[0].data.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for index in range(30):
        (tmp_path / "data" / f"{index}.txt").write_text(f"line {index}: the cat sat on the mat\n" * 8)
    (tmp_path / "other.jsonl").write_text(
        "".join(json.dumps({"text": f"the dog {i} sat\n" * 9}) + "\n" for i in range(5))
    )
    return tmp_path


def train(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[int, Any, str]:
    sizes = ["--set", "d_model=16", "--set", "n_layer=1", "--steps", "2", "--batch", "2", "--context", "16"]
    command = ["train", "mamba", "--data", str(folder / "data"), "--out", str(folder / "out"), *sizes, *more]
    code = main(command)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_held_out_share_path_or_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    total = sum(path.stat().st_size for path in (folder / "data").iterdir())
    code, out, error = train(capsys, folder, "--held-out", "0", "--json")
    assert code == 0, error
    report = json.loads(out)
    assert (report["train_bytes"], report["held_out_bytes"]) == (total, 0)
    assert report["held_out_bits_per_byte"] is None
    code, out, error = train(
        capsys, folder, "--held-out", str(folder / "other.jsonl"), "--overwrite", "--restart", "--json"
    )
    assert code == 0, error
    report = json.loads(out)
    assert (report["train_bytes"], report["held_out_bytes"]) == (total, 5 * 9 * len("the dog 0 sat\n"))
    assert report["held_out_bits_per_byte"] > 0
    assert report["data"]["texts"] == 30
    some = str(folder / "data" / "3.txt")
    code, out, error = train(capsys, folder, "--held-out", some, "--overwrite", "--restart", "--json")
    report = json.loads(out)
    assert report["train_bytes"] + report["held_out_bytes"] == total


def test_training_says_what_it_read(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "data" / "image.png").write_bytes(b"\0")
    code, out, error = train(capsys, folder)
    assert code == 0, error
    assert "data: read 30 texts from 30 files, " in out
    assert "skipped 1 binary (image.png)" in out


@pytest.mark.parametrize(
    ("value", "message"), [("1", "bad --held-out"), ("-0.1", "bad --held-out"), ("nowhere", "no file or directory")]
)
def test_bad_held_out_is_named(capsys: pytest.CaptureFixture[str], folder: Path, value: str, message: str) -> None:
    code, _, error = train(capsys, folder, f"--held-out={value}")
    assert code == 2
    assert message in error
