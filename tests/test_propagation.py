"""Properties of order, status and resume, over random flows.

The model below is written from the rules' words alone: a fixpoint over statuses, and a walk back from the leaves.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scripted import CATALOG, NOON, Desk, Played, play

from engine import model
from engine.calls import PROBE
from engine.decider import Decider
from engine.effects import Done, Invoke, Program, Record, Start, Timer
from engine.expressions import Expressions
from engine.types import JSON

EXPRESSIONS = Expressions(CATALOG.functions)
OPERATIONS = {f"desk.{name}": op for name, op in Desk.operations().items()}
STATUSES = ["succeeded", "failed", "skipped", "timed_out", "any"]
BAD = {"failed", "timed_out", "cancelled"}
quick = settings(
    deadline=None, max_examples=150, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def flow_of(steps: Mapping[str, Any], **more: Any) -> Program:
    """A program without the checks, which take longer than the runs."""
    flow = model.build({"flow": "random", "connections": {"desk": "desk"}, "steps": steps, **more})
    return Program(flow, EXPRESSIONS, OPERATIONS, connections=dict(flow.connections))


# Random flows. What each call answers is part of its name's script: {path: outcome}.


@st.composite
def blocks(
    draw: st.DrawFn, depth: int = 2, prefix: str = "", label: str = "s"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A list of steps in any order that is no cycle, and the outcome of each call in it by path."""
    names = [f"{label}{i}" for i in range(draw(st.integers(1, 5)))]
    turn = {name: at for at, name in enumerate(draw(st.permutations(names)))}
    steps: dict[str, Any] = {}
    outcomes: dict[str, Any] = {}
    for before, name in zip([None, *names], names, strict=False):
        step, inner = draw(bodies(depth, f"{prefix}{name}", name))
        outcomes |= inner
        earlier = [other for other in names if turn[other] < turn[name]]
        in_sequence = before is None or turn[before] < turn[name]
        form = draw(st.sampled_from(["default", "list", "map", "map", "start"]))
        if form == "list" and earlier:
            step["run_after"] = draw(st.lists(st.sampled_from(earlier), unique=True, min_size=1, max_size=3))
        elif form == "map" and earlier:
            chosen = draw(st.lists(st.sampled_from(earlier), unique=True, min_size=1, max_size=3))
            several = st.lists(st.sampled_from(STATUSES), unique=True, min_size=1, max_size=3)
            step["run_after"] = {one: draw(st.sampled_from(STATUSES) | several) for one in chosen}
        elif form == "start" or not in_sequence:
            step["run_after"] = {}
        if draw(st.integers(0, 7)) == 0:
            step["when"] = False
        steps[name] = step
    return steps, outcomes


@st.composite
def bodies(draw: st.DrawFn, depth: int, path: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = draw(st.sampled_from(["call"] * 6 + (["steps", "if"] if depth else [])))
    if kind == "call":
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "data", "remote", "never"]))
        return {"call": "desk.read", **({"timeout": "10s"} if outcome == "never" else {})}, {path: outcome}
    if kind == "steps":
        steps, outcomes = draw(blocks(depth - 1, f"{path}/", f"{name}_"))
        return {"steps": steps}, outcomes
    yes = draw(st.booleans())
    steps, outcomes = draw(blocks(depth - 1, f"{path}/", f"{name}_"))
    other, _ = draw(blocks(0, f"{path}/", f"{name}_n"))
    return {"if": yes, "then": steps if yes else other, "else": other if yes else steps}, outcomes


# The model


def expected(steps: Mapping[str, Any], outcomes: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, str], str]:
    """The status of every step that ends, by path, and that of the list as a whole."""
    before: str | None = None
    wanted: dict[str, dict[str, set[str]]] = {}
    for name, step in steps.items():
        after = step.get("run_after", {before: "succeeded"} if before else {})
        if isinstance(after, list):
            after = dict.fromkeys(after, "succeeded")
        wanted[name] = {p: {s} if isinstance(s, str) else set(s) for p, s in after.items()}
        before = name
    inside: dict[str, str] = {}
    status: dict[str, str] = {}
    passed_over = set()
    while len(status) < len(steps):
        name = next(n for n in steps if n not in status and wanted[n].keys() <= status.keys())
        seen = {p: "succeeded" if p in passed_over else status[p] for p in wanted[name]}
        step = steps[name]
        if not all("any" in w or seen[p] in w for p, w in wanted[name].items()):
            status[name] = "skipped"
        elif step.get("when") is False:
            status[name] = "skipped"
            passed_over.add(name)
        elif "call" in step:
            outcome = outcomes[f"{prefix}{name}"]
            status[name] = {"ok": "succeeded", "never": "timed_out"}.get(outcome, "failed")
        else:
            taken = step["steps"] if "steps" in step else step["then" if step["if"] else "else"]
            deeper, status[name] = expected(taken, outcomes, f"{prefix}{name}/")
            inside |= deeper

    def ends_badly(name: str) -> bool:
        if status[name] == "skipped" and name not in passed_over:
            return any(ends_badly(p) for p in wanted[name])
        return status[name] in BAD

    leaves = [n for n in steps if not any(n in w for w in wanted.values())]
    whole = "failed" if any(ends_badly(n) for n in leaves) else "succeeded"
    return {**{f"{prefix}{n}": s for n, s in status.items()}, **inside}, whole


@quick
@given(blocks())
def test_statuses_follow_the_rules(flow: tuple[dict[str, Any], dict[str, Any]]) -> None:
    steps, outcomes = flow
    played = play(flow_of(steps), {path: [outcome] for path, outcome in outcomes.items()})
    statuses, whole = expected(steps, outcomes)
    assert played.statuses == statuses
    assert played.status == whole
    assert len(played.calls) == len(set(played.calls)), "every call is made once"


@quick
@given(blocks(), st.integers())
def test_the_order_of_arrival_does_not_matter(flow: tuple[dict[str, Any], dict[str, Any]], seed: int) -> None:
    steps, outcomes = flow
    script = {path: [outcome] for path, outcome in outcomes.items()}
    program = flow_of(steps)
    first, other = play(program, script), play(program, script, arrival=random.Random(seed))
    assert first.statuses == other.statuses
    assert first.status == other.status
    assert sorted(first.calls) == sorted(other.calls)


# Resume: flows with all that is recorded, cut anywhere.


@st.composite
def rich_flows(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, list[JSON]]]:
    """Steps of every kind, in sequence and side by side, and what their calls answer."""
    script: dict[str, list[JSON]] = {}
    number = iter(range(1000))

    def steps(depth: int, prefix: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for _ in range(draw(st.integers(1, 4))):
            name = f"s{next(number)}"
            step = one(name, depth, prefix + name)
            if out and draw(st.integers(0, 2)) == 0:
                step["run_after"] = draw(st.sampled_from([{}, *({other: "any"} for other in out)]))
            if draw(st.integers(0, 9)) == 0:
                step["when"] = draw(st.booleans())
            out[name] = step
        return out

    def one(name: str, depth: int, path: str) -> dict[str, Any]:
        simple = ["read", "read", "keep", "send", "send", "mail", "increment", "compose", "wait"]
        kind = draw(st.sampled_from(simple + (["scope", "if", "switch", "foreach", "until", "slow"] if depth else [])))
        match kind:
            case "read" | "keep" | "send" | "mail":
                outcomes = [["ok"], [{"body": name}], ["data"], ["transient", {"body": name}], ["transient", "remote"]]
                script[path] = draw(st.sampled_from(outcomes))
                return {"call": f"desk.{kind}", "with": {"value": name}}
            case "increment":
                return {"increment": {"n": draw(st.integers(1, 9))}}
            case "compose":
                return {"compose": name}
            case "wait":
                return {"wait": draw(st.sampled_from(["1s", "1m"]))}
            case "scope":
                return {"steps": steps(depth - 1, f"{path}/")}
            case "slow":
                return {"timeout": "30s", "steps": {f"{name}a": {"compose": 1}, f"{name}b": {"wait": "1h"}}}
            case "if":
                yes = draw(st.booleans())
                taken, other = steps(depth - 1, f"{path}/"), {f"{name}o": {"compose": 1}}
                return {"if": yes, "then": taken if yes else other, "else": other if yes else taken}
            case "switch":
                taken = steps(depth - 1, f"{path}/")
                return {"switch": "'x'", "cases": {"x": taken}, "default": {f"{name}o": {"compose": 1}}}
            case "foreach":
                inner = f"{name}i"
                for index in range(3):
                    outcomes = [["ok"], [{"body": index}], ["data"], ["transient", {"body": index}]]
                    script[f"{path}[{index}]/{inner}"] = draw(st.sampled_from(outcomes))
                call = draw(st.sampled_from(["read", "keep", "send"]))
                return {
                    "foreach": [1, 2, 3],
                    "concurrency": draw(st.integers(1, 3)),
                    "steps": {inner: {"call": f"desk.{call}"}, f"{inner}n": {"increment": {"n": 1}}},
                    "result": f"{{{{ steps.{inner}.body }}}}",
                }
        inner = f"{name}u"
        for index in range(3):
            script[f"{path}[{index}]/{inner}"] = draw(st.sampled_from([["ok"], ["data"], [{"body": True}]]))
        return {
            "until": f"steps.{inner}.body",
            "limit": {"count": 3},
            "on_limit": draw(st.sampled_from(["fail", "succeed"])),
            "steps": {inner: {"call": "desk.read"}, f"{inner}n": {"run_after": {}, "increment": {"n": 100}}},
            "result": "{{ index }}",
        }

    return steps(2, ""), script


def resume(program: Program, script: Mapping[str, list[JSON]], records: list[Record], *, done: bool) -> Played:
    """Goes on with a run whose process died; `done` says what became of each write that was under way."""
    last = {r.path: r for r in records if r.status != "decided"}
    script = dict(script)
    for path, record in last.items():
        if record.status == "started":
            outcome = script.get(path, ["ok"])[record.attempt - 1 :][:1] or script[path][-1:]
            found = {"body": outcome[0]["body"]} if isinstance(outcome[0], dict) else {"body": path}
            script[f"probe of {path}"] = [found if done else "ok"]
    return play(program, script, recorded=records, now=NOON)


OUTPUTS = {"n": "{{ variables.n }}"}


@quick
@given(rich_flows(), st.booleans())
def test_a_run_cut_anywhere_goes_on_as_if_nothing_had_happened(
    flow: tuple[dict[str, Any], dict[str, list[JSON]]], done: bool
) -> None:
    steps, script = flow
    program = flow_of(steps, variables={"n": 0}, outputs=OUTPUTS)
    whole = play(program, script)
    assert whole.status in ("succeeded", "failed")
    for cut in range(len(whole.records) + 1):
        records = whole.records[:cut]
        resumed = resume(program, script, records, done=done)
        ended = {r.path for r in records if r.status in ("succeeded", "failed", "timed_out", "skipped", "cancelled")}
        again = ended & {call.path for call in resumed.invoked}
        assert not again, f"cut {cut}: done again: {again}"
        last = {r.path: r.status for r in records if r.status != "decided"}
        started = {path for path, status in last.items() if status == "started"}
        invoked = reversed(resumed.invoked)
        writes = {path: c for c in invoked if (path := c.path.removesuffix(PROBE)) in started}
        for path in started:
            asked = writes.get(path)
            assert asked is None or asked.operation == "sent", f"cut {cut}: {path} was repeated blindly"
            assert asked is not None or path in resumed.decider.waiting, f"cut {cut}: {path} was forgotten"
        if resumed.status == "waiting":
            continue
        lost_failures = {p for p in started if done and whole.statuses.get(p) != "succeeded"}
        if lost_failures or any(script.get(p, ["ok"])[:1] == ["transient"] for p in started):
            continue  # the probe knows better than the script what became of it
        assert resumed.statuses == whole.statuses, f"cut {cut}"
        assert resumed.status == whole.status
        assert resumed.decider.outputs == whole.decider.outputs
        loops = [p for p, r in whole.last.items() if r.kind in ("foreach", "until", "compose")]
        if not started:
            assert {p: resumed.bodies[p] for p in loops} == {p: whole.bodies[p] for p in loops}


@quick
@given(rich_flows())
def test_a_resumed_run_can_be_cut_and_resumed_again(flow: tuple[dict[str, Any], dict[str, list[JSON]]]) -> None:
    """Records of several processes in a row: each goes on where the last one stopped."""
    steps, script = flow
    program = flow_of(steps, variables={"n": 0}, outputs=OUTPUTS)
    whole = play(program, script)
    assume(not any(r.status == "started" for r in whole.records))
    records: list[Record] = []
    for process in range(4 * len(whole.records) + 4):
        resumed = play(program, script, recorded=records)
        if not resumed.records:
            break
        records += resumed.records[: 1 + process % 3]
    else:
        raise AssertionError(f"it writes the same records for ever: {[(r.path, r.status) for r in records[-5:]]}")
    assert resumed.statuses == whole.statuses
    assert resumed.status == whole.status
    assert resumed.decider.outputs == whole.decider.outputs


@quick
@given(rich_flows())
def test_a_failed_run_done_again_ends_as_one_that_never_failed(
    flow: tuple[dict[str, Any], dict[str, list[JSON]]],
) -> None:
    """With `retry_failed` and better answers: statuses, outputs and variables are those of a run without a failure."""
    steps, script = flow
    program = flow_of(steps, variables={"n": 0}, outputs=OUTPUTS)
    first = play(program, script)
    good = {path: ["ok"] for path in script}
    assume(first.status == "failed" and "timed_out" not in first.statuses.values())
    assume(not any(path.endswith("u") for path in script))  # good answers would make fewer passes
    succeeded = tuple(f"{p}/" for p, s in first.statuses.items() if s == "succeeded")
    handled = [p for p, s in first.statuses.items() if s == "failed" and p.startswith(succeeded)]
    assume(not handled)  # what failed and was handled inside of what succeeded stays as it is
    better = play(program, good)
    again = play(program, good, recorded=first.records, retry_failed=True)
    assert again.statuses == better.statuses
    assert again.status == better.status
    assert again.decider.outputs == better.decider.outputs
    failed = {p for p, status in first.statuses.items() if status == "failed" and p in script}
    assert failed <= {c.path for c in again.invoked}


def test_hypothesis_compares_something() -> None:
    """The model on a flow by hand, so that it is not the decider's own words."""
    steps = {
        "a": {"call": "desk.read"},
        "b": {"run_after": {"a": "failed"}, "call": "desk.read"},
        "c": {"run_after": {}, "when": False, "call": "desk.read"},
        "d": {"run_after": ["c"], "steps": {"e": {"call": "desk.read"}}},
    }
    assert expected(steps, {"a": "data", "b": "ok", "d/e": "never"}) == (
        {"a": "failed", "b": "succeeded", "c": "skipped", "d": "failed", "d/e": "timed_out"},
        "failed",
    )


def test_two_deciders_told_the_same_say_the_same() -> None:
    steps = {
        "a": {"call": "desk.read", "retry": {"interval": "10s"}},
        "b": {"run_after": {}, "foreach": [1, 2, 3], "concurrency": 2, "steps": {"c": {"call": "desk.send"}}},
    }
    program = flow_of(steps)
    one, two = Decider(program, Start(run="r")), Decider(program, Start(run="r"))
    for decider in (one, two):
        assert [type(e) for e in decider.ready(NOON)] == [Invoke, Invoke, Invoke]
        decider.tell(Done("b[1]/c", 1, 5), NOON)
    left, right = one.ready(NOON), two.ready(NOON)
    assert left == right and isinstance(left[0], Invoke | Timer)
    assert one.records() == two.records()
