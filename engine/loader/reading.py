"""The expressions of a flow: their syntax, what they name, when it is there, and the shape of what they give."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from engine import model
from engine.contract import Event, Operation
from engine.errors import did_you_mean
from engine.expressions import ExpressionError, Expressions, arity_message, bare, segments
from engine.loader.document import Document, Lost, Path, value_at
from engine.loader.names import Names, Where
from engine.loader.order import Order
from engine.loader.references import Chain, References, holding, references
from engine.loader.schema import output_schema, schema
from engine.loader.shapes import (
    ANY,
    NULL,
    TEXT,
    WHOLE,
    Shape,
    Shapes,
    choices,
    closed,
    in_words,
    items,
    kinds,
    of_scalar,
)
from engine.loader.syntax import braced_in_part, foreign, written_here
from engine.loader.triggers import trigger_shape
from engine.loader.variables import Access
from engine.types import JSON

CONDITIONS = frozenset({"when", "if", "until", "where"})
LISTS = frozenset({"foreach", "select", "each"})
ERROR = closed({**dict.fromkeys(("step", "kind", "code", "message", "hint"), TEXT), "retry_after": ANY, "status": ANY})
OUTPUTS: Shape = {"type": "object", "properties": {"status_code": WHOLE, "headers": {"type": "object"}, "body": ANY}}
STATUS: Shape = {"enum": list(get_args(model.Status))}


class Reading:
    """Reads every expression; keeps what they refer to (`chains`, `reads`), their uses of variables, and shapes."""

    def __init__(
        self,
        flow: model.Flow,
        document: Document,
        order: Order,
        expressions: Expressions,
        operations: Mapping[str, Operation],
        aliases: Collection[str],
        report: Any,
    ) -> None:
        self.flow = flow
        self.document = document
        self.order = order
        self.expressions = expressions
        self.operations = operations
        self.aliases = aliases  # those whose connector is known
        self.report = report
        self.chains: dict[str, list[Chain]] = {}
        self.reads: dict[str, set[str]] = {}
        self.accesses: list[Access] = []
        self._bodies: dict[str, Shape] = {}
        self._parsed: dict[str, References | ExpressionError] = {}
        self._functions: dict[str, Shape] = {}
        self.roots = self._shapes_of_roots()

    def _shapes_of_roots(self) -> dict[str, Shape]:
        flow = self.flow
        manual = next((t for t in flow.triggers.values() if isinstance(t, model.Manual)), None)
        inputs = (manual.manual or {}).get("inputs") if manual is not None else None
        trigger = trigger_shape(flow.triggers, schema(Event), inputs if isinstance(inputs, dict) else ANY)
        run = {"id": TEXT, "flow": TEXT, "environment": TEXT}
        return {
            "trigger": closed(trigger),
            "parameters": closed({name: self._parameter(name, p) for name, p in flow.parameters.items()}, "parameter"),
            "variables": closed(dict.fromkeys(flow.variables, ANY), "variable"),
            "run": closed(run),
            "run of alerts": closed({**run, "status": {"enum": ["failed", "waiting"]}}),
            "steps": ANY,
            "error": ERROR,
        }

    def _parameter(self, name: str, parameter: model.Parameter) -> Shape:
        declared = value_at(self.document.data, ("parameters", name, "type"))
        return {"type": [parameter.type, "null"]} if declared is not None else ANY

    # What holds expressions

    def fields(
        self, holder: Any, path: Path, where: Where, inner: Mapping[str, Shape] | None = None, item: str = ""
    ) -> dict[str, Shape]:
        """Reads the fields of a part of the document that hold expressions, and gives the shape of each.

        `inner` are names that hold in those that are read later (a loop's result, a selection's map), with the `item`.
        """
        data = value_at(self.document.data, path)
        out: dict[str, Shape] = {}
        kind: Any = type(holder)
        for key, what in holding(kind).items():
            if not isinstance(data, dict) or key not in data:
                continue
            here = replace(where, key=key)
            if inner is not None and key in ("result", "until", "where", "map"):
                here = replace(here, locals={**where.locals, **inner})
            value = data[key]
            if what == "expression" and isinstance(value, str):
                out[key] = self._whole(value, (*path, key), here)
            else:
                out[key] = self.value(value, (*path, key), here)
            if isinstance(holder, model.Foreach | model.Select) and key == holder.kind and inner is not None:
                inner = {**inner, item: items(out[key])}
        return out

    def value(self, value: JSON, path: Path, where: Where) -> Shape:
        """A value with expressions in its texts."""
        match value:
            case Lost():
                return ANY
            case str():
                return self._text(value, path, where)
            case dict():
                for key in value:
                    if "{{" in key:
                        self._text(key, (*path, key), where, key=True)
                members = {key: self.value(member, (*path, key), where) for key, member in value.items()}
                return {"type": "object"} if any("{{" in key for key in value) else closed(members)
            case list():
                shapes = [self.value(item, (*path, i), where) for i, item in enumerate(value)]
                return {"type": "array", "items": shapes[0] if shapes and all(s == shapes[0] for s in shapes) else ANY}
        return of_scalar(value)

    def _text(self, text: str, path: Path, where: Where, *, key: bool = False) -> Shape:
        if "{" not in text and "@" not in text:
            return TEXT
        for offset, message, hint in foreign(text):
            self.report(
                path, "NotEvaluated", message, key=key, at=offset, severity="warning", hint=hint, step=where.step
            )
        try:
            parts = segments(text)
        except ExpressionError as error:
            self.report(path, error.code, error.message, key=key, at=error.offset, hint=error.hint, step=where.step)
            return ANY
        found = [self._expression(p.text, path, where, p.offset, key=key) for p in parts if p.expression]
        return found[0] if found and len(parts) == 1 else TEXT

    def _whole(self, text: str, path: Path, where: Where) -> Shape:
        """A key that is an expression as a whole, bare or braced."""
        if isinstance(text, Lost):
            return ANY
        if hint := braced_in_part(text):
            at = text.find("{{")
            self.report(path, "Expression", "braces around a part of an expression", at=at, hint=hint, step=where.step)
            return ANY
        try:
            source = bare(text)
        except ExpressionError as error:
            self.report(path, error.code, error.message, at=error.offset, hint=error.hint, step=where.step)
            return ANY
        shape = self._expression(source, path, where, 0 if source == text else text.find("{{") + 2)
        found = kinds(shape)
        given = (found or frozenset()) - {"null"}
        start = len(source) - len(source.lstrip()) + (0 if source == text else text.find("{{") + 2)
        if where.key in CONDITIONS and given and "boolean" not in given:
            self.report(path, "NoCondition", f"a condition is true or false, and this is {in_words(given)}", at=start,
                        severity="warning", step=where.step, hint=_compared(given))  # fmt: skip
        if where.key in LISTS and given and "array" not in given:
            hint = (
                f"`{where.key}` goes through a list, such as split(…) of a text"
                if "string" in given
                else f"`{where.key}` goes through a list"
            )
            self.report(path, "NoList", f"a list is needed, and this is {in_words(given)}", at=start,
                        severity="warning", step=where.step, hint=hint)  # fmt: skip
        return shape

    def _expression(self, source: str, path: Path, where: Where, at: int, *, key: bool = False) -> Shape:
        """One expression, which begins at the character `at` of the text at `path`."""

        def report(code: str, message: str, offset: int, **more: Any) -> None:
            self.report(path, code, message, key=key, at=at + offset, step=where.step, **more)

        parsed = self.parsed(source)
        if isinstance(parsed, ExpressionError):
            hint = written_here(source) if "@" in source or "?" in source else ""
            hint = f"{parsed.hint}; {hint}" if hint else parsed.hint
            message = f"{_short(source)}: {parsed.message}" if source.strip() else parsed.message
            report(parsed.code, message, parsed.offset, hint=hint)
            return ANY
        for fault in parsed.faults:
            self._fault(fault, source, report)
        for name, given, offset in parsed.calls:
            f = self.expressions.functions.get(name)
            if f is not None and (given < f.least or (f.most is not None and given > f.most)):
                report("Arguments", arity_message(f, given), offset, expected=f.signature)
        self.chains.setdefault(where.holder, []).extend(parsed.chains)
        for chain in parsed.chains:
            if chain.root == "variables" and "variables" not in where.locals and where.step:
                for name in [str(chain.members[0])] if chain.members else self.flow.variables:
                    self.accesses.append(Access(where.step, name, "read", path, at + chain.offset))
        return Shapes(source, Names(self, where, source, report), report).of(parsed.tree)

    def _fault(self, fault: ExpressionError, source: str, report: Any) -> None:
        name = fault.message.partition("'")[2].rstrip("'")
        if fault.code != "UnknownFunction":
            report(fault.code, fault.message, fault.offset, hint=fault.hint)
            return
        alias, dot, _ = name.partition(".")
        if dot and alias not in self.flow.connections:
            known = set(self.flow.connections)
            report("UnknownConnection", f"unknown connection '{alias}'", fault.offset, found=f"'{alias}'",
                   hint=did_you_mean(alias, known))  # fmt: skip
        elif not dot or alias in self.aliases:  # else its connection is wrong, and that is reported
            hint = fault.hint
            if not hint.startswith("did you") and (here := written_here(source[fault.offset :])):
                hint = here
            report(fault.code, fault.message, fault.offset, found=f"'{name}'", hint=hint)

    def parsed(self, source: str) -> References | ExpressionError:
        """What an expression refers to, or what is wrong with its syntax."""
        if source not in self._parsed:
            try:
                self._parsed[source] = references(self.expressions, source)
            except ExpressionError as error:
                self._parsed[source] = error
        return self._parsed[source]

    # Shapes

    def function(self, name: str) -> Shape:
        """The shape of what a function gives, as far as its annotation says."""
        if name not in self._functions:
            found = self.expressions.functions.get(name)
            try:
                hint = get_type_hints(found.call, include_extras=True).get("return", Any) if found else Any
                self._functions[name] = schema(hint)
            except (NameError, TypeError, KeyError, AttributeError):
                self._functions[name] = ANY
        return self._functions[name]

    def body(self, name: str) -> Shape:
        """The shape of a step's body; of some only once the step has been read."""
        step = self.order.steps[name]
        op = self.operations.get(step.call) if isinstance(step, model.Call) else None
        if op is not None:
            return {**output_schema(op), "x-of": f"the result of {op.name}"}
        return self._bodies.get(name, ANY)

    def keep(self, name: str, step: model.Step, found: Mapping[str, Shape]) -> None:
        """Notes the shape of a step's body, out of the shapes of its fields."""
        match step:
            case model.Compose():
                self._bodies[name] = found.get("compose", ANY)
            case model.Parse():
                self._bodies[name] = step.schema or found.get("parse", ANY)
            case model.Select():
                self._bodies[name] = {"type": "array", "items": found.get("map", items(found.get("select", ANY)))}
            case model.Foreach():
                self._bodies[name] = {"type": "array", "items": found.get("result", ANY)}
            case model.Until():
                self._bodies[name] = found.get("result", ANY)
            case model.Start():
                self._bodies[name] = closed({"run": {"type": ["string", "null"]}, "created": {"type": "boolean"}})

    def record(self, name: str) -> Shape:
        """What `steps.NAME` has."""
        members = {"status": STATUS, "body": self.body(name), "error": {"anyOf": [ERROR, NULL]}, "outputs": OUTPUTS}
        return {**closed(members, of="a step"), "x-hint": f"did you mean steps.{name}.body.{{}}?"}


def _compared(given: frozenset[str]) -> str:
    if "string" in given:
        return "compare it, such as `… != null`, `… == 'x'` or `not empty(…)`"
    if given & {"number", "integer"}:
        return "compare it, such as `… > 0`"
    return "compare it, such as `… != null` or `not empty(…)`"


def _short(source: str) -> str:
    text = " ".join(source.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def case_misses(step: model.Switch, shape: Shape) -> dict[str, str]:
    """Cases of a switch that its value never is → what is near them."""
    allowed = choices(shape)
    return {case: did_you_mean(case, set(allowed)) for case in step.cases if case not in allowed} if allowed else {}
