"""What became of each step in one run: its executions, folded from the records of the journal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from engine import model as m
from engine.effects import FINAL, Program, Record
from engine.state import Plan, ancestors

# From the one that needs a look most to the one that needs it least.
STATUSES = ("failed", "timed_out", "cancelled", "waiting", "interrupted", "retrying", "running", "succeeded", "skipped")
MARKS: Mapping[str, str] = {
    "succeeded": "✓", "failed": "✗", "timed_out": "⏱", "cancelled": "■", "skipped": "–", "waiting": "?",
    "retrying": "↻", "running": "…", "interrupted": "!",
}  # fmt: skip
# Where a step without an end stands: by its last record, as long as its run goes on.
OPEN = {"started": "running", "decided": "running", "retrying": "retrying", "uncertain": "waiting"}
WORDS = {
    "ConditionFalse": "not needed (when is false)",
    "RunAfter": "not reached",
    "Cancelled": "ended with what is around it",
}
SHORTEST = 0.001  # seconds that are worth a word
PASS = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Execution:
    """One execution of a step: `records` are all of its path in the order of the journal, `status` where it stands.

    A list of steps that hasn't ended may have no record of its own.
    """

    path: str
    records: tuple[Record, ...]
    status: str

    @property
    def last(self) -> Record | None:
        return self.records[-1] if self.records else None

    @property
    def took(self) -> float | None:
        """Seconds from its begin to its end, None while there is none or it never began."""
        last = self.last
        if last is None or self.status not in FINAL - {"skipped"} or last.started is None or last.ended is None:
            return None
        return (last.ended - last.started).total_seconds()

    @property
    def tries(self) -> int:
        return sum(r.status not in ("decided", "late", "started") for r in self.records)

    @property
    def words(self) -> str:
        """What the step says of itself: its error, else its summary."""
        return sentence(self.last) if self.last else ""


@dataclass(frozen=True)
class Outcome:
    """What became of a step: all its executions, and of a loop the statuses of its passes."""

    path: str  # without the passes of loops, such as `each_line/post`
    executions: tuple[Execution, ...]
    passes: tuple[str, ...] | None = None  # empty for one that hasn't begun
    counted: bool = False  # a loop over a list: how many passes there will be is known

    @cached_property
    def status(self) -> str:
        """The one of its executions that needs a look most."""
        return min((e.status for e in self.executions), key=STATUSES.index)

    @property
    def effort(self) -> str:
        """`1.2 s, 3 tries`, as far as there is something to say."""
        seconds = sum(e.took or 0.0 for e in self.executions)
        tries = 1 if self.many else self.executions[0].tries
        words = [span(seconds)] if seconds >= SHORTEST else []
        return ", ".join(words + ([f"{tries} tries"] if tries > 1 else []))

    @property
    def many(self) -> bool:
        return len(self.executions) > 1

    @property
    def counts(self) -> str:
        """`97 of 100, 3 failed` of a loop's passes or of the executions of a step in a loop; empty for a single one."""
        if self.passes is not None:
            return count(self.passes, counted=self.counted)
        return count([e.status for e in self.executions], counted=True) if self.many else ""

    @property
    def words(self) -> str:
        """In one line: counts, else the error or summary, else the status."""
        return self.counts or self.executions[0].words or self.status.replace("_", " ")


def count(statuses: Iterable[str], *, counted: bool) -> str:
    """Statuses in numbers. Of a list it is known how many there will be; other passes are only counted."""
    numbers = Counter(statuses)
    total, good = sum(numbers.values()), numbers.pop("succeeded", 0)
    first = f"{good} of {total}" if counted else f"{total} pass{'es' * (total != 1)}"
    rest = [f"{numbers[status]} {status.replace('_', ' ')}" for status in STATUSES if numbers[status]]
    return ", ".join([first, *rest])


def sentence(record: Record) -> str:
    """A record in words."""
    if record.error and record.status != "succeeded":
        return f"{record.error.get('code')}: {record.error.get('message')}"
    return WORDS.get(record.summary, record.summary)


def span(seconds: float) -> str:
    """12 ms, 3.4 s, 2 min 5 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def moment(time: datetime | None) -> str:
    """2026-11-24 12:00:00 UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else ""


def outcomes(program: Program, records: Iterable[Record], *, run: str = "succeeded") -> dict[str, Outcome]:
    """The outcome of every step that was come to, by its path without passes. `run` is the run's status."""
    by_path: dict[str, list[Record]] = {}
    for record in records:
        if record.path and record.status != "late":
            for container in ancestors(record.path):
                by_path.setdefault(container, [])
            by_path.setdefault(record.path, []).append(record)
    executions = {path: Execution(path, tuple(found), _stands(found, run)) for path, found in by_path.items()}
    gathered: dict[str, list[Execution]] = {}
    for execution in executions.values():
        gathered.setdefault(PASS.sub("", execution.path), []).append(execution)
    out: dict[str, Outcome] = {}
    for prefix, block in _blocks(program):
        for name, step in block.items():
            found = tuple(gathered.get(prefix + name, ()))
            if not found:
                continue
            passes = None
            if isinstance(step, m.LOOPS):
                passes = tuple(status for e in found for status in _passes(e, step, executions))
            out[prefix + name] = Outcome(prefix + name, found, passes, isinstance(step, m.Foreach))
    return out


def _stands(records: list[Record], run: str) -> str:
    """The status of an execution; one without an end was interrupted if its run doesn't go on."""
    last = next((r.status for r in reversed(records) if r.status != "decided"), "decided")
    if last in FINAL:
        return last
    if run == "waiting":
        return "waiting"
    return OPEN[last] if run == "running" else "interrupted"


def blocks_of(step: m.Step, program: Program) -> Iterator[tuple[tuple[str, ...], Mapping[str, m.Step], Program]]:
    """The lists of steps inside a step, each with its path of keys; those of a flow that it runs are under `run`."""
    for keys, block in step.blocks():
        yield keys, block, program
    if isinstance(step, m.Run) and (inner := program.flows.get(step.run)) is not None:
        yield (step.kind,), inner.flow.steps, inner


def _blocks(program: Program) -> Iterator[tuple[str, Mapping[str, m.Step]]]:
    """Every list of steps with what stands before its steps' names in a path without passes."""
    pending: list[tuple[str, Mapping[str, m.Step], Program]] = [("", program.flow.steps, program)]
    while pending:
        prefix, block, owner = pending.pop()
        yield prefix, block
        pending += [
            (f"{prefix}{name}/", steps, of) for name, step in block.items() for _, steps, of in blocks_of(step, owner)
        ]


def _passes(loop: Execution, step: m.Step, executions: Mapping[str, Execution]) -> Iterator[str]:
    """The status of each pass, empty for one that hasn't begun."""
    decided = next((r.output for r in reversed(loop.records) if r.status == "decided"), None)
    decided = decided if isinstance(decided, dict) else {}
    (block,) = (steps for _, steps in step.blocks())
    plan = Plan(block)
    begun = decided.get("count", 0) if isinstance(step, m.Foreach) else decided.get("pass", 0) + 1
    for index in range(begun):
        inside = {name: executions.get(f"{loop.path}[{index}]/{name}") for name in block}
        yield pass_status(plan, inside, loop.status)


def pass_status(plan: Plan, inside: Mapping[str, Execution | None], loop: str) -> str:
    """How a pass ended, by the leaf rule: a leaf counts itself, a skipped one with those that it waited for.

    `loop` is the loop's own status. Empty for a pass that hasn't begun.
    """
    if not any(inside.values()):
        return ""
    pending, seen, found = list(plan.leaves), set(), {"succeeded"}
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        execution = inside[name]
        if execution is None:  # it has yet to come, or never came
            found.add(loop)
        elif execution.status == "skipped" and execution.words != WORDS["ConditionFalse"]:
            pending += plan.after[name]
        elif execution.status != "skipped":
            found.add("failed" if execution.status == "timed_out" else execution.status)
    return min(found, key=STATUSES.index)
