"""Expressions of Workflow Definition Language: from a definition's text to a syntax tree, and back.

A text is one expression (`@f(…)`, which keeps its type), literal text with expressions in it (`a @{f(…)} b`, which is
always text), or plain text; `@@` at its beginning and `@@{` in it are escapes. An expression is a literal or a call
that may be followed by members: there are no operators. Source: Microsoft, "Workflow Definition Language schema".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.expressions import ExpressionError
from engine.functions.values import LARGEST_INT

MAX_LENGTH = 8192  # characters of one expression
MAX_DEPTH = 64  # calls within calls
# A name may hold anything else than these; so `a-b`, `$x` and `odata-type` are names, and so is `"x"`, by mistake.
_SPECIAL = r"\s\ufeff.,(){}@\[\]?'"
_TOKEN = re.compile(
    rf"""[\s\ufeff]*(?:
      (?P<text>'(?:[^']|'')*+')
    | (?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?=[{_SPECIAL}]|$)
    | (?P<mark>[.,()\[\]?])
    | (?P<name>[^{_SPECIAL}0-9+-][^{_SPECIAL}]*)
    | (?P<end>$)
    )""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "null": None}


class WdlError(ExpressionError):
    """Text that is no expression of the language, or one that can't be carried out here.

    `offset` counts characters from the beginning of the definition's text.
    """

    def __init__(self, message: str, *, offset: int = 0, code: str = "InvalidTemplate", hint: str = "") -> None:
        super().__init__(message, offset=offset, code=code, hint=hint)


@dataclass(frozen=True)
class Literal:
    """A text, number, boolean or null."""

    value: str | int | float | bool | None
    offset: int = field(default=0, compare=False)

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return "'" + self.value.replace("'", "''") + "'"
        if isinstance(self.value, bool) or self.value is None:
            return {True: "true", False: "false", None: "null"}[self.value]
        return repr(self.value)


@dataclass(frozen=True)
class Member:
    """One step into a value: `['key']`, `.key`, `[0]`; safe with a `?` before it: null where there is none."""

    key: Expression
    safe: bool
    offset: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{'?' * self.safe}[{self.key}]"


@dataclass(frozen=True)
class Call:
    """A function's call, and the members read from its result. The name is as it is written, in any letter case."""

    name: str
    arguments: tuple[Expression, ...] = ()
    members: tuple[Member, ...] = ()
    offset: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))}){''.join(map(str, self.members))}"


@dataclass(frozen=True)
class Interpolation:
    """Text with expressions in it. Plain text is one without any."""

    parts: tuple[str | Expression, ...]

    def __str__(self) -> str:
        """The definition's text. An @ at its beginning, with expressions after it, can only be written as one."""
        if len(self.parts) == 1 and isinstance(self.parts[0], str):
            text = self.parts[0]
            return f"@{text}" if text[:1] == "@" and text != "@" else text.replace("@{", "@@{")
        out = "".join(p.replace("@{", "@@{") if isinstance(p, str) else f"@{{{p}}}" for p in self.parts)
        return f"@{{'@'}}{out[1:]}" if isinstance(self.parts[0], str) and out[:1] == "@" else out


Expression: TypeAlias = Literal | Call
Template: TypeAlias = Expression | Interpolation


def parse(text: str) -> Template:
    """The tree of a definition's text. Raises WdlError."""
    if text.startswith("@@"):
        return Interpolation((text[1:],))
    if text.startswith("@") and len(text) > 1 and text[1] != "{":
        return expression(text[1:], 1)
    parts: list[str | Expression] = []
    literal, at = "", 0
    while (start := text.find("@{", at)) >= 0:
        literal += text[at:start]
        if text[start - 1 : start] == "@" and start > 0 and (start > at or literal):
            literal, at = f"{literal}{{", start + 2  # the @ before it stands for both
            continue
        end = _end(text, start + 2)
        parts += [literal] if literal else []
        parts.append(expression(text[start + 2 : end], start + 2))
        literal, at = "", end + 1
    literal += text[at:]
    return Interpolation((*parts, literal) if literal or not parts else tuple(parts))


def _end(text: str, start: int) -> int:
    """Where the `}` stands that ends an interpolation: the first one outside of quotes."""
    found = re.compile(r"(?:[^'}]|'[^']*')*+").match(text, start)
    end = found.end() if found else start
    if text[end : end + 1] != "}":
        raise WdlError("'@{' without '}'", offset=start - 2, hint="close it, or write @@{ for the characters")
    return end


def expression(source: str, offset: int = 0) -> Expression:
    """The tree of one expression, without its @; `offset` is where it stands in the text. Raises WdlError."""
    if len(source) > MAX_LENGTH:
        raise WdlError(f"an expression may have {MAX_LENGTH} characters, this one has {len(source)}", offset=offset)
    parser = _Parser(source, offset)
    tree = parser.expression(0)
    if parser.kind != "end":
        raise parser.unexpected()
    return tree


class _Parser:
    """Tokens one by one: `kind`, `value` and `at` are those of the next one."""

    def __init__(self, source: str, offset: int) -> None:
        self.source = source
        self.offset = offset
        self.position = 0
        self.advance()

    def advance(self) -> None:
        found = _TOKEN.match(self.source, self.position)
        if found is None or found.lastgroup is None:
            raise self._no_token()
        self.kind, self.value = found.lastgroup, found[found.lastgroup]
        self.at = self.offset + found.start(found.lastgroup)
        self.position = found.end()
        if self.kind == "name" and self.value[0] == '"':
            hint = "texts stand in single quotes: 'text'"
            raise WdlError("double quotes mean nothing here", offset=self.at, hint=hint)

    def _no_token(self) -> WdlError:
        space = re.compile(r"[\s\ufeff]*").match(self.source, self.position)
        start = space.end() if space else self.position
        rest, at = self.source[start:], self.offset + start
        if rest[:1] == "'":
            return WdlError("a quote isn't closed", offset=at, hint="inside a text a quote is written twice: ''")
        if rest[:1] in "+-0123456789":
            shown = re.split(rf"[{_SPECIAL}]", rest)[0]
            return WdlError(f"'{shown[:40]}' is no number", offset=at)
        hint = "within an expression functions stand without @" if rest[:1] == "@" else ""
        return WdlError(f"unexpected '{rest[:1]}'", offset=at, hint=hint)

    def unexpected(self) -> WdlError:
        if self.kind == "end":
            return WdlError("the expression ends too early", offset=self.at)
        return WdlError(f"unexpected '{self.value[:40]}'", offset=self.at)

    def take(self, mark: str) -> bool:
        """Whether the next token is this mark; it is consumed then."""
        if self.kind != "mark" or self.value != mark:
            return False
        self.advance()
        return True

    def demand(self, mark: str) -> None:
        if not self.take(mark):
            raise self.unexpected()

    def expression(self, depth: int) -> Expression:
        kind, value, at = self.kind, self.value, self.at
        if depth > MAX_DEPTH:
            raise WdlError(f"calls stand deeper than {MAX_DEPTH} levels in each other", offset=at)
        match kind:
            case "text":
                self.advance()
                return Literal(value[1:-1].replace("''", "'"), at)
            case "number":
                self.advance()
                return Literal(_number(value, at), at)
            case "name":
                self.advance()
                if not (self.kind == "mark" and self.value == "(") and value.lower() in _WORDS:
                    return Literal(_WORDS[value.lower()], at)
                return self._call(value, at, depth)
        raise self.unexpected()

    def _call(self, name: str, at: int, depth: int) -> Call:
        if not self.take("("):
            hint = f"a function is called with parentheses: {name}(…); a text stands in quotes: '{name}'"
            raise WdlError(f"'{name[:40]}' is no value", offset=at, hint=hint)
        arguments: list[Expression] = []
        if not self.take(")"):
            arguments.append(self.expression(depth + 1))
            while self.take(","):
                arguments.append(self.expression(depth + 1))
            self.demand(")")
        return Call(name, tuple(arguments), tuple(self._members(depth)), at)

    def _members(self, depth: int) -> list[Member]:
        members: list[Member] = []
        while True:
            at, safe = self.at, self.take("?")
            if self.take("."):
                if self.kind != "name":
                    raise self.unexpected()
                members.append(Member(Literal(self.value, self.at), safe, at))
                self.advance()
            elif self.take("["):
                members.append(Member(self.expression(depth + 1), safe, at))
                self.demand("]")
            elif safe:
                raise WdlError("after '?' a member has to follow", offset=at, hint="write ?['name'] or ?.name")
            else:
                return members
            if len(members) > MAX_DEPTH:
                raise WdlError(f"more than {MAX_DEPTH} members", offset=at)


def _number(text: str, at: int) -> int | float:
    if re.fullmatch(r"[+-]?\d+", text):
        number = int(text)
        if not -LARGEST_INT - 1 <= number <= LARGEST_INT:
            raise WdlError(f"{text} is beyond 64 bits", offset=at)
        return number
    real = float(text)
    if real in (float("inf"), float("-inf")):
        raise WdlError(f"{text} is too large for a number", offset=at)
    return real
