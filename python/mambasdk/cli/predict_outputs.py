"""What `mambasdk predict` writes about its results: pictures of `--plot`, and the files of the package's head."""

from __future__ import annotations

import argparse
import importlib
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.atomic import replacing_file
from mambasdk.cli.predict_files import Input
from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.package.manifest import Manifest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.interfaces import DrawingHead, Head, PredictingHead
from mambasdk.plugins.specs import resolve

_OTHER_PICTURES = {".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg", ".pdf"}


def python_head(package: str) -> Head | None:
    """The part in Python of a package's head, None where it has none."""
    name = Manifest.read(package).head
    heads = get_host().registrations.heads
    head: Head | None = resolve(heads[name].implementation)() if name in heads else None
    return head


class Outputs:
    """The files about results: which there will be, and that they can be, is known before anything is run.

    options: of each run, that the head's own arguments ask for. videos: those of the files that hold many frames.
    """

    def __init__(self, args: argparse.Namespace, files: Sequence[str], videos: Sequence[str]) -> None:
        self._args = args
        self._package = Path(args.package)
        self._names = _names(files)
        self.videos = list(videos)
        head = python_head(args.package)
        self._saving = head if isinstance(head, PredictingHead) else None
        self.options: dict[str, Any] = {}
        if self._saving is not None:
            self.options.update(self._saving.predict_options(args, self._package))
        self._drawing = _drawing_head(args.package, head) if args.plot else None
        self._single: Path | None = None
        self._folder = Path(args.plot or ".")
        if args.plot:
            self._prepare(files)

    def write(self, given: Input, result: Mapping[str, Any]) -> dict[str, Any]:
        """Draw and save one result; what to add to it."""
        name = self._names[given.name]
        name = name if given.frame is None else f"{name}-{given.frame:06d}"
        said = {key: value for key, value in result.items() if key not in ("file", "frame")}
        made: dict[str, Any] = {}
        if self._drawing is not None:
            out = self._single or self._folder / f"{name}.png"
            with replacing_file(out) as partial:
                self._draw(given, name, said, partial)
            made["plot"] = str(out)
        if self._saving is not None:
            made.update(self._saving.save(self._args, name, given.read(), said))
        return made

    def _draw(self, given: Input, name: str, said: Mapping[str, Any], out: Path) -> None:
        assert self._drawing is not None
        if given.frame is None:
            self._drawing.draw(Path(given.name), said, out, package=self._package)
            return
        require_module("matplotlib", "drawing frames", "pip install matplotlib")
        image: Any = importlib.import_module("matplotlib.image")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            image.imsave(file, given.read())
            self._drawing.draw(file, said, out, package=self._package)

    def _prepare(self, files: Sequence[str]) -> None:
        plot = self._args.plot
        target = Path(plot)
        ending = target.suffix.lower()
        if ending in _OTHER_PICTURES and not target.is_dir():
            raise InvalidArgumentError(
                f"pictures are written as PNG, not as {ending}", where=f"--plot {plot}", expected="a .png or a folder"
            )
        single = ending == ".png" and not target.is_dir()
        if single and (len(files) != 1 or self.videos):
            got = f"{len(files)} files" if not self.videos else "the frames of a video"
            raise InvalidArgumentError(
                "one picture for several files", where=f"--plot {plot}", expected="a folder", got=got
            )
        self._single = target if single else None
        self._folder = target.parent if single else target
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgumentError(f"cannot be made: {error.strerror or error}", where=f"--plot {plot}") from error


def _drawing_head(package: str, head: Head | None) -> DrawingHead:
    name = Manifest.read(package).head
    if name is None:
        raise InvalidArgumentError("the package has no head, so nothing draws its results", where=f"--plot: {package}")
    if not isinstance(head, DrawingHead):
        able = "has no part in Python" if head is None else "draws nothing"
        way_out = "leave --plot out, or install the plugin that draws it"
        raise InvalidArgumentError(f"head {name} {able}", where=f"--plot: {package}", way_out=way_out)
    return head


def _names(files: Sequence[str]) -> dict[str, str]:
    """A name for what is written about each file: its own; a number tells apart those of one name."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for file in files:
        if file in names:
            continue
        stem = Path(file).stem
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        names[file] = stem if stem not in taken else next(name for name in numbered if name not in taken)
        taken.add(names[file])
    return names
