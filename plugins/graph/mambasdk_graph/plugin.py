"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_graph.so"


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_graph.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Labels of graphs and of nodes. Which of the two a package has, its model says."""
    return [
        HeadSpec(
            name=f"{level}_classification",
            summary=f"labels or values of {level}s: training, prediction and pictures",
            implementation="mambasdk_graph.heads.classification:GraphHead",
        )
        for level in ("graph", "node")
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `graph`; heads `graph_classification` and `node_classification`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `graph` for Python."""
    return [
        ProcessorSpec(
            slot="graph",
            kind="graph",
            summary="a graph's JSON file to tensors, encodings and neighbourhood tokens",
            factory="mambasdk_graph.processors:from_manifest",
            patterns=("*.json",),
        )
    ]
