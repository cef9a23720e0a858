"""What an expression refers to and calls, read off its syntax tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from jinja2 import nodes

from engine.errors import did_you_mean
from engine.expressions import KEPT_FILTERS, KEPT_TESTS, LAZY, ExpressionError, Expressions, Function, dotted
from engine.loader.syntax import IN_PARTS, TOO_DEEP, member_at, parse
from engine.model import Holds
from engine.types import JSON, key_of

# Jinja's own filters: the least and the greatest number of arguments by position, and those by name.
FILTERS: Mapping[str, tuple[int, int, frozenset[str]]] = {
    "default": (0, 2, frozenset({"default_value", "boolean"})),
    "map": (0, 9, frozenset({"attribute", "default"})),
    "selectattr": (1, 9, frozenset()),
    "rejectattr": (1, 9, frozenset()),
    "tojson": (0, 1, frozenset({"indent"})),
}


@dataclass(frozen=True)
class Chain:
    """A dotted reference: root name and members as far as they are constant, with the offsets where they begin."""

    root: str
    members: tuple[str | int, ...]
    offset: int
    at: tuple[int, ...] = ()  # of the members


@dataclass
class References:
    """The references of one expression, its calls of functions (name, number of arguments, offset), and its faults."""

    source: str
    tree: nodes.Expr
    functions: Mapping[str, Function]
    chains: list[Chain] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    faults: list[ExpressionError] = field(default_factory=list)

    def visit(self, node: Any) -> None:
        """Notes what is in a tree."""
        match node:
            case nodes.Name(name=name):
                if name != "null":
                    self.chains.append(Chain(name, (), node.lineno))
            case nodes.Getattr() | nodes.Getitem():
                self._reference(node)
            case nodes.Call():
                self._call(node)
            case nodes.Filter():
                self._filter(node)
                self._children(node)
            case nodes.Test(name=name):
                offset = self.source.find(name, node.lineno)
                self._function(name, 1 + len(node.args), offset, "test", {*self.pure, *KEPT_TESTS})
                self._children(node)
            case nodes.CondExpr(expr2=None):
                self._fault(node.lineno, "`if` without `else`: what is it otherwise?", hint="add `else null`")
                self._children(node)
            case _:
                self._children(node)

    def _children(self, node: Any) -> None:
        for child in node.iter_child_nodes():
            self.visit(child)

    def _fault(self, offset: int, message: str, code: str = "Expression", hint: str = "") -> None:
        self.faults.append(ExpressionError(message, offset=max(0, offset), code=code, hint=hint))

    def _reference(self, node: Any) -> None:
        members: list[tuple[str | int, int]] = []
        while isinstance(node, nodes.Getattr | nodes.Getitem):
            key = constant_key(node)
            if key is not None:
                members.append((key, member_at(self.source, node)))
            elif isinstance(node, nodes.Getitem):
                members.clear()  # what follows a computed key can't be known
                self.visit(node.arg)
            node = node.node
        if isinstance(node, nodes.Name):
            members.reverse()
            self.chains.append(
                Chain(node.name, tuple(m for m, _ in members), node.lineno, tuple(at for _, at in members))
            )
        else:
            self.visit(node)

    def _call(self, node: nodes.Call) -> None:
        name = dotted(node.node)
        if name is None:
            at = member_at(self.source, node.node) if isinstance(node.node, nodes.Getattr) else node.lineno
            near = did_you_mean(node.node.attr, set(self.functions)) if isinstance(node.node, nodes.Getattr) else ""
            hint = near.partition("known")[0] or "a value has no methods: a function takes it, such as length(x)"
            self._fault(at, "only functions can be called", hint=hint)
        else:
            offset = node.node.lineno if isinstance(node.node, nodes.Name) else node.node.node.lineno  # type: ignore[attr-defined]
            if node.kwargs or node.dyn_args or node.dyn_kwargs:
                self._fault(offset, f"{name}() takes its arguments by position", hint="leave the names out")
            else:
                self._function(name, len(node.args), offset, "function", {*self.functions, *LAZY})
        for argument in (*node.args, *(k.value for k in node.kwargs)):
            self.visit(argument)

    def _filter(self, node: nodes.Filter) -> None:
        name, args, keywords = node.name, node.args, {str(k.key) for k in node.kwargs}
        if name not in KEPT_FILTERS or name not in FILTERS:
            self._function(name, 1 + len(args), node.lineno, "filter", {*self.functions, *KEPT_FILTERS})
            if keywords and name in self.functions:
                self._fault(node.lineno, f"{name} takes its arguments by position", hint="leave the names out")
            return
        least, most, known = FILTERS[name]
        if unknown := sorted(keywords - known):
            hint = did_you_mean(unknown[0], known) or "leave the name out"
            self._fault(node.lineno, f"{name} has no argument '{unknown[0]}'", "Arguments", hint)
        elif not least <= len(args) + (len(keywords) if known else 0) <= most or (
            name == "map" and not args and not keywords
        ):
            self._fault(node.lineno, f"{name} takes {least or 1} to {most} arguments, given {len(args)}", "Arguments")
        at, what, kept = (1, "test", KEPT_TESTS) if name.endswith("attr") else (0, "filter", KEPT_FILTERS)
        named = args[at] if name not in ("default", "tojson") and len(args) > at else None
        if isinstance(named, nodes.Const):  # the function by which each item is judged, or mapped
            self._function(str(named.value), len(args) - at, named.lineno, what, {*self.pure, *kept})

    @property
    def pure(self) -> set[str]:
        """The functions that can be named in a text."""
        return {name for name, function in self.functions.items() if not function.impure}

    def _function(self, name: str, given: int, offset: int, what: str, known: set[str]) -> None:
        if name in known:
            self.calls.append((name, given, offset))
        else:
            self._fault(offset, f"unknown {what} '{name}'", "UnknownFunction", did_you_mean(name, known))


def constant_key(node: Any) -> str | int | None:
    """The member that a Getattr or Getitem reads, None if it is computed."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str | int):
        return node.arg.value
    return None


def references(expressions: Expressions, source: str) -> References:
    """Raises ExpressionError with the offset of the fault where there is no tree to read."""
    tree = parse(expressions, source)
    found = References(source, tree, expressions.functions)
    try:
        found.visit(tree)
    except RecursionError as error:
        raise ExpressionError(TOO_DEEP, hint=IN_PARTS) from error
    return found


def texts(value: JSON, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in a JSON value with its path; keys that hold expressions come with the path of their value."""
    return ((at, text) for at, text, _ in pieces(value, path))


def pieces(value: JSON, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str, bool]]:
    """Every text in a JSON value with its path, and whether it is the key there."""
    if isinstance(value, str):
        yield path, value, False
    elif isinstance(value, dict):
        for key, child in value.items():
            if "{{" in key:
                yield (*path, key), key, True
            yield from pieces(child, (*path, key))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from pieces(child, (*path, i))


@cache
def holding(kind: type) -> Mapping[str, str]:
    """Key → `expression` or `template`, for the fields of a model class that hold expressions."""
    out = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Holds):
                out[key_of(hint, name)] = mark.what
    return out
