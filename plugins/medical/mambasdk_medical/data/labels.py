"""Labels of a data set as `dataset.json` says them: names of values or of regions, and what is to be ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError

IGNORE = "ignore"
BACKGROUND = "background"
LabelMap = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Labels:
    """values: of each name an integer, or for a region the integers that it is made of; background is 0.

    regions_class_order: the value that each region, in the order of `values` without background, is painted with, later
    ones over earlier ones; None where no name is a region. ignore: the value of voxels that are not annotated.
    """

    values: Mapping[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None = None
    ignore: int | None = None

    @classmethod
    def parse(cls, labels: Any, regions_class_order: Any = None, where: str = "dataset.json") -> Labels:
        """Of the fields `labels` and `regions_class_order`; raises InvalidArgumentError for what means nothing."""
        if not isinstance(labels, Mapping) or not labels:
            raise InvalidArgumentError("bad labels", where=where, expected='{"background": 0, "liver": 1}', got=labels)
        values: dict[str, int | tuple[int, ...]] = {}
        for name, value in labels.items():
            try:
                parts = [int(part) for part in value] if isinstance(value, (list, tuple)) else [int(value)]
            except (TypeError, ValueError):
                raise InvalidArgumentError(f"bad value of label {name!r}", where=where, got=repr(value)) from None
            if not parts or min(parts) < 0:
                raise InvalidArgumentError(f"bad value of label {name!r}", where=where, got=repr(value))
            values[str(name)] = tuple(parts) if isinstance(value, (list, tuple)) else parts[0]
        ignore = values.pop(IGNORE, None)
        if values.get(BACKGROUND) not in (0, (0,)):
            raise InvalidArgumentError(
                "no background", where=where, expected='"background": 0 among the labels', got=dict(values)
            )
        values = {BACKGROUND: 0, **{name: value for name, value in values.items() if name != BACKGROUND}}
        made = cls(
            values,
            None if regions_class_order is None else tuple(int(value) for value in regions_class_order),
            ignore[0] if isinstance(ignore, tuple) else ignore,
        )
        made._check(where)
        return made

    def _check(self, where: str) -> None:
        if self.has_regions:
            if self.regions_class_order is None or len(self.regions_class_order) != len(self.foreground):
                raise InvalidArgumentError(
                    "regions need an order",
                    where=where,
                    expected=f"regions_class_order with {len(self.foreground)} values",
                    got=self.regions_class_order,
                )
            return
        numbers = sorted(value for value in self.values.values() if isinstance(value, int))
        if numbers != list(range(len(numbers))):
            raise InvalidArgumentError(
                "label values must be consecutive",
                where=where,
                expected=f"0 to {len(numbers) - 1}, the ignore label last",
                got=numbers,
            )
        if self.ignore is not None and self.ignore != len(numbers):
            raise InvalidArgumentError(
                "the ignore label must be the highest", where=where, expected=len(numbers), got=self.ignore
            )

    @property
    def has_regions(self) -> bool:
        """Whether a name stands for several values, so that classes may overlap."""
        return any(isinstance(value, tuple) and value != (0,) for value in self.values.values())

    @property
    def foreground(self) -> dict[str, tuple[int, ...]]:
        """Names without the background -> the values that they cover, in the order of the channels."""
        made = {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in self.values.items()
            if name != BACKGROUND
        }
        return made if self.has_regions else dict(sorted(made.items(), key=lambda item: item[1]))

    @property
    def num_channels(self) -> int:
        """Channels of the logits: labels with the background, or regions without."""
        return len(self.foreground) + (0 if self.has_regions else 1)

    @property
    def known(self) -> set[int]:
        """Every value that a label map may hold."""
        found = {0, *(value for values in self.foreground.values() for value in values)}
        return found if self.ignore is None else found | {self.ignore}

    def check(self, values: Sequence[int] | npt.NDArray[Any], where: str) -> None:
        """Raise InvalidArgumentError where a label map holds a value that no label names."""
        if stray := sorted({int(value) for value in values} - self.known):
            raise InvalidArgumentError(
                f"labels that dataset.json does not name: {', '.join(map(str, stray[:8]))}",
                where=where,
                expected=", ".join(map(str, sorted(self.known))),
                way_out="name them in dataset.json, or mend the file",
            )

    def label_map(self, decided: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The map, uint8 or uint16 (*S), of logits (channels, *S): the largest, or regions above 0, in their order.

        Of equal scores the first label wins.
        """
        if not self.has_regions:
            found = np.argmax(decided, axis=0)
        else:
            assert self.regions_class_order is not None
            found = np.zeros(decided.shape[1:], np.int64)
            for scores, value in zip(decided, self.regions_class_order, strict=True):
                found[scores > 0] = value
        made: npt.NDArray[Any] = found.astype(np.uint8 if max(self.known) < 256 else np.uint16)
        return made

    @property
    def names_by_value(self) -> list[str]:
        """What the values 1, 2, … of a label map are called: of several regions the one that is painted so."""
        values = self.regions_class_order if self.has_regions else [value[0] for value in self.foreground.values()]
        names = dict(zip(values or (), self.foreground, strict=True))
        return [names.get(value, str(value)) for value in range(1, max(self.known) + 1)]

    @property
    def channel_labels(self) -> list[str]:
        """What each channel of the logits is of: labels with the background first, or regions."""
        return list(self.foreground) if self.has_regions else [BACKGROUND, *self.foreground]

    def to_json(self) -> dict[str, Any]:
        """`labels` and `regions_class_order`, as `dataset.json` has them."""
        labels: dict[str, Any] = {n: list(v) if isinstance(v, tuple) else v for n, v in self.values.items()}
        if self.ignore is not None:
            labels[IGNORE] = self.ignore
        order = self.regions_class_order
        return {"labels": labels} | ({} if order is None else {"regions_class_order": list(order)})
