"""Names of SS2D's forward types, such as "v05_noz": a scan, and suffixes that change what surrounds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError

Scan = Literal["cross", "forward", "both", "cascade"]

# v01 … v05, v2 and v3 are one operator: they differ in kernels and in what they force to float32.
_SCANS: dict[str, Scan] = {
    **dict.fromkeys(("v0", "v0seq", "v01", "v02", "v03", "v04", "v05", "v2", "v3"), "cross"),
    "v051d": "forward",
    "v052d": "both",
    "v052dc": "cascade",
}
_NORMS = ("onnone", "onsigmoid", "onsoftmax", "ondwconv3", "oncnorm")
_SWITCHES = ("no32", "oact", "noz", "nozact")


@dataclass(frozen=True)
class ForwardType:
    """scan: "cross" (rows and columns, both ways), "forward" (rows, four times), "both" (rows, two each way) or
    "cascade" (rows, then columns). norm: of the merged map, "layer" or one of the suffixes on…. gate: half of the
    projection multiplies the map. gate_act: SiLU on the gate. out_act: GELU after the norm.
    """

    scan: Scan = "cross"
    norm: str = "layer"
    gate: bool = True
    gate_act: bool = True
    out_act: bool = False

    @classmethod
    def parse(cls, name: str) -> ForwardType:
        """The parts of a name; suffixes in any order. Raises InvalidArgumentError for what is unknown."""
        base, *suffixes = name.split("_")
        known = {*_NORMS, *_SWITCHES}
        norms = [suffix for suffix in suffixes if suffix in _NORMS]
        if base not in _SCANS or not known.issuperset(suffixes) or len(norms) > 1 or len(set(suffixes)) < len(suffixes):
            raise InvalidArgumentError(
                "unknown forward_type",
                where="SS2D",
                expected=f"{' or '.join(_SCANS)}, and suffixes of _{', _'.join((*_NORMS, *_SWITCHES))}",
                got=repr(name),
            )
        return cls(
            scan=_SCANS[base],
            norm=norms[0] if norms else "layer",
            gate="noz" not in suffixes,
            gate_act="nozact" not in suffixes,
            out_act="oact" in suffixes,
        )
