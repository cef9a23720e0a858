"""The decider's rules: every document in tests/flows/ with its cases, run in memory.

A file holds two YAML documents: a flow, and its cases by name. A case says what it starts from (`trigger`,
`parameters`), what the calls answer (`calls`, see scripted.py), and what has to come of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from scripted import FLOWS, NOON, Played, play, program

from engine.effects import Start
from engine.loader import load

FILES = sorted(FLOWS.glob("*.yaml"))


def cases() -> list[Any]:
    out = []
    for file in FILES:
        flow, _, rest = file.read_text(encoding="utf-8").partition("\n---\n")
        document = load(rest, file.name)
        assert document.data and not document.findings, f"{file.name}: {document.findings}"
        out += [pytest.param(file.name, flow, case, id=f"{file.stem}: {name}") for name, case in document.data.items()]
    return out


@pytest.mark.parametrize(("file", "text", "case"), cases())
def test_case(file: str, text: str, case: dict[str, Any]) -> None:
    start = Start(run="run", trigger=case.pop("trigger", {}), parameters=case.pop("parameters", {}))
    played = play(program(text, file), case.pop("calls", {}), start=start)
    assert case, "a case that expects nothing"
    assert {key: FOUND[key](played, wanted) for key, wanted in case.items()} == case


def part(found: Any, wanted: Any) -> Any:
    """`found`, cut to the keys that are asked for."""
    if not isinstance(wanted, dict):
        return found
    found = found or {}
    return {key: part(found.get(key), value) for key, value in wanted.items()}


def waits(played: Played, bounds: list[list[float]]) -> list[list[float]]:
    """The bounds, if each wait before a retry lies within its own; else the waits."""
    found = [waited for key, waited in played.timers if key.endswith("!retry")]
    inside = len(found) == len(bounds) and all(a <= w <= b for w, (a, b) in zip(found, bounds, strict=True))
    return bounds if inside else [[w, w] for w in found]


# What a case may expect. `run` is the run's status, `steps` the statuses of all steps that ended.
FOUND: dict[str, Any] = {
    "run": lambda played, _: played.status,
    "steps": lambda played, _: played.statuses,
    "bodies": lambda played, wanted: part(played.bodies, wanted),
    "order": lambda played, _: played.calls,
    "inputs": lambda played, wanted: part(played.inputs, wanted),
    "outputs": lambda played, _: played.decider.outputs,
    "error": lambda played, wanted: part(played.decider.error, wanted),
    "errors": lambda played, wanted: part({p: r.error for p, r in played.last.items()}, wanted),
    "why": lambda played, wanted: part({p: r.summary for p, r in played.last.items()}, wanted),
    "response": lambda played, _: played.decider.response,
    "business_key": lambda played, _: played.decider.business_key,
    "waiting": lambda played, _: list(played.decider.waiting),
    "abandoned": lambda played, _: played.abandoned,
    "journal": lambda played, _: [f"{r.path} {r.status}" for r in played.records],
    "seconds": lambda played, _: played.seconds,
    "waits": waits,
}


def test_there_are_many_rules() -> None:
    assert len(cases()) >= 60


def test_effects_come_once_and_in_document_order() -> None:
    from engine.decider import Decider
    from engine.effects import Invoke

    flow = program("steps:\n" + "".join(f"  s{i}: {{run_after: {{}}, call: desk.read}}\n" for i in range(5)))
    decider = Decider(flow, Start(run="run"))
    first = decider.ready(NOON)
    assert [e.path for e in first if isinstance(e, Invoke)] == [f"s{i}" for i in range(5)]
    assert decider.ready(NOON) == []


def test_the_key_of_a_call_is_the_same_on_every_try_and_of_no_other_step() -> None:
    flow = program(
        "steps:\n  a: {call: desk.keep, retry: {count: 2}}\n  f: {foreach: [1, 2], steps: {b: {call: desk.keep}}}\n"
    )
    played = play(flow, {"a": ["transient", "transient", "ok"]})
    assert [c.key for c in played.invoked] == ["run/a", "run/a", "run/a", "run/f[0]/b", "run/f[1]/b"]


def test_chance_is_the_runs_own() -> None:
    flow = program("steps:\n  a: {call: desk.read, retry: {interval: 10s}}\n  g: {compose: '{{ guid() }}'}\n")
    calls = {"a": ["transient", "transient", "ok"]}
    first, again, other = (play(flow, calls, start=Start(run=run)) for run in ("one", "one", "two"))
    assert first.timers == again.timers != other.timers
    assert first.bodies["g"] == again.bodies["g"] != other.bodies["g"]


def test_the_deadline_is_one_for_all_tries() -> None:
    flow = program("steps:\n  a: {call: desk.read, timeout: 1m, retry: {kind: fixed, interval: 10s}}\n")
    played = play(flow, {"a": ["transient", "transient", "ok"]})
    assert {(c.deadline - NOON).total_seconds() for c in played.invoked if c.deadline} == {60}
    assert len(played.invoked) == 3


def test_what_is_told_too_late_changes_nothing() -> None:
    from engine.decider import Decider
    from engine.effects import Done

    flow = program("steps:\n  a: {call: desk.read}\n  b: {call: desk.read}\n")
    decider = Decider(flow, Start(run="run"))
    decider.ready(NOON)
    decider.tell(Done("a", 1, 1), NOON)
    decider.tell(Done("a", 1, 2), NOON)
    decider.tell(Done("nowhere", 1, 3), NOON)
    decider.ready(NOON)
    records = decider.records()
    assert [(r.path, r.status, r.output) for r in records] == [
        ("a", "succeeded", 1),
        ("a", "late", 2),
        ("nowhere", "late", 3),
    ]
    assert decider.status is None
