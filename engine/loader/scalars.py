"""Where the characters of a YAML scalar's value stand in the text: a column inside a quoted, folded or block text."""

from __future__ import annotations

import re

PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*")  # anchors and tags before a value
_FOLD = re.compile(r"[ \t]*\n[ \t\n]*")
_ESCAPED_FOLD = re.compile(r"\\\n[ \t]*")
_HEX = {"x": 4, "u": 6, "U": 10}


def offsets(text: str, start: int, end: int, value: str) -> list[int]:
    """The offset in `text` of each character of `value`, which is written from `start` to `end`, and of its end."""
    found = PROPERTIES.match(text, start, end)
    at = found.end() if found else start
    style = text[at : at + 1]
    if style in ("|", ">") and (header := text.find("\n", at, end)) >= 0:
        return _block(text, header + 1, end, value)
    return _flow(text, at + (style in ("'", '"')), value, style)


def _flow(text: str, at: int, value: str, style: str) -> list[int]:
    """Plain and quoted texts: a line break with the blanks around it is one space, or as many breaks less one."""
    out: list[int] = []
    while len(out) < len(value):
        if style == '"' and (escaped := _ESCAPED_FOLD.match(text, at)):
            at = escaped.end()
        elif folded := _FOLD.match(text, at):
            breaks = folded.group().count("\n")
            out += [at] * (1 if breaks == 1 else breaks - 1)
            at = folded.end()
        else:
            out.append(at)
            if style == '"' and text.startswith("\\", at):
                at += _HEX.get(text[at + 1 : at + 2], 2)
            else:
                at += 2 if style == "'" and text.startswith("''", at) else 1
    return [*out[: len(value)], at]


def _block(text: str, at: int, end: int, value: str) -> list[int]:
    """Block texts: each line without its indentation stands in the value; what lies between is line breaks."""
    out: list[int] = []
    indent = -1
    for line in text[at:end].split("\n"):
        if line.strip():
            if indent < 0:
                first = value.lstrip("\n")
                indent = (len(line) - len(line.lstrip(" "))) - (len(first) - len(first.lstrip(" ")))
            piece = line[indent:]
            found = value.find(piece, len(out))
            if found >= 0:
                out += [at + indent] * (found - len(out))
                out += range(at + indent, at + indent + len(piece))
        at += len(line) + 1
    return [*out, *[min(at, end)] * (len(value) + 1 - len(out))]
