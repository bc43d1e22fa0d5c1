"""Where a checkpoint comes from: a local path, or a repository on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mambasdk.errors import DownloadError, InvalidArgumentError, require_module

CONFIG_FILE = "config.json"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TEXT_FILES = ["*.json", "tokenizer.model", "*.md", "LICENSE*"]


def resolve_source(source: str | os.PathLike[str]) -> Path:
    """A local path for `source`; a string like `org/name` that is no local path is downloaded from the hub.

    Raises InvalidArgumentError when it is neither, DownloadError when the download fails.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if isinstance(source, str) and _REPOSITORY.fullmatch(source):
        return download(source)
    raise InvalidArgumentError(
        f"no file or directory {str(source)!r}", expected="a local path, or a hub repository like 'org/name'"
    )


def download(repository: str, revision: str | None = None) -> Path:
    """Download configuration, tokenizer and weights of a hub repository, safetensors before pickles."""
    hub = require_module("huggingface_hub", f"downloading {repository}", "pip install huggingface_hub")
    try:
        for pattern in ("*.safetensors", "*.bin"):
            folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=[*_TEXT_FILES, pattern]))
            if any(folder.glob(pattern)):
                return folder
    except Exception as error:  # the hub client raises errors of several libraries
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"the hub repository cannot be downloaded ({type(error).__name__}: {first_line})",
            where=repository,
            way_out="check the name and the network, or give a local directory with config.json and the weights",
        ) from error
    raise DownloadError("the repository holds neither .safetensors nor .bin weights", where=repository)
