"""Begins a recorded run, or goes on with it, for a dispatcher: by the documents that it was made by."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from engine.contract import Clock
from engine.decider import Decider
from engine.effects import SECURED, Record
from engine.local.dispatcher import Outcome
from engine.local.driver import Driver
from engine.local.journal import Queued, Run
from engine.local.starts import Connections, Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cli.wiring import Workspace

PATIENCE = 60.0  # seconds that a run waits on its thread; longer waits are parked
KEPT = 64  # flows that are kept compiled


class Performer:
    """Performs runs of one workspace. Safe for several threads; `started` is told of each run that a run queues."""

    def __init__(self, workspace: Workspace, clock: Clock, started: Callable[[str], None]) -> None:
        self.workspace = workspace
        self.clock = clock
        self.started = started
        self.driver = Driver(workspace.journal, clock, patience=PATIENCE)
        self._flows: OrderedDict[object, Flow] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, flow: Flow) -> None:
        """Makes a flow known that runs will be of."""
        digests = {name: document.digest for name, document in flow.inner.items()}
        self._keep((flow.document.digest, str(digests), str(dict(flow.connect))), flow)

    def __call__(self, queued: Queued) -> Outcome:
        """Raises ConfigError where the run can't go on here; it then stays as it is recorded."""
        journal = self.workspace.journal
        run = journal.run(queued.id)
        if run.status in ("succeeded", "failed", "cancelled", "superseded"):
            return Outcome(run.status)
        flow = self._flow(run)
        parameters = flow.parameters({})
        parameters |= {name: value for name, value in run.parameters.items() if value != SECURED}
        records: list[Record] = []
        if run.status == "queued":
            journal.take_up(run.id)
        else:
            journal.take_over(run.id)
            records = journal.records(run.id)
        decider = Decider(flow.program, flow.start(run.id, run.trigger, parameters), records)
        status = self.driver.run(run.id, decider, Connections(flow, self.started))
        wake = journal.run(run.id).wake if status == "waiting" else None
        return Outcome(status, wake, decider.response)

    def _flow(self, run: Run) -> Flow:
        key = (run.digest, str(dict(run.flows)), str(dict(run.connect)))
        with self._lock:
            if key in self._flows:
                self._flows.move_to_end(key)
                return self._flows[key]
        flow = Flow.of(self.workspace, run)
        self._keep(key, flow)
        return flow

    def _keep(self, key: object, flow: Flow) -> None:
        with self._lock:
            self._flows[key] = flow
            while len(self._flows) > KEPT:
                self._flows.popitem(last=False)
