"""The local driver: carries out a decider's effects on threads of this process, and journals.

Records are durable before the next call whose effect isn't `read`, before a wait, and at the end. A call that is alone
runs in the driver's own thread; side by side they run on a pool. A thread can't be killed: a call that is no longer
wanted is kept by its session from sending anything more, and its answer is noted as late.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from engine.contract import CURRENT_CALL, Call, Clock, Result
from engine.decider import Decider
from engine.effects import SECURED, Abandon, Done, Failed, Fired, Invoke, Outcome, Record, Timer, error_of
from engine.errors import FlowrunError
from engine.local.journal import Journal
from engine.propagation import MANY
from engine.types import JSON, plain


class Connections(Protocol):
    """The connections of a run by entry; what flowrun does itself under the empty name. Raises ConfigError."""

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, JSON]) -> Result[Any]: ...


@dataclass
class Listener:
    """Who watches a run: told of each call as it begins and of each record as it is made."""

    began: Callable[[Invoke], None] = lambda _: None
    recorded: Callable[[Record], None] = lambda _: None


@dataclass
class Driver:
    """Runs deciders. `threads` bounds the calls of one run that are under way at once.

    A run that has to wait for longer than `patience` seconds is parked: no thread is held, its row has the time.
    """

    journal: Journal
    clock: Clock
    threads: int = 16
    patience: float = math.inf
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        self._under_way: dict[str, _Drive] = {}

    def cancel(self, id: str) -> bool:
        """Has a run that is under way end as cancelled, as soon as its call has come back. False: it isn't."""
        drive = self._under_way.get(id)
        if drive is not None:
            drive.cancelled = True
            drive.wake()
        return drive is not None

    def park(self) -> None:
        """Has every run that only waits for a time give its thread up."""
        self.patience = 0
        for drive in list(self._under_way.values()):
            drive.wake()

    def run(self, id: str, decider: Decider, connections: Connections) -> str:
        """Drives a run to its end. Gives its status: succeeded, failed, cancelled, waiting (for a person or time)."""
        drive = self._under_way[id] = _Drive(self, id, decider, connections)
        try:
            return drive.run()
        finally:
            del self._under_way[id]


class _Drive:
    def __init__(self, driver: Driver, id: str, decider: Decider, connections: Connections) -> None:
        self.driver = driver
        self.id = id
        self.decider = decider
        self.connections = connections
        self.answers: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()  # None: look whether it was cancelled
        self.cancelled = False
        self.woken = threading.Event()
        self.timers: list[tuple[datetime, int, str]] = []
        self.wanted: dict[str, int] = {}  # path → attempt of the calls under way
        self.unsaved: list[Record] = []
        self.pool: ThreadPoolExecutor | None = None

    def run(self) -> str:
        try:
            while True:
                if self.cancelled:
                    self.decider.cancel(self._now())
                calls = self._carry_out()
                if self.decider.status is not None or not (self.wanted or self.timers):
                    break  # it has ended, or waits for a person
                if not self.wanted and (min(self.timers)[0] - self._now()).total_seconds() > self.driver.patience:
                    break
                self._listen(calls)
            self._collect()
        except BaseException:  # an interrupt, say: what was done is on record
            self._collect()
            self._save()
            raise
        finally:
            self.wanted.clear()
            if self.pool is not None:
                self.pool.shutdown(wait=False, cancel_futures=True)
        return self._end()

    def wake(self) -> None:
        """Has it look again whether it is still to go on."""
        self.woken.set()
        self.answers.put(None)

    def _now(self) -> datetime:
        return self.driver.clock.now()

    def _collect(self) -> None:
        records = self.decider.records()
        for record in records:
            self.driver.listener.recorded(record)
        self.unsaved += records

    def _save(self) -> None:
        if self.unsaved:
            self.driver.journal.write(self.id, self.unsaved)
            self.unsaved = []

    def _carry_out(self) -> list[Invoke]:
        calls = []
        while True:
            for effect in self.decider.ready(self._now()):
                match effect:
                    case Invoke():
                        calls.append(effect)
                        self.wanted[effect.path] = effect.attempt
                    case Timer(key, at):
                        self.timers.append((at, len(self.timers), key))
                    case Abandon(path):
                        self.wanted.pop(path, None)
            self._collect()
            if not self.decider.busy:
                break
            self._save()
        if len(self.unsaved) >= MANY or any(call.effect != "read" for call in calls):
            self._save()
        return calls

    def _listen(self, calls: list[Invoke]) -> None:
        """Starts the calls and takes in what comes next: an answer or a timer."""
        alone = len(calls) == 1 and len(self.wanted) == 1 and not self.timers
        for call in calls:
            self.driver.listener.began(call)
            if alone:
                self._tell(self._call(call))
                return
            if self.pool is None:
                self.pool = ThreadPoolExecutor(self.driver.threads, thread_name_prefix="flowrun")
            self.pool.submit(lambda c: self.answers.put(self._call(c)), call)
        if not self.wanted:
            self._save()  # a wait: nothing may be lost while nothing happens
        self.timers.sort()
        try:
            if not self.timers:
                self._tell(self.answers.get())
            elif self.wanted:
                left = (self.timers[0][0] - self._now()).total_seconds()
                self._tell(self.answers.get(timeout=max(0.0, left)))
            else:
                self.driver.clock.sleep(max(0.0, (self.timers[0][0] - self._now()).total_seconds()), self.woken)
                if not self.woken.is_set():
                    raise queue.Empty
                self.woken.clear()
        except queue.Empty:
            self._tell(Fired(self.timers.pop(0)[2]))

    def _tell(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        if not isinstance(outcome, Fired) and self.wanted.get(outcome.path) == outcome.attempt:
            del self.wanted[outcome.path]
        self.decider.tell(outcome, self._now())
        ended = {key for _, _, key in self.timers if self.decider.settled(key)}
        self.timers = [t for t in self.timers if t[2] not in ended]

    def _call(self, call: Invoke) -> Outcome:
        deadline = None
        clock = self.driver.clock
        if call.deadline is not None:
            deadline = clock.monotonic() + (call.deadline - clock.now()).total_seconds()

        def wanted() -> bool:
            return not self.cancelled and self.wanted.get(call.path) == call.attempt

        mine = Call(idempotency_key=call.key, deadline=deadline, wanted=wanted)
        return carried_out(call, mine, self.connections.invoke, self.driver.journal.mask)

    def _end(self) -> str:
        decider = self.decider
        self._collect()
        if decider.status is None:
            waiting = next(iter(decider.waiting.values()), None)
            wake = min(self.timers)[0].isoformat() if self.timers else None
            self.driver.journal.write(self.id, self.unsaved, {"status": "waiting", "error": waiting, "wake": wake})
            return "waiting"
        ended: dict[str, JSON] = {"status": decider.status, "ended": self._now().isoformat(), "error": decider.error}
        secure = decider.program.secure.get("")  # then they are shown to nobody
        ended |= {"outputs": (SECURED if secure else decider.outputs) or None}
        ended |= {"business_key": None if secure else decider.business_key}
        self.driver.journal.write(self.id, self.unsaved, ended)
        return decider.status


def carried_out(
    call: Invoke,
    mine: Call,
    invoke: Callable[[str, str, Mapping[str, JSON]], Result[Any]],
    mask: Callable[[str], str] = lambda text: text,
) -> Outcome:
    """What comes of a call: an answer as JSON, or an error sorted. Raises nothing: a connector's bug is its step's."""
    token = CURRENT_CALL.set(mine)
    try:
        result = invoke(call.connection, call.operation, call.inputs)
        body, outputs = plain(result.body), plain(result.outputs) or None
        return Done(call.path, call.attempt, body, result.changed, result.summary, outputs)
    except FlowrunError as error:
        outputs = plain(error.outputs) or None
        return Failed(call.path, call.attempt, error_of(error), error.retry_after, error.answer_lost, outputs)
    except Exception as error:  # noqa: BLE001 - a bug in a connector: its step fails, the run goes on
        text = f"{type(error).__name__} in {call.connection}.{call.operation}: {mask(str(error))}"
        bug = {"kind": "bug", "code": type(error).__name__, "message": text}
        return Failed(call.path, call.attempt, bug, None, call.effect == "write")
    finally:
        CURRENT_CALL.reset(token)
