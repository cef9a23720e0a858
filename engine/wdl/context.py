"""What an expression is tried against: the records of a run, given as JSON, as `flowrun expr --context` takes it.

Keys: `parameters`, `variables`, `trigger` (a record with `outputs.body`), `actions` (name → record with `outputs`,
maybe `status`), `item`, `items` (loop → item), `iterationIndexes` (loop → number), `results` (scope → list of records),
`workflow`, `now` (the clock). Anything else is a name of its own, such as `steps`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.errors import DataError
from engine.expressions import Ambient, Expressions
from engine.functions import FUNCTIONS
from engine.types import JSON, type_name
from engine.wdl.jinja import Printer
from engine.wdl.names import Names, named
from engine.wdl.strict import prop
from engine.wdl.syntax import WdlError

MANY = 20_000  # expressions after which what was compiled is let go
_OBJECTS = ("parameters", "variables", "trigger", "actions", "items", "iterationIndexes", "results", "appsettings")


class Step(dict[str, JSON]):
    """A record as `steps.NAME` shows it: its body is that of its outputs."""

    def get(self, key: Any, default: JSON = None) -> JSON:
        if key == "body" and "body" not in self:
            return _body(self)
        return super().get(key, default)


class Trigger(dict[str, JSON]):
    """The trigger's record as `trigger` shows it: its inputs, for the flow, are the body of its outputs."""

    def get(self, key: Any, default: JSON = None) -> JSON:
        return _body(self) if key == "inputs" else super().get(key, default)


def _body(record: Mapping[str, JSON]) -> JSON:
    outputs = record.get("outputs")
    return outputs.get("body") if isinstance(outputs, Mapping) else None


@dataclass(frozen=True)
class Given:
    """A context: the names in it, what an expression can read, and its clock."""

    names: Names
    scope: Mapping[str, Any]
    ambient: Ambient


def given(context: JSON) -> Given:
    """Raises DataError for a context that has another form."""
    if not isinstance(context, dict):
        raise DataError(f"the context has to be an object, found {type_name(context)}", code="Context")
    parts = {key: _object(context, key) for key in _OBJECTS}
    names = {key: named(members) for key, members in parts.items() if key != "trigger"}
    scope: dict[str, Any] = {**context}
    for key in ("parameters", "variables", "items", "iterationIndexes", "results", "appsettings"):
        scope[key] = {**parts[key], **{own: parts[key][name] for name, own in names[key].items()}}
    steps = {own: _step(name, parts["actions"][name]) for name, own in names["actions"].items()}
    scope["steps"] = {**steps, **_object(context, "steps")}
    scope["trigger"] = Trigger(parts["trigger"])
    if "item" not in scope and parts["items"]:
        scope["item"] = [*parts["items"].values()][-1]  # the innermost loop's
    found = Names(
        actions=names["actions"],
        variables=names["variables"],
        parameters=names["parameters"],
        loops=names["items"],
        indexes=names["iterationIndexes"],
        results=names["results"],
        settings=names["appsettings"],
    )
    return Given(found, scope, Ambient(_moment(context.get("now")), f"{time.time_ns()}"))


def _object(context: Mapping[str, JSON], key: str) -> dict[str, JSON]:
    value = context.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{key} in the context has to be an object, found {type_name(value)}", code="Context")
    return value


def _step(name: str, record: JSON) -> Step:
    if not isinstance(record, dict):
        raise DataError(f"actions.{name} in the context has to be a record, an object with outputs", code="Context")
    return Step(record)


def _moment(text: JSON) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"now in the context is no time: {text}", code="Context", hint="2026-11-24T12:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Evaluator:
    """Evaluates expressions one after the other, whatever language they are written in: there is one evaluator."""

    def __init__(self) -> None:
        self._expressions = self._fresh()
        self._evaluated = 0

    def _fresh(self) -> Expressions:
        expressions = Expressions({**FUNCTIONS, "prop": prop})
        expressions.environment.optimized = False  # each is carried out once: folding its constants takes longer
        return expressions

    def jinja(self, text: str, context: Given) -> JSON:
        """A template, or the source of an expression. Raises ExpressionError."""
        self._evaluated += 1
        if self._evaluated % MANY == 0:
            self._expressions = self._fresh()
        evaluate = self._expressions.text if "{{" in text else self._expressions.evaluate
        try:
            return evaluate(text, context.scope, context.ambient)
        except (SyntaxError, RecursionError, MemoryError) as error:  # of Python's compiler
            raise WdlError("the expression is nested too deeply") from error

    def wdl(self, text: str, context: Given) -> JSON:
        """A definition's text. Raises WdlError, ExpressionError."""
        translated = Printer(context.names).value(text)
        return self.jinja(translated, context) if isinstance(translated, str) and "{{" in translated else translated
