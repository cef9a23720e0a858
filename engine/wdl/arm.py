"""Azure Resource Manager templates: the workflows in them, with the template's own expressions (`[…]`) worked out.

An expression has the grammar of the workflow language; of its functions `parameters`, `variables`, `concat`, `toLower`,
`toUpper`, `string`, `if` and `equals` are known. One that needs Azure itself stays as it is, and is named.
Source: Microsoft, "Syntax and expressions in ARM templates".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.types import JSON
from engine.wdl.syntax import Call, Expression, Literal, WdlError, expression


class _UnknownError(Exception):
    """An expression that can't be worked out without Azure."""


def workflows(template: Mapping[str, JSON]) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Name, properties and what couldn't be worked out, of each workflow in a template."""
    for resource in _resources(template):
        properties = resource.get("properties")
        kind = str(resource.get("type", "")).lower()
        if isinstance(properties, dict) and isinstance(properties.get("definition"), dict) and "workflows" in kind:
            scope = _Scope(template)
            name = scope.resolved(resource.get("name", ""))
            worked_out = scope.resolved(properties)
            yield ("" if str(name).startswith("[") else str(name)), worked_out, tuple(dict.fromkeys(scope.left))


def _resources(holder: Mapping[str, JSON]) -> Iterator[Mapping[str, JSON]]:
    found = holder.get("resources")
    for resource in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        if isinstance(resource, dict):
            yield resource
            yield from _resources(resource)
            inner = resource.get("properties")
            if isinstance(inner, dict) and isinstance(inner.get("template"), dict):
                yield from _resources(inner["template"])


class _Scope:
    """A template's parameters (by their defaults) and variables; `left` are the expressions that stay."""

    def __init__(self, template: Mapping[str, JSON]) -> None:
        self.parameters: Mapping[str, JSON] = template.get("parameters") or {}
        self.variables: Mapping[str, JSON] = template.get("variables") or {}
        self.left: list[str] = []
        self._depth = 0

    def resolved(self, value: JSON) -> JSON:
        if isinstance(value, dict):
            return {str(self.resolved(k)) if k.startswith("[") else k: self.resolved(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.resolved(v) for v in value]
        if not isinstance(value, str) or not value.startswith("["):
            return value
        if value.startswith("[["):
            return value[1:]
        if not re.fullmatch(
            r"\[\s*[A-Za-z_][\w.]*\s*\(.*\].*|\['.*'\]", value, re.DOTALL
        ) or not value.rstrip().endswith("]"):
            return value
        try:
            return self._value(expression(value.rstrip()[1:-1]))
        except (_UnknownError, WdlError):
            self.left.append(value)
            return value

    def _value(self, tree: Expression) -> JSON:
        if isinstance(tree, Literal):
            return tree.value
        self._depth += 1
        try:
            value = self._called(tree)
        finally:
            self._depth -= 1
        for member in tree.members:
            key = self._value(member.key)
            try:
                value = value[key]
            except (LookupError, TypeError):
                raise _UnknownError from None
        return value

    def _called(self, tree: Call) -> JSON:
        name = tree.name.lower()
        if self._depth > 30:
            raise _UnknownError
        if name in ("parameters", "variables"):
            return self._named(name, self._value(tree.arguments[0]) if tree.arguments else None)
        values = [self._value(argument) for argument in tree.arguments]
        match name, values:
            case "concat", [_, *_] if all(isinstance(v, str | int) for v in values):
                return "".join(map(str, values))
            case "tolower", [str(text)]:
                return text.lower()
            case "toupper", [str(text)]:
                return text.upper()
            case "string", [str() | int() as value]:
                return str(value)
            case "if", [bool(test), yes, no]:
                return yes if test else no
            case "equals", [one, other]:
                return bool(one == other)
        raise _UnknownError

    def _named(self, kind: str, name: JSON) -> JSON:
        held = self.parameters if kind == "parameters" else self.variables
        key = next((k for k in held if k.lower() == str(name).lower()), None)
        if key is None:
            raise _UnknownError
        found = held[key]
        if kind == "parameters":
            if not isinstance(found, dict) or "defaultValue" not in found or "secure" in str(found.get("type")).lower():
                raise _UnknownError
            found = found["defaultValue"]
        worked_out = self.resolved(found)
        if isinstance(worked_out, str) and worked_out in self.left:
            raise _UnknownError
        return worked_out
