"""Faults of YAML in words: where the mistake is rather than where the parser gave up, and how to go on after it.

A fault that can be looked past is mended by text of the same length, so that every place in the document stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import yaml

from engine.errors import did_you_mean
from engine.expressions import ExpressionError, segments

LOST = "\ue000"  # stands for a character that was no YAML; a text with it isn't looked at any further
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLONLESS = re.compile(r"\s*(?:- )*([a-z_]\w*)(?: (?=\s*[\[{\"'])|:(?=[\[{\"']))")
QUOTE = "put the whole text in quotes"
QUOTE_TEMPLATE = 'put quotes around it: "{{ … }}"'
_PAIRS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class Fault:
    """What is wrong at an offset; `mended` is the text to go on with, if it can be looked past."""

    offset: int
    message: str
    hint: str = ""
    code: str = "YamlSyntax"
    expected: str = ""
    found: str = ""
    mended: str | None = None


def forbidden(text: str) -> Fault | None:
    """The first character that no YAML text may hold."""
    found = FORBIDDEN.search(text)
    if found is None:
        return None
    shown = f"U+{ord(found.group()):04X}"
    return Fault(found.start(), f"the character {shown} is not allowed", f'remove it, or write it "\\u{shown[2:]}"')


def explain(text: str, error: yaml.YAMLError, loader: Any) -> Fault:
    """The fault behind what the parser says of `text`."""
    return _Reading(text, error, loader).fault()


def no_colon(text: str, offset: int) -> Fault:
    """The fault of a key without its colon."""
    found = re.compile(r"\S+").match(text, offset)
    word = found.group()[:40] if found else ""
    glued = re.fullmatch(r"(\w+):([^\s,}\]]+).*", word)
    hint = f"write {glued[1]}: {glued[2]}" if glued else f"write {word}: … or quote the text that it belongs to"
    return Fault(offset, "a key needs a colon and a space after it", hint, expected="KEY: value", found=f"'{word}'")


class _Reading:
    """A text with the place where its parser stopped (`at`) and where the part that it was in begins (`begin`)."""

    def __init__(self, text: str, error: yaml.YAMLError, loader: Any) -> None:
        self.text = text
        self.problem = str(getattr(error, "problem", None) or error)
        self.context = str(getattr(error, "context", None) or "")
        marks = (getattr(error, "problem_mark", None), getattr(error, "context_mark", None))
        self.at, self.begin = (
            min(m.index, len(text)) if m is not None else 0 for m in (marks[0] or marks[1], marks[1])
        )
        self.line = text.rfind("\n", 0, self.at) + 1  # where the line of `at` begins
        self.tokens: list[Any] = []
        try:
            for token in yaml.scan(text, Loader=loader):
                if token.start_mark.index >= self.at:
                    break
                self.tokens.append(token)
        except yaml.YAMLError:
            pass  # the one that is being explained

    def fault(self) -> Fault:
        rules: tuple[Callable[[], Fault | None], ...] = (
            self._tab,
            self._colonless,
            self._template,
            self._documents,
            self._alias,
            self._quote,
            self._character,
            self._key,
            self._brackets,
            self._layout,
        )
        found = next((fault for rule in rules if (fault := rule())), None)
        return found or Fault(self.at, f"{self.problem}{f' ({self.context})' if self.context else ''}")

    def _char(self, offset: int) -> str:
        return self.text[offset : offset + 1]

    def _mend(self, start: int, end: int, by: str = LOST) -> str:
        return self.text[:start] + by * (end - start) + self.text[end:]

    @property
    def _indent(self) -> int:
        """Blanks at the beginning of the line of `at`."""
        line = self.text[self.line :]
        return len(line) - len(line.lstrip(" "))

    @property
    def _first_in_line(self) -> bool:
        return not self.text[self.line : self.at].strip()

    def _scalar(self) -> Any:
        """The last scalar before `at`."""
        return next((t for t in reversed(self.tokens) if isinstance(t, yaml.ScalarToken)), None)

    # The rules, from the surest to the vaguest

    def _tab(self) -> Fault | None:
        found = re.compile(r" *\t[ \t]*(?=\S)").match(self.text, self.line)
        if found is None or found.end() < self.at - 1:
            return None
        offset = self.text.index("\t", self.line)
        return Fault(
            offset, "a tab in the indentation", "indent with spaces, not tabs", expected="spaces", found="a tab"
        )

    def _colonless(self) -> Fault | None:
        """`key {…}` or `key "…"`: what follows the colon that is missing is what the parser stumbles over."""
        found = COLONLESS.match(self.text[self.line :].partition("\n")[0])
        if found is None or self.line + found.end() > self.at:
            return None
        start, end = self.line + found.start(1), self.line + found.end(1)
        end_of_line = self.line + len(self.text[self.line :].partition("\n")[0])
        mended = self.text[:end] + ": " + LOST * (end_of_line - end - 2) + self.text[end_of_line:]
        return replace(self._no_colon(start), mended=mended)

    def _template(self) -> Fault | None:
        """`{{` without quotes, which YAML takes for two mappings."""
        starts = [t.start_mark.index for t in self.tokens if isinstance(t, yaml.FlowMappingStartToken)]
        starts = [at for at in starts if self.text.startswith("{{", at) and at + 1 in (*starts, self.at)]
        if not starts or self.text.count("\n", starts[-1], self.at):
            return None
        start = starts[0] if self.text.count("\n", starts[0], self.at) == 0 else starts[-1]
        mended = None
        end_of_line = self.text.find("\n", start)
        end_of_line = len(self.text) if end_of_line < 0 else end_of_line
        try:
            first = segments(self.text[start:end_of_line])[0]
        except ExpressionError:
            pass
        else:
            end = start + first.offset + len(first.text) + 2
            rest = r"[^,\]}\n#]*" if self._depth(start) else r"(?:(?! #)[^\n])*"
            found = re.compile(rest).match(self.text, end)
            end = len(self.text[: found.end()].rstrip()) if found else end
            mended = self._mend(start, end)
        return Fault(start, "an expression without quotes", QUOTE_TEMPLATE, "UnquotedTemplate", mended=mended)

    def _depth(self, offset: int) -> int:
        """How many brackets and braces are open at an offset."""
        before = [t for t in self.tokens if t.start_mark.index < offset]
        opened = sum(isinstance(t, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken) for t in before)
        return opened - sum(isinstance(t, yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken) for t in before)

    def _documents(self) -> Fault | None:
        if "another document" not in self.problem:
            return None
        hint = "a file holds one flow: remove the line, or move what follows to a file of its own"
        return Fault(self.at, "a second document begins here", hint, found="---", mended=self.text[: self.at])

    def _alias(self) -> Fault | None:
        if "undefined alias" in self.problem or "duplicate anchor" in self.context:
            found = re.compile(r"[*&][^\s,\[\]{}]*").match(self.text, self.at)
            name, end = (found.group()[1:], found.end()) if found else ("", self.at)
            if "duplicate" in self.context:
                first = self.text.count("\n", 0, self.begin) + 1
                mended = self._mend(self.at, end, " ")
                return Fault(self.at, f"anchor '{name}' stands twice; first in line {first}",
                             "give one of them another name", "Alias", mended=mended)  # fmt: skip
            known = {t.value for t in self.tokens if isinstance(t, yaml.AnchorToken)}
            hint = did_you_mean(name, known) or "a text that begins with * needs quotes"
            return Fault(self.at, f"there is no anchor '{name}'", hint, "Alias", found=f"*{name}",
                         mended=self._mend(self.at, end))  # fmt: skip
        if "alphabetic or numeric" in self.problem:
            return self._special(self.begin)
        return None

    def _quote(self) -> Fault | None:
        if "quoted scalar" in self.context:
            if "escape" in self.problem or "hex" in self.problem:
                hint = "in double quotes \\ begins an escape: write \\\\, or use single quotes"
                return Fault(self.at, "an escape that YAML doesn't know", hint, found=self.text[self.at : self.at + 2])
            return self._unclosed(self.begin)
        last = self.tokens[-1] if self.tokens else None
        if not isinstance(last, yaml.ScalarToken) or (self._depth(self.at) and self._char(self.at) in "'\""):
            return None
        if last.style not in ("'", '"') or "did not find" not in self.problem:
            return None
        start, end = last.start_mark.index, last.end_mark.index
        if self.text.count("\n", end, self.at):
            return None
        if self.text.count("\n", start, end):
            return self._unclosed(start)
        if self._char(self.at) in (",", ":", "]", "}"):
            return None
        hint = "in single quotes an apostrophe is written ''" if last.style == "'" else 'inside, write \\" for a quote'
        return Fault(self.at, "text after the closing quote", f"{QUOTE}; {hint}", found=self._word(self.at))

    def _unclosed(self, offset: int) -> Fault:
        return Fault(
            offset, f"the quote {self._char(offset)} isn't closed", f"add {self._char(offset)} where the text ends"
        )

    def _word(self, offset: int) -> str:
        found = re.compile(r"\S+").match(self.text, offset)
        return f"'{found.group()[:40]}'" if found else "the end"

    def _character(self) -> Fault | None:
        """A text without quotes that begins with a character of YAML's own."""
        if "cannot start any token" in self.problem or "not allowed in this context" in self.problem:
            if self._char(self.at) in "@`%" or (self._char(self.at) in "-?:" and not self._first_in_line
                                                and not self._after_text()):  # fmt: skip
                return self._special(self.at)
        elif "block scalar" in self.context:
            return self._special(self.begin)
        elif "node content" in self.problem:
            return self._special(self.at)
        return None

    def _after_text(self) -> bool:
        """Whether a scalar ends right before `at`."""
        scalar = self._scalar()
        return (
            scalar is not None and not self.text[scalar.end_mark.index : self.at].strip() and scalar is self.tokens[-1]
        )

    def _special(self, offset: int) -> Fault:
        char, hint = self._char(offset), QUOTE
        if char == "@":
            hint += '; what Power Automate writes @{…} or @f(…) is "{{ … }}" here'
        end = re.compile(r"[^\n,\]}]*" if self._depth(offset) else r"(?:(?! #)[^\n])*").match(self.text, offset)
        stop = len(self.text[: end.end()].rstrip()) if end else offset + 1
        alone = not self.text[self.text.rfind("\n", 0, offset) + 1 : offset].strip()  # there is no key to hold it
        mended = None if alone or char in "]}," else self._mend(offset, max(stop, offset + 1))
        return Fault(offset, f"a text can't begin with {char} unless it is quoted", hint, found=self._word(offset),
                     mended=mended)  # fmt: skip

    def _key(self) -> Fault | None:
        """A colon where none can be, or none where one has to be."""
        if "could not find expected ':'" in self.problem:
            return self._no_colon(self.begin)
        if "mapping values are not allowed" not in self.problem:
            return None
        scalar = self._scalar()
        start = scalar.start_mark.index if scalar is not None else self.at
        if start >= self.line:
            hint = f"{QUOTE}: it holds ': '"
            if " ? " in self.text[start : self.at]:
                hint += "; what is A ? B : C elsewhere is `B if A else C` here"
            end = self.line + len(self.text[self.line :].partition("\n")[0])
            return Fault(self.at, "a second ': ' in one line", hint, mended=self._mend(self.at, end))
        if not self.text[self.text.rfind("\n", 0, start) + 1 : start].strip():
            return self._no_colon(start)
        return self._deeper(self.line + self._indent, self.text.count("\n", 0, start) + 1)

    def _no_colon(self, offset: int) -> Fault:
        return no_colon(self.text, offset)

    def _brackets(self) -> Fault | None:
        """A bracket or brace that isn't closed, or two values without a comma."""
        if "did not find expected ',' or" not in self.problem:
            return None
        opening = self._char(self.begin)
        closing = _PAIRS.get(opening, "")
        if self._open(self.begin, closing):
            return Fault(
                self.begin, f"'{opening}' isn't closed", f"add '{closing}' where it ends", expected=f"'{closing}'"
            )
        if self._char(self.at) == ":":
            hint = f"{QUOTE} if it holds ': ', else put a comma before the key"
            return Fault(self.at, "a second ': ' without a comma before it", hint, expected="a comma")
        return Fault(self.at, "two values without a comma between them", f"put a comma before it, or {QUOTE}",
                     expected=f"',' or '{closing}'", found=self._word(self.at))  # fmt: skip

    def _open(self, start: int, closing: str) -> bool:
        """Whether nothing closes what `start` opens, as far as the lines are indented deeper than its own."""
        line = self.text[self.text.rfind("\n", 0, start) + 1 :]
        indent = len(line) - len(line.lstrip(" "))
        expected = []
        for found in re.compile(r"'(?:[^'\n]|'')*'|\"(?:[^\"\\\n]|\\.)*\"|[\[\]{}]|\n *(?=[^\s\]}])").finditer(
            self.text, start
        ):
            piece = found.group()
            if piece in _PAIRS:
                expected.append(_PAIRS[piece])
            elif piece in ("]", "}"):
                if piece != expected.pop():
                    return True
                if not expected:
                    return False
            elif piece[0] == "\n" and len(piece) - 1 <= indent:
                return True
        return True

    def _layout(self) -> Fault | None:
        """Lines that don't stand below each other as they should, and what goes on after a value."""
        if "did not find expected" not in self.problem:
            return None
        if not self._first_in_line:
            char = self._char(self.at)
            many = "there is one too many" if char in "]}" else QUOTE
            return Fault(self.at, "text after a value that is complete", many, found=self._word(self.at))
        column = self.begin - (self.text.rfind("\n", 0, self.begin) + 1)
        if self.at - self.line == column:
            item = self._char(self.at) == "-"
            message = "a list item where a key is expected" if item else "a key where a list item is expected"
            hint = (
                "indent the list below its key" if item else "a list has '- ' before each item; a key stands outside it"
            )
            return Fault(self.at, message, hint, expected="a key" if item else "'- '", found=self._word(self.at))
        return self._deeper(self.at, 0)

    def _deeper(self, offset: int, above: int) -> Fault:
        """A line whose indentation fits nothing above it."""
        here = offset - (self.text.rfind("\n", 0, offset) + 1)
        fitting: list[int] = []
        for line in reversed(self.text[:offset].split("\n")[:-1]):
            indent = len(line) - len(line.lstrip(" "))
            if line.strip() and not line.lstrip().startswith("#") and (not fitting or indent < fitting[-1]):
                fitting.append(indent)
        expected = " or ".join(map(str, sorted(fitting)))
        message = f"the value in line {above} is complete: nothing can stand below it" if above else "wrong indentation"
        hint = "indent it like the line that it belongs beside"
        return Fault(offset, message, hint, expected=f"{expected} spaces before it", found=f"{here}")
