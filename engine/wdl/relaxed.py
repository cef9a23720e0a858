"""JSON as exported packages have it: with a byte order mark, trailing commas, comments."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.types import JSON

_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|(?://|#)[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True)
class Text:
    """A JSON file: its value, its text, and what in it isn't JSON but was looked past, in words."""

    file: str
    value: JSON
    text: str
    faults: tuple[str, ...] = ()

    def line_of(self, key: str) -> int:
        """The first line in which an object begins under this key, 1 if there is none."""
        found = re.search(re.escape(json.dumps(key)) + r"\s*:\s*\{", self.text)
        return self.text.count("\n", 0, found.start()) + 1 if found else 1


def loads(data: bytes, file: str) -> Text:
    """Raises ConfigError for what is no JSON even so."""
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8 (byte {error.start})", code="Encoding") from error
    try:
        return Text(file, json.loads(text), text)
    except ValueError as error:
        mended = _without(_COMMENT, text)
        faults = ["comments"] if mended != text else []
        commas = _without(_COMMA, mended)
        if commas != mended:
            first = next(i for i, (a, b) in enumerate(zip(mended, commas, strict=True)) if a != b)
            faults.append(f"a comma before a closing bracket in line {text.count(chr(10), 0, first) + 1}")
        try:
            return Text(file, json.loads(commas), text, tuple(faults))
        except ValueError:
            raise ConfigError(f"{file} is no JSON: {error}", code="Json") from error
    except RecursionError as error:
        raise ConfigError(f"{file} is nested too deeply", code="Json") from error


def _without(pattern: re.Pattern[str], text: str) -> str:
    """The text with blanks in place of what the pattern finds outside of strings, so that places stay true."""
    return pattern.sub(lambda found: found[1] or re.sub(r"[^\n]", " ", found[0]), text)
