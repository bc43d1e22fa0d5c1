"""What a package of an imported model takes from the checkpoint's folder besides the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.models.generation_config import generation_settings, text_entry

_TEXT_HEAD = "causal_lm"  # the runtime's own head, whose options generation settings are
Processors = Mapping[str, Mapping[str, Any]]


def imported_settings(
    head: str | None, source: Path, config: Mapping[str, Any], processors: Processors
) -> tuple[Processors, dict[str, Any]]:
    """(processor entries, head options): special tokens of a text processor, generation settings of a language model.

    head: of the model's packages. source: the checkpoint's folder. config: its configuration. processors: the entries
    so far, whose "file" is a path outside the package. Raises CheckpointError for a file there that means nothing.
    """
    entries = dict(processors)
    if (text := entries.get("text")) is not None:
        tokenizer = Path(text["file"]) if "file" in text else None
        entries["text"] = {**text, **text_entry(source, config, tokenizer)}
    return entries, generation_settings(source) if head == _TEXT_HEAD else {}
