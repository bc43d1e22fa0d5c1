"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, hookimpl

# Shapes of the published checkpoints (spec mamba.md and mamba2.md, section 8). 50277 is the GPT-NeoX-20B vocabulary.
_MAMBA_SHAPES = {"130m": (768, 24), "370m": (1024, 48), "790m": (1536, 48), "1.4b": (2048, 48), "2.8b": (2560, 64)}
_MAMBA2_SHAPES = {"130m": (768, 24), "370m": (1024, 48), "780m": (1536, 48), "1.3b": (2048, 48), "2.7b": (2560, 64)}

_MAMBA = {
    f"mamba-{name}": {"d_model": d_model, "n_layer": n_layer, "vocab_size": 50277, "pad_vocab_size_multiple": 8}
    for name, (d_model, n_layer) in _MAMBA_SHAPES.items()
}
_MAMBA["mamba-2.8b-slimpj"] = dict(_MAMBA["mamba-2.8b"])
_MAMBA2 = {
    f"mamba2-{name}": {"d_model": d_model, "n_layer": n_layer, "vocab_size": 50277, "pad_vocab_size_multiple": 16}
    for name, (d_model, n_layer) in _MAMBA2_SHAPES.items()
}

_BYTES = {"text": {"kind": "bytes"}}


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Mamba and mamba2."""
    return [
        FamilySpec(
            name="mamba",
            summary="Mamba language model, selective state spaces (arXiv 2312.00752)",
            config="mambasdk_language.families.mamba:MambaConfig",
            factory="mambasdk_language.families.mamba:build",
            importer="mambasdk_language.families.mamba:import_mamba",
            variants=_MAMBA,
            head="causal_lm",
            processors=_BYTES,
            # The repositories with "-hf" hold the tokenizer too.
            hub={
                **{name: f"state-spaces/{name}-hf" for name in _MAMBA if name != "mamba-2.8b-slimpj"},
                "mamba-2.8b-slimpj": "state-spaces/mamba-2.8b-slimpj",
            },
            tiny={"d_model": 16, "n_layer": 2, "vocab_size": 256, "d_state": 4},
        ),
        FamilySpec(
            name="mamba2",
            summary="Mamba-2 language model, state space duality (arXiv 2405.21060)",
            config="mambasdk_language.families.mamba2:Mamba2Config",
            factory="mambasdk_language.families.mamba2:build",
            importer="mambasdk_language.families.mamba2:import_mamba2",
            variants=_MAMBA2,
            head="causal_lm",
            processors=_BYTES,
            hub={name: f"state-spaces/{name}" for name in _MAMBA2},
            tiny={"d_model": 16, "n_layer": 2, "vocab_size": 256, "d_state": 8, "headdim": 8},
        ),
    ]


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Next-token prediction."""
    return [
        HeadSpec(
            name="causal_lm",
            summary="next-token prediction on text: training and generation",
            implementation="mambasdk_language.head:CausalLMHead",
        )
    ]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """Text as raw bytes, and through a tokenizer.json."""
    return [
        ProcessorSpec(
            slot="text",
            kind="bytes",
            summary="one token per byte of UTF-8",
            factory="mambasdk_language.text:bytes_processor",
        ),
        ProcessorSpec(
            slot="text",
            kind="tokenizer",
            summary="byte-level BPE from tokenizer.json",
            factory="mambasdk_language.text:tokenizer_processor",
        ),
    ]
