"""A value or a reason with what it rests on, as a tree of text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.effects import SECURED
from engine.loader.findings import Place
from engine.types import JSON
from engine.views.outcome import MARKS
from engine.views.standpoint import Told

MOST = 72  # characters of a value
MOST_WORDS = 200


@dataclass(frozen=True)
class Origin:
    """`what` is a value (`told` says which), a step or a try (with its `status`), or another reason.

    `how` says in words how it came about, `expression` as it is written at `place`; `sources` are what it rests on.
    """

    what: str
    told: Told | None = None
    status: str = ""
    how: str = ""
    expression: str = ""
    place: Place | None = None
    sources: tuple[Origin, ...] = ()

    def json(self) -> dict[str, Any]:
        """Values whole, secure ones as the marker."""
        out: dict[str, Any] = {"what": self.what}
        if self.told is not None and self.told.secure:
            out |= {"value": SECURED, "secure": True}
        elif self.told is not None:
            out |= {"unknown": self.told.unknown} if self.told.unknown else {"value": self.told.value}
        given = {
            "status": self.status,
            "how": self.how,
            "expression": self.expression,
            "place": str(self.place) if self.place else "",
        }
        out |= {key: text for key, text in given.items() if text}
        return out | ({"from": [source.json() for source in self.sources]} if self.sources else {})


def tree(origin: Origin, *, strong: Callable[[str], str] = str, faint: Callable[[str], str] = str) -> str:
    """Lines of text: each origin, below it how it came about, below that its sources. `strong`, `faint` colour."""
    return "\n".join(_lines(origin, "", "", strong, faint)) + "\n"


def _lines(
    origin: Origin, first: str, rest: str, strong: Callable[[str], str], faint: Callable[[str], str]
) -> Iterator[str]:
    value = f" = {shown(origin.told)}" if origin.told is not None else ""
    status = f": {MARKS.get(origin.status, '·')} {origin.status.replace('_', ' ')}" if origin.status else ""
    yield f"{first}{strong(origin.what)}{value}{status}"
    below = rest + ("│ " if origin.sources else "  ")
    if origin.expression:
        where = f"  {faint(str(origin.place))}" if origin.place else ""
        yield f"{below}{_cut(origin.expression, MOST_WORDS)}{where}"
    if origin.how:
        where = f"  {faint(str(origin.place))}" if origin.place and not origin.expression else ""
        yield f"{below}{_cut(origin.how, MOST_WORDS)}{where}"
    for number, source in enumerate(origin.sources, 1):
        last = number == len(origin.sources)
        yield from _lines(
            source, f"{rest}{'└─' if last else '├─'} ", f"{rest}{'   ' if last else '│  '}", strong, faint
        )


def shown(told: Told) -> str:
    """A value in a line: JSON, cut to what can be read."""
    if told.secure:
        return SECURED
    return f"? ({told.unknown})" if told.unknown else short(told.value)


def short(value: JSON) -> str:
    """JSON cut to a line; of a long list or object how much there is."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= MOST:
        return text
    if isinstance(value, dict | list):
        return f"{text[: MOST - 1]}… ({len(value)} {'members' if isinstance(value, dict) else 'items'})"
    return f"{text[: MOST - 1]}…"


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
