"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_language.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Next-token prediction; masked tokens, classes and numbers of texts."""
    return [
        HeadSpec(
            name="causal_lm",
            summary="next-token prediction on text: training and generation",
            implementation="mambasdk_language.heads.causal_lm:CausalLMHead",
        ),
        *(
            HeadSpec(name=name, summary=summary, implementation="mambasdk_language.heads.text_encoder:TextEncoderHead")
            for name, summary in (
                ("fill_mask", "masked tokens of texts: training, and what belongs in their places"),
                ("text_classification", "classes of texts: training from labelled rows, ranked labels"),
                ("text_regression", "numbers of texts: training from rows with a number"),
            )
        ),
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
