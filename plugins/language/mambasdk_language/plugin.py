"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_language.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Next-token prediction."""
    return [
        HeadSpec(
            name="causal_lm",
            summary="next-token prediction on text: training and generation",
            implementation="mambasdk_language.heads.causal_lm:CausalLMHead",
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
            factory="mambasdk_language.processors:bytes_processor",
        ),
        ProcessorSpec(
            slot="text",
            kind="tokenizer",
            summary="byte-level BPE from tokenizer.json",
            factory="mambasdk_language.processors:tokenizer_processor",
        ),
    ]
