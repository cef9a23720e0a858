"""The part of OData that the referrals API documents: $filter and $orderby over a referral. For the emulator.

Source: "Get a list of referrals"; OData 4.01 URL conventions §5.1. Whatever isn't documented raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from engine import JSON

Test: TypeAlias = Callable[[Mapping[str, JSON]], bool]
FILTERABLE = {
    "engagementId": "text",
    "status": "text",
    "substatus": "text",
    "qualification": "text",
    "type": "text",
    "direction": "text",
    "updatedDateTime": "time",
    "customerProfile/address/country": "text",
}
SORTABLE = frozenset({"createdDateTime", "updatedDateTime"})
TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<time>\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d))?)"
    r"|(?P<name>[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)|(?P<mark>[():]))"
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a is not None and a > b,
    "ge": lambda a, b: a is not None and a >= b,
    "lt": lambda a, b: a is not None and a < b,
    "le": lambda a, b: a is not None and a <= b,
}


def instant(text: str) -> tuple[datetime, str]:
    """A date-time so that all seven digits of its fraction compare. Raises ValueError."""
    at = datetime.fromisoformat(text)
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    fraction = re.search(r"\.(\d+)", text)
    return at.replace(microsecond=0), (fraction[1] if fraction else "").ljust(9, "0")


def filtered(text: str) -> Test:
    """The test that a $filter describes. Raises ValueError."""
    return _Filter(text).whole()


def ordered(text: str) -> Callable[[list[Any]], None]:
    """Sorts a list of referrals in place as $orderby says. Raises ValueError."""
    steps = []
    for part in text.split(","):
        name, _, way = part.strip().partition(" ")
        if name not in SORTABLE or way.strip() not in ("", "asc", "desc"):
            raise ValueError(f"$orderby: '{part.strip()}' isn't supported")
        steps.append((name, way.strip() == "desc"))

    def sort(referrals: list[Any]) -> None:
        for name, descending in reversed(steps):
            referrals.sort(key=lambda r, name=name: instant(r[name]), reverse=descending)  # type: ignore[misc]

    return sort


class _Filter:
    """or < and < brackets, comparison, team/any(x: …)."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at, text = 0, text.strip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"$filter: unexpected '{text[at : at + 20]}'")
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()

    def whole(self) -> Test:
        test = self.either("")
        if self.tokens:
            raise ValueError(f"$filter: unexpected '{self.tokens[0][1]}'")
        return test

    def either(self, person: str) -> Test:
        tests = [self.both(person)]
        while self.next_is("or"):
            tests.append(self.both(person))
        return lambda r: any(test(r) for test in tests)

    def both(self, person: str) -> Test:
        tests = [self.single(person)]
        while self.next_is("and"):
            tests.append(self.single(person))
        return lambda r: all(test(r) for test in tests)

    def single(self, person: str) -> Test:
        if self.next_is("("):
            test = self.either(person)
            self.expect(")")
            return test
        kind, name = self.take()
        if kind == "name" and name == "team/any" and not person:
            self.expect("(")
            variable = self.take()[1]
            self.expect(":")
            inner = self.either(variable)
            self.expect(")")
            return lambda r: any(inner(member) for member in r.get("team") or [])
        if person:
            kind = "text" if name == f"{person}/email" else ""
            path = ["email"]
        else:
            kind = FILTERABLE.get(name, "")
            path = name.split("/")
        if not kind:
            raise ValueError(f"$filter: '{name}' can't be filtered by")
        return self.comparison(kind, path)

    def comparison(self, kind: str, path: list[str]) -> Test:
        operator = self.take()[1]
        if operator not in COMPARISONS:
            raise ValueError(f"$filter: unknown operator '{operator}'")
        found, literal = self.take()
        null = (found, literal) == ("name", "null")
        if (not null and found != kind) or ((null or kind == "text") and operator not in ("eq", "ne")):
            raise ValueError(f"$filter: {'/'.join(path)} {operator} {literal} doesn't compare")
        value: Any = None
        if not null:
            value = literal[1:-1].replace("''", "'") if kind == "text" else instant(literal)
        compare = COMPARISONS[operator]

        def test(referral: Mapping[str, JSON]) -> bool:
            here: Any = referral
            for key in path:
                here = here.get(key) if isinstance(here, Mapping) else None
            return compare(instant(here) if kind == "time" and here else here, value)

        return test

    def take(self) -> tuple[str, str]:
        if not self.tokens:
            raise ValueError("$filter: it ends too early")
        return self.tokens.pop(0)

    def next_is(self, word: str) -> bool:
        found = bool(self.tokens) and self.tokens[0][0] != "text" and self.tokens[0][1] == word
        if found:
            self.tokens.pop(0)
        return found

    def expect(self, mark: str) -> None:
        if not self.next_is(mark):
            raise ValueError(f"$filter: '{mark}' is missing")
