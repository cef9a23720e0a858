"""Triggers that act by themselves: schedules by their cron lines, polls by their cursors.

What has been told of a trigger, and the runs that it started, are one commit: none is lost and none comes twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from engine.contract import CURRENT_CALL, Call, Clock
from engine.errors import DataError, FlowrunError
from engine.expressions import Ambient
from engine.local.journal import Documents, Position, Queued, Run
from engine.local.starts import Flow
from engine.model import Poll, Schedule, Trigger, seconds
from engine.types import JSON, plain

LOG = logging.getLogger("flowrun.timetable")
MOST_MISSED = 1000  # runs that `missed: run_all` makes up for
AFTER_A_FAILURE = 30.0  # seconds until a poll that failed is tried again, at the latest


@dataclass(frozen=True)
class Entry:
    """One trigger that acts by itself."""

    flow: Flow
    name: str
    trigger: Trigger

    @property
    def key(self) -> tuple[str, str, str]:
        return self.flow.workspace.environment.name, self.flow.program.flow.flow, self.name


class Timetable:
    """Acts on the schedules and polls of flows. `submit` is told of each run that was queued."""

    def __init__(self, flows: Mapping[str, Flow], submit: Callable[[Queued], None], clock: Clock) -> None:
        self.clock = clock
        self.submit = submit
        self.entries = [
            Entry(flow, name, trigger)
            for flow in flows.values()
            for name, trigger in flow.program.flow.triggers.items()
            if isinstance(trigger, Schedule | Poll)
        ]
        self._woken = threading.Event()
        self._open = True
        self._thread = threading.Thread(target=self._work, name="flowrun-timetable", daemon=True)

    def start(self) -> None:
        """Begins, if there is anything to do."""
        if self.entries:
            self._thread.start()

    def stop(self) -> None:
        self._open = False
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _work(self) -> None:
        due = {entry.key: self.clock.now() for entry in self.entries}
        while self._open:
            entry = min(self.entries, key=lambda e: due[e.key])
            left = (due[entry.key] - self.clock.now()).total_seconds()
            if left > 0:
                self.clock.sleep(left, self._woken)
                continue
            due[entry.key] = self.act(entry)

    def act(self, entry: Entry) -> datetime:
        """Does what is due of a trigger, and says when to look again."""
        try:
            return self._schedule(entry, entry.trigger) if isinstance(entry.trigger, Schedule) else self._poll(entry)
        except FlowrunError as error:
            LOG.warning("trigger %s of %s: %s", entry.name, entry.flow.program.flow.flow, error.message)
            return self.clock.now() + timedelta(seconds=error.retry_after or AFTER_A_FAILURE)

    # Schedules

    def _schedule(self, entry: Entry, trigger: Schedule) -> datetime:
        now, journal = self.clock.now(), entry.flow.workspace.journal
        before = journal.position(*entry.key)
        if before is None:
            journal.advance(*entry.key, Position(at=now), [])
            return next(occurrences(trigger, now))
        missed: list[datetime] = []
        for moment in occurrences(trigger, before.at):
            if moment > now or len(missed) >= MOST_MISSED:
                break
            missed.append(moment)
        on_time = [moment for moment in missed if now - moment < timedelta(seconds=60)]
        wanted = {"run_all": missed, "run_once": missed[-1:], "skip": on_time}[trigger.missed]
        runs = [run for moment in wanted for run in self._runs(entry, {"time": moment.isoformat()}, moment.isoformat())]
        if missed:
            self._advance(entry, Position(at=missed[-1]), runs)
        return next(occurrences(trigger, now))

    # Polls

    def _poll(self, entry: Entry) -> datetime:
        trigger, journal = entry.trigger, entry.flow.workspace.journal
        assert isinstance(trigger, Poll)
        again = self.clock.now() + timedelta(seconds=seconds(trigger.every))
        before = journal.position(*entry.key)
        first, cursor, more = before is None, before.cursor if before else None, True
        while more and self._open:
            page = self._page(entry, trigger, cursor)
            items = page.get("items") or []
            if not isinstance(items, list):
                raise DataError(f"{trigger.poll} gave no list of items", code="NoList")
            digests = {_identity(item): _digest(item) for item in items}
            seen = journal.polled(*entry.key, list(digests)) if first or page.get("full") else {}
            fresh = [item for item in items if seen.get(_identity(item)) != _digest(item)]
            wanted = [item for item in fresh if self._since(trigger, item, first=first)]
            runs = [run for item in wanted for run in self._runs(entry, {"event": item})]
            cursor, more = page.get("cursor"), bool(page.get("more"))
            # Until the first listing is through there is no position: a restart begins it anew, and knows what it saw.
            position = None if first and more else Position(self.clock.now(), cursor)
            self._advance(entry, position, runs, digests)
        return again

    def _page(self, entry: Entry, trigger: Poll, cursor: str | None) -> Mapping[str, JSON]:
        program = entry.flow.program
        scope = {"trigger": {"name": entry.name}, "parameters": entry.flow.parameters({})}
        inputs = program.expressions.render(trigger.with_, scope, Ambient(self.clock.now(), entry.name))
        operation = program.operations[trigger.poll]
        if "cursor" in operation.inputs:
            inputs = {**inputs, "cursor": cursor}
        alias, _, name = trigger.poll.partition(".")
        token = CURRENT_CALL.set(Call(idempotency_key=f"{entry.key}"))
        try:
            body = plain(entry.flow.workspace.connections.invoke(program.connections[alias], name, inputs).body)
        finally:
            CURRENT_CALL.reset(token)
        return body if isinstance(body, dict) else {"items": body}

    def _since(self, trigger: Poll, item: JSON, *, first: bool) -> bool:
        """Whether an item of the first listing is one that the flow asks for."""
        if not first or trigger.from_ == "start":
            return True
        if trigger.from_ == "now":
            return False
        moment = item.get("time") if isinstance(item, dict) else None
        return moment is None or _time(str(moment)) >= _time(trigger.from_)

    # Both

    def _runs(self, entry: Entry, given: Mapping[str, JSON], key: str | None = None) -> Iterator[tuple[Run, Documents]]:
        """The runs that one occurrence starts; `key` stands where the trigger has none of its own."""
        flow, parameters = entry.flow, entry.flow.parameters({})
        for trigger in flow.split({"name": entry.name, **given}, parameters):
            if flow.wanted(trigger, parameters):
                row = flow.row(trigger, parameters)
                yield flow.keyed(row, key), flow.documents

    def _advance(
        self,
        entry: Entry,
        position: Position | None,
        runs: list[tuple[Run, Documents]],
        digests: Mapping[str, str] | None = None,
    ) -> None:
        journal = entry.flow.workspace.journal
        for (run, _), (id, created) in zip(
            runs, journal.advance(*entry.key, position, runs, digests or {}), strict=True
        ):
            if created:
                self.submit(Queued(id, lane=run.lane, collapse=run.collapse))


def occurrences(trigger: Schedule, after: datetime) -> Iterator[datetime]:
    """The times of a schedule after a moment, in UTC. A local time that summer time leaves out comes right after the
    gap, one that it doubles comes once (cronsim's rules, which are those of Debian's cron).
    """
    for moment in CronSim(trigger.schedule, after.astimezone(ZoneInfo(trigger.zone))):
        yield moment.astimezone(UTC)


def _identity(item: JSON) -> str:
    return str(item.get("id")) if isinstance(item, dict) and "id" in item else _digest(item)


def _digest(item: JSON) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
