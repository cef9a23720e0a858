"""Drives a foreseen run: performs its reads, asks each connector that can tell what a change would come to, and sends
nothing that isn't a read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from engine.contract import CURRENT_CALL, Call, Clock, Difference, Operation, Result
from engine.effects import SECURED, Done, Failed, Fired, Invoke, Outcome, Program, Record, Start, Timer, error_of
from engine.errors import FlowrunError
from engine.planning.foresight import Foresight
from engine.state import name_of
from engine.types import JSON, UNKNOWN, plain

MOST_RETRIES = 3  # a plan is for a person who waits


class Connections(Protocol):
    """The connections by entry. Raises ConfigError."""

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, JSON]) -> Result[Any]: ...


@dataclass(frozen=True)
class Planned:
    """What would become of one step.

    `action` is `read` (was performed), `same` (nothing would change), `change`, `call` (nobody can tell what it does
    before it is called), `unknown` (rests on what isn't known), or the step's status. `later` names the inputs that
    are known only once the run is there.
    """

    path: str
    action: str
    summary: str = ""
    differences: tuple[Difference, ...] = ()
    later: tuple[str, ...] = ()


@dataclass
class Plan:
    """What a run would do, step by step. `status` is how it would end, as far as can be told."""

    steps: list[Planned] = field(default_factory=list)
    status: str = ""
    error: Mapping[str, JSON] | None = None
    outputs: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def changes(self) -> list[Difference]:
        """The records that would change."""
        return [d for step in self.steps for d in step.differences if d.action != "leave"]


def plan(program: Program, start: Start, connections: Connections, clock: Clock) -> Plan:
    """Foresees a run. Only reads are sent: the session refuses everything else. Raises nothing for a failing step."""
    return _Planner(program, start, connections, clock).plan()


class _Planner:
    def __init__(self, program: Program, start: Start, connections: Connections, clock: Clock) -> None:
        self.programs = _programs(program)
        self.operations = {
            (inner.connections[name.partition(".")[0]], operation.name): operation
            for inner in self.programs
            for name, operation in inner.operations.items()
            if name.partition(".")[0] in inner.connections
        }
        self.connections = connections
        self.clock = clock
        self.decider = Foresight(program, start)
        self.told: dict[str, Planned] = {}
        self.outcome = Plan()

    def plan(self) -> Plan:
        decider = self.decider
        timers: list[Timer] = []
        while decider.status is None:
            effects = decider.ready(self.clock.now())
            self._take(decider.records())
            calls = [effect for effect in effects if isinstance(effect, Invoke)]
            timers += [e for e in effects if isinstance(e, Timer) and not e.key.endswith("!timeout")]
            for call in calls:
                decider.tell(self._call(call), self.clock.now())
            if calls or decider.busy:
                continue
            timers = [t for t in timers if not decider.settled(t.key)]
            if not timers:
                break
            timers.sort(key=lambda timer: timer.at)
            timer = timers.pop(0)
            if timer.key.endswith("!retry"):
                self.clock.sleep(max(0.0, (timer.at - self.clock.now()).total_seconds()))
            decider.tell(Fired(timer.key), self.clock.now())  # a wait is over at once
        self._take(decider.records())
        self.outcome.status = decider.status or "waiting"
        self.outcome.error, self.outcome.outputs = decider.error, decider.outputs
        return self.outcome

    def _take(self, records: list[Record]) -> None:
        for record in records:
            if record.status not in ("started", "decided", "retrying", "late"):
                told = self.told.pop(record.path, None)
                self.outcome.steps.append(told or Planned(record.path, *_action(record)))

    def _call(self, call: Invoke) -> Outcome:
        operation = self.operations.get((call.connection, call.operation))
        later: list[str] = []
        inputs = _known(call.inputs, "", later)
        reads = call.effect == "read"
        if (reads and later) or operation is None or not (reads or operation.plans) or _lacks(operation, inputs):
            what = "unknown" if reads else "call"
            said = f"would call {call.connection}.{call.operation}" if call.connection else "would queue a run"
            self.told[call.path] = Planned(call.path, what, said, later=tuple(later))
            return Done(call.path, call.attempt, UNKNOWN, outputs=UNKNOWN)
        token = CURRENT_CALL.set(Call(idempotency_key=call.key, planning=True))
        try:
            result = self.connections.invoke(call.connection, call.operation, inputs)
        except FlowrunError as error:
            told = error_of(error)
            if call.attempt > MOST_RETRIES or not reads:
                told["kind"] = _final(error.kind)
            return Failed(call.path, call.attempt, told, error.retry_after)
        finally:
            CURRENT_CALL.reset(token)
        action = "read" if reads else "change" if result.changed or later else "same"
        shown = [_veiled(d) if self._is_secure(call.path) else d for d in result.differences]
        said = result.summary
        if later and not result.changed:  # what is sent later may be what is there already: nobody can tell
            shown, said = [replace(d, action="update") for d in shown], f"sends {', '.join(later)}"
        self.told[call.path] = Planned(call.path, action, said, tuple(shown), tuple(later))
        body = plain(result.body)
        return Done(call.path, call.attempt, body, result.changed, result.summary, plain(result.outputs) or None)

    def _is_secure(self, path: str) -> bool:
        return any(name_of(path) in program.secure for program in self.programs)


def _veiled(difference: Difference) -> Difference:
    return replace(difference, changes=dict.fromkeys(difference.changes, (SECURED, SECURED)))


def _programs(program: Program) -> list[Program]:
    return [program, *(p for inner in program.flows.values() for p in _programs(inner))]


def _action(record: Record) -> tuple[str, str]:
    if record.output is UNKNOWN:
        return "unknown", record.summary
    said = str(record.error["message"]) if record.error else record.summary
    return record.status, said


def _final(kind: str) -> str:
    """An error that is not tried again."""
    return "remote" if kind in ("transient", "uncertain") else kind


def _known(value: JSON, path: str, later: list[str]) -> Any:
    """A value without what isn't known yet, whose paths are noted."""
    if isinstance(value, Mapping):
        out = {}
        for key, member in value.items():
            inner = f"{path}.{key}" if path else str(key)
            if member is UNKNOWN:
                later.append(inner)
            else:
                out[key] = _known(member, inner, later)
        return out
    if isinstance(value, list):
        kept = [(i, v) for i, v in enumerate(value) if v is not UNKNOWN]
        later += [f"{path}[{i}]" for i, v in enumerate(value) if v is UNKNOWN]
        return [_known(v, f"{path}[{i}]", later) for i, v in kept]
    return value


def _lacks(operation: Operation, inputs: Mapping[str, JSON]) -> bool:
    """Whether an input is missing that the operation can't do without."""
    return any(required and name not in inputs for name, (_, required) in operation.inputs.items())
