"""Pictures of what a package said about a clip. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.package import Manifest
from mambasdk_audio.processors import FbankProcessor

_DRAWN = ("rate", "max_samples", "num_mel_bins", "frame_length_ms", "frame_shift_ms", "low_freq", "high_freq")
_BAR = "#d94801"
_LONGEST_LABEL = 24


def draw_prediction(file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
    """Draw the log-mel spectrogram of a WAV file and the labels of `result`, best on top, into the PNG `out`.

    result: {"labels": [{"label", "score"}, …]}, what `audio_classification` says. The spectrogram is the package's, the
    whole clip; what is behind the model's length is veiled.
    """
    require_module("matplotlib", "drawing", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = result.get("labels")
    if not labels:
        raise InvalidArgumentError("no labels to draw", where=str(file), got=", ".join(result) or "nothing")
    options: dict[str, Any] = dict(Manifest.read(package).processors.get("audio", {}))
    shift = float(options.get("frame_shift_ms", 10.0)) / 1000
    x = FbankProcessor(**{name: options[name] for name in _DRAWN if name in options})(file)[0]  # (T, F)
    seconds = x.shape[0] * shift

    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 1.3))
    low, high = np.percentile(x, (2, 99.8))
    image = left.imshow(
        x.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, x.shape[1]),
        cmap="magma",
        vmin=low,
        vmax=max(high, low + 1e-3),
        interpolation="nearest",
    )
    _mark_frequencies(left, options, x.shape[1])
    left.set_xlabel("time (s)")
    left.set_ylabel("frequency (Hz, mel scale)")
    left.set_title(file.name, fontsize=11)
    figure.colorbar(image, ax=left, label="log energy", pad=0.01)
    seen = int(options.get("target_length", 0)) * shift
    if 0 < seen < seconds:
        left.axvspan(seen, seconds, color="white", alpha=0.55, linewidth=0)
        left.axvline(seen, color="white", linewidth=1.5)
        left.text(seen, x.shape[1] * 0.97, " not read by the model", color="black", fontsize=8, va="top")

    scores = [float(entry["score"]) for entry in labels]
    names = [_short(str(entry["label"])) for entry in labels]
    rows = np.arange(len(scores))
    right.barh(rows, scores, color=[_BAR, *["#bdbdbd"] * (len(scores) - 1)], height=0.65)
    right.set_yticks(rows, names)
    right.invert_yaxis()
    # Scores of a sigmoid or a softmax are shares; raw logits are not.
    shares = all(0 <= score <= 1 for score in scores)
    right.set_xlim((0, 1.18) if shares else (min(0, *scores) * 1.2, max(0.1, *scores) * 1.25))
    if shares:
        right.set_xticks([0, 0.5, 1])
    for row, score in zip(rows, scores, strict=True):
        right.text(max(score, 0) + 0.02, row, f"{score:.2f}", va="center", fontsize=9)
    right.set_xlabel("score")
    right.set_title("predicted", fontsize=11)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


def _mark_frequencies(axes: Any, options: Mapping[str, Any], bins: int) -> None:
    """Ticks of round frequencies on the axis of mel bins."""
    nyquist = float(options.get("rate", 16000)) / 2
    low, high = float(options.get("low_freq", 20.0)), float(options.get("high_freq", 0.0))
    high = high if high > 0 else nyquist + high
    first, last = _mel(low), _mel(high)
    wanted = [hertz for hertz in (100, 250, 500, 1000, 2000, 4000, 8000, 16000) if low <= hertz <= high]
    axes.set_yticks([(_mel(hertz) - first) / (last - first) * bins for hertz in wanted], [str(h) for h in wanted])


def _mel(hertz: float) -> float:
    """Kaldi's mel scale."""
    return float(1127 * np.log1p(hertz / 700))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
