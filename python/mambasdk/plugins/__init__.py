"""Plugins: what they register (specs), how (hookspecs), and who finds and checks them (host). Imports no torch."""

from mambasdk.plugins.families import collect_families
from mambasdk.plugins.hookspecs import ENTRY_POINT_GROUP, hookimpl, hookspec
from mambasdk.plugins.host import PluginHost, get_host, reset_host
from mambasdk.plugins.interfaces import (
    Command,
    DrawingHead,
    EvaluatingHead,
    GeneratingHead,
    Head,
    ModelHead,
    PipelineHead,
    PredictingHead,
    TrainingHead,
)
from mambasdk.plugins.record import PluginRecord
from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, resolve

__all__ = [
    "ENTRY_POINT_GROUP",
    "Command",
    "CommandSpec",
    "DrawingHead",
    "EvaluatingHead",
    "FamilySpec",
    "GeneratingHead",
    "Head",
    "HeadSpec",
    "ModelHead",
    "PipelineHead",
    "PluginHost",
    "PluginRecord",
    "PredictingHead",
    "ProcessorSpec",
    "TrainingHead",
    "collect_families",
    "get_host",
    "hookimpl",
    "hookspec",
    "reset_host",
    "resolve",
]
