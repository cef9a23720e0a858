"""From where an expression looks at a run: the flow, the step or pass, the moment; what is known of a value there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from engine import model as m
from engine.effects import SECURED, Program
from engine.loader.document import Document, Path
from engine.types import JSON

PART = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?:\[(?P<index>\d+)\])?")
LAST = 1 << 62  # after every record


@dataclass(frozen=True)
class Told:
    """What is known of a value: the value, or that it is secure, or why it isn't known."""

    value: JSON = None
    secure: bool = False
    unknown: str = ""

    def at(self, *members: str | int) -> Told:
        """Of a member, as an expression reads it: null where there is none."""
        if self.secure or self.unknown:
            return self
        value = self.value
        for member in members:
            value = member_of(value, member)
        return Told(value)


SECURE = Told(SECURED, secure=True)


def member_of(value: JSON, member: str | int) -> JSON:
    if isinstance(value, dict):
        return value.get(member)
    if isinstance(value, list | str) and isinstance(member, int) and -len(value) <= member < len(value):
        return value[member]
    return None


@dataclass(frozen=True, eq=False)
class Level:
    """A flow under way in the run: its own, or one that a `run` step runs. Its steps' paths begin with `prefix`."""

    program: Program
    document: Document
    prefix: str
    trigger: Told
    parameters: Mapping[str, Told]

    @cached_property
    def homes(self) -> Mapping[str, tuple[Path, tuple[str, ...]]]:
        """Step → its path in the document, and the names of the containers around it, outer first."""
        out: dict[str, tuple[Path, tuple[str, ...]]] = {}
        pending: list[tuple[Path, tuple[str, ...], Mapping[str, m.Step]]] = [(("steps",), (), self.program.flow.steps)]
        while pending:
            path, around, block = pending.pop()
            for name, step in block.items():
                out[name] = ((*path, name), around)
                pending += [((*path, name, *keys), (*around, name), inner) for keys, inner in step.blocks()]
        return out

    def step(self, name: str) -> m.Step:
        return self.program.flow.all_steps[name]


@dataclass(frozen=True, eq=False)
class Standpoint:
    """Where and when an expression was evaluated: in a flow, at a step (or pass) of it, after so many records.

    `since` is when the step began, for one that took its time: what ended later it didn't see. `names` are those of a
    select.
    """

    level: Level
    path: str
    order: int = LAST
    since: datetime | None = None
    names: Mapping[str, Told] = field(default_factory=dict)

    @cached_property
    def indexes(self) -> Mapping[str, int]:
        """Loop → pass, of the loops around it."""
        return {name: index for name, index in parts(self.path[len(self.level.prefix) :]) if index is not None}

    def path_of(self, name: str) -> str:
        """The path of the execution of a step that is seen from here."""
        _, around = self.level.homes[name]
        passes = {one: f"[{self.indexes[one]}]" if one in self.indexes else "" for one in around}
        return self.level.prefix + "".join(f"{one}{passes[one]}/" for one in around) + name


def parts(path: str) -> list[tuple[str, int | None]]:
    """Names and passes in a path: `each[3]/post` is each, 3 and post."""
    found = [PART.fullmatch(part) for part in path.split("/") if part]
    return [(f["name"], int(f["index"]) if f["index"] else None) for f in found if f]
