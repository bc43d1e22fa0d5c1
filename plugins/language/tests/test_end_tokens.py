"""End tokens and generation settings of a checkpoint: every listed id ends a text in every engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk import runtime
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError, PackageError
from mambasdk.models.generation_config import end_tokens, generation_settings
from mambasdk.package import Manifest
from mambasdk_language import generate
from mambasdk_language.processors import BytesProcessor, TokenizerProcessor
from mambasdk_language.quickstart import native_command

PROMPT = "for x in y:"
TOKENIZER = {"added_tokens": [{"id": 266, "content": "<|im_end|>"}], "model": {"vocab": {"<|endoftext|>": 0}}}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"config": {}}, []),
    ({"config": {"eos_token_id": None}}, []),
    ({"config": {"eos_token_id": 0}}, [0]),
    ({"config": {"eos_token_id": [0, 266]}}, [0, 266]),
    ({"config": {"eos_token_id": -1}}, []),
    ({"config": {"eos_token_id": [-1]}}, []),
    ({"config": {"eos_token_id": [5, -1, 5]}}, [5]),
    ({"config": {}, "generation_config": {"eos_token_id": [0, 266]}}, [0, 266]),
    ({"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": [0, 266]}}, [0, 266]),
    ({"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": 266}}, [266, 0]),
    ({"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": None}}, [0]),
    ({"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": -1}}, []),
    ({"config": {"eos_token_id": [0, 266]}, "generation_config": {"eos_token_id": 0}}, [0, 266]),
    # transformers writes this copy of the configuration beside every model.
    ({"config": {"eos_token_id": -1}, "generation_config": {"eos_token_id": 0, "_from_model_config": True}}, []),
    ({"config": {}, "tokenizer_config": {"eos_token": "<|im_end|>"}, "tokenizer": TOKENIZER}, [266]),
    ({"config": {}, "tokenizer_config": {"eos_token": {"content": "<|endoftext|>"}}, "tokenizer": TOKENIZER}, [0]),
    (
        {"config": {"eos_token_id": 0}, "tokenizer_config": {"eos_token": "<|im_end|>"}, "tokenizer": TOKENIZER},
        [0, 266],
    ),
    ({"config": {"eos_token_id": -1}, "tokenizer_config": {"eos_token": "<|im_end|>"}, "tokenizer": TOKENIZER}, []),
    (
        {
            "config": {},
            "tokenizer_config": {"eos_token": "<e>", "added_tokens_decoder": {"7": {"content": "<e>"}}},
        },
        [7],
    ),
    ({"config": {}, "tokenizer_config": {"eos_token": "nowhere"}, "tokenizer": TOKENIZER}, []),
]


@pytest.mark.parametrize(("files", "expected"), CASES)
def test_end_tokens_are_all_that_the_files_list(files: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    write(tmp_path, **files)
    tokenizer = tmp_path / "tokenizer.json"
    found = end_tokens(tmp_path, files["config"], tokenizer if tokenizer.is_file() else None)
    assert found == expected


@pytest.mark.parametrize("value", ["0", 1.5, True, -2, [0, "x"], {"id": 0}, 1 << 31])
@pytest.mark.parametrize("file", ["config", "generation_config"])
def test_bad_end_tokens_are_named_with_their_file(value: Any, file: str, tmp_path: Path) -> None:
    folder = write(tmp_path, **{"config": {}, file: {"eos_token_id": value}})
    with pytest.raises(CheckpointError, match=f"{file}.*eos_token_id|configuration: eos_token_id"):
        end_tokens(folder, json.loads((folder / "config.json").read_text()))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, {}),
        ({"temperature": None, "eos_token_id": 0, "transformers_version": "5"}, {}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 40}, {"temperature": 0.7, "top_p": 0.9, "top_k": 40}),
        (
            {"do_sample": False, "temperature": 0.7, "top_k": 50, "repetition_penalty": 1.2, "max_new_tokens": 9},
            {"repetition_penalty": 1.2, "max_new_tokens": 9},
        ),
    ],
)
def test_generation_settings_are_read(content: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    assert generation_settings(write(tmp_path, generation_config=content)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("top_p", 0), ("top_p", 1.5), ("top_k", 2.5), ("max_new_tokens", -1), ("temperature", "hot")],
)
def test_bad_generation_settings_are_named_with_their_file(name: str, value: Any, tmp_path: Path) -> None:
    folder = write(tmp_path, generation_config={name: value})
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: bad {name}"):
        generation_settings(folder)


@pytest.fixture
def checkpoint(make_tiny: Any, tmp_path: Path) -> Path:
    """An original checkpoint of bytes; its greedy and sampled texts are not constant."""
    model: Any = make_tiny("mamba", pad_vocab_size_multiple=1)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 256, "pad_vocab_size_multiple": 1, "tie_embeddings": False}
    return write(folder, config={**config, "ssm_cfg": {"d_state": 8}})


def imported(checkpoint: Path, out: Path) -> Path:
    assert main(["import", "mamba", str(checkpoint), "--out", str(out)]) == 0
    return out


def run_native(package: Path, *arguments: str) -> str:
    command = [native_command(), str(package), "--prompt", PROMPT, *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout.decode(errors="replace")


@pytest.mark.parametrize("file", ["config", "generation_config"])
def test_every_listed_id_ends_a_text_in_every_engine(checkpoint: Path, file: str, tmp_path: Path) -> None:
    sampling: dict[str, Any] = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3}
    free = generate(imported(checkpoint, tmp_path / "free"), PROMPT, **sampling)
    assert free.finish_reason == "length"
    late, early = free.tokens[40], free.tokens[20]
    first = min(free.tokens.index(late), free.tokens.index(early))
    path = checkpoint / f"{file}.json"
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**old, "eos_token_id": [late, early]}))

    package = imported(checkpoint, tmp_path / "package")
    assert Manifest.read(package).processors["text"]["eos_token_id"] == [late, early]
    for engine in ("native", "torch"):
        found = generate(package, PROMPT, engine=engine, **sampling)
        assert (found.tokens, found.finish_reason) == (free.tokens[:first], "eos")
    options = runtime.SamplerOptions(temperature=1.0, seed=3)
    model = runtime.load_package(package)
    made = model.session().generate(PROMPT, max_new_tokens=60, sampler=options)
    assert made["new_tokens"] == first
    assert generate(model, PROMPT, **sampling).tokens == free.tokens[:first]
    flags = ["--max-new-tokens", "60", "--temperature", "1", "--seed", "3"]
    assert run_native(package, *flags).removesuffix("\n") == made["text"]
    assert [int(line) for line in run_native(package, *flags, "--tokens").split()] == free.tokens[:first]
    # In Python without a package: the checkpoint's folder says it.
    direct: Any = mambasdk.import_checkpoint("mamba", checkpoint).eval()
    assert generate(direct, PROMPT, **sampling).tokens == free.tokens[:first]


def test_minus_one_makes_a_package_without_an_end_token(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    write(checkpoint, config={**config, "eos_token_id": -1, "bos_token_id": -1})
    package = imported(checkpoint, tmp_path / "package")
    assert set(Manifest.read(package).processors["text"]) == {"kind"}
    assert mambasdk.verify(package).passed
    assert len(generate(package, PROMPT, max_new_tokens=5).tokens) == 5
    assert run_native(package, "--max-new-tokens", "5")


def test_generation_settings_become_the_defaults_of_every_engine(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 30, "repetition_penalty": 1.1}
    write(checkpoint, generation_config={**settings, "max_new_tokens": 17})
    package = imported(checkpoint, tmp_path / "package")
    del settings["do_sample"]
    expected = generate(package, PROMPT, max_new_tokens=17, seed=4, **settings).tokens
    assert len(expected) == 17
    for engine in ("native", "torch"):
        assert generate(package, PROMPT, engine=engine, seed=4).tokens == expected
    assert [int(line) for line in run_native(package, "--seed", "4", "--tokens").split()] == expected
    loaded = mambasdk.load(package)
    assert generate(loaded, PROMPT, seed=4).tokens == expected
    direct: Any = mambasdk.import_checkpoint("mamba", checkpoint).eval()
    assert generate(direct, PROMPT, seed=4).tokens == expected
    greedy = generate(package, PROMPT, temperature=0, top_k=0, top_p=1, repetition_penalty=1, max_new_tokens=3)
    assert greedy.tokens == generate(package, PROMPT, temperature=0, repetition_penalty=1, max_new_tokens=3).tokens
    given = ["--temperature", "0", "--repetition-penalty", "1", "--max-new-tokens", "3", "--tokens"]
    assert [int(line) for line in run_native(package, *given).split()] == greedy.tokens


@pytest.mark.parametrize(
    ("value", "kept"), [(None, None), (-1, None), ([], None), ([-1], None), (7, 7), ([7], 7), ([7, 9], [7, 9])]
)
def test_processors_write_end_tokens_that_everything_opens(value: Any, kept: Any) -> None:
    processor = BytesProcessor(value)
    assert processor.eos_token_id == kept
    assert processor.manifest_entry().get("eos_token_id") == kept


@pytest.mark.parametrize("value", [True, "x", -2, 1.5, [0, None, "y"]])
def test_processors_refuse_what_is_no_end_token(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="eos_token_id"):
        BytesProcessor(value)


@pytest.mark.parametrize("value", [-1, [0, -1], "0", True, [[0]], 1 << 31])
def test_no_package_is_written_with_end_tokens_that_nothing_opens(make_tiny: Any, value: Any, tmp_path: Path) -> None:
    entry = {"text": {"kind": "bytes", "eos_token_id": value}}
    with pytest.raises(PackageError, match=r"processors\.text\.eos_token_id.*leave it out"):
        mambasdk.save_package(make_tiny("mamba"), tmp_path / "package", processors=entry)
    assert not (tmp_path / "package").exists()


def test_tokenizer_of_a_checkpoint_brings_its_end_tokens(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=["<a>", "<b>"], show_progress=False)
    tokenizer.train_from_iterator(["some text of no meaning"], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, config={"eos_token_id": 0}, tokenizer_config={"eos_token": "<b>"})
    assert TokenizerProcessor.from_checkpoint(tmp_path).eos_token_id == [0, 1]
    (tmp_path / "text.txt").write_text("some text of no meaning. " * 20)
    command = ["train", "mamba", "--data", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer.json")]
    command += ["--steps", "1", "--batch", "1", "--context", "8", "--set", "d_model=16", "--set", "n_layer=1"]
    assert main([*command, "--out", str(tmp_path / "package")]) == 0
    assert Manifest.read(tmp_path / "package").processors["text"]["eos_token_id"] == [0, 1]
