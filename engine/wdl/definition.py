"""A definition's actions as a tree: which are in which, and which run after which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.types import JSON
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, Template, WdlError, parse

STATUSES = {"succeeded": "succeeded", "failed": "failed", "skipped": "skipped", "timedout": "timed_out"}
LOOPS = frozenset({"foreach", "until"})


@dataclass(eq=False)
class Action:
    """One action. `own` is its step's name; `blocks` are the lists of actions in it, by branch."""

    name: str
    raw: Mapping[str, JSON]
    parent: Action | None = None
    branch: str = ""
    own: str = ""
    blocks: dict[str, list[Action]] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return str(self.raw.get("type", "")).lower()

    @property
    def inputs(self) -> JSON:
        return self.raw.get("inputs")

    @property
    def after(self) -> dict[str, list[str]]:
        """Action → the statuses of it that this one waits for, as flowrun calls them; others by their own names."""
        given = self.raw.get("runAfter")
        out = {}
        for name, statuses in given.items() if isinstance(given, dict) else ():
            listed = statuses if isinstance(statuses, list) else [statuses]
            out[name] = [STATUSES.get(str(s).lower(), str(s)) for s in listed]
        return out

    @property
    def around(self) -> Iterator[Action]:
        """The actions that it is in, innermost first."""
        holder = self.parent
        while holder is not None:
            yield holder
            holder = holder.parent

    @property
    def loops(self) -> list[Action]:
        """The loops that it is in, innermost first."""
        return [holder for holder in self.around if holder.type in LOOPS]

    def walk(self) -> Iterator[Action]:
        yield self
        for block in self.blocks.values():
            for action in block:
                yield from action.walk()


def tree(actions: JSON, parent: Action | None = None, branch: str = "") -> list[Action]:
    """The actions of a list, with those in them."""
    found = []
    for name, raw in actions.items() if isinstance(actions, dict) else ():
        action = Action(name, raw if isinstance(raw, dict) else {}, parent, branch)
        for inner, held in _blocks(action):
            action.blocks[inner] = tree(held, action, inner)
        found.append(action)
    return found


def _blocks(action: Action) -> Iterator[tuple[str, JSON]]:
    raw = action.raw
    if action.type in ("if", "foreach", "until", "scope"):
        yield "actions", raw.get("actions")
    if action.type == "if":
        yield "else", _held(raw.get("else"))
    if action.type == "switch":
        cases = raw.get("cases")
        for name, case in cases.items() if isinstance(cases, dict) else ():
            yield f"case {name}", _held(case)
        yield "default", _held(raw.get("default"))


def _held(holder: JSON) -> JSON:
    return holder.get("actions") if isinstance(holder, dict) else None


# The expressions in a value


def texts(value: JSON) -> Iterator[str]:
    """Every text in a value that may hold an expression, keys too."""
    if isinstance(value, str):
        if "@" in value:
            yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            if "@{" in key:
                yield key
            yield from texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def calls(value: JSON) -> Iterator[Call]:
    """Every call in every expression of a value, outer before inner; what can't be parsed is passed over."""
    for text in texts(value):
        try:
            found = parse(text)
        except WdlError:
            continue
        yield from calls_in(found)


def calls_in(found: Template) -> Iterator[Call]:
    if isinstance(found, Interpolation):
        for part in found.parts:
            if not isinstance(part, str):
                yield from calls_in(part)
    elif isinstance(found, Call):
        yield found
        for inner in (*found.arguments, *(m.key for m in found.members)):
            yield from calls_in(inner)


def named_by(call: Call) -> str | None:
    """The name in a call such as variables('x'), None where it isn't written there."""
    argument = call.arguments[0] if len(call.arguments) == 1 else None
    return argument.value if isinstance(argument, Literal) and isinstance(argument.value, str) else None


def key_of(tree: Expression) -> JSON:
    """A member's key if it is written there, else None."""
    return tree.value if isinstance(tree, Literal) else None
