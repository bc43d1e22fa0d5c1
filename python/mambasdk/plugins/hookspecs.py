"""The hooks of a mambasdk plugin.

A plugin is a pip package with an entry point in group `mambasdk.plugins`:

    [project.entry-points."mambasdk.plugins"]
    acme = "mambasdk_acme.plugin"

The module (or object) it names holds functions marked with `hookimpl`. It must be cheap to import: no torch, no model
code; import strings in the specs name those. Every function below is optional; each returns a list.
"""

from __future__ import annotations

from pathlib import Path

import pluggy

from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec

PROJECT = "mambasdk"
ENTRY_POINT_GROUP = "mambasdk.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mambasdk_families() -> list[FamilySpec]:  # type: ignore[empty-body]
    """Model families.

    Example:
        @hookimpl
        def mambasdk_families():
            return [FamilySpec(name="acme", summary="ACME's model", config="mambasdk_acme.model:AcmeConfig",
                               factory="mambasdk_acme.model:build", variants={"acme-1b": {"d_model": 2048}})]

    """


@hookspec
def mambasdk_heads() -> list[HeadSpec]:  # type: ignore[empty-body]
    """Heads: training and use of a kind of model.

    Example:
        @hookimpl
        def mambasdk_heads():
            return [HeadSpec(name="causal_lm", summary="next-token prediction",
                             implementation="mambasdk_acme.head:CausalLMHead")]

    """


@hookspec
def mambasdk_processors() -> list[ProcessorSpec]:  # type: ignore[empty-body]
    """Processors: from text, images, … to model inputs and back.

    Example:
        @hookimpl
        def mambasdk_processors():
            return [ProcessorSpec(slot="text", kind="bytes", summary="one token per byte",
                                  factory="mambasdk_acme.text:bytes_processor")]

    """


@hookspec
def mambasdk_commands() -> list[CommandSpec]:  # type: ignore[empty-body]
    """Subcommands of `mambasdk`.

    Example:
        @hookimpl
        def mambasdk_commands():
            return [CommandSpec(name="acme-eval", summary="evaluate on ACME's tasks",
                                implementation="mambasdk_acme.evaluate:Evaluate")]

    """


@hookspec
def mambasdk_native_libraries() -> list[Path]:  # type: ignore[empty-body]
    """Absolute paths of shared libraries against the C ABI, loaded when a model of this plugin is first built.

    Example:
        @hookimpl
        def mambasdk_native_libraries():
            return [Path(__file__).parent / "libmambasdk_acme.so"]

    """
