"""MkDocs hook: the menu's section Families holds the page of every plugin in plugins/, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AFTER = "Training"  # the entry that the section follows


def on_config(config: Any) -> Any:
    """Add the section to the menu of mkdocs.yml."""
    root = Path(config["config_file_path"]).parent
    names = sorted(path.parent.name for path in root.glob("plugins/*/pyproject.toml"))
    pages = [f"{name}.md" for name in names if (root / "docs" / f"{name}.md").is_file()]
    titles = [next(iter(entry)) for entry in config["nav"]]
    config["nav"].insert(titles.index(AFTER) + 1, {"Families": pages})
    return config
