"""Pictures of labels over images and volumes. Needs matplotlib."""

from mambasdk_medical.drawing.overlays import draw_overlay, draw_slices

__all__ = ["draw_overlay", "draw_slices"]
