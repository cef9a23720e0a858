"""What was expected against what came: objects by the keys that are named, lists whole, two matchers for texts.

`~any` is any value but null; `~regex PATTERN` is a text that the pattern matches as a whole. A missing member is null,
as in expressions.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from engine.types import JSON

ANY, REGEX = "~any", "~regex "
MOST = 300  # characters of a value that are shown
Keys: TypeAlias = tuple[str | int, ...]
ABSENT = object()  # found where there is nothing to compare with


@dataclass(frozen=True)
class Mismatch:
    """One difference. `path` leads to the expectation; `note` says more where the two values don't say it all."""

    path: Keys
    expected: JSON
    found: Any
    note: str = ""

    @property
    def where(self) -> str:
        """The path in words: steps.get_lead.body.items[2]."""
        return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path).lstrip(".")

    def lines(self) -> list[str]:
        """Expected and found, one under the other; of two lists what is missing and what is too much."""
        if isinstance(self.expected, list) and isinstance(self.found, list):
            return [*_list_difference(self.expected, self.found), *self._notes()]
        expected, found = _text(self.expected), _text(self.found)
        lines = [f"expected  {_cut(expected, found)}", f"found     {_cut(found, expected)}"]
        return [*lines, *self._notes()]

    def _notes(self) -> list[str]:
        return self.note.splitlines()


def compare(expected: JSON, found: JSON, path: Keys = ()) -> Iterator[Mismatch]:
    """Every difference, each with the path of its expectation."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            yield Mismatch(path, expected, found)
            return
        for key, value in expected.items():
            yield from compare(value, found.get(key), (*path, key))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from compare(one, other, (*path, index))
    elif not _equal(expected, found):
        yield Mismatch(path, expected, found)


def fits(expected: JSON, found: JSON) -> bool:
    """Whether there is no difference."""
    return next(compare(expected, found), None) is None


def bad_patterns(value: JSON, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Every `~regex` that is none, and why."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from bad_patterns(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from bad_patterns(inner, (*path, index))
    elif isinstance(value, str) and value.startswith(REGEX):
        try:
            re.compile(value.removeprefix(REGEX))
        except re.error as error:
            yield path, str(error)


def _equal(expected: JSON, found: JSON) -> bool:
    if expected == ANY:
        return found is not None
    if isinstance(expected, str) and expected.startswith(REGEX):
        return isinstance(found, str) and re.fullmatch(expected.removeprefix(REGEX), found, re.DOTALL) is not None
    # 1 is 1.0, but neither is true.
    return isinstance(expected, bool) == isinstance(found, bool) and bool(expected == found)


def _text(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    return value if isinstance(value, str) and value.strip() == value != "" else json.dumps(value, ensure_ascii=False)


def _cut(text: str, other: str) -> str:
    """A long text from shortly before the place where it differs."""
    if len(text) <= MOST:
        return text
    same = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    start = 0 if same < MOST // 2 else same - MOST // 4
    end = start + MOST
    return f"{'…' * (start > 0)}{text[start:end]}{'…' * (end < len(text))}"


def _list_difference(expected: list[Any], found: list[Any]) -> list[str]:
    a, b = ([_cut(_text(item), "") for item in items] for items in (expected, found))
    lines = [line for line in difflib.ndiff(a, b) if not line.startswith("?")]
    return ["(- expected, + found)", *lines] if lines else ["expected  []", "found     []"]
