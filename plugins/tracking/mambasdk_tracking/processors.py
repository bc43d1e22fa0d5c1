"""Detections of a video: a thin face of the native processor `detections`."""

from __future__ import annotations

import os
from typing import Any

from mambasdk.pipeline import PluginProcessor, raw_input


class DetectionsProcessor(PluginProcessor):
    """Boxes of a frame, or a whole sequence as MOTChallenge text, to one table.

    Options: box_format ("xyxy" or "xywh", of arrays), output ("detections"), max_frames (1000000, of a text),
    max_detections (1000, of a frame), model_input (none).
    """

    plugin = "tracking"
    kind = "detections"

    def __call__(self, detections: str | os.PathLike[str] | bytes | Any) -> dict[str, Any]:
        """detections: a path or the bytes of a det.txt, or float32 (n, 4 to 6): box, score, class. Returns

        detections: float32 (n, 6): x1, y1, x2, y2, score, class; frames: int64 (n), from 0; frame_count: int64 (1).
        """
        return self.run(detections=raw_input(detections))
