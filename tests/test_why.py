"""`flowrun why`: where a value came from and why a step ran, derived from the document and the records alone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import CATALOG, NOON, Played, play, stored
from terminal import FLOWS, flowrun

from engine import model
from engine.effects import Program, Record, Start
from engine.errors import ConfigError
from engine.loader import Document, check, load
from engine.types import JSON
from engine.views.origin import tree
from engine.views.recorded import Recorded
from engine.views.why import why

SHOP = """\
flow: shop
connections: {desk: desk}
triggers: {hand: {manual: null}}
parameters: {who: {type: string, default: world}, level: {type: integer, default: 20}}
variables: {n: 0, names: [], note: {type: string}}
steps:
  first: {call: desk.read, with: {value: "{{ trigger.inputs.id }}"}}
  offers:
    compose:
      - {name: bread, price: 3}
      - {name: cake, price: 20}
      - {name: oven, price: "{{ steps.first.body.price }}"}
  dear:
    select: steps.offers.body
    where: item.price >= parameters.level
    map: {label: "{{ index }}: {{ item.name }}"}
  kept: {select: steps.offers.body, where: item.price < parameters.level}
  each:
    foreach: steps.offers.body
    as: offer
    steps:
      add: {append: {names: "{{ offer.name }}"}}
      count: {increment: {n: "{{ offer.price }}"}}
      post: {call: desk.keep, with: {value: {name: "{{ offer.name }}", so_far: "{{ variables.n }}"}}}
    result: {id: "{{ steps.post.body }}", of: "{{ offer.name }}"}
  large:
    run_after: {each: any}
    if: variables.n > 20
    then: {note_large: {set: {note: "large: {{ variables.n }}"}}}
    else: {note_small: {set: {note: small}}, after_small: {compose: "{{ steps.note_small.status }}"}}
  stamp: {compose: {at: "{{ utcNow() }}", who: "{{ parameters.who }}"}}
  never: {when: variables.n < 0, call: desk.read, with: {value: "{{ steps.stamp.body }}"}}
  handler: {run_after: {never: failed}, compose: "{{ steps.first.body }}"}
  after_handler: {compose: 1}
  again:
    run_after: {never: any}
    until: variables.n >= 50
    steps: {up: {increment: {n: 10}}}
    result: {n: "{{ variables.n }}"}
outputs: {names: "{{ variables.names }}", second: "{{ steps.each.body[2].of }}", fixed: {word: yes}}
business_key: trigger.inputs.id
"""
CALLS: dict[str, Sequence[JSON]] = {
    "first": [{"fail": "transient", "code": "Busy", "after": "2s"}, {"body": {"price": 9}, "summary": "found it"}],
    "each[0]/post": [{"body": "P1"}],
    "each[1]/post": ["data"],
}


@dataclass
class Asked:
    """A run that can be asked."""

    recorded: Recorded
    played: Played

    def json(self, path: str) -> dict[str, Any]:
        decider = self.played.decider
        outputs = decider.outputs if self.played.status == "succeeded" else None
        return why(self.recorded, path, outputs, decider.business_key).json()

    def text(self, path: str) -> str:
        decider = self.played.decider
        return tree(why(self.recorded, path, decider.outputs, decider.business_key))


def program_of(text: str, beside: Mapping[str, Document] | None = None) -> tuple[Program, Document]:
    if not text.startswith("flow:"):
        text = f"flow: test\nconnections: {{desk: desk}}\n{text}"
    document = load(text, "flow.yaml")
    program, findings = check(document, replace(CATALOG, flows=beside or {}))
    assert program is not None, findings
    return program, document


def asked(
    text: str,
    calls: Mapping[str, Sequence[JSON]] | None = None,
    *,
    inputs: JSON = None,
    parameters: Mapping[str, JSON] | None = None,
    beside: Mapping[str, Document] | None = None,
    inner: Mapping[str, Mapping[str, JSON]] | None = None,
    again: Mapping[str, Sequence[JSON]] | None = None,
) -> Asked:
    """Plays a flow, and with `again` once more as a resume, and asks what its journal would hold."""
    program, document = program_of(text, beside)
    trigger = {"name": "hand", "inputs": inputs}
    start = Start(run="run", trigger=trigger, parameters=parameters or {}, inner=inner or {}, environment="test")
    played = play(program, calls, start=start)
    records = played.records
    if again is not None:
        recorded = [*stored(records), Record(path="", attempt=0, status="resumed")]
        played = play(program, again, start=start, recorded=recorded, retry_failed=True, now=NOON.replace(hour=18))
        records = [*recorded, *played.records]
    about = {"id": "run", "environment": "test"}
    parts = (program, document, beside or {}, stored(records), about, start.trigger, start.parameters)
    return Asked(Recorded(*parts), played)


@pytest.fixture(scope="module")
def shop() -> Asked:
    run = asked(SHOP, CALLS, inputs={"id": "A7"}, parameters={"who": "Robin", "level": 20})
    assert run.played.status == "succeeded", run.played.decider.error
    return run


def walk(origin: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield origin
    for source in origin.get("from", ()):
        yield from walk(source)


def leaf(origin: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a value comes from in the end, where each step of the way rests on one thing."""
    while "from" in origin:
        (origin,) = origin["from"]
    return origin


# Values


@pytest.mark.parametrize(
    ("path", "value", "how", "place"),
    [
        ("first.with.value", "A7", "given by the trigger hand", ""),
        ("first.body.price", 9, "answer of desk.read; found it", "flow.yaml:7:3"),
        ("offers.body[2].price", 9, "answer of desk.read; found it", "flow.yaml:7:3"),
        ("offers.compose[2].price", 9, "answer of desk.read; found it", "flow.yaml:7:3"),
        ("offers.body[0].name", "bread", "written in the flow", "flow.yaml:10:16"),
        ("steps.offers.body[1]", {"name": "cake", "price": 20}, "written in the flow", "flow.yaml:11:9"),
        ("kept.body[1].price", 9, "answer of desk.read; found it", "flow.yaml:7:3"),
        ("each.body[0].id", "P1", "answer of desk.keep", "flow.yaml:24:7"),
        ("each[0]/post.body", "P1", "answer of desk.keep", "flow.yaml:24:7"),
        ("each.body[2].of", "oven", "written in the flow", "flow.yaml:12:16"),
        ("each.foreach[1].name", "cake", "written in the flow", "flow.yaml:11:16"),
        ("outputs.second", "oven", "written in the flow", "flow.yaml:12:16"),
        ("outputs.fixed.word", "yes", "written in the flow", ""),
        ("business_key", "A7", "given by the trigger hand", ""),
        ("trigger.inputs.id", "A7", "given by the trigger hand", ""),
        ("parameters.level", 20, "the parameter's default", "flow.yaml:4:51"),
        ("parameters.who", "Robin", "given at the start", "flow.yaml:4:14"),
        ("each[2]/add.append.names", "oven", "written in the flow", "flow.yaml:12:16"),
    ],
)
def test_a_value_leads_to_where_it_comes_from(shop: Asked, path: str, value: JSON, how: str, place: str) -> None:
    origin = shop.json(path)
    assert origin["value"] == value
    end = leaf(origin)
    assert end["value"] == value
    assert how in end["how"]
    assert place in end.get("place", "")


@pytest.mark.parametrize(
    ("path", "value", "expression", "place"),
    [
        ("first.with.value", "A7", "{{ trigger.inputs.id }}", "flow.yaml:7:46"),
        ("offers.body[2].price", 9, "{{ steps.first.body.price }}", "flow.yaml:12:33"),
        ("large.if", True, "variables.n > 20", "flow.yaml:28:9"),
        ("never.when", False, "variables.n < 0", "flow.yaml:32:17"),
        ("again.until", True, "variables.n >= 50", "flow.yaml:37:12"),
        ("again.body.n", 52, "{{ variables.n }}", "flow.yaml:39:21"),
        ("note_large.set.note", "large: 32", "large: {{ variables.n }}", "flow.yaml:29:37"),
        ("each[1]/post.with.value.so_far", 23, "{{ variables.n }}", "flow.yaml:24:84"),
        ("dear.body[0].label", "1: cake", "{{ index }}: {{ item.name }}", "flow.yaml:16:18"),
        ("stamp.body.who", "Robin", "{{ parameters.who }}", "flow.yaml:31:52"),
    ],
)
def test_an_expression_is_shown_as_written_with_its_place(
    shop: Asked, path: str, value: JSON, expression: str, place: str
) -> None:
    origin = shop.json(path)
    assert (origin["value"], origin["expression"], origin["place"]) == (value, expression, place)


def test_places_are_those_of_the_text() -> None:
    lines = SHOP.split("\n")
    run = asked(SHOP, CALLS, inputs={"id": "A7"}, parameters={"who": "Robin", "level": 20})
    for path in ("first.with.value", "each[1]/post.with", "large.if", "outputs", "dear.body[0]", "variables.note"):
        for origin in walk(run.json(path)):
            if "expression" in origin:
                file, line, column = origin["place"].split(":")
                written = origin["expression"].replace("{{", "").replace("}}", "").split()[0]
                found = lines[int(line) - 1][int(column) - 1 :].removeprefix('"').removeprefix("{{ ")
                assert file == "flow.yaml"
                assert found.startswith(written), (origin, found)


def test_a_variable_leads_to_the_steps_that_changed_it_in_order(shop: Asked) -> None:
    (reference,) = shop.json("each[1]/post.with.value.so_far")["from"]
    assert reference["what"] == "variables.n"
    assert reference["value"] == 23
    changes = [(change["what"], change["value"]) for change in reference["from"]]
    assert changes == [("at first", 0), ("increment by each[0]/count", 3), ("increment by each[1]/count", 20)]
    at_the_end = shop.json("variables.n")
    assert at_the_end["value"] == 52
    assert [change["what"] for change in at_the_end["from"]][-2:] == [
        "increment by again[0]/up",
        "increment by again[1]/up",
    ]


def test_of_many_changes_the_first_and_the_last_are_shown() -> None:
    run = asked(
        "variables: {n: 0}\nsteps:\n  loop:\n    until: variables.n >= 40\n    steps: {up: {increment: {n: 1}}}\n"
    )
    names = [change["what"] for change in run.json("variables.n")["from"]]
    assert names[:2] == ["at first", "increment by loop[0]/up"]
    assert names[5] == "… and 32 more"
    assert names[-1] == "increment by loop[39]/up"
    assert len(names) == 10


def test_a_variable_that_feeds_on_itself_ends_somewhere() -> None:
    text = "variables: {n: 0}\nsteps:\n  loop:\n    until: variables.n >= 60\n"
    text += '    steps: {up: {set: {n: "{{ variables.n + 1 }}"}}}\n'
    run = asked(text)
    assert sum(1 for _ in walk(run.json("variables.n"))) < 50
    one = asked("variables: {n: 1}\nsteps:\n" + "".join(
        f'  s{i}: {{set: {{n: "{{{{ variables.n + variables.n }}}}"}}}}\n' for i in range(40)
    ))  # fmt: skip
    assert one.json("variables.n")["value"] == 2**40
    assert sum(1 for _ in walk(one.json("variables.n"))) < 500
    assert sum(1 for _ in walk(one.json("s1.set.n"))) < 500


def test_what_gives_something_else_each_time_is_taken_from_the_records(shop: Asked) -> None:
    recorded = shop.played.bodies["stamp"]["at"]
    assert shop.json("stamp.body.at")["value"] == recorded
    run = asked('steps:\n  a: {foreach: "{{ [guid()] }}", steps: {b: {compose: "{{ item }}"}}}\n')
    assert "guid()" in run.json("a.foreach")["unknown"]
    assert run.json("a[0]/b.body")["value"] == run.played.bodies["a[0]/b"]


def test_a_pass_shows_its_item_its_steps_and_what_it_gave(shop: Asked) -> None:
    sources = {source["what"]: source for source in shop.json("each[1]")["from"]}
    assert sources["offer"]["value"] == {"name": "cake", "price": 20}
    assert [sources[f"each[1]/{name}"]["status"] for name in ("add", "count", "post")] == [
        "succeeded",
        "succeeded",
        "failed",
    ]
    assert sources["each.body[1]"]["value"] is None
    assert "failed" in sources["each.body[1]"]["how"]


def test_an_empty_result_says_why(shop: Asked) -> None:
    assert "each[1]/post failed: Scripted" in shop.json("each[1]/post.body")["how"]
    assert "not needed" in shop.json("never.body")["how"]
    assert shop.json("note_small.body")["how"] == "large/note_small did not run"
    assert shop.json("never.with.value")["unknown"] == "the step did not run"


def test_inner_flows_are_followed_through() -> None:
    inner = load(
        "flow: inner\nconnections: {desk: desk}\ntriggers: {hand: {manual: null}}\n"
        "parameters: {p: {default: of inner}}\n"
        "variables: {n: 5}\n"
        'steps:\n  look: {call: desk.read, with: {value: "{{ trigger.inputs.id }}"}}\n  n: {increment: {n: 1}}\n'
        '  say: {compose: "{{ parameters.p }} {{ variables.n }}"}\n'
        'outputs: {found: "{{ steps.look.body.name }}", said: "{{ steps.say.body }}"}\n',
        "inner.yaml",
    )
    text = (
        "flow: outer\nconnections: {desk: desk}\ntriggers: {hand: {manual: null}}\nvariables: {n: 1}\nsteps:\n"
        '  sync: {run: inner, with: {id: "{{ trigger.inputs.key }}"}}\n'
        '  look_again: {compose: "{{ steps.sync.body.found }}"}\n'
    )
    run = asked(text, {"sync/look": [{"body": {"name": "bread"}}]}, inputs={"key": "K1"}, beside={"inner": inner},
                inner={"inner": {"p": "of inner"}})  # fmt: skip
    assert run.played.status == "succeeded", run.played.decider.error
    end = leaf(run.json("look_again.body"))
    assert (end["value"], end["place"]) == ("bread", "inner.yaml:7:3")
    given = run.json("sync/look.with.value")
    assert given["place"].startswith("inner.yaml:7:")
    assert leaf(given)["value"] == "K1"
    assert [o["what"] for o in walk(given)] == [
        "sync/look.with.value",
        "trigger.inputs.id",
        "sync.with.id",
        "trigger.inputs.key",
    ]
    said = run.json("sync/say.body")
    assert said["value"] == "of inner 6"
    assert {o["what"] for o in walk(said)} >= {"parameters.p", "increment by sync/n"}
    assert run.json("variables.n")["value"] == 1
    assert run.json("sync")["status"] == "succeeded"
    with pytest.raises(ConfigError, match="no such step"):
        run.json("sync/look_again")


def test_a_resumed_run_is_seen_as_it_was_each_time() -> None:
    text = (
        "variables: {n: 0}\nsteps:\n  up: {increment: {n: 1}}\n"
        "  a: {call: desk.read, with: {value: '{{ variables.n }}'}}\n"
        "  more: {run_after: {a: any}, increment: {n: 10}}\n"
        "  b: {call: desk.keep, with: {value: '{{ variables.n }}'}}\n"
    )
    run = asked(text, {"a": ["data"]}, again={"a": ["fine"]})
    assert run.played.status == "succeeded"
    assert run.json("b.with.value")["value"] == 11
    (reference,) = run.json("b.with.value")["from"]
    assert [c["what"] for c in reference["from"]] == ["at first", "increment by up", "increment by more"]
    (reference,) = run.json("a.with.value")["from"]
    assert reference["value"] == 1
    tries = [o for o in run.json("a")["from"] if o["what"].startswith("try")]
    assert [(t["what"], t["status"]) for t in tries] == [("try 1", "failed"), ("try 2", "succeeded")]
    assert "the run was resumed" in tries[1]["how"]


def test_side_by_side_a_step_saw_what_had_ended_before_it_began() -> None:
    text = (
        "variables: {n: 0}\nsteps:\n  slow: {run_after: {}, call: desk.read, with: {value: '{{ variables.n }}'}}\n"
        "  quick: {run_after: {}, call: desk.read}\n  up: {run_after: quick, increment: {n: 1}}\n"
    )
    run = asked(text, {"slow": [{"body": 1, "after": "10s"}], "quick": [{"body": 1, "after": "1s"}]})
    (reference,) = run.json("slow.with.value")["from"]
    assert reference["value"] == 0
    assert run.json("variables.n")["value"] == 1


@st.composite
def changing(draw: st.DrawFn, depth: int = 2, label: str = "s") -> str:
    """A list of steps, as flow-style YAML, that change and read variables in any order and side by side."""
    out = []
    for number in range(draw(st.integers(1, 4))):
        forms = [
            "call",
            "call",
            "set",
            "append",
            "increment",
            "compose",
            *(["foreach", "until", "if"] if depth else []),
        ]
        reads = '"{{ variables.n }} {{ variables.names }}"'
        name = f"{label}{number}"
        match draw(st.sampled_from(forms)):
            case "foreach":
                inner = f"foreach: [1, 2, 3], concurrency: {draw(st.integers(1, 3))}"
                step = f"{inner}, steps: {draw(changing(depth - 1, f'{name}_'))}, result: {reads}"
            case "until":
                step = f"until: index >= 1, steps: {draw(changing(depth - 1, f'{name}_'))}, result: {reads}"
            case "if":
                step = f"if: variables.n > 5, then: {draw(changing(depth - 1, f'{name}_t'))}, "
                step += f"else: {draw(changing(depth - 1, f'{name}_e'))}"
            case "set":
                step = 'set: {n: "{{ variables.n * 2 % 11 }}"}'
            case "append":
                step = f'append: {{names: "{name}{{{{ variables.n }}}}"}}'
            case "increment":
                step = f"increment: {{n: {draw(st.integers(1, 5))}}}"
            case "compose":
                step = f"compose: {reads}"
            case _:
                step = f"call: desk.keep, with: {{value: {reads}}}"
        beside = ", run_after: {}" if draw(st.integers(0, 2)) == 0 else ""
        out.append(f"{name}: {{{step}{beside}}}")
    return f"{{{', '.join(out)}}}"


@settings(deadline=None, max_examples=80, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(changing(), st.integers(0, 1000), st.booleans())
def test_what_is_worked_out_again_is_what_the_run_saw(steps: str, seed: int, at_once: bool) -> None:
    """Whatever was recorded is found again from the rest of the records, however the answers arrived."""
    program, document = program_of(f"variables: {{n: 1, names: []}}\nsteps: {steps}\n")
    played = play(program, arrival=None if at_once else random.Random(seed))
    recorded = Recorded(program, document, {}, stored(played.records), {}, {}, {})
    for record in played.records:
        place = recorded.place(record.path)
        step = program.flow.all_steps[record.path.rpartition("/")[2]]
        match step:
            case model.Call() if record.status == "succeeded":
                assert recorded.worked_out(place, step.with_, expression=False).value == record.inputs
            case model.Compose():
                assert recorded.worked_out(place, step.compose, expression=False).value == record.output
            case model.Set():
                assert recorded.worked_out(place, step.set, expression=False).value == record.output
            case model.If() if record.status == "decided":
                took = "then" if recorded.worked_out(place, step.if_, expression=True).value else "else"
                assert {"branch": took} == record.output
            case model.Until() if record.status == "succeeded":
                end = recorded.place_of_pass(record.path, recorded.passes(record.path) - 1)
                assert recorded.worked_out(end, "index >= 1", expression=True).value is True
    for path in {r.path for r in played.records}:
        assert why(recorded, path).json()["what"] == path


# Steps


def test_why_a_step_ran(shop: Asked) -> None:
    first = shop.json("first")
    assert first["status"] == "succeeded"
    tries = [(o["what"], o["status"]) for o in first["from"]]
    assert tries == [("try 1", "retrying"), ("try 2", "succeeded")]
    assert "Busy" in first["from"][0]["how"]
    assert "tried again" in first["from"][0]["how"]
    post = shop.json("each[1]/post")
    assert post["status"] == "failed"
    assert [(o["what"], o.get("status")) for o in post["from"]] == [
        ("in pass 1 of each", None),
        ("runs after count", "succeeded"),
        ("try 1", "failed"),
    ]
    large = shop.json("note_large")
    assert large["from"][0]["what"] == "in then of large"
    assert large["from"][0]["from"][0]["value"] is True


def test_why_a_step_was_skipped(shop: Asked) -> None:
    never = shop.json("never")
    assert (never["status"], never["how"]) == ("skipped", "not needed (when is false)")
    condition = next(o for o in never["from"] if o["what"] == "never.when")
    assert condition["value"] is False
    assert condition["from"][0]["what"] == "variables.n"
    chain = [o["what"] for o in walk(shop.json("after_handler"))]
    assert [what for what in chain if "after" not in what][:2] == ["handler", "never"]
    handler = next(o for o in walk(shop.json("handler")) if o["what"] == "runs after never")
    assert "counts as succeeded; wanted: failed" in handler["how"]
    small = shop.json("after_small")
    assert small["how"] == "it did not run"
    assert small["from"][0]["what"] == "in else of large"
    assert small["from"][0]["from"][0]["value"] is True


@pytest.mark.parametrize(
    ("text", "calls", "path", "words"),
    [
        (
            "steps:\n  box: {when: 'false', steps: {a: {compose: 1}}}\n",
            {},
            "box/a",
            ["it did not run", "box: – skipped", "box.when = false"],
        ),
        (
            "steps:\n  box: {timeout: 5s, steps: {a: {call: desk.read}, b: {compose: 1}}}\n",
            {"box/a": ["never"]},
            "box/b",
            ["skipped", "ended with box: ⏱ timed out", "not done within 5s"],
        ),
        (
            "steps:\n  a: {run_after: {}, call: desk.read}\n  stop: {run_after: {}, terminate: failed}\n",
            {"a": ["never"]},
            "a",
            ["cancelled", "ended by stop"],
        ),
        (
            "steps:\n  a: {call: desk.mail}\n  b: {compose: 1}\n",
            {"a": [{"fail": "transient", "lost": True}]},
            "a",
            ["waiting", "its answer was lost: a person had to say"],
        ),
        ("steps:\n  a: {call: desk.mail}\n  b: {compose: 1}\n", {"a": ["uncertain"]}, "b", ["it did not run"]),
        (
            "steps:\n  box: {steps: {a: {call: desk.read}, b: {compose: 1}}}\n",
            {"box/a": ["remote"]},
            "box",
            ["failed in box/a"],
        ),
        (
            "steps:\n  s: {switch: \"{{ 'x' }}\", cases: {x: {a: {compose: 1}}, 'y z': {b: {compose: 2}}}}\n",
            {},
            "b",
            ["in case y z of s", 's.switch = "x"'],
        ),
        (
            "steps:\n  a: {call: desk.send}\n",
            {"a": [{"fail": "transient", "lost": True}], "probe of a": [{"body": 1, "summary": "it was sent"}]},
            "a",
            ["succeeded", "it was sent"],
        ),
        ("steps:\n  a: {call: desk.read, retry: {count: 1}}\n", {"a": ["transient"]}, "a", ["try 2: ✗ failed"]),
    ],
)
def test_reasons(text: str, calls: dict[str, Any], path: str, words: list[str]) -> None:
    said = asked(text, calls).text(path)
    for word in words:
        assert word in said, said


# Paths


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("frist", "no such step", "did you mean 'first'?"),
        ("first.wiht", "first has no 'wiht'", "did you mean 'with'?"),
        ("first.with.valu", "first.with has no 'valu'", "did you mean 'value'?"),
        ("first.body.prise", "first.body has no 'prise'", "did you mean 'price'?"),
        ("first.body.price.x", "it is a number", ""),
        ("offers.body[3]", "offers.body has no '3'", "it has 3 items"),
        ("post", "post is in a loop: say in which pass", "ask for each[0]/post to each[2]/post"),
        ("each[3]/post", "each has no pass 3", "ask for each[0]/post to each[2]/post"),
        ("each[3]", "each has no pass 3", "each[0] to each[2]"),
        ("each[0]/pst", "no such step", "did you mean 'post'?"),
        ("large/post", "post is not in large", ""),
        ("first[0]", "first is no loop", "ask for first.body[0]"),
        ("large[0]/note_large", "large is no loop", ""),
        ("each[0].item", "a pass has no 'item'", ""),
        ("outputs.nmaes", "outputs has no 'nmaes'", "did you mean 'names'?"),
        ("variables.nots", "no such variable", "did you mean 'note'?"),
        ("parameters.hwo", "no such parameter", "did you mean 'who'?"),
        ("trigger.input", "trigger has no 'input'", "did you mean 'inputs'?"),
        ("first.body[", "can't be read from '['", ""),
        ("", "no path of a step", ""),
        ("First", "no path of a step", ""),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_that_helps(shop: Asked, path: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        shop.json(path)
    assert error.value.code == "UnknownPath"
    assert message in error.value.message
    assert hint in error.value.hint


def test_a_key_with_a_dot_is_found_as_it_is_spelled() -> None:
    run = asked("steps:\n  a: {call: desk.keep, with: {value: {details.amount: 7, 'odd key': {x: 1}}}}\n")
    for path in ("a.with.value.details.amount", "a.with.value['details.amount']"):
        assert run.json(path)["value"] == 7
    assert run.json("a.with.value['odd key'].x")["value"] == 1
    assert run.json("a.with.value['odd key']")["what"] == "a.with.value['odd key']"


def test_without_outputs_or_key_that_is_said() -> None:
    run = asked("steps:\n  a: {compose: 1}\n")
    for part in ("outputs", "business_key"):
        with pytest.raises(ConfigError, match=f"the flow has no {part}"):
            run.json(part)
    failed = asked("steps:\n  a: {call: desk.read}\noutputs: {a: '{{ steps.a.body }}'}\n", {"a": ["data"]})
    assert failed.json("outputs.a")["unknown"] == "the run did not come to its outputs"
    assert "a failed" in failed.json("outputs.a")["from"][0]["how"]


# Secrets

SECRET = """\
flow: hidden
connections: {desk: desk}
triggers: {hand: {manual: null}}
parameters: {word: {secret: true, default: hunter2hunter2}}
variables: {v: ""}
steps:
  open: {compose: "in the open"}
  mine: {compose: "{{ parameters.word }}!"}
  yours: {compose: {a: "{{ steps.mine.body }}", b: "{{ steps.open.body }}"}}
  keep: {set: {v: "{{ steps.yours.body.a }}"}}
  send: {call: desk.keep, with: {value: "{{ variables.v }}"}}
  loop: {foreach: "{{ [steps.mine.body] }}", steps: {inner: {compose: "{{ item }}"}}, result: "{{ item }}"}
  guarded: {secure: [outputs], call: desk.read}
  reads: {when: "steps.guarded.body == 'topsecret9'", compose: 1}
outputs: {word: "{{ variables.v }}"}
""".replace("", "")


@pytest.mark.parametrize("kept", [True, False], ids=["with a key", "without"])
def test_what_is_secure_is_never_shown(kept: bool) -> None:
    """With a key the records hold the values; they are hidden all the same."""
    program, document = program_of(SECRET)
    start = Start(run="r", trigger={"name": "hand", "inputs": {}}, parameters={"word": "hunter2hunter2"})
    played = play(program, {"guarded": [{"body": "topsecret9"}]}, start=start)
    records = played.records if kept else stored(played.records)
    recorded = Recorded(program, document, {}, records, {}, start.trigger, {"word": "(secure)"})
    for path in (
        "mine.body", "mine.compose", "yours.body.a", "yours.body", "keep.set.v", "variables.v", "send.with.value",
        "send.with", "loop.foreach", "loop[0]", "loop[0]/inner.body", "loop.body[0]", "loop.body", "guarded.body",
        "reads.when", "reads", "outputs.word", "outputs", "parameters.word", "parameters", "send",
    ):  # fmt: skip
        origin = why(recorded, path, "(secure)", None)
        said = json.dumps(origin.json()) + tree(origin)
        for secret in ("hunter2", "topsecret9"):
            assert secret not in said.replace("== 'topsecret9'", ""), path  # the flow's own text is no secret
        assert "(secure)" in said or path in ("reads", "send", "reads.when"), path
    assert why(recorded, "open.body").json()["value"] == "in the open"


# The command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    return tmp_path


def test_the_command_asks_the_journal(home: Path) -> None:
    assert flowrun("flows/referral_to_dynamics.yaml", cwd=home).code == 0
    said = flowrun("why", "last", "upsert_lead.with.lead.phone", cwd=home)
    assert said.code == 0, said.all
    assert said.out.startswith('upsert_lead.with.lead.phone = "+1 425 555 0101"\n')
    assert (
        "{{ partner_center.contact(steps.get_referral.body).phoneNumber }}  flows/referral_to_dynamics.yaml:"
        in said.out
    )
    assert "answer of partner_center.get_referral" in said.out
    as_json = flowrun("why", "last", "outputs.lead", "--json", cwd=home)
    (line,) = as_json.lines
    assert line["value"] == line["from"][0]["value"]
    assert len(line["run"]) == 32
    wrong = flowrun("why", "last", "upsert_laed", cwd=home)
    assert wrong.code == 2
    assert "did you mean 'upsert_lead'?" in wrong.err
    assert flowrun("why", "nothing", "upsert_lead", cwd=home).code == 2


def test_the_command_hides_what_was_kept_encrypted(home: Path) -> None:
    key = {"FLOWRUN_KEY": Fernet.generate_key().decode(), "WORD": "correct horse battery"}
    (home / "flows/hidden.yaml").write_text(
        'flow: hidden\nparameters: {word: {default: "${env:WORD}"}}\n'
        'steps:\n  mine: {compose: "{{ parameters.word }}"}\n  after: {compose: "{{ steps.mine.body }}"}\n',
        "utf-8",
    )
    assert flowrun("flows/hidden.yaml", cwd=home, env=key).code == 0
    for path in ("mine.body", "after.body", "after", "parameters.word"):
        said = flowrun("why", "last", path, cwd=home, env={"FLOWRUN_KEY": key["FLOWRUN_KEY"]})
        assert said.code == 0, said.all
        assert "horse" not in said.all


def test_it_looks_at_the_run_as_it_was(home: Path) -> None:
    """The document in the journal counts, not what became of the file."""
    file = home / "flows/changing.yaml"
    file.write_text("flow: changing\nsteps:\n  a: {compose: before}\n", "utf-8")
    assert flowrun("flows/changing.yaml", cwd=home).code == 0
    file.write_text("flow: changing\nsteps:\n  b: {compose: after}\n", "utf-8")
    said = flowrun("why", "last", "a.body", cwd=home)
    assert said.out.splitlines()[0] == 'a.body = "before"'
