r"""Writes unicode_tables.inc: the Unicode data that tokenizer.json files mean.

Usage: python generate_unicode_tables.py > unicode_tables.inc

What `\p{L}`, NFC or Lowercase do to a character is defined by the `tokenizers` package, whose parts follow several
Unicode versions. So every table is measured on that package, character by character; `unicodedata` only proposes
combining classes and composition pairs, which are kept where the package shows them.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = [
    "Cn",
    "Cc",
    "Cf",
    "Co",
    "Cs",
    "Lu",
    "Ll",
    "Lt",
    "Lm",
    "Lo",
    "Mn",
    "Mc",
    "Me",
    "Nd",
    "Nl",
    "No",
    "Pc",
    "Pd",
    "Ps",
    "Pe",
    "Pi",
    "Pf",
    "Po",
    "Sm",
    "Sc",
    "Sk",
    "So",
    "Zs",
    "Zl",
    "Zp",
]
HANGUL = range(0xAC00, 0xAC00 + 11172)  # decomposed by arithmetic (Unicode 3.12)


def matching(pattern: str) -> set[int]:
    """Code points that the package's regular expressions match."""
    splitter = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    pieces = splitter.pre_tokenize_str("".join(map(chr, CODE_POINTS)))
    return {ord(c) for piece, _ in pieces for c in piece}


def categories() -> list[int]:
    """Index into CATEGORIES for every code point."""
    result = [0] * 0x110000
    for index, name in enumerate(CATEGORIES):
        if name == "Cs":
            members: Iterable[int] = range(0xD800, 0xE000)
        else:
            members = matching(rf"\p{{{name}}}") if index else ()
        for code in members:
            result[code] = index
    return result


def table(name: str, ctype: str, values: Iterable[int], comment: str) -> None:
    """Print one C++ array."""
    numbers = [str(v) for v in values]
    print(f"// {comment}\ninline constexpr {ctype} {name}[] = {{")
    line = ""
    for number in numbers:
        if len(line) + len(number) + 2 > 118:
            print(line)
            line = ""
        line += number + ","
    print(line + "};\n")


def word_exceptions(category: list[int]) -> list[int]:
    r"""Ranges (first, last) where `\w` differs from letters, marks, decimal and letter numbers, and connectors."""
    names = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"}
    expected = {c for c in CODE_POINTS if CATEGORIES[category[c]] in names}
    ranges: list[int] = []
    for code in sorted(expected ^ matching(r"\w")):
        if ranges and ranges[-1] == code - 1:
            ranges[-1] = code
        else:
            ranges += [code, code]
    return ranges


def combining_class(code: int) -> int:
    """The canonical combining class, where the package reorders the character accordingly, else 0."""
    ccc = unicodedata.combining(chr(code))
    if ccc == 0:
        return 0
    # U+0345 has class 240 and U+0334 class 1: a smaller class moves before U+0345, a greater one stays after U+0334.
    text = f"a\u0345{chr(code)}" if ccc < 240 else f"a{chr(code)}\u0334"
    return ccc if normalizers.NFD().normalize_str(text) == unicodedata.normalize("NFD", text) else 0


def decompositions(form: normalizers.Normalizer, skip: dict[int, str]) -> dict[int, str]:
    """What `form` turns each character into, where that is neither itself nor what `skip` says."""
    result = {}
    for code in CODE_POINTS:
        mapped = form.normalize_str(chr(code))
        if code not in HANGUL and mapped != skip.get(code, chr(code)):
            result[code] = mapped
    return result


def compositions() -> list[int]:
    """(first, second, composite) for every pair that NFC joins, Hangul aside."""
    nfc = normalizers.NFC()
    pairs = []
    for code in CODE_POINTS:
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(p, 16) for p in parts)
            if nfc.normalize_str(chr(first) + chr(second)) == chr(code):
                pairs.append((first, second, code))
    return [value for pair in sorted(pairs) for value in pair]


def main() -> None:
    """Print the tables."""
    print(f"// Unicode data as tokenizers {tokenizers.__version__} has it; made by generate_unicode_tables.py.\n")
    category = categories()
    starts = [c for c in range(0x110000) if c == 0 or category[c] != category[c - 1]]
    table(
        "kCategoryRanges",
        "std::uint32_t",
        (c << 5 | category[c] for c in starts),
        "General category of the code points from `value >> 5` on: Category(value & 31).",
    )
    table(
        "kWordExceptions",
        "std::uint32_t",
        word_exceptions(category),
        "Ranges (first, last) where \\w is the opposite of L, M, Nd, Nl, Pc.",
    )
    classes = [(c, ccc) for c in CODE_POINTS if (ccc := combining_class(c))]
    table(
        "kCombiningClasses",
        "std::uint32_t",
        (c << 8 | ccc for c, ccc in classes),
        "Canonical combining classes that are not 0: code point << 8 | class.",
    )

    canonical = decompositions(normalizers.NFD(), {})
    compatible = decompositions(normalizers.NFKD(), canonical)
    for name, mapping in (("Canonical", canonical), ("Compatible", compatible)):
        index, sequence = [], []
        for code, text in mapping.items():
            index += [code, len(sequence) << 5 | len(text)]
            sequence += [ord(c) for c in text]
        table(f"k{name}Index", "std::uint32_t", index, "(code point, offset << 5 | length), full decompositions.")
        table(f"k{name}Sequences", "char32_t", sequence, "The decompositions one after the other.")
    table("kCompositions", "char32_t", compositions(), "(first, second, composite), sorted.")

    lower = normalizers.Lowercase()
    mapped = {c: lower.normalize_str(chr(c)) for c in CODE_POINTS}
    longer = {c: text for c, text in mapped.items() if len(text) != 1}
    if longer != {0x130: "i\u0307"}:
        sys.exit(f"lower-case mappings to several characters: {longer}; unicode.cpp knows U+0130 only")
    table(
        "kLowercase",
        "char32_t",
        (v for c, t in mapped.items() if len(t) == 1 and t != chr(c) for v in (c, ord(t))),
        "(code point, its lower case), U+0130 aside.",
    )


if __name__ == "__main__":
    main()
