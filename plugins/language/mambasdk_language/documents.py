"""Text files as documents: how each kind of file is read, and what was left out and why. Imports no torch.

| file | documents |
|---|---|
| `.jsonl`, `.ndjson` | one for each line: a string, or the column of an object |
| `.json` | one for each row of a list, or the column of one object |
| `.csv`, `.tsv` | one for each row: its column; the first line names them |
| any other | one: the whole file, as UTF-8 (UTF-16 where it begins with its mark) |

A `.gz` is read as what is in it. Files that are binary, not UTF-8 or empty are left out and named.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, closest

DEFAULT_COLUMNS = ("text", "content")
_BINARY_PROBE = 8192  # bytes in which a NUL marks a file as no text
_LARGEST_RATIO = 200  # bytes that a byte of a .gz may become; text reaches 3 to 20
_SMALL = 64 << 20  # bytes that any .gz may become
_ROWS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv"}
_NAMED = 3  # files of a reason that are named


@dataclass(frozen=True)
class Document:
    """One text: `name` decides whether it is held out, `data` is its UTF-8, `label` what its row says of it."""

    name: str
    data: bytes
    label: str | float | None = None


@dataclass
class Reading:
    """What was read, and what was left out.

    documents: texts that are not empty. files: files that gave any. skipped: reason -> the files or rows it names.
    """

    documents: list[Document] = field(default_factory=list)
    files: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    columns: tuple[str, list[str], str] | None = None  # of the first file that lacks the wanted one

    def skip(self, reason: str, what: str) -> None:
        """Note that `what` is left out."""
        self.skipped.setdefault(reason, []).append(what)

    @property
    def bytes(self) -> int:
        """Bytes of all texts."""
        return sum(len(document.data) for document in self.documents)

    def summary(self) -> str:
        """One line: what was read, what was skipped and why."""
        line = f"read {_count(len(self.documents), 'text')} from {_count(self.files, 'file')}, {self.bytes:,} bytes"
        reasons = [
            f"{len(names):,} {reason} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
            for reason, names in self.skipped.items()
        ]
        return line + (f"; skipped {'; '.join(reasons)}" if reasons else "")

    def report(self) -> dict[str, Any]:
        """The same as JSON data."""
        skipped = [{"reason": why, "count": len(names), "first": names[:_NAMED]} for why, names in self.skipped.items()]
        return {"texts": len(self.documents), "files": self.files, "bytes": self.bytes, "skipped": skipped}


class _RefusedError(Exception):
    """Why a file gives no text."""


def read_texts(
    paths: Sequence[str | os.PathLike[str]],
    pattern: str = "*",
    *,
    column: str | None = None,
    raw: bool = False,
    label: str | None = None,
) -> Reading:
    """The texts of files, and of the files in directories whose names match `pattern`; sorted by name.

    column: of JSON and CSV rows; None takes "text", else "content". raw: every file is plain text, JSON too.
    label: the column of what is to be learnt of a text; rows without it, and files without columns, are left out.
    Below a directory hidden files and links are left out. Raises InvalidArgumentError for a path that is not there, a
    file that was named and gives no text, a column that no file has, or when nothing is found.
    """
    reading = Reading()
    seen: set[Path] = set()
    rows = False
    for given in map(Path, paths):
        if not given.exists():
            raise InvalidArgumentError(f"no file or directory {str(given)!r}", where="text data")
        for path, name in _files(given, pattern, reading) if given.is_dir() else [(given, given.name)]:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            kind = None if raw else _kind(path)
            rows = rows or kind is not None
            before = len(reading.documents)
            try:
                data = _bytes(path)
                if kind is None and label is not None:
                    raise _RefusedError(f"no rows with a column {label}")
                if kind is None:
                    reading.documents.append(Document(name, _text(data).encode()))
                else:
                    _read_rows(kind, path, name, _text(data), (column, label), reading)
            except _RefusedError as error:
                if path == given:
                    raise _failed(str(error), str(path), column, reading) from None
                reading.skip(str(error), name)
            reading.files += len(reading.documents) > before
    if column is not None and not rows:
        raise InvalidArgumentError(
            f"no file has columns, so there is no {column!r}", where="--column", expected="JSONL, JSON or CSV files"
        )
    if not reading.documents:
        raise _failed(f"no text; {reading.summary()}", ", ".join(map(str, paths)), column, reading)
    return reading


def _failed(message: str, where: str, column: str | None, reading: Reading) -> InvalidArgumentError:
    if reading.columns is None:
        return InvalidArgumentError(message, where=where)
    name, columns, near = reading.columns
    wanted = repr(column) if column else " or ".join(map(repr, DEFAULT_COLUMNS))
    return InvalidArgumentError(
        f"no column {wanted} in {name}{near}",
        where=where,
        expected=f"one of {', '.join(columns[:20])}",
        way_out="name it with --column, or read files as plain text with --raw",
    )


def read_documents(paths: Sequence[str | os.PathLike[str]], pattern: str = "*") -> list[Document]:
    """The documents of `read_texts`."""
    return read_texts(paths, pattern).documents


def _files(root: Path, pattern: str, reading: Reading) -> Iterator[tuple[Path, str]]:
    """(path, name below root) of a directory's files, sorted; what is left out is noted."""
    for folder, folders, files in os.walk(
        root, onerror=lambda error: reading.skip(_failure(error), str(error.filename))
    ):
        here = Path(folder)
        for hidden in [name for name in folders if name.startswith(".")]:
            reading.skip("hidden", f"{(here / hidden).relative_to(root).as_posix()}/")
        for link in [name for name in folders if not name.startswith(".") and (here / name).is_symlink()]:
            reading.skip("links", (here / link).relative_to(root).as_posix())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            path = here / file
            name = path.relative_to(root).as_posix()
            if file.startswith("."):
                reading.skip("hidden", name)
            elif path.is_symlink():
                reading.skip("links", name)
            elif not path.is_file():
                reading.skip("no regular files", name)
            elif not fnmatch.fnmatch(file, pattern):
                reading.skip(f"not named {pattern}", name)
            else:
                yield path, name


def _kind(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _ROWS.get(suffixes[-1]) if suffixes else None


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise _RefusedError("no regular files")
    try:
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        limit = max(_SMALL, _LARGEST_RATIO * path.stat().st_size)
        with gzip.open(path) as file:
            data = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _RefusedError(_failure(error)) from None
    if len(data) > limit:
        raise _RefusedError(f"grow more than {_LARGEST_RATIO} times when they are unpacked")
    return data


def _failure(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a whole gzip file'}"


def _text(data: bytes) -> str:
    if not data:
        raise _RefusedError("empty")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not marked and b"\0" in data[:_BINARY_PROBE]:
        raise _RefusedError("binary")
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(f"not {'UTF-16' if marked else 'UTF-8'}") from error
    if not text:
        raise _RefusedError("empty")
    return text


def _read_rows(
    kind: str, path: Path, name: str, text: str, wanted: tuple[str | None, str | None], reading: Reading
) -> None:
    """The rows of a file as documents NAME#NUMBER, counted from 1; rows without text, or label, are noted.

    wanted: the columns of the text and of the label.
    """
    column, label = wanted
    labelless: list[str] = []  # columns of the first row that lacks the label alone
    found = 0
    columns: list[str] = []
    for number, row in enumerate(_ROWS_OF[kind](text, path), 1):
        value = _cell(row, column)
        said = row.get(label) if label is not None and isinstance(row, dict) else None
        said = said if isinstance(said, (str, int, float)) and said != "" else None
        if label is not None and isinstance(value, str) and value and said is None:
            reading.skip(f"rows without {label}", f"{name}#{number}")
            labelless = labelless or [str(key) for key in row if key is not None]
            continue
        if isinstance(value, str) and value:
            reading.documents.append(Document(f"{name}#{number}", value.encode("utf-8", errors="replace"), said))
            found += 1
            continue
        if isinstance(row, dict) and value is None and not columns:
            columns = [str(key) for key in row if key is not None]
        reading.skip(_no_text(row, value, column), f"{name}#{number}")
    if not found and columns:
        near = f" ({closest(column, columns)})" if column else ""
        reading.columns = reading.columns or (name, columns, near)
    if not found and labelless:
        raise _RefusedError(f"without rows that have {label} (they have {', '.join(labelless[:20])})")
    if not found:
        raise _RefusedError("without a text")


def _cell(row: Any, column: str | None) -> Any:
    if not isinstance(row, dict):
        return row
    names = DEFAULT_COLUMNS if column is None else (column,)
    return next((row[name] for name in names if row.get(name) is not None), None)


def _no_text(row: Any, value: Any, column: str | None) -> str:
    if isinstance(row, _BadLine):
        return "rows that are no JSON"
    if value is None and isinstance(row, dict):
        return f"rows without {column or ' or '.join(DEFAULT_COLUMNS)}"
    if value == "":
        return "empty rows"
    return f"rows whose text is {'a list' if isinstance(value, list) else 'no text'}"


class _BadLine:
    """A line that is no JSON."""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _BadLine()


def _jsonl(text: str, path: Path) -> Iterator[Any]:
    # str.splitlines would also cut at separators that JSON allows inside a string.
    for line in text.split("\n"):
        if line.strip():
            yield _json(line)


def _json_rows(text: str, path: Path) -> Iterator[Any]:
    value = _json(text)
    if isinstance(value, _BadLine):
        raise _RefusedError("no JSON")
    yield from value if isinstance(value, list) else [value]


def _csv_rows(text: str, path: Path) -> Iterator[Any]:
    limit = csv.field_size_limit(len(text) + 1)
    tab = ".tsv" in [suffix.lower() for suffix in path.suffixes]
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if tab else ",")
    except csv.Error:
        raise _RefusedError("no CSV") from None
    finally:
        csv.field_size_limit(limit)


_ROWS_OF = {"jsonl": _jsonl, "json": _json_rows, "csv": _csv_rows}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
