"""The native tokenizer gives the ids and the texts of the `tokenizers` package."""

from __future__ import annotations

import json
import random
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tokenizer_cases import PARTS, TEXTS, TOKENIZERS, alphabet_only, corpus  # noqa: E402
from tokenizers import Tokenizer, normalizers  # noqa: E402

ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
PLAIN = {*range(0x3400, 0xA000), *range(0x17000, 0x18D00), *range(0x20000, 0x323B0)}  # uniform scripts


class Native:
    """A running mambasdk-tokenize, one request per line."""

    def __init__(self, tool: Path, tokenizer: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [tool, tokenizer, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __call__(self, value: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


class Pair:
    """The same tokenizer twice: the package's, and ours in every mode."""

    def __init__(self, tool: Path, reference: Tokenizer, path: Path) -> None:
        reference.save(str(path))
        self.reference = Tokenizer.from_file(str(path))
        modes = {
            "encode": (),
            "special": ("--special",),
            "decode": ("--decode",),
            "skip": ("--decode", "--skip-special"),
            "stream": ("--decode", "--stream", "--skip-special"),
        }
        self.native = {name: Native(tool, str(path), *options) for name, options in modes.items()}

    def check(self, text: str) -> None:
        ids = self.reference.encode(text, add_special_tokens=False).ids
        assert self.native["encode"](text) == ids, repr(text[:200])
        special = self.reference.encode(text, add_special_tokens=True).ids
        assert self.native["special"](text) == special, repr(text[:200])
        self.check_decode(special)

    def check_decode(self, ids: list[int]) -> None:
        assert self.native["decode"](ids) == self.reference.decode(ids, skip_special_tokens=False)
        skipped = self.reference.decode(ids, skip_special_tokens=True)
        assert self.native["skip"](ids) == skipped
        if "\ufffd" not in skipped:
            assert self.native["stream"](ids) == skipped

    def close(self) -> None:
        for process in self.native.values():
            process.close()


@pytest.fixture(scope="module", params=TOKENIZERS)
def pair(request: pytest.FixtureRequest, tokenizer_tool: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("tokenizer") / f"{request.param}.json"
    result = Pair(tokenizer_tool, TOKENIZERS[request.param](), path)
    yield result
    result.close()


def test_texts(pair: Pair) -> None:
    for text in TEXTS:
        pair.check(text)
    pair.check("\n".join(TEXTS))
    pair.check(" ".join(reversed(TEXTS)))


def test_source_code(pair: Pair) -> None:
    for text in list(corpus(200_000))[:8]:
        pair.check(text[:20_000])


def test_every_character(pair: Pair) -> None:
    """Assigned code points alone between letters and in runs of neighbours: the first 8192, then every 16th."""
    for start in range(0, len(ASSIGNED), 4096):
        block = ASSIGNED[start : start + 4096][:: 1 if start < 8192 else 16]
        pair.check("".join(f"a{chr(c)} {chr(c)}b" for c in block))
        pair.check("".join(map(chr, block)))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_random_unicode(pair: Pair, text: str) -> None:
    pair.check(text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PARTS), max_size=40))
def test_random_mixtures(pair: Pair, parts: list[str]) -> None:
    pair.check("".join(parts))


def test_decode_of_random_ids(pair: Pair) -> None:
    rng = random.Random(0)
    size = pair.reference.get_vocab_size(with_added_tokens=True)
    for length in (1, 2, 5, 50, 500):
        for _ in range(8):
            pair.check_decode([rng.randrange(size) for _ in range(length)])


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"])
def test_normalizers(form: str, tokenizer_tool: Path, tmp_path: Path) -> None:
    """Assigned code points alone (uniform scripts with NFC only), then marks in random order on random bases."""
    pair = Pair(tokenizer_tool, alphabet_only(getattr(normalizers, form)()), tmp_path / "tokenizer.json")
    codes = ASSIGNED if form == "NFC" else [c for c in ASSIGNED if c not in PLAIN]
    for start in range(0, len(codes), 2048):
        pair.check("x".join(map(chr, codes[start : start + 2048])))
    rng = random.Random(form)
    marks = [c for c in codes if unicodedata.combining(chr(c))]
    bases = [c for c in codes if unicodedata.decomposition(chr(c))] + list(range(0x1100, 0x1200)) + list(range(64, 128))
    for _ in range(200):
        pair.check("".join(chr(rng.choice(marks if rng.random() < 0.6 else bases)) for _ in range(100)))
    pair.close()


ADDED = ["é", "õ", "naïve", "｜begin▁of｜", "Ġéx", "ÿ", "漢é"]  # noqa: RUF001 (as published vocabularies have them)


@pytest.mark.parametrize("name", ["gpt2", "llama3", "neox", "gpt2_prefix_space"])
def test_added_tokens_of_any_script_decode_as_themselves(name: str, tokenizer_tool: Path, tmp_path: Path) -> None:
    """In byte-level vocabularies too, where the package takes their letters for bytes; whole and in streams."""
    reference = TOKENIZERS[name]()
    reference.add_tokens(ADDED)
    path = tmp_path / "tokenizer.json"
    reference.save(str(path))
    encode = Native(tokenizer_tool, str(path))
    decoders = [Native(tokenizer_tool, str(path), "--decode", *more) for more in ((), ("--stream",))]
    space = " " if name == "gpt2_prefix_space" else ""
    for text in (*ADDED, "".join(ADDED), "a é b", "é" * 5, "鿿é鿿", "née ÿ 漢字 漢é", "x" + "õ".join(TEXTS[7:9])):
        ids = encode(text)
        assert ids == reference.encode(text, add_special_tokens=False).ids
        for decode in decoders:
            made = decode(ids)
            assert made.replace(" ", "") == (space + unicodedata.normalize("NFC", text)).replace(" ", ""), repr(text)
    for process in (encode, *decoders):
        process.close()


BOMBS: dict[str, tuple[dict[str, Any], str]] = {
    "replacements": (
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 30,
            }
        },
        "a" * 1000,
    ),
    "pattern": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a+b"}, "behavior": "Isolated", "invert": False}},
        "a" * 200_000,
    ),
    "strip": (
        {
            "added_tokens": [
                {"id": 499, "content": " ", "lstrip": True, "rstrip": True, "normalized": False, "special": False}
            ]
        },
        " " * 100_000,
    ),
    "post-processor": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"s": {"id": "s", "ids": [0] * 500_000, "tokens": ["s"] * 500_000}},
            }
        },
        "a",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_time_and_memory(bomb: str, tokenizer_tool: Path, tmp_path: Path) -> None:
    change, text = BOMBS[bomb]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(TOKENIZERS["unknown_tokens"]().to_str()) | change))
    limited = ["prlimit", f"--as={2 << 30}", str(tokenizer_tool), str(path)]
    run = subprocess.run(
        limited, input=json.dumps(text) + "\n", capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode in (0, 1)
    assert (
        run.stdout.startswith(("[", '{"error": "tokenizer.json', '{"error":"tokenizer.json'))
        or "tokenizer.json" in run.stderr
    )


def test_bytes(tokenizer_tool: Path) -> None:
    encode, decode = Native(tokenizer_tool, "bytes"), Native(tokenizer_tool, "bytes", "--decode", "--stream")
    for text in TEXTS:
        assert encode(text) == list(text.encode())
        assert decode(list(text.encode())) == text
    assert decode([0x61, 0xE2, 0x82, 0x62, 0xF0, 0x9F]) == b"a\xe2\x82b\xf0\x9f".decode(errors="replace")
    encode.close()
    decode.close()


def test_unsupported_components_are_named(tokenizer_tool: Path, tmp_path: Path) -> None:
    base = json.loads(TOKENIZERS["unknown_tokens"]().to_str())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": {"type": "Unigram", "vocab": [], "unk_id": 0}}, "Unigram"),
        ({"normalizer": {"type": "BertNormalizer"}}, "BertNormalizer"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "UnicodeScripts"),
        ({"decoder": {"type": "CTC"}}, "CTC"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
        ({"pre_tokenizer": _regex(r"(?<=a)b")}, "look-behind"),
        ({"pre_tokenizer": _regex(r"^a")}, "anchor"),
        ({"pre_tokenizer": _regex(r"\p{Han}+")}, "\\p{..}"),
        ({"pre_tokenizer": _regex(r"[a-z&&[^b]]")}, "intersection"),
        ({"pre_tokenizer": _regex(r"(a)\1")}, "\\1"),
        ({"pre_tokenizer": _regex(r"a*")}, "empty text"),
    ]
    for change, name in cases:
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(base | change))
        run = subprocess.run([tokenizer_tool, path], input="", capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert name in run.stderr
        assert "not support" in run.stderr


def _regex(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
