"""Names: what an action, a variable or a parameter of a definition is called in a flow, and where its values are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal as Choice
from typing import TypeAlias

from engine.errors import did_you_mean
from engine.wdl.syntax import Call, Literal, Member, WdlError

# What an expression refers to. `outputs` and `body` are parts of an action's record, `trigger_…` of the trigger's.
Kind: TypeAlias = Choice[
    "action", "outputs", "body", "trigger", "trigger_outputs", "trigger_body", "variable", "parameter", "item",
    "items", "result", "index", "workflow", "current", "setting",
]  # fmt: skip
WORDS: Mapping[Kind, str] = {
    **dict.fromkeys(("action", "outputs", "body", "result"), "action"),
    **{"variable": "variable", "parameter": "parameter", "items": "loop", "index": "loop", "setting": "app setting"},
}
ENVELOPE = frozenset({"body", "headers", "statusCode", "queries", "relativePathParameters", "outputs", "status"})


def snake(name: str, prefix: str = "x") -> str:
    """A name for a flow: `Get_referral (V2)` → get_referral_v2, `CustomerName` → customer_name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().replace("'", "")
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    out = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")
    return out if out[:1].isalpha() else f"{prefix}_{out}".rstrip("_")


def named(names: Iterable[str], prefix: str = "x", taken: Iterable[str] = ()) -> dict[str, str]:
    """Each name's own name for a flow, no two the same."""
    out: dict[str, str] = {}
    used = set(taken)
    for name in names:
        wanted = snake(name, prefix)
        free = next(n for i in range(1, len(used) + 3) if (n := wanted if i == 1 else f"{wanted}_{i}") not in used)
        out[name] = free
        used.add(free)
    return out


@dataclass(frozen=True)
class Place:
    """Where a value is: a path such as `steps.x.body`, and the members that are still to be read from it.

    `kind` is what it surely holds (text, number, boolean, list, object), if that is known.
    """

    path: str
    rest: tuple[Member, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Names:
    """The names where no document is known but only values, as `flowrun expr` gets them; `None`: any name will do."""

    actions: Mapping[str, str] | None = None
    variables: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None
    loops: Mapping[str, str] | None = None
    indexes: Mapping[str, str] | None = None
    results: Mapping[str, str] | None = None
    settings: Mapping[str, str] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def slash(self) -> Choice["either", "path", "key"]:
        """What ['a/b'] is: a path, as Power Automate writes it, a key, as in Logic Apps, or whichever there is."""
        return "either"

    def known(self, kind: Kind) -> Mapping[str, str] | None:
        """The names of a kind: as the definition has them → as the flow has them."""
        return {
            "variable": self.variables,
            "parameter": self.parameters,
            "items": self.loops,
            "index": self.indexes,
            "result": self.results,
            "setting": self.settings,
        }.get(kind, self.actions)

    def find(self, kind: Kind, name: str, offset: int = 0) -> str:
        """The name in the flow; upper and lower case don't count if nothing else is meant. Raises WdlError."""
        known = self.known(kind)
        if known is None:
            return snake(name)
        if name in known:
            return known[name]
        alike = [own for other, own in known.items() if other.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        hint = did_you_mean(name, set(known))
        raise WdlError(f"there is no {WORDS[kind]} '{name}'", offset=offset, code="UnknownName", hint=hint)

    def adjusted(self, tree: Call) -> Call:
        """A call as it is to be printed, where its words are others here."""
        return tree

    def place(self, kind: Kind, name: str, members: tuple[Member, ...], offset: int = 0) -> Place:
        """Where something is that an expression refers to. Raises WdlError."""
        own = self.find(kind, name, offset) if kind in WORDS else ""
        paths: Mapping[Kind, str] = {
            "action": f"steps.{own}",
            "outputs": f"steps.{own}.outputs",
            "body": f"steps.{own}.body",
            "trigger": "trigger",
            "trigger_outputs": "trigger.outputs",
            "trigger_body": "trigger.inputs",
            "variable": f"variables.{own}",
            "parameter": f"parameters.{own}",
            "item": "item",
            "items": f"items.{own}",
            "result": f"results.{own}",
            "index": f"iterationIndexes.{own}",
            "workflow": "workflow",
            "current": "action",
            "setting": f"appsettings.{own}",
        }
        return Place(paths[kind], members, self.kinds.get(name, "") if kind == "variable" else "")


def canonical(kind: Kind, members: tuple[Member, ...]) -> tuple[Kind, tuple[Member, ...]]:
    """`actions('X').outputs.body` is `body('X')`: the reference with what it reads of a record folded into it."""
    inner: dict[tuple[Kind, str], Kind] = {
        ("action", "outputs"): "outputs",
        ("outputs", "body"): "body",
        ("trigger", "outputs"): "trigger_outputs",
        ("trigger_outputs", "body"): "trigger_body",
    }
    while members:
        first = members[0].key
        if not (isinstance(first, Literal) and isinstance(first.value, str)):
            break
        parts = first.value.split("/")
        if len(parts) > 1 and kind in ("action", "outputs", "trigger", "trigger_outputs") and parts[0] in ENVELOPE:
            members = (*split(members[0], parts), *members[1:])
        elif (kind, first.value) in inner:
            kind, members = inner[kind, first.value], members[1:]
        else:
            break
    return kind, members


def split(member: Member, parts: list[str]) -> tuple[Member, ...]:
    """Power Automate's path: ['body/value'] is ['body']['value']."""
    at = member.key.offset
    return tuple(Member(Literal(part, at), member.safe, member.offset) for part in parts)
