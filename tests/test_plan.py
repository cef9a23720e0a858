"""What a plan foresees: in memory over scripted answers, and the shipped flow, on the wire, without a write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from remote import CRM, MAIN, VARIABLES, Remote, remote
from scripted import program
from terminal import FLOWS, flowrun

from engine import Result, TransientError
from engine.effects import Start
from engine.planning import Plan, plan
from engine.testing import FakeClock
from engine.types import UNKNOWN


@dataclass
class Answers:
    """Connections whose reads answer as told."""

    bodies: Mapping[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, Any]) -> Result[Any]:
        self.asked.append(operation)
        body = self.bodies.get(operation)
        if isinstance(body, list) and body and isinstance(body[0], Exception):
            raise body.pop(0)
        return Result(body=body, summary="read")


def foresee(steps: str, more: str = "", **bodies: Any) -> tuple[Plan, Answers]:
    answers = Answers(bodies)
    start = Start(run="plan", trigger={"inputs": {"n": 1}})
    text = f"{more}\nsteps:\n" + "".join(f"  {line}\n" for line in steps.strip().splitlines())
    return plan(program(text), start, answers, FakeClock()), answers


def actions(found: Plan) -> dict[str, str]:
    return {step.path: step.action for step in found.steps}


def test_reads_are_performed_and_all_else_is_held() -> None:
    found, asked = foresee(
        "a: {call: desk.read}\nb: {call: desk.keep, with: {value: '{{ steps.a.body }}'}}\nc: {call: desk.send}", read=7
    )
    assert actions(found) == {"a": "read", "b": "call", "c": "call"}
    assert (asked.asked, found.status, found.changes) == (["read"], "succeeded", [])


@pytest.mark.parametrize(
    "expression",
    ["steps.w.body", "steps.w.body.id", "steps.w.body[0].x", "steps.w.body + 1", "2 * steps.w.body", "-steps.w.body",
     "concat('a', steps.w.body)", "steps.w.body ~ 'x'", "steps.w.body == 1", "1 < steps.w.body",
     "coalesce(steps.w.body, 3)", "{'a': 1}[steps.w.body]", "length(steps.w.body)"],
)  # fmt: skip
def test_what_is_made_of_the_unknown_is_unknown(expression: str) -> None:
    if expression.startswith("not_there"):
        expression = "length(steps.w.body)"
    found, _ = foresee(
        f'w: {{call: desk.keep}}\nc: {{compose: "{{{{ {expression} }}}}"}}\nd: {{compose: "<{{{{ {expression} }}}}>"}}'
    )
    assert actions(found) == {"w": "call", "c": "unknown", "d": "unknown"}


def test_what_rests_on_the_unknown_is_told() -> None:
    found, asked = foresee(
        "w: {call: desk.keep}\n"
        "choose: {if: steps.w.body.ok, then: {x: {call: desk.read}}, else: {y: {call: desk.read}}}\n"
        "after: {compose: '{{ steps.x.body }}'}\n"
        "pick: {switch: steps.w.body.kind, cases: {a: {z: {call: desk.read}}}}\n"
        "each: {foreach: steps.w.body.rows, steps: {u: {call: desk.read}}, result: '{{ steps.u.body }}'}\n"
        "ask: {until: steps.w.body.done, steps: {v: {call: desk.read}}}\n"
        "gate: {when: steps.w.body.ok, call: desk.read}\n"
        "look: {call: desk.read, with: {value: '{{ steps.w.body.id }}'}}\n"
        "end: {call: desk.read}\n",
        read=5,
    )
    told = actions(found)
    assert {name: told[name] for name in ("choose", "pick", "each", "gate", "look", "after")} == dict.fromkeys(
        ("choose", "pick", "each", "gate", "look", "after"), "unknown"
    )
    assert told["end"] == "read"
    assert asked.asked == ["read", "read"], "the pass of `until` and the end"


def test_variables_of_the_unknown() -> None:
    found, _ = foresee(
        "w: {call: desk.keep}\na: {append: {rows: '{{ steps.w.body }}'}}\nn: {increment: {n: '{{ steps.w.body }}'}}\n"
        "m: {increment: {n: 1}}\nt: {append: {text: x}}\ns: {set: {text: '{{ steps.w.body }}'}}\n"
        "u: {append: {text: y}}\nend: {compose: {rows: '{{ length(variables.rows) }}', n: '{{ variables.n }}'}}",
        "variables: {rows: [], n: 0, text: {type: string}}\n"
        "outputs: {n: '{{ variables.n }}', t: '{{ variables.text }}'}",
    )
    assert found.status == "succeeded", found.error
    assert all(value is UNKNOWN for value in found.outputs.values())
    assert set(found.outputs) == {"n", "t"}


def test_loops_over_what_is_known_are_gone_through() -> None:
    found, _ = foresee("each: {foreach: [1, 2], steps: {w: {call: desk.keep, with: {value: '{{ item }}'}}}}")
    assert actions(found) == {"each[0]/w": "call", "each[1]/w": "call", "each": "succeeded"}


def test_a_failing_read_is_tried_again_and_then_fails_the_plan() -> None:
    found, asked = foresee("a: {call: desk.read}\nb: {call: desk.keep}", read=[TransientError("busy", code="Busy")] * 2)
    assert (asked.asked, found.status) == (["read"] * 3, "succeeded")
    found, asked = foresee("a: {call: desk.read}", read=[TransientError("busy", code="Busy")] * 9)
    assert found.status == "failed"
    assert found.error and found.error["message"] == "busy"


def test_waits_are_over_at_once() -> None:
    found, _ = foresee("w: {wait: 2h}\na: {call: desk.read}")
    assert actions(found) == {"w": "succeeded", "a": "read"}


# The shipped flow


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(tmp_path_factory.mktemp("far")) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, far: Remote) -> Path:
    far.renew()
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun"))
    (tmp_path / "flows" / "connections.yaml").write_text(far.connections(), "utf-8")
    return tmp_path / "flows"


def run(folder: Path, *args: str) -> Any:
    event = str(folder / "samples" / "referral_created.json")
    first = [*args[:1], "referral_to_dynamics.yaml"] if args[:1] == ("plan",) else ["referral_to_dynamics.yaml"]
    rest = args[1:] if args[:1] == ("plan",) else args
    return flowrun(*first, "--env", "lab", "--input", event, *rest, cwd=folder, env=VARIABLES)


@pytest.mark.parametrize("crm", ["dynamics365", "sqlite"])
def test_nothing_is_written_by_a_plan(folder: Path, far: Remote, crm: str) -> None:
    swap = ("--connect", f"crm={crm}")
    far.seen.clear()
    said = run(folder, "plan", "--json", *swap)
    assert said.code == 0, said.all
    assert far.writes == []
    assert not (folder / "leads.db").exists()
    found = json.loads(said.out)
    steps = {step["path"]: step for step in found["steps"]}
    assert steps["upsert_lead"]["differences"][0]["action"] == "create"
    assert steps["update_referral"]["later"] == ["set.externalReferenceId"]
    assert run(folder, *swap).code == 0
    far.seen.clear()
    again = json.loads(run(folder, "plan", "--json", *swap).out)
    assert [step["action"] for step in again["steps"]] == ["read", "read", "same", "same"]
    assert far.writes == []


@pytest.mark.parametrize("crm", ["dynamics365", "sqlite"])
def test_a_plan_says_what_the_run_then_does(folder: Path, far: Remote, crm: str) -> None:
    swap = ("--connect", f"crm={crm}")
    assert run(folder, *swap).code == 0
    far.edit_referral(MAIN, name="Another name", details={"notes": "short"})
    said = run(folder, "plan", "--json", *swap)
    step = json.loads(said.out)["steps"][2]
    assert set(step["differences"][0]["changes"]) == {"title", "description"}
    assert step["differences"][0]["changes"]["title"]["then"] == "Another name"
    assert step["differences"][0]["unchanged"] >= 10
    if crm == "dynamics365":
        assert far.leads(MAIN)[0]["subject"] != "Another name"
    text = run(folder, "plan", *swap).out
    assert '→ "Another name"' in text
    assert "records: 1 to update" in text
    assert "| title |" in run(folder, "plan", "--markdown", *swap).out
    done = run(folder, "--json", *swap)
    assert "updated: title, description" in done.out or "updated: description, title" in done.out


def test_a_plan_of_a_run_that_would_fail(folder: Path, far: Remote) -> None:
    far.edit_referral(MAIN, details={"dealValue": -5})
    said = run(folder, "plan")
    assert said.code == 1
    assert "the run would fail at upsert_lead" in said.all
    assert [e for e in far.writes if e.host == CRM] == []
