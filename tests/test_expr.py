"""`flowrun expr`: one expression, or many, one a line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from terminal import Said, flowrun
from test_wdl_cases import CONTEXT, ERROR, VALUES


def lines(said: Said) -> list[Any]:
    return [json.loads(line) for line in said.out.splitlines()]


def asked(*cases: Any) -> bytes:
    return "".join(json.dumps(case) + "\n" for case in cases).encode()


def expr(folder: Path, *args: str, stdin: bytes = b"") -> Said:
    return flowrun("expr", *args, cwd=folder, stdin=stdin)


@pytest.mark.parametrize(
    ("args", "out"),
    [
        (["1 + 2"], "3"),
        (["{{ 1 + 2 }}"], "3"),
        (["it is {{ 1 + 2 }}"], '"it is 3"'),
        (["concat('ä', null)"], '"ä"'),
        (["--wdl", "@concat('a', 1)"], '"a1"'),
        (["--wdl", "it is @{add(1, 2)}"], '"it is 3"'),
        (["--wdl", "plain"], '"plain"'),
        (["--wdl", "@null"], "null"),
        (["'\\ud800'"], '"\\ud800"'),
        (["--to-jinja", "@body('Get it')?['x']"], "{{ steps.get_it.body.x }}"),
        (["--to-jinja", "it is @{variables('Count')}"], "it is {{ variables.count }}"),
        (["--to-jinja", "@true"], "true"),
        (["--to-jinja", "plain"], "plain"),
    ],
)
def test_one_expression(tmp_path: Path, args: list[str], out: str) -> None:
    said = expr(tmp_path, *args)
    assert (said.code, said.out) == (0, out + "\n"), said.all


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["concat("], "unexpected"),
        (["nothing.x"], "'nothing' is undefined"),
        (["--wdl", "@nothing()"], "there is no function 'nothing'"),
        (["--wdl", "@div(1, 0)"], "division by zero"),
        (["--wdl", "@variables('x')"], "there is no variable 'x'"),
        (["--to-jinja", "@concat("], "too early"),
        (["1", "--context", "nowhere.json"], "can't read nowhere.json"),
        ([], "either an EXPRESSION, or --jsonl"),
        (["1", "--jsonl"], "either an EXPRESSION, or --jsonl"),
    ],
)
def test_what_is_wrong_ends_with_2(tmp_path: Path, args: list[str], words: str) -> None:
    said = expr(tmp_path, *args)
    assert said.code == 2
    assert words in said.err
    assert not said.out


def test_context(tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text(json.dumps({**CONTEXT, "steps": {"mine": {"body": 5}}}), encoding="utf-8")
    for args, out in (
        (["--wdl", "@outputs('Get_items')?['body/value'][0]['id']"], "1"),
        (["--wdl", "@utcNow('yyyy')"], '"2018"'),
        (["steps.get_items.body.value[0].id + variables.count"], "4"),
        (["trigger.inputs.person.name ~ variables['CustomerName'] ~ variables.customer_name"], '"SophiaSophiaSophia"'),
        (["steps.mine.body"], "5"),
        (["item.n"], "4"),
    ):
        said = expr(tmp_path, *args, "--context", "context.json")
        assert (said.code, said.out) == (0, out + "\n"), said.all
    said = expr(tmp_path, "--to-jinja", "@variables('nope')", "--context", "context.json")
    assert (said.code, said.out) == (2, "")
    assert "there is no variable 'nope'" in said.err


@pytest.mark.parametrize("context", ["[1]", '{"actions": []}', '{"actions": {"a": 1}}', '{"now": "noon"}', "{"])
def test_a_context_of_another_form(tmp_path: Path, context: str) -> None:
    said = expr(tmp_path, "1", "--context", "-", stdin=context.encode())
    assert said.code == 2
    assert "context" in said.err or "no JSON" in said.err


def test_lines(tmp_path: Path) -> None:
    said = expr(
        tmp_path,
        "--wdl",
        "--jsonl",
        stdin=asked(
            {"id": 1, "expr": "@concat('a', variables('x'))", "context": {"variables": {"x": 5}}},
            {"id": "two", "expr": "@variables('x')", "context": {}},
            {"id": 3, "expr": "text @{toUpper('ß')}"},
            {"id": 4, "expr": "@f("},
            {"id": 5, "expr": "@triggerBody()", "context": {"trigger": {"outputs": {"body": {"a": [None]}}}}},
            {"id": 6, "expr": "\ud800"},
            {"id": 7, "expr": 7},
            {"id": 8, "context": []},
            {"id": 9, "expr": "@utcNow()", "context": {"now": "2026-11-24T12:00:00.5+01:00"}},
        )
        + b"\nno json\n[1]\n",
    )
    assert said.code == 0, said.all
    found = lines(said)
    assert [line["id"] for line in found] == [1, "two", 3, 4, 5, 6, None, None, 9, None, None]
    assert [line.get("value") for line in found] == ["a5", None, "text ß", None, {"a": [None]}, "\ud800", None, None,
                                                     "2026-11-24T11:00:00.5000000Z", None, None]  # fmt: skip
    assert [n for n, line in enumerate(found) if "error" in line] == [1, 3, 6, 7, 9, 10]
    assert found[1]["error"] == "there is no variable 'x'"


def test_lines_in_jinja_and_into_it(tmp_path: Path) -> None:
    said = expr(
        tmp_path, "--jsonl", stdin=asked({"id": 1, "expr": "a {{ variables.x }}", "context": {"variables": {"x": 5}}})
    )
    assert lines(said) == [{"id": 1, "value": "a 5"}]
    said = expr(
        tmp_path, "--jsonl", "--to-jinja", stdin=asked({"id": 1, "expr": "@variables('X')"}, {"id": 2, "expr": "@5"})
    )
    assert lines(said) == [{"id": 1, "value": "{{ variables.x }}"}, {"id": 2, "value": 5}]


def test_every_case_by_lines_and_fast(tmp_path: Path) -> None:
    """All cases, each in several versions that differ: at least 500 a second, as they come from elsewhere."""
    cases = [{"id": n, "expr": text, "context": CONTEXT} for n, (text, _) in enumerate(VALUES)]
    more = [
        {
            "id": n,
            "expr": f"@concat('{n}', toUpper(variables('CustomerName')), string(variables('count')))",
            "context": CONTEXT,
        }
        for n in range(len(cases), 1500)
    ]
    expr(tmp_path, "--wdl", "--jsonl", stdin=asked(cases[0]))  # what is read from disk once
    began = time.perf_counter()
    said = expr(tmp_path, "--wdl", "--jsonl", stdin=asked(*cases, *more))
    took = time.perf_counter() - began
    found = lines(said)
    assert [line["id"] for line in found] == list(range(1500))
    for line, (text, wanted) in zip(found, VALUES, strict=False):
        assert ("error" in line) == (wanted is ERROR), text
        assert wanted is ERROR or line["value"] == wanted, text
    assert took < 1500 / 500 * 1.5, f"{1500 / took:.0f} a second"  # half as much again: the machine may be busy
