"""Hybrids: patterns, Megatron's shards and folders, refusals."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import identity
from mambasdk_language.corpus import Document, make_corpus, split_documents
from mambasdk_language.families.hybrid.pattern import SYMBOLS, allocate, parse
from mambasdk_language.processors import BytesProcessor
from mambasdk_language.training import LanguageModeling, bits_per_byte

# The patterns of arXiv 2406.07887: of its 8B model, and of the 800M example beside it.
PUBLISHED = {
    56: "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-",
    48: "M-M-M--M-*M-M-M-M--*M-M-M-M-*M--M-M-M-*M-M--M-M-",
}
SIZES: dict[str, Any] = {
    "d_model": 32, "pattern": "M-*-M", "vocab_size": 40, "d_state": 8, "headdim": 8, "ngroups": 4, "num_heads": 8,
    "num_kv_heads": 4, "head_dim": 4, "d_mlp": 24, "tie_embeddings": False,
}  # fmt: skip
MEGATRON: dict[str, Any] = {
    "hidden_size": 32, "hybrid_override_pattern": "M-*|-M", "vocab_size": 40, "mamba_state_dim": 8,
    "mamba_head_dim": 8, "mamba_num_groups": 4, "num_attention_heads": 8, "num_query_groups": 4, "kv_channels": 4,
    "ffn_hidden_size": 24, "norm_epsilon": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize("layers", PUBLISHED)
def test_allocation_gives_the_published_patterns(layers: int) -> None:
    assert allocate(layers, 0.08, 0.5) == PUBLISHED[layers]
    model: Any = mambasdk.create_model("hybrid", **{**SIZES, "pattern": None}, n_layer=layers, device="meta")
    assert identity(model).config["pattern"] == PUBLISHED[layers]


@pytest.mark.parametrize("layers", [1, 2, 7, 12, 31, 64])
def test_allocation_has_the_asked_for_shares(layers: int) -> None:
    for attention in (0.0, 0.08, 0.2, 0.4):
        for mlp in (0.0, 0.3, 0.5):
            pattern = allocate(layers, attention, mlp)
            counts = [pattern.count(symbol) for symbol in "*-"]
            assert counts == [round(layers * attention), round(layers * mlp)]
            assert len(pattern) == layers


@pytest.mark.parametrize(("pattern", "message"), [("", "no layer"), ("MX-", "'X' in 'MX-'"), ("M*/M*", "multi-token")])
def test_a_bad_pattern_says_what_is_known(pattern: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        parse(pattern)
    assert parse("".join(SYMBOLS)) == "".join(SYMBOLS)


# ---- Megatron ----


def model() -> Any:
    torch.manual_seed(5)
    return mambasdk.create_model("hybrid", **SIZES)


def shards(ours: Any, count: int) -> list[dict[str, Tensor]]:
    """The weights as Megatron cuts them for `count` ranks of tensor parallelism."""
    made: list[dict[str, Tensor]] = [{} for _ in range(count)]

    def put(name: str, value: Tensor, kinds: list[int] | None = None, dim: int | None = 0) -> None:
        parts = [value] if kinds is None else list(value.split(kinds))
        for rank, shard in enumerate(made):
            cut = parts if dim is None else [part.chunk(count, dim)[rank] for part in parts]
            shard[name] = torch.cat(cut).clone()

    inner, states, heads, width = 64, 4 * 8, 8, 4
    for name, value in ours.state_dict().items():
        if not name.startswith("backbone.layers."):
            theirs = name.replace("backbone.embedding", "embedding.word_embeddings").replace("lm_head", "output_layer")
            put(theirs.replace("backbone.norm_f", "decoder.final_norm"), value, dim=None if "norm" in name else 0)
            continue
        index, part = name.removeprefix("backbone.layers.").split(".", 1)
        start, symbol = f"decoder.layers.{index}.", SIZES["pattern"][int(index)]
        if symbol == "*" and part == "mixer.in_proj.weight":
            q, k, v = value.split([8 * width, 4 * width, 4 * width])
            grouped = [rows.unflatten(0, (4, -1)) for rows in (q, k, v)]
            put(start + "self_attention.linear_qkv.weight", torch.cat(grouped, 1).flatten(0, 1))
        elif symbol == "*":
            if part == "norm.weight":
                put(start + "self_attention.linear_qkv.layer_norm_weight", value, dim=None)
            else:
                put(start + "self_attention.linear_proj.weight", value, dim=1)
        elif symbol == "-":
            if part == "norm.weight":
                put(start + "mlp.linear_fc1.layer_norm_weight", value, dim=None)
            else:
                put(start + part.replace("mixer.", "mlp.linear_"), value, dim=1 if "fc2" in part else 0)
        elif part == "mixer.in_proj.weight":
            put(start + part, value, [inner, inner, states, states, heads])
        elif part.startswith("mixer.conv1d"):
            put(start + part, value, [inner, states, states])
        elif part == "norm.weight":
            put(start + part, value, dim=None)
        else:
            put(start + part, value, dim=1 if part == "mixer.out_proj.weight" else 0)
    return made


def write(folder: Path, parts: list[dict[str, Tensor]], config: Mapping[str, Any] = MEGATRON) -> None:
    """As Megatron-LM writes them: a folder for each rank, below that of the iteration."""
    (folder / "latest_checkpointed_iteration.txt").write_text("release")
    (folder / "config.json").write_text(json.dumps(config))
    for rank, tensors in enumerate(parts):
        place = folder / "release" / f"mp_rank_{rank:02d}"
        place.mkdir(parents=True)
        extra = {"decoder.layers.1.mlp.linear_fc1._extra_state": io.BytesIO(b"scales")}
        content = {"model": {**tensors, **extra}, "args": argparse.Namespace(rank=rank), "iteration": 7}
        torch.save(content, place / "model_optim_rng.pt")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_megatrons_ranks_become_one_model(count: int, tmp_path: Path) -> None:
    ours = model()
    write(tmp_path, shards(ours, count))
    again: Any = mambasdk.import_checkpoint("hybrid", tmp_path)
    found = again.state_dict()
    assert identity(again).config == identity(ours).config
    assert found.keys() == ours.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in ours.state_dict().items())


def _differ(parts: list[dict[str, Tensor]]) -> None:
    parts[1]["decoder.final_norm.weight"] = parts[1]["decoder.final_norm.weight"] + 1


def _uneven(parts: list[dict[str, Tensor]]) -> None:
    name = "decoder.layers.0.mixer.in_proj.weight"
    parts[1][name] = parts[1][name][:-1]


def _absent(parts: list[dict[str, Tensor]]) -> None:
    del parts[1]["decoder.layers.1.mlp.linear_fc2.weight"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_differ, "differs from rank to rank"), (_uneven, "rows.*of 200 in each of 2"), (_absent, "not every rank has")],
)
def test_shards_that_do_not_fit_are_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    parts = shards(model(), 2)
    spoil(parts)
    write(tmp_path, parts)
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("hybrid", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hybrid_override_pattern": None}, "no pattern"),
        ({"hybrid_override_pattern": "M-M-M"}, "unexpected"),
        ({"activation": "tanh"}, "bad activation"),
        ({"swiglu": True}, "swiglu"),
        ({"hidden_size": None}, "no hidden_size"),
        ({"num_query_groups": 2}, "unflatten|wrong shape|shape"),
    ],
)
def test_a_configuration_that_is_another_models_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path, shards(model(), 1), {**MEGATRON, **changes})
    with pytest.raises((CheckpointError, RuntimeError), match=message):
        mambasdk.import_checkpoint("hybrid", tmp_path)


def test_a_rank_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, shards(model(), 2))
    (tmp_path / "release" / "mp_rank_01").rename(tmp_path / "release" / "mp_rank_02")
    with pytest.raises(CheckpointError, match="bad folder mp_rank_02"):
        mambasdk.import_checkpoint("hybrid", tmp_path)


# ---- Mamba-2 with attention ----


def test_mamba2_with_attention_is_a_hybrid() -> None:
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 40, "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [1]}
    with pytest.raises(CheckpointError, match="import it as family hybrid"):
        mambasdk.import_checkpoint("mamba2", config, {"backbone.embedding.weight": torch.zeros(40, 32)})
    with pytest.raises(CheckpointError, match="not causal"):
        mambasdk.import_checkpoint("hybrid", config, {"backbone.embedding.weight": torch.zeros(40, 32)})


# ---- states ----


def test_rows_restart_as_if_nothing_had_been_read() -> None:
    ours = model().eval()
    first, more = torch.randint(40, (3, 7)), torch.randint(40, (3, 4))
    state = ours(first).state.restart(torch.tensor([False, True, False]))
    out = ours(more, state)
    torch.testing.assert_close(out.logits[1], ours(more[1:2]).logits[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.logits[2], ours(more[2:], ours(first[2:]).state).logits[0], atol=1e-5, rtol=0)
    assert out.state.tokens_seen.tolist() == [11, 4, 11]
    everything = out.state.restart(torch.ones(3, dtype=torch.bool))
    assert everything[2].key.shape[1] == 0


def test_training_goes_on_from_the_carried_cache() -> None:
    text = [Document(f"{i}.txt", b"the cat sat on the mat\n" * (2 + i)) for i in range(20)]
    corpus = make_corpus(*split_documents(text, 0.2), BytesProcessor())
    sizes = {"batch": 3, "context": 8, "segment": 3}
    ours: Any = mambasdk.create_model("hybrid", **{**SIZES, "vocab_size": 256})
    task, again = (LanguageModeling(ours, corpus, **sizes) for _ in range(2))
    columns = []
    for step in range(12):
        task.loss(step)
        columns.append(task.state_dict()["layers"][2][0].shape[1])
    assert max(columns) <= 8 * 3, "rows begin anew after their segment, and columns that no row has go"
    again.load_state_dict(task.state_dict())
    assert torch.equal(task.loss(12)[0], again.loss(12)[0])
    assert bits_per_byte(ours, corpus.held_out, corpus.held_out_bytes, window=5) == pytest.approx(
        bits_per_byte(ours, corpus.held_out, corpus.held_out_bytes, window=50), rel=1e-5
    )


@pytest.mark.parametrize("pattern", ["MMM*", "MMMM*", "M-M*-M-M", "*M*M*M*M"])
def test_however_many_states_there_are_the_native_engine_steps(pattern: str, tmp_path: Path) -> None:
    """The count of tokens is no state of the program, whichever state torch asks for the batch."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "vocab_size": 50, "d_state": 8, "headdim": 8, "ngroups": 1, "num_heads": 2, "d_mlp": 24}
    model: Any = mambasdk.create_model("hybrid", pattern=pattern, **sizes).eval()
    mambasdk.save_package(model, tmp_path / "package", engine="native", golden=False)
    package = mambasdk.runtime.load_package(tmp_path / "package")
    states = {name for layer in range(len(pattern)) for name in _state_names(pattern[layer], layer)}
    assert {state["name"] for state in package.states} == states
    tokens = torch.randint(50, (3, 7))
    session = package.session()
    for piece in tokens.to(torch.int32).split([4, 1, 2], 1):
        found = session.run({"tokens": piece.numpy()}, ["last_logits"])["last_logits"]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(tokens).logits[:, -1], atol=1e-4, rtol=1e-4)


def _state_names(symbol: str, layer: int) -> list[str]:
    fields = {"M": ("conv", "ssm"), "*": ("key", "value"), "-": ()}[symbol]
    return [f"layers.{layer}.{field}" for field in fields]
