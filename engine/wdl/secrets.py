"""Secrets and placeholders in a definition: each becomes a parameter, and its value is written nowhere.

A text counts as a secret by its name (`password`, `x-api-key` …), by where it stands (`?sig=…`, `Bearer …`), or because
the definition says so (SecureString). `<<…>>` is a blank that somebody was to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.types import JSON
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, Member, WdlError, parse

_NAMED = re.compile(
    r"(?i)(?:^|[^a-z])(?:pass(?:word|wd|phrase)?|pwd|pfx|secret|token|cookie|sas(?:token|uri|url)?|connectionstring"
    r"|(?:api|access|subscription|functions?|account|private|shared|signing|encryption)key)$"
)
_KEY = re.compile(r"(?i)key$")
_HEADER = re.compile(r"(?i)(?:^|[^a-z])(?:authorization|cookie|key|token|secret|password|signature)$")
_BLANK = re.compile(r"<<([^<>]{1,80})>>")
_LONE_BLANK = re.compile(r"<([A-Za-z][\w -]{2,60})>")
# In a text: what stands before a secret, the secret.
_INSIDE = (
    re.compile(
        r"(?i)((?:^|[?&;\s])(?:sig|api[-_]?key|subscription-key|access_token|token|client_secret|password|pwd)=)([^&\s;\"'@]+)"
    ),
    re.compile(r"(?i)((?:^|[?&])(?:code|key)=)([^&\s;\"'@]{16,})"),
    re.compile(r"(?i)(\b(?:AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd)=)([^;\"'\s@]+)"),
    re.compile(
        r'(?i)("(?:password|pwd|secret|client_secret|clientSecret|token|access_token|api_?key|key)"\s*:\s*")([^"@]+)'
    ),
    re.compile(r"(\b(?:Bearer|Basic)\s+)([A-Za-z0-9+/=._~-]{8,})"),
)
_LEFT_ALONE = frozenset({"schema", "runAfter", "metadata", "type", "kind", "operationOptions", "expression"})


@dataclass
class Secrets:
    """What was found: parameter → its declaration. `values` are the texts that must not be seen → their parameter."""

    parameters: dict[str, dict[str, JSON]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()  # names of parameters that there are already

    def cleaned(self, definition: Mapping[str, JSON]) -> dict[str, JSON]:
        """The definition with a reference to a parameter in place of each secret and blank."""
        out = dict(definition)
        for part in ("triggers", "actions", "outputs"):
            held = out.get(part)
            if isinstance(held, dict):
                out[part] = {name: self._walk(value, name, (name,)) for name, value in held.items()}
        return out

    def masked(self, text: str) -> str:
        """A text without the secrets, should one stand there too."""
        for value in sorted((v for v in self.values if len(v) >= 6), key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def hide(self, name: str, value: JSON) -> None:
        """Notes the value of a parameter that is secret by declaration."""
        if isinstance(value, str) and value:
            self.values.setdefault(value, name)

    def _walk(self, value: JSON, action: str, path: tuple[str, ...]) -> JSON:
        if isinstance(value, list):
            return [self._walk(item, action, path) for item in value]
        if isinstance(value, str):
            return self._text(value, action, path)
        if not isinstance(value, dict):
            return value
        name = value.get("name") if "value" in value and isinstance(value.get("name"), str) else None
        out: dict[str, Any] = {}
        for key, member in value.items():
            inner = action
            if path[-1:] == ("actions",):
                inner = key
            if key in _LEFT_ALONE and not (key == "expression" and isinstance(member, str)):
                out[key] = member
            elif (
                isinstance(member, str)
                and member
                and self._secret(name if key == "value" and name else key, member, path)
            ):
                called = name if key == "value" and name else f"{inner} {key}"
                out[key] = f"@parameters('{self._parameter(called, member)}')"
            else:
                out[key] = self._walk(member, inner, (*path, key))
        return out

    def _secret(self, key: str, text: str, path: tuple[str, ...]) -> bool:
        """Whether a fixed text is a secret by its name and place."""
        if not _fixed(text) or _BLANK.search(text):
            return False
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", key)
        joined = re.sub(r"[-_ ]", "", key)
        if _NAMED.search(plain) or _NAMED.search(f" {joined}"):
            return True
        if "headers" in path[-2:]:
            return bool(_HEADER.search(key))
        if "authentication" in path or "queries" in path[-2:]:
            return bool(_KEY.search(key)) or key.lower() in ("sig", "code")
        return key.lower() == "key" and len(text) >= 16 and bool(re.fullmatch(r"(?=.*\d)[\w+/=.~-]+", text))

    def _text(self, text: str, action: str, path: tuple[str, ...]) -> str:
        """A text with references in place of the blanks and secrets in it."""
        if lone := _LONE_BLANK.fullmatch(text):
            if re.search(r"[ _A-Z-]", lone[1]):
                return f"@parameters('{self._blank(lone[1])}')"
            return text
        if not any(p.search(text) for p in (_BLANK, *_INSIDE)):
            return text
        try:
            tree = parse(text)
        except WdlError:
            return text
        if isinstance(tree, Interpolation):
            parts: list[str | Expression] = []
            for part in tree.parts:
                parts += self._pieces(part, action) if isinstance(part, str) else [self._expression(part, action)]
            if len(parts) == 1 and not isinstance(parts[0], str) and isinstance(tree.parts[0], str):
                return f"@{parts[0]}"
            return str(Interpolation(tuple(parts)))
        return f"@{self._expression(tree, action)}"

    def _expression(self, tree: Expression, action: str) -> Expression:
        if isinstance(tree, Call):
            arguments = tuple(self._expression(a, action) for a in tree.arguments)
            members = tuple(Member(self._expression(m.key, action), m.safe, m.offset) for m in tree.members)
            return Call(tree.name, arguments, members, tree.offset)
        if not isinstance(tree.value, str):
            return tree
        pieces = self._pieces(tree.value, action)
        if all(isinstance(p, str) for p in pieces):
            return tree
        found = tuple(Literal(p) if isinstance(p, str) else p for p in pieces)
        return found[0] if len(found) == 1 else Call("concat", found)

    def _pieces(self, text: str, action: str) -> list[str | Expression]:
        """A literal text, cut where a blank or a secret stands."""
        found: list[tuple[int, int, str]] = [(m.start(), m.end(), self._blank(m[1])) for m in _BLANK.finditer(text)]
        for pattern in _INSIDE:
            for match in pattern.finditer(text):
                if not any(s < match.end(2) and match.start(2) < e for s, e, _ in found) and not _BLANK.search(
                    match[2]
                ):
                    word = re.search(r"[A-Za-z_-]+", match[1])
                    called = f"{action} {word[0] if word else 'secret'}"
                    found.append((match.start(2), match.end(2), self._parameter(called, match[2])))
        out: list[str | Expression] = []
        at = 0
        for start, end, name in sorted(found):
            out += [text[at:start]] if start > at else []
            out.append(Call("parameters", (Literal(name),)))
            at = end
        return [*out, *([text[at:]] if at < len(text) or not out else [])]

    def _parameter(self, called: str, value: str) -> str:
        """The parameter that stands for a secret; the same secret is the same parameter."""
        if value in self.values:
            return self.values[value]
        name, n = called, 1
        while name in self.parameters or name in self.taken:
            n += 1
            name = f"{called} {n}"
        self.values[value] = name
        self.parameters[name] = {"type": "SecureString"}
        return name

    def _blank(self, called: str) -> str:
        name = called.strip()
        kind = (
            "SecureString"
            if _NAMED.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)) or _KEY.search(name)
            else "String"
        )
        self.parameters.setdefault(name, {"type": kind, "blank": True})
        return name


def _fixed(text: str) -> bool:
    """Whether a text holds no expression."""
    try:
        tree = parse(text)
    except WdlError:
        return False
    return isinstance(tree, Interpolation) and all(isinstance(p, str) for p in tree.parts)
