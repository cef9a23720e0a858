"""A case, run: set up, played, compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine import model as m
from engine.contract import Event, Request
from engine.effects import Program, Record, Start
from engine.errors import DataError, FlowrunError
from engine.expressions import Ambient, bare
from engine.loader.findings import Place
from engine.local.starts import checked
from engine.state import name_of
from engine.testing import FakeClock
from engine.testing.flows.document import Case
from engine.testing.flows.matching import ABSENT, Keys, Mismatch, compare, fits
from engine.testing.flows.paths import selects, shown
from engine.testing.flows.play import Played, Player
from engine.testing.flows.services import Services
from engine.testing.flows.suite import Suite, parameters_of
from engine.types import JSON, plain, type_name


@dataclass
class Outcome:
    """What came of a case: the runs that were played, and how they differ from what was expected."""

    suite: Suite
    name: str
    mismatches: list[Mismatch] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    program: Program | None = None
    started: bool = True  # False: the event or the trigger's `when` let no run start
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.mismatches

    @property
    def place(self) -> Place:
        return self.suite.document.place(("cases", self.name), key=True)

    def place_of(self, mismatch: Mismatch) -> Place:
        """Where the expectation stands; the case, where it is not written down."""
        path: Keys = ("cases", self.name, *mismatch.path)
        known = path in self.suite.document.values
        return self.suite.document.place(path, key=isinstance(path[-1], str) and known) if known else self.place


def run_case(suite: Suite, name: str) -> Outcome:
    """Runs one case. What is wrong with its set-up is a mismatch, too: nothing is raised for it."""
    outcome, case = Outcome(suite, name), suite.cases[name]
    began = time.perf_counter()
    try:
        with TemporaryDirectory(prefix="flowrun-test-") as folder:
            _run(outcome, case, Path(folder))
    except FlowrunError as error:
        note = f"{error.message}\nfix: {error.hint}" if error.hint else error.message
        outcome.mismatches.append(Mismatch((), "a run", f"{error.kind} error {error.code}", note))
    outcome.seconds = time.perf_counter() - began
    return outcome


def _run(outcome: Outcome, case: Case, folder: Path) -> None:
    suite = outcome.suite
    assert suite.project is not None
    program = outcome.program = suite.program(case.connect)
    begin = datetime.fromisoformat(case.now)
    clock = FakeClock(begin if begin.tzinfo else begin.replace(tzinfo=UTC))
    services = Services(suite.project, suite.environment, clock, folder)
    try:
        for key, records in case.given.items():
            alias, _, collection = key.partition(".")
            services.put(program.connections[alias], collection, records)
        parameters = parameters_of(program, case.parameters, suite.project)
        inner = {n: parameters_of(p, {}, suite.project) for n, p in _inner(program).items()}
        for number in range(1, case.runs + 1):
            trigger = _trigger(suite, case, program, services, clock)
            trigger = trigger and _one_of_each(program, trigger, parameters, clock)
            if trigger is None or not _wanted(program, trigger, parameters, clock):
                outcome.started = False
                break
            start = Start(run=f"test-{number}", trigger=trigger, parameters=parameters, inner=inner,
                          environment=suite.environment.name)  # fmt: skip
            services.writes = 0
            played = Player(case, services, clock).play(program, start, faults=number == 1)
            outcome.played.append(played)
            outcome.mismatches += [
                Mismatch(("faults", key), "a request that meets each fault", "none that fits")
                for key in played.unstruck
            ]
            if number < case.runs and played.status != "succeeded":
                outcome.mismatches.append(
                    Mismatch(("runs",), "succeeded", played.status, f"run {number} of {case.runs}")
                )
        outcome.mismatches += _differences(case, outcome, services)
    finally:
        services.close()


def _inner(program: Program) -> dict[str, Program]:
    out = dict(program.flows)
    for one in program.flows.values():
        out |= _inner(one)
    return out


# What starts it


def _trigger(
    suite: Suite, case: Case, program: Program, services: Services, clock: FakeClock
) -> dict[str, JSON] | None:
    """What the run sees as `trigger`; None where the flow doesn't ask for the event. Raises FlowrunError."""
    triggers = program.flow.triggers
    name = case.trigger or next(iter(triggers), "")
    trigger = triggers.get(name)
    now = clock.now().isoformat()
    if case.event is not None:
        given = case.event
        kinds = trigger.events if isinstance(trigger, m.Webhook) else None
        kind = given.type or (kinds[0] if kinds else "")
        event = Event(given.id, given.subject, kind, given.time or now, given.data)
        return None if kinds and kind not in kinds else {"name": name, "event": plain(event)}
    text, source = _input(suite, case, trigger)
    if isinstance(trigger, m.Webhook):
        return _received(name, trigger, program, services, text, source)
    schema = (trigger.manual or {}).get("inputs") if isinstance(trigger, m.Manual) else None
    inputs = checked(text or "{}", source, schema)
    if isinstance(trigger, m.Poll):
        return {"name": name, "event": inputs}
    return {"name": name, "inputs": inputs, **({"time": now} if isinstance(trigger, m.Schedule) else {})}


def _input(suite: Suite, case: Case, trigger: m.Trigger | None) -> tuple[str, str]:
    """The input's text and where it is from: the case, a file it names, else the trigger's sample."""
    import json

    if isinstance(case.input, str):
        return suite.text_of(case.input), case.input
    if case.input is None and trigger is not None and trigger.sample:
        return (suite.flow_file.parent / trigger.sample).read_text("utf-8"), trigger.sample
    return "" if case.input is None else json.dumps(case.input), "input"


def _received(
    name: str, trigger: m.Webhook, program: Program, services: Services, text: str, source: str
) -> dict[str, JSON] | None:
    if not text:
        raise DataError(f"trigger '{name}' needs an event", code="NoInput", hint="give the case an `event` or `input`")
    request = Request("POST", "/", {"content-type": "application/json"}, text.encode())
    events = services.connections[program.connections[trigger.webhook]].parse(request)
    wanted = [event for event in events if trigger.events is None or event.type in trigger.events]
    if len(wanted) > 1:
        raise DataError(f"{source} holds {len(wanted)} events, and a case is one run", code="SeveralEvents")
    return {"name": name, "event": plain(wanted[0])} if wanted else None


def _one_of_each(
    program: Program, trigger: dict[str, JSON], parameters: Mapping[str, JSON], clock: FakeClock
) -> dict[str, JSON] | None:
    """The start with its item, where the trigger's `each` makes one run for each. Raises DataError."""
    chosen = program.flow.triggers.get(str(trigger["name"]))
    if chosen is None or chosen.each is None:
        return trigger
    scope = {"trigger": trigger, "parameters": parameters}
    items = program.expressions.evaluate(bare(str(chosen.each)), scope, Ambient(clock.now(), ""))
    if not isinstance(items, list) or len(items) > 1:
        found = f"{len(items)} items" if isinstance(items, list) else type_name(items)
        raise DataError(f"each: {chosen.each} gives {found}, and a case is one run", code="SeveralEvents")
    return {**trigger, "item": items[0], "index": 0} if items else None


def _wanted(program: Program, trigger: Mapping[str, Any], parameters: Mapping[str, JSON], clock: FakeClock) -> bool:
    chosen = program.flow.triggers.get(str(trigger["name"]))
    if chosen is None or chosen.when is None:
        return True
    scope = {"trigger": trigger, "parameters": parameters}
    return program.expressions.condition(chosen.when, scope, Ambient(clock.now(), ""))


# What came of it


def _differences(case: Case, outcome: Outcome, services: Services) -> Iterator[Mismatch]:
    wanted = case.expect
    expected = wanted.get("status", "succeeded")
    if not outcome.started:
        if expected != "skipped":
            note = "no run started: the trigger doesn't ask for this event, or its `when` doesn't hold"
            yield Mismatch(("expect", "status"), expected, "skipped", note)
    else:
        yield from _run_differences(case, outcome.played[-1], expected)
    program = outcome.program
    assert program is not None
    for key, selected in wanted.get("records", {}).items():
        alias, _, collection = key.partition(".")
        found = services.holder(program.connections[alias]).records(collection)
        yield from _record_differences(selected, found, ("expect", "records", key))
    if "writes" in wanted:
        yield from compare(wanted["writes"], services.writes, ("expect", "writes"))


def _run_differences(case: Case, played: Played, expected: str) -> Iterator[Mismatch]:
    wanted, decider = case.expect, played.decider
    error = decider.error or next(iter(decider.waiting.values()), None)
    if played.status != expected:
        note = f"{error.get('step')}: {error['kind']} error {error['code']}: {error['message']}" if error else ""
        yield Mismatch(("expect", "status"), expected, played.status, note)
    if "order" in wanted:
        ran = [shown(r.path) for r in played.ended if r.status != "skipped"]
        if (order := _by_path(wanted["order"], ran)) != ran:
            yield Mismatch(("expect", "order"), order, ran)
    for key, one in wanted.get("steps", {}).items():
        yield from _step_differences(key, one, played)
    if error and selects(str(wanted.get("error", {}).get("step")), shown(str(error.get("step")))):
        error = {**error, "step": wanted["error"]["step"]}  # by name or by path, as everywhere
    for key, found in (("outputs", decider.outputs), ("response", decider.response), ("error", error),
                       ("business_key", decider.business_key)):  # fmt: skip
        if key in wanted:
            yield from compare(wanted[key], found, ("expect", key))  # type: ignore[literal-required]


def _by_path(keys: list[str], ran: list[str]) -> list[str]:
    """The paths of the steps that were meant, each of the passes of a loop once."""
    left, out = list(ran), []
    for key in keys:
        out.append(next((path for path in left if selects(key, path)), key))
        if out[-1] in left:
            left.remove(out[-1])
    return out


def _step_differences(key: str, wanted: Any, played: Played) -> Iterator[Mismatch]:
    path: Keys = ("expect", "steps", key)
    found = [record for record in played.ended if selects(key, shown(record.path))]
    if isinstance(wanted, list):
        if len(wanted) != len(found):
            yield Mismatch(path, wanted, [record.status for record in found])
            return
        for index, (one, record) in enumerate(zip(wanted, found, strict=True)):
            yield from _one_step(one, record, played, (*path, index))
        return
    if not found:
        # A step in a branch that wasn't taken is on no record: to a flow it is skipped.
        waits = any(selects(key, shown(one)) for one in played.decider.waiting)
        if waits or wanted not in ("skipped", {"status": "skipped"}):
            yield Mismatch(path, wanted, ABSENT, "it waits for a person" if waits else "it was not reached")
        return
    for record in found:
        yield from _one_step(wanted, record, played, path)


def _one_step(wanted: Any, record: Record, played: Played, path: Keys) -> Iterator[Mismatch]:
    calls = [call for call in played.calls if call.path == record.path]
    found = {
        "status": record.status,
        "tries": len(calls),
        "inputs": calls[-1].inputs if calls else record.inputs,
        "body": record.output,
        "outputs": record.outputs,
        "error": record.error,
        "changed": record.changed,
        "summary": record.summary,
    }
    note = f"at {record.path}" if record.path != name_of(record.path) else ""
    if record.error and record.status != "succeeded":
        told = f"{record.error['kind']} error {record.error['code']}: {record.error['message']}"
        note = f"{note}\n{told}".strip()
    expected = {"status": wanted} if isinstance(wanted, str) else wanted
    for one in compare(expected, found):
        at = path if isinstance(wanted, str) else (*path, *one.path)
        yield Mismatch(at, one.expected, one.found, note if one.path == ("status",) else "")


def _record_differences(selected: list[Any], records: list[JSON], path: Keys) -> Iterator[Mismatch]:
    for index, one in enumerate(selected):
        found = [record for record in records if fits(one["where"], record)]
        count = one.get("count", 1)
        if len(found) != count:
            note = f"of {len(records)} in all"
            at = (*path, index, "count") if "count" in one else (*path, index)
            yield Mismatch(at, f"{count} where {_short(one['where'])}", f"{len(found)}", note)
            continue
        for record in found:
            yield from compare(one.get("has") or {}, record, (*path, index, "has"))


def _short(where: Mapping[str, JSON]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in where.items()) or "all"
