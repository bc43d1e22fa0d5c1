"""What the fake device counted."""

from __future__ import annotations

import ctypes
from pathlib import Path


class Counts(ctypes.Structure):
    """fake_device_counts of fake_device.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "allocations",
            "live_blocks",
            "copies_to_device",
            "copies_from_device",
            "copies_on_device",
            "bytes_to_device",
            "bytes_from_device",
            "fills",
            "kernels",
            "kernels_on_default_stream",
            "synchronizations",
            "live_streams",
        )
    ]


class FakeDevice:
    """The library, once more in this process."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def counts(self) -> dict[str, int]:
        """All of them by name."""
        counts = Counts()
        self._library.fake_device_get_counts(ctypes.byref(counts))
        return {name: getattr(counts, name) for name, *_ in Counts._fields_}
