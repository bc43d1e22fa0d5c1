"""What the host knows of a plugin: what it registered, and what became of it. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec

ALLOW_LIST_VARIABLE = "MAMBASDK_PLUGINS"
SLOW_SECONDS = 0.5


@dataclass
class Registrations:
    """What one plugin, or all good plugins together, registered; keys are names."""

    families: dict[str, FamilySpec] = field(default_factory=dict)
    heads: dict[str, HeadSpec] = field(default_factory=dict)
    processors: dict[str, ProcessorSpec] = field(default_factory=dict)
    commands: dict[str, CommandSpec] = field(default_factory=dict)
    libraries: list[Path] = field(default_factory=list)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Kind of registration -> its table."""
        return {
            "family": self.families,
            "head": self.heads,
            "processor": self.processors,
            "command": self.commands,
        }

    def models(self) -> list[str]:
        """What `create_model` takes: every family and every variant, a family's own name once."""
        return [
            name
            for family in self.families.values()
            for name in (family.name, *(variant for variant in family.variants if variant != family.name))
        ]


@dataclass
class LibraryRecord:
    """A native library; description: what it brought, None until it is loaded."""

    path: Path
    description: dict[str, Any] | None = None


@dataclass
class PluginRecord:
    """What became of one entry point."""

    name: str
    value: str
    distribution: str
    version: str
    official: bool = False  # one of mambasdk's own, see official.py
    status: Literal["good", "quarantined", "disabled"] = "good"
    reason: str = ""
    advice: str = ""
    traceback: str = ""
    seconds: float = 0.0
    imported_torch: bool = False
    printed: bool = False
    registrations: Registrations = field(default_factory=Registrations)
    libraries: list[LibraryRecord] = field(default_factory=list)

    @property
    def slow(self) -> bool:
        """Whether importing the plugin took longer than SLOW_SECONDS."""
        return self.seconds > SLOW_SECONDS

    def remarks(self) -> list[tuple[str, str]]:
        """What is wrong with a plugin that can be used all the same: (what, what to do)."""
        found = []
        if self.slow:
            reason = f"takes {self.seconds:.1f} s to import, more than {SLOW_SECONDS} s"
            found.append((reason, "its author should import heavy modules lazily"))
        if self.imported_torch:
            found.append(("imports torch while it is listed", "its author should import model code lazily"))
        if self.printed:
            found.append(("writes to standard output while it is imported", "its author should use logging"))
        return found

    def take(self, registrations: Registrations) -> None:
        """Keep what the plugin registered."""
        self.registrations = registrations
        self.libraries = [LibraryRecord(path) for path in registrations.libraries]

    def quarantine(self, reason: str, advice: str, trace: str = "") -> None:
        """Take the plugin out of use."""
        self.status, self.reason, self.advice, self.traceback = "quarantined", reason, advice, trace
        self.registrations = Registrations()
