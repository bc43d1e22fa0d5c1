"""Plugins: what they register (specs), how (hookspecs), and who finds and checks them (host). Imports no torch."""

from mambasdk.plugins.hookspecs import ENTRY_POINT_GROUP, hookimpl, hookspec
from mambasdk.plugins.host import PluginHost, get_host, reset_host
from mambasdk.plugins.interfaces import Command, DrawingHead, GeneratingHead, Head, TrainingHead
from mambasdk.plugins.record import PluginRecord
from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, resolve

__all__ = [
    "ENTRY_POINT_GROUP",
    "Command",
    "CommandSpec",
    "DrawingHead",
    "FamilySpec",
    "GeneratingHead",
    "Head",
    "HeadSpec",
    "PluginHost",
    "PluginRecord",
    "ProcessorSpec",
    "TrainingHead",
    "get_host",
    "hookimpl",
    "hookspec",
    "reset_host",
    "resolve",
]
