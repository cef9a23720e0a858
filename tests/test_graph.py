"""`flowrun graph`: Mermaid text, the layout and its SVG, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import CATALOG, Desk, Played, play, program, stored
from terminal import FLOWS, flowrun

from engine import model
from engine.effects import Program, Record, Start
from engine.expressions import Expressions
from engine.loader import load, load_flow
from engine.types import JSON
from engine.views.drawing import Drawing, draw
from engine.views.layout import Link, Size, layered
from engine.views.mermaid import mermaid
from engine.views.outcome import outcomes
from engine.views.page import page
from engine.views.svg import svg

SVG = "{http://www.w3.org/2000/svg}"
STATUSES = ["succeeded", "failed", "skipped", "timed_out", "any"]
EVERYTHING = """\
flow: everything
title: "Everything <at> \\"once\\" & more"
connections: {desk: desk}
triggers:
  event: {manual: null}
  "odd \\"name\\" <b>": {schedule: "0 7 * * *", when: "trigger.time != null"}
variables: {n: 0}
steps:
  start: {call: desk.read, title: "Begin <here> `now` # $x$", note: "A note & <more>"}
  left: {run_after: start, call: desk.keep}
  right: {run_after: start, call: desk.read}
  both: {run_after: [left, right], compose: [1, 2]}
  sync:
    steps:
      each:
        foreach: [1, 2, 3, 4]
        as: offer
        steps:
          deep: {call: desk.keep, with: {value: "{{ offer }}"}}
          saved: {run_after: {deep: failed}, when: "offer != 3", compose: saved}
          after_it: {run_after: {deep: succeeded}, compose: "{{ offer }}"}
  alert: {run_after: {sync: [failed, timed_out]}, compose: "sync failed"}
  clean_up: {run_after: {sync: any, alert: any}, compose: done}
  end:
    switch: "{{ 'Acti<ve>' }}"
    cases:
      New: {is_new: {set: {n: 1}}}
      "Acti<ve>": {is_active: {set: {n: 2}}}
    default: {is_other: {increment: {n: 1}}}
  decide:
    if: variables.n == 2
    then:
      inner: {if: "true", then: {x1: {compose: 1}}, else: {x2: {compose: 1}}}
      style: {compose: 1}
    else:
      up: {until: variables.n > 3, steps: {more: {increment: {n: 1}}}}
  last: {run_after: {start: any, decide: any}, wait: 10m}
"""
CALLS: dict[str, Sequence[JSON]] = {
    "start": [
        {"fail": "transient", "code": "Busy"},
        {"body": "<script>alert(1)</script>", "summary": "found <b>it</b>"},
    ],
    "sync/each[1]/deep": ["data"],
    "sync/each[2]/deep": [{"fail": "data", "code": "<i>", "message": 'it\'s "<u>bad</u>" & worse'}],
}


def drawn(flow: Program, played: Played | None = None, *, run: str = "", trigger: str | None = None) -> Drawing:
    if played is None:
        return draw(flow)
    status = run or played.status
    return draw(flow, outcomes(flow, played.all_records, run=status), trigger)


@pytest.fixture(scope="module")
def everything() -> tuple[Drawing, Drawing]:
    """The same flow, drawn as it is written, and a run of it."""
    flow = program(EVERYTHING)
    played = play(flow, CALLS, start=Start(run="r", trigger={"name": "event"}))
    assert played.status == "succeeded", played.decider.error
    return drawn(flow), drawn(flow, played, trigger="event")


# What is drawn


def boxes(drawing: Drawing) -> dict[str, Any]:
    return {box.path: box for box in drawing.boxes()}


def test_every_step_is_a_box_in_its_list(everything: tuple[Drawing, Drawing]) -> None:
    plain, _ = everything
    found = boxes(plain)
    assert len(found) == len(program(EVERYTHING).flow.all_steps)
    assert [block.label for block in found["end"].blocks] == ["case New", "case Acti<ve>", "default"]
    assert [block.label for block in found["decide"].blocks] == ["then", "else"]
    assert [block.label for block in found["sync/each"].blocks] == [""]
    assert found["sync/each"].what == "foreach a list of 4 as offer"
    assert found["start"].label == "Begin <here> `now` # $x$"
    labels = {(arrow.source, arrow.target): arrow.label for arrow in plain.block.arrows}
    assert labels["start", "left"] == ""
    assert labels["sync", "alert"] == "failed, timed_out"
    assert labels["sync", "clean_up"] == labels["alert", "clean_up"] == "any"
    assert [source.what for source in plain.sources] == ["by hand", "schedule 0 7 * * * (UTC)"]


def test_a_flow_that_a_step_runs_is_drawn_inside_it() -> None:
    inner = load("flow: inner\nsteps:\n  a: {compose: 1}\n  b: {compose: 2}\n", "inner.yaml")
    text = "flow: outer\nsteps:\n  sync: {run: inner}\n  queue: {start: inner}\n"
    flow = load_flow(text, "flow.yaml", replace(CATALOG, flows={"inner": inner}))
    played = play(flow)
    found = boxes(drawn(flow, played))
    assert set(found) == {"sync", "sync/a", "sync/b", "queue"}
    assert (found["sync"].what, found["queue"].what) == ("run inner", "start inner")
    assert found["sync/b"].outcome.status == "succeeded"


def test_what_is_secure_is_not_drawn() -> None:
    steps = '{a: {compose: hunter2hunter2, secure: [outputs]}, b: {compose: "{{ steps.a.body }}"}}'
    flow = program(f"steps: {steps}\n")
    drawing = drawn(flow, play(flow))
    everywhere = mermaid(drawing) + svg(drawing) + page(drawing, {}, {})
    assert "hunter2" not in everywhere
    assert "(secure)" in page(drawing, {}, {})


def test_a_run_is_told_by_its_steps(everything: tuple[Drawing, Drawing]) -> None:
    _, run = everything
    found = {path: box.outcome for path, box in boxes(run).items()}
    assert found["start"].status == "succeeded"
    assert found["start"].words == "found <b>it</b>"
    assert found["start"].executions[0].tries == 2
    assert found["sync/each"].counts == "2 of 4, 2 failed"
    assert found["sync/each/deep"].counts == "2 of 4, 2 failed"
    assert found["sync/each/saved"].counts == "1 of 4, 3 skipped"
    assert found["sync"].status == "failed"
    assert found["decide/up"] is None
    assert found["end/is_new"] is None
    assert [source.began for source in run.sources] == [True, False]


@pytest.mark.parametrize(
    ("text", "calls", "run", "step", "status", "words"),
    [
        ("steps:\n  a: {call: desk.read}\n", {"a": ["never"]}, "running", "a", None, ""),
        ("steps:\n  a: {call: desk.mail}\n", {"a": ["never"]}, "running", "a", "running", "running"),
        ("steps:\n  a: {call: desk.mail}\n", {"a": ["never"]}, "interrupted", "a", "interrupted", "interrupted"),
        ("steps:\n  a: {call: desk.mail}\n", {"a": ["uncertain"]}, "", "a", "waiting", "Scripted: as scripted"),
        ("steps:\n  b: {steps: {a: {compose: 1}, c: {call: desk.mail}}}\n", {"b/c": ["never"]}, "running", "b",
         "running", "running"),
        ("steps:\n  a: {when: 'false', compose: 1}\n", {}, "", "a", "skipped", "not needed (when is false)"),
        ("steps:\n  a: {call: desk.read}\n  b: {compose: 1}\n", {"a": ["data"]}, "", "b", "skipped", "not reached"),
        ("steps:\n  a: {foreach: [1, 2, 3], steps: {c: {call: desk.read}}}\n", {"a[1]/c": ["never"]}, "running", "a",
         "running", "1 of 3"),
        ("steps:\n  a: {foreach: [], steps: {c: {call: desk.read}}}\n", {}, "", "a", "succeeded", "0 of 0"),
        ("variables: {n: 0}\nsteps:\n  a: {until: variables.n >= 3, steps: {c: {increment: {n: 1}}}}\n", {}, "", "a",
         "succeeded", "3 passes"),
        ("steps:\n  a: {timeout: 5s, foreach: [1, 2], steps: {c: {call: desk.read}}}\n", {"a[0]/c": ["never"]}, "", "a",
         "timed_out", "0 of 2, 1 cancelled"),
        ("steps:\n  a: {foreach: [1, 2], concurrency: 2, steps: {b: {foreach: [1, 2], steps: {c: {call: desk.read}}}}}",
         {"a[1]/b[0]/c": ["data"]}, "", "a/b", "failed", "3 of 4, 1 failed"),
    ],
)  # fmt: skip
def test_outcomes(text: str, calls: dict[str, Any], run: str, step: str, status: str | None, words: str) -> None:
    flow = program(text)
    outcome = boxes(drawn(flow, play(flow, calls), run=run))[step].outcome
    if status is None:
        assert outcome is None
    else:
        assert (outcome.status, outcome.words) == (status, words)


def test_a_resumed_run_is_told_as_it_ended() -> None:
    flow = program("steps:\n  a: {call: desk.read}\n  b: {compose: 1}\n")
    first = play(flow, {"a": ["data"]})
    marker = Record(path="", attempt=0, status="resumed")
    second = play(flow, {"a": ["fine"]}, recorded=[*stored(first.records), marker], retry_failed=True)
    found = boxes(drawn(flow, second))
    assert [found[name].outcome.status for name in ("a", "b")] == ["succeeded", "succeeded"]
    assert found["a"].outcome.executions[0].tries == 2


@settings(deadline=None, max_examples=100, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_passes_are_counted_as_the_engine_judges_them(data: st.DataObject) -> None:
    """A pass that failed gives null instead of its result."""
    inner = data.draw(lists(depth=1))
    flow = flow_of({"loop": {"foreach": [1, 2, 3], "steps": inner, "result": "x"}})
    calls = [name for name, step in flow.flow.all_steps.items() if isinstance(step, model.Call)]
    script = {
        f"loop[{i}]/{path.removeprefix('loop/')}": [data.draw(st.sampled_from(["ok", "ok", "data"]))]
        for i in range(3)
        for path in (box.path for box in draw(flow).boxes())
        if path.rpartition("/")[2] in calls
    }
    played = play(flow, script)
    outcome = boxes(drawn(flow, played))["loop"].outcome
    assert [status == "succeeded" for status in outcome.passes] == [body == "x" for body in played.bodies["loop"]]
    assert outcome.status == played.statuses["loop"]


def test_a_long_loop_is_told_in_time() -> None:
    flow = program("steps:\n  a: {foreach: \"{{ concat('') }}\", steps: {c: {call: desk.read}}}\n")
    decided = Record(path="a", attempt=1, status="decided", kind="foreach", output={"count": 20_000, "digest": ""})
    ends = [
        Record(path=f"a[{i}]/c", attempt=1, status="failed" if i % 100 == 7 else "succeeded", kind="call")
        for i in range(20_000)
    ]
    told = outcomes(flow, [decided, *ends], run="failed")
    assert told["a"].counts == "19800 of 20000, 200 failed"
    text = page(draw(flow, told), {}, {})
    assert text.count("<tr>") == 201  # the ones that failed first, then no more
    assert len(text) < 200_000


# Mermaid


@dataclass
class Chart:
    """A flowchart, read from its text: labels of nodes and subgraphs, who is in whom, links with their labels."""

    labels: dict[str, str] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    links: dict[tuple[str, str], str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)


ID = r"[a-z][\w.]*"
LABEL = r'"((?:[^"#<>&`$]|#\d+;|<br>)*)"'  # what needs an entity has one


def read_chart(text: str) -> Chart:
    """Fails on any line that isn't one of those that Mermaid's flowcharts have and ours use."""
    chart, open_, declared = Chart(), [], set()
    first, *lines = text.removesuffix("\n").split("\n")
    assert first == "flowchart TD"
    for line in map(str.strip, lines):
        if found := re.fullmatch(rf"({ID})(?:\[{LABEL}\]|\(\[{LABEL}\]\))", line):
            id, label = found[1], found[2] if found[2] is not None else found[3]
        elif found := re.fullmatch(rf"subgraph ({ID})\[{LABEL}\]", line):
            id, label = found[1], found[2]
        elif line == "end":
            open_.pop()
            continue
        elif found := re.fullmatch(rf"({ID}) -->(?:\|{LABEL}\|)? ({ID})", line):
            chart.links[found[1], found[3]] = found[2] or ""
            continue
        elif found := re.fullmatch(r"classDef (\w+) fill:#\w{6},stroke:#\w{6},color:#\w{3}", line):
            declared.add(found[1])
            continue
        else:
            found = re.fullmatch(rf"class ({ID}(?:,{ID})*) (\w+)", line)
            assert found, line
            assert found[2] in declared
            chart.classes |= dict.fromkeys(found[1].split(","), found[2])
            continue
        assert id not in chart.labels, f"{id} twice"
        chart.labels[id] = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), label.replace("<br>", "\n"))
        if open_:
            chart.inside[id] = open_[-1]
        if line.startswith("subgraph"):
            open_.append(id)
    assert not open_, "a subgraph isn't ended"
    for source, target in chart.links:
        assert {source, target} <= chart.labels.keys()
        assert chart.inside.get(source) == chart.inside.get(target), "links stay in their list"
    assert chart.classes.keys() <= chart.labels.keys()
    return chart


def test_mermaid(everything: tuple[Drawing, Drawing]) -> None:
    plain, run = everything
    chart = read_chart(mermaid(plain))
    assert chart.labels["s_start"] == "Begin <here> `now` # $x$\nstart: call desk.read"
    assert chart.labels["t1"] == 'odd "name" <b>: schedule 0 7 * * * (UTC)\nwhen trigger.time != null'
    assert chart.links["t0", "s_start"] == chart.links["t1", "s_start"] == ""
    assert chart.links["s_sync", "s_alert"] == "failed, timed_out"
    assert chart.labels["s_end"].startswith("end\n")  # a word of Mermaid's own
    assert chart.inside["s_end.is_active"] == "b1_s_end"
    assert chart.labels["b1_s_end"] == "case Acti<ve>"
    assert chart.inside["b1_s_end"] == "s_end"
    assert chart.inside["s_sync.each.deep"] == "s_sync.each"
    assert not chart.classes
    told = read_chart(mermaid(run))
    assert told.labels["s_sync.each"].endswith("\n✗ 2 of 4, 2 failed")
    assert told.classes["s_start"] == "succeeded"
    assert told.classes["s_sync"] == "failed"
    assert told.classes["s_decide.up"] == told.classes["s_end.is_new"] == "absent"
    assert told.labels.keys() == chart.labels.keys()


def test_mermaid_of_the_shipped_flow(home: Path) -> None:
    said = flowrun("graph", "flows/referral_to_dynamics.yaml", cwd=home)
    assert said.code == 0, said.all
    chart = read_chart(said.out)
    assert list(chart.links) == [
        ("s_get_token", "s_get_referral"),
        ("s_get_referral", "s_upsert_lead"),
        ("s_upsert_lead", "s_update_referral"),
        ("t0", "s_get_token"),
    ]
    assert "when steps.get_referral.body.status != 'Closed'" in chart.labels["s_update_referral"]


# Random flows


@st.composite
def lists(draw_: st.DrawFn, depth: int = 2, label: str = "s") -> dict[str, Any]:
    """A list of steps of many kinds, its order without cycles."""
    names = [f"{label}{i}" for i in range(draw_(st.integers(1, 6)))]
    steps: dict[str, Any] = {}
    for number, name in enumerate(names):
        step: dict[str, Any] = draw_(kinds(depth, name))
        earlier = names[:number]
        form = draw_(st.sampled_from(["default", "default", "list", "map", "start"]))
        if form == "list" and earlier:
            step["run_after"] = draw_(st.lists(st.sampled_from(earlier), unique=True, min_size=1))
        elif form == "map" and earlier:
            chosen = draw_(st.lists(st.sampled_from(earlier), unique=True, min_size=1))
            several = st.lists(st.sampled_from(STATUSES), unique=True, min_size=1, max_size=3)
            step["run_after"] = {one: draw_(st.sampled_from(STATUSES) | several) for one in chosen}
        elif form == "start":
            step["run_after"] = {}
        if draw_(st.integers(0, 4)) == 0:
            step["title"] = draw_(TEXTS)
        if draw_(st.integers(0, 4)) == 0:
            step["when"] = f"'{draw_(TEXTS)}'"
        steps[name] = step
    return steps


TEXTS = st.text(max_size=90) | st.sampled_from(
    ["W" * 80, "i" * 80, "漢字" * 30, "a\nb\tc", "]]>&amp;</svg>", "\x00\ud800"]
)


@st.composite
def kinds(draw_: st.DrawFn, depth: int, name: str) -> dict[str, Any]:
    kind = draw_(st.sampled_from(["call", "call", "compose", *(["steps", "if", "switch", "foreach"] if depth else [])]))
    inner = lists(depth - 1, f"{name}_")
    match kind:
        case "compose":
            return {"compose": draw_(TEXTS)}
        case "steps":
            return {"steps": draw_(inner)}
        case "if":
            return {
                "if": "true",
                "then": draw_(lists(depth - 1, f"{name}_t")),
                "else": draw_(lists(depth - 1, f"{name}_e")),
            }
        case "switch":
            texts = draw_(st.lists(TEXTS, unique=True, max_size=4))
            cases = {text: draw_(lists(depth - 1, f"{name}_{n}_")) for n, text in enumerate(texts)}
            return {"switch": "'x'", "cases": cases}
        case "foreach":
            return {"foreach": [1, 2], "steps": draw_(inner)}
    return {"call": "desk.read"}


many = settings(
    deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OPERATIONS = {f"desk.{name}": op for name, op in Desk.operations().items()}


def flow_of(steps: Mapping[str, Any]) -> Program:
    """A program without the checks: its texts are anything."""
    flow = model.build({"flow": "random", "connections": {"desk": "desk"}, "steps": steps})
    return Program(flow, Expressions(CATALOG.functions), OPERATIONS, connections=dict(flow.connections))


@many
@given(lists())
def test_any_flow_as_mermaid(steps: dict[str, Any]) -> None:
    flow = flow_of(steps)
    chart = read_chart(mermaid(draw(flow)))
    assert {f"s_{box.path.replace('/', '.')}" for box in draw(flow).boxes()} <= chart.labels.keys()


@dataclass(frozen=True)
class Rect:
    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, element: ET.Element) -> Rect:
        return cls(*(float(element.attrib[name]) for name in ("x", "y", "width", "height")))

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def overlaps(self, other: Rect, by: float = 0.0) -> bool:
        return (
            self.left + by < other.right
            and other.left + by < self.right
            and self.top + by < other.bottom
            and other.top + by < self.bottom
        )

    def holds(self, other: Rect) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)


def box_of(group: ET.Element) -> Rect:
    element = group.find(f"{SVG}rect[@class='box']")
    assert element is not None
    return Rect.of(element)


def look_over(element: ET.Element, around: Rect) -> Iterator[Rect]:
    """Every box below an element lies in the one around it, and beside its siblings."""
    inside = [(group, box_of(group)) for group in element.findall(f"{SVG}g")]
    for number, (group, rect) in enumerate(inside):
        assert around.holds(rect)
        for _, other in inside[:number]:
            assert not rect.overlaps(other)
        for text in group.findall(f"{SVG}text"):
            assert rect.left < float(text.attrib["x"]) < rect.right
            assert rect.top < float(text.attrib["y"]) < rect.bottom
        yield rect
        yield from look_over(group, rect)


@many
@given(lists())
def test_any_flow_as_svg(steps: dict[str, Any]) -> None:
    """Well-formed; no boxes overlap but a container and what is in it; labels of arrows lie on no box."""
    flow = flow_of(steps)
    drawing = draw(flow)
    root = parsed(svg(drawing))
    whole = Rect(0, 0, float(root.attrib["width"]), float(root.attrib["height"]))
    assert len(list(look_over(root, whole))) == len(list(drawing.boxes()))
    paths = [group.attrib["data-path"] for group in root.iter(f"{SVG}g")]
    assert sorted(paths) == sorted(box.path for box in drawing.boxes())
    leaves = [box_of(g) for g in root.iter(f"{SVG}g") if not g.findall(f"{SVG}g")]
    labels = [Rect.of(e) for e in root.iter(f"{SVG}rect") if "label" in e.attrib.get("class", "")]
    for number, label in enumerate(labels):
        assert whole.holds(label)
        assert not any(label.overlaps(rect) for rect in [*leaves, *labels[:number]])
    for arrow in (e for e in root.iter(f"{SVG}path") if e.attrib["class"] == "arrow"):
        for line in uprights(arrow.attrib["d"]):
            assert not any(line.overlaps(rect, by=0.2) for rect in leaves), "an arrow runs through a box"


def uprights(path: str) -> Iterator[Rect]:
    """The straight pieces of an arrow: those that pass rows of boxes."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MVC])([-\d. ]+)", path):
        values = [float(number) for number in numbers.split()]
        if command == "V":
            yield Rect(x - 0.2, min(y, values[0]), 0.4, abs(values[0] - y))
            y = values[0]
        else:
            x, y = values[-2:]


@st.composite
def graphs(draw_: st.DrawFn) -> tuple[dict[str, Size], list[Link]]:
    sizes = st.builds(Size, st.floats(10, 400), st.floats(10, 300))
    boxes_ = {f"b{i}": draw_(sizes) for i in range(draw_(st.integers(0, 12)))}
    names = list(boxes_)
    links = [
        Link(names[i], names[j], "", Size(60, 20) if draw_(st.booleans()) else None)
        for j in range(len(names))
        for i in draw_(st.lists(st.sampled_from(range(j)), unique=True, max_size=4) if j else st.just([]))
    ]
    return boxes_, links


@many
@given(graphs())
def test_a_layout_keeps_boxes_apart_and_runs_downwards(graph: tuple[dict[str, Size], list[Link]]) -> None:
    boxes_, links = graph
    layout = layered(boxes_, links)
    rects = {name: Rect(*layout.places[name], size.width, size.height) for name, size in boxes_.items()}
    whole = Rect(-0.01, -0.01, layout.size.width + 0.02, layout.size.height + 0.02)
    for name, rect in rects.items():
        assert whole.holds(rect)
        assert not any(rect.overlaps(other, by=0.001) for other_name, other in rects.items() if other_name < name)
    assert len(layout.routes) == len(links)
    for route in layout.routes:
        assert rects[route.link.source].bottom < rects[route.link.target].top
        assert route.points[0][1] == pytest.approx(rects[route.link.source].bottom)
        assert route.points[-1][2] == pytest.approx(rects[route.link.target].top)


def test_a_straight_flow_stands_straight() -> None:
    for count in (4, 60):
        root = parsed(svg(drawn(flow_of({f"step_{i}": {"call": "desk.read"} for i in range(count)}))))
        middles = {round(rect.left + rect.width / 2) for rect in map(box_of, root.iter(f"{SVG}g"))}
        assert len(middles) == 1
        assert float(root.attrib["width"]) < 400


def test_two_thousand_steps_are_drawn_in_time() -> None:
    flow = flow_of({f"step_{i}": {"call": "desk.read"} for i in range(2000)})
    assert svg(draw(flow)).count('class="step"') == 2000
    assert len(read_chart(mermaid(draw(flow))).links) == 1999


# The page, in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    return tmp_path


def test_the_page_loads_nothing_and_escapes_everything(everything: tuple[Drawing, Drawing]) -> None:
    _, run = everything
    text = page(run, {"run": "<b>", "error": {"message": "</script>"}}, {"start": "flow.yaml:8:3"})
    without = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href|action)\s*=|url\((?!#head)|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    tags = set(re.findall(r"<([a-zA-Z]+)", without))
    assert tags <= {
        "html", "head", "meta", "title", "body", "header", "main", "aside", "section", "svg", "defs", "marker", "path",
        "rect", "g", "text", "h", "dl", "dt", "dd", "table", "tr", "td", "th", "time", "span", "details", "summary",
        "pre", "p",
    }, tags  # fmt: skip
    assert not re.findall(r"<\w[^>]*\son\w+=", without)
    assert text.count("<script>") == text.count("</script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_page_in_a_browser(browser: Browser, everything: tuple[Drawing, Drawing], tmp_path: Path) -> None:
    _, run = everything
    file = tmp_path / "run.html"
    file.write_text(page(run, {"run": "0123"}, {"start": "flow.yaml:8:3"}), "utf-8")
    browser.open(file)
    shown = "return [...document.querySelectorAll('#details > section:not([hidden])')].map(s => s.innerText).join()"
    assert "0123" in browser.run(shown)
    browser.click('.step[data-path="start"] > text')
    said = browser.run(shown)
    for word in ("Begin <here> `now` # $x$", "flow.yaml:8:3", "A note & <more>", "found <b>it</b>", "retrying", "Busy"):
        assert word in said
    assert "0123" not in said
    browser.click('.step[data-path="sync/each/deep"] > text')
    assert 'it\'s "<u>bad</u>" & worse' in browser.run(shown)
    assert browser.run("return document.querySelectorAll('u, b, i, script[src]').length") == 0
    assert browser.complaints() == []


def test_the_page_by_keyboard(browser: Browser, everything: tuple[Drawing, Drawing], tmp_path: Path) -> None:
    _, run = everything
    file = tmp_path / "run.html"
    file.write_text(page(run, {"run": "0123"}, {}), "utf-8")
    browser.open(file)
    on = "return document.activeElement.dataset?.path ?? document.activeElement.id"
    shown = "return document.querySelector('#details > section:not([hidden])').dataset.of"
    for _ in range(4):  # a part that scrolls may be a stop too
        browser.press("Tab")
        if browser.run(on) == "start":
            break
    assert browser.run(on) == browser.run(shown) == "start"
    browser.press("Down")
    assert browser.run(on) == browser.run(shown) == "left"
    browser.press("End")
    assert browser.run(on) == "last"
    browser.press("Up", "Home", "Down")
    assert browser.run(on) == "left"
    assert browser.run("return document.activeElement.getAttribute('aria-label')").startswith("left: call desk.keep: ✓")
    browser.press("Enter")
    assert browser.run(on) == "details"
    assert browser.run(shown) == "left"
    browser.press("Escape")
    assert browser.run(on) == "left"
    browser.press("Escape")
    assert browser.run(shown) is None
    assert browser.run("return document.activeElement === document.body")


CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = (c) => parse(c).slice(0, 3).map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
return [...document.querySelectorAll('.flow .step > text')].map((text) => [text.textContent,
  ratio(getComputedStyle(text).fill, getComputedStyle(text.parentNode.querySelector('.box')).fill)]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_light_and_dark(
    browser: Browser, everything: tuple[Drawing, Drawing], tmp_path: Path, scheme: str
) -> None:
    """Each has a background of its own, and every text of a box can be read on it (WCAG AA: 4.5)."""
    file = tmp_path / "run.html"
    file.write_text(page(everything[1], {}, {}), "utf-8")
    browser.scheme(scheme)
    browser.open(file)
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    ratios = browser.run(CONTRAST)
    assert len(ratios) > 40
    assert not [text for text, ratio in ratios if ratio < 4.5]
    browser.scheme("light")


FITS = """
return [...document.querySelectorAll('.flow g')].flatMap((group) => {
  const box = group.querySelector(':scope > .box').getBBox();
  return [...group.querySelectorAll(':scope > text')].filter((text) => {
    const own = text.getBBox();
    return own.x < box.x || own.x + own.width > box.x + box.width || own.y < box.y;
  }).map((text) => text.textContent);
});
"""


def test_all_text_fits_its_box(browser: Browser, everything: tuple[Drawing, Drawing], tmp_path: Path) -> None:
    letters = "".join(map(chr, range(0x20, 0x7F)))
    texts = [letters[i : i + 24] for i in range(0, len(letters), 12)]
    texts += [letter * 60 for letter in "WMmwi@ÄßЖ漢💡%_—…"] + [
        "Zürich, København, Łódź; Ελλάδα",
        "الرياض",
        "e\u0301" * 40,
    ]
    steps = {f"s{n}": {"call": "desk.read", "title": text, "when": f"'{text}'"} for n, text in enumerate(texts)}
    for drawing in (*everything, drawn(flow_of(steps))):
        file = tmp_path / "flow.svg"
        file.write_text(svg(drawing), "utf-8")
        browser.open(file)
        assert browser.run(FITS) == []
        assert browser.complaints() == []


# The command


def test_the_command_draws_flows_and_runs(home: Path) -> None:
    flow = "flows/referral_to_dynamics.yaml"
    none = flowrun("graph", flow, "--run", "last", cwd=home)
    assert (none.code, "no run of referral_to_dynamics" in none.err) == (2, True)
    assert flowrun(flow, cwd=home).code == 0
    (home / "flows/other.yaml").write_text("flow: other\nsteps: {a: {compose: 1}}\n", "utf-8")
    assert flowrun("flows/other.yaml", cwd=home).code == 0
    last = flowrun("graph", flow, "--run", "last", cwd=home)  # of this flow, not of all
    assert last.code == 0, last.all
    assert set(read_chart(last.out).classes.values()) == {"succeeded"}
    ids = [json.loads(line)["id"] for line in flowrun("runs", "list", "--json", cwd=home).out.splitlines()]
    wrong = flowrun("graph", flow, "--run", ids[0], cwd=home)
    assert (wrong.code, "is one of other" in wrong.err) == (2, True)
    picture = flowrun("graph", flow, "--run", ids[1][:10], "--format", "svg", cwd=home)
    assert parsed(picture.out).findall(f"{SVG}g[@class='step succeeded']")
    assert flowrun("graph", flow, "--run", "last", "-o", "run.html", cwd=home).out == ""
    text = (home / "run.html").read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "created lead" in text
    assert flowrun("graph", flow, "-o", "flow.svg", cwd=home).code == 0
    parsed((home / "flow.svg").read_text("utf-8"))
    nowhere = flowrun("graph", flow, "-o", "no/such/folder.svg", cwd=home)
    assert (nowhere.code, "can't write no/such/folder.svg" in nowhere.err) == (2, True)


def test_a_run_is_drawn_as_it_was(home: Path) -> None:
    file = home / "flows/changing.yaml"
    file.write_text("flow: changing\nsteps:\n  a: {compose: before}\n", "utf-8")
    assert flowrun("flows/changing.yaml", cwd=home).code == 0
    file.write_text("flow: changing\nsteps:\n  b: {compose: after}\n", "utf-8")
    said = flowrun("graph", "flows/changing.yaml", "--run", "last", cwd=home)
    assert "s_a" in read_chart(said.out).labels
    assert "has been changed since" in said.err


def test_a_broken_flow_is_not_drawn(home: Path) -> None:
    (home / "flows/broken.yaml").write_text("flow: broken\nsteps: {a: {composes: 1}}\n", "utf-8")
    said = flowrun("graph", "flows/broken.yaml", cwd=home)
    assert (said.code, said.out) == (2, "")
    assert "flows/broken.yaml:2:" in said.err


def test_secrets_are_in_no_form_of_a_drawing(home: Path) -> None:
    text = 'flow: hidden\nparameters: {word: {default: "${env:WORD}"}}\nsteps:\n'
    text += '  mine: {compose: "{{ parameters.word }}"}\n  after: {compose: {copy: "{{ steps.mine.body }}"}}\n'
    (home / "flows/hidden.yaml").write_text(text, "utf-8")
    for key in ({}, {"FLOWRUN_KEY": Fernet.generate_key().decode()}):
        shutil.rmtree(home / "flows/.flowrun", ignore_errors=True)
        assert flowrun("flows/hidden.yaml", cwd=home, env={"WORD": "correct horse battery", **key}).code == 0
        for form in ("mermaid", "svg", "html"):
            said = flowrun("graph", "flows/hidden.yaml", "--run", "last", "--format", form, cwd=home, env=key)
            assert said.code == 0, said.all
            assert "horse" not in said.all
        assert "(secure)" in said.out
