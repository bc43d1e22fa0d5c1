"""Generation: one sampler for every engine, the same greedy tokens from each, and the properties of every option."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk import runtime
from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk.pipeline import load_pipeline
from mambasdk_language import generate, stream
from mambasdk_language.decoding import NativeDecoder, TorchDecoder
from mambasdk_language.generation import Sampling, greedy
from mambasdk_language.processors import BytesProcessor
from mambasdk_language.quickstart import native_command

PROMPT = "for x in y:\n"
COUNT = 40


@pytest.fixture
def package(tiny: Any, tmp_path: Path) -> Path:
    mambasdk.save_package(tiny, tmp_path / "package")
    return tmp_path / "package"


def full_forward(model: Any, prompt: str, count: int) -> list[int]:
    """Greedy tokens with the whole sequence run again for each of them."""
    tokens = list(prompt.encode())
    with torch.no_grad():
        for _ in range(count):
            logits = model(torch.tensor([tokens]), return_state=False).logits[0, -1, : model.vocab_size]
            tokens.append(int(logits.argmax()))
    return tokens[len(prompt.encode()) :]


def test_greedy_tokens_are_the_same_from_every_engine(tiny: Any, package: Path) -> None:
    expected = full_forward(tiny, PROMPT, COUNT)
    prompt = list(PROMPT.encode())
    assert greedy(TorchDecoder(tiny), prompt, COUNT) == expected
    assert generate(tiny, PROMPT, max_new_tokens=COUNT).tokens == expected
    native = runtime.load_package(package)
    assert greedy(NativeDecoder(native), prompt, COUNT) == expected
    assert generate(package, PROMPT, max_new_tokens=COUNT).tokens == expected
    assert generate(package, PROMPT, max_new_tokens=COUNT, engine="torch").tokens == expected
    assert generate(native, PROMPT, max_new_tokens=COUNT).tokens == expected
    text = native.session().generate(PROMPT, max_new_tokens=COUNT)["text"]
    assert text == bytes(expected).decode(errors="replace")


def run_native(package: Path, *arguments: str) -> str:
    try:
        command = native_command()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    done = subprocess.run([command, str(package), *arguments], capture_output=True, timeout=120, check=True)
    return done.stdout.decode(errors="replace")


def test_pipelines_of_every_engine_continue_text(tiny: Any, package: Path, tmp_path: Path) -> None:
    """Two runs, so that the second goes on from the state of the first; and one that fails between them."""
    mambasdk.save_package(tiny, tmp_path / "torch", engine="torch")
    results = []
    for folder in (package, tmp_path / "torch"):
        pipeline = load_pipeline(folder)
        first = pipeline.run({"text": PROMPT}, {"max_new_tokens": 12})["json"]
        with pytest.raises(KeyError):
            pipeline.run({"text": PROMPT}, {"max_new_tokens": 12}, on_text=lambda piece: {}[piece])
        pieces: list[str] = []
        second = pipeline.run({"text": "x"}, {"max_new_tokens": 12}, on_text=pieces.append)["json"]
        assert "".join(pieces) == second["text"]
        results.append((first, second))
    assert results[0] == results[1]
    assert results[0][0]["text"] == generate(package, PROMPT, max_new_tokens=12).text


def test_mambasdk_run_gives_the_same_greedy_tokens(tiny: Any, package: Path) -> None:
    found = run_native(package, "--prompt", PROMPT, "--max-new-tokens", str(COUNT), "--tokens")
    assert [int(line) for line in found.split()] == full_forward(tiny, PROMPT, COUNT)


OPTIONS = [
    {"temperature": 0.8},
    {"temperature": 1.3, "top_k": 12},
    {"temperature": 1.0, "top_p": 0.7},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 0.9, "repetition_penalty": 1.4, "top_k": 50, "top_p": 0.95},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_same_seed_gives_the_same_sampled_tokens_from_every_engine(
    tiny: Any, package: Path, options: dict[str, Any]
) -> None:
    expected = generate(tiny, PROMPT, max_new_tokens=COUNT, seed=7, **options).tokens
    assert generate(tiny, PROMPT, max_new_tokens=COUNT, seed=7, **options).tokens == expected
    assert generate(package, PROMPT, max_new_tokens=COUNT, seed=7, **options).tokens == expected
    assert generate(tiny, PROMPT, max_new_tokens=COUNT, seed=8, **options).tokens != expected
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    limit = ["--prompt", PROMPT, "--max-new-tokens", str(COUNT), "--seed", "7", "--tokens"]
    assert [int(line) for line in run_native(package, *limit, *flags).split()] == expected


def test_long_prompt_runs_in_chunks_with_the_same_result(tiny: Any, package: Path) -> None:
    prompt = "".join(chr(32 + (i * i) % 90) for i in range(1300))
    expected = full_forward(tiny, prompt, 6)
    assert generate(tiny, prompt, max_new_tokens=6).tokens == expected
    assert generate(package, prompt, max_new_tokens=6).tokens == expected


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_rows_of_a_batch_are_what_they_would_be_alone(package: Path, engine: str) -> None:
    prompts = ["a", "def f(", "x = [1, 2, 3]\n" * 5]
    options = {"max_new_tokens": 20, "temperature": 1.0, "engine": engine}
    batch = generate(package, prompts, seed=3, **options)
    for row, prompt in enumerate(prompts):
        alone = generate(package, prompt, seed=3 + row, **options)
        assert batch[row].tokens == alone.tokens
        assert batch[row].text == alone.text
        assert batch[row].prompt_tokens == len(prompt)


def test_rows_that_end_early_leave_the_others_alone(tiny: Any) -> None:
    prompts = ["first", "second one", "third"]
    options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 1.0, "seed": 5}
    free = generate(tiny, prompts, **options)
    stop = free[1].text[4:6]
    ended = generate(tiny, prompts, stop=stop, **options)
    for before, after in zip(free, ended, strict=True):
        position = before.text.find(stop)
        assert after.text == (before.text if position < 0 else before.text[:position])
        assert after.finish_reason == ("length" if position < 0 else "stop")


def test_end_token_ends_the_text_and_is_not_part_of_it(tiny: Any) -> None:
    free = generate(tiny, PROMPT, max_new_tokens=COUNT, temperature=1.0, seed=2)
    end = free.tokens[10]
    first = free.tokens.index(end)
    ended = generate(tiny, PROMPT, max_new_tokens=COUNT, temperature=1.0, seed=2, processor=BytesProcessor(end))
    assert ended.tokens == free.tokens[:first]
    assert ended.finish_reason == "eos"


def test_stream_is_the_text_in_pieces_and_can_be_left(tiny: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": COUNT, "temperature": 1.0, "seed": 4}
    whole = generate(tiny, PROMPT, **options)
    assert "".join(stream(tiny, PROMPT, **options)) == whole.text
    seen: list[str] = []
    assert generate(tiny, PROMPT, on_text=seen.append, **options).text == "".join(seen) == whole.text
    pieces: Iterator[str] = stream(tiny, PROMPT, **options)
    first = list(itertools.islice(pieces, 3))
    assert whole.text.startswith("".join(first))

    ended = generate(tiny, PROMPT, on_text=lambda piece: False, **options)
    assert ended.finish_reason == "callback"
    assert len(ended.tokens) < COUNT
    assert whole.text.startswith(ended.text)


def probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()


def drawn(logits: np.ndarray, count: int = 3000, **options: Any) -> np.ndarray:
    """How often each token is drawn, from samplers with different seeds."""
    counts = np.zeros(len(logits))
    for seed in range(count):
        counts[
            Sampling(temperature=options.pop("temperature", 1.0), seed=seed, **options).sampler().sample(logits)
        ] += 1
    return counts / count


LOGITS = np.array([2.0, 1.5, 1.4, 0.5, 0.0, -1.0, -3.0, -4.0], np.float32)


def test_plain_sampling_follows_the_probabilities() -> None:
    # Four standard deviations of 3000 draws.
    assert np.abs(drawn(LOGITS) - probabilities(LOGITS)).max() < 4 * np.sqrt(0.25 / 3000)


@pytest.mark.parametrize("min_p", [0.05, 0.3, 0.6])
def test_min_p_keeps_what_has_a_share_of_the_highest_probability(min_p: float) -> None:
    p = probabilities(LOGITS)
    allowed = p >= min_p * p.max()
    frequency = drawn(LOGITS, min_p=min_p)
    assert frequency[~allowed].sum() == 0
    assert np.abs(frequency - np.where(allowed, p, 0) / p[allowed].sum()).max() < 4 * np.sqrt(0.25 / 3000)


@pytest.mark.parametrize("top_p", [0.3, 0.75, 0.97])
def test_top_p_keeps_the_smallest_set_with_that_probability(top_p: float) -> None:
    p = probabilities(LOGITS)  # already falling
    allowed = np.concatenate([[0.0], np.cumsum(p)[:-1]]) < top_p
    assert p[allowed].sum() >= top_p
    frequency = drawn(LOGITS, top_p=top_p)
    assert frequency[~allowed].sum() == 0
    assert np.abs(frequency - np.where(allowed, p, 0) / p[allowed].sum()).max() < 4 * np.sqrt(0.25 / 3000)


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([1.0, 0.9, -0.5, -0.6], np.float32)
    sampler = Sampling(repetition_penalty=1.2).sampler()
    sampler.observe([0])
    assert sampler.sample(logits) == 1
    sampler = Sampling(repetition_penalty=2.0).sampler()
    sampler.observe([0, 1, 2])
    assert sampler.sample(np.array([-9.0, -9.0, -0.5, -0.6], np.float32)) == 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"seed": -1}, "seed"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"engine": "quantum"}, "engine"),
    ],
)
def test_options_out_of_range_are_named(make_tiny: Callable[..., Any], options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        generate(make_tiny("mamba"), PROMPT, **options)


def test_empty_prompts_and_nothing_to_generate(make_tiny: Callable[..., Any]) -> None:
    model = make_tiny("mamba")
    with pytest.raises(InvalidArgumentError, match="no tokens"):
        generate(model, "")
    assert generate(model, []) == []
    assert generate(model, PROMPT, max_new_tokens=0).text == ""


def test_model_with_another_vocabulary_needs_a_processor(make_tiny: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="processor"):
        generate(make_tiny("mamba", vocab_size=61), PROMPT)
