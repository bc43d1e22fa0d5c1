"""Sets of keypoints: names, which change places in a mirrored image, which are joined by a line, how exact they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Standard deviation of annotators over the root of the area, by name without its side: half of pycocotools' sigmas
# doubled again, as `k = 2 sigma` in COCO's OKS (https://cocodataset.org/#keypoints-eval) and CrowdPose's file.
_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
    "head": 0.079,
    "neck": 0.079,
}
_OTHER_SIGMA = 0.05
_SIDES = ("left", "right")


@dataclass(frozen=True)
class KeypointSet:
    """names: K, by index. skeleton: pairs of indices from 0 that a line joins."""

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Indices of the names that differ in "left" and "right" alone."""
        places = {name: index for index, name in enumerate(self.names)}
        pairs = []
        for name, left in places.items():
            right = places.get(name.replace(*_SIDES))
            if right is not None and right != left:
                pairs.append((left, right))
        return tuple(pairs)

    @property
    def partners(self) -> list[int]:
        """For each keypoint the one in whose place it is in a mirrored image."""
        partners = list(range(len(self)))
        for a, b in self.flip_pairs:
            partners[a], partners[b] = b, a
        return partners

    @property
    def sigmas(self) -> list[float]:
        """Of object keypoint similarity: COCO's and CrowdPose's; 0.05 for a name that neither has."""
        return [next((s for part, s in _SIGMAS.items() if part in name), _OTHER_SIGMA) for name in self.names]

    @property
    def upper_body(self) -> list[int]:
        """Indices of what is above the hips."""
        lower = ("hip", "knee", "ankle", "foot", "toe", "heel")
        return [index for index, name in enumerate(self.names) if not any(part in name for part in lower)]

    def head_options(self) -> dict[str, Any]:
        """What the native heads take of the set."""
        return {
            "names": list(self.names),
            "skeleton": [list(pair) for pair in self.skeleton],
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
        }

    @classmethod
    def of_names(cls, names: Sequence[str], lines: Sequence[tuple[str, str]] = ()) -> KeypointSet:
        """With the lines given by names."""
        places = {name: index for index, name in enumerate(names)}
        return cls(tuple(names), tuple((places[a], places[b]) for a, b in lines))


def _sided(*parts: str) -> list[str]:
    return [f"{side}_{part}" for part in parts for side in _SIDES]


_LIMBS = [(f"{side}_{a}", f"{side}_{b}") for side in _SIDES for a, b in (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"))]  # fmt: skip
_TRUNK = [("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")]
_FACE = [("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
         ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")]  # fmt: skip
_BODY = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

COCO = KeypointSet.of_names(["nose", *_sided("eye", "ear", *_BODY)], [*_LIMBS, *_TRUNK, *_FACE])
CROWDPOSE = KeypointSet.of_names(
    [*_sided(*_BODY), "top_head", "neck"],
    [*_LIMBS, *_TRUNK, ("top_head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder")],
)
