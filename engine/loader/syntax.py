"""Expressions as syntax trees whose nodes know where they stand, and faults of syntax with their remedy.

Jinja counts lines; here the number that it carries from token to node is the offset in the expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser

from engine.expressions import ExpressionError, Expressions, segments

_WORDS = frozenset({"and", "else", "false", "if", "in", "is", "none", "not", "or", "true", "None", "False", "True"})
_DOTTED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*")
_PIECE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+|\S""", re.S)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
# What is written otherwise in other languages: what stands at the fault, and how it is written here.
_ADVICE: tuple[tuple[str, str], ...] = (
    (r"&&?", "write `and`"),
    (r"\|\|", "write `or`"),
    (r"!==?|<>|=!", "did you mean '!='?"),
    (r"={3}|=", "did you mean '=='?"),
    (r"=>|=<", "did you mean '>=' or '<='?"),
    (r"!", "write `not`"),
    (r"\?[.\[]", "leave the ? out: a missing member is null"),
    (r"\?", "write `A if CONDITION else B`, or if(CONDITION, A, B)"),
    (r"['\"]", "close the quote; inside it, a quote is written \\' or the other kind is used around"),
    (r"@", "leave the @ out: functions and names stand as they are, such as steps.NAME.body"),
    (r"\}", "an expression ends with '}}'"),
    (r"\{", "braces stand around a whole expression, once"),
    (r"\$", "names stand without $"),
    (r"[\])]", "there is one too many, or its beginning is missing"),
)


class _Placed:
    """The lexer's pieces, with the offset at which each begins in place of its line; `at` is where it has come to."""

    def __init__(self, pieces: Iterable[tuple[int, str, str]]) -> None:
        self.pieces = pieces
        self.at = 0

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        for _, kind, text in self.pieces:
            yield self.at, kind, text
            self.at += len(text)


TOO_DEEP, IN_PARTS = "too deeply nested", "take it apart: a compose step can give a part a name"


def parse(expressions: Expressions, source: str) -> nodes.Expr:
    """The tree of an expression; the `lineno` of a node is its offset in `source`. Raises ExpressionError."""
    plain = _DOTTED.fullmatch(source)
    if plain and plain[1] not in _WORDS:
        return _member(plain)
    lexer = expressions.environment.lexer
    pieces = _Placed(lexer.tokeniter(source, None, None, "variable"))
    parser = Parser(expressions.environment, "")
    try:
        tokens: list[Token] = list(lexer.wrap(pieces, None, None))
    except TemplateSyntaxError as error:
        raise _fault(source, pieces.at, error.message or "") from error
    parser.stream = TokenStream(iter(tokens), None, None)
    try:
        tree: nodes.Expr = parser.parse_expression()
    except TemplateSyntaxError as error:
        ended = parser.stream.current.type == "eof" and error.lineno == parser.stream.current.lineno
        raise _fault(source, len(source.rstrip()) if ended else error.lineno, error.message or "") from error
    except RecursionError as error:
        raise ExpressionError(TOO_DEEP, hint=IN_PARTS) from error
    if parser.stream.current.type != "eof":
        raise _fault(source, parser.stream.current.lineno, "")
    return tree


def _member(plain: re.Match[str]) -> nodes.Expr:
    """A plain dotted name, as most expressions are: built without the parser, which takes longer."""
    tree: nodes.Expr = nodes.Name(plain[1], "load", lineno=plain.start(1))
    at = plain.start(2)
    for name in plain[2].split(".")[1:]:
        tree = nodes.Getattr(tree, name, "load", lineno=at)
        at += 1 + len(name)
    return tree


def member_at(source: str, node: Any) -> int:
    """Where the member begins that a Getattr or Getitem reads."""
    found = re.compile(r"\.\s*|\[\s*").match(source, node.lineno)
    return found.end() if found else int(node.lineno)


def _fault(source: str, offset: int, message: str) -> ExpressionError:
    """The fault at an offset, in words."""
    offset = min(offset, len(source))
    before = [found for found in _PIECE.finditer(source) if found.start() < offset]
    for piece in before:  # a text that goes on over the end of an expression has lost its closing quote
        if piece[0][0] in "'\"" and re.search(r"\{\{|\}\}", piece[0]):
            return ExpressionError(
                "a quote isn't closed", offset=piece.start(), hint="close it before the expression ends"
            )
    if offset >= len(source.rstrip()):
        opened: list[re.Match[str]] = []
        for piece in before:
            if piece[0] in _PAIRS:
                opened.append(piece)
            elif piece[0] in _PAIRS.values() and opened:
                opened.pop()
        if opened:
            bracket = opened[-1]
            return ExpressionError(
                f"'{bracket[0]}' isn't closed", offset=bracket.start(), hint=f"add '{_PAIRS[bracket[0]]}'"
            )
        if not before:
            return ExpressionError("there is no expression", offset=offset, hint="write a value between the braces")
        return ExpressionError(
            "the expression ends too early", offset=offset, hint=f"something has to follow '{before[-1][0]}'"
        )
    operator = next((f for f in re.finditer(r"[=!<>&]{1,3}|\|\|", source) if f.start() <= offset < f.end()), None)
    start = operator.start() if operator else offset
    text = operator[0] if operator else source[offset:]
    hint = next(
        (words for pattern, words in _ADVICE if re.match(f"(?:{pattern})" + ("$" if operator else ""), text)), ""
    )
    there = _PIECE.match(source, start)
    word = operator[0] if operator else there[0] if there else ""
    if word[:1] in ("'", '"') and len(word) == 1:
        message = "a quote isn't closed"
    elif message.startswith(("expected name", "You cannot", "Invalid", "truncated", "invalid")):
        message = message.removesuffix(".").lower()
    else:
        message = f"unexpected '{word[:40]}'"
        hint = "" if len(word) > 1 and word[0] in "'\"" else hint
    return ExpressionError(message, offset=start, hint=hint or "is an operator or a comma missing before it?")


# Expressions in texts


def braced_in_part(text: str) -> str:
    """How a key that is an expression as a whole is written, if it has braces around a part of it; else nothing."""
    try:
        parts = segments(text)
    except ExpressionError:
        return ""
    if len(parts) < 2 or not any(part.expression for part in parts):
        return ""
    around = [part.text.strip() for part in parts if not part.expression]
    if not any(around):
        return "leave the line break or blank around {{ }} out, such as by >- in place of >"
    if any(re.search(r"[=<>!+*/%()]|\b(?:and|or|not|in|is|if|else)\b", piece) for piece in around):
        return "leave the braces out: the key is an expression anyway"
    return "write " + " ~ ".join(part.text.strip() if part.expression else f"'{part.text}'" for part in parts)


# Texts that are expressions elsewhere, and how they are written here.
_FOREIGN: tuple[tuple[str, str, str], ...] = (
    (
        r"\{%-?\s*(?:if|elif|else|endif|for|endfor|set|macro|block|include|import|extends|raw)\b",
        "blocks are not part of the language: this is text",
        "use `A if CONDITION else B` in {{ }}, or the steps `if`, `foreach` and `select`",
    ),
    (r"\{#.*?#\}", "this is text, not a comment", "comments stand outside of texts: # …"),
    (r"@\{", "this is text, not an expression", "what Power Automate writes @{…} is {{ … }} here"),
    (r"^@(?=[a-zA-Z]\w*\()", "this is text, not an expression", "what Power Automate writes @f(…) is {{ f(…) }} here"),
    (
        r"(?<![{$\w])\{\s*(?=(?:steps|trigger|parameters|variables)\.\w+[^{}]*\}(?!\}))",
        "this is text, not an expression",
        "an expression has two braces on each side: {{ … }}",
    ),
    (
        r"\$\{\{?\s*(?=(?:steps|trigger|parameters|variables|github|inputs)\.)",
        "this is text, not an expression",
        "an expression is written {{ … }}, without $",
    ),
)
_POWER_AUTOMATE: tuple[tuple[str, str], ...] = (
    (r"(?:body|outputs|actions)\('(\w+)'\)", "steps.{}.body"),
    (r"triggerBody\(\)|triggerOutputs\(\)|trigger\(\)", "trigger.event, or trigger.inputs"),
    (r"parameters\('(\w+)'\)", "parameters.{}"),
    (r"variables\('(\w+)'\)", "variables.{}"),
    (r"items\('\w+'\)|item\(\)", "item"),
)


def written_here(text: str) -> str:
    """How a reference of Power Automate is written here, the first one in a text."""
    for pattern, form in _POWER_AUTOMATE:
        if found := re.search(rf"(?<!\w){pattern}", text):
            name = re.sub(r"\W+", "_", found[1]).lower() if found.groups() else ""
            return f"{found[0]} is written {form.format(name)} here"
    return ""


def foreign(text: str) -> Iterator[tuple[int, str, str]]:
    """What in a text is no expression here but would be one elsewhere: offset, message, hint."""
    for pattern, message, hint in _FOREIGN:
        if found := re.search(pattern, text, re.S):
            more = written_here(text[found.start() :]) if "@" in found[0] else ""
            yield found.start(), message, f"{hint}; {more}" if more else hint
            return
