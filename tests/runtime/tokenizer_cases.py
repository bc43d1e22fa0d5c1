# ruff: noqa: RUF001 (the texts are odd on purpose)
"""Tokenizers trained on the standard library, and texts to try them on."""

from __future__ import annotations

import functools
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def corpus(limit: int = 400_000) -> Iterator[str]:
    """Standard-library sources and the texts below, about `limit` characters."""
    total = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text("utf-8", errors="ignore")
        total += len(text)
        yield text
        if total > limit:
            break
    yield from TEXTS * 3


def _byte_level_trainer(special: list[str], size: int = 3000) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _split(pattern: str, **options: object) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), **({"behavior": "isolated", "invert": False} | options)),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@functools.cache
def _trained_gpt2() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(corpus(), _byte_level_trainer(["<|endoftext|>"]))
    return tokenizer.to_str()


def gpt2() -> Tokenizer:
    """Byte-level words by GPT-2's pattern."""
    return Tokenizer.from_str(_trained_gpt2())


def gpt2_prefix_space() -> Tokenizer:
    """Added tokens of every kind."""
    tokenizer = gpt2()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_tokens([AddedToken("single", single_word=True), AddedToken("<left>", lstrip=True)])
    tokenizer.add_special_tokens([AddedToken("<right>", rstrip=True, special=True), AddedToken("<|x|>", special=True)])
    return tokenizer


def neox() -> Tokenizer:
    """NFC, and runs of spaces as added tokens."""
    tokenizer = gpt2()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    tokenizer.add_special_tokens(["<|padding|>"])
    return tokenizer


@functools.cache
def _trained_llama3() -> str:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = _split(LLAMA3)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), _byte_level_trainer(["<|begin|>", "<|end|>"]))
    tokenizer.model.ignore_merges = True
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]),
        ]
    )
    return tokenizer.to_str()


def llama3() -> Tokenizer:
    """Byte-level words by a Split pattern, whole words looked up before any merge, and a bos token."""
    return Tokenizer.from_str(_trained_llama3())


def _other_split(pattern: str, **options: object) -> Tokenizer:
    tokenizer = llama3()
    tokenizer.pre_tokenizer = _split(pattern, **options)
    return tokenizer


def digits() -> Tokenizer:
    """Every digit a word."""
    tokenizer = gpt2()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@functools.cache
def _trained_sentencepiece(scheme: str) -> str:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=special, limit_alphabet=150, show_progress=False)
    tokenizer.train_from_iterator(corpus(200_000), trainer)
    # Only the first three are special; the byte tokens belong to the model.
    rebuilt = Tokenizer(tokenizer.model)
    rebuilt.pre_tokenizer, rebuilt.decoder = tokenizer.pre_tokenizer, tokenizer.decoder
    rebuilt.add_special_tokens(special[:3])
    around = [(name, rebuilt.token_to_id(name)) for name in ("<s>", "</s>")]
    rebuilt.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    return rebuilt.to_str()


def sentencepiece(scheme: str = "always") -> Tokenizer:
    """Metaspace words; characters that the vocabulary lacks become byte tokens."""
    return Tokenizer.from_str(_trained_sentencepiece(scheme))


def llama2() -> Tokenizer:
    """The older form: normalisers instead of Metaspace, and the whole text as one word."""
    tokenizer = sentencepiece()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    return tokenizer


def metaspace_decoder() -> Tokenizer:
    """The decoder that turns the replacement back into spaces by itself."""
    tokenizer = sentencepiece("first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return tokenizer


def unknown_tokens() -> Tokenizer:
    """A small alphabet with an unknown token, strong normalisation, no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s{2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], limit_alphabet=40, show_progress=False)
    tokenizer.train_from_iterator(corpus(200_000), trainer)
    return tokenizer


def alphabet_only(normalizer: normalizers.Normalizer) -> Tokenizer:
    """Every byte a token: the ids show what the normaliser did."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": gpt2,
    "gpt2_prefix_space": gpt2_prefix_space,
    "neox": neox,
    "llama3": llama3,
    "cl100k": lambda: _other_split(CL100K),
    "o200k": lambda: _other_split(O200K),
    "qwen2": lambda: _other_split(QWEN2),
    "split_removed": lambda: _other_split(r"\s+", behavior="removed"),
    "split_inverted": lambda: _other_split(LLAMA3, behavior="removed", invert=True),
    "split_previous": lambda: _other_split(r"[aeiou]", behavior="merged_with_previous"),
    "split_next": lambda: _other_split(r"\p{Lu}|\d", behavior="merged_with_next"),
    "split_contiguous": lambda: _other_split(r"\w", behavior="contiguous"),
    "digits": digits,
    "sentencepiece": sentencepiece,
    "sentencepiece_first": lambda: sentencepiece("first"),
    "llama2": llama2,
    "metaspace_decoder": metaspace_decoder,
    "unknown_tokens": unknown_tokens,
}

TEXTS = [
    "",
    " ",
    "a",
    "Hello, world! It's 2024; they'll've said THEY'RE I'M don'T.",
    "def f(x):\n\treturn {'a': 1.5e-10, \"b\": [x**2 for x in range(1000000)]}\r\n\r\n    # comment   \n",
    "The quick brown fox jumps over the lazy dog. " * 20,
    "Русский язык, Ελληνικά, עברית, العَرَبِيَّة, हिन्दी भाषा, বাংলা, தமிழ், ไทย, ქართული, հայերեն, አማርኛ",
    "中文字符，日本語のテキスト、한국어 텍스트 繁體字 ㋿ ㈱ ｶﾀｶﾅ Ｆｕｌｌ",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ❤️ 🧑🏿‍🚀 \U0001fae8 emoji😀between😀words",
    "e\u0301 n\u0303 a\u0308\u0304 \u1e9b\u0323 q\u0307\u0323 \u0041\u030a \u212b \u2126 \uf900 ﬁ ﬀ ½ ² Å ǆ İ ſ K",
    "각 \u1100\u1161\u11a8 \uac00\u11a8 \u1100\u1161 힣 \u1112\u1175\u11c2",
    "nbsp\u00a0here\u2003em\u2009thin\u200bzero\u3000ideographic\u2028line\u2029para\u0085nel\u1680ogham\u180emvs\ufeffbom",
    "tabs\t\ttwo \t mix\n\n\nlines\r\nCRLF\r\rCR \x0b vt \x0c ff   \n   trailing   ",
    "control \x00\x01\x02\x1f\x7f\x80\x9f chars",
    "x" * 5000,
    " " * 3000 + "y" + "\n" * 500 + " \n" * 200,
    "ab" * 2000 + "1234567890" * 300 + "!?" * 500,
    "éüñ" * 700 + "漢" * 900 + "😀" * 400,
    "<|endoftext|> <|endoftext|>text<|endoftext|><|begin|> <|end|> <s> </s> <unk> <0x41> <|padding|>",
    "single singles _single single. (single)single <left>  <left> x  <left>\t<right>  \n y<right> z <|x|><right>",
    "  two   three    four     five" + " " * 30 + "end",
    "'S 'll 'LL 'Ve 'ſ I'ſt can't CAN'T it’s ''''s",
    "١٢٣ ४५६ ½¾ Ⅷ ⅷ 𝟘𝟙 ①② 12345678 1,234,567.89 0x1F",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 𓂀 \U000e0001 \U0010ffff \ufffd \ufffe \ue000",
    "camelCaseHTTPServer snake_case_name SCREAMING_CASE kebab-case a1b2c3 Ünïcödé ǅungla ʰˢ",
    "((((([[[[{{{{<<<<>>>>}}}}]]]]))))) ===== ----- ##### ***** ~~~~ ``` \\\\\\ /// //",
    "a\u0300\u0301\u0302\u0303" + "\u0334\u0345\u0315" * 30 + "b",
    "▁already▁there ▁ ▁▁ x▁",
]

PARTS = [" ", "  ", "\n", "\r\n", "\t", "a", "B", "'s", "1", "é", "e\u0301", "\u0301", "😀", "\u200d", "中", "\u00a0"]
PARTS += ["<|endoftext|>", "<|x|>", "<left>", "<right>", "single", "<s>", "▁", "_", ".", "\u2028", "ſ", "\x00"]
