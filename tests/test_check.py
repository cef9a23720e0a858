"""The checks: every fault at its place, with its code and its remedy, and nothing else.

In the documents below `⟦` stands right before each place that a finding points at; it is no part of the document.
"""

# ruff: noqa: E501 - a document of the tables stands in one line
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import CATALOG, FLOWS, NOON, play, program

from engine.effects import Start
from engine.errors import ConfigError
from engine.expressions import Ambient
from engine.loader import Catalog, check, flow_schema, load, load_flow
from engine.loader.findings import DocumentError, Finding, Place
from engine.types import JSON

HEAD = "flow: f\nconnections: {desk: desk}\n"
ONE = "steps: {a: {compose: 1}}\n"


def found(text: str, connect: Mapping[str, str] | None = None) -> list[Finding]:
    return check(load(text, "f.yaml"), CATALOG, connect)[1]


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The document without its marks, and where they stood."""
    places = []
    while (at := text.find("⟦")) >= 0:
        places.append((text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
        text = text[:at] + text[at + 1 :]
    return text, places


@dataclass
class Broken:
    """A document with faults: a code for each mark, and what hint or expectation names as the remedy of the first."""

    rule: str
    text: str
    codes: str
    remedy: str = ""


# fmt: off
BROKEN = [
    # The form of a document
    Broken("an unknown key", f"{HEAD}⟦titel: x\n{ONE}", "UnknownKey", "did you mean 'title'?"),
    Broken("an unknown key of a step", f"{HEAD}steps:\n  a: {{compose: 1, ⟦whn: true}}\n", "UnknownKey", "did you mean 'when'?"),
    Broken("another kind's key", f"{HEAD}steps:\n  a: {{compose: 1, ⟦foreech: []}}\n", "UnknownKey", "known: "),
    Broken("no kind", f"{HEAD}steps:\n  a: {{⟦cal: desk.read}}\n", "UnknownKey", "did you mean 'call'?"),
    Broken("an empty step", f"{HEAD}steps:\n  ⟦a: {{}}\n", "NoKind", "one of append, call"),
    Broken("a step that is no object", f"{HEAD}steps:\n  a: ⟦desk.read\n", "WrongType", "object"),
    Broken("no steps", "⟦flow: f\n", "MissingKey"),
    Broken("no name", "⟦steps: {a: {compose: 1}}\n", "MissingKey"),
    Broken("an empty list of steps", f"{HEAD}steps: ⟦{{}}\n", "WrongValue"),
    Broken("a list of steps", f"{HEAD}steps: ⟦[]\n", "WrongType", "object"),
    Broken("a flow that is a list", "⟦[1]\n", "WrongType"),
    Broken("an empty document", "⟦", "Empty"),
    Broken("only a comment", "⟦# nothing\n", "Empty"),
    Broken("a flow's name", "flow: ⟦My Flow\nsteps: {a: {compose: 1}}\n", "Name", "a-z, 0-9 and _"),
    Broken("a step's name", f"{HEAD}steps:\n  ⟦A-b: {{compose: 1}}\n", "Name", "a-z, 0-9 and _"),
    Broken("an inner step's name", f"{HEAD}steps:\n  a: {{steps: {{⟦B: {{compose: 1}}}}}}\n", "Name", "a-z, 0-9 and _"),
    Broken("a kind without a needed key", f"{HEAD}steps:\n  ⟦a: {{foreach: [1]}}\n", "MissingKey"),
    Broken("a wrong type", f"{HEAD}steps:\n  a: {{call: ⟦7}}\n", "WrongType", "string"),
    Broken("no alias.operation", f"{HEAD}steps:\n  a: {{call: ⟦read}}\n", "WrongValue", "alias.operation"),
    Broken("one of several words", f"{HEAD}steps:\n  a: {{terminate: ⟦faild}}\n", "NotAllowed", "did you mean 'failed'?"),
    Broken("too small a number", f"{HEAD}steps:\n  a: {{call: desk.read, retry: {{count: ⟦-1}}}}\n", "WrongValue"),
    Broken("too great a number", f"{HEAD}steps:\n  a: {{foreach: [], concurrency: ⟦51, steps: {{b: {{compose: 1}}}}}}\n", "WrongValue"),
    Broken("a number with a point", f"{HEAD}steps:\n  a: {{call: desk.read, retry: {{count: ⟦1.5}}}}\n", "WrongType", "integer"),
    Broken("a duration", f"{HEAD}steps:\n  a: {{call: desk.read, timeout: ⟦ten minutes}}\n", "WrongValue", "10m"),
    Broken("a duration that is a number", f"{HEAD}steps:\n  a: {{call: desk.read, timeout: ⟦10}}\n", "WrongType", "string"),
    Broken("a duration of nothing", f"{HEAD}steps:\n  a: {{call: desk.read, timeout: ⟦PT}}\n", "WrongValue", "10m"),
    Broken("a wait for nothing", f"{HEAD}steps:\n  a: {{wait: ⟦P}}\n", "WrongValue", "10m"),
    Broken("a wait's key", f"{HEAD}steps:\n  a: {{wait: {{⟦untl: '2026-11-24'}}}}\n", "UnknownKey", "until"),
    Broken("two variables at once", f"{HEAD}variables: {{x: 0, y: 0}}\nsteps:\n  a: {{set: ⟦{{x: 1, y: 2}}}}\n", "WrongValue"),
    Broken("a status in run_after", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{run_after: {{a: ⟦failled}}, compose: 1}}\n", "NotAllowed", "did you mean 'failed'?"),
    Broken("a status in a list in run_after", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{run_after: {{a: [failed, ⟦late]}}, compose: 1}}\n", "NotAllowed", "timed_out"),
    Broken("a trigger without a kind", f"{HEAD}triggers:\n  t: {{⟦webhok: desk}}\n{ONE}", "UnknownKey", "did you mean 'webhook'?"),
    Broken("a schema that is none", f"{HEAD}steps:\n  a: {{parse: 1, schema: {{type: ⟦strng}}}}\n", "Schema"),
    Broken("a schema from elsewhere", f"{HEAD}steps:\n  a: {{parse: 1, schema: {{$ref: ⟦'https://example.com/x.json'}}}}\n", "Schema"),
    Broken("a schema that refers to nothing", f"{HEAD}steps:\n  a: {{parse: 1, schema: {{$ref: ⟦'#/$defs/x'}}}}\n", "Schema"),
    Broken("a duration beyond all time", f"{HEAD}steps:\n  a: {{wait: ⟦99999999999d}}\n", "WrongValue"),
    Broken("a key of an answer", f"{HEAD}steps:\n  a: {{respond: {{⟦stauts: 200}}}}\n", "UnknownKey", "did you mean 'status'?"),
    # Names and order
    Broken("a step twice", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{steps: {{⟦a: {{compose: 1}}}}}}\n", "DuplicateStep", "unique in the whole document"),
    Broken("a stranger in run_after", f"{HEAD}steps:\n  first: {{compose: 1}}\n  b: {{run_after: ⟦frist, compose: 1}}\n", "RunAfter", "did you mean 'first'?"),
    Broken("a stranger in run_after is one fault", f"{HEAD}steps:\n  first: {{compose: 1}}\n  b: {{run_after: ⟦frist, compose: '{{{{ steps.first.body }}}}'}}\n", "RunAfter", "did you mean 'first'?"),
    Broken("a step of another list in run_after", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{steps: {{c: {{run_after: [⟦a], compose: 1}}}}}}\n", "RunAfter"),
    Broken("a stranger among several", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{run_after: {{a: any, ⟦x: any}}, compose: 1}}\n", "RunAfter", "known: a"),
    Broken("itself in run_after", f"{HEAD}steps:\n  a: {{run_after: ⟦a, compose: 1}}\n", "RunAfter"),
    Broken("a cycle", f"{HEAD}steps:\n  a: {{run_after: ⟦b, compose: 1}}\n  b: {{run_after: a, compose: 1}}\n", "Cycle", "a → b → a"),
    # Connections and operations
    Broken("a connection", f"flow: f\nconnections: {{desk: ⟦dsek}}\n{ONE}", "UnknownConnection", "did you mean 'desk'?"),
    Broken("an alias", f"{HEAD}steps:\n  a: {{call: ⟦dek.read}}\n", "UnknownConnection", "did you mean 'desk'?"),
    Broken("an operation", f"{HEAD}steps:\n  a: {{call: desk.⟦raed}}\n", "UnknownOperation", "did you mean 'read'?"),
    Broken("an input", f"{HEAD}steps:\n  a: {{call: desk.read, with: {{⟦vlue: 1}}}}\n", "UnknownKey", "did you mean 'value'?"),
    Broken("a missing input", f"{HEAD}steps:\n  a: {{call: desk.lookup, ⟦with: {{}}}}\n", "MissingKey"),
    Broken("no inputs at all", f"{HEAD}steps:\n  ⟦a: {{call: desk.lookup}}\n", "MissingKey"),
    Broken("an input's type", f"{HEAD}steps:\n  a: {{call: desk.lookup, with: {{id: ⟦7}}}}\n", "WrongType", "string"),
    Broken("an input's range", f"{HEAD}steps:\n  a: {{call: desk.lookup, with: {{id: x, limit: ⟦11}}}}\n", "WrongValue"),
    Broken("an input's word", f"{HEAD}steps:\n  a: {{call: desk.lookup, with: {{id: x, mode: ⟦fsat}}}}\n", "NotAllowed", "did you mean 'fast'?"),
    Broken("a secure write", f"{HEAD}steps:\n  a: {{call: desk.send, ⟦secure: [outputs]}}\n", "SecureWrite", "done twice"),
    Broken("a webhook's connection", f"{HEAD}triggers: {{t: {{webhook: ⟦dsk}}}}\n{ONE}", "UnknownConnection", "did you mean 'desk'?"),
    Broken("a variable to change", f"{HEAD}variables: {{count: 0}}\nsteps:\n  a: {{increment: {{⟦cuont: 1}}}}\n", "UnknownVariable", "did you mean 'count'?"),
    # Expressions
    Broken("an expression that isn't closed", f"{HEAD}steps:\n  a: {{compose: 'x ⟦{{{{ 1'}}\n", "Expression", "close it"),
    Broken("an expression that ends early", f"{HEAD}steps:\n  a: {{compose: '{{{{ 1 +⟦ }}}}'}}\n", "Expression"),
    Broken("an expression in a condition", f"{HEAD}steps:\n  a: {{when: 1 ⟦) 2, compose: 1}}\n", "Expression"),
    Broken("a name", f"{HEAD}steps:\n  a: {{compose: '{{{{ ⟦varables.x }}}}'}}\n", "UnknownName", "did you mean 'variables'?"),
    Broken("a name in a condition", f"{HEAD}steps:\n  a: {{when: 1 == ⟦item, compose: 1}}\n", "UnknownName"),
    Broken("a step in an expression", f"{HEAD}steps:\n  first: {{compose: 1}}\n  b: {{compose: 'x {{{{ steps.⟦frist.body }}}}'}}\n", "UnknownStep", "did you mean 'first'?"),
    Broken("the second of two", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{compose: '{{{{ steps.a.body }}}} {{{{ steps.⟦x.body }}}}'}}\n", "UnknownStep"),
    Broken("nothing is appended to a number", f"{HEAD}variables: {{n: 0}}\nsteps: {{a: {{append: {{⟦n: 1}}}}}}\n", "WrongType", "'n' takes no items"),
    Broken("a list is not increased", f"{HEAD}variables: {{l: []}}\nsteps: {{a: {{increment: {{⟦l: 1}}}}}}\n", "WrongType", "'l' can't be increased"),
    Broken("a number stays a number", f"{HEAD}variables: {{n: 0}}\nsteps: {{a: {{set: {{n: ⟦hello}}}}}}\n", "WrongType", "is set to text"),
    Broken("a flow without triggers has no event", f"{HEAD}steps: {{a: {{compose: \"{{{{ trigger.⟦event.id }}}}\"}}}}\n", "UnknownMember", "inputs"),
    Broken("a response has a status of HTTP", f"{HEAD}steps: {{a: {{respond: {{status: ⟦abc}}}}}}\n", "WrongType", "integer"),
    Broken("a response's headers", f"{HEAD}steps: {{a: {{respond: {{headers: ⟦[a]}}}}}}\n", "WrongType", "object"),
    Broken("no time at all", f"{HEAD}steps: {{a: {{call: desk.read, timeout: ⟦0s}}}}\n", "WrongValue", "more than 0s"),
    Broken("words of the syntax are no names", f"{HEAD}steps: {{a: {{compose: \"{{{{ ⟦bad }}}}\"}}}}\n", "UnknownName", "names are"),
    Broken("a select names its item itself", f"{HEAD}steps: {{s: {{select: [1], map: \"{{{{ ⟦idx }}}}\"}}}}\n", "UnknownName", "'index'"),
    Broken("an unknown type in a user's schema", f"{HEAD}steps: {{p: {{parse: 1, schema: {{type: ⟦objekt}}}}, f: {{foreach: steps.p.body, steps: {{a: {{compose: 1}}}}}}}}\n", "Schema", "objekt"),
    Broken("a step by index", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{compose: \"{{{{ steps[⟦'x'].body }}}}\"}}\n", "UnknownStep", "known: a"),
    Broken("a parameter", f"{HEAD}parameters: {{source: {{}}}}\nsteps:\n  a: {{compose: '{{{{ parameters.⟦sorce }}}}'}}\n", "UnknownParameter", "did you mean 'source'?"),
    Broken("a variable", f"{HEAD}variables: {{count: 0}}\nsteps:\n  a: {{compose: '{{{{ variables.⟦cuont }}}}'}}\n", "UnknownVariable", "did you mean 'count'?"),
    Broken("a member of a step", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{compose: '{{{{ steps.a.⟦id }}}}'}}\n", "UnknownMember", "did you mean steps.a.body.id?"),
    Broken("a member of the run", f"{HEAD}steps:\n  a: {{compose: '{{{{ run.⟦nme }}}}'}}\n", "UnknownMember", "known: environment, flow, id"),
    Broken("a member of an event", f"{HEAD}triggers: {{t: {{webhook: desk}}}}\nsteps:\n  a: {{compose: '{{{{ trigger.event.⟦subjct }}}}'}}\n", "UnknownMember", "did you mean 'subject'?"),
    Broken("a member of what started by hand", f"{HEAD}triggers: {{t: {{manual: null}}}}\nsteps:\n  a: {{compose: '{{{{ trigger.⟦event }}}}'}}\n", "UnknownMember", "known: inputs"),
    Broken("a member of a closed type", f"{HEAD}steps:\n  a: {{call: desk.lookup, with: {{id: x}}}}\n  b: {{compose: '{{{{ steps.a.body.⟦nam }}}}'}}\n", "UnknownMember", "did you mean 'name'?"),
    Broken("a function", f"{HEAD}steps:\n  a: {{compose: '{{{{ ⟦lenght([]) }}}}'}}\n", "UnknownFunction", "did you mean 'length'?"),
    Broken("a connector's function", f"{HEAD}steps:\n  a: {{compose: '{{{{ ⟦desk.twise(1) }}}}'}}\n", "UnknownFunction", "did you mean 'desk.twice'?"),
    Broken("a filter", f"{HEAD}steps:\n  a: {{compose: '{{{{ 1 | ⟦lenght }}}}'}}\n", "UnknownFunction", "did you mean 'length'?"),
    Broken("too many arguments", f"{HEAD}steps:\n  a: {{compose: '{{{{ 1 + ⟦length([], 2) }}}}'}}\n", "Arguments", "length(list)"),
    Broken("too few arguments", f"{HEAD}steps:\n  a: {{compose: '{{{{ ⟦length() }}}}'}}\n", "Arguments", "length(list)"),
    Broken("a later step", f"{HEAD}steps:\n  a: {{compose: '{{{{ steps.⟦b.body }}}}'}}\n  b: {{compose: 1}}\n", "NotBefore", "move the step"),
    Broken("a step of a branch side by side", f"{HEAD}steps:\n  a: {{compose: 1}}\n  b: {{run_after: {{}}, compose: '{{{{ steps.⟦a.body }}}}'}}\n", "NotBefore", "add run_after: a"),
    Broken("itself", f"{HEAD}steps:\n  a: {{when: steps.⟦a.body == 1, compose: 1}}\n", "NotBefore"),
    Broken("a step inside itself", f"{HEAD}steps:\n  a: {{if: steps.⟦b.body == 1, then: {{b: {{compose: 1}}}}}}\n", "NotBefore"),
    Broken("the other branch", f"{HEAD}steps:\n  a: {{if: 1 < 2, then: {{b: {{compose: 1}}}}, else: {{c: {{compose: '{{{{ steps.⟦b.body }}}}'}}}}}}\n", "NotBefore"),
    Broken("into a loop", f"{HEAD}steps:\n  a: {{foreach: [1], steps: {{b: {{compose: 1}}}}}}\n  c: {{compose: '{{{{ steps.⟦b.body }}}}'}}\n", "IntoLoop", "give the loop a `result:`"),
    Broken("into a loop from its own list", f"{HEAD}steps:\n  a: {{foreach: 'steps.⟦b.body', steps: {{b: {{compose: 1}}}}}}\n", "IntoLoop"),
    Broken("into a loop from the outputs", f"{HEAD}steps:\n  a: {{until: true, steps: {{b: {{compose: 1}}}}}}\noutputs: {{x: '{{{{ steps.⟦b.body }}}}'}}\n", "IntoLoop", "steps.a.body"),
    Broken("a step in a trigger", f"{HEAD}triggers: {{t: {{manual: null, key: ⟦steps.a.body}}}}\n{ONE}", "NotBefore"),
    Broken("a loop's name outside", f"{HEAD}steps:\n  a: {{foreach: [1], as: row, steps: {{b: {{compose: '{{{{ row }}}}'}}}}}}\n  c: {{compose: '{{{{ ⟦row }}}}'}}\n", "UnknownName"),
    Broken("an output", f"{HEAD}{ONE}outputs: {{x: '{{{{ steps.⟦b.body }}}}'}}\n", "UnknownStep"),
    Broken("an alert's call", f"{HEAD}{ONE}alerts: {{to: desk.⟦sned}}\n", "UnknownOperation", "did you mean 'send'?"),
    # YAML
    Broken("a key twice", f"{HEAD}steps:\n  a: {{compose: 1}}\n  ⟦a: {{compose: 2}}\n", "DuplicateKey", "remove or rename"),
    Broken("an expression without quotes", f"{HEAD}steps:\n  a:\n    compose: ⟦{{{{ steps.b }}}}\n", "UnquotedTemplate", 'put quotes around it: "{{ … }}"'),
    Broken("an expression without quotes, with text after it", f"{HEAD}steps:\n  a:\n    compose: ⟦{{{{ 1 }}}} x\n", "UnquotedTemplate", "put quotes around"),
    Broken("an expression without quotes in a list", f"{HEAD}steps:\n  a:\n    compose: [1, ⟦{{{{ x }}}}]\n", "UnquotedTemplate", "put quotes around"),
    Broken("a tab", f"{HEAD}steps:\n⟦\ta: {{compose: 1}}\n", "YamlSyntax", "indent with spaces"),
    Broken("a colon in a text", f"{HEAD}title: this⟦: that\n{ONE}", "YamlSyntax", "in quotes"),
    Broken("a tag", f"{HEAD}steps:\n  a: {{compose: ⟦!secret x}}\n", "Tag", "no YAML tags"),
    Broken("a tag on an object", f"{HEAD}steps:\n  a: {{compose: ⟦!thing {{x: 1}}}}\n", "Tag", "no YAML tags"),
    Broken("a tag on a list", f"{HEAD}steps:\n  a: {{compose: ⟦!!set [x]}}\n", "Tag", "no YAML tags"),
    Broken("a tag that doesn't fit", f"{HEAD}steps:\n  a: {{compose: ⟦!!int x}}\n", "Tag", "no YAML tags"),
    Broken("a merge of a text", f"{HEAD}steps:\n  a: {{compose: {{⟦<<: x}}}}\n", "Merge"),
    Broken("an alias of nothing", f"{HEAD}steps:\n  a: {{compose: ⟦*x}}\n", "Alias"),
    Broken("two documents", f"{HEAD}{ONE}⟦---\nflow: g\n", "YamlSyntax"),
    Broken("a bracket that isn't closed", f"{HEAD}steps: {{a: {{compose: ⟦[1}}\n", "YamlSyntax"),
    Broken("a character that YAML forbids", f"{HEAD}title: 'x⟦\x07'\n{ONE}", "YamlSyntax"),
]
# fmt: on


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.rule)
def test_broken(broken: Broken) -> None:
    text, places = marked(broken.text)
    findings = found(text)
    assert [(f.place.line, f.place.column, f.code) for f in findings] == [
        (*place, code) for place, code in zip(places, broken.codes.split(), strict=True)
    ], "\n".join(map(str, findings))
    first = findings[0]
    words = f"{first.hint} {first.expected} {first.message}"
    assert broken.remedy in words, words
    assert first.source == text.replace("\r\n", "\n").split("\n")[first.place.line - 1].rstrip()
    assert "None" not in str(first) and "Traceback" not in str(first)


def test_there_are_many_rules() -> None:
    assert len(BROKEN) >= 45


def test_several_faults_are_all_found_in_the_order_of_the_text() -> None:
    text, places = marked(
        "flow: f\n⟦titel: x\nconnections: {desk: desk, other: ⟦nosuch}\n"
        "triggers: {t: {webhook: ⟦desc}}\nvariables: {n: 0}\n"
        "steps:\n"
        "  a: {call: desk.lookup, with: {id: x, ⟦lmit: 1}}\n"
        "  b: {call: desk.⟦reed}\n"
        "  c: {compose: '{{ steps.⟦x.body }} {{ ⟦nothing }}'}\n"
        "  d: {increment: {⟦m: 1}}\n"
        "  ⟦e: {what: 1}\n"
        "  f: {run_after: [⟦z], compose: 1}\n"
        "outputs: {x: '{{ parameters.⟦p }}'}\n"
    )
    findings = found(text)
    assert [(f.place.line, f.place.column) for f in findings] == places, "\n".join(map(str, findings))
    assert [f.code for f in findings] == [
        "UnknownKey", "UnknownConnection", "UnknownConnection", "UnknownKey", "UnknownOperation", "UnknownStep",
        "UnknownName", "UnknownVariable", "NoKind", "RunAfter", "UnknownParameter",
    ]  # fmt: skip


def test_a_part_that_does_not_fit_brings_no_followers() -> None:
    """What refers to a broken step is no fault of its own."""
    text = (
        f"{HEAD}variables: {{n: 0}}\nsteps:\n  a: {{call: 7}}\n  b: {{foreach: [1], steps: {{c: {{compose: 1, x: 2}}}}, result: '{{{{ steps.c.body }}}}'}}\n"
        "  d: {when: steps.a.body and steps.b.body, compose: '{{ steps.b.body }}'}\n  e: {run_after: [a, d], compose: 1}\n"
    )
    assert [f.code for f in found(text)] == ["WrongType", "UnknownKey"]


def test_load_flow_raises_all_findings() -> None:
    with pytest.raises(DocumentError, match="2 errors found") as caught:
        load_flow(f"{HEAD}x: 1\ny: 2\n{ONE}", "f.yaml", CATALOG)
    assert [f.place for f in caught.value.findings] == [Place("f.yaml", 3, 1), Place("f.yaml", 4, 1)]


def test_a_finding_shows_its_line() -> None:
    (finding,) = found(f"{HEAD}steps:\n  a: {{cal: desk.read}}\n")
    assert str(finding).split("\n")[:3] == [
        "f.yaml:4:7: error[UnknownKey]: unknown key 'cal'",
        "    4 |   a: {cal: desk.read}",
        "              ^",
    ]


def test_a_finding_names_its_step() -> None:
    text = f"{HEAD}steps:\n  a: {{cal: desk.read}}\n  b: {{steps: {{c: {{compose: 1, x: 1}}, d: {{compose: '{{{{ nothing }}}}'}}}}}}\n"
    assert [f.json().get("step") for f in found(text)] == ["a", "c", "d"]


# Open types warn


def test_a_near_miss_in_an_open_type_is_a_warning() -> None:
    text, places = marked(
        f"{HEAD}steps:\n  a: {{call: desk.find, with: {{id: x}}}}\n  b: {{compose: '{{{{ steps.a.body.⟦nmae }}}}'}}\n"
        "  c: {compose: '{{ steps.a.body.something_else }}'}\n"
    )
    flow, (finding,) = check(load(text, "f.yaml"), CATALOG)
    assert flow is not None
    assert (finding.severity, finding.code, finding.hint) == ("warning", "UnknownMember", "did you mean 'name'?")
    assert [(finding.place.line, finding.place.column)] == places


# Swapped connections


def test_connect_swaps_a_connection() -> None:
    text = "flow: f\nconnections: {crm: nosuch}\nsteps: {a: {call: crm.read}}\n"
    assert [f.code for f in found(text)] == ["UnknownConnection"]
    assert found(text, {"crm": "desk"}) == []
    (finding,) = found(text.replace("nosuch", "desk"), {"cmr": "desk"})
    assert (finding.code, finding.hint, finding.place.line) == ("UnknownConnection", "did you mean 'crm'?", 2)


def test_a_broken_connector_is_a_finding() -> None:
    class Entries(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            raise ConfigError("no module named x", code="Plugin", hint="install it")

    _, (finding,) = check(load(f"{HEAD}{ONE}", "f.yaml"), Catalog({}, Entries(desk=None)))
    assert (finding.code, finding.hint, finding.place.line, finding.place.column) == ("Connector", "install it", 2, 21)


# What is right


VALID = {
    "every kind": """
        flow: all
        title: All
        note: of them
        connections: {desk: desk}
        triggers:
          hand: {manual: {inputs: {type: object}}}
          hook: {webhook: desk, events: [created], key: trigger.event.id, lane: "{{ trigger.event.subject }}"}
        parameters: {p: {type: string, default: x}, q: {}}
        variables: {n: 0, rows: [], note: {type: string}}
        steps:
          call: {call: desk.lookup, with: {id: "{{ parameters.p }}", limit: "{{ variables.n }}"}, timeout: 1m30s}
          set: {set: {note: "{{ steps.call.body.name }}"}}
          append: {append: {rows: {a: 1}}}
          increment: {increment: {n: 2}}
          compose: {compose: null}
          parse: {parse: "{{ steps.call.body.tags[0] }}", schema: {type: string}, secure: [inputs, outputs]}
          select: {select: steps.call.body.tags, where: index > 0, map: {"{{ item }}": 1}}
          if: {if: "{{ steps.call.body.name == null }}", then: {t: {compose: 1}}, else: {e: {compose: 2}}}
          switch: {switch: parameters.p, cases: {1: {one: {compose: 1}}, a b: {two: {compose: 2}}}, default: {three: {compose: 3}}}
          foreach: {foreach: [1, "{{ 2 }}"], as: row, concurrency: 2, steps: {f: {compose: "{{ row }} {{ index }}"}}, result: "{{ steps.f.body }} {{ row }}"}
          until: {until: steps.u.body == index, limit: {count: 2, timeout: PT1H}, on_limit: succeed, steps: {u: {compose: 0}}, result: "{{ steps.u.body }}"}
          wait: {wait: {until: "2026-11-24"}}
          nap: {wait: 10s}
          scope: {steps: {inner: {call: desk.send, retry: {count: 0, interval: 1s, max_interval: 2s, kind: fixed}}}}
          respond: {respond: {status: 200, body: "{{ steps.inner.body }} {{ steps.scope.error.code }}"}}
          terminate: {when: false, terminate: failed, error: {code: X, message: "{{ steps.one.status }}"}}
        outputs: {a: "{{ steps.foreach.body }}", b: "{{ steps.t.body ~ steps.call.outputs.x }}"}
        business_key: steps.call.body.id
        """,
    "order": """
        flow: order
        steps:
          last: {run_after: {first: [failed, timed_out], second: any}, compose: "{{ steps.first.error }}"}
          first: {run_after: {}, compose: 1}
          second: {run_after: first, compose: "{{ steps.first.body }}"}
          box: {run_after: [second], steps: {in_box: {compose: "{{ steps.second.body }}"}}}
          after: {compose: "{{ steps.in_box.body }}"}
        """,
    "a handler reads what failed": """
        flow: handler
        steps:
          try: {steps: {a: {compose: 1}, b: {compose: 2}}}
          catch: {run_after: {try: failed}, compose: "{{ steps.try.error.step }} {{ steps.b.error.message }}"}
        """,
    "nested loops": """
        flow: loops
        steps:
          outer:
            foreach: [[1]]
            as: row
            steps:
              before: {compose: 1}
              inner: {foreach: row, steps: {x: {compose: "{{ row }} {{ item }} {{ steps.before.body }}"}}, result: "{{ steps.x.body }}"}
            result: "{{ steps.inner.body }}"
        """,
    "braces in text": """
        flow: braces
        steps:
          a: {compose: "{{ {'x': {'y': 1}} }} } {{ '}}' }} {{ \\"{{\\" }}"}
          b: {compose: "{% no block %} ${x} {x}"}
        """,
    "functions and filters": """
        flow: functions
        connections: {desk: desk}
        steps:
          a: {compose: "{{ if(true, 1, 2) + length([1]) }} {{ desk.twice('a') }} {{ coalesce(null, 'x') | concat('y') }} {{ and(true, or(false, true)) }}"}
          b: {when: "steps.a.body is string and steps.a.body not in ['x']", compose: "{{ [1, 2] | map('concat') }}"}
        """,
}


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    import textwrap

    assert [str(f) for f in found(textwrap.dedent(VALID[name]).lstrip())] == []


@pytest.mark.parametrize("file", sorted(FLOWS.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_documents_of_the_rules_are_valid(file: Path) -> None:
    findings = found(file.read_text(encoding="utf-8").partition("\n---\n")[0])
    assert [str(f) for f in findings if f.severity == "error"] == []


SHIPPED = sorted((Path(__file__).parent.parent / "flows").glob("*.yaml"))


@pytest.mark.parametrize(
    "file", [f for f in SHIPPED if f.stem != "connections" and "." not in f.stem], ids=lambda f: f.stem
)
def test_the_flows_that_ship_are_valid(file: Path) -> None:
    from connectors.dynamics365.connector import Dynamics365
    from connectors.partner_center.connector import PartnerCenter
    from connectors.sqlite.connector import SqliteCrm
    from engine.functions import FUNCTIONS

    entries = {"partner_center": PartnerCenter, "dynamics365": Dynamics365, "sqlite": SqliteCrm}
    document = load(file.read_text(encoding="utf-8"), file.name)
    for crm in ("dynamics365", "sqlite"):
        connect = {"crm": crm} if "crm" in document.data["connections"] else {}
        flow, findings = check(load(document.text, file.name), Catalog(FUNCTIONS, entries), connect)
        assert [str(f) for f in findings] == [] and flow is not None


# YAML as JSON knows it


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("Off", "Off"), ("True", "True"), ("NULL", "NULL"), ("012", "012"),
        ("0x1F", "0x1F"), ("0o17", "0o17"), ("1_000", "1_000"), ("12:30", "12:30"), ("12:30:45", "12:30:45"),
        ("2026-11-24", "2026-11-24"), ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"), ("+1", "+1"), (".5", ".5"),
        ("5.", "5."), (".inf", ".inf"), (".nan", ".nan"), ("NaN", "NaN"), ("=", "="), ("1e", "1e"),
        ("-012", "-012"), ("true", True), ("false", False), ("null", None), ("~", None), ("", None), ("0", 0),
        ("-0", 0), ("-7", -7), ("12345678901234567890", 12345678901234567890), ("1.5", 1.5), ("-1.5e-3", -0.0015),
        ("1e3", 1000.0), ("'7'", "7"), ('"null"', "null"), ("!!str 7", "7"), ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"), ("[1, no, {a: on}]", [1, "no", {"a": "on"}]), ("{a: }", {"a": None}),
        ("{1: x, null: y, true: z}", {"1": "x", "null": "y", "true": "z"}), ("😀", "😀"),
    ],
)  # fmt: skip
def test_scalars(text: str, value: JSON) -> None:
    document = load(f"x: {text}", "f.yaml")
    assert document.findings == []
    assert document.data == {"x": value}
    assert type(document.data["x"]) is type(value)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 5000])
def test_numbers_that_json_does_not_know(text: str) -> None:
    document = load(f"x: {text}\n", "f.yaml")
    if not document.findings:
        json.dumps(document.data, allow_nan=False)
        assert isinstance(document.data["x"], str)
    else:
        assert (document.findings[0].place.line, document.findings[0].place.column) == (1, 4)


def test_anchors_and_merge_keys() -> None:
    document = load(
        "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2, z: 2}\nc: {<<: *b, z: 3}\nd: {<<: [*b, *a], w: 4}\ne: *a\n"
        "f: {w: 1, <<: *a}\ng: {'<<': *a}\n",
        "f.yaml",
    )
    assert document.findings == []
    assert document.data["b"] == {"y": 2, "z": 2, "x": 1}
    assert document.data["c"] == {"z": 3, "y": 2, "x": 1}
    assert document.data["d"] == {"w": 4, "x": 1, "y": 2, "z": 2}
    assert document.data["e"] == {"x": 1, "y": 1}
    assert document.data["f"] == {"w": 1, "x": 1, "y": 1}
    assert document.data["g"] == {"<<": {"x": 1, "y": 1}}


def test_duplicates_are_told_with_their_first_place() -> None:
    document = load("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    assert [(f.place.line, f.place.column, f.code, f.message) for f in document.findings] == [
        (2, 11, "DuplicateKey", "'c' stands twice; first in line 2"),
        (3, 1, "DuplicateKey", "'a' stands twice; first in line 1"),
    ]


def test_a_byte_order_mark_and_windows_line_ends() -> None:
    text, places = marked("flow: f\nsteps:\n  a:\n    compose: 1\n    ⟦whn: x\n")
    for form in (text, "\ufeff" + text, text.replace("\n", "\r\n"), "\ufeff" + text.replace("\n", "\r\n")):
        (finding,) = found(form)
        assert [(finding.place.line, finding.place.column)] == places
        assert finding.source == "    whn: x"
    assert load("x: |\r\n  a\r\n  b\r\n", "f.yaml").data == {"x": "a\nb\n"}


def test_columns_count_characters() -> None:
    text, places = marked("flow: f\nsteps:\n  a: {title: 'Zürich 😀 東京', ⟦whn: x, compose: 1}\n")
    (finding,) = found(text)
    assert [(finding.place.line, finding.place.column)] == places


def test_limits() -> None:
    too_large = load("x: '" + "a" * 1024 * 1024 + "'\n", "f.yaml")
    assert [(f.code, f.place.line, f.place.column) for f in too_large.findings] == [("TooLarge", 1, 1)]
    deep = load("x: " + "[" * 70 + "]" * 70, "f.yaml")
    assert ["64 levels" in f.message for f in deep.findings] == [True]
    assert load("x: " + "[" * 60 + "]" * 60, "f.yaml").findings == []
    many = load("x: [" + "1," * 100_001 + "]", "f.yaml")
    assert ["100000 nodes" in f.message for f in many.findings] == [True]
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=False)
    )
    assert ["100000 nodes" in f.message for f in load(bomb, "f.yaml").findings] == [True]
    for circle in ("x: &x [*x]\n", "x: &x {y: *x}\n", "x: &x {<<: *x}\n"):
        assert load(circle, "f.yaml").findings, circle
    assert load("[" * 200_000, "f.yaml").findings


# The schema, and what may not break the checks


def test_the_schema_is_one_and_draft_2020_12() -> None:
    from jsonschema import Draft202012Validator

    calls = {"desk.read": {"type": "object", "properties": {"value": {}}, "additionalProperties": False}}
    schema = flow_schema(calls)
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"flow": "f", "steps": {"a": {"call": "desk.read", "with": {"value": "{{ x }}"}}}})
    assert not validator.is_valid({"flow": "f", "steps": {"a": {"call": "desk.read", "with": {"other": 1}}}})


def test_checking_changes_nothing_and_can_be_repeated() -> None:
    document = load(f"{HEAD}steps:\n  a: {{call: 7, x: 1}}\n", "f.yaml")
    before = json.dumps(document.data)
    first = check(document, CATALOG)[1]
    assert json.dumps(document.data) == before
    assert [str(f) for f in check(document, CATALOG)[1]] == [str(f) for f in first]


WORDS = st.sampled_from(
    ["a", "b", "", "desk.read", "steps.a.body", "{{ steps.a }}", "{{", "x }}", "1m", "failed", "any", "item", "'", "⟦"]
)
KEYS = st.sampled_from(
    ["a", "b", "A", "call", "with", "if", "then", "else", "switch", "cases", "default", "foreach", "until", "steps",
     "run_after", "when", "set", "append", "compose", "parse", "schema", "select", "where", "map", "wait", "terminate",
     "error", "retry", "timeout", "secure", "result", "limit", "respond", "title", "type", "manual", "webhook"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.floats(-2, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TOP = ["flow", "steps", "triggers", "connections", "parameters", "variables", "outputs", "alerts", "business_key"]


@settings(deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(TOP), VALUES, max_size=4), st.dictionaries(st.sampled_from("abc"), VALUES))
def test_no_document_breaks_the_checks(top: dict[str, Any], steps: dict[str, Any]) -> None:
    """Whatever it holds: findings, or a program that runs to some end."""
    data = {"flow": "f", "connections": {"desk": "desk"}, "steps": steps, **top}
    flow, findings = check(load(json.dumps(data), "f.yaml"), CATALOG)
    assert flow is None or not [f for f in findings if f.severity == "error"]
    if flow is not None:
        assert play(flow, start=Start(run="r")).status in ("succeeded", "failed", "cancelled", "waiting")


@settings(deadline=None, max_examples=200, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.sampled_from(list("ab:{}[]'\"&*!|>-,#~\n\t 1<?%@\\é")), max_size=40))
def test_no_text_breaks_the_loader(text: str) -> None:
    document = load(text, "f.yaml")
    check(document, CATALOG)
    for finding in document.findings:
        assert finding.place.line >= 1 and finding.place.column >= 1
        assert str(finding)


@settings(deadline=None, max_examples=200, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from([*"ab.()[]{}'\"|~+-*/%<>=!,: 1", "steps", "not ", " is ", " if ", "length"])).map("".join)
)
def test_no_expression_breaks_anything(source: str) -> None:
    """It is refused with its place, or gives JSON, or fails as a DataError."""
    from engine.errors import DataError
    from engine.expressions import ExpressionError, Expressions

    expressions = Expressions(CATALOG.functions)
    try:
        expressions.parse(source)
    except ExpressionError as error:
        assert 0 <= error.offset <= len(source)
        return
    try:
        value = expressions.evaluate(source, {"a": 1, "b": {"a": [1]}, "steps": {}}, Ambient(NOON, "seed"))
    except DataError:
        return
    json.dumps(value, allow_nan=False)


def test_a_flow_by_the_helper_is_checked() -> None:
    with pytest.raises(DocumentError):
        program("steps: {a: {call: desk.nosuch}}\n")
