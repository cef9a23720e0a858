"""The local driver: threads, timers, time-outs, and what is durable when. No test waits longer than a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from scripted import NOON, program

from engine import ConfigError, DataError, Result, TransientError, UncertainError
from engine.contract import CURRENT_CALL, Call
from engine.decider import Decider
from engine.effects import Invoke, Program, Record, Start
from engine.local.driver import Driver, Listener
from engine.local.journal import Journal, Run
from engine.testing import FakeClock
from engine.types import JSON

PATIENCE = 5  # seconds after which a test gives up


class Scripted:
    """Connections whose answers are functions of the inputs, by operation."""

    def __init__(self, **operations: Callable[[JSON], Any]) -> None:
        self.operations = operations
        self.calls: list[tuple[str, JSON]] = []
        self.contexts: list[Call] = []

    def invoke(self, alias: str, operation: str, inputs: Mapping[str, JSON]) -> Result[Any]:
        assert alias == "desk"
        value = inputs.get("value")
        self.calls.append((operation, value))
        self.contexts.append(CURRENT_CALL.get())
        answer = self.operations.get(operation, lambda given: given)(value)
        return answer if isinstance(answer, Result) else Result(body=answer)


class Bench:
    """A flow, a journal in memory, a clock that never waits."""

    def __init__(self, text: str, connections: Scripted, *, threads: int = 16, **start: Any) -> None:
        self.program: Program = program(text)
        self.connections = connections
        self.journal = Journal()
        self.clock = FakeClock()
        self.began: list[Invoke] = []
        self.seen: list[Record] = []
        listener = Listener(began=self.began.append, recorded=self.seen.append)
        self.driver = Driver(self.journal, self.clock, threads, listener=listener)
        self.journal.create(
            Run(id="run", flow="test", digest="d", environment="", started=NOON), {"d": ("f.yaml", text)}
        )
        self.decider = Decider(self.program, Start(run="run", **start))

    def run(self) -> str:
        return self.driver.run("run", self.decider, self.connections)

    @property
    def journalled(self) -> list[str]:
        return [f"{r.path} {r.status}" for r in self.journal.records("run")]


def raising(error: Exception) -> Callable[[JSON], Any]:
    def answer(_: JSON) -> Any:
        raise error

    return answer


def outcomes(*given: Any) -> Callable[[JSON], Any]:
    """One after another; the last stands."""
    left = list(given)

    def answer(_: JSON) -> Any:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return answer


def test_a_run() -> None:
    bench = Bench(
        "steps:\n  a: {call: desk.read, with: {value: 1}}\n"
        "  b: {call: desk.keep, with: {value: '{{ steps.a.body + 1 }}'}}\n"
        "outputs: {b: '{{ steps.b.body }}'}\nbusiness_key: steps.b.body\n",
        Scripted(keep=lambda v: Result(body=v * 10, changed=True, summary="kept")),
    )
    assert bench.run() == "succeeded"
    run = bench.journal.run("run")
    assert (run.status, run.outputs, run.business_key, run.ended) == ("succeeded", {"b": 20}, "20", NOON)
    record = bench.journal.records("run")[-1]
    assert (record.path, record.output, record.changed, record.summary, record.effect, record.inputs) == (
        "b", 20, True, "kept", "idempotent", {"value": 2},
    )  # fmt: skip
    assert [c.path for c in bench.began] == ["a", "b"]
    assert [r.path for r in bench.seen] == ["a", "b"]


def test_a_run_that_fails_says_why() -> None:
    error = DataError("no such row", code="NoRow", hint="add it")
    bench = Bench("steps:\n  a: {call: desk.read}\n", Scripted(read=raising(error)))
    assert bench.run() == "failed"
    assert bench.journal.run("run").error == {
        "step": "a", "kind": "data", "code": "NoRow", "message": "no such row", "hint": "add it",
    }  # fmt: skip


def test_a_sequence_needs_no_threads() -> None:
    threads: set[int] = set()
    bench = Bench(
        "steps:\n  a: {call: desk.read}\n  b: {call: desk.keep}\n  c: {wait: 1m}\n  d: {call: desk.read}\n",
        Scripted(**{name: lambda _: threads.add(threading.get_ident()) for name in ("read", "keep")}),
    )
    assert bench.run() == "succeeded"
    assert threads == {threading.get_ident()}


def test_branches_run_side_by_side() -> None:
    barrier = threading.Barrier(3)
    bench = Bench(
        "".join(["steps:\n", *(f"  s{i}: {{run_after: {{}}, call: desk.keep}}\n" for i in range(3))]),
        Scripted(keep=lambda _: barrier.wait(PATIENCE) >= 0),
    )
    assert bench.run() == "succeeded"


def test_items_run_side_by_side_up_to_the_drivers_threads() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    both = threading.Barrier(2)

    def work(value: JSON) -> JSON:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait(PATIENCE)
        with lock:
            now[0] -= 1
        return value

    bench = Bench(
        "steps:\n  each:\n    foreach: [1, 2, 3, 4]\n    concurrency: 4\n"
        "    steps: {do: {call: desk.read, with: {value: '{{ item }}'}}}\n    result: '{{ steps.do.body }}'\n"
        "outputs: {all: '{{ steps.each.body }}'}\n",
        Scripted(read=work),
        threads=2,
    )
    assert bench.run() == "succeeded"
    assert bench.decider.outputs == {"all": [1, 2, 3, 4]}
    assert most == [2]


def test_retries_wait_by_the_clock() -> None:
    bench = Bench(
        "steps:\n  a: {call: desk.read, retry: {kind: fixed, interval: 30s}}\n",
        Scripted(read=outcomes(TransientError("busy"), TransientError("busy", retry_after=3600.0), "at last")),
    )
    assert bench.run() == "succeeded"
    assert bench.clock.slept == [30, 3600]
    assert bench.journalled == ["a retrying", "a retrying", "a succeeded"]


def test_a_wait_and_branches_with_timers_end_in_their_order() -> None:
    bench = Bench(
        "steps:\n  long: {wait: 2h}\n  last: {call: desk.read, with: {value: last}}\n"
        "  short: {run_after: {}, wait: 10m}\n  first: {call: desk.read, with: {value: first}}\n",
        Scripted(),
    )
    assert bench.run() == "succeeded"
    assert bench.connections.calls == [("read", "first"), ("read", "last")]
    assert bench.clock.now() == NOON + timedelta(hours=2)


def test_a_call_is_told_its_deadline_and_key() -> None:
    bench = Bench(
        "steps:\n  pause: {wait: 5s}\n  a: {call: desk.read, timeout: 1m}\n  b: {call: desk.read}\n", Scripted()
    )
    assert bench.run() == "succeeded"
    a, b = bench.connections.contexts
    assert (a.deadline, a.idempotency_key) == (65, "run/a")
    assert (b.deadline, b.idempotency_key) == (None, "run/b")
    assert CURRENT_CALL.get() == Call()


def test_a_call_is_wanted_while_its_step_goes_on() -> None:
    wanted: list[bool] = []
    bench = Bench(
        "steps:\n  a: {call: desk.read}\n  b: {run_after: {}, call: desk.read}\n",
        Scripted(read=lambda _: wanted.append(CURRENT_CALL.get().wanted())),
    )
    assert bench.run() == "succeeded"
    assert wanted == [True, True]


class Hanging:
    """A call that answers only when it is let go."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.begun, self.release, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.calls: list[Call] = []

    def __call__(self, _: JSON) -> Any:
        self.calls.append(CURRENT_CALL.get())
        self.begun.set()
        assert self.release.wait(PATIENCE)
        self.ended.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_after_a_time_out_a_call_is_not_wanted_and_its_answer_is_late() -> None:
    hanging = Hanging("too late")

    def let_go(_: JSON) -> JSON:
        assert not hanging.calls[0].wanted()
        hanging.release.set()
        assert hanging.ended.wait(PATIENCE)
        return "went on"

    bench = Bench(
        "steps:\n  a: {call: desk.read, timeout: 50ms}\n  b: {run_after: {a: timed_out}, call: desk.keep}\n"
        "  c: {call: desk.find, with: {id: x}}\n",
        Scripted(read=hanging, keep=let_go),
    )
    assert bench.run() == "succeeded"
    records = bench.journal.records("run")
    late = [r for r in records if r.status == "late"]
    assert [r.path for r in late] in ([], ["a"])
    assert [(r.path, r.status) for r in records if r.status != "late"] == [
        ("a", "timed_out"), ("b", "succeeded"), ("c", "succeeded"),
    ]  # fmt: skip


def test_a_late_answer_is_noted() -> None:
    hanging = Hanging("too late")
    bench = Bench(
        "steps:\n  a: {call: desk.read, timeout: 50ms}\n  b: {run_after: {a: timed_out}, wait: 1h}\n"
        "  c: {run_after: {}, call: desk.keep}\n  d: {run_after: [b, c], call: desk.find, with: {id: x}}\n",
        Scripted(read=hanging),
    )

    def keep(_: JSON) -> JSON:
        """Goes on until `a` has timed out and has then answered."""
        for _ in range(PATIENCE * 100):
            if hanging.calls and not hanging.calls[0].wanted():
                break
            threading.Event().wait(0.01)
        hanging.release.set()
        assert hanging.ended.wait(PATIENCE)
        for _ in range(PATIENCE * 100):
            if any(r.status == "late" for r in bench.seen):
                break
            threading.Event().wait(0.01)
        return None

    bench.connections.operations["keep"] = keep
    bench.clock = FakeClock()
    assert bench.run() == "succeeded"
    late = [r for r in bench.journal.records("run") if r.status == "late"]
    assert [(r.path, r.output) for r in late] == [("a", "too late")]


def test_after_a_terminate_a_call_is_not_wanted() -> None:
    hanging = Hanging()
    bench = Bench(
        "steps:\n  a: {call: desk.read}\n  b: {run_after: {}, call: desk.keep}\n  stop: {terminate: cancelled}\n",
        Scripted(read=hanging, keep=lambda _: hanging.begun.wait(PATIENCE)),
    )
    assert bench.run() == "cancelled"
    assert not hanging.calls[0].wanted()
    hanging.release.set()
    assert bench.journalled == ["b succeeded", "stop succeeded", "a cancelled"]
    assert bench.journal.run("run").status == "cancelled"


def test_a_time_out_while_the_clock_stands_still_elsewhere() -> None:
    """A retry's timer of another branch does not keep a time-out from firing first."""
    hanging = Hanging()
    bench = Bench(
        "steps:\n  a: {call: desk.read, timeout: 50ms}\n"
        "  b: {run_after: {}, call: desk.keep, retry: {kind: fixed, interval: 1h}}\n",
        Scripted(read=hanging, keep=outcomes(TransientError("busy"), "fine")),
    )
    assert bench.run() == "failed"
    hanging.release.set()
    assert bench.journal.run("run").error is not None
    assert {r.path: r.status for r in bench.journal.records("run")} == {"a": "timed_out", "b": "succeeded"}


def test_records_are_durable_before_anything_is_changed() -> None:
    seen: dict[str, list[str]] = {}
    bench = Bench(
        "variables: {n: 0}\nsteps:\n  r: {call: desk.read}\n  i: {increment: {n: 1}}\n  k: {call: desk.keep}\n"
        "  r2: {call: desk.read}\n  s: {call: desk.send}\n  r3: {call: desk.read}\n  m: {call: desk.mail}\n",
        Scripted(),
    )

    def look(operation: str) -> Callable[[JSON], JSON]:
        def answer(value: JSON) -> JSON:
            seen.setdefault(operation, list(bench.journalled))
            return value

        return answer

    bench.connections.operations |= {name: look(name) for name in ("keep", "send", "mail")}
    assert bench.run() == "succeeded"
    assert seen["keep"] == ["r succeeded", "i succeeded"]
    assert seen["send"] == [*seen["keep"], "k succeeded", "r2 succeeded", "s started"]
    assert seen["mail"] == [*seen["send"], "s succeeded", "r3 succeeded", "m started"]


def test_records_are_durable_before_a_change_side_by_side() -> None:
    """A branch that changes something waits for what the others have recorded by then."""
    missing: list[str] = []
    bench = Bench(
        "steps:\n  each:\n    foreach: [1, 2, 3, 4, 5, 6]\n    concurrency: 3\n"
        "    steps: {r: {call: desk.read}, s: {call: desk.send, with: {value: '{{ index }}'}}}\n",
        Scripted(),
    )

    def send(index: JSON) -> None:
        journalled = bench.journalled
        missing.extend(n for n in (f"each[{index}]/r succeeded", f"each[{index}]/s started") if n not in journalled)

    bench.connections.operations["send"] = send
    assert bench.run() == "succeeded"
    assert missing == []


def test_records_are_durable_before_a_wait() -> None:
    bench = Bench("steps:\n  a: {call: desk.read}\n  b: {wait: 1h}\n", Scripted())
    seen: list[list[str]] = []
    sleep = bench.clock.sleep

    def look(seconds: float, woken: object = None) -> None:
        seen.append(bench.journalled)
        sleep(seconds)

    bench.clock.sleep = look  # type: ignore[method-assign]
    assert bench.run() == "succeeded"
    assert seen == [["a succeeded", "b decided"]]


def test_reads_alone_are_saved_at_the_end() -> None:
    bench = Bench("steps:\n  a: {call: desk.read}\n  b: {call: desk.read}\n", Scripted())
    bench.connections.operations["read"] = lambda _: bench.journalled
    assert bench.run() == "succeeded"
    assert [r.output for r in bench.journal.records("run")] == [[], []]


@pytest.mark.parametrize("operation", ["read", "keep"])
def test_a_bug_of_a_connector_fails_its_step(operation: str) -> None:
    bench = Bench(
        f"steps:\n  a: {{call: desk.{operation}}}\n  b: {{run_after: {{a: failed}}, call: desk.sent}}\n",
        Scripted(**{operation: raising(KeyError("x"))}),
    )
    assert bench.run() == "succeeded"
    error = bench.journal.records("run")[0].error
    assert error is not None
    assert (error["kind"], error["code"]) == ("bug", "KeyError")
    assert f"desk.{operation}" in error["message"]


def test_a_result_that_is_no_json_is_a_bug_of_the_connector() -> None:
    bench = Bench("steps:\n  a: {call: desk.read}\n", Scripted(read=lambda _: Result(body=object())))
    assert bench.run() == "failed"
    assert bench.journal.run("run").error["kind"] == "bug"  # type: ignore[index]


def test_a_number_that_json_does_not_know_is_a_bug_of_the_connector() -> None:
    """Outputs are normalised through JSON."""
    bench = Bench("steps:\n  a: {call: desk.read}\n", Scripted(read=lambda _: float("nan")))
    assert bench.run() == "failed"
    assert bench.journal.run("run").error["kind"] == "bug"  # type: ignore[index]


def test_a_bug_in_a_write_leaves_it_uncertain() -> None:
    bench = Bench(
        "steps:\n  a: {call: desk.mail}\n  b: {run_after: {a: any}, call: desk.read}\n",
        Scripted(mail=raising(KeyError("x"))),
    )
    assert bench.run() == "waiting"
    assert bench.connections.calls == [("mail", None)]
    assert bench.journalled == ["a started", "a uncertain"]
    run = bench.journal.run("run")
    assert (run.status, run.error and run.error["step"]) == ("waiting", "a")


def test_a_lost_write_is_asked_about() -> None:
    lost = TransientError("connection reset", answer_lost=True)
    bench = Bench("steps:\n  a: {call: desk.send, with: {value: 4}}\n", Scripted(send=raising(lost), sent=lambda v: v))
    assert bench.run() == "succeeded"
    assert bench.connections.calls == [("send", 4), ("sent", 4)]
    assert [c.idempotency_key for c in bench.connections.contexts] == ["run/a", "run/a"]


def test_an_uncertain_write_waits_for_a_person() -> None:
    bench = Bench("steps:\n  a: {call: desk.mail}\n", Scripted(mail=raising(UncertainError("who knows"))))
    assert bench.run() == "waiting"


@pytest.mark.parametrize("late", ["done late", None, DataError("refused")], ids=["a body", "null", "a refusal"])
def test_the_late_answer_of_a_write_is_not_taken_for_its_probes(late: Any) -> None:
    """The write hangs, its time is up, the probe is asked; then the write answers after all."""
    hanging = Hanging(late)
    stale: list[bool] = []

    def sent(_: JSON) -> JSON:
        stale.append(hanging.calls[0].wanted())
        hanging.release.set()
        assert hanging.ended.wait(PATIENCE)
        threading.Event().wait(0.05)  # its answer arrives first
        return "found"

    bench = Bench(
        "steps:\n  a: {call: desk.send, timeout: 50ms}\noutputs: {a: '{{ steps.a.body }}'}\n",
        Scripted(send=hanging, sent=sent),
    )
    assert bench.run() == "succeeded"
    assert stale == [False], "the write's thread may still send while its probe is asked"
    assert bench.decider.outputs == {"a": "found"}
    assert [operation for operation, _ in bench.connections.calls] == ["send", "sent"]


def test_a_connection_that_cannot_be_opened_fails_its_step() -> None:
    bench = Bench("steps:\n  a: {call: desk.keep}\n", Scripted(keep=raising(ConfigError("no secret", code="Secret"))))
    assert bench.run() == "failed"
    assert bench.journal.run("run").error["code"] == "Secret"  # type: ignore[index]


def test_a_resumed_run_goes_on_in_the_same_journal() -> None:
    text = "steps:\n  a: {call: desk.keep, with: {value: 1}}\n  b: {call: desk.keep, with: {value: 2}}\n"
    first = Bench(text, Scripted(keep=lambda v: v if v == 1 else raising(DataError("no"))(v)))
    assert first.run() == "failed"
    connections = Scripted()
    decider = Decider(first.program, Start(run="run"), first.journal.records("run"), retry_failed=True)
    first.journal.take_over("run")
    assert first.driver.run("run", decider, connections) == "succeeded"
    assert connections.calls == [("keep", 2)]
    assert first.journalled == ["a succeeded", "b failed", "b succeeded"]
    assert first.journal.run("run").error is None


def test_an_interrupt_loses_nothing_that_was_done() -> None:
    """Ctrl-C during a call: what was recorded until then is kept."""
    bench = Bench(
        "steps:\n  a: {call: desk.send}\n  b: {call: desk.read}\n",
        Scripted(read=raising(KeyboardInterrupt())),  # type: ignore[arg-type]
    )
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert bench.journalled == ["a started", "a succeeded"]


def test_many_items_take_little_time() -> None:
    """A loop of a thousand items: the driver's own work grows with their number, not with its square."""
    import time

    text = "steps:\n  each:\n    foreach: trigger.inputs\n    concurrency: 8\n    steps: {do: {call: desk.read}}\n"
    bench = Bench(text, Scripted(), trigger={"inputs": list(range(1000))})
    began = time.process_time()
    assert bench.run() == "succeeded"
    assert time.process_time() - began < 3
    assert len(bench.journal.records("run")) == 1002


def test_the_reads_of_a_long_loop_are_saved_on_the_way() -> None:
    bench = Bench(
        "steps:\n  each: {foreach: trigger.inputs, steps: {do: {call: desk.read}}}\n",
        Scripted(),
        trigger={"inputs": list(range(2500))},
    )
    saved: list[int] = []
    write = bench.journal.write
    bench.journal.write = lambda id, records, run=None: (saved.append(len(records)), write(id, records, run))[1]  # type: ignore[method-assign]
    assert bench.run() == "succeeded"
    assert max(saved) <= 1001


def test_a_long_wait_parks_the_run() -> None:
    bench = Bench("steps:\n  a: {call: desk.keep}\n  w: {wait: 10m}\n  b: {call: desk.keep}\n", Scripted())
    bench.driver.patience = 60
    assert bench.run() == "waiting"
    assert bench.clock.slept == []
    run = bench.journal.run("run")
    assert (run.status, run.wake) == ("waiting", NOON + timedelta(minutes=10))
    assert bench.journalled == ["a succeeded", "w decided"]
    bench.clock.advance(600)
    bench.decider = Decider(bench.program, Start(run="run"), bench.journal.records("run"))
    bench.journal.take_over("run")
    assert bench.run() == "succeeded"
    assert bench.journal.run("run").wake is None


def test_a_short_wait_is_waited() -> None:
    bench = Bench("steps:\n  w: {wait: 30s}\n", Scripted())
    bench.driver.patience = 60
    assert (bench.run(), bench.clock.slept) == ("succeeded", [30.0])
