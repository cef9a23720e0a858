"""What is known of the values of expressions: a shape is a JSON Schema, `{}` where anything may come.

Members that a shape can't have are reported, and so is a comparison that never holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from jinja2 import nodes

from engine.errors import did_you_mean
from engine.expressions import dotted
from engine.loader.references import constant_key
from engine.loader.syntax import member_at

Shape: TypeAlias = Mapping[str, Any]
Report: TypeAlias = Callable[..., None]  # (code, message, offset, severity=…, expected=…, found=…, hint=…)

ANY: Shape = {}
TEXT: Shape = {"type": "string"}
NUMBER: Shape = {"type": "number"}
WHOLE: Shape = {"type": "integer"}
BOOLEAN: Shape = {"type": "boolean"}
NULL: Shape = {"type": "null"}
_SAME = frozenset({"sort", "reverse", "take", "skip", "selectattr", "rejectattr"})  # they give what they get, or a part
_WORDS = {"string": "text", "number": "a number", "integer": "a number", "boolean": "true or false", "array": "a list",
          "object": "an object", "null": "null"}  # fmt: skip


class Names(Protocol):
    """What an expression may name."""

    def root(self, name: str, offset: int) -> Shape:
        """The shape of a name; one that isn't there is reported."""

    def step(self, name: str, offset: int, root: int) -> Shape:
        """The shape of a step's record; a step that can't be read here is reported."""

    def function(self, name: str) -> Shape:
        """The shape of what a function gives."""


def closed(members: Mapping[str, Shape], what: str = "member", of: str = "") -> Shape:
    """An object of these members and no others. `what` names one of them, `of` the object itself."""
    return {"type": "object", "properties": members, "additionalProperties": False, "x-what": what, "x-of": of}


def items(shape: Shape) -> Shape:
    """The shape of a list's items."""
    found = _plain(shape).get("items")
    return found if isinstance(found, Mapping) else ANY


def kinds(shape: Shape) -> frozenset[str] | None:
    """The types that a value may have, None where that isn't known."""
    if "anyOf" in shape:
        options = [kinds(option) for option in shape["anyOf"]]
        return frozenset().union(*(o for o in options if o)) if all(options) else None
    if "enum" in shape:
        names = {None: "null", bool: "boolean", int: "number", float: "number", str: "string"}
        return frozenset(names.get(type(v) if v is not None else None, "object") for v in shape["enum"])
    kind = shape.get("type")
    named = frozenset([kind] if isinstance(kind, str) else kind or ())
    return named if named and named <= _WORDS.keys() else None  # a word of its own is told of where it stands


def in_words(found: frozenset[str]) -> str:
    """Types in words."""
    return " or ".join(dict.fromkeys(_WORDS[k] for k in sorted(found - {"null"} or found)))


def choices(shape: Shape) -> list[str]:
    """The texts that a value may be, none where it may be any."""
    found = _plain(shape).get("enum", [])
    return list(found) if all(isinstance(v, str) for v in found) else []


def either(*shapes: Shape) -> Shape:
    """What may have any of several shapes."""
    different: list[Shape] = []
    for shape in shapes:
        if not shape:
            return ANY
        if shape not in different:
            different.append(shape)
    return different[0] if len(different) == 1 else {"anyOf": different}


def _plain(shape: Shape) -> Shape:
    """Without the null that a value may also be; nothing is known of what has several forms."""
    for _ in range(5):
        if "$ref" in shape or "allOf" in shape or "oneOf" in shape or "if" in shape:
            return ANY
        if "anyOf" not in shape:
            return shape
        options = [option for option in shape["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            return ANY
        shape = options[0]
    return ANY


class Shapes:
    """Works out the shape of one expression's tree."""

    def __init__(self, source: str, names: Names, report: Report) -> None:
        self.source = source
        self.names = names
        self.report = report

    def of(self, node: Any) -> Shape:
        match node:
            case nodes.Name(name=name):
                return NULL if name == "null" else self.names.root(name, node.lineno)
            case nodes.Getattr() | nodes.Getitem():
                return self._read(node)
            case nodes.Const(value=value):
                if isinstance(value, str):
                    return {"type": "string", "const": value}
                return NULL if value is None else BOOLEAN if isinstance(value, bool) else NUMBER
            case nodes.Compare():
                self._compare(node)
                return BOOLEAN
            case nodes.Not() | nodes.Test():
                self._all(node)
                return BOOLEAN
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                return either(self.of(left), self.of(right))
            case nodes.CondExpr(test=test, expr1=yes, expr2=no):
                self.of(test)
                return either(self.of(yes), self.of(no) if no is not None else NULL)
            case nodes.Concat():
                self._all(node)
                return TEXT
            case nodes.List(items=found) | nodes.Tuple(items=found):
                return {"type": "array", "items": either(*map(self.of, found)) if found else ANY}
            case nodes.Dict():
                self._all(node)
                return {"type": "object"}
            case nodes.Call():
                given = [self.of(argument) for argument in (*node.args, *(k.value for k in node.kwargs))]
                return self._result(dotted(node.node) or "", given[0] if given else ANY)
            case nodes.Filter(name=name):
                subject = self.of(node.node) if node.node is not None else ANY
                for argument in (*node.args, *(k.value for k in node.kwargs)):
                    self.of(argument)
                return self._mapped(node, subject) if name == "map" else self._result(name, subject)
            case nodes.Sub() | nodes.Mul() | nodes.Div() | nodes.FloorDiv() | nodes.Mod() | nodes.Neg() | nodes.Pos():
                self._all(node)
                return NUMBER
        self._all(node)
        return ANY

    def _all(self, node: Any) -> None:
        for child in node.iter_child_nodes():
            if isinstance(child, nodes.Operand):
                self.of(child.expr)
            elif isinstance(child, nodes.Pair):
                self.of(child.key)
                self.of(child.value)
            else:
                self.of(child)

    def _result(self, name: str, given: Shape) -> Shape:
        """What a function gives; of a few that hand on what they get, by that."""
        if name in ("first", "last"):
            return items(given)
        return given if name in _SAME else self.names.function(name)

    def _mapped(self, node: nodes.Filter, given: Shape) -> Shape:
        """`map(attribute='x')`: the member of each item."""
        named = next((k.value for k in node.kwargs if k.key == "attribute"), None)
        if isinstance(named, nodes.Const) and isinstance(named.value, str) and "." not in named.value:
            return {"type": "array", "items": self.member(items(given), named.value, named.lineno)}
        return {"type": "array"}

    def _read(self, node: Any) -> Shape:
        key, at = constant_key(node), member_at(self.source, node)
        if isinstance(node.node, nodes.Name) and node.node.name == "steps" and isinstance(key, str):
            return self.names.step(key, at, node.node.lineno)
        shape = self.of(node.node)
        if key is not None:
            return self.member(shape, key, at)
        if isinstance(node.arg, nodes.Slice):
            self._all(node.arg)
            return shape
        found = kinds(self.of(node.arg))
        return items(shape) if found and found <= {"number", "integer"} else ANY

    def member(self, shape: Shape, key: str | int, offset: int) -> Shape:
        """The shape of a member; one that can't be there is reported."""
        shape = _plain(shape)
        found = (kinds(shape) or frozenset()) - {"null"}
        if isinstance(key, int):
            return items(shape)
        if found and "object" not in found:
            hint = (
                f"take one item of the list, such as [0].{key}, or map(attribute='{key}')" if found == {"array"} else ""
            )
            message = f"'.{key}' needs an object, and this is {in_words(found)}"
            self.report("UnknownMember", message, offset, found=f"'{key}'", hint=hint)
            return ANY
        known: Mapping[str, Shape] = shape.get("properties", {})
        if key in known:
            return known[key]
        more = shape.get("additionalProperties")
        if isinstance(more, Mapping):
            return more
        hint = did_you_mean(key, set(known))
        if more is False or hint.startswith("did"):
            what, of = shape.get("x-what", "member"), shape.get("x-of") or ""
            message = f"{of} has no '{key}'" if of else f"unknown {what} '{key}'"
            if not known and what in ("parameter", "variable"):
                hint = f"declare it: `{what}s: {{{key}: …}}`"
            if "x-hint" in shape and not hint.startswith("did"):
                hint = shape["x-hint"].format(key)
            severity = "error" if more is False else "warning"
            self.report(f"Unknown{what.title()}", message, offset, found=f"'{key}'", hint=hint, severity=severity)
        return ANY

    def _compare(self, node: nodes.Compare) -> None:
        shapes = [self.of(node.expr), *(self.of(operand.expr) for operand in node.ops)]
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if len(node.ops) != 1 or node.ops[0].op not in ("eq", "ne"):
            return
        for shape, other, side in ((shapes[0], shapes[1], sides[1]), (shapes[1], shapes[0], sides[0])):
            allowed = choices(shape)
            if allowed and "const" in other and other["const"] not in allowed:
                near = next((c for c in allowed if c.lower() == other["const"].lower()), "")
                self.report(
                    "NeverEqual",
                    f"it is never '{other['const']}'",
                    side.lineno,
                    severity="warning",
                    expected="one of " + ", ".join(allowed),
                    found=f"'{other['const']}'",
                    hint=f"did you mean '{near}'?" if near else did_you_mean(other["const"], set(allowed)),
                )


def of_scalar(value: Any) -> Shape:
    """The shape of a value that is no object or list."""
    if value is None:
        return NULL
    return BOOLEAN if isinstance(value, bool) else NUMBER if isinstance(value, int | float) else TEXT
