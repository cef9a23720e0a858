"""What a schema asks for, and what somebody may have meant, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from engine import model
from engine.types import JSON

NAME_WORDS = "a-z, 0-9 and _, beginning with a letter"
TEMPLATE = r"\{\{"  # the pattern of the choice "or a text that holds an expression"
# What other languages of this kind call our keys.
ELSEWHERE = {
    "actions": "steps", "inputs": "with", "condition": "if", "expression": "if", "depends_on": "run_after",
    "needs": "run_after", "parallel": "concurrency", "repetitions": "concurrency", "loop": "foreach", "uses": "call",
    "name": "title", "description": "note", "cron": "schedule", "env": "parameters", "retries": "retry",
}  # fmt: skip


def is_of(kind: str, value: JSON) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)


def nearest(key: str, known: Any) -> str:
    """The known key that a misspelt one stands for, if one is near: letter case and dashes aside."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])|[- ]", "_", key).lower()
    found = [plain] if plain in known else get_close_matches(key, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def as_name(text: str) -> str:
    """A name that a text could become."""
    return f"such as {snake(text)}" if re.fullmatch(model.NAME, snake(text)) else ""


def snake(text: str) -> str:
    """A text in the letters of names: getToken → get_token."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text.strip())).strip("_").lower()


def rewritten(words: str, value: JSON) -> str:
    """How a value is written that is right but for its type."""
    wanted = set(re.split(r"[ ,]+", words))
    if "duration" in wanted and isinstance(value, int | float) and not isinstance(value, bool):
        return f"with its unit: {value}s"
    if isinstance(value, bool | int | float) and "string" in wanted and "," not in words:
        return f'in quotes it is text: "{str(value).lower()}"'
    if isinstance(value, str) and wanted & {"integer", "number"} and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"without quotes it is a number: {value}"
    if isinstance(value, str) and "array" in wanted and value:
        return f"as a list: [{value}]"
    if isinstance(value, list) and "object" in wanted:
        return "entries stand under their names, without '-': `NAME: …`"
    if isinstance(value, str) and "boolean" in wanted and value.lower() in ("yes", "on", "true", "no", "off", "false"):
        return f"write {'true' if value.lower() in ('yes', 'on', 'true') else 'false'}, without quotes"
    return ""


def in_words(schema: Mapping[str, Any]) -> str:
    """What a schema asks for, in words."""
    options = [o for o in schema.get("anyOf", [schema]) if o.get("pattern") != TEMPLATE]
    words: list[str] = []
    for option in options:
        kind = option.get("type")
        if "x-words" in option:
            words.append(f"{kind}, {option['x-words']}")
        elif "enum" in option:
            words.append("one of " + ", ".join(map(str, option["enum"])))
        elif "anyOf" in option:
            words.append(in_words(option))
        else:
            words += [kind] if isinstance(kind, str) else kind or ["a value"]
    return " or ".join(dict.fromkeys(words))


def keys_in(value: JSON) -> Iterator[str]:
    """Every key in a value, however deep."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from keys_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from keys_in(item)
