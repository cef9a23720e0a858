"""Every command as a person types it: exit codes, what is said and where, and what a typing mistake leads to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from jsonschema import Draft202012Validator
from terminal import FLOWS, Said, flowrun

from engine.loader import load

MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
OTHERS = "20000000-0000-4000-8000-000000000001"
FLOW = "flows/referral_to_dynamics.yaml"
COMMANDS = ("run", "check", "schema", "runs", "connectors", "connections", "login", "sandbox", "completion")
SMALL = """\
flow: small
title: A small flow
triggers:
  hand: {manual: {inputs: {type: object, properties: {n: {type: integer}}, required: [n]}}}
  again: {manual: null}
parameters:
  word: {type: string, default: hello}
  number: {type: integer, default: 2}
  flag: {type: boolean, default: false}
steps:
  say: {compose: "{{ parameters.word }} {{ trigger.inputs.n }}"}
  maybe: {when: parameters.flag, compose: 1}
outputs: {said: "{{ steps.say.body }}", number: "{{ parameters.number }}"}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fresh checkout: flows/ as they ship."""
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    return tmp_path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with one small flow and no connections.yaml."""
    (tmp_path / "small.yaml").write_text(SMALL, "utf-8")
    (tmp_path / "input.json").write_text('{"n": 7}', "utf-8")
    return tmp_path


def event(id: str, name: str = "referral-created") -> dict[str, Any]:
    sample = json.loads((FLOWS / "samples" / "referral_created.json").read_text("utf-8"))
    return {**sample, "EventName": name, "ResourceUri": sample["ResourceUri"].replace(MAIN, id)}


def in_words(said: Said, code: int, *words: str) -> None:
    """An error for people: this exit code, these words on stderr, no traceback."""
    assert said.code == code, said.all
    assert "Traceback" not in said.all
    assert "bug in flowrun" not in said.all
    for word in words:
        assert word in said.err, said.all


# Running


def test_a_run_without_anything_takes_the_sandbox_and_says_so(home: Path) -> None:
    said = flowrun(FLOW, cwd=home)
    assert said.code == 0, said.all
    first = said.out.splitlines()[0]
    assert "environment sandbox (none was named)" in first
    assert "samples/referral_created.json" in said.err
    assert [line.split()[1] for line in said.out.splitlines()[1:5]] == [
        "get_token",
        "get_referral",
        "upsert_lead",
        "update_referral",
    ]
    named = flowrun(FLOW, "--env", "sandbox", cwd=home)
    assert "none was named" not in named.all
    assert "none was named" not in flowrun(FLOW, cwd=home, env={"FLOWRUN_ENV": "sandbox"}).all


def test_json_is_one_object_a_line_and_all_else_goes_to_stderr(home: Path) -> None:
    said = flowrun(FLOW, "--json", cwd=home)
    kinds = [line["type"] for line in said.lines]
    assert kinds == ["run", "step", "step", "step", "step", "end"]
    for step in said.steps.values():
        assert {
            "name",
            "status",
            "changed",
            "summary",
            "path",
            "kind",
            "attempt",
            "milliseconds",
            "error",
        } <= step.keys()
        assert isinstance(step["changed"], bool)
        assert step["summary"]
    assert said.lines[0]["environment"] == "sandbox"
    assert said.lines[0]["named"] is False
    assert said.end["status"] == "succeeded"
    assert said.end["outputs"].keys() == {"lead", "url"}


def test_a_failed_run_says_where_and_what_then(home: Path) -> None:
    (home / "event.json").write_text(json.dumps(event(OTHERS)), "utf-8")
    said = flowrun(FLOW, "--input", "event.json", cwd=home)
    assert said.code == 1, said.all
    assert re.search(r"at flows/referral_to_dynamics\.yaml:\d+:\d+ \(step get_referral\)", said.out)
    assert "NotOurs" in said.out
    assert "fix: " in said.out
    assert "flowrun runs resume" in said.out
    as_json = flowrun(FLOW, "--input", "event.json", "--json", cwd=home)
    assert as_json.code == 1
    assert as_json.end["error"]["code"] == "NotOurs"
    assert as_json.end["error"]["step"] == "get_referral"


def test_an_event_from_standard_input(home: Path) -> None:
    said = flowrun(FLOW, "--input", "-", "--json", cwd=home, stdin=json.dumps(event(MAIN)).encode())
    assert said.code == 0, said.all


def test_several_events_in_one_input_are_several_runs_and_the_worst_code_counts(home: Path) -> None:
    events = [event(MAIN), event(OTHERS), event(MAIN, "referral-updated"), event(MAIN, "something-else")]
    said = flowrun(FLOW, "--input", "-", "--json", cwd=home, stdin=json.dumps(events).encode())
    assert said.code == 1
    assert [line["status"] for line in said.lines if line["type"] == "end"] == ["succeeded", "failed", "succeeded"]


def test_an_event_that_the_flow_does_not_ask_for_starts_nothing(home: Path) -> None:
    said = flowrun(FLOW, "--input", "-", cwd=home, stdin=json.dumps(event(MAIN, "invoice-ready")).encode())
    assert said.code == 0, said.all
    assert "invoice-ready" in said.err
    assert flowrun("runs", "list", cwd=home).out == ""


def test_once_binds_the_key(home: Path) -> None:
    body = json.dumps(event(MAIN)).encode()
    first, second = (flowrun(FLOW, "--input", "-", "--once", cwd=home, stdin=body) for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert "has run already" in second.err
    assert len(flowrun("runs", "list", cwd=home).out.splitlines()) == 1
    assert flowrun(FLOW, "--input", "-", cwd=home, stdin=body).code == 0
    assert len(flowrun("runs", "list", cwd=home).out.splitlines()) == 2


def test_the_crm_is_swapped_by_one_word(home: Path) -> None:
    said = flowrun(FLOW, "--connect", "crm=sqlite", "--json", cwd=home)
    assert said.code == 0, said.all
    assert "dynamics.com" not in str(said.end["outputs"])
    again = flowrun(FLOW, "--connect", "crm=sqlite", "--json", cwd=home)
    assert not any(s["changed"] for s in again.steps.values())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--env", "prodution"), ("prodution", "did you mean 'production'")),
        (("--connect", "crn=sqlite"), ("crn", "did you mean 'crm'")),
        (("--connect", "crm=sqlit"), ("sqlit", "did you mean 'sqlite'")),
        (("--connect", "crm"), ("--connect", "name=value")),
        (("--set", "lead_sorce=x"), ("lead_sorce", "did you mean 'lead_source'")),
        (("--set", "lead_source"), ("--set", "name=value")),
        (("--trigger", "evnt"), ("evnt", "did you mean 'event'")),
        (("--input", "absent.json"), ("absent.json", "No such file")),
        (("--input", "flows"), ("flows", "directory")),
        (("--connections", "absent.yaml"), ("absent.yaml", "No such file")),
        (("--jsn",), ("No such option", "--json")),
        (
            ("--env", "production", "--input", "flows/samples/referral_created.json"),
            ("production.partner_center", "PC_TENANT", "not set"),
        ),
    ],
    ids=lambda v: " ".join(v) if v and v[0].startswith("--") else "",
)
def test_a_mistyped_option_is_answered_in_words(home: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    in_words(flowrun(FLOW, *args, cwd=home), 2, *words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("chek", FLOW), ("chek", "Did you mean 'check'")),
        (("flows/absent.yaml",), ("absent.yaml", "No such file")),
        (("nonsense",), ("nonsense", "flow is a file")),
        (("flows",), ("flows",)),
        (("check",), ("Missing argument",)),
        (("run",), ("Missing argument",)),
        (("runs", "shw"), ("shw",)),
        (("login",), ("Missing argument",)),
        (("connectors", "show", "dynamics"), ("dynamics", "did you mean 'dynamics365'")),
        (("connectors", "show", "dynamics365", "upsert_leed"), ("upsert_leed", "did you mean 'upsert_lead'")),
        (("connections", "check", "dynamics"), ("dynamics", "did you mean 'dynamics365'")),
        (("login", "partner_centre"), ("partner_centre", "did you mean 'partner_center'")),
        (("completion", "tcsh"), ("tcsh",)),
        (("sandbox", "--fault", "429"), ("--fault",)),
        (("sandbox", "--fault", "429=often"), ("--fault",)),
        (("sandbox", "--fault", "thunder=0.5"), ("thunder",)),
        (("sandbox", "--latency", "soon"), ("soon", "duration")),
        (("sandbox", "--port", "70000"), ("70000",)),
    ],
    ids=lambda v: " ".join(v) if v and v[0].islower() else "",
)
def test_a_mistyped_command_is_answered_in_words(home: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    in_words(flowrun(*args, cwd=home), 2, *words)


def test_without_arguments_it_shows_its_commands(home: Path) -> None:
    said = flowrun("--help", cwd=home)
    assert said.code == 0
    assert all(f"  {name}" in said.out for name in COMMANDS)
    alone = flowrun(cwd=home)
    assert alone.code == 2
    assert all(name in alone.all for name in COMMANDS)
    assert re.fullmatch(r"flowrun, version \d+\.\d+.*\n", flowrun("--version", cwd=home).out)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_helps(home: Path, command: str) -> None:
    for flag in ("--help", "-h"):
        said = flowrun(command, flag, cwd=home)
        assert said.code == 0
        assert said.out.startswith(f"Usage: flowrun {command}")


# Parameters, inputs, triggers


def test_set_gives_parameters_their_types(bare: Path) -> None:
    args = ("small.yaml", "--input", "input.json", "--json")
    said = flowrun(*args, cwd=bare)
    assert said.code == 0, said.all
    assert said.end["outputs"] == {"said": "hello 7", "number": 2}
    assert said.steps["maybe"]["status"] == "skipped"
    said = flowrun(*args, "--set", "word=a=b {{ 7*7 }}", "--set", "number=5", "--set", "flag=true", cwd=bare)
    assert said.end["outputs"] == {"said": "a=b {{ 7*7 }} 7", "number": 5}
    assert said.steps["maybe"]["status"] == "succeeded"
    in_words(flowrun(*args, "--set", "number=five", cwd=bare), 2, "number", "five")
    in_words(flowrun(*args, "--set", "number=1.5", cwd=bare), 2, "number", "integer")
    in_words(flowrun(*args, "--set", "flag=1", cwd=bare), 2, "flag", "boolean")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"n": "x"}', ("$.n", "integer")),
        (b"{}", ("n",)),
        (b"{", ("JSON",)),
        (b"", ()),
        (b"\xff\xfe\x00\x01", ("UTF-8",)),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ("UTF-8",)),
        (b"[" * 100_000, ()),
        (b'{"n": 1' + b"0" * 5000 + b"}", ()),
    ],
    ids=["type", "missing", "cut", "empty", "utf-16", "png", "deep", "long number"],
)
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_an_input_that_is_none(bare: Path, content: bytes, words: tuple[str, ...], how: str) -> None:
    (bare / "odd.json").write_bytes(content)
    said = flowrun("small.yaml", "--input", "odd.json" if how == "file" else "-", cwd=bare, stdin=content)
    in_words(said, 2, *words)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"5", b'"x"', b"[]", b"{}", b"[1]", b'{"EventName": 5}', b"\xff\xfe", b"{", b"[" * 100_000,
     json.dumps({**event(MAIN), "ResourceUri": "https://evil.example/" + MAIN}).encode()],
    ids=lambda c: c[:12].decode("latin-1"),
)  # fmt: skip
def test_an_event_that_is_none(home: Path, content: bytes) -> None:
    said = flowrun(FLOW, "--input", "-", cwd=home, stdin=content)
    assert said.code in ((0, 2) if content == b"[]" else (2,)), said.all
    assert "Traceback" not in said.all


def test_a_bom_and_windows_line_ends_are_no_trouble(home: Path) -> None:
    text = (home / FLOW).read_text("utf-8").replace("\n", "\r\n")
    (home / FLOW).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (home / "event.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(event(MAIN)).replace(",", ",\r\n").encode())
    said = flowrun(FLOW, "--input", "event.json", cwd=home)
    assert said.code == 0, said.all


def test_triggers_by_name(bare: Path) -> None:
    said = flowrun("small.yaml", "--trigger", "again", "--input", "input.json", "--json", cwd=bare)
    assert said.code == 0, said.all
    assert flowrun("small.yaml", "--trigger", "again", cwd=bare).code == 0
    in_words(flowrun("small.yaml", cwd=bare), 2, "n")


def test_outside_the_sandbox_an_event_is_demanded(home: Path) -> None:
    connections = (home / "flows" / "connections.yaml").read_text("utf-8")
    lab = "  lab: {connections: {partner_center: {tenant: t, client_id: " + MAIN + "}, dynamics365: "
    lab += "{url: 'https://x.crm.dynamics.com', tenant: t, client_id: c, client_secret: ssssssss}}}\n"
    (home / "flows" / "connections.yaml").write_text(connections + lab, "utf-8")
    in_words(flowrun(FLOW, "--env", "lab", cwd=home), 2, "needs an event", "--input")


# Documents


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"\x89PNG\r\n\x1a\n",
        b"a: [",
        b"just text",
        b"- 1",
        b"5",
        b"\x00",
        b"a: !!python/object:os.x 1",
        b"? {a: 1}\n: 2",
        b"flow: x\nflow: y",
        b"{" * 5000,
        b"flow: x",
        b"a: *b",
        b"%YAML 9.9\n---\na",
        b"a: 1\n---\nb: 2",
    ],
    ids=lambda c: repr(c[:16]),
)
def test_a_document_that_is_none_is_a_finding_not_a_crash(bare: Path, content: bytes) -> None:
    (bare / "odd.yaml").write_bytes(content)
    for args in (("odd.yaml",), ("check", "odd.yaml")):
        said = flowrun(*args, cwd=bare)
        in_words(said, 2)
        assert "odd.yaml" in said.all


def test_a_flow_from_standard_input(bare: Path) -> None:
    for args in (("-",), ("run", "-")):
        said = flowrun(*args, "--trigger", "again", "--json", cwd=bare, stdin=SMALL.encode())
        assert said.code == 0, said.all
        assert said.end["outputs"]["number"] == 2
    checked = flowrun("check", "-", cwd=bare, stdin=SMALL.replace("compose", "compse", 1).encode())
    assert checked.code == 2
    assert re.search(r"^-:\d+:\d+: ", checked.out, re.M)


def test_a_flow_and_its_input_can_t_both_come_from_standard_input(bare: Path) -> None:
    said = flowrun("-", "--input", "-", cwd=bare, stdin=SMALL.encode())
    in_words(said, 2)


def test_a_flow_of_any_name_runs(bare: Path) -> None:
    (bare / "flow with blanks é").write_text(SMALL, "utf-8")
    assert flowrun("flow with blanks é", "--trigger", "again", cwd=bare).code == 0
    (bare / "check.yml").write_text(SMALL, "utf-8")
    assert flowrun("check.yml", "--trigger", "again", cwd=bare).code == 0


def test_check_points_at_line_and_column_of_everything_at_once(home: Path) -> None:
    text = (home / FLOW).read_text("utf-8")
    mistakes = {  # what → (wrong, code)
        "call: partner_center.update_referral": ("call: partner_center.update_referal", "UnknownOperation"),
        "steps.get_referral.body.customerProfile.name)": (
            "steps.get_refferal.body.customerProfile.name)",
            "UnknownStep",
        ),
        "parameters.lead_source": ("parameters.lead_sorce", "UnknownParameter"),
        "        city: ": ("        citty: ", "UnknownKey"),
    }
    wrong = text
    for right, (instead, _) in mistakes.items():
        assert wrong.count(right) >= 1
        wrong = wrong.replace(right, instead, 1)
    (home / FLOW).write_text(wrong, "utf-8")
    said = flowrun("check", FLOW, "--json", cwd=home)
    assert said.code == 2
    found = {f["code"]: f for f in said.lines if f.get("severity", "error") == "error"}
    assert found.keys() == {code for _, code in mistakes.values()}
    places = {
        "UnknownOperation": "update_referal\n",
        "UnknownStep": "get_refferal",
        "UnknownParameter": "lead_sorce",
        "UnknownKey": "citty",
    }
    for code, word in places.items():
        at = wrong.index(word)
        line, column = wrong.count("\n", 0, at) + 1, at - wrong.rfind("\n", 0, at)
        assert (found[code]["line"], found[code]["column"]) == (line, column), found[code]
        assert found[code]["file"] == FLOW
        assert "did you mean" in found[code]["hint"]
    plain = flowrun("check", FLOW, cwd=home)
    assert plain.code == 2
    for finding in found.values():
        assert f"{FLOW}:{finding['line']}:{finding['column']}: error[{finding['code']}]" in plain.out
    assert plain.out.count("^") == len(found)
    ran = flowrun(FLOW, cwd=home)
    in_words(ran, 2, "4 errors found", "error[UnknownStep]")
    assert flowrun("runs", "list", cwd=home).out == ""  # nothing has run


def test_check_of_several_flows(home: Path) -> None:
    (home / "bad.yaml").write_text("flow: bad\nsteps: {a: {cal: x.y}}\n", "utf-8")
    said = flowrun("check", FLOW, "bad.yaml", cwd=home)
    assert said.code == 2
    assert "4 steps, fine" in said.out
    assert "bad.yaml:2:" in said.out
    assert flowrun("check", FLOW, cwd=home).code == 0
    assert flowrun("check", FLOW, "--json", cwd=home).out == ""
    assert flowrun("check", FLOW, "--connect", "crm=sqlite", cwd=home).code == 0
    assert flowrun("check", FLOW, "--connect", "crm=http", cwd=home).code == 2


def test_check_needs_no_secret(home: Path) -> None:
    said = flowrun("check", FLOW, "--env", "production", cwd=home)
    assert said.code == 0, said.all


@pytest.mark.parametrize("args", [(), (FLOW,)])
def test_the_schema_is_one_and_takes_the_shipped_flow(home: Path, args: tuple[str, ...]) -> None:
    said = flowrun("schema", *args, cwd=home)
    assert said.code == 0, said.all
    schema = json.loads(said.out)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    text = (home / FLOW).read_text("utf-8")
    assert [e.message for e in validator.iter_errors(load(text, "").data)] == []
    for wrong in ("call: crm.upsert_lead\n    wiht:", "cal: crm.upsert_lead\n    with:"):
        assert list(validator.iter_errors(load(text.replace("call: crm.upsert_lead\n    with:", wrong), "").data))
    odd = load(text.replace("        city: ", "        citty: "), "").data
    assert list(validator.iter_errors(odd))


# Runs


def test_runs_are_listed_shown_and_found_by_the_beginning_of_their_id(home: Path) -> None:
    in_words(flowrun("runs", "show", "last", cwd=home), 2, "no run")
    for _ in range(2):
        flowrun(FLOW, cwd=home)
    flowrun(FLOW, "--input", "-", cwd=home, stdin=json.dumps(event(OTHERS)).encode())
    rows = flowrun("runs", "list", "--json", cwd=home).lines
    assert [row["number"] for row in rows] == [3, 2, 1]
    assert [row["status"] for row in rows] == ["failed", "succeeded", "succeeded"]
    assert rows[1]["business_key"] == MAIN
    assert {
        "id",
        "flow",
        "environment",
        "key",
        "lane",
        "targets",
        "trigger",
        "error",
        "outputs",
        "started",
        "ended",
    } <= rows[0].keys()
    plain = flowrun("runs", "list", cwd=home).out.splitlines()
    assert len(plain) == 3
    assert MAIN in plain[1]
    for args, wanted in ((("--status", "failed"), [3]), (("--before", "3"), [2, 1]), (("--limit", "1"), [3]),
                         (("--flow", "nothing"), []), (("--status", "interrupted"), [])):  # fmt: skip
        assert [r["number"] for r in flowrun("runs", "list", "--json", *args, cwd=home).lines] == wanted
    id = rows[1]["id"]
    for name in (id, id[:8]):
        said = flowrun("runs", "show", name, "--json", cwd=home)
        assert said.lines[0]["id"] == id
        assert said.steps["upsert_lead"]["output"]["key"] == MAIN
    shown = flowrun("runs", "show", id[:8], cwd=home)
    assert shown.code == 0
    assert all(step in shown.out for step in ("get_token", "get_referral", "upsert_lead", "update_referral"))
    failed = flowrun("runs", "show", "last", cwd=home)
    assert failed.code == 0
    assert "NotOurs" in failed.out
    in_words(flowrun("runs", "show", "ffffffffffff", cwd=home), 2, "no run", "flowrun runs list")
    for odd in ("%", "_", "'; drop table runs;--", ""):
        in_words(flowrun("runs", "show", odd, cwd=home), 2)


def test_a_run_that_succeeded_is_not_resumed(home: Path) -> None:
    flowrun(FLOW, cwd=home)
    in_words(flowrun("runs", "resume", "last", cwd=home), 2, "succeeded", "nothing to resume")


def test_a_failed_run_is_resumed_where_it_failed(home: Path) -> None:
    (home / "flow.yaml").write_text(
        "flow: web\nconnections: {web: http, crm: sqlite}\nsteps:\n"
        "  once: {call: crm.create_lead, with: {lead: {company: Once}}}\n"
        "  ask: {call: web.request, with: {url: 'https://http.example/status/500'}, retry: {count: 0}}\n",
        "utf-8",
    )
    shutil.copy(home / "flows" / "connections.yaml", home)
    assert flowrun("flow.yaml", cwd=home).code == 1
    said = flowrun("runs", "resume", "last", "--json", cwd=home)
    assert said.code == 1
    assert said.steps.keys() == {"ask"}  # what succeeded stays
    shown = flowrun("runs", "show", "last", "--json", cwd=home)
    assert [s["status"] for s in shown.lines if s.get("name") == "once"] == ["started", "succeeded"]
    assert len(flowrun("runs", "list", cwd=home).out.splitlines()) == 1


def test_a_run_does_not_go_on_against_another_target(home: Path) -> None:
    (home / "event.json").write_text(json.dumps(event(OTHERS)), "utf-8")
    flowrun(FLOW, "--input", "event.json", cwd=home)
    connections = home / "flows" / "connections.yaml"
    other = "sandbox: {emulate: true, connections: {dynamics365: {url: 'https://other.crm.dynamics.com'}}}"
    connections.write_text(connections.read_text("utf-8").replace("sandbox: {emulate: true}", other), "utf-8")
    in_words(flowrun("runs", "resume", "last", cwd=home), 2, "other.crm.dynamics.com", "contoso.crm.dynamics.com")
    connections.write_text("environments: {elsewhere: {emulate: true}}\n", "utf-8")
    assert flowrun("runs", "resume", "last", cwd=home).code in (1, 2)


WRITE = """\
flow: write
connections: {web: http}
steps:
  send: {call: web.request, with: {url: "https://http.example/echo", method: POST, json: {a: 1}}, retry: {count: 0}}
  after: {compose: "{{ steps.send.body.kept }}"}
outputs: {kept: "{{ steps.after.body }}"}
"""


def waiting(home: Path) -> Said:
    """A run that waits for a person: its write's answer was lost."""
    shutil.copy(home / "flows" / "connections.yaml", home)
    text = (home / "connections.yaml").read_text("utf-8")
    lost = text.replace("sandbox: {emulate: true}", "sandbox: {emulate: {faults: {lost: 1}}}")
    (home / "connections.yaml").write_text(lost, "utf-8")
    (home / "write.yaml").write_text(WRITE, "utf-8")
    said = flowrun("write.yaml", cwd=home)
    (home / "connections.yaml").write_text(text, "utf-8")
    return said


def test_a_lost_answer_waits_for_a_person_who_says_it_is_done(home: Path) -> None:
    said = waiting(home)
    assert said.code == 3, said.all
    assert re.search(r"flowrun runs resolve \w{8} send done\|repeat", said.out)
    assert flowrun("runs", "list", "--status", "waiting", cwd=home).out
    assert flowrun("runs", "resume", "last", cwd=home).code == 3
    in_words(flowrun("runs", "resolve", "last", "sned", "done", cwd=home), 2, "sned")
    in_words(flowrun("runs", "resolve", "last", "after", "done", cwd=home), 2, "after")
    in_words(flowrun("runs", "resolve", "last", "send", "perhaps", cwd=home), 2, "perhaps")
    in_words(flowrun("runs", "resolve", "last", "send", "done", "--body", "{", cwd=home), 2, "--body")
    done = flowrun("runs", "resolve", "last", "send", "done", "--body", '{"kept": "word"}', "--json", cwd=home)
    assert done.code == 0, done.all
    assert done.end["outputs"] == {"kept": "word"}
    in_words(flowrun("runs", "resolve", "last", "send", "done", cwd=home), 2)
    shown = flowrun("runs", "show", "last", "--json", cwd=home)
    assert shown.steps["send"]["summary"] == "done, says a person"


def test_a_lost_answer_waits_for_a_person_who_has_it_repeated(home: Path) -> None:
    assert waiting(home).code == 3
    said = flowrun("runs", "resolve", "last", "send", "repeat", "--json", cwd=home)
    assert said.code == 0, said.all
    assert said.steps["send"]["summary"] == "POST answered 200"
    assert said.end["status"] == "succeeded"


def test_waiting_as_json(home: Path) -> None:
    waiting(home)
    said = flowrun("runs", "resume", "last", "--json", cwd=home)
    assert said.code == 3
    assert said.end["status"] == "waiting"
    assert said.end["waiting"] == ["send"]
    assert said.end["error"]["kind"] == "uncertain"


# Connectors and connections


def test_connectors_are_listed_and_shown(home: Path) -> None:
    said = flowrun("connectors", "list", cwd=home)
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["dynamics365", "http", "partner_center", "sqlite"]
    as_json = flowrun("connectors", "list", "--json", cwd=home).lines
    assert {c["name"] for c in as_json} == {"dynamics365", "http", "partner_center", "sqlite"}
    assert all(
        {"upsert_lead", "get_lead", "list_changes"} <= set(c["operations"])
        for c in as_json
        if c["name"] in ("dynamics365", "sqlite")
    )
    for connector in as_json:
        plain = flowrun("connectors", "show", connector["name"], cwd=home)
        assert plain.code == 0, plain.all
        assert all(f"\n{operation} (" in plain.out for operation in connector["operations"])
        shown = json.loads(flowrun("connectors", "show", connector["name"], "--json", cwd=home).out)
        Draft202012Validator.check_schema(shown["settings"])
        for operation, parts in shown["operations"].items():
            Draft202012Validator.check_schema(parts["inputs"])
            Draft202012Validator.check_schema(parts["result"])
            one = flowrun("connectors", "show", connector["name"], operation, cwd=home)
            assert one.code == 0
            assert parts["doc"].split("\n")[0] in one.out


GOOD = """\
from engine import Connector, Result, operation

class Greeter(Connector):
    "Greets."
    @operation(effect="read")
    def greet(self, name: str) -> Result[str]:
        "Says hello."
        return Result(body=f"hello {name}", summary="greeted")
"""
GREETING = """\
flow: greeting
connections: {g: greeter}
steps:
  greet: {call: g.greet, with: {name: Ada}}
outputs: {said: "{{ steps.greet.body }}"}
"""
BROKEN = {
    "import": "import a_module_that_is_not_there\n",
    "syntax": "class (:\n",
    "raises": "raise RuntimeError('no')\n",
    "exits": "raise SystemExit(5)\n",
    "nothing": "x = 1\n",
    "two": GOOD + GOOD.split("\n\n", 1)[1].replace("Greeter", "Second"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_named_with_its_remedy_and_breaks_nothing_else(home: Path, fault: str) -> None:
    plugins = home / "flows" / "plugins"
    plugins.mkdir()
    (plugins / "broken.py").write_text(BROKEN[fault], "utf-8")
    (plugins / "greeter.py").write_text(GOOD, "utf-8")
    (home / "flows" / "greeting.yaml").write_text(GREETING, "utf-8")
    connections = home / "flows" / "connections.yaml"
    connections.write_text("plugins: ./plugins\n" + connections.read_text("utf-8"), "utf-8")
    listed = flowrun("connectors", "list", cwd=home)
    assert listed.code == 0, listed.all
    assert re.search(r"^broken +broken: .*\n +fix: \S", listed.out, re.M), listed.out
    assert "Greets." in listed.out
    as_json = {c["name"]: c for c in flowrun("connectors", "list", "--json", cwd=home).lines}
    assert as_json["broken"]["error"]
    in_words(flowrun("connectors", "show", "broken", cwd=home), 2, "broken")
    said = flowrun("flows/greeting.yaml", "--json", cwd=home)
    assert said.code == 0, said.all
    assert said.end["outputs"] == {"said": "hello Ada"}
    for args in ((FLOW,), ("check", FLOW), ("schema", FLOW), ("schema",), ("connections", "check", "dynamics365")):
        other = flowrun(*args, cwd=home)
        assert other.code == 0, (args, other.all)
    every = flowrun("connections", "check", "--json", cwd=home)
    assert {line["connection"]: line["fit"] for line in every.lines}["broken"] is False
    (home / "uses.yaml").write_text(GREETING.replace("greeter", "broken"), "utf-8")
    shutil.copy(home / "uses.yaml", home / "flows")
    in_words(flowrun("flows/uses.yaml", cwd=home), 2, "broken")


def test_a_connector_in_a_folder_of_its_own_and_one_by_module(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "flows" / "plugins" / "greeter"
    folder.mkdir(parents=True)
    (folder / "connector.py").write_text(GOOD, "utf-8")
    (home / "my_greeter.py").write_text(GOOD, "utf-8")
    monkeypatch.syspath_prepend(str(home))
    connections = home / "flows" / "connections.yaml"
    named = "  %s: {connections: {greeter: {connector: 'my_greeter:%s'}}}\n"
    lab = named % ("lab", "Greeter") + named % ("wrong", "Greter")
    connections.write_text("plugins: ./plugins\n" + connections.read_text("utf-8") + lab, "utf-8")
    (home / "flows" / "greeting.yaml").write_text(GREETING, "utf-8")
    for env in ("sandbox", "lab"):
        said = flowrun("flows/greeting.yaml", "--env", env, "--json", cwd=home)
        assert said.code == 0, said.all
        assert said.end["outputs"] == {"said": "hello Ada"}
    in_words(flowrun("flows/greeting.yaml", "--env", "wrong", cwd=home), 2, "Greter")
    in_words(flowrun("connectors", "show", "no_such_module:Thing", cwd=home), 2, "no_such_module")


def test_a_flow_names_no_code(home: Path) -> None:
    (home / "flows" / "sneaky.yaml").write_text(GREETING.replace("greeter", '"os:system"'), "utf-8")
    in_words(flowrun("flows/sneaky.yaml", cwd=home), 2, "os:system")


def test_connections_are_checked(home: Path) -> None:
    said = flowrun("connections", "check", "partner_center", "dynamics365", "sqlite", cwd=home)
    assert said.code == 0, said.all
    assert [line.split() for line in said.out.splitlines()] == [
        ["✓", n] for n in ("partner_center", "dynamics365", "sqlite")
    ]
    connections = home / "flows" / "connections.yaml"
    wrong = "sandbox: {emulate: true, connections: {dynamics365: {client_secret: a-wrong-secret}}}"
    connections.write_text(connections.read_text("utf-8").replace("sandbox: {emulate: true}", wrong), "utf-8")
    said = flowrun("connections", "check", "partner_center", "dynamics365", cwd=home)
    assert said.code == 1, said.all
    assert "✓ partner_center" in said.out
    assert "✗ dynamics365" in said.out
    assert "fix: " in said.out
    assert "a-wrong-secret" not in said.all
    lines = {line["connection"]: line for line in flowrun("connections", "check", "--json", cwd=home).lines}
    assert (lines["partner_center"]["fit"], lines["dynamics365"]["fit"]) == (True, False)
    assert lines["dynamics365"]["findings"][0]["hint"]


def test_a_missing_variable_fails_the_check_of_its_connection_alone(home: Path) -> None:
    said = flowrun("connections", "check", "--env", "production", "--json", cwd=home)
    lines = {line["connection"]: line for line in said.lines}
    assert said.code == 1, said.all
    assert lines["sqlite"]["fit"]
    assert not lines["partner_center"]["fit"]
    assert "PC_TENANT" in lines["partner_center"]["findings"][0]["message"]


# connections.yaml

WEB = """\
flow: web
connections: {web: http}
steps:
  ask: {call: web.request, with: {url: "https://http.example/echo"}, retry: {count: 0}}
"""
RELATIVE = WEB.replace("https://http.example/", "/")
ODD_CONNECTIONS = {
    "binary": b"\xff\xfe\x00",
    "cut": b"environments: {",
    "list": b"- a",
    "text": b"hello",
    "environments a list": b"environments: [sandbox]",
    "environments a text": b"environments: sandbox",
    "environment a text": b"environments: {lab: hello}",
    "unknown key": b"environments: {lab: {emulat: true}}",
    "connections a list": b"environments: {lab: {connections: [http]}}",
    "connection null": b"environments: {lab: {connections: {http: null}}}",
    "connection a text": b"environments: {lab: {connections: {http: hello}}}",
    "unknown setting": b"environments: {lab: {connections: {http: {base_ulr: 'https://x.example'}}}}",
    "setting of another type": b"environments: {lab: {connections: {http: {base_url: [1]}}}}",
    "timeout": b"environments: {lab: {connections: {http: {base_url: 'https://x.example', timeout: soon}}}}",
    "timeout a number": b"environments: {lab: {connections: {http: {base_url: 'https://x.example', timeout: 5}}}}",
    "hosts a text": b"environments: {lab: {connections: {sqlite: {hosts: 5}, http: {base_url: 5}}}}",
    "route a list": b"environments: {lab: {route: [x], connections: {http: {}}}}",
    "route a number": b"environments: {lab: {route: {x.example: 5}, connections: {http: {}}}}",
    "emulate a list": b"environments: {lab: {emulate: [true]}}",
    "emulate a text": b"environments: {lab: {emulate: 'yes'}}",
    "emulate unknown": b"environments: {lab: {emulate: {latensy: 1s}}}",
    "latency a number": b"environments: {lab: {emulate: {latency: 5}}}",
    "latency odd": b"environments: {lab: {emulate: {latency: soon}}}",
    "fault unknown": b"environments: {lab: {emulate: {faults: {thunder: 1}}}}",
    "fault a text": b"environments: {lab: {emulate: {faults: {'500': often}}}}",
    "faults a list": b"environments: {lab: {emulate: {faults: ['500']}}}",
    "plugins a number": b"plugins: 5\nenvironments: {lab: {connections: {http: {}}}}",
    "plugins absent": b"plugins: ./absent\nenvironments: {lab: {connections: {http: {}}}}",
    "connector a number": b"environments: {lab: {connections: {http: {connector: 5}}}}",
    "connector unknown": b"environments: {lab: {connections: {http: {connector: htp}}}}",
    "connector no module": b"environments: {lab: {connections: {http: {connector: 'no_such:Thing'}}}}",
    "connector no class": b"environments: {lab: {connections: {http: {connector: 'json:dumps'}}}}",
    "scheme": b"environments: {lab: {connections: {http: {base_url: '${vault:x}'}}}}",
    "variable": b"environments: {lab: {connections: {http: {base_url: '${env:NO_SUCH}'}}}}",
    "file absent": b"environments: {lab: {connections: {http: {base_url: '${file:absent}'}}}}",
    "file binary": b"environments: {lab: {connections: {http: {base_url: '${file:bin}'}}}}",
    "file a folder": b"environments: {lab: {connections: {http: {base_url: '${file:.}'}}}}",
    "keyring": b"environments: {lab: {connections: {http: {base_url: '${keyring:a/b}'}}}}",
}


@pytest.mark.parametrize("what", ODD_CONNECTIONS)
def test_an_odd_connections_file_is_answered_in_words(bare: Path, what: str) -> None:
    (bare / "bin").write_bytes(b"\xff\xfe\x00")
    (bare / "connections.yaml").write_bytes(ODD_CONNECTIONS[what])
    (bare / "web.yaml").write_text(WEB, "utf-8")
    said = flowrun("web.yaml", "--env", "lab", cwd=bare)
    assert "Traceback" not in said.all, said.all
    assert "bug" not in said.all, said.all
    assert said.code == 2, said.all
    for args in (
        ("check", "web.yaml", "--env", "lab"),
        ("schema", "--env", "lab"),
        ("connections", "check", "--env", "lab"),
        ("connectors", "list"),
        ("runs", "list"),
    ):
        other = flowrun(*args, cwd=bare)
        assert "Traceback" not in other.all, (args, other.all)
        assert other.code in (0, 1, 2), (args, other.all)


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://127.9.9.9:1", True),
        ("https://127.0.0.1:1", True),
        ("http://localhost:1", False),
        ("http://10.0.0.1:1", False),
        ("http://evil.example", False),
        ("127.0.0.1:1", False),
        ("http://127.0.0.1.evil.example:1", False),
        ("http://127.0.0.1@evil.example", False),
        ("http://evil.example#127.0.0.1", False),
        ("http://evil.example/127.0.0.1", False),
        ("ftp://127.0.0.1:1", False),
        ("http://0.0.0.0:1", False),
        ("", False),
    ],
)
def test_a_route_leads_to_loopback_literals_only(bare: Path, url: str, fine: bool) -> None:
    lab = {"route": {"http.example": url}, "connections": {"http": {"base_url": "https://http.example"}}}
    (bare / "connections.yaml").write_text(json.dumps({"environments": {"lab": lab}}), "utf-8")
    (bare / "web.yaml").write_text(RELATIVE, "utf-8")
    said = flowrun("web.yaml", "--env", "lab", cwd=bare)
    if fine:
        assert said.code == 1, said.all  # nobody listens there
        assert "can't be reached" in said.out or "broke" in said.out
    else:
        in_words(said, 2, "loopback")


@pytest.mark.parametrize("more", [{"route": {"http.example": "http://127.0.0.1:1"}}, {"emulate": True}])
def test_production_is_neither_routed_nor_emulated(bare: Path, more: dict[str, Any]) -> None:
    production = {"production": True, "connections": {"http": {"base_url": "https://http.example"}}, **more}
    (bare / "connections.yaml").write_text(json.dumps({"environments": {"live": production}}), "utf-8")
    (bare / "web.yaml").write_text(RELATIVE, "utf-8")
    in_words(flowrun("web.yaml", "--env", "live", cwd=bare), 2, "refused", "production")


def test_plain_http_goes_to_loopback_only(bare: Path) -> None:
    lab = {"connections": {"http": {"base_url": "http://http.example"}}}
    (bare / "connections.yaml").write_text(json.dumps({"environments": {"lab": lab}}), "utf-8")
    (bare / "web.yaml").write_text(RELATIVE, "utf-8")
    said = flowrun("web.yaml", "--env", "lab", cwd=bare)
    assert said.code in (1, 2)
    assert "loopback" in said.all


def test_without_a_connections_file_there_is_the_sandbox(tmp_path: Path) -> None:
    for name in ("referral_to_dynamics.yaml", "samples"):
        source = FLOWS / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    said = flowrun("referral_to_dynamics.yaml", cwd=tmp_path)
    assert said.code == 0, said.all
    assert (tmp_path / ".flowrun" / "journal.db").exists()
    in_words(flowrun("referral_to_dynamics.yaml", "--env", "production", cwd=tmp_path), 2, "production")
    assert flowrun("runs", "list", cwd=tmp_path).out
    assert flowrun("connections", "check", "partner_center", cwd=tmp_path).code == 0


def test_state_stands_beside_the_connections_file_wherever_one_stands(home: Path) -> None:
    assert flowrun(FLOW, cwd=home).code == 0
    for cwd in (home, home / "flows", home / "flows" / "samples"):
        assert len(flowrun("runs", "list", cwd=cwd).out.splitlines()) == 1, cwd
    assert not (home / ".flowrun").exists()
    assert flowrun("runs", "list", "--connections", "flows/connections.yaml", cwd=home).out


# Signing in


def device(home: Path) -> None:
    """A connection for which somebody has to sign in."""
    connections = home / "flows" / "connections.yaml"
    wanted = "sandbox: {emulate: true, connections: {partner_center: {auth: device_code}}}"
    connections.write_text(connections.read_text("utf-8").replace("sandbox: {emulate: true}", wanted), "utf-8")


def test_login_keeps_the_sign_in_for_the_next_run(home: Path) -> None:
    device(home)
    key = Fernet.generate_key().decode()
    before = flowrun(FLOW, cwd=home, env={"FLOWRUN_KEY": key})
    assert before.code == 1, before.all
    assert "flowrun login" in before.out
    in_words(flowrun("login", "partner_center", cwd=home), 2, "FLOWRUN_KEY", "Fernet.generate_key")
    said = flowrun("login", "partner_center", cwd=home, env={"FLOWRUN_KEY": key})
    assert said.code == 0, said.all
    assert re.search(r"https://login\.microsoftonline\.com/\S+", said.out)
    assert "signed in as referral.admin@contoso.onmicrosoft.com" in said.out
    after = flowrun(FLOW, "--json", cwd=home, env={"FLOWRUN_KEY": key})
    assert after.code == 0, after.all
    db = sqlite3.connect(home / "flows" / ".flowrun" / "journal.db")
    stored = dict(db.execute("SELECT connection, data FROM tokens").fetchall())
    db.close()
    text = Fernet(key).decrypt(stored["sandbox.partner_center"]).decode()
    assert "RefreshToken" in text
    token = next(iter(json.loads(json.loads(text)["cache"])["RefreshToken"].values()))["secret"]
    for file in (home / "flows" / ".flowrun").rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file
    other = flowrun(FLOW, cwd=home, env={"FLOWRUN_KEY": Fernet.generate_key().decode()})
    assert other.code == 1
    assert "another FLOWRUN_KEY" in other.out
    in_words(flowrun(FLOW, cwd=home, env={"FLOWRUN_KEY": "nonsense"}), 2, "FLOWRUN_KEY", "Fernet.generate_key")


def test_what_has_no_sign_in_says_so(home: Path) -> None:
    key = Fernet.generate_key().decode()
    in_words(flowrun("login", "sqlite", cwd=home, env={"FLOWRUN_KEY": key}), 2, "no sign-in")


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(home: Path, shell: str) -> None:
    said = flowrun("completion", shell, cwd=home)
    assert said.code == 0, said.all
    assert "_FLOWRUN_COMPLETE" in said.out
    assert f"{shell}_complete" in said.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=said.out, text=True, check=True)


def test_completion_completes() -> None:
    words = {"COMP_WORDS": "flowrun ru", "COMP_CWORD": "1", "_FLOWRUN_COMPLETE": "bash_complete"}
    done = process([], cwd=FLOWS, env=words, timeout=20)
    assert "plain,run" in done.stdout
    assert "plain,runs" in done.stdout


# Real processes


def process(
    args: list[str], *, cwd: Path, env: dict[str, str] | None = None, timeout: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [flowrun_command(), *args],
        cwd=cwd,
        env=surroundings(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def flowrun_command() -> str:
    return str(Path(sys.executable).with_name("flowrun"))


def surroundings(env: dict[str, str] | None = None) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8", **(env or {})}


@contextmanager
def running(args: list[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [flowrun_command(), *args],
        cwd=cwd,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_sandbox_serves_other_processes(home: Path) -> None:
    with running(["sandbox", "--port", "0"], home) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        match = re.fullmatch(r"sandbox on (http://127\.0\.0\.1:\d+)\n", first)
        assert match, first
        assert server.stdout.readline() == "route:\n"
        routes = []
        while not routes or "http.example" not in "".join(routes) or len(routes) < 4:
            routes.append(server.stdout.readline())
        lab = home / "lab"
        shutil.copytree(FLOWS, lab, ignore=shutil.ignore_patterns(".flowrun", "*.db"))
        production = (lab / "connections.yaml").read_text("utf-8").partition("  production:\n")[2]
        production = production.replace("    production: true\n", "    route:\n" + "".join(f"    {r}" for r in routes))
        (lab / "connections.yaml").write_text(f"environments:\n  lab:\n{production}", "utf-8")
        from remote import VARIABLES

        args = ["referral_to_dynamics.yaml", "--env", "lab", "--input", "samples/referral_created.json", "--json"]
        outcomes = []
        for _ in range(2):
            done = process(args, cwd=lab, env=VARIABLES, timeout=30)
            assert done.returncode == 0, done.stdout + done.stderr
            outcomes.append(Said(done.returncode, done.stdout, done.stderr))
        assert outcomes[0].steps["upsert_lead"]["changed"]
        assert not any(s["changed"] for s in outcomes[1].steps.values())
        assert outcomes[0].end["outputs"] == outcomes[1].end["outputs"]
        taken = process(["sandbox", "--port", match[1].rpartition(":")[2]], cwd=home, timeout=30)
        assert taken.returncode == 2
        assert "Traceback" not in taken.stderr
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130
        assert "Traceback" not in (server.stderr.read() if server.stderr else "")


def test_ctrl_c_ends_a_run_with_130_and_it_can_be_resumed(home: Path) -> None:
    (home / "slow.yaml").write_text(
        "flow: slow\nconnections: {crm: sqlite}\nsteps:\n"
        "  once: {call: crm.create_lead, with: {lead: {company: Once}}}\n  rest: {wait: 50s}\n  end: {compose: 1}\n",
        "utf-8",
    )
    shutil.copy(home / "flows" / "connections.yaml", home)
    with running(["slow.yaml"], home) as child:
        assert child.stdout is not None
        assert "slow" in child.stdout.readline()
        assert "once" in child.stdout.readline()
        listed = flowrun("runs", "list", "--json", cwd=home).lines
        in_words(flowrun("runs", "resume", "last", cwd=home), 2, "running")
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert child.stderr is not None
        err = child.stderr.read()
        assert "interrupted" in err
        assert "Traceback" not in err
    assert [run["status"] for run in listed] == ["running"]
    (run,) = flowrun("runs", "list", "--status", "interrupted", "--json", cwd=home).lines
    assert run["status"] == "interrupted"


def test_ctrl_c_during_a_slow_answer(home: Path) -> None:
    connections = home / "flows" / "connections.yaml"
    slow = "sandbox: {emulate: {latency: 20s}}"
    connections.write_text(connections.read_text("utf-8").replace("sandbox: {emulate: true}", slow), "utf-8")
    with running([FLOW], home) as child:
        assert child.stdout is not None
        assert "referral_to_dynamics" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130


def test_a_reader_that_goes_away_is_no_crash(home: Path) -> None:
    shell = f"'{flowrun_command()}' runs list --json --limit 1000 | head -c 1"
    for _ in range(3):
        flowrun(FLOW, cwd=home)
    done = subprocess.run(
        ["bash", "-c", shell], cwd=home, env=surroundings(), capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


# One run for each item

EACH = """\
flow: each_of
triggers:
  by_hand:
    manual: {inputs: {type: object}}
    each: trigger.inputs.rows
    when: trigger.item.n > 1
    key: concat('row-', trigger.item.n)
steps:
  say: {compose: "{{ trigger.item.n }} of {{ trigger.index }}"}
outputs: {said: "{{ steps.say.body }}"}
"""


def test_a_trigger_with_each_starts_one_run_for_each_item(tmp_path: Path) -> None:
    (tmp_path / "each.yaml").write_text(EACH, "utf-8")
    given = json.dumps({"rows": [{"n": 1}, {"n": 2}, {"n": 3}]})
    said = flowrun("each.yaml", "--input", "-", "--json", cwd=tmp_path, stdin=given.encode())
    assert said.code == 0, said.all
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["key"] for line in lines if line["type"] == "run"] == ["row-2", "row-3"]
    assert [line["outputs"]["said"] for line in lines if line["type"] == "end"] == ["2 of 1", "3 of 2"]
    said = flowrun("each.yaml", "--input", "-", cwd=tmp_path, stdin=b'{"rows": 7}')
    assert said.code == 2
    assert "each needs a list, found a number" in said.all


# Runs that are started by a run

PARENT = """\
flow: parent
steps:
  go: {start: child, with: {n: 7}}
  again: {start: child, with: {n: 7}}
outputs: {first: "{{ steps.go.body }}", second: "{{ steps.again.body }}"}
"""
CHILD = """\
flow: child
triggers:
  by_hand: {manual: {inputs: {type: object}}, key: "concat('k', trigger.inputs.n)"}
steps:
  say: {compose: "{{ trigger.inputs.n }}"}
outputs: {n: "{{ steps.say.body }}"}
"""


def test_a_started_run_is_queued_once_and_follows(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT, "utf-8")
    (tmp_path / "child.yaml").write_text(CHILD, "utf-8")
    said = flowrun("parent.yaml", "--json", cwd=tmp_path)
    assert said.code == 0, said.all
    ends = [line for line in map(json.loads, said.out.splitlines()) if line["type"] == "end"]
    assert [end["status"] for end in ends] == ["succeeded", "succeeded"]
    first, second = ends[0]["outputs"]["first"], ends[0]["outputs"]["second"]
    assert (first["created"], second["created"]) == (True, False)
    assert first["run"] == second["run"] == ends[1]["run"]
    assert ends[1]["outputs"] == {"n": 7}


def test_a_flow_inside_a_flow_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "outer.yaml").write_text(
        "flow: outer\nsteps:\n  inner: {run: child, with: {n: 7}}\n"
        'outputs: {n: "{{ steps.inner.body.n }}"}\n', "utf-8"
    )  # fmt: skip
    (tmp_path / "child.yaml").write_text(CHILD.replace("trigger.inputs.n }}", "int('x') }}"), "utf-8")
    said = flowrun("outer.yaml", cwd=tmp_path)
    assert said.code == 1
    assert "child.yaml:5:3 (step inner/say)" in said.all
    (tmp_path / "child.yaml").write_text(CHILD, "utf-8")
    said = flowrun("runs", "resume", "last", cwd=tmp_path)
    assert said.code == 1, "it goes on by the text that it began with"
    said = flowrun("runs", "resume", "last", "--flow", "outer.yaml", "--json", cwd=tmp_path)
    assert said.code == 0, said.all
    assert json.loads(said.out.splitlines()[-1])["outputs"] == {"n": 7}


# Looking after runs


def test_a_run_is_submitted_again_cancelled_forgotten_and_removed(tmp_path: Path) -> None:
    (tmp_path / "child.yaml").write_text(CHILD, "utf-8")
    (tmp_path / "in.json").write_text('{"n": 7}', "utf-8")
    assert flowrun("child.yaml", "--input", "in.json", cwd=tmp_path).code == 0
    said = flowrun("runs", "resubmit", "last", "--json", cwd=tmp_path)
    assert (said.code, json.loads(said.out.splitlines()[-1])["outputs"]) == (0, {"n": 7})
    runs = [json.loads(line) for line in flowrun("runs", "list", "--json", cwd=tmp_path).out.splitlines()]
    assert runs[0]["forked_from"] == runs[1]["id"]
    said = flowrun("runs", "cancel", "last", cwd=tmp_path)
    assert (said.code, "is succeeded" in said.all) == (2, True)
    assert flowrun("runs", "forget", "k7", cwd=tmp_path).out == "2 runs forgotten\n"
    assert flowrun("runs", "forget", "k7", cwd=tmp_path).out == "0 runs forgotten\n"
    assert flowrun("runs", "prune", "--older-than", "1d", cwd=tmp_path).out == "0 runs removed\n"
    assert flowrun("runs", "prune", "--older-than", "0s", cwd=tmp_path).out == "2 runs removed\n"


def test_what_waits_says_what_for(tmp_path: Path) -> None:
    (tmp_path / "mail.yaml").write_text(
        "flow: mail\nconnections: {web: http}\nsteps:\n  send: {call: web.request, with: {method: POST, url: echo}}\n",
        "utf-8",
    )
    faults = "environments:\n  lossy: {emulate: {faults: {lost: 1}}}\n"
    (tmp_path / "connections.yaml").write_text(faults, "utf-8")
    assert flowrun("mail.yaml", "--env", "lossy", cwd=tmp_path).code == 3
    assert "for a person: did send happen?" in flowrun("runs", "list", "--waiting", cwd=tmp_path).out
    assert "waits for a person" in flowrun("runs", "show", "last", cwd=tmp_path).out
    assert flowrun("runs", "cancel", "last", cwd=tmp_path).code == 0
    assert flowrun("runs", "list", "--waiting", cwd=tmp_path).out == ""
