"""Reads the listing of a cubin by nvdisasm: basic blocks, loops, the shortest and the longest way through a loop."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

LABEL = re.compile(r"^(\.L_\w+):")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;")
TARGET = re.compile(r"`\((\.L_\w+)\)")


@dataclass
class Block:
    """Instructions that are executed one after another, and the numbers of the blocks that may follow."""

    instructions: list[str] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)


def predicate(instruction: str) -> str:
    """`@P0`, or nothing."""
    return instruction.split(maxsplit=1)[0] if instruction.startswith("@") else ""


def mnemonic(instruction: str) -> str:
    """`MUFU.EX2` of `@!P0 MUFU.EX2 R1, R2`."""
    return instruction.removeprefix(predicate(instruction)).split(maxsplit=1)[0]


def kernels(listing: str) -> dict[str, list[Block]]:
    """Mangled names -> basic blocks, in the order of the code."""
    found = {}
    for part in re.split(r"\n\s*\.section\s+\.text\.", listing)[1:]:
        found[part.split(",")[0]] = blocks(part)
    return found


def blocks(code: str) -> list[Block]:
    made = [Block()]
    labels: dict[str, int] = {}
    for line in code.splitlines():
        if label := LABEL.match(line.strip()):
            if made[-1].instructions:
                made.append(Block())
            labels[label[1]] = len(made) - 1
        elif instruction := INSTRUCTION.match(line):
            made[-1].instructions.append(instruction[1])
            if mnemonic(instruction[1]).split(".")[0] in ("BRA", "EXIT", "RET", "BRX"):
                made.append(Block())
    if not made[-1].instructions:
        made.pop()
    for i, block in enumerate(made):
        last = block.instructions[-1] if block.instructions else ""
        name = mnemonic(last).split(".")[0] if last else ""
        if name == "BRA" and (target := TARGET.search(last)):
            block.follow.append(labels[target[1]])
        # A branch may depend on a predicate in front of it or among its operands.
        always = name in ("EXIT", "RET", "BRA") and not predicate(last) and not re.search(r"\bU?P\d", last)
        if not always and i + 1 < len(made):
            block.follow.append(i + 1)
    return made


def loop_around(code: list[Block], inner: int) -> tuple[int, int]:
    """First and last block of the smallest loop that holds block `inner`: it is entered at the first."""
    around = [
        (target, i)
        for i, block in enumerate(code)
        for target in block.follow
        if target <= inner <= i and target <= i and i - target < len(code)
    ]
    assert around, "the block is in no loop"
    return min(around, key=lambda ends: ends[1] - ends[0])


def ways_through(code: list[Block], loop: tuple[int, int], over: int) -> tuple[int, int]:
    """Instructions on the shortest and on the longest way through the loop that passes the block `over`."""
    first, last = loop

    @cache
    def way(at: int, passed: bool) -> tuple[int, int] | None:
        passed = passed or at == over
        found = []
        for after in code[at].follow:
            if after == first:
                found.append((0, 0) if passed else None)
            elif at < after <= last:  # no other loop is inside
                found.append(way(after, passed))
        ways = [w for w in found if w is not None]
        if not ways:
            return None
        own = len(code[at].instructions)
        return own + min(w[0] for w in ways), own + max(w[1] for w in ways)

    through = way(first, False)
    assert through is not None, "no way through the loop passes the block"
    return through
