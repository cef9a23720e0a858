"""One run in memory: the decider, driven without threads and in virtual time.

Calls are answered one by one, by pins or by the connectors on emulated services, so the same case always takes the same
way. Where nothing happens any more, the clock jumps to what comes next.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from engine.calls import PROBE
from engine.contract import CURRENT_CALL, Call, Result
from engine.decider import Decider
from engine.effects import FINAL, Abandon, Done, Failed, Fired, Invoke, Outcome, Program, Record, Start, Timer
from engine.local.driver import carried_out
from engine.model import seconds
from engine.testing import FakeClock
from engine.testing.flows.document import Case, Fault, Pin
from engine.testing.flows.paths import plain, shown
from engine.testing.flows.services import Services
from engine.types import JSON


@dataclass
class Played:
    """What came of a run. `calls` are its calls without their probes, in order."""

    decider: Decider
    records: list[Record] = field(default_factory=list)
    calls: list[Invoke] = field(default_factory=list)
    unstruck: list[str] = field(default_factory=list)  # steps with faults that no request met

    @property
    def status(self) -> str:
        return self.decider.status or "waiting"

    @property
    def ended(self) -> list[Record]:
        """How each step ended, in the order in which they did."""
        return [record for record in self.records if record.status in FINAL]


class Player:
    """Plays runs of one case over its services."""

    def __init__(self, case: Case, services: Services, clock: FakeClock) -> None:
        self.case = case
        self.services = services
        self.clock = clock

    def play(self, program: Program, start: Start, *, faults: bool) -> Played:
        """One run, to its end or until it waits for a person."""
        played = Played(Decider(program, start))
        struck = {key: _tries(given) for key, given in self.case.faults.items() if faults}
        met: set[tuple[str, int]] = set()  # step and try
        coming: list[tuple[datetime, int, Outcome]] = []
        number = 0
        while True:
            for effect in played.decider.ready(self.clock.now()):
                number += 1
                match effect:
                    case Invoke():
                        if not effect.path.endswith(PROBE):
                            played.calls.append(effect)
                        at, outcome = self._answer(effect, struck, met)
                        heapq.heappush(coming, (at, number, outcome))
                    case Timer(key, at):
                        heapq.heappush(coming, (at, number, Fired(key)))
                    case Abandon():
                        pass  # what comes of it all the same is noted as late
            played.records += played.decider.records()
            if played.decider.busy:
                continue
            while coming and isinstance(coming[0][2], Fired) and played.decider.settled(coming[0][2].key):
                heapq.heappop(coming)
            if played.decider.status is not None or not coming:
                played.unstruck = [
                    key for key, of in struck.items() if any((key, n) not in met for n in range(len(of)))
                ]
                return played
            at, _, outcome = heapq.heappop(coming)
            self.clock.advance(max(0.0, (at - self.clock.now()).total_seconds()))
            played.decider.tell(outcome, self.clock.now())
            played.records += played.decider.records()

    def _answer(
        self, call: Invoke, faults: Mapping[str, Sequence[Fault]], met: set[tuple[str, int]]
    ) -> tuple[datetime, Outcome]:
        path = shown(call.path.removesuffix(PROBE))
        pin = _tried(_chosen(self.case.steps, path), call.attempt, last=True)
        if pin is not None:
            after = seconds(pin.after) if pin.after and not call.path.endswith(PROBE) else 0.0
            return self.clock.now() + timedelta(seconds=after), _pinned(call, pin)
        key = _key(faults, path)
        fault = _tried(faults.get(key), call.attempt, last=False)
        if fault is None or call.path.endswith(PROBE):
            return self.clock.now(), self._call(call)
        emulator = self.services.emulator(call.connection)
        hosts = frozenset({fault.host.lower()}) if fault.host else frozenset(emulator.hosts if emulator else ())
        self.services.failing = [(fault, hosts)]
        outcome = self._call(call)
        if not self.services.failing:
            met.add((key, call.attempt - 1))
        self.services.failing = []
        return self.clock.now(), outcome

    def _call(self, call: Invoke) -> Outcome:
        """Calls out, as a driver does."""
        now, before = self.clock, self.services.writes
        deadline = None
        if call.deadline is not None:
            deadline = now.monotonic() + (call.deadline - now.now()).total_seconds()
        mine = Call(idempotency_key=call.key, deadline=deadline)
        outcome = carried_out(call, mine, self._start if not call.connection else self.services.connections.invoke)
        unseen = call.connection and self.services.emulator(call.connection) is None
        if unseen and isinstance(outcome, Done) and outcome.changed:
            self.services.writes = before + 1  # nobody else saw it
        return outcome

    def _start(self, _connection: str, _operation: str, inputs: Mapping[str, JSON]) -> Result[Any]:
        """A `start` step: the other flow's run is not played, only named."""
        run = uuid.uuid5(uuid.NAMESPACE_URL, CURRENT_CALL.get().idempotency_key).hex
        body = {"run": run, "created": True}
        return Result(body=body, changed=True, summary=f"queued run {run[:8]} of {inputs['flow']}")


def _pinned(call: Invoke, pin: Pin) -> Outcome:
    if call.path.endswith(PROBE):
        probe = pin.probe
        if probe is None:
            return Done(call.path, call.attempt, None)
        return Done(call.path, call.attempt, probe.body, probe.changed, probe.summary)
    error: Mapping[str, JSON] | None = None
    if pin.error is not None:
        error = {"kind": pin.error.kind, "code": pin.error.code, "message": pin.error.message}
        error = {**error, "hint": pin.error.hint} if pin.error.hint else error
    elif pin.lost:
        error = {"kind": "transient", "code": "Lost", "message": "the answer was lost"}
    if error is None:
        return Done(call.path, call.attempt, pin.body, pin.changed, pin.summary, pin.outputs)
    wait = pin.error.retry_after if pin.error else None
    return Failed(call.path, call.attempt, error, wait, pin.lost, pin.outputs)


def _tries(given: Any) -> list[Fault]:
    """Faults try by try, each in its long form."""
    items = given if isinstance(given, list) else [given]
    return [one if isinstance(one, Fault) else Fault(fault=one) for one in items]


def _key(given: Mapping[str, Any], path: str) -> str:
    """The key that means the step at a path, the most exact one; empty if none does."""
    names = (path, plain(path), path.rpartition("/")[2].partition("[")[0])
    return next((name for name in names if name in given), "")


def _chosen(given: Mapping[str, Pin | list[Pin]], path: str) -> Sequence[Pin] | None:
    found = given.get(_key(given, path))
    return found if found is None or isinstance(found, list) else [found]


def _tried(given: Sequence[Any] | None, attempt: int, *, last: bool) -> Any:
    """What a list says of a try; beyond its end the last one, or nothing."""
    if not given or (attempt > len(given) and not last):
        return None
    return given[min(attempt, len(given)) - 1]
