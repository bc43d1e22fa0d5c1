"""Pictures of conversations: emotions by utterance, and what each modality weighed. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import require_module
from mambasdk_multimodal.documents import read_document

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#7f7f7f")  # Okabe and Ito
_NAMED = 40  # utterances up to which each has its speaker below


def draw_emotions(file: Path, result: Mapping[str, Any], out: Path) -> None:
    """A PNG of what a package said about the conversation in a file: probabilities above, weights below."""
    require_module("matplotlib", "drawing a conversation", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    said = result["utterances"]
    source = read_document(file).get("utterances", [])
    speakers = [
        str(source[i].get("speaker", each.get("speaker", ""))) if i < len(source) else "" for i, each in enumerate(said)
    ]
    figure = Figure(figsize=(min(6 + 0.22 * len(said), 24), 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    places = np.arange(len(said))
    emotions = list(said[0]["scores"]) if said else []
    for i, emotion in enumerate(emotions):
        colour = _COLOURS[i % len(_COLOURS)]
        scores = np.array([each["scores"][emotion] for each in said], np.float64)
        upper.plot(places, scores, color=colour, label=emotion, linewidth=1.2, alpha=0.8)
        best = np.array([each["index"] == i for each in said])
        upper.plot(places[best], scores[best], "o", color=colour, markersize=6)
    upper.set(ylabel="probability", ylim=(0, 1.03), title=file.name)
    upper.grid(alpha=0.25)
    bottom = np.zeros(len(said))
    for i, modality in enumerate(said[0]["weights"] if said else []):
        heights = np.array([each["weights"][modality] or 0.0 for each in said], np.float64)
        colour = ("#08519c", "#6baed6", "#bdbdbd", "#636363")[i % 4]
        lower.bar(places, heights, bottom=bottom, width=0.9, color=colour, label=modality)
        bottom += heights
    lower.set(ylabel="weight", ylim=(0, 1), xlabel="utterance")
    if len(said) <= _NAMED:
        lower.set_xticks(places, [f"{i}\n{name}" for i, name in enumerate(speakers)], fontsize=7)
    for axes in (upper, lower):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(out)
