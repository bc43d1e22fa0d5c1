"""What `mambasdk track` is given: detections in MOTChallenge's format, or videos for a detector."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk_tracking.mot import SequenceInfo, Table, find_sequences, read_info, read_table
from mambasdk_tracking.video import PICTURES, PictureFolder, Video, open_video


@dataclass
class Source:
    """One video: where its detections are (None: a detector finds them), its frames, and what is known about it."""

    name: str
    detections: Path | None
    video: Video | None
    info: SequenceInfo | None
    image_size: tuple[float, float] | None
    truth: Table | None


def find_sources(args: argparse.Namespace) -> list[Source]:
    """Of a file one; of a folder of pictures one; of another folder all sequences in it.

    Raises InvalidArgumentError for what is not there, and where --gt names one file for several videos.
    """
    path = Path(args.source)
    found = _videos(path) if args.detector else _detections(path)
    if args.gt and len(found) > 1:
        raise InvalidArgumentError(
            "--gt names one file", where=args.source, expected="one video", got=f"{len(found)} videos"
        )
    return [_source(file, folder, args) for file, folder in found]


def _videos(path: Path) -> list[tuple[Path, Path | None]]:
    """(video or folder of pictures, the folder with its seqinfo.ini and truth where there is one)."""
    if not path.is_dir():
        return [(path, None)]
    if not _has_pictures(path) and not _has_pictures(path / "img1") and any(path.rglob("seqinfo.ini")):
        return [(folder, folder) for folder in find_sequences(path)]
    return [(path, path)]


def _detections(path: Path) -> list[tuple[Path, Path | None]]:
    """(det.txt, the folder of its sequence where there is one)."""
    found: list[tuple[Path, Path | None]]
    if path.is_dir():
        if _has_pictures(path):
            raise InvalidArgumentError(
                "pictures, and nothing that finds objects in them", where=str(path), way_out="give --detector PACKAGE"
            )
        found = [(folder / "det" / "det.txt", folder) for folder in find_sequences(path)]
    else:
        around = path.resolve().parent.parent
        found = [(path, around if (around / "seqinfo.ini").is_file() else None)]
    for file, _ in found:
        if not file.is_file():
            raise InvalidArgumentError("no such file", where=str(file))
        with file.open("rb") as opened:
            is_text = b"\0" not in opened.read(512)
        if not is_text:
            raise InvalidArgumentError(
                "no text", where=str(file), expected="det.txt", way_out="of a video: give --detector PACKAGE"
            )
    return found


def _source(file: Path, folder: Path | None, args: argparse.Namespace) -> Source:
    truth = Path(args.gt) if args.gt else folder / "gt" / "gt.txt" if folder is not None else None
    table = read_table(truth, ground_truth=True) if truth is not None and (args.gt or truth.is_file()) else None
    if args.detector:
        video = open_video(file)
        width, height = video.size
        return Source(video.name, None, video, None, (width, height), table)
    info = read_info(folder) if folder is not None else None
    pictures = file.resolve().parent.parent / "img1"
    return Source(
        file.stem if info is None else info.name,
        file,
        PictureFolder(pictures) if args.video and pictures.is_dir() else None,
        info,
        _image_size(args, info),
        table,
    )


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in PICTURES for path in folder.iterdir())


def _image_size(args: argparse.Namespace, info: SequenceInfo | None) -> tuple[float, float] | None:
    if args.image_size is not None:
        width, _, height = args.image_size.lower().partition("x")
        try:
            return float(width), float(height)
        except ValueError:
            raise InvalidArgumentError(
                "bad --image-size", expected="WIDTHxHEIGHT, for example 1920x1080", got=args.image_size
            ) from None
    if info is not None:
        return float(info.image_size[0]), float(info.image_size[1])
    if args.package is None:
        return None
    size = (Manifest.read(args.package).head_options or {}).get("image_size")
    if size is None:
        raise InvalidArgumentError(
            "the size of the images is not known",
            where=args.source,
            way_out="give --image-size 1920x1080, or the video's folder with its seqinfo.ini",
        )
    return float(size[0]), float(size[1])
