"""JSONPath over JSON values. The library behind it is imported when the first path is looked up."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from engine.functions.declare import function, invalid
from engine.types import JSON


@lru_cache(maxsize=512)
def _parsed(path: str) -> Any:
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.ext.parser import parse

    try:
        return parse(path)
    except (JSONPathError, re.error, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise invalid(f"'{path[:100]}' is no JSONPath: {error}", "such as $.items[?(@.price > 10)].name") from error


def _found(path: str, data: JSON) -> list[JSON]:
    try:
        return [match.value for match in _parsed(path).find(data)]
    except (re.error, TypeError, ValueError, LookupError, AttributeError) as error:
        raise invalid(f"'{path[:100]}' doesn't fit the data: {error}") from error


@function("jsonpath")
def jsonpath(path: str, data: JSON) -> JSON:
    """All values at a JSONPath, in a list: none is an empty one, a single one a list of one.

    jsonpath('$[?(@.n > 1)].n', [{'n': 1}, {'n': 2}]) → [2]
    """
    return _found(path, data)


@function("jsonpath_one")
def jsonpath_one(path: str, data: JSON) -> JSON:
    """The first value at a JSONPath, null if there is none.

    jsonpath_one('$.a.b', {'a': {'b': 7}}) → 7
    """
    found = _found(path, data)
    return found[0] if found else None
