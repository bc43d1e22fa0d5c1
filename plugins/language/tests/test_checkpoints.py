"""Import of both published formats: parity with transformers, round trips through every file layout, clear refusals."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_parity import greedy, is_as_near_in_bfloat16, uncached
from safetensors.torch import save_file

import mambasdk
from mambasdk.errors import CheckpointError
from mambasdk.models import identity

ORIGINAL = {
    "mamba": {"d_model": 32, "n_layer": 2, "vocab_size": 61, "pad_vocab_size_multiple": 8, "ssm_cfg": {}},
    "mamba2": {
        "d_model": 32,
        "n_layer": 2,
        "vocab_size": 61,
        "pad_vocab_size_multiple": 16,
        "ssm_cfg": {"layer": "Mamba2", "headdim": 8, "d_state": 16, "ngroups": 2, "chunk_size": 8},
    },
}


def original_model(family: str, **changes: Any) -> tuple[dict[str, Any], Any]:
    """An original config.json and a model with random weights in its format."""
    torch.manual_seed(3)
    config = {**ORIGINAL[family], **changes}
    ssm = {key: value for key, value in config["ssm_cfg"].items() if key not in ("layer", "chunk_size")}
    rest = {key: value for key, value in config.items() if key not in ("ssm_cfg", "fused_add_norm")}
    return config, mambasdk.create_model(family, **rest, **ssm)


def huggingface_model(family: str, **changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    common = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, **changes}
    if family == "mamba":
        return transformers.MambaForCausalLM(transformers.MambaConfig(**common)).eval()
    sizes = {"num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 2, "chunk_size": 8}
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**sizes, **common)).eval()


def same(a: Any, b: Any) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("changes", [{}, {"use_bias": True, "use_conv_bias": False, "layer_norm_epsilon": 1e-3}])
def test_logits_equal_those_of_transformers(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = huggingface_model(family, **changes)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias") and "dt" not in name:  # zero after initialisation, so that they would not count
                parameter.normal_(std=0.1)
    theirs.save_pretrained(tmp_path)
    ours = mambasdk.import_checkpoint(family, tmp_path)
    tokens = torch.randint(61, (2, 19))
    with torch.no_grad():
        expected = theirs(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(ours(tokens).logits, expected, atol=1e-4, rtol=0)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_left_padding_equals_transformers_and_is_exact(family: str, tmp_path: Path) -> None:
    theirs = huggingface_model(family)
    theirs.save_pretrained(tmp_path)
    ours = mambasdk.import_checkpoint(family, tmp_path)
    tokens = torch.randint(1, 61, (1, 11))
    padded = torch.cat([torch.zeros(1, 6, dtype=torch.int64), tokens], 1)
    mask = torch.cat([torch.zeros(1, 6), torch.ones(1, 11)], 1).long()
    with torch.no_grad():
        alone = ours(tokens)
        found = ours(padded, mask=mask)
        expected = theirs(input_ids=padded, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(found.logits[:, 6:], alone.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits[:, 6:], expected[:, 6:], atol=1e-4, rtol=0)
    for a, b in zip(found.state, alone.state, strict=True):
        torch.testing.assert_close(a.ssm, b.ssm, atol=1e-5, rtol=0)


def test_pieces_and_greedy_text_equal_those_of_transformers(family: str, tmp_path: Path) -> None:
    theirs = huggingface_model(family, tie_word_embeddings=False)
    with torch.no_grad():
        theirs.lm_head.weight.normal_()
    theirs.save_pretrained(tmp_path)
    ours = mambasdk.import_checkpoint(family, tmp_path)
    tokens = torch.randint(1, 61, (2, 15))
    state, pieces = None, []
    with torch.no_grad():
        for piece in tokens.split([6, 5, 1, 3], 1):
            out = ours(piece, state)
            state = out.state
            pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), uncached(theirs, tokens), atol=1e-4, rtol=0)
    found = ours.generate(tokens[:1, :7], max_new_tokens=64)
    assert torch.equal(found, greedy(theirs, tokens[:1, :7], 64))
    assert torch.equal(found, theirs.generate(tokens[:1, :7], max_new_tokens=64, do_sample=False, eos_token_id=None))


def test_bfloat16_is_as_near_to_float32_as_transformers(family: str, tmp_path: Path) -> None:
    theirs = huggingface_model(family)
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(1, 61, (4, 33))
    assert is_as_near_in_bfloat16(mambasdk.import_checkpoint(family, tmp_path), theirs, tokens)


def test_untied_head_from_transformers(family: str, tmp_path: Path) -> None:
    theirs = huggingface_model(family, tie_word_embeddings=False)
    with torch.no_grad():
        theirs.lm_head.weight.normal_()
    theirs.save_pretrained(tmp_path)
    ours = mambasdk.import_checkpoint(family, tmp_path)
    tokens = torch.randint(61, (1, 7))
    with torch.no_grad():
        expected = theirs(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(ours(tokens).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", ["bin", "sharded bin", "safetensors", "sharded safetensors", "state dict"])
@pytest.mark.parametrize("lm_head", [True, False])
def test_original_format_round_trip(family: str, layout: str, lm_head: bool, tmp_path: Path) -> None:
    config, model = original_model(family)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if not lm_head:
        del tensors["lm_head.weight"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    if layout == "state dict":
        again = mambasdk.import_checkpoint(family, tmp_path / "config.json", tensors)
    else:
        write(tensors, tmp_path, layout)
        again = mambasdk.import_checkpoint(family, tmp_path)
    assert same(model, again)
    assert again.lm_head.weight is again.backbone.embedding.weight
    assert again.padded_vocab_size == 64
    assert again.vocab_size == 61


def write(tensors: dict[str, torch.Tensor], folder: Path, layout: str) -> None:
    kind = layout.rsplit(maxsplit=1)[-1]
    extension, stem = ("bin", "pytorch_model") if kind == "bin" else ("safetensors", "model")

    def save(part: dict[str, torch.Tensor], path: Path) -> None:
        torch.save(part, path) if kind == "bin" else save_file(part, path)

    if not layout.startswith("sharded"):
        save(tensors, folder / f"{stem}.{extension}")
        return
    names = sorted(tensors)
    weight_map = {}
    for index in range(3):
        file = f"{stem}-{index + 1:05}-of-00003.{extension}"
        part = {name: tensors[name] for name in names[index::3]}
        save(part, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    (folder / f"{stem}.{extension}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_sharded_checkpoint_of_transformers(family: str, tmp_path: Path) -> None:
    theirs = huggingface_model(family)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = mambasdk.import_checkpoint(family, tmp_path)
    tokens = torch.randint(61, (1, 9))
    with torch.no_grad():
        expected = theirs(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(ours(tokens).logits, expected, atol=1e-4, rtol=0)


def test_half_precision_checkpoint_keeps_the_recurrence_in_float32(family: str) -> None:
    config, model = original_model(family)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    for dtype in (torch.float32, torch.bfloat16):
        again = mambasdk.import_checkpoint(family, config, tensors, dtype=dtype)
        mixer = again.backbone.layers[0].mixer
        assert mixer.A_log.dtype == mixer.D.dtype == torch.float32
        assert mixer.in_proj.weight.dtype == dtype
        assert again(torch.zeros(1, 3, dtype=torch.int64)).logits.dtype == dtype


def test_pickle_with_code_is_refused(family: str, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "pwned"), "w"))

    config, _ = original_model(family)
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({"backbone.embedding.weight": Payload()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        mambasdk.import_checkpoint(family, tmp_path)
    assert not (tmp_path / "pwned").exists()


def huggingface_checkpoint(family: str, rows: int, **changes: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A configuration and tensors of the Hugging Face format, with an embedding of so many rows."""
    _, model = original_model(family, vocab_size=rows, pad_vocab_size_multiple=1)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    tensors["backbone.embeddings.weight"] = tensors.pop("backbone.embedding.weight")
    config = {"model_type": family, "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": rows}
    if family == "mamba2":
        config |= {"head_dim": 8, "num_heads": 8, "state_size": 16, "n_groups": 2}
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}, tensors


@pytest.mark.parametrize(
    ("rows", "changes", "vocab"),
    [
        (50280, {}, 50280),
        (50288, {}, 50288),
        (50280, {"pad_vocab_size_multiple": 8}, 50280),
        (64, {"vocab_size": 61, "pad_vocab_size_multiple": 8}, 61),
        (61, {"vocab_size": 61, "pad_vocab_size_multiple": 8}, 61),
        (61, {}, 61),
    ],
)
def test_vocabulary_is_the_configurations_own(family: str, rows: int, changes: dict[str, Any], vocab: int) -> None:
    config, tensors = huggingface_checkpoint(family, rows, **changes)
    model: Any = mambasdk.import_checkpoint(family, config, tensors)
    assert model.vocab_size == vocab
    assert model.padded_vocab_size == rows
    outputs = model.native_outputs({"tokens": torch.zeros(1, 2, dtype=torch.int32)})
    assert outputs["last_logits"].shape == (1, vocab)


@pytest.mark.parametrize(("rows", "vocab"), [(64, 61), (61, 64), (50288, 50280)])
def test_rows_that_are_not_the_vocabulary_are_refused(family: str, rows: int, vocab: int) -> None:
    config, tensors = huggingface_checkpoint(family, rows, vocab_size=vocab)
    with pytest.raises(CheckpointError, match=rf"vocab_size is {vocab}.*has {rows} rows.*expected {vocab} rows"):
        mambasdk.import_checkpoint(family, config, tensors)
    config, model = original_model(family, vocab_size=61)
    with pytest.raises(CheckpointError, match=r"vocab_size is 48, but backbone\.embedding\.weight has 64 rows"):
        mambasdk.import_checkpoint(family, {**config, "vocab_size": 48}, model.state_dict())


def test_original_configuration_without_a_multiple_is_padded_to_8(family: str) -> None:
    config, model = original_model(family, pad_vocab_size_multiple=8)
    del config["pad_vocab_size_multiple"]
    again: Any = mambasdk.import_checkpoint(family, config, model.state_dict())
    assert (again.vocab_size, again.padded_vocab_size) == (61, 64)


REQUIRED = [("huggingface", key) for key in ("hidden_size", "num_hidden_layers", "vocab_size")] + [
    ("original", key) for key in ("d_model", "n_layer", "vocab_size")
]


@pytest.mark.parametrize(("layout", "key"), REQUIRED)
@pytest.mark.parametrize("value", [..., None, "32", 0, -1, True, 32.5, [32]])
def test_missing_and_bad_sizes_are_named_with_file_and_key(
    family: str, layout: str, key: str, value: Any, tmp_path: Path
) -> None:
    if layout == "huggingface":
        config, tensors = huggingface_checkpoint(family, 61)
    else:
        config, model = original_model(family)
        tensors = dict(model.state_dict())
    config[key] = value
    config = {name: entry for name, entry in config.items() if entry is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = rf"config\.json: {'no' if value in (..., None) else 'bad'} {key}"
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint(family, tmp_path / "config.json", tensors)


@pytest.mark.parametrize("key", ["tie_embeddings", "tie_word_embeddings"])
def test_head_is_tied_by_the_configuration_or_by_what_is_there(family: str, key: str) -> None:
    if key == "tie_embeddings":
        config, model = original_model(family, tie_embeddings=False)
        del config["tie_embeddings"]
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        embedding = "backbone.embedding.weight"
    else:
        config, tensors = huggingface_checkpoint(family, 61)
        embedding = "backbone.embeddings.weight"
        tensors["lm_head.weight"] = torch.randn(tensors[embedding].shape)

    def tied(changes: dict[str, Any], tensors: dict[str, torch.Tensor]) -> bool:
        model: Any = mambasdk.import_checkpoint(family, {**config, **changes}, tensors)
        return model.lm_head.weight is model.backbone.embedding.weight

    same = {**tensors, "lm_head.weight": tensors[embedding].clone()}
    without = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    assert not tied({}, tensors)
    assert not tied({key: False}, same)
    assert tied({}, same)
    assert tied({key: True}, same)
    assert tied({}, without)
    assert tied({key: True}, without)
    with pytest.raises(CheckpointError, match=rf"{key} is false, but the checkpoint has no lm_head\.weight"):
        tied({key: False}, without)
    with pytest.raises(CheckpointError, match=rf"{key} is true, but lm_head\.weight and .* differ"):
        tied({key: True}, tensors)
    with pytest.raises(CheckpointError, match=f"bad {key}"):
        tied({key: "yes"}, tensors)


def test_groups_of_a_configuration_without_them_are_those_of_transformers() -> None:
    _, model = original_model(
        "mamba2", vocab_size=61, ssm_cfg={"layer": "Mamba2", "headdim": 8, "ngroups": 8, "d_state": 128}
    )
    config, _ = huggingface_checkpoint("mamba2", 61, n_groups=..., state_size=...)
    tensors = dict(model.state_dict())
    again: Any = mambasdk.import_checkpoint("mamba2", {**config, "pad_vocab_size_multiple": 16}, tensors)
    assert again.backbone.layers[0].mixer.ngroups == 8


def test_variant_keeps_its_name_only_with_its_shape() -> None:
    config, model = original_model("mamba")
    assert identity(mambasdk.import_checkpoint("mamba-130m", config, model.state_dict())).variant is None
    assert identity(mambasdk.create_model("mamba-130m", device="meta")).variant == "mamba-130m"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_layer_idx": [1]}, "attn_layer_idx"),
        ({"ssm_cfg": {"layer": "Mamba3"}}, "the layers are Mamba3"),
        ({"ssm_cfg": {"surprise": 1}}, "surprise"),
        ({"n_layer": 3}, "missing"),
        ({"n_layer": 1}, "unexpected"),
        ({"d_model": 48}, "wrong shape"),
    ],
)
def test_what_does_not_fit_is_named(family: str, changes: dict[str, Any], message: str) -> None:
    config, model = original_model(family)
    ssm = {**config["ssm_cfg"], **changes.get("ssm_cfg", {})}
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint(family, {**config, **changes, "ssm_cfg": ssm}, model.state_dict())


def test_the_other_family_is_named_in_the_way_out() -> None:
    config, model = original_model("mamba2")
    with pytest.raises(CheckpointError, match="import it as family mamba2"):
        mambasdk.import_checkpoint("mamba", config, model.state_dict())
