"""Pieces of Jinja: literals, calls, and how tightly what was printed binds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.types import JSON

# How tightly a piece of Jinja binds.
CONDITION, OR, AND, NOT, COMPARISON, SUM, CONCAT, PRODUCT, UNARY, ATOM = range(10)
SMALL = 2**31  # whole numbers below it can't leave 64 bits by one operation
# Function → what it surely gives.
_KINDS = {
    "number": """length indexOf lastIndexOf nthIndexOf add sub mul div mod int float ticks dayOfWeek dayOfMonth
        dayOfYear utf8Length utf16Length rand uriPort""",
    "text": """concat substring slice replace toLower toUpper trim guid formatNumber join string base64 base64ToString
        decodeBase64 dataUri dataUriToString uriComponent encodeUriComponent uriComponentToString decodeUriComponent
        encodeXmlValue decodeXmlValue encodeXmlName decodeXmlName utcNow getFutureTime getPastTime addSeconds addMinutes
        addHours addDays addToTime subtractFromTime startOfHour startOfDay startOfMonth formatDateTime parseDateTime
        dateDifference formatTimeSpan convertFromUtc convertToUtc convertTimeZone uriHost uriPath uriPathAndQuery
        uriQuery uriScheme""",
    "boolean": "and or not equals contains startsWith endsWith empty bool isInt isFloat",
    "list": "split range reverse createArray array skip chunk",
    "decimal": "decimal",
}
KINDS: Mapping[str, str] = {name: kind for kind, names in _KINDS.items() for name in names.split()}


@dataclass(frozen=True)
class Printed:
    """A piece of Jinja: how tightly it binds, what it surely gives (see Place) if that is known, and its opposite."""

    text: str
    level: int = ATOM
    kind: str = ""
    opposite: str = ""

    def within(self, level: int) -> str:
        """Its text where something that binds so tightly stands around it."""
        return self.text if self.level >= level else f"({self.text})"


def called(name: str, arguments: list[Printed]) -> Printed:
    """A function's call."""
    return Printed(f"{name}({', '.join(a.text for a in arguments)})", kind=KINDS.get(name, ""))


def quoted(text: str) -> str:
    """A text literal."""
    out = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    out = re.sub(
        r"[^\x20-\x7e]",
        lambda f: f[0] if f[0].isprintable() else f[0].encode("unicode-escape").decode(),
        out,
    )
    if "'" in out and '"' not in out:
        return f'"{out}"'
    return "'" + out.replace("'", "\\'") + "'"


def path_to(key: str) -> str:
    """How a member is read from what stands before."""
    return f".{key}" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) else f"[{quoted(key)}]"


def literal(value: JSON) -> Printed:
    """A value as Jinja writes it."""
    match value:
        case None:
            return Printed("null", kind="null")
        case bool():
            return Printed("true" if value else "false", kind="boolean")
        case str():
            return Printed(quoted(value), kind="text")
        case int() | float():
            kind = "number" if abs(value) < SMALL else "large"
            return Printed(repr(value), UNARY if value < 0 or repr(value)[0] == "-" else ATOM, kind)
        case list():
            return Printed(f"[{', '.join(literal(item).text for item in value)}]", kind="list")
    return Printed(f"{{{', '.join(f'{quoted(k)}: {literal(v).text}' for k, v in value.items())}}}", kind="object")


def escaped(text: str) -> str:
    """Plain text where a template stands."""
    return text.replace("{{", "{{ '{{' }}")
