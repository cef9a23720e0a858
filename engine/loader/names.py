"""What an expression may name, by where it stands, and when a step's result is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from engine import model
from engine.errors import did_you_mean
from engine.loader.misfits import ANYTHING
from engine.loader.shapes import ANY, Shape

if TYPE_CHECKING:
    from engine.loader.reading import Reading

ROOTS = frozenset({"trigger", "parameters", "variables", "steps", "run"})
AT_START = frozenset({"trigger", "parameters"})
OF_PASSES = frozenset({"result", "until"})  # keys of a loop that are read when its steps have run
OPERATORS = frozenset({"and", "or", "not", "if", "in", "is", "else"})  # words of the syntax, too
WORDS = {"null": "null", "none": "null", "nil": "null", "undefined": "null", "true": "true", "false": "false"}


@dataclass(frozen=True)
class Where:
    """Where an expression stands, and what holds there. `holder` is a step, a trigger, the alerts, or the flow ("")."""

    holder: str = ""
    step: str = ""
    key: str = ""
    locals: Mapping[str, Shape] = field(default_factory=dict)
    roots: frozenset[str] = ROOTS


class Names:
    """What one expression may name, by where it stands."""

    def __init__(self, reading: Reading, where: Where, source: str, report: Any) -> None:
        self.reading = reading
        self.where = where
        self.source = source
        self.read_to = 0  # what stands before belongs to a name of which it has been said
        self.report = report
        self.function = reading.function

    def root(self, name: str, offset: int) -> Shape:
        where, roots = self.where, self.reading.roots
        if name in where.locals:
            return where.locals[name]
        if offset < self.read_to:
            return ANY
        if ANYTHING in where.locals and name not in where.roots:
            return ANY
        if name in where.roots:
            return roots["run of alerts"] if name == "run" and "error" in where.roots else roots[name]
        if name in ROOTS:
            self.report("NotBefore", f"'{name}' is not there yet when a trigger is looked at", offset,
                        expected=", ".join(sorted(where.roots)))  # fmt: skip
        else:
            hint = self._hint(name)
            if re.search(r"\w-$", self.source[:offset]):
                hint = "a name with - in it is read by brackets, such as x['a-b']; blanks around it make it a minus"
            self.report("UnknownName", f"unknown name '{name}'", offset, found=f"'{name}'", hint=hint)
        return ANY

    def _hint(self, name: str) -> str:
        """What an unknown name may have meant."""
        flow, order = self.reading.flow, self.reading.order
        functions = self.reading.expressions.functions
        for group, known in (("steps", order.bits), ("parameters", flow.parameters), ("variables", flow.variables)):
            if name in known:
                return f"did you mean '{group}.{name}'?"
        loops = (n for n, s in order.steps.items() if isinstance(s, model.Foreach) and s.as_ == name)
        if loop := next(loops, None):
            return f"'{name}' is known inside the loop '{loop}' only: give it a `result:` and use steps.{loop}.body"
        if name in functions:
            return f"call it: {name}(…)"
        if name in flow.connections:
            return f"a step calls it: `call: {name}.OPERATION`"
        if meant := WORDS.get(name.lower()):
            return f"did you mean '{meant}'?"
        names = {*self.where.roots, *self.where.locals}
        callable_ = functions.keys() - OPERATORS
        near = did_you_mean(name, {*names, *WORDS.values(), *callable_})
        if "item" in self.where.locals and not get_close_matches(name, [*names, *callable_], n=1, cutoff=0.8):
            if isinstance(order.steps.get(self.where.step), model.Select):
                return "the item is called 'item' here, its number 'index'"
            return f"the item is called 'item' here; `as: {name}` in the loop would call it so"
        return (
            near
            if near.startswith("did")
            else f"text in an expression has quotes of its own: \"'{name}'\"; names are " + ", ".join(sorted(names))
        )

    def step(self, name: str, offset: int, root: int) -> Shape:
        reading, where, order = self.reading, self.where, self.reading.order
        if "steps" in where.locals or "steps" not in where.roots:
            return self.root("steps", root)
        if name not in order.paths:
            dashed = re.compile(rf"{re.escape(name)}(?:-[A-Za-z_]\w*)+").match(self.source, offset)
            if dashed:  # read as a subtraction
                name, self.read_to = dashed[0], dashed.end()
            hint = did_you_mean(name.replace("-", "_"), set(order.paths))
            if not hint.startswith("did") and where.step in order.before:
                there = {n for n in order.paths if order.before[where.step] & order.bits[n]}
                hint = did_you_mean("", there) or "no step has ended when this one begins"
            self.report("UnknownStep", f"unknown step '{name}'", offset, found=f"'{name}'", hint=hint)
            return ANY
        reading.reads.setdefault(where.holder, set()).add(name)
        if name in order.twice or where.step in order.twice:
            return ANY
        own = where.step if where.key in OF_PASSES and isinstance(order.steps.get(where.step), model.LOOPS) else ""
        open_ = {*order.around.get(where.step, ()), own}
        loops = (n for n in order.around[name] if isinstance(order.steps[n], model.LOOPS))
        if loop := next((n for n in loops if n not in open_), None):
            shape = ANY
            self.report("IntoLoop", f"'{name}' is inside the loop '{loop}': it has no single result outside", offset,
                        hint=f"give the loop a `result:` and use steps.{loop}.body")  # fmt: skip
        elif where.step and not order.before[where.step] & order.bits[name] and not (own and own in order.around[name]):
            shape = ANY
            self._too_early(name, offset)
        else:
            shape = reading.record(name)
        return shape

    def _too_early(self, name: str, offset: int) -> None:
        order, step = self.reading.order, self.where.step
        if name == step:
            message, hint = f"'{name}' refers to itself", "it has no result before it ends"
        elif name in order.around[step]:
            message, hint = f"'{name}' is around '{step}': it has no result before it ends", "read a step before it"
        elif order.before[name] & order.bits[step]:
            message, hint = f"'{name}' runs after '{step}'", "move the step, or use run_after"
        elif order.apart[step] & order.bits[name]:
            message = f"'{name}' is in a branch that isn't taken when '{step}' runs"
            hint = "read it after the branches, where it is null if its branch wasn't taken"
        else:
            message, hint = f"'{name}' hasn't run when '{step}' begins", ""
            mine, others = (*order.around[step], step), (*order.around[name], name)
            at = next((i for i, (a, b) in enumerate(zip(mine, others, strict=False)) if a != b), None)
            if at is not None:
                hint = f"add run_after: {others[at]}" + ("" if mine[at] == step else f" to '{mine[at]}'")
        self.report("NotBefore", message, offset, hint=hint)
