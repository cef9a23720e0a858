"""Runs what is queued: threads of one process over the journal, lanes in their order, waits without a thread.

Coordination is the operating system's: one process at a time holds the journal's dispatcher role, by a lock on a file.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import IO

from engine.contract import Clock
from engine.errors import ConfigError
from engine.local.database import lock
from engine.local.journal import Journal, Queued

LOG = logging.getLogger("flowrun.dispatcher")


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or until when it waits (None with `waiting`: for a person)."""

    status: str
    wake: datetime | None = None
    response: object = None


class Dispatcher:
    """`perform` begins or goes on with a run and gives its outcome; it is called on one of `threads` threads."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        perform: Callable[[Queued], Outcome],
        *,
        environment: str = "",
        threads: int = 8,
    ) -> None:
        self.journal = journal
        self.environment = environment
        self.clock = clock
        self.perform = perform
        self._changed = threading.Condition()
        self._ready: deque[Queued] = deque()
        self._lanes: dict[str, deque[Queued]] = {}  # the first of each is the one whose turn it is
        self._asleep: list[tuple[datetime, int, Queued]] = []
        self._busy: set[str] = set()
        self._awaited: dict[str, Future[Outcome]] = {}
        self._open = True
        self._role: IO[str] | None = None
        self._threads = [threading.Thread(target=self._work, name=f"flowrun-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Takes the role and what the last process left, and begins. Raises ConfigError if another process has it."""
        if self.journal.folder is not None:
            self._role = (self.journal.folder / "locks" / "dispatcher").open("w", encoding="utf-8")
            try:
                lock(self._role)
            except OSError as error:
                self._role.close()
                message = "another flowrun serve works on this journal"
                raise ConfigError(message, code="Dispatcher", hint="stop it, or use another --connections") from error
        known = {run.id for run in self._queued()}
        for run in self.journal.pending(self.environment):
            if run.id not in known:
                self.submit(run)
        for thread in self._threads:
            thread.start()

    def submit(self, run: Queued, told: Future[Outcome] | None = None) -> None:
        """A run that is recorded and is to begin, or to go on at its `wake`. `told` gets its next outcome."""
        with self._changed:
            if told is not None:
                self._awaited[run.id] = told
            if run.wake is not None and run.wake > self.clock.now():
                heapq.heappush(self._asleep, (run.wake, run.number, run))
            elif run.lane is None:
                self._ready.append(run)
            else:
                self._line_up(run, run.lane)
            self._changed.notify()

    def _line_up(self, run: Queued, name: str) -> None:
        lane = self._lanes.setdefault(name, deque())
        if run.collapse:
            for older in [r for r in lane if r.collapse and r.fresh and r.id not in self._busy]:
                lane.remove(older)
                if older in self._ready:
                    self._ready.remove(older)
                self.journal.write(older.id, [], {"status": "superseded", "ended": self.clock.now().isoformat()})
        lane.append(run)
        if lane[0] is run:
            self._ready.append(run)

    def drop(self, id: str) -> bool:
        """Takes a run that hasn't begun, or sleeps, out of the queue. False: it isn't there."""
        with self._changed:
            found = next((run for run in self._queued() if run.id == id and id not in self._busy), None)
            if found is None:
                return False
            if found in self._ready:
                self._ready.remove(found)
            self._asleep = [entry for entry in self._asleep if entry[2] is not found]
            heapq.heapify(self._asleep)
            if found.lane is not None and found in self._lanes.get(found.lane, ()):
                self._leave(found)
            return True

    def _queued(self) -> list[Queued]:
        in_line = (run for lane in self._lanes.values() for run in lane)
        return [*self._ready, *in_line, *(run for _, _, run in self._asleep)]

    @property
    def load(self) -> dict[str, int]:
        """How many runs are under way, ready, in line, asleep."""
        with self._changed:
            in_lanes = sum(len(lane) for lane in self._lanes.values())
            found = {"running": len(self._busy), "ready": len(self._ready), "in_lanes": in_lanes}
            return {**found, "asleep": len(self._asleep)}

    def stop(self, timeout: float = 30.0) -> bool:
        """Begins nothing more and waits for what is under way. False: some of it went on for longer than that."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._busy, timeout)
        if self._role is not None:
            self._role.close()
        return done

    def _work(self) -> None:
        while (run := self._next()) is not None:
            try:
                outcome = self.perform(run)
            except Exception as error:
                LOG.exception("run %s can't go on", run.id[:8])
                outcome = Outcome("interrupted", response=str(error))
            self._done(run, outcome)

    def _next(self) -> Queued | None:
        with self._changed:
            while True:
                now = self.clock.now()
                while self._asleep and self._asleep[0][0] <= now:
                    run = heapq.heappop(self._asleep)[2]
                    self.submit(replace(run, wake=None))
                if not self._open:
                    return None
                if self._ready:
                    run = self._ready.popleft()
                    self._busy.add(run.id)
                    return run
                left = (self._asleep[0][0] - now).total_seconds() if self._asleep else None
                self._changed.wait(left)

    def _done(self, run: Queued, outcome: Outcome) -> None:
        with self._changed:
            self._busy.discard(run.id)
            told = self._awaited.pop(run.id, None)
            if run.lane is not None:
                self._leave(run)
            if outcome.status == "waiting" and outcome.wake is not None:
                later = replace(run, wake=outcome.wake, fresh=False)
                heapq.heappush(self._asleep, (outcome.wake, run.number, later))
            self._changed.notify_all()
        if told is not None:
            told.set_result(outcome)

    def _leave(self, run: Queued) -> None:
        """Gives up its place in the lane: the next one is ready."""
        assert run.lane is not None
        lane = self._lanes[run.lane]
        first = lane[0] is run
        lane.remove(run)
        if not lane:
            del self._lanes[run.lane]
        elif first:
            self._ready.append(lane[0])
