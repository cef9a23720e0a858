"""What a person may ask about a run: a step, a pass, a member of one, or a part of the flow. Found by its path.

`upsert_lead`, `upsert_lead.with.lead.phone`, `each_line[3]/post.body.id`, `each_line[3]`, `outputs.lead`,
`business_key`, `trigger.event.id`, `parameters.x`, `variables.x`; with or without `steps.` before a step, as in
expressions. Containers that aren't loops may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine import model as m
from engine.errors import ConfigError, did_you_mean
from engine.loader.document import Path
from engine.loader.fit import at
from engine.types import JSON, type_name
from engine.views.recorded import Recorded
from engine.views.standpoint import Level, Told, parts

FLOW = ("outputs", "business_key", "trigger", "parameters", "variables")
RESULT = ("body", "status", "error", "outputs")
STEPS = re.compile(r"[a-z][a-z0-9_]*(?:\[\d+\])?(?:/[a-z][a-z0-9_]*(?:\[\d+\])?)*")
MEMBER = re.compile(r"""\.([^.\[\]'"/]+)|\[(-?\d+)\]|\[(?:'([^']*)'|"([^"]*)")\]""")


@dataclass(frozen=True)
class Target:
    """`path` is that of a step's execution, or of a pass if `index` says which; empty for a part of the flow."""

    level: Level
    path: str
    members: tuple[str | int, ...]
    index: int | None = None


def target(recorded: Recorded, text: str) -> Target:
    """What a path means. Raises ConfigError with the nearest known name."""
    root = recorded.root
    first = (re.match(r"\w+", text) or [""])[0]
    if first == "steps" and first not in root.homes:
        text = text.partition(".")[2]
    elif first in FLOW and first not in root.homes:
        return Target(root, "", (first, *_members(text, len(first))))
    found = STEPS.match(text)
    if found is None:
        raise unknown(text, "no path of a step", {*root.homes, *FLOW})
    members = _members(text, found.end())
    given = parts(found[0])
    level, path = _path(recorded, given)
    index = given[-1][1]
    if index is not None and members:
        raise unknown(text, f"a pass has no '{members[0]}'", {f"{path}.body[{index}]"})
    return Target(level, path, members, index)


def unknown(text: str, why: str, known: set[str]) -> ConfigError:
    """The error for a path that leads nowhere."""
    name = re.split(r"[/.\[]", text)[-1] if text else ""
    hint = did_you_mean(name, known) if name not in known else f"did you mean '{name}'?"
    return ConfigError(f"{text or 'the path'}: {why}", code="UnknownPath", hint=hint)


def _members(text: str, start: int) -> tuple[str | int, ...]:
    out: list[str | int] = []
    while start < len(text):
        found = MEMBER.match(text, start)
        if found is None:
            hint = "write step.body.name, step.body[0], step.body['odd name'] or loop[0]/step"
            raise ConfigError(f"'{text}' can't be read from '{text[start:]}' on", code="UnknownPath", hint=hint)
        name = next(group for group in found.groups() if group is not None)
        out.append(int(name) if found[2] else name)
        start = found.end()
    return tuple(out)


def _path(recorded: Recorded, given: Sequence[tuple[str, int | None]]) -> tuple[Level, str]:
    """The flow that a step is in, and its whole path, its last part without a pass."""
    level, own = recorded.root, list[tuple[str, int | None]]()
    for number, (name, index) in enumerate(given):
        if name not in level.homes:
            raise unknown(name, "no such step", {*level.homes, *(FLOW if level is recorded.root else ())})
        own.append((name, index))
        if isinstance(level.step(name), m.Run) and number + 1 < len(given):
            level, own = recorded.level(f"{_whole(recorded, level, own)}/x"), []
    return level, _whole(recorded, level, own)


def _whole(recorded: Recorded, level: Level, given: Sequence[tuple[str, int | None]]) -> str:
    name = given[-1][0]
    _, around = level.homes[name]
    passes = dict(given)
    if strange := [one for one, _ in given[:-1] if one not in around]:
        raise unknown(f"{strange[0]}/{name}", f"{name} is not in {strange[0]}", {"/".join([*around, name])})
    path = level.prefix
    for one, index in given[:-1]:
        if index is not None and not isinstance(level.step(one), m.LOOPS):
            raise ConfigError(f"{one}[{index}]: {one} is no loop", code="UnknownPath", hint=f"leave the [{index}] out")
    for one in around:
        path += one
        if isinstance(level.step(one), m.LOOPS):
            path += f"[{_pass(recorded, level, path, passes.get(one), name)}]"
        path += "/"
    if passes[name] is not None:
        _pass(recorded, level, path + name, passes[name], "")
    return path + name


def _pass(recorded: Recorded, level: Level, loop: str, index: int | None, name: str) -> int:
    """Which pass of a loop is meant; it has to be one that there was."""
    if not isinstance(level.step(parts(loop)[-1][0]), m.LOOPS):
        raise ConfigError(
            f"{loop}[{index}]: {loop} is no loop", code="UnknownPath", hint=f"ask for {loop}.body[{index}]"
        )
    made = recorded.passes(loop)
    if index is not None and 0 <= index < made:
        return index
    inside = f"/{name}" if name else ""
    known = f"{loop}[0]{inside}" + (f" to {loop}[{made - 1}]{inside}" if made > 1 else "")
    why = f"{name} is in a loop: say in which pass" if index is None else f"{loop} has no pass {index}"
    raise ConfigError(why, code="UnknownPath", hint=f"ask for {known}" if made else f"{loop} made no pass")


def spelled(value: JSON, members: Path, what: str) -> tuple[Path, Path]:
    """Members as the keys of a value, as far as it has some, and the rest. `a.b` finds the key `a.b` too.

    Raises ConfigError for one that an object or list hasn't.
    """
    out: list[str | int] = []
    rest = list(members)
    while rest and isinstance(value, dict | list):
        key, length = _key(value, rest)
        if not length:
            hint = did_you_mean(str(rest[0]), set(value)) if isinstance(value, dict) else f"it has {len(value)} items"
            raise ConfigError(f"{dotted(what, out)} has no '{rest[0]}'", code="UnknownPath", hint=hint)
        out.append(key)
        value, rest = at(value, [key]), rest[length:]
    return tuple(out), tuple(rest)


def _key(value: JSON, members: list[str | int]) -> tuple[str | int, int]:
    """The key that the first members spell, and how many these are: 0 where there is none."""
    if isinstance(value, dict):
        spellings = [".".join(map(str, members[:n])) for n in range(1, len(members) + 1)]
        return next(((key, n) for n, key in enumerate(spellings, 1) if key in value), ("", 0))
    first = members[0]
    return first, int(isinstance(first, int) and -len(value) <= first < len(value))


def dotted_member(member: str | int) -> str:
    """`.name`, `[0]` or `['odd name']`."""
    if isinstance(member, int):
        return f"[{member}]"
    return f".{member}" if re.fullmatch(r"\w+", member) else f"['{member}']"


def dotted(root: str, members: Sequence[str | int]) -> str:
    return "".join([root, *map(dotted_member, members)])


def spelled_of(told: Told, members: Path, what: str) -> Path:
    """Members as the keys of a recorded value; of one that is secure or not known whatever is asked for."""
    if told.secure or told.unknown:
        return members
    keys, rest = spelled(told.value, members, what)
    if rest:
        raise ConfigError(f"{dotted(what, keys)} has no '{rest[0]}': it is {type_name(at(told.value, keys))}",
                          code="UnknownPath")  # fmt: skip
    return keys
