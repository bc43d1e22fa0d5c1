"""A package with a `tokenizer.json`: the runtime's tokenizer in Python, in generation and in mambasdk-run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mambasdk
from mambasdk import runtime
from mambasdk_language import generate
from mambasdk_language.processors import TokenizerProcessor

TEXT = "def naïve(x):\n    return x + 1  # 😀 emoji\n\nprint(naïve(41))\n" * 3


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_tokens_one_by_one_give_the_text(tokenizer_file: Path) -> None:
    import tokenizers

    processor = TokenizerProcessor(tokenizer_file, eos_token_id=0)
    ids = processor.encode(TEXT)
    assert ids == tokenizers.Tokenizer.from_file(str(tokenizer_file)).encode(TEXT).ids
    decoder = processor.decoder()
    assert "".join(map(decoder.push, ids)) + decoder.finish() == TEXT
    assert decoder.push(0) + decoder.finish() == ""
    assert processor.vocab_size == tokenizers.Tokenizer.from_file(str(tokenizer_file)).get_vocab_size()


def test_generation_is_the_same_in_python_and_from_the_native_session(
    make_tiny: Callable[..., Any], tokenizer_file: Path, tmp_path: Path
) -> None:
    model: Any = make_tiny("mamba", vocab_size=300)
    processor = TokenizerProcessor(tokenizer_file, eos_token_id=0)
    mambasdk.save_package(model, tmp_path / "package", processors={"text": processor.manifest_entry()})
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 1.2, "seed": 9}
    found = generate(tmp_path / "package", "def naïve(", **options)
    torch_found = generate(model, "def naïve(", processor=processor, **options)
    assert found.tokens == torch_found.tokens
    assert found.text == torch_found.text
    session = runtime.load_package(tmp_path / "package").session()
    text = session.generate("def naïve(", max_new_tokens=40, sampler=runtime.SamplerOptions(temperature=1.2, seed=9))[
        "text"
    ]
    assert text == found.text
