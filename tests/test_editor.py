"""What an author sees in VS Code: the printed schemas, in the language server of its YAML extension."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from language_server import CURSOR, LanguageServer, Problem, node
from scripted import Desk
from terminal import FLOWS, flowrun

from engine.connections.config import Project
from engine.connections.secrets import Mask
from engine.contract import Connector, Operation
from engine.loader import Catalog, check, flow_schema, input_schema, load
from engine.loader.editor import editor_schema
from engine.loader.snippets import STEPS, TRIGGERS, example
from engine.model import STEP_KINDS, TRIGGER_KINDS

TESTS = Path(__file__).parent
EVERYTHING = """\
flow: everything
title: All keys
note: For readers
triggers:
  hook:
    webhook: partner_center
    events: [referral-created]
    key: trigger.event.id
    lane: trigger.event.subject
    collapse: true
    sample: samples/referral_created.json
    when: trigger.event.type != 'other'
    each: trigger.event.data.items
    schema: {"type": object}
  clock: {schedule: "0 6 * * *", zone: Europe/Berlin, missed: skip}
  news: {poll: crm.list_changes, with: {cursor: c}, every: 5m, from: now}
  hand: {manual: {inputs: {"type": object, "properties": {"n": {"type": integer}}}}}
  bare: {manual: null}
connections: {partner_center: partner_center, crm: dynamics365, http: http, mine: an_entry_of_another_environment}
parameters:
  p: {type: string, default: "${env:P}", secret: true, note: For readers}
variables: {"n": 0, "rows": [], "text": {"type": string}}
steps:
  read:
    title: A referral
    note: For readers
    call: partner_center.get_referral
    with: {id: "{{ trigger.event.subject }}"}
    when: parameters.p == 'x'
    retry: {count: 3, interval: 1s, max_interval: PT1M, kind: fixed}
    timeout: 1h30m
    secure: [inputs, outputs]
  write:
    call: crm.upsert_lead
    with:
      key: "{{ steps.read.body.id }}"
      lead: {company: Contoso, amount: "{{ steps.read.body.details.dealValue }}", native: {"new_x": 1}}
      on_create: "{{ {'source': 'Partner'} }}"
      known_id: null
      clear: [phone]
  web:
    call: http.request
    with: {url: /x, method: PUT, json: {"a": 1}, headers: {"n": 1}, paging: {next: "@odata.nextLink"}, ok_status: [404]}
  theirs: {call: mine.do_it, with: {"whatever": 1}}
  put: {set: {"n": 1}, run_after: {"web": [failed, timed_out], "theirs": any}}
  add: {append: {"rows": "{{ 1 }}"}, run_after: put}
  count: {increment: {"n": 2}, run_after: [put, add]}
  name: {compose: {"a": [1, null]}, run_after: {}}
  shape: {parse: "{{ steps.web.body }}", schema: {"type": array}}
  pick: {select: steps.web.body, where: item.n > 1, map: "{{ item.n }}"}
  choose: {if: variables.n > 1, then: {c1: {compose: 1}}, else: {c2: {compose: 1}}}
  branch: {switch: variables.n, cases: {"1": {s1: {compose: 1}}}, default: {s2: {compose: 1}}}
  each: {foreach: [1, 2], as: row, concurrency: 2, steps: {e1: {compose: "{{ row }}"}}, result: "{{ row }}"}
  ask: {until: variables.n > 1, limit: {count: 3, timeout: 1m}, on_limit: succeed, steps: {u1: {wait: 1s}}, result: 1}
  pause: {wait: {until: "2026-11-24T12:00:00Z"}}
  computed: {wait: "{{ variables.n }}s"}
  answer: {respond: {status: 202, headers: {"Location": /x}, body: done}}
  inner: {run: other, with: {"n": 1}}
  apart: {start: other, with: {"n": 1}}
  group: {steps: {g1: {compose: 1}}}
  end: {terminate: failed, error: {code: Nothing, message: Nothing to do}}
outputs: {"n": "{{ variables.n }}"}
business_key: steps.read.body.id
alerts: {on: [failed, waiting], to: http.request, with: {url: /alert, method: POST, json: "{{ error }}"}}
"""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the command line prints for flows, for connections.yaml and for one flow; and the schema of tests/flows."""
    folder = tmp_path_factory.mktemp("schemas")
    printed = {"flow": (), "connections": ("--for", "connections"), "one": ("referral_to_dynamics.yaml",)}
    texts = {}
    for kind, args in printed.items():
        said = flowrun("schema", *args, cwd=FLOWS)
        assert (said.code, said.err) == (0, "")
        texts[kind] = said.out
    desk = {f"desk.{name}": operation for name, operation in Desk.operations().items()}
    texts["desk"] = json.dumps(editor_schema(desk))
    files = {kind: folder / f"{kind}.json" for kind in texts}
    for kind, file in files.items():
        file.write_text(texts[kind], "utf-8")
    return files


@pytest.fixture(scope="module")
def server(schemas: dict[str, Path]) -> Iterator[LanguageServer]:
    running = LanguageServer(schemas)
    yield running
    running.close()


def connectors() -> dict[str, type[Connector]]:
    project = Project(None, FLOWS, {}, Mask())
    return {name: project.connector(name) for name in project.connectors}


OPERATIONS: dict[str, Operation] = {
    f"{entry}.{name}": operation
    for entry, kind in connectors().items()
    for name, operation in kind.operations().items()
}


def step(text: str) -> str:
    """A flow with one step, `a`, whose keys begin in line 4."""
    return "flow: f\nsteps:\n  a:\n    " + text.replace("\n", "\n    ") + "\n"


def at(path: str, text: str = "") -> str:
    """A document that ends inside the keys of `path`, with `text` and the cursor."""
    lines = ["  " * depth + f"{key}:" for depth, key in enumerate(path.split())]
    lines += ["  " * len(lines) + line for line in f"{text}{CURSOR}".split("\n")]
    return "\n".join([*lines, ""])


def inner(text: str) -> str:
    """A connections.yaml with connections in an environment that emulates nothing, from line 4 on."""
    return "environments:\n  test:\n    connections:\n      " + text.replace("\n", "\n      ") + "\n"


# Right documents


def test_nothing_is_said_of_right_flows(server: LanguageServer) -> None:
    ours = [p.read_text("utf-8") for p in sorted(FLOWS.glob("*.yaml")) if p.stem != "connections" and "." not in p.stem]
    theirs = [p.read_text("utf-8").split("\n---\n")[0] for p in sorted((TESTS / "flows").glob("*.yaml"))]
    assert len(theirs) > 40
    for kind, texts in (("flow", [*ours, *theirs, EVERYTHING]), ("desk", theirs), ("one", ours[:1])):
        for text, found in zip(texts, server.problems(kind, texts), strict=True):
            assert found == [], text


def test_everything_has_every_kind() -> None:
    data = load(EVERYTHING, "f.yaml").data
    assert {kind for t in data["triggers"].values() for kind in t.keys() & TRIGGER_KINDS.keys()} == set(TRIGGER_KINDS)
    assert {kind for s in data["steps"].values() for kind in s.keys() & STEP_KINDS.keys()} == set(STEP_KINDS)
    assert STEPS.keys() == STEP_KINDS.keys()
    assert TRIGGERS.keys() == TRIGGER_KINDS.keys()


def test_each_snippet_is_right_as_it_stands(server: LanguageServer) -> None:
    """Accepted and not touched it fits, apart from what it names."""
    texts = [step(example(text)) for text in STEPS.values()]
    for text in TRIGGERS.values():
        keys = example(text).replace("\n", "\n    ")
        texts.append(f"flow: f\ntriggers:\n  t:\n    {keys}\nsteps: {{a: {{compose: 1}}}}\n")
    for text, found in zip(texts, server.problems("flow", texts), strict=True):
        assert found == [], text
        _, findings = check(load(text, "f.yaml"), Catalog())
        assert [str(f) for f in findings if f.severity == "error" and not f.code.startswith("Unknown")] == [], text


def test_nothing_is_said_of_right_connections(server: LanguageServer) -> None:
    shown = re.findall(
        r"# flows/connections\.yaml\n(.*?)```", (TESTS.parent / "docs" / "connections.md").read_text(), re.S
    )
    assert len(shown) > 1
    more = [
        "environments: {lab: {emulate: true, connections: {dynamics365: {timeout: 1m}}}}\n",
        "environments: {lab: {emulate: {latency: 5ms, faults: {429: 0.1}, seed: 1}}, none: null}\nplugins: ./mine\n",
        inner("mine: {connector: 'my.module:Connector', anything: 1}"),
        inner(
            'shop: {connector: http, base_url: "${env:URL}", auth: {type: basic, username: u, password: "${env:P}"}}'
        ),
        "environments:\n",
    ]
    texts = [(FLOWS / "connections.yaml").read_text("utf-8"), *shown, *more]
    for text, found in zip(texts, server.problems("connections", texts), strict=True):
        assert found == [], text


# Wrong documents: one message each, at the place that is wrong

NO_KIND = "No key says what the step is: call, set, append"
HEAD = "flow: f\n"
TAIL = "steps: {a: {compose: 1}}\n"
WRONG = {  # what is wrong: document, line, underlined text, beginning of the message
    "kind": (step("cal: crm.get_lead"), 3, "a", NO_KIND),
    "kind inside": (step("if: 'true'\nthen:\n  b: {compos: 1}"), 6, "b", NO_KIND),
    "two kinds": (step("compose: 1\nset: {n: 1}"), 4, "compose", "Property compose is not allowed"),
    "common key": (step("compose: 1\nretyr: {count: 1}"), 5, "retyr", "Property retyr is not allowed"),
    "key in a branch": (step("switch: x\ncases:\n  y:\n    b: {wait: 1m, timout: 1m}"), 7, "timout", "Property timout"),
    "twice": (step("compose: 1\ncompose: 2"), 5, "compose: 2", "Map keys must be unique"),
    "operation": (step("call: crm.get_leed"), 4, "crm.get_leed", 'Value must be "crm.create" | "crm.create_lead"'),
    "operation's form": (step("call: get_lead"), 4, "get_lead", "Expected alias.operation."),
    "no input": (step("call: http.request"), 3, "a", 'Missing property "with"'),
    "input absent": (step("call: crm.upsert_lead\nwith: {key: k}"), 5, "with", 'Missing property "lead"'),
    "input": (step("call: crm.get_lead\nwith: {idd: k}"), 5, "idd", "Property idd is not allowed"),
    "inputs": (step("call: crm.get_lead\nwith: k"), 5, "k", 'Incorrect type. Expected "inputs of crm.get_lead"'),
    "input's type": (step("call: crm.qualify_lead\nwith: {create_contact: so}"), 5, "so", "Incorrect type."),
    "input's value": (step("call: http.request\nwith: {url: /x, method: GETT}"), 5, "GETT", "Value is not acc"),
    "input's range": (step("call: crm.list\nwith: {table: t, top: 9999}"), 5, "9999", "Value is above the maxim"),
    "input's form": (step("call: crm.get\nwith: {table: t, id: x}"), 5, "x", "Expected a GUID such as"),
    "inner input": (step("call: crm.upsert_lead\nwith: {key: k, lead: {citty: x}}"), 5, "citty", "Property citty"),
    "inner object": (step("call: crm.upsert_lead\nwith: {key: k, lead: 5}"), 5, "5", 'Incorrect type. Expected "Lead'),
    "expression": (step("if: 3\nthen: {b: {compose: 1}}"), 4, "3", "Incorrect type. Expected one of string, boolean"),
    "branch": (step("if: 'true'\nthen: [1]"), 5, "[1]", 'Incorrect type. Expected "steps by name"'),
    "nothing to repeat": (step("foreach: x"), 3, "a", 'Missing property "steps"'),
    "concurrency": (step("foreach: x\nconcurrency: 99\nsteps: {b: {compose: 1}}"), 5, "99", "Value is above the maxi"),
    "limit": (step("until: x\nlimit: {counts: 3}\nsteps: {b: {compose: 1}}"), 5, "counts", "Property counts"),
    "on_limit": (step("until: x\non_limit: stop\nsteps: {b: {compose: 1}}"), 5, "stop", "Value is not accepted."),
    "several variables": (step("set: {n: 1, m: 2}"), 4, "{n: 1, m: 2}", "Object has more properties than limit of 1"),
    "duration": (step("wait: a while"), 4, "a while", "Expected a duration such as 10m, 1h30m or PT10M."),
    "no duration": (step("wait: 5"), 4, "5", "Incorrect type. Expected one of string, object"),
    "moment": (step("wait: {until: 5}"), 4, "5", 'Incorrect type. Expected "string"'),
    "answer": (step("respond: {stauts: 200}"), 4, "stauts", "Property stauts is not allowed"),
    "end": (step("terminate: success"), 4, "success", 'Value is not accepted. Valid values: "succeeded", "failed"'),
    "retry": (step("compose: 1\nretry: {count: lots}"), 5, "lots", 'Incorrect type. Expected "integer"'),
    "kind of retry": (step("compose: 1\nretry: {kind: linear}"), 5, "linear", "Value is not accepted."),
    "timeout": (step("compose: 1\ntimeout: soon"), 5, "soon", "Expected a duration such as"),
    "secure": (step("compose: 1\nsecure: [input]"), 5, "input", "Value is not accepted."),
    "run_after": (step("compose: 1\nrun_after: 3"), 5, "3", 'Incorrect type. Expected "string | array | object'),
    "status": (step("compose: 1\nrun_after: {b: fialed}"), 5, "fialed", "Value is not accepted."),
    "statuses": (step("compose: 1\nrun_after: {b: [failed, tmied_out]}"), 5, "tmied_out", "Value is not accepted."),
    "flow to run": (step("run: Other Flow"), 4, "Other Flow", "Expected a name such as get_lead"),
    "inputs of a flow": (step("start: other\nwith: 3"), 5, "3", "Incorrect type. Expected"),
    "step's name": (HEAD + "steps:\n  Get it: {compose: 1}\n", 3, "Get it", "Expected a name of a-z, 0-9 and _"),
    "no step": (HEAD + "steps: {}\n", 2, "{}", "Object has fewer properties"),
    "no steps": (HEAD, 1, "f", 'Missing property "steps"'),
    "flow's name": ("flow: My Flow\n" + TAIL, 1, "My Flow", "Expected a name such as get_lead"),
    "key": (HEAD + "trigger: {}\n" + TAIL, 2, "trigger", "Property trigger is not allowed"),
    "trigger": (HEAD + "triggers: {t: {webhok: x}}\n" + TAIL, 2, "t", "No key says what the trigger is: webhook, sche"),
    "trigger's key": (HEAD + "triggers: {t: {webhook: x, evnts: []}}\n" + TAIL, 2, "evnts", "Property evnts"),
    "missed": (HEAD + "triggers: {t: {schedule: x, missed: no}}\n" + TAIL, 2, "no", "Value is not accepted."),
    "poll": (HEAD + "triggers: {t: {poll: crm.list_chnges}}\n" + TAIL, 2, "crm.list_chnges", "Value must be"),
    "poll's input": (HEAD + "triggers: {t: {poll: crm.list_changes, with: {x: 1}}}\n" + TAIL, 2, "x", "Property x"),
    "every": (HEAD + "triggers: {t: {poll: crm.list_changes, every: 5}}\n" + TAIL, 2, "5", "Incorrect type."),
    "connections": (HEAD + "connections: [crm]\n" + TAIL, 2, "[crm]", 'Incorrect type. Expected "connections by name"'),
    "parameter": (HEAD + "parameters: {p: 3}\n" + TAIL, 2, "3", 'Incorrect type. Expected "Parameter"'),
    "parameter's type": (HEAD + "parameters: {p: {type: text}}\n" + TAIL, 2, "text", "Value is not accepted."),
    "alert": (HEAD + "alerts: {on: [fail], to: http.request, with: {url: x}}\n" + TAIL, 2, "fail", "Value is not acc"),
    "alert's input": (HEAD + "alerts: {to: http.request, with: {url: x, u: x}}\n" + TAIL, 2, "u", "Property u is"),
    "nobody": (HEAD + "alerts: {on: [failed]}\n" + TAIL, 2, "alerts", 'Missing property "to"'),
    "outputs": (HEAD + "outputs: x\n" + TAIL, 2, "x", 'Incorrect type. Expected "outputs by name"'),
}  # fmt: skip
WRONG_CONNECTIONS = {
    "setting": (inner("sqlite: {pth: x}"), 4, "pth", "Property pth is not allowed"),
    "setting absent": (inner("dynamics365:\n  url: https://x\n  tenant: t"), 4, "dynamics365", 'Missing property "c'),
    "setting absent elsewhere": (
        inner("crm:\n  connector: dynamics365\n  url: https://x\n  tenant: t"), 4, "crm", 'Missing property "client_id"'
    ),
    "setting's form": (inner("http: {base_url: there}"), 4, "there", "Expected a URL such as"),
    "setting's type": (inner("http: {timeout: 3}"), 4, "3", 'Incorrect type. Expected "string"'),
    "connector": (inner("crm: {connector: sqlit}"), 4, "sqlit", 'Value must be "dynamics365" | "http"'),
    "no connector": (inner("leads: {path: x}"), 4, "leads", 'Missing property "connector"'),
    "kind of credential": (inner("http: {auth: {type: baerer}}"), 4, "baerer", 'Value is not accepted. Valid'),
    "credential": (inner("http: {auth: {type: bearer, token: t, tok: t}}"), 4, "tok", "Property tok is not allowed"),
    "environment's key": ("environments: {a: {emulated: true}}\n", 1, "emulated", "Property emulated is not allowed"),
    "faults": ("environments: {a: {emulate: {latncy: 1s}}}\n", 1, "latncy", "Property latncy is not allowed"),
    "production": ("environments: {a: {production: yes}}\n", 1, "yes", "Incorrect type."),
    "key": ("environment: {}\n", 1, "environment", "Property environment is not allowed"),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(server: LanguageServer) -> dict[str, dict[str, list[Problem]]]:
    """What is said of all of them, in one go."""
    return {
        kind: dict(zip(table, server.problems(kind, [text for text, *_ in table.values()]), strict=True))
        for kind, table in (("flow", WRONG), ("connections", WRONG_CONNECTIONS))
    }


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_flow_gets_one_message_at_its_place(said: dict[str, dict[str, list[Problem]]], what: str) -> None:
    _one(said["flow"][what], *WRONG[what][1:])


@pytest.mark.parametrize("what", WRONG_CONNECTIONS)
def test_wrong_connections_get_one_message_at_its_place(said: dict[str, dict[str, list[Problem]]], what: str) -> None:
    _one(said["connections"][what], *WRONG_CONNECTIONS[what][1:])


def _one(problems: list[Problem], line: int, text: str, message: str) -> None:
    assert len(problems) == 1, problems
    assert (problems[0].line, problems[0].text) == (line, text)
    assert problems[0].message.startswith(message)


def test_the_loader_refuses_the_same_flows(schemas: dict[str, Path]) -> None:
    """One meaning: the printed schema and the loader's agree on each document, but for operations that aren't there."""
    crm = {f"crm.{n}": op for entry in ("sqlite", "dynamics365") for n, op in connectors()[entry].operations().items()}
    ours = Draft202012Validator(flow_schema({name: input_schema(op) for name, op in (OPERATIONS | crm).items()}))
    printed = Draft202012Validator(json.loads(schemas["flow"].read_text("utf-8")))
    for what, (text, *_) in WRONG.items():
        data = load(text, "f.yaml").data
        if what not in ("operation", "poll", "twice"):
            assert not ours.is_valid(data), what
        assert printed.is_valid(data) == (what == "twice"), what
    for text in [EVERYTHING, *(p.read_text("utf-8").split("\n---\n")[0] for p in (TESTS / "flows").glob("*.yaml"))]:
        data = load(text, "f.yaml").data
        assert [e.message for e in printed.iter_errors(data)] == [e.message for e in ours.iter_errors(data)] == []


# Hover


def hovered(server: LanguageServer, kind: str, text: str, key: str, after: str = "") -> str:
    at = text.index(key, text.index(after)) + 1
    return server.hover(kind, text[:at] + CURSOR + text[at:])


def test_every_key_is_explained(server: LanguageServer) -> None:
    """Keys in quotes are the author's own, and nobody can say what they mean."""
    for match in re.finditer(r"(?<=[\n {])[a-z]\w*(?=:)", EVERYTHING):
        shown = server.hover("flow", EVERYTHING[: match.end()] + CURSOR + EVERYTHING[match.end() :])
        title, _, words = shown.partition("\n\n")
        assert title.startswith("#### ") and "||" not in title and len(words) > 5, (match, shown)


HOVERS = [  # key, from where on it is looked for, what is shown
    ("webhook", "", ["Connection that verifies it", "required", "events: [referral-created]"]),
    ("collapse", "", ["A newer queued run", "default `false`"]),
    ("missed", "", ["when nothing was running", "* `run_once`", "* `skip`"]),
    ("poll", "news", ["**crm.list_changes**: changes nothing", "since `cursor`"]),
    ("cursor", "news", ["since `cursor`", "text"]),
    ("type", "parameters", ["`--set`", "* `integer`"]),
    ("read", "steps", ["**partner_center.get_referral**: changes nothing", "with its eTag"]),
    ("partner_center.get", "read:", ["**partner_center.get_referral**", "NotOurs"]),
    ("with", "read:", ["inputs of partner", "One referral as it now is"]),
    ("id", "read:", ["referral's id", "a GUID such as", "required"]),
    ("count", "read:", ["Tries after the first", "whole number from 0 to 90", "default `8`"]),
    ("kind", "read:", ["full jitter", "* `fixed`"]),
    ("timeout", "read:", ["For all tries together", "a duration such as 10m, 1h30m or PT10M"]),
    ("write", "steps", ["**crm.upsert_lead**: may be repeated freely"]),
    ("lead", "with:\n      key", ["Lead", "kept equal", "Null or absent leaves a field"]),
    ("company", "write:", ["Lead", "text"]),
    ("on_create", "write:", ["written once"]),
    ("known_id", "write:", ["whose id is `known_id` is adopted"]),
    ("method", "web:", ["default `GET`", "* `PATCH`"]),
    ("paging", "web:", ["Follow the pages of a list"]),
    ("run_after", "put:", ["Siblings to wait for", "`{a: failed}`"]),
    ("if", "choose:", ["null counts as false", "expression; required", "then:\n  name:"]),
    ("foreach", "each:", ["The list", "as: row"]),
    ("until", "pause:", ["Such as 2026"]),
    ("status", "answer:", ["200 if there is none"]),
    ("run", "inner:", ["NAME.yaml beside this file", "required"]),
    ("to", "alerts:", ["**http.request**: what it changes depends on the inputs"]),
    ("url", "alerts:", ["relative to the connection's base_url"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "after", "words"), HOVERS)
def test_hover_says_what_it_is(server: LanguageServer, key: str, after: str, words: list[str]) -> None:
    shown = hovered(server, "flow", EVERYTHING, key, after)
    for text in words:
        assert text in shown, shown


def test_hover_on_connections(server: LanguageServer) -> None:
    text = (FLOWS / "connections.yaml").read_text("utf-8")
    assert "`${env:NAME}`" in hovered(server, "connections", text, "client_secret")
    assert "refuses `emulate`" in hovered(server, "connections", text, "production: true")
    assert "application user" in hovered(server, "connections", text, "client_id", "dynamics365")
    assert "Dataverse Web API" in hovered(server, "connections", text, "dynamics365")


# Completion

COMMON = {"title", "note", "when", "run_after", "retry", "timeout", "secure"}
OFFERS: list[tuple[str, dict[str, Any]]] = [  # a document with the cursor, and what is offered there: what it inserts
    (at(""), {"flowrun flow": "flow: $1\nsteps:\n  ", "triggers": "triggers:\n  ", "alerts": "alerts:\n  to: "}),
    (at("triggers"), {"trigger_name": "${1:trigger_name}: "}),
    (at("triggers t"), dict(TRIGGERS)),
    (at("triggers t", "webhook: "), {"partner_center": "partner_center"}),
    (at("triggers t", "webhook: x\n"), {"events": "events:\n  - ${1}", "key": "key: ", "lane": "lane: "}),
    (at("triggers t", "poll: "), {"crm.list_changes": "crm.list_changes"}),
    (at("triggers t", "poll: crm.list_changes\nwith: \n  "), {"cursor": "cursor: "}),
    (at("triggers t", "schedule: x\n"), {"zone": "zone: ${1:UTC}", "missed": "missed: "}),
    (at("triggers t", "schedule: x\nmissed: "), {"run_once": "run_once", "skip": "skip"}),
    (at("triggers t manual"), {"inputs": "inputs: "}),
    (at("connections"), {"alias": "${1:alias}: "}),
    (at("connections", "crm: "), {"dynamics365": "dynamics365", "sqlite": "sqlite"}),
    (at("parameters p"), {"type": "type: ", "default": "default: ", "secret": "secret: ${1:false}"}),
    (at("parameters p", "type: "), {"integer": "integer"}),
    (at("alerts"), {"to": "to: ", "with": "with:\n  "}),
    (at("alerts on", "- "), {"failed": "failed", "waiting": "waiting"}),
    (at("alerts", "to: "), {"http.request": "http.request"}),
    (at("alerts", "to: http.request\n"), {"with": "with:\n  url: "}),
    (at("steps"), {"step_name": "${1:step_name}: "}),
    (at("steps a"), {**STEPS, **dict.fromkeys(COMMON, "")}),
    (at("steps a", "ca"), dict(STEPS)),
    (f"steps:\n  a: {{c{CURSOR}}}\n", dict(STEPS)),
    (at("steps a"), {"call crm.upsert_lead": "call: crm.upsert_lead\nwith:\n  key: $1\n  lead:\n    $2"}),
    (at("steps a"), {"call crm.get_lead": "call: crm.get_lead"}),
    (at("steps a", "call: "), {"crm.upsert_lead": "crm.upsert_lead", "crm.qualify_lead": "crm.qualify_lead"}),
    (at("steps a", "call: crm.upsert_lead\n"), {"with": "with:\n  key: $1\n  lead: $2"}),
    (at("steps a", "call: mine.do_it\n"), {"with": "with:\n  "}),
    (at("steps a", "call: crm.upsert_lead\nwith:\n  lead:\n    "), {"company": "company: "}),
    (at("steps a", "call: crm.upsert_lead\nwith:\n  on_create:\n    am"), {"amount": "amount: "}),
    (at("steps a", "call: http.request\nwith:\n  method: "), {"GET": "GET", "PATCH": "PATCH"}),
    (at("steps a", "call: http.request\nwith:\n  idempotent: "), {"true": "true"}),
    (at("steps a", "compose: 1\n"), {"retry": "retry:\n  count: ${1:8}\n  interval: ${2:1s}\n"}),
    (at("steps a", "compose: 1\nretry:\n  "), {"max_interval": "max_interval: ${1:30s}", "kind": "kind: "}),
    (at("steps a", "compose: 1\nretry:\n  kind: "), {"exponential": "exponential", "fixed": "fixed"}),
    (at("steps a", "compose: 1\nrun_after:\n  b: "), {"failed": "failed", "timed_out": "timed_out", "any": "any"}),
    (f"steps:\n  a: {{compose: 1, secure: [{CURSOR}]}}\n", {"inputs": "inputs", "outputs": "outputs"}),
    (at("steps a", "parse: x\n"), {"schema": "schema:\n  "}),
    (at("steps a", "select: x\n"), {"where": "where: ", "map": "map: "}),
    (at("steps a", "if: x\n"), {"then": "then:\n  ", "else": "else:\n  "}),
    (at("steps a", "if: x\nthen:\n  "), {"step_name": "${1:step_name}: "}),
    (at("steps a", "if: x\nthen:\n  b:\n    "), dict(STEPS)),
    (at("steps a", "switch: x\ncases:\n  y:\n    b:\n      "), dict(STEPS)),
    (at("steps a", "foreach: x\n"), {"as": "as: ${1:item}", "steps": "steps:\n  ", "result": "result: "}),
    (at("steps a", "until: x\n"), {"limit": "limit:\n  count: ${1:60}\n  timeout: ${2:1h}"}),
    (at("steps a", "until: x\non_limit: "), {"fail": "fail", "succeed": "succeed"}),
    (at("steps a wait"), {"until": "until: "}),
    (at("steps a respond"), {"status": "status: ", "headers": "headers: ", "body": "body: "}),
    (at("steps a", "terminate: "), {"failed": "failed", "cancelled": "cancelled"}),
    (at("steps a", "terminate: failed\nerror:\n  "), {"code": "code: ", "message": "message: "}),
    (at("steps a", "run: "), {"referral_to_dynamics": "referral_to_dynamics"}),
    (at("steps a", "start: x\n"), {"with": "with:\n  "}),
]


@pytest.mark.parametrize(("text", "wanted"), OFFERS)
def test_completion_offers_what_fits(server: LanguageServer, text: str, wanted: dict[str, str]) -> None:
    _offered(server, "flow", text, wanted)


def _offered(server: LanguageServer, kind: str, text: str, wanted: dict[str, str]) -> None:
    offers = server.offers(kind, text)
    for label, insert in wanted.items():
        assert label in offers, sorted(offers)
        assert offers[label].insert.startswith(insert), offers[label]
        assert "||" not in offers[label].words


def test_what_is_there_is_not_offered_again(server: LanguageServer) -> None:
    offers = server.offers("flow", at("steps a", "compose: 1\ntitle: x\n"))
    assert offers.keys() == COMMON - {"title"}
    kinds = server.offers("flow", at("steps a", "title: x\n"))
    assert "title" not in kinds
    assert STEPS.keys() <= kinds.keys()


def test_every_operation_is_completed_and_explained(server: LanguageServer) -> None:
    """Its name with its words; its inputs, those that are needed as a snippet; each with words."""
    names = server.offers("flow", at("steps a", "call: "))
    assert OPERATIONS.keys() <= names.keys()
    for name, operation in OPERATIONS.items():
        summary = " ".join(operation.doc.split("\n\n", 1)[0].split())
        assert names[name].words == summary, name
        inputs = input_schema(operation)
        if not inputs["properties"]:
            continue
        needed = inputs.get("required", [])
        if needed:
            snippet = server.offers("flow", at("steps a", f"call: {name}\n"))["with"]
            assert re.findall(r"^  (\w+):", snippet.insert, re.M) == needed, snippet
            assert summary.split(".")[0] in snippet.words
        offers = server.offers("flow", at("steps a", f"call: {name}\nwith:\n  "))
        assert offers.keys() - {f"inputs of {name}"} == inputs["properties"].keys(), name
        for key, piece in inputs["properties"].items():
            assert piece.get("description", "") in offers[key].words.replace("\n", " ")
            assert offers[key].words, (name, key)
            assert ("required" in offers[key].words) == (key in needed), offers[key]


LIVE = "environments test connections"
CONNECTION_OFFERS: list[tuple[str, dict[str, str]]] = [
    (at(""), {"environments": "environments:\n  ", "plugins": "plugins: "}),
    (at("environments"), {"environment_name": "${1:environment_name}: "}),
    (at("environments test"), {"emulate": "emulate: ", "route": "route:\n  ", "connections": "connections:\n  "}),
    (at(LIVE), {"connection_name": "${1:connection_name}: ", "sqlite": "sqlite:\n  "}),
    (at(LIVE), {"dynamics365": "dynamics365:\n  url: $1\n  tenant: $2\n  client_id: $3\n  client_secret: "
                               '"\\${env:${4:DYNAMICS365_CLIENT_SECRET}}"'}),
    (at(f"{LIVE} dynamics365"), {"url": "url: ", "key_column": "key_column: ", "timeout": "timeout: ${1:2m}"}),
    (at(f"{LIVE} crm"), {"connector": "connector: "}),
    (at(f"{LIVE} crm", "connector: "), {"dynamics365": "dynamics365", "partner_center": "partner_center"}),
    (at(f"{LIVE} crm", "connector: sqlite\n"), {"path": "path: "}),
    (at(f"{LIVE} http auth", "type: "), {"basic": "basic", "client_credentials": "client_credentials"}),
    (at(f"{LIVE} http auth", "type: basic\n"), {"username": "username: ", "password": "password: "}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), CONNECTION_OFFERS)
def test_completion_of_connections(server: LanguageServer, text: str, wanted: dict[str, str]) -> None:
    _offered(server, "connections", text, wanted)


def test_a_flow_s_own_schema_knows_its_aliases(server: LanguageServer) -> None:
    offers = server.offers("one", at("steps a", "call: "))
    assert {name.partition(".")[0] for name in offers} == {"crm", "partner_center"}
    assert "crm.qualify_lead" in offers
    assert "crm.list_leads" not in offers  # SQLite's alone


# The files themselves


def patterns(piece: Any) -> Iterator[str]:
    if isinstance(piece, dict):
        yield from (value for key, value in piece.items() if key == "pattern" and isinstance(value, str))
        for value in piece.values():
            yield from patterns(value)
    elif isinstance(piece, list):
        for value in piece:
            yield from patterns(value)


@pytest.mark.parametrize("kind", ["flow", "connections", "one", "desk"])
def test_the_schema_is_valid_small_and_portable(schemas: dict[str, Path], kind: str) -> None:
    text = schemas[kind].read_text("utf-8")
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    assert len(text) < 260_000
    refs = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', text))
    assert refs <= schema["$defs"].keys()
    assert not re.search(r'"x-[a-z]+":', text)
    found = sorted(set(patterns(schema)))
    program = "for (const p of JSON.parse(process.argv[1])) new RegExp(p, 'u')"
    subprocess.run([node(), "-e", program, json.dumps(found)], check=True)


def test_an_editor_without_operations_is_served_too() -> None:
    schema = editor_schema({})
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(load(EVERYTHING, "f.yaml").data)


def test_the_lock_file_names_no_host() -> None:
    locked = json.loads((TESTS / "editor" / "package-lock.json").read_text("utf-8"))["packages"]
    wanted = json.loads((TESTS / "editor" / "package.json").read_text("utf-8"))["devDependencies"]
    assert all("resolved" not in package for package in locked.values())
    assert all("integrity" in package for name, package in locked.items() if name)
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
