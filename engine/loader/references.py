"""What an expression refers to and calls, read off its syntax tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from jinja2 import nodes

from engine.errors import did_you_mean
from engine.expressions import KEPT_FILTERS, KEPT_TESTS, LAZY, ExpressionError, Expressions, Function, dotted
from engine.model import Holds
from engine.types import JSON, key_of


@dataclass(frozen=True)
class Chain:
    """A dotted reference: root name and members as far as they are constant, with its offset in the expression."""

    root: str
    members: tuple[str | int, ...]
    offset: int


@dataclass
class References:
    """The references of one expression, and its calls of functions: name, number of arguments, offset."""

    source: str
    functions: Mapping[str, Function]
    chains: list[Chain] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)

    def visit(self, node: Any) -> None:
        """Notes what is in a tree. Raises ExpressionError for a function, filter or test that isn't there."""
        match node:
            case nodes.Name(name=name):
                if name != "null":
                    self._note(name, ())
            case nodes.Getattr() | nodes.Getitem():
                self._reference(node)
            case nodes.Call():
                self._call(node)
            case nodes.Filter(name=name):
                self._function(name, 1 + len(node.args), "filter", {*self.functions, *KEPT_FILTERS})
                if name in self.functions:
                    self._by_position(name, node)
                elif name in ("map", "selectattr", "rejectattr"):
                    self._named(node, 0 if name == "map" else 1)
                self._children(node)
            case nodes.Test(name=name):
                self._function(name, 1 + len(node.args), "test", {*self.pure, *KEPT_TESTS})
                self._children(node)
            case _:
                self._children(node)

    def _children(self, node: Any) -> None:
        for child in node.iter_child_nodes():
            self.visit(child)

    def _reference(self, node: Any) -> None:
        members: list[str | int] = []
        while isinstance(node, nodes.Getattr | nodes.Getitem):
            if isinstance(node, nodes.Getattr):
                members.append(node.attr)
            elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str | int):
                members.append(node.arg.value)
            else:
                members.clear()  # what follows a computed key can't be known
                self.visit(node.arg)
            node = node.node
        if isinstance(node, nodes.Name):
            self._note(node.name, tuple(reversed(members)))
        else:
            self.visit(node)

    def _call(self, node: nodes.Call) -> None:
        name = dotted(node.node)
        if name is None:
            raise ExpressionError("only functions can be called")
        self._function(name, len(node.args), "function", {*self.functions, *LAZY})
        self._by_position(name, node)
        for argument in node.args:
            self.visit(argument)

    def _by_position(self, name: str, node: Any) -> None:
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise ExpressionError(f"{name}() takes its arguments by position", offset=self._find(name))

    def _named(self, node: nodes.Filter, at: int) -> None:
        """The filter or test that map, selectattr or rejectattr names in a text, and its arguments."""
        named = node.args[at] if len(node.args) > at else None
        if isinstance(named, nodes.Const):
            what, kept = ("test", KEPT_TESTS) if at else ("filter", KEPT_FILTERS)
            self._function(str(named.value), len(node.args) - at, what, {*self.pure, *kept})

    @property
    def pure(self) -> set[str]:
        """The functions that can be named in a text."""
        return {name for name, function in self.functions.items() if not function.impure}

    def _function(self, name: str, given: int, what: str, known: set[str]) -> None:
        if name not in known:
            self._unknown(what, name, known)
        self.calls.append((name, given, self._find(name)))

    def _unknown(self, what: str, name: str, known: set[str]) -> None:
        hint = did_you_mean(name, known)
        raise ExpressionError(f"unknown {what} '{name}'", offset=self._find(name), code="UnknownFunction", hint=hint)

    def _find(self, name: str) -> int:
        found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", self.source)
        return found.start() if found else 0

    def _note(self, root: str, members: tuple[str | int, ...]) -> None:
        pattern = rf"(?<![\w.]){re.escape(root)}(?!\w)"
        if members and isinstance(members[0], str):
            pattern += rf"(?=\s*[.\[]\s*['\"]?{re.escape(members[0])})"
        found = re.search(pattern, self.source) or re.search(re.escape(root), self.source)
        self.chains.append(Chain(root, members, found.start() if found else 0))


def references(expressions: Expressions, source: str) -> References:
    """Raises ExpressionError with the offset of the fault."""
    found = References(source, expressions.functions)
    found.visit(expressions.parse(source))
    return found


def texts(value: JSON, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in a JSON value with its path; keys that hold expressions come with the path of their value."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            if "{{" in key:
                yield (*path, key), key
            yield from texts(child, (*path, key))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from texts(child, (*path, i))


@cache
def holding(kind: type) -> Mapping[str, str]:
    """Key → `expression` or `template`, for the fields of a model class that hold expressions."""
    out = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Holds):
                out[key_of(hint, name)] = mark.what
    return out
