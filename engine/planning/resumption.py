"""What a resume would keep and what it would do again, found without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engine import model as m
from engine.decider import Decider
from engine.effects import FINAL, SECURED, Program, Record, Start
from engine.state import Node, ancestors
from engine.types import JSON

SAFE = {
    "read": "it only reads",
    "idempotent": "repeating it changes nothing twice",
    "write": "it is known not to have happened",
}


@dataclass
class Resumption:
    """`kept` are the records that stand; `again` says by path why it may be done again; `differing` says by path in
    what a record that would be kept doesn't fit the flow as it now is.
    """

    kept: list[Record] = field(default_factory=list)
    again: dict[str, str] = field(default_factory=dict)
    differing: dict[str, str] = field(default_factory=dict)


def resumption(
    program: Program, start: Start, records: Iterable[Record], now: datetime, before: m.Flow | None = None
) -> Resumption:
    """How a run would go on. `before` is the flow that the records were made by, where it is another one.

    Raises nothing: a step that can't be told is one that is done again.
    """
    recorded = list(records)
    decider = _Looking(program, start, recorded, before)
    while True:
        decider.ready(now)
        if not decider.busy:
            break
    found = Resumption(list(decider.kept.values()), {}, decider.differing)
    last = {r.path: r for r in recorded if r.path and r.status not in ("decided", "late")}
    whole = {path for path, record in decider.kept.items() if record.kind in ("foreach", "until", "run")}
    for path, record in last.items():
        if path not in decider.kept and not whole & set(ancestors(path)):
            found.again[path] = _why(program, record)
    if before is not None:
        for path, record in last.items():
            name = path.rpartition("/")[2].partition("[")[0]
            if record.status == "succeeded" and record.effect in ("idempotent", "write") and not _has(program, name):
                found.differing[path] = "was done, and isn't in this flow any more"
    return found


class _Looking(Decider):
    """Goes through the records of a run, and notes what it takes from them."""

    def __init__(self, program: Program, start: Start, recorded: list[Record], before: m.Flow | None) -> None:
        super().__init__(program, start, recorded)
        self.before = before
        self.kept: dict[str, Record] = {}
        self.differing: dict[str, str] = {}

    def _reuse(self, node: Node, record: Record) -> bool:
        taken = super()._reuse(node, record)
        if taken or node.ended is not None:
            self.kept[node.path] = record
            if self.before is not None and record.status == "succeeded" and (how := self._differs(node, record)):
                self.differing[node.path] = how
        return taken

    def _differs(self, node: Node, record: Record) -> str:
        assert self.before is not None
        was = self.before.all_steps.get(node.name)
        if was is None or was.kind != node.step.kind:
            return "another step stood under this name"
        if isinstance(node.step, m.Call) and isinstance(was, m.Call):
            if was.call != node.step.call:
                return f"it called {was.call}, and now calls {node.step.call}"
            if record.inputs == SECURED:
                return "" if was.with_ == node.step.with_ else "its secure inputs can't be compared"
            return _difference(record.inputs, self._inputs(node))
        return "" if _shape(was) == _shape(node.step) else "it is written otherwise"


def _difference(was: JSON, now: JSON, path: str = "with") -> str:
    """The first place where two values differ, in words."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted(was.keys() | now.keys(), key=str):
            if found := _difference(was.get(key), now.get(key), f"{path}.{key}"):
                return found
        return ""
    return "" if was == now and type(was) is type(now) else f"{path} was {str(was)[:60]!r} and is now {str(now)[:60]!r}"


def _shape(step: m.Step) -> JSON:
    """A step with all that is in it, for comparing."""
    inner = {name: _shape(s) for _, block in step.blocks() for name, s in block.items()}
    own = {k: repr(v) for k, v in vars(step).items() if k not in ("title", "note", "retry", "timeout")}
    for keys in ("steps", "then", "else_", "cases", "default"):
        own.pop(keys, None)
    return {"kind": step.kind, "own": own, "inner": inner}


def _has(program: Program, name: str) -> bool:
    return name in program.flow.all_steps or any(_has(inner, name) for inner in program.flows.values())


def _why(program: Program, record: Record) -> str:
    if record.status == "skipped":
        return "it was not reached"
    if record.status in ("started", "uncertain"):
        return "nobody knows whether it happened: that is found out first"
    if record.effect == "write" and record.status == "succeeded":
        return "it had succeeded, and would be done a second time, since what it rests on is done again"
    return SAFE.get(record.effect, "nothing outside depends on it") if record.status in FINAL else "it was under way"
