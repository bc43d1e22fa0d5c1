"""The page of the surveys' taxonomy says what the registry says: which models this SDK builds."""

from __future__ import annotations

import re
from pathlib import Path

from mambasdk.plugins import get_host

PAGE = Path(__file__).parents[3] / "docs" / "medical_taxonomy.md"
UNKNOWN = "\N{EN DASH}"  # a cell of what was not looked up
COLUMNS = ["task", "model", "scan", "licence", "in this SDK"]
LICENCES = {"Apache-2.0", "Apache-2.0, parts AGPL", "MIT", "none", UNKNOWN}
SCANS = "what a state sees before a pixel"


def tables() -> list[list[list[str]]]:
    """The cells of the page's tables, by row."""
    found: list[list[list[str]]] = [[]]
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def models() -> list[list[str]]:
    (table,) = [table for table in tables() if table[0] == COLUMNS]
    return table[2:]


def plain(name: str) -> str:
    """A name as both sides write it: VM-UNet V2 and vm_unet_v2."""
    return re.sub("[^a-z0-9]", "", name.lower())


def test_every_row_is_whole_and_no_model_stands_twice() -> None:
    rows = models()
    assert all(len(row) == len(COLUMNS) and all(row) for row in rows)
    assert {row[3] for row in rows} <= LICENCES
    names = [row[1] for row in rows]
    assert len(names) == len(set(names)) > 60


def test_the_column_agrees_with_the_registry() -> None:
    """Both ways: what it names is registered, and what this package registers, or a row's model is called, is named."""
    host = get_host()
    registered = set(host.registrations.families)
    medical = {name for name in registered if host.owner("family", name).distribution == "mambasdk-medical"}
    named: dict[str, str] = {}
    for _, model, _, _, here in models():
        assert here == "no" or re.fullmatch("`[a-z0-9_]+`", here), f"{model}: {here}"
        named[model] = here.strip("`")
    families = {name for name in named.values() if name != "no"}
    assert families <= registered, f"named but not registered: {sorted(families - registered)}"
    assert medical <= families, f"registered but not on the page: {sorted(medical - families)}"
    by_plain = {plain(name): name for name in registered}
    for model, here in named.items():
        own = by_plain.get(plain(model.split(",")[0]))
        assert own is None or own == here, f"{model} is the family {own}, the page says {here}"


def test_every_scan_of_the_models_is_explained() -> None:
    """By its first words, but for the few that one model alone has."""
    (table,) = [table for table in tables() if SCANS in table[0]]
    explained = {row[0] for row in table[2:]}
    used = {row[2].split(",")[0] for row in models()}
    own = {"none", "three rotations", "reordered sequences"}
    assert used - explained <= {*own, UNKNOWN}
    assert explained - used <= {"zig-zag"}, "explained, but of no model"
