"""What a resume keeps and repeats, said before it is done; and going on by a repaired flow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from scripted import NOON, Played, play, program
from terminal import FLOWS, flowrun

from engine.effects import Record, Start
from engine.planning.resumption import Resumption, resumption

MARKER = Record(path="", attempt=0, status="resumed")
STEPS = (
    "steps:\n  a: {call: desk.read}\n  b: {call: desk.keep, with: {value: '{{ steps.a.body }}'}}\n"
    "  box: {steps: {c: {call: desk.send, with: {value: 1}}}}\n"
    "  each: {foreach: [1, 2], steps: {d: {call: desk.keep, with: {value: '{{ item }}'}}}}\n"
    "  end: {call: desk.mail}\n"
)


def looked(first: Played, text: str, now: str | None = None) -> Resumption:
    old = program(text)
    new = program(now) if now is not None else old
    before = old.flow if now is not None else None
    return resumption(new, Start(run="run"), [*first.records, MARKER], NOON, before)


def test_what_is_kept_and_what_is_done_again() -> None:
    first = play(program(STEPS), {"a": [7], "each[1]/d": ["data"]})
    found = looked(first, STEPS)
    assert [r.path for r in found.kept] == ["a", "b", "box", "box/c", "each[0]/d"]
    assert found.again == {
        "each[1]/d": "repeating it changes nothing twice",
        "each": "nothing outside depends on it",
        "end": "it was not reached",
    }
    assert found.differing == {}


def test_a_write_that_nobody_knows_of() -> None:
    found = looked(play(program(STEPS), {"end": ["uncertain"]}), STEPS)
    assert found.again == {"end": "nobody knows whether it happened: that is found out first"}


def test_a_write_that_would_be_done_twice_is_named() -> None:
    text = "steps:\n  a: {call: desk.read}\n  b: {run_after: {a: any}, call: desk.mail}\n  c: {call: desk.read}\n"
    found = looked(play(program(text), {"a": ["data"], "c": ["data"]}), text)
    assert "a second time" in found.again["b"]


@pytest.mark.parametrize(
    ("was", "now", "path", "how"),
    [
        ("value: '{{ steps.a.body }}'", "value: '{{ steps.a.body }}!'", "b", "with.value was '7' and is now '7!'"),
        ("b: {call: desk.keep", "b: {call: desk.send", "b", "it called desk.keep, and now calls desk.send"),
        ("foreach: [1, 2]", "foreach: [1, 2, 3]", "each", "it is written otherwise"),
        ("d: {call: desk.keep", "d: {call: desk.send", "each", "it is written otherwise"),
        ("c: {call: desk.send, with: {value: 1}}", "x: {call: desk.read}", "box/c", "isn't in this flow any more"),
        ("a: {call: desk.read}", "a: {compose: 7}", "a", "another step stood under this name"),
    ],
)
def test_what_was_done_otherwise_is_named(was: str, now: str, path: str, how: str) -> None:
    assert was in STEPS
    first = play(program(STEPS), {"a": [7], "end": ["data"]})
    found = looked(first, STEPS, STEPS.replace(was, now))
    assert how in found.differing[path]


def test_what_has_not_been_done_may_be_repaired() -> None:
    first = play(program(STEPS), {"a": [7], "end": ["data"]})
    found = looked(
        first, STEPS, STEPS.replace("end: {call: desk.mail}", "end: {compose: 1}\n  more: {call: desk.read}")
    )
    assert found.differing == {}
    assert set(found.again) == {"end"}


# On the command line

FLOW = """\
flow: repair
connections: {crm: sqlite}
steps:
  make: {call: crm.upsert_lead, with: {key: k1, lead: {company: Contoso}}}
  broken: {compose: "{{ int(steps.make.body.lead.company) }}"}
outputs: {company: "{{ steps.broken.body }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(FLOWS / "connections.yaml", tmp_path)
    (tmp_path / "repair.yaml").write_text(FLOW, "utf-8")
    assert flowrun("repair.yaml", cwd=tmp_path).code == 1
    return tmp_path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_repaired_flow_goes_on_where_the_run_failed(folder: Path) -> None:
    (folder / "repaired.yaml").write_text(FLOW.replace("{{ int(", "{{ string("), "utf-8")
    said = flowrun("runs", "resume", "last", "--flow", "repaired.yaml", "--plan", cwd=folder)
    assert said.code == 0
    assert "1 kept, 1 again" in said.out
    said = flowrun("runs", "resume", "last", "--flow", "repaired.yaml", "--json", cwd=folder)
    assert said.code == 0, said.all
    assert lines(said.out)[-1]["outputs"] == {"company": "Contoso"}
    assert [line["name"] for line in lines(said.out) if line["type"] == "step"] == ["broken"]
    shown = lines(flowrun("runs", "show", "1", "--json", cwd=folder).out)
    assert shown[0]["status"] == "succeeded"


def test_what_does_not_fit_is_refused_and_may_be_forced(folder: Path) -> None:
    text = FLOW.replace("{{ int(", "{{ string(").replace("company: Contoso", "company: Fabrikam")
    (folder / "repaired.yaml").write_text(text, "utf-8")
    said = flowrun("runs", "resume", "last", "--flow", "repaired.yaml", cwd=folder)
    assert said.code == 2
    assert "make with.lead.company was 'Contoso' and is now 'Fabrikam'" in said.all
    assert lines(flowrun("runs", "list", "--json", cwd=folder).out)[0]["status"] == "failed"
    said = flowrun("runs", "resume", "1", "--flow", "repaired.yaml", "--plan", "--json", cwd=folder)
    assert (said.code, list(lines(said.out)[0]["differing"])) == (2, ["make"])
    said = flowrun("runs", "resume", "last", "--flow", "repaired.yaml", "--force", "--json", cwd=folder)
    assert (said.code, lines(said.out)[-1]["outputs"]) == (0, {"company": "Contoso"})


def test_another_flow_is_refused(folder: Path) -> None:
    (folder / "other.yaml").write_text(FLOW.replace("flow: repair", "flow: other"), "utf-8")
    said = flowrun("runs", "resume", "last", "--flow", "other.yaml", cwd=folder)
    assert said.code == 2
    assert "the run is of 'repair'" in said.all
