"""Webhooks: an event is verified by its connection, recorded, and only then acknowledged."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from engine.contract import Clock, Request
from engine.effects import error_of
from engine.errors import DataError, RemoteError
from engine.local.dispatcher import Outcome
from engine.local.journal import Queued
from engine.local.starts import Flow
from engine.model import Respond, Webhook
from engine.types import JSON, plain

LOG = logging.getLogger("flowrun.hooks")
REFUSALS = 30  # unverifiable calls of one address in a minute; more are answered alike, and not logged
ADDRESSES = 4096  # that are remembered


@dataclass(frozen=True)
class Started:
    """What became of one event: a run, new or known, or `ignored` / `skipped` (no run)."""

    outcome: str
    run: str | None = None


class Hook:
    """One webhook trigger of a served flow. `submit` takes a queued run and who wants to hear its outcome."""

    def __init__(
        self, flow: Flow, name: str, submit: Callable[[Queued, Future[Outcome] | None], None], clock: Clock
    ) -> None:
        trigger = flow.program.flow.triggers[name]
        assert isinstance(trigger, Webhook)
        self.flow = flow
        self.name = name
        self.trigger = trigger
        self.submit = submit
        self.clock = clock
        self.parameters = flow.parameters({})
        self.responds = any(isinstance(step, Respond) for step in flow.program.flow.all_steps.values())
        self._schema = Draft202012Validator(trigger.schema) if trigger.schema else None

    def receive(self, request: Request, told: Future[Outcome] | None = None) -> list[Started]:
        """Raises RemoteError (400, 401, 403) for a call that isn't from where it should be, ConfigError for a
        connection that can't tell.
        """
        connection = self.flow.workspace.connections[self.flow.program.connections[self.trigger.webhook]]
        out: list[Started] = []
        for event in connection.receive(request):
            if self.trigger.events is not None and event.type not in self.trigger.events:
                out.append(Started("ignored"))
                continue
            given = {"name": self.name, "event": plain(event)}
            try:
                fault = next(iter(self._schema.iter_errors(given["event"])), None) if self._schema else None
                if fault is not None:
                    raise DataError(f"the event: {fault.json_path}: {fault.message}", code="SchemaViolation")
                for trigger in self.flow.split(given, self.parameters):
                    first = all(one.outcome != "started" for one in out)
                    out.append(self._start(trigger, told if first else None))
            except DataError as error:
                out.append(self._unfit(given, error))
        return out

    def _start(self, trigger: Mapping[str, JSON], told: Future[Outcome] | None) -> Started:
        if not self.flow.wanted(trigger, self.parameters):
            return Started("skipped")
        row = self.flow.row(trigger, self.parameters)
        id, created = self.flow.workspace.journal.enqueue(row, self.flow.documents)
        if created:
            self.submit(Queued(id, lane=row.lane, collapse=row.collapse), told)
        return Started("started" if created else "known", id)

    def _unfit(self, trigger: Mapping[str, JSON], error: DataError) -> Started:
        """A verified event is never refused for its shape: it is a run that failed, for a person to look at."""
        journal, row = self.flow.workspace.journal, self.flow.row(trigger, self.parameters, bound=False)
        journal.create(row, self.flow.documents, durable=False)
        ended = {"status": "failed", "ended": self.clock.now().isoformat(), "error": error_of(error)}
        journal.write(row.id, [], ended)
        return Started("unfit", row.id)


class Refusals:
    """How often calls of an address could not be verified in this minute."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def too_many(self, address: str) -> bool:
        began, count = self._counts.get(address, (0.0, 0))
        return count >= REFUSALS and self.clock.monotonic() - began < 60

    def note(self, address: str, error: RemoteError) -> None:
        """Counts a refusal, and logs it."""
        now = self.clock.monotonic()
        with self._lock:
            began, count = self._counts.pop(address, (now, 0))
            self._counts[address] = (began, count + 1) if now - began < 60 else (now, 1)
            while len(self._counts) > ADDRESSES:
                self._counts.popitem(last=False)
        LOG.warning("call from %s refused: %s %s", address, error.message, error.hint)


def hooks_of(flow: Flow, submit: Callable[[Queued, Any], None], clock: Clock) -> Iterator[Hook]:
    """A hook for each webhook trigger."""
    for name, trigger in flow.program.flow.triggers.items():
        if isinstance(trigger, Webhook):
            yield Hook(flow, name, submit, clock)
