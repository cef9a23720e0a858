"""The part of OData 4.0 that the Dataverse emulator reads: keys, $filter, $orderby, $select, $expand, Prefer.

What the service refuses is refused here, in its words: every error is a Refusal with {"error": {"code", "message"}}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeAlias

from engine import JSON
from engine.sandbox import Refusal, Reply

Row: TypeAlias = Mapping[str, JSON]
Predicate: TypeAlias = Callable[[Row], bool]
Kinds: TypeAlias = Callable[[str], str]  # column → text, number, guid, date, datetime or bool; refuses unknown ones

GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
# Alternate key values that hold one of these can't be addressed (use-alternate-key-reference-record).
BREAKING = frozenset("/<>*%&:\\?+")
BAD_REQUEST = "0x80060888"


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> NoReturn:
    """Ends the request with the service's error shape."""
    raise Refusal(
        Reply(status, {"error": {"code": code, "message": message}}, {"OData-Version": "4.0", **(headers or {})})
    )


@dataclass(frozen=True)
class Literal:
    """A constant in an address or filter."""

    kind: str
    value: JSON


_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<text>'(?:[^']|'')*')
  | (?P<guid>{GUID})
  | (?P<datetime>\d{{4}}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))
  | (?P<date>\d{{4}}-\d\d-\d\d)
  | (?P<number>-?\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_@][\w.@/]*)
  | (?P<sign>[(),=])
    )""",
    re.VERBOSE,
)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            refuse(400, BAD_REQUEST, f"Syntax error at position {at} in '{text}'.")
        found.append((match.lastgroup or "", match.group().strip()))
        at = match.end()
    return found


def _literal(kind: str, text: str) -> Literal | None:
    match kind:
        case "text":
            return Literal("text", text[1:-1].replace("''", "'"))
        case "number":
            return Literal("number", float(text) if "." in text else int(text))
        case "guid":
            return Literal("guid", text.lower())
        case "date" | "datetime":
            return Literal(kind, text)
        case "word" if text in ("true", "false", "null"):
            return Literal("null" if text == "null" else "bool", {"true": True, "false": False}.get(text))
    return None


def parse_key(text: str) -> dict[str, Literal]:
    """What stands in the brackets of set(…): {"": guid} for a bare GUID, else the named values."""
    tokens = _tokens(text)
    if len(tokens) == 1 and (bare := _literal(*tokens[0])):
        return {"": bare}
    found: dict[str, Literal] = {}
    for at in range(0, len(tokens), 4):
        part = tokens[at : at + 4]
        value = _literal(*part[2]) if len(part) > 2 else None
        if value is None or part[0][0] != "word" or part[1][1] != "=" or (len(part) > 3 and part[3][1] != ","):
            refuse(400, BAD_REQUEST, f"Bad Request - Error in query syntax: ({text})")
        found[part[0][1]] = value
    return found


class Filter:
    """A $filter expression as a predicate over rows: recursive descent over or, and, not, comparison, function."""

    def __init__(self, text: str, kinds: Kinds) -> None:
        self.text, self.kinds = text, kinds
        self.tokens = _tokens(text)
        self.at = 0
        self.predicate = self._any()
        if self.at < len(self.tokens):
            self._fail()

    def __call__(self, row: Row) -> bool:
        return self.predicate(row)

    def _fail(self) -> NoReturn:
        found = self.tokens[self.at][1] if self.at < len(self.tokens) else "end of expression"
        refuse(400, BAD_REQUEST, f"Syntax error in $filter '{self.text}': '{found}' was not expected.")

    def _peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _take(self, expected: str = "") -> tuple[str, str]:
        if self.at >= len(self.tokens) or (expected and self._peek() != expected):
            self._fail()
        self.at += 1
        return self.tokens[self.at - 1]

    def _any(self) -> Predicate:
        parts = [self._all()]
        while self._peek() == "or":
            self._take()
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _all(self) -> Predicate:
        parts = [self._one()]
        while self._peek() == "and":
            self._take()
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Predicate:
        if self._peek() == "not":
            self._take()
            inner = self._one()
            return lambda row: not inner(row)
        if self._peek() == "(":
            self._take()
            inner = self._any()
            self._take(")")
            return inner
        if self._peek() in ("contains", "startswith", "endswith"):
            return self._function(self._take()[1])
        column = self._column()
        operator = self._take()[1]
        if operator not in ("eq", "ne", "gt", "ge", "lt", "le"):
            self.at -= 1
            self._fail()
        return self._comparison(column, operator, self._value())

    def _column(self) -> str:
        kind, name = self._take()
        if kind != "word" or name in ("and", "or", "not", "null", "true", "false"):
            self.at -= 1
            self._fail()
        self.kinds(name)
        return name

    def _value(self) -> Literal:
        value = _literal(*self._take())
        if value is None:
            self.at -= 1
            self._fail()
        return value

    def _function(self, name: str) -> Predicate:
        self._take("(")
        column = self._column()
        self._take(",")
        value = self._value()
        self._take(")")
        if value.kind != "text" or self.kinds(column) != "text":
            refuse(400, BAD_REQUEST, f"No function signature for the function with name '{name}' matches.")
        wanted = str(value.value).casefold()
        tests: dict[str, Callable[[str], bool]] = {
            "contains": lambda text: wanted in text,
            "startswith": lambda text: text.startswith(wanted),
            "endswith": lambda text: text.endswith(wanted),
        }
        return lambda row: tests[name](str(row.get(column) or "").casefold())

    def _comparison(self, column: str, operator: str, literal: Literal) -> Predicate:
        kind = self.kinds(column)
        fits = literal.kind in (kind, "null") or (kind, literal.kind) == ("datetime", "date")
        if not fits or (literal.kind == "null" and operator not in ("eq", "ne")):
            refuse(
                400,
                BAD_REQUEST,
                "A binary operator with incompatible types was detected. "
                f"Found operand types '{kind}' and '{literal.kind}' for operator kind '{operator}'.",
            )
        wanted = comparable(kind, literal.value)

        def test(row: Row) -> bool:
            value = comparable(kind, row.get(column))
            if wanted is None or value is None:
                # SQL under the service: `ne` finds rows without a value too, the other comparisons don't.
                return (value is wanted) == (operator == "eq") if wanted is None else operator == "ne"
            match operator:
                case "eq":
                    return bool(value == wanted)
                case "ne":
                    return bool(value != wanted)
                case "gt":
                    return bool(value > wanted)
                case "ge":
                    return bool(value >= wanted)
                case "lt":
                    return bool(value < wanted)
            return bool(value <= wanted)

        return test


def comparable(kind: str, value: JSON) -> Any:
    """A value as the service's database compares it: texts without regard to case, moments by their time."""
    if value is None:
        return None
    if kind == "datetime":
        text = str(value)
        return datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00+00:00")
    return value.casefold() if isinstance(value, str) else value


def ordered(rows: list[Row], text: str, kinds: Kinds) -> list[Row]:
    """Rows by $orderby; rows without a value come first when ascending, as in SQL Server."""
    for part in reversed(text.split(",")):
        column, _, direction = part.strip().partition(" ")
        kind = kinds(column)
        if direction.strip() not in ("", "asc", "desc"):
            refuse(400, BAD_REQUEST, f"Syntax error in $orderby '{text}'.")

        def sort_key(row: Row, column: str = column, kind: str = kind) -> tuple[bool, Any]:
            value = comparable(kind, row.get(column))
            return (value is not None, value) if value is not None else (False, 0)

        rows = sorted(rows, key=sort_key, reverse=direction.strip() == "desc")
    return rows


def parse_names(text: str) -> list[str]:
    """The columns of a $select."""
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        refuse(400, BAD_REQUEST, f"Syntax error in $select '{text}'.")
    return names


def parse_expand(text: str) -> dict[str, str]:
    """Navigation property → its $select ("" for all) of an $expand such as `a($select=b,c),d`."""
    found: dict[str, str] = {}
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", text):
        match = re.fullmatch(r"\s*(\w+)(?:\(\$select=([\w,\s]+)\))?\s*", part)
        if not match:
            refuse(400, BAD_REQUEST, f"Syntax error in $expand '{text}'.")
        found[match[1]] = match[2] or ""
    return found


def preferences(header: str) -> dict[str, str]:
    """The Prefer header (RFC 7240) as name → value."""
    pairs = (part.strip().partition("=") for part in header.split(",") if part.strip())
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
