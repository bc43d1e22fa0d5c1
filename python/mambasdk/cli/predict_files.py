"""The files of `mambasdk predict`: which ones a folder has, and what of them goes to the package's processor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk.package.manifest import Manifest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import resolve


@dataclass
class Input:
    """One thing to run.

    kind: "file", or "input" for a text. name: the file, or the text. content: what the processor gets, or what makes it
    when it is first asked for. frame: its number in a file that holds many, from 0.
    """

    kind: str
    name: str
    content: Any
    frame: int | None = None

    def read(self) -> Any:
        """What the processor gets. Raises InvalidArgumentError that names the file."""
        if callable(self.content):
            self.content = self.content()
        return self.content

    def named(self) -> dict[str, Any]:
        """What a result says of where it comes from."""
        return {self.kind: self.name, **({} if self.frame is None else {"frame": self.frame})}

    @property
    def where(self) -> str:
        """For errors."""
        return self.name if self.frame is None else f"{self.name}: frame {self.frame}"


class Reader:
    """Reads files for one slot of a package, as the plugin of the slot's processor says."""

    def __init__(self, package: str, slot: str) -> None:
        kind = Manifest.read(package).processors[slot]["kind"]
        spec = get_host().registrations.processors.get(f"{slot}.{kind}")
        self.patterns = () if spec is None else spec.patterns
        self._read: Callable[[Path], bytes] = Path.read_bytes
        if spec is not None and spec.reader is not None:
            self._read = resolve(spec.reader)
        self._frame_patterns = () if spec is None or spec.frames is None else spec.frame_patterns
        self._frames = None if spec is None else spec.frames

    def read(self, name: str) -> bytes:
        """What the processor gets of a file. Raises InvalidArgumentError that names it."""
        try:
            return self._read(Path(name))
        except OSError as error:
            raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=name) from error
        except MambaSDKError:
            raise
        except (ValueError, RuntimeError) as error:
            raise InvalidArgumentError(str(error), where=name) from error

    def takes(self, path: Path) -> bool:
        """Whether a file of a folder is one of those that the processor reads, by its name."""
        name = path.name.lower()
        patterns = (*self.patterns, *self._frame_patterns) if self.patterns else ()
        return not name.startswith(".") and (not patterns or any(fnmatch(name, p) for p in patterns))

    def has_frames(self, name: str) -> bool:
        """Whether a file holds many inputs, by its name."""
        return any(fnmatch(Path(name).name.lower(), pattern) for pattern in self._frame_patterns)

    def inputs(self, files: Sequence[str]) -> Iterator[Input]:
        """What there is to run, one after another; a file that cannot be read is an input that raises."""
        for name in files:
            if not self.has_frames(name):
                yield Input("file", name, lambda name=name: self.read(name))
                continue
            number = 0
            try:
                for frame in resolve(str(self._frames))(Path(name)):
                    yield Input("file", name, frame, number)
                    number += 1
            except InvalidArgumentError as error:
                yield Input("file", name, functools.partial(_raise, error), number if number else None)
                continue
            if not number:
                error = InvalidArgumentError("the video has no frames", where=name)
                yield Input("file", name, functools.partial(_raise, error))


def _raise(error: Exception) -> None:
    raise error


def find_files(given: Sequence[str], reader: Reader) -> tuple[list[str], bool]:
    """The files of the command line, with those of its folders (at any depth, by path); and whether there are folders.

    Raises InvalidArgumentError for a folder without such files.
    """
    files: list[str] = []
    folders = [name for name in given if Path(name).is_dir()]
    for name in given:
        if name not in folders:
            files.append(name)
            continue
        found = sorted(str(path) for path in Path(name).rglob("*") if reader.takes(path) and path.is_file())
        if not found:
            expected = ", ".join(reader.patterns) or "files"
            raise InvalidArgumentError("no files to predict in this folder", where=name, expected=expected)
        files.extend(found)
    return files, bool(folders)
