"""The files of `mambasdk predict`: which ones a folder has, and what of them goes to the package's processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk.package.manifest import Manifest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import resolve


class Reader:
    """Reads files for one slot of a package, as the plugin of the slot's processor says."""

    def __init__(self, package: str, slot: str) -> None:
        kind = Manifest.read(package).processors[slot]["kind"]
        spec = get_host().registrations.processors.get(f"{slot}.{kind}")
        self.patterns = () if spec is None else spec.patterns
        self._read: Callable[[Path], bytes] = Path.read_bytes
        if spec is not None and spec.reader is not None:
            self._read = resolve(spec.reader)

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
        return not name.startswith(".") and (not self.patterns or any(fnmatch(name, p) for p in self.patterns))


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
