"""What came of an import, as the report tells it: connections, actions, defects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["converted", "changed", "by hand"]


@dataclass
class Bound:
    """A connection of the flow: its alias, the entry it stands for, and what has to be set up for it.

    `known`: it stands for a connector that ships, or somebody said for what it stands.
    """

    key: str
    api: str
    alias: str
    entry: str
    known: bool
    settings: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    def set(self, text: str) -> None:
        """Notes a setting that it needs."""
        if text not in self.settings:
            self.settings.append(text)

    def reach(self, host: str) -> None:
        """Notes a host that it has to reach."""
        if host and host not in self.hosts:
            self.hosts.append(host)


@dataclass(frozen=True)
class Entry:
    """What became of one action or trigger: its step, and what to know about it."""

    what: Literal["action", "trigger"]
    name: str
    own: str
    status: Status
    form: str  # what it is now, such as dynamics365.get
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Defect:
    """A defect of the package, by its name: `mended` says what is other now, nothing if it was kept."""

    code: str
    problem: str
    action: str
    mended: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.problem}{f' → {self.mended}' if self.mended else ' (kept)'}"
