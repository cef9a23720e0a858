"""The dispatcher: order, lanes, collapse, waits, what a dead process left, one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.contract import SystemClock
from engine.errors import ConfigError
from engine.local.dispatcher import Dispatcher, Outcome
from engine.local.journal import Journal, Queued, Run

DOCUMENT = {"d": ("f.yaml", "flow: f\n")}


class Hall:
    """A dispatcher whose runs do what a test says, and what they did."""

    def __init__(self, folder: Path | None, threads: int = 4) -> None:
        self.journal = Journal(folder)
        self.began: list[str] = []
        self.at_once: list[int] = []
        self.acts: dict[str, Callable[[], Outcome]] = {}
        self._lock = threading.Lock()
        self._under_way = 0
        self.dispatcher = Dispatcher(self.journal, SystemClock(), self.perform, environment="e", threads=threads)

    def perform(self, run: Queued) -> Outcome:
        with self._lock:
            self.began.append(run.id)
            self._under_way += 1
            self.at_once.append(self._under_way)
        try:
            return self.acts.get(run.id, lambda: Outcome("succeeded"))()
        finally:
            with self._lock:
                self._under_way -= 1

    def queue(self, id: str, lane: str | None = None, *, collapse: bool = False) -> Future[Outcome]:
        row = Run(id=id, flow="f", digest="d", environment="e", lane=lane, collapse=collapse, started=datetime.now(UTC))
        self.journal.enqueue(row, DOCUMENT)
        number = self.journal.run(id).number
        told: Future[Outcome] = Future()
        self.dispatcher.submit(Queued(id, number, lane, collapse), told)
        return told


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    found = Hall(tmp_path / "state")
    yield found
    found.dispatcher.stop(5)
    found.journal.close()


def gate(hall: Hall, id: str) -> threading.Event:
    """The run with this id goes on until the event is set."""
    event = threading.Event()
    hall.acts[id] = lambda: Outcome("succeeded" if event.wait(5) else "failed")
    return event


def test_runs_begin_in_their_order_and_side_by_side(hall: Hall) -> None:
    told = [hall.queue(str(n)) for n in range(20)]
    hall.dispatcher.start()
    assert [future.result(5).status for future in told] == ["succeeded"] * 20
    assert sorted(hall.began, key=int) == [str(n) for n in range(20)]


def test_one_run_at_a_time_in_a_lane_in_the_order_of_arrival(hall: Hall) -> None:
    open_ = gate(hall, "a1")
    told = [hall.queue(id, "a") for id in ("a1", "a2", "a3")]
    other = hall.queue("b1", "b")
    hall.dispatcher.start()
    assert other.result(5).status == "succeeded"
    assert "a2" not in hall.began
    open_.set()
    assert [future.result(5).status for future in told] == ["succeeded"] * 3
    assert [id for id in hall.began if id.startswith("a")] == ["a1", "a2", "a3"]


def test_a_newer_run_supersedes_those_that_have_not_begun(hall: Hall) -> None:
    open_ = gate(hall, "1")
    first = hall.queue("1", "a", collapse=True)
    hall.dispatcher.start()
    while not hall.began:
        time.sleep(0.001)
    for id in ("2", "3"):
        hall.queue(id, "a", collapse=True)
    last = hall.queue("4", "a", collapse=True)
    open_.set()
    assert first.result(5).status == last.result(5).status == "succeeded"
    assert hall.began == ["1", "4"]
    assert [hall.journal.run(id).status for id in ("2", "3")] == ["superseded", "superseded"]


def test_a_parked_run_holds_no_thread_and_gives_its_lane_up(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "state", threads=1)
    waits = iter([Outcome("waiting", datetime.now(UTC) + timedelta(seconds=0.2)), Outcome("succeeded")])
    hall.acts["1"] = lambda: next(waits)
    first, second = hall.queue("1", "a"), hall.queue("2", "a")
    hall.dispatcher.start()
    assert first.result(5).status == "waiting"
    assert second.result(5).status == "succeeded"
    end = time.monotonic() + 5
    while hall.began != ["1", "2", "1"]:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert hall.dispatcher.stop(5)
    hall.journal.close()


def test_what_is_left_is_taken_up_in_its_order(tmp_path: Path) -> None:
    before = Hall(tmp_path / "state")
    for id in ("1", "2", "3"):
        before.queue(id, "a")
    before.journal.take_over("1")
    before.journal.close()  # the process is gone: run 1 was under way
    hall = Hall(tmp_path / "state")
    hall.dispatcher.start()
    end = time.monotonic() + 5
    while len(hall.began) < 3:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert hall.began == ["1", "2", "3"]
    hall.dispatcher.stop(5)
    hall.journal.close()


def test_only_one_process_has_the_role(hall: Hall) -> None:
    hall.dispatcher.start()
    with pytest.raises(ConfigError, match="another flowrun serve"):
        Hall(hall.journal.folder).dispatcher.start()


def test_a_run_that_breaks_leaves_its_thread_and_lane_free(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "state", threads=1)
    hall.acts["1"] = lambda: 1 / 0  # type: ignore[return-value]
    first, second = hall.queue("1", "a"), hall.queue("2", "a")
    hall.dispatcher.start()
    assert (first.result(5).status, second.result(5).status) == ("interrupted", "succeeded")
    assert hall.dispatcher.stop(5)
    hall.journal.close()


def test_what_has_not_begun_can_be_dropped(hall: Hall) -> None:
    open_ = gate(hall, "1")
    first = hall.queue("1", "a")
    hall.dispatcher.start()
    while not hall.began:
        time.sleep(0.001)
    hall.queue("2", "a")
    third = hall.queue("3", "a")
    assert hall.dispatcher.drop("2")
    assert not hall.dispatcher.drop("1")
    open_.set()
    assert first.result(5).status == third.result(5).status == "succeeded"
    assert hall.began == ["1", "3"]


def test_no_more_at_once_than_there_are_threads(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "state", threads=3)
    told = []
    for n in range(12):
        hall.acts[str(n)] = lambda: (time.sleep(0.01), Outcome("succeeded"))[1]
        told.append(hall.queue(str(n)))
    hall.dispatcher.start()
    assert [future.result(5).status for future in told] == ["succeeded"] * 12
    assert max(hall.at_once) == 3
    hall.dispatcher.stop(5)
    hall.journal.close()
