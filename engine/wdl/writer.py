"""A flow document as YAML that a person would write: short things on one line, quotes where they are needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from engine.types import JSON

WIDTH = 118
LISTS = frozenset({"steps", "then", "else", "default"})  # keys whose members are steps
_BEGIN = r"[^\s\-?:,\[\]{}#&*!|>'\"%@`]"
_REST = r"(?:[^:#{0}\n]|:(?=\S)|(?<=\S)#)*"
_PLAIN = re.compile(_BEGIN + _REST.format(""))
_PLAIN_INSIDE = re.compile(_BEGIN + _REST.format(r",\[\]{}"))  # between brackets of other things


def written(flow: JSON, heading: str = "") -> str:
    """The document's text; `heading` stands before it as a comment."""
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    if lines:
        lines.append("")
    for i, (key, value) in enumerate(flow.items()):
        if i and isinstance(value, dict | list):
            lines.append("")
        lines += _member(key, value, 0, steps=key == "steps", document=True)
    return "\n".join(lines) + "\n"


def _member(key: str, value: JSON, indent: int, *, steps: bool, document: bool = False) -> Iterator[str]:
    """The lines of one key and its value. `steps`: the value's members are steps."""
    start = f"{' ' * indent}{scalar(key)}:"
    if isinstance(value, str) and (block := _block(value, indent + 2)):
        yield f"{start} {block[0]}"
        yield from block[1:]
        return
    inline = _inline(value) if isinstance(value, dict | list) else scalar(value)
    whole = document and key in ("steps", "triggers", "parameters", "variables", "connections", "outputs")
    if (
        not isinstance(value, dict | list)
        or not value
        or (not steps and not whole and len(start) + 1 + len(inline) <= WIDTH and _short(value))
    ):
        yield f"{start} {inline}".rstrip()
        return
    yield start
    if isinstance(value, list):
        yield from _items(value, indent + 2)
        return
    for i, (name, member) in enumerate(value.items()):
        if i and steps and document:
            yield ""
        if (steps or whole) and isinstance(member, dict) and key != "parameters":
            yield from _step(name, member, indent + 2, steps=steps)
        else:
            yield from _member(name, member, indent + 2, steps=False)


def _step(name: str, step: dict[str, Any], indent: int, *, steps: bool) -> Iterator[str]:
    """A step, or a trigger: one line for each of its keys."""
    if not step or (not steps and set(step) <= {"type"}):
        yield from _member(name, step, indent, steps=False)
        return
    yield f"{' ' * indent}{scalar(name)}:"
    for key, value in step.items():
        if steps and key == "cases" and isinstance(value, dict):
            yield f"{' ' * (indent + 2)}cases:"
            for case, inner in value.items():
                yield from _member(case, inner, indent + 4, steps=True)
        else:
            yield from _member(key, value, indent + 2, steps=steps and key in LISTS and isinstance(value, dict))


def _items(items: list[Any], indent: int) -> Iterator[str]:
    for item in items:
        inline = _inline(item) if isinstance(item, dict | list) else scalar(item)
        if not isinstance(item, dict | list) or not item or indent + 2 + len(inline) <= WIDTH:
            yield f"{' ' * indent}- {inline}"
            continue
        if isinstance(item, list):
            inner = list(_items(item, indent + 2))
        else:
            inner = [line for key, value in item.items() for line in _member(key, value, indent + 2, steps=False)]
        yield f"{' ' * indent}- {inner[0].lstrip()}"
        yield from inner[1:]


def _short(value: JSON) -> bool:
    """Whether something reads well on one line: no text of several lines in it, not too many things."""
    texts = [value]
    count = 0
    while texts:
        found = texts.pop()
        count += 1
        if isinstance(found, dict):
            texts += found.values()
        elif isinstance(found, list):
            texts += found
        elif isinstance(found, str) and "\n" in found:
            return False
    return count <= 24


def _inline(value: JSON) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k, inside=True)}: {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return scalar(value, inside=True)


def scalar(value: JSON, *, inside: bool = False) -> str:
    """A value on one line, maybe inside of brackets; text is quoted only where it would be read as something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = (_PLAIN_INSIDE if inside else _PLAIN).fullmatch(value) and "{{" not in value
    if plain and value == value.strip() and _is_text(value) and value.isprintable():
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    special = r"[^\x20-\U0010ffff]|[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
    return re.sub(special, lambda f: f"\\u{ord(f[0]):04x}", quoted)


def _is_text(value: str) -> bool:
    """Whether YAML, of any version, reads it as text."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(value[0], [])
    return not any(pattern.match(value) for _, pattern in resolvers) and not re.fullmatch(
        r"(?!\d+[a-z]+(\d+[a-z]+)*$)[-+.\d].*", value
    )


def _block(text: str, indent: int) -> list[str]:
    """A text of several lines as a block, nothing for one that can't be."""
    lines = text.split("\n")
    body = lines[:-1] if text.endswith("\n") else lines
    fit = len(body) > 1 and not any(line != line.rstrip() or not line.isprintable() for line in body)
    if not fit or body[0].startswith(" ") or not body[0] or not body[-1]:
        return []
    return ["|" if text.endswith("\n") else "|-", *(f"{' ' * indent}{line}" if line else "" for line in body)]
