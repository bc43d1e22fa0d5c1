"""Layers as a string: which symbol is which layer, and where layers of a few kinds go."""

from __future__ import annotations

from mambasdk.errors import InvalidArgumentError

SYMBOLS = {
    "M": "Mamba-2",
    "m": "Mamba",
    "*": "attention",
    "-": "MLP",
    "E": "mixture of experts",
    "P": "Mamba-2 and attention in parallel",
    "S": "Mamba-2 after a shared transformer",
}


def parse(pattern: str) -> str:
    """The pattern without pipeline borders `|`; raises InvalidArgumentError for a symbol that is none."""
    layers = pattern.replace("|", "")
    if "/" in layers:
        raise InvalidArgumentError(
            "the pattern has layers for multi-token prediction, which there are none of",
            where="pattern",
            got=pattern,
            way_out="leave out what follows the first '/'",
        )
    if not layers or (stray := sorted(set(layers) - set(SYMBOLS))):
        expected = ", ".join(f"{symbol} ({layer})" for symbol, layer in SYMBOLS.items())
        got = f"{''.join(stray)!r} in {pattern!r}" if layers else "no layer"
        raise InvalidArgumentError("bad pattern", expected=expected, got=got)
    return layers


def allocate(layers: int, attention_ratio: float, mlp_ratio: float) -> str:
    """The pattern of `layers` layers of which shares are attention and MLPs, spread evenly among Mamba-2 layers.

    Source: arXiv 2406.07887, whose two patterns it gives.
    """
    attention, mlps = round(layers * attention_ratio), round(layers * mlp_ratio)
    if attention_ratio < 0 or mlp_ratio < 0 or attention + mlps > layers:
        raise InvalidArgumentError(
            "bad ratios", where="pattern", expected="shares of the layers", got=f"{attention_ratio} and {mlp_ratio}"
        )
    made = _spread("M" * layers, "*", attention, (layers - attention) / (attention + 1))
    left = layers - attention - mlps
    return _spread(made, "-", mlps, left / mlps if mlps else 0.0)


def _spread(pattern: str, symbol: str, count: int, section: float) -> str:
    """Replace Mamba-2 layers by `count` of `symbol`, `section` layers between them."""
    made, ahead = "", section
    for layer in pattern:
        if layer != "M" or not count:
            made += layer
        elif ahead < 0.5:
            made += symbol
            ahead += section
        else:
            made += layer
            ahead -= 1
    return made
