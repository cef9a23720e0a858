"""Schedules and polls: when they act, what they start, and that nothing is lost or doubled by a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import CATALOG, NOON

from engine import Result, TransientError
from engine.loader import check, load
from engine.local.journal import Journal, Queued
from engine.local.starts import Flow
from engine.local.timetable import Timetable, occurrences
from engine.model import Schedule
from engine.testing import FakeClock


class Source:
    """What a poll asks: pages by cursor."""

    def __init__(self) -> None:
        self.pages: dict[Any, Any] = {}
        self.asked: list[Any] = []
        self.inputs: list[Mapping[str, Any]] = []

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, Any]) -> Result[Any]:
        self.asked.append(inputs.get("cursor"))
        self.inputs.append(inputs)
        body = self.pages[inputs.get("cursor")]
        if isinstance(body, Exception):
            raise body
        return Result(body=body)

    def targets(self, _: Any) -> dict[str, str]:
        return {}


class Office:
    """A flow with one trigger that acts by itself, and the runs that it started."""

    def __init__(self, trigger: str, folder: Path | None = None, source: Source | None = None) -> None:
        text = f"flow: f\nconnections: {{desk: desk}}\ntriggers: {{t: {{{trigger}}}}}\nsteps: {{a: {{compose: 1}}}}\n"
        self.source = source or Source()
        self.clock = FakeClock()
        self.journal = Journal(folder)
        program, findings = check(load(text, "f.yaml"), CATALOG)
        assert program is not None, findings
        project = SimpleNamespace(resolve=lambda value, _: value)
        workspace: Any = SimpleNamespace(
            journal=self.journal, connections=self.source, environment=SimpleNamespace(name="e"), project=project
        )
        flow = Flow(workspace, load(text, "f.yaml"), program, {}, {}, [])
        self.queued: list[Queued] = []
        self.timetable = Timetable({"f": flow}, self.queued.append, self.clock)
        (self.entry,) = self.timetable.entries

    def act(self) -> timedelta:
        """Does what is due; how long until the next time."""
        return self.timetable.act(self.entry) - self.clock.now()

    def started(self) -> list[Any]:
        """What each run since the last call started from."""
        out = [self.journal.run(run.id).trigger for run in self.queued]
        self.queued.clear()
        return out


def item(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, **more}


def hours(*which: float) -> list[str]:
    return [(NOON + timedelta(hours=h)).isoformat() for h in which]


def test_a_schedule_starts_a_run_at_each_of_its_times() -> None:
    office = Office("schedule: '0 * * * *'")
    assert office.act() == timedelta(hours=1)
    assert office.started() == []
    office.clock.advance(3600)
    assert office.act() == timedelta(hours=1)
    assert [trigger["time"] for trigger in office.started()] == hours(1)
    assert office.act() == timedelta(hours=1)
    assert office.started() == [], "once for each time"


@pytest.mark.parametrize(("missed", "times"), [("run_all", (1, 2, 3)), ("run_once", (3,)), ("skip", ())])
def test_what_was_missed(missed: str, times: tuple[float, ...]) -> None:
    office = Office(f"schedule: '0 * * * *', missed: {missed}")
    office.act()
    office.clock.advance(3 * 3600 + 1800)
    office.act()
    assert [trigger["time"] for trigger in office.started()] == hours(*times)
    office.act()
    assert office.started() == []


def test_the_local_times_of_a_zone_through_summer_time() -> None:
    trigger = Schedule(schedule="30 2 * * *", zone="Europe/Berlin")
    times = occurrences(trigger, datetime(2026, 3, 28, 12, tzinfo=UTC))  # the clocks go forward on the 29th at 2
    assert [next(times).isoformat() for _ in range(2)] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]
    times = occurrences(trigger, datetime(2026, 10, 24, 12, tzinfo=UTC))  # and back on the 25th at 3
    assert [next(times).isoformat() for _ in range(2)] == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]


@pytest.mark.parametrize(
    ("from_", "ids"),
    [("now", []), ("start", ["a", "b", "c"]), ("'2026-11-24T12:00:00Z'", ["b"])],
)
def test_where_a_poll_begins(from_: str, ids: list[str]) -> None:
    office = Office(f"poll: desk.changes, from: {from_}, every: 2m")
    office.source.pages = {
        None: {"items": [item("a", time="2026-11-24T11:00:00Z")], "cursor": "1", "more": True, "full": True},
        "1": {
            "items": [item("b", time="2026-11-24T13:00:00Z"), item("c", time="2026-11-01")],
            "cursor": "2",
            "full": True,
        },
        "2": {"items": [item("d")], "cursor": "3"},
    }
    assert office.act() == timedelta(minutes=2)
    assert [trigger["event"]["id"] for trigger in office.started()] == ids
    office.act()
    assert [trigger["event"]["id"] for trigger in office.started()] == ["d"]
    assert office.source.asked == [None, "1", "2"]


def test_an_expired_cursor_starts_no_run_for_what_has_not_changed() -> None:
    office = Office("poll: desk.changes")
    office.source.pages = {None: {"items": [item("a", n=1), item("b", n=1)], "cursor": "1", "full": True}}
    office.act()
    office.source.pages["1"] = {"items": [item("a", n=1), item("b", n=2), item("c", n=1)], "cursor": "9", "full": True}
    office.act()
    assert [trigger["event"] for trigger in office.started()] == [item("b", n=2), item("c", n=1)]


def test_the_same_item_again_is_the_same_run_by_its_key() -> None:
    office = Office("poll: desk.changes, key: \"concat(trigger.event.id, '-', trigger.event.n)\", from: start")
    office.source.pages = {
        None: {"items": [item("a", n=1)], "cursor": "1"},
        "1": {"items": [item("a", n=1), item("a", n=2)], "cursor": "2"},  # the overlap
    }
    office.act()
    office.act()
    assert [trigger["event"] for trigger in office.started()] == [item("a", n=1), item("a", n=2)]


def test_a_poll_that_fails_is_asked_again_where_it_was() -> None:
    office = Office("poll: desk.changes, every: 5m")
    office.source.pages = {None: {"items": [], "cursor": "1"}, "1": TransientError("busy", retry_after=7)}
    office.act()
    assert office.act() == timedelta(seconds=7)
    office.source.pages["1"] = {"items": [item("a")], "cursor": "2"}
    assert office.act() == timedelta(minutes=5)
    assert [trigger["event"]["id"] for trigger in office.started()] == ["a"]


@pytest.mark.parametrize("cut", range(6))
def test_a_restart_loses_nothing_and_doubles_nothing(tmp_path: Path, cut: int) -> None:
    """The process ends at any of its commits, and another one goes on."""
    source = Source()
    source.pages = {
        None: {"items": [item("a"), item("b")], "cursor": "1", "more": True},
        "1": {"items": [item("c")], "cursor": "2", "more": True},
        "2": {"items": [item("d")], "cursor": "3"},
        "3": {"items": [], "cursor": "3"},
    }
    office = Office("poll: desk.changes, from: start", tmp_path / "state", source)
    left = [cut]
    commit: Callable[..., Any] = office.journal.commit

    def dying(work: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return commit(work)

    office.journal.commit = dying  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt):
        office.act()
    office.journal.close()
    again = Office("poll: desk.changes, from: start", tmp_path / "state", source)
    again.act()
    ids = sorted(run.trigger["event"]["id"] for run in again.journal.runs(limit=100))
    assert ids == ["a", "b", "c", "d"]
    again.journal.close()
