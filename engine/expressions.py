"""Expressions: Jinja2 in its sandbox, only `{{ … }}`, over JSON values.

A dot reads a key of an object, never a Python attribute; a missing member is null. A value that is exactly one
`{{ … }}` keeps its JSON type; in a longer text null prints as nothing, booleans as true/false, objects as JSON.
Functions are injected, so this module knows none by name but the lazy ones (`if`, `and`, `or`, `coalesce`).
"""

from __future__ import annotations

import json
import math
import random
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache, reduce
from types import GeneratorType
from typing import Any, TypeAlias

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS

from engine.errors import DataError
from engine.types import JSON, UNKNOWN, NotKnownError, type_name

MAX_TEXT = 100 * 1024 * 1024  # characters that an expression may produce
LAZY = frozenset({"if", "and", "or", "coalesce"})
KEPT_FILTERS = ("default", "map", "selectattr", "rejectattr", "tojson")
COMPARISONS = {
    **dict.fromkeys(("eq", "ne"), "equals"),
    **dict.fromkeys(("in", "notin"), "contains"),
    **{"gt": "greater", "gteq": "greaterOrEquals", "lt": "less", "lteq": "lessOrEquals"},
}
KEPT_TESTS = ("boolean", "defined", "even", "in", "mapping", "none", "number", "odd", "sequence", "string", "undefined")


class ExpressionError(DataError):
    """An expression that can't be parsed or evaluated. `offset` counts characters from the start of the expression."""

    def __init__(self, message: str, *, offset: int = 0, code: str = "Expression", hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.offset = offset


@dataclass(frozen=True)
class Function:
    """A function of the language. `signature` is for people; `impure` functions get an Ambient first."""

    name: str
    call: Callable[..., JSON]
    least: int = 0
    most: int | None = None  # None: any number of arguments
    impure: bool = False
    signature: str = ""
    doc: str = ""


@dataclass
class Ambient:
    """Where impure functions get time and chance from: handed in, so that a replay sees the same."""

    now: datetime
    seed: str

    @cached_property
    def random(self) -> random.Random:
        return random.Random(self.seed)  # noqa: S311 - reproducible on purpose; ids, not secrets

    def guid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


def to_text(value: JSON) -> str:
    """How a value prints inside a longer text."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e16:
            return str(int(value))
        case int() | float():
            return str(value).upper()  # 1E-05
    return to_json(value)


def to_json(value: JSON) -> str:
    """A value as JSON text."""
    return json.dumps(_listed(value), ensure_ascii=False, separators=(",", ":"), default=bool)  # of UNKNOWN: raises


def _listed(value: Any) -> JSON:
    if isinstance(value, Mapping):
        return {k: _listed(v) for k, v in value.items()}
    if isinstance(value, str | int | float) or value is None or value is UNKNOWN:
        return value
    return [_listed(v) for v in value]


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if obj is None or obj is UNKNOWN:
            return obj
        if type(obj) is dict or isinstance(obj, Mapping):
            return obj.get(attribute)
        raise TemplateRuntimeError(f"'.{attribute}' needs an object, found {type_name(obj)}")

    def getitem(self, obj: Any, argument: Any) -> Any:
        if obj is None or obj is UNKNOWN:
            return obj
        if argument is UNKNOWN:
            return UNKNOWN
        if isinstance(obj, Mapping):
            return obj.get(argument)
        if isinstance(obj, list | str) and isinstance(argument, int | slice) and not isinstance(argument, bool):
            try:
                return obj[argument]
            except IndexError:
                return None
        raise TemplateRuntimeError(f"[{argument!r}] does not fit {type_name(obj)}")

    def is_safe_callable(self, obj: Any) -> bool:
        return isinstance(obj, _Bound)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        if operator == "**" and (abs(left) > 1e6 or abs(right) > 100):
            raise TemplateRuntimeError("the power is too large")
        if operator in "*%" and (isinstance(left, str | list) or isinstance(right, str | list)):
            raise TemplateRuntimeError(f"'{operator}' takes numbers only")
        if operator == "+" and isinstance(left, str) != isinstance(right, str):
            raise TemplateRuntimeError(f"'+' can't join {type_name(left)} and {type_name(right)}: use '~' for text")
        return super().call_binop(context, operator, left, right)


class _Bound:
    """The only thing that an expression can call."""

    __slots__ = ("ambient", "function")

    def __init__(self, function: Function, ambient: Ambient | None = None) -> None:
        self.function = function
        self.ambient = ambient

    def __call__(self, *args: Any) -> JSON:
        f = self.function
        if len(args) < f.least or (f.most is not None and len(args) > f.most):
            raise TemplateRuntimeError(arity_message(f, len(args)))
        for a in args:
            if a is UNKNOWN:
                return UNKNOWN
            if isinstance(a, StrictUndefined):
                str(a)  # raises UndefinedError in its own words
        values = [list(a) if isinstance(a, GeneratorType) else a for a in args]
        return f.call(self.ambient, *values) if f.impure else f.call(*values)


class _Test(_Bound):
    """A function as a test: `selectattr('age', 'greater', 7)`, `x is empty`."""

    __slots__ = ()

    def __call__(self, *args: Any) -> JSON:
        found = super().__call__(*args)
        if found is UNKNOWN or isinstance(found, bool):
            return found
        raise TemplateRuntimeError(f"{self.function.name}() is no test: it gives {type_name(found)}, not true or false")


def arity_message(function: Function, given: int) -> str:
    """The sentence for a call with too few or too many arguments."""
    least, most = function.least, function.most
    wanted = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
    return f"{function.name}() takes {wanted} argument{'s' * (wanted != '1')}, given {given}"


@dataclass(frozen=True)
class Segment:
    """A piece of a text: literal, or the source of an expression with its offset in the text."""

    text: str
    offset: int
    expression: bool


@lru_cache(maxsize=4096)
def segments(text: str) -> tuple[Segment, ...]:
    """Splits at `{{ … }}`; quotes inside an expression may hold braces. Raises ExpressionError if one isn't closed."""
    out, at = [], 0
    while (start := text.find("{{", at)) >= 0:
        end = _end_of_expression(text, start + 2)
        if start > at:
            out.append(Segment(text[at:start], at, False))
        out.append(Segment(text[start + 2 : end], start + 2, True))
        at = end + 2
    if at < len(text):
        out.append(Segment(text[at:], at, False))
    return tuple(out)


_BRACES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\}\}|[{}]""", re.S)


def _end_of_expression(text: str, start: int) -> int:
    depth = 0
    for match in _BRACES.finditer(text, start):
        found = match.group()
        if found == "{":
            depth += 1
        elif found == "}":
            depth -= 1
        elif found == "}}":
            if depth <= 0:
                return match.start()
            depth -= 2
            if depth < 0:
                return match.start() + 1
    raise ExpressionError(
        "'{{' without '}}'", offset=start - 2, hint="close it, or write {{ '{{' }} for the characters"
    )


def bare(text: str) -> str:
    """The expression in a key that always is one: braced or not."""
    parts = segments(text)
    return parts[0].text if len(parts) == 1 and parts[0].expression else text


Scope: TypeAlias = Mapping[str, Any]
Compiled: TypeAlias = Callable[[Scope, Ambient], Any]


class Expressions:
    """The expressions of one document: parsed and compiled once. `functions` by name; dotted names are connectors'."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.functions = functions
        self.environment = _Environment(undefined=StrictUndefined, autoescape=False)
        self.environment.globals = {}
        self.environment.filters = {name: FILTERS[name] for name in KEPT_FILTERS}
        self.environment.filters["tojson"] = to_json  # Jinja's own is for web pages: it escapes < and &
        pure = {n: f for n, f in functions.items() if not f.impure}
        self.environment.filters |= {n: _Bound(f) for n, f in pure.items()}  # for map('name')
        tests: dict[str, Any] = {n: _Test(f) for n, f in pure.items()}  # for selectattr('member', 'name', …)
        self.environment.tests = tests | {name: TESTS[name] for name in KEPT_TESTS}
        self._names = {name: f"_f{i}" for i, name in enumerate(functions)}
        self._used = {self._names[name]: function for name, function in functions.items()}
        self._compiled: dict[str, Compiled] = {}

    def parse(self, source: str) -> nodes.Expr:
        """The syntax tree of one expression. Raises ExpressionError with the offset of the fault."""
        try:
            parser = Parser(self.environment, "{{ " + source + " }}")  # {{- would be a sign of Jinja's
            next(parser.stream)
            tree: nodes.Expr = parser.parse_expression()
        except TemplateSyntaxError as error:
            message = (error.message or "").replace("end of print statement", "end of the expression").removesuffix(".")
            quoted = re.search(r"'([^']+)'", message)
            raise ExpressionError(message, offset=max(0, source.find(quoted[1])) if quoted else 0) from error
        except RecursionError as error:
            raise ExpressionError("too deeply nested") from error
        if parser.stream.current.type != "variable_end":
            unexpected = str(parser.stream.current.value)
            raise ExpressionError(f"unexpected '{unexpected}'", offset=max(0, source.find(unexpected)))
        return tree

    def evaluate(self, source: str, scope: Scope, ambient: Ambient) -> JSON:
        """The value of one expression. Raises ExpressionError, or the DataError of a function."""
        found = self._compiled.get(source) or self._compile(source)
        try:
            return self._json(found(scope, ambient), source)
        except ExpressionError:
            raise
        except UndefinedError as error:
            raise ExpressionError(f"{source.strip()}: {error.message}", code="Undefined") from error
        except (TemplateRuntimeError, SecurityError) as error:
            raise ExpressionError(f"{source.strip()}: {error.message}") from error
        except DataError as error:
            raise ExpressionError(f"{source.strip()}: {error.message}", code=error.code, hint=error.hint) from error
        except (TypeError, ValueError, ArithmeticError, RecursionError, LookupError, AttributeError) as error:
            raise ExpressionError(f"{source.strip()}: {error}") from error

    def _compile(self, source: str) -> Compiled:
        tree = self.parse(source)
        chain = _chain(tree)
        self._compiled[source] = compiled = self._member(*chain) if chain else self._template(source, tree)
        return compiled

    def _member(self, root: str, members: list[str]) -> Compiled:
        """A plain dotted reference, as most expressions are: followed directly."""
        follow = self.environment.getattr

        def member(scope: Scope, _: Ambient) -> Any:
            if root not in scope:
                raise ExpressionError(f"'{root}' is undefined", code="Undefined")
            value = scope[root]
            for name in members:
                value = follow(value, name)
            return value

        return member

    def _template(self, source: str, tree: nodes.Expr) -> Compiled:
        try:
            tree = _rewrite(tree, self._names)
            names = [n.name for n in [*tree.find_all(nodes.Name), tree] if isinstance(n, nodes.Name)]
            assign = nodes.Assign(nodes.Name("result", "store"), tree, lineno=1)
            template = self.environment.from_string(nodes.Template([assign], lineno=1))
        except TemplateSyntaxError as error:  # a filter or test that isn't there
            raise ExpressionError(f"{source.strip()}: {error.message}", code="UnknownFunction") from error
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"{source.strip()[:80]}: too deeply nested") from error
        used = {n: self._used[n] for n in names if n in self._used}
        pure, impure = ({n: f for n, f in used.items() if f.impure is which} for which in (False, True))
        bound: dict[str, Any] = {n: _Bound(f) for n, f in pure.items()}

        def run(scope: Scope, ambient: Ambient) -> Any:
            values = bound | {n: scope[n] for n in names if n in scope}
            if impure:
                values |= {n: _Bound(f, ambient) for n, f in impure.items()}
            context = template.new_context(values, shared=True)  # ours alone: no copy
            for _ in template.root_render_func(context):
                pass
            return context.vars["result"]

        return run

    def _json(self, value: Any, source: str) -> JSON:
        if value is None or value is UNKNOWN or isinstance(value, str | bool | int | list | dict):
            return value
        if isinstance(value, float):
            if math.isfinite(value):
                return value
            raise ExpressionError(f"{source.strip()}: the result is no finite number")
        if isinstance(value, StrictUndefined | _Bound):
            raise ExpressionError(f"{source.strip()}: is no value", code="Undefined")
        return _listed(value)

    def text(self, text: str, scope: Scope, ambient: Ambient) -> JSON:
        """Renders a text that may hold expressions; a lone expression keeps its type."""
        if "{{" not in text:
            return text
        parts = segments(text)
        if len(parts) == 1:
            return self.evaluate(parts[0].text, scope, ambient)
        try:
            out = "".join(to_text(self.evaluate(p.text, scope, ambient)) if p.expression else p.text for p in parts)
        except NotKnownError:
            return UNKNOWN
        if len(out) > MAX_TEXT:
            raise ExpressionError(f"the text is longer than {MAX_TEXT} characters")
        return out

    def render(self, value: JSON, scope: Scope, ambient: Ambient) -> JSON:
        """Renders every text in a JSON value, keys too."""
        if isinstance(value, str):
            return self.text(value, scope, ambient)
        if isinstance(value, dict):
            return {
                to_text(self.text(k, scope, ambient)) if "{{" in k else k: self.render(v, scope, ambient)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [self.render(v, scope, ambient) for v in value]
        return value

    def condition(self, source: str | bool | None, scope: Scope, ambient: Ambient) -> bool:
        """A condition: boolean, or null which counts as false."""
        if source is None or isinstance(source, bool):
            return bool(source)
        value = self.evaluate(bare(source), scope, ambient)
        if value is None or isinstance(value, bool) or value is UNKNOWN:
            return bool(value)
        raise ExpressionError(
            f"{bare(source).strip()}: a condition has to be true or false, found {type_name(value)}",
            code="NoCondition",
            hint="compare it, such as `… != null`, `… > 0` or `not empty(…)`",
        )


def _chain(tree: nodes.Expr) -> tuple[str, list[str]] | None:
    """Root and members of `a.b.c`, None for any other expression."""
    members: list[str] = []
    while isinstance(tree, nodes.Getattr):
        members.insert(0, tree.attr)
        tree = tree.node
    return (tree.name, members) if isinstance(tree, nodes.Name) and tree.name != "null" else None


def _rewrite(node: Any, names: Mapping[str, str]) -> Any:
    """A tree for evaluation: lazy functions as conditions, functions under their safe names, operators as the
    functions of the same meaning, so that 1 == true is false and `and` takes nothing but true and false."""
    for attribute, child in node.iter_fields():
        if isinstance(child, nodes.Node):
            setattr(node, attribute, _rewrite(child, names))
        elif isinstance(child, list):
            setattr(node, attribute, [_rewrite(c, names) if isinstance(c, nodes.Node) else c for c in child])
    match node:
        case nodes.Name(name="null"):
            return nodes.Const(None)
        case nodes.Call(args=arguments):
            return _function(dotted(node.node), node, arguments, names)
        case nodes.Filter(name=name) if name in names:
            if node.kwargs or node.dyn_args or node.dyn_kwargs:
                raise ExpressionError(f"{name} takes its arguments by position")
            return _apply(names[name], [node.node, *node.args])
        case nodes.Compare(expr=left, ops=operands) if "equals" in names:
            return _compared(left, operands, names)
        case nodes.And(left=left, right=right) if "and" in names:
            return _joined("and", [left, right], names)
        case nodes.Or(left=left, right=right) if "or" in names:
            return _joined("or", [left, right], names)
        case nodes.Not(node=operand) if "not" in names:
            return _apply(names["not"], [operand])
        case nodes.CondExpr(test=test, expr1=yes, expr2=no) if "if" in names:
            return _function("if", node, [test, yes, nodes.Const(None) if no is None else no], names)
        case nodes.Concat(nodes=parts) if "concat" in names:
            return _apply(names["concat"], parts)
    return node


def _compared(left: Any, operands: list[nodes.Operand], names: Mapping[str, str]) -> Any:
    """`a < b < c` as less(a, b) and less(b, c)."""
    parts: list[nodes.Expr] = []
    for operand in operands:
        right = operand.expr
        pair = [right, left] if operand.op in ("in", "notin") else [left, right]
        found = _apply(names[COMPARISONS[operand.op]], pair)
        parts.append(nodes.Not(found) if operand.op in ("ne", "notin") else found)
        left = right
    return reduce(nodes.And, parts)


def _joined(name: str, operands: list[Any], names: Mapping[str, str]) -> Any:
    """`and`, `or`: no operand is looked at before it is needed, and then the function itself says what it may be."""
    neutral = nodes.Const(name == "and")
    checked: list[nodes.Expr] = [
        _apply(names[name], [*[neutral] * i, operand, *[neutral] * (i == 0)]) for i, operand in enumerate(operands)
    ]
    return reduce(nodes.And if name == "and" else nodes.Or, checked)


def _function(name: str | None, node: Any, arguments: list[Any], names: Mapping[str, str]) -> Any:
    match name:
        case "if" if len(arguments) == 3 and name in names:
            test, yes, no = arguments
            return nodes.CondExpr(_apply(names[name], [test, nodes.Const(True), nodes.Const(False)]), yes, no)
        case "and" | "or" if len(arguments) >= 2 and name in names:
            return _joined(name, arguments, names)
        case "coalesce" if arguments:
            # One in another is one with more arguments: each is looked at twice, and so it would double at each level.
            parts = [part for argument in arguments for part in getattr(argument, "coalesced", [argument])]
            out = parts[-1]
            for part in reversed(parts[:-1]):
                out = nodes.CondExpr(nodes.Test(part, "none", [], [], None, None), out, part)
            out.coalesced = parts
            return out
    if name is not None and name in names and not (node.kwargs or node.dyn_args or node.dyn_kwargs):
        return _apply(names[name], arguments)
    raise ExpressionError(f"no function is called like '{name or 'this'}'", code="UnknownFunction")


def _apply(name: str, arguments: list[Any]) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load"), arguments, [], None, None, lineno=1)


def dotted(node: Any) -> str | None:
    """`name` or `alias.name` of what a call calls, None for anything else."""
    match node:
        case nodes.Name(name=name):
            return str(name)
        case nodes.Getattr(node=nodes.Name(name=name), attr=attr):
            return f"{name}.{attr}"
    return None
