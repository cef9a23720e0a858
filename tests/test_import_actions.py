"""What `flowrun import` makes of each type of action and trigger: step by step, as the flow has them then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from definitions import PACKAGES, after, definition, everything

from engine.loader import load
from engine.wdl.convert import Conversion
from engine.wdl.package import Source
from engine.wdl.relaxed import Text
from engine.wdl.writer import written


def convert(given: dict[str, Any], *, cloud: bool = True, **options: Any) -> tuple[dict[str, Any], Conversion]:
    """The flow, which is what its YAML says too, and what is reported."""
    text = Text("definition.json", given, json.dumps(given))
    conversion = Conversion(Source("All of it", given, text, cloud=cloud), "all_of_it", **options)
    flow = conversion.convert()
    document = load(written(flow), "all_of_it.yaml")
    assert not document.findings, document.findings
    assert document.data == flow
    return flow, conversion


def steps(actions: dict[str, Any], **options: Any) -> dict[str, Any]:
    return convert(definition(actions), **options)[0]["steps"]


def cases(file: str) -> list[dict[str, Any]]:
    """Cases of `there` and `here`."""
    document = load((PACKAGES / file).read_text(encoding="utf-8"), file)
    assert not document.findings
    return list(document.data)


def there(case: dict[str, Any]) -> str:
    given = case["there"]
    return str(given.get("type") if isinstance(given, dict) and "type" in given else given)[:60]


def step(action: dict[str, Any], *before: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The step that one action becomes; those before it are called A1, A2 …"""
    others = {
        f"A{n}": {**a, "runAfter": {f"A{n - 1}": ["Succeeded"]} if n > 1 else {}} for n, a in enumerate(before, 1)
    }
    chained = {**action, "runAfter": {f"A{len(before)}": ["Succeeded"]} if before else {}}
    found = steps({**others, "The step": chained}, **options)["the_step"]
    assert found.pop("title") == "The step"
    return found


def init(name: str, kind: str, **value: Any) -> dict[str, Any]:
    return {"type": "InitializeVariable", "inputs": {"variables": [{"name": name, "type": kind, **value}]}}


def compose(value: Any) -> dict[str, Any]:
    return {"type": "Compose", "inputs": value}


ALIST = init("List", "array", value=[])
NUMBER = init("n", "integer", value=1)
TEXT = init("Some text", "string", value="")
CALL = {"type": "Http", "inputs": {"method": "GET", "uri": "https://api.example.com/x"}}


@pytest.mark.parametrize("case", cases("actions.yaml"), ids=there)
def test_an_action(case: dict[str, Any]) -> None:
    assert step(case["there"], *case.get("after", [])) == case["here"]


@pytest.mark.parametrize("case", cases("conditions.yaml"), ids=there)
def test_conditions(case: dict[str, Any]) -> None:
    assert step({"type": "If", "expression": case["there"], "actions": {}}, NUMBER, ALIST)["if"] == case["here"]


@pytest.mark.parametrize("case", cases("references.yaml"), ids=there)
def test_what_an_expression_refers_to(case: dict[str, Any]) -> None:
    found = steps(
        {
            "N": init("n", "Integer", value=1),
            "Get": {**CALL, **after("N")},
            "Set": {"type": "SetVariable", "inputs": {"name": "n", "value": 2}, **after("Get")},
            "Try": {"type": "Scope", "actions": {"In": compose(1)}, **after("Set")},
            "The step": {**compose(case["there"]), "runAfter": {"Try": ["Succeeded", "Failed"]}},
        }
    )
    assert found["the_step"]["compose"] == case["here"]


@pytest.mark.parametrize(
    "expression",
    [
        "@workflow()['id']",
        "@triggerOutputs()['status']",
        "@trigger()['clientTrackingId']",
        "@actions('A1')['startTime']",
        "@actions('A1')['inputs']",
        "@items('A1')",
        "@item()",
        "@iterationIndexes('A1')",
        "@outputs('A2')",
        "@action()['status']",
        "@listCallbackUrl()",
        "@noFunction()",
        "@variables('nothing')",
        "@body('Nothing')",
        "@concat('x'",
    ],
)
def test_what_cannot_be_said_is_left_to_a_person(expression: str) -> None:
    given = {
        "A1": CALL,
        "A2": {"type": "Scope", "actions": {"In": compose(1)}, **after("A1")},
        "It": {**compose([expression]), **after("A2")},
    }
    flow, conversion = convert(definition(given))
    assert flow["steps"]["it"]["compose"] == [expression]
    (entry,) = [e for e in conversion.entries if e.name == "It"]
    assert entry.status == "by hand"
    assert any(expression in said for said in entry.said)


# Order


def test_a_chain_needs_no_run_after_whatever_the_order_in_the_file() -> None:
    found = steps(
        {"C": {**compose(3), **after("B")}, "A": {**compose(1), **after()}, "B": {**compose(2), **after("A")}}
    )
    assert list(found) == ["a", "b", "c"]
    assert not any("run_after" in s for s in found.values())


def test_run_after() -> None:
    every = ["Succeeded", "FAILED", "Skipped", "TimedOut"]
    found = steps(
        {
            "A": compose(1),
            "B": {**compose(2), **after()},
            "C": {**compose(3), **after("A", "B")},
            "D": {**compose(4), "runAfter": {"C": ["Failed"], "a": ["Succeeded"]}},
            "E": {**compose(5), "runAfter": {"D": every}},
            "F": {**compose(6), "runAfter": {"E": ["failed", "TIMEDOUT"]}},
            "G": {**compose(7), "runAfter": {"C": ["Skipped"]}},
        }
    )
    assert {n: s.get("run_after") for n, s in found.items()} == {
        "a": None,
        "b": {},
        "c": ["a", "b"],
        "d": {"c": "failed", "a": "succeeded"},
        "e": {"d": "any"},
        "f": {"e": ["failed", "timed_out"]},
        "g": {"c": "skipped"},
    }


def test_a_fixed_variable_is_declared_and_leaves_the_order_as_it_was() -> None:
    flow, conversion = convert(
        definition(
            {
                "A": compose(1),
                "I": {**init("My var", "String", value="x"), **after("A")},
                "B": {**compose("@variables('My var')"), **after("I")},
                "J": {**init("Now", "String", value="@{utcNow()}"), **after("B")},
                "K": {**init("Later", "Boolean"), **after("J")},
                "C": {**compose(2), "runAfter": {"K": ["Succeeded", "Failed"]}},
            }
        )
    )
    assert flow["variables"] == {"my_var": "x", "now": {"type": "string"}, "later": None}
    assert flow["steps"]["b"] == {"title": "B", "compose": "{{ variables.my_var }}"}
    assert flow["steps"]["j"] == {"title": "J", "set": {"now": "{{ utcNow() }}"}}
    assert list(flow["steps"]) == ["a", "b", "j", "c"]
    assert [e.form for e in conversion.entries if e.name in "IK"] == ["variables", "variables"]


def test_several_variables_in_one_action() -> None:
    flow, _ = convert(
        definition(
            {
                "Init": {
                    "type": "InitializeVariable",
                    "inputs": {
                        "variables": [
                            {"name": "a", "type": "Array", "value": "@createArray(1)"},
                            {"name": "b", "type": "Object", "value": {"x": "@{utcNow()}"}},
                            {"name": "c", "type": "Float", "value": 1.5},
                            {"name": "d", "type": "Array", "value": "@json('[]')"},
                        ]
                    },
                }
            }
        )
    )
    assert flow["variables"] == {"a": [], "b": {}, "c": 1.5, "d": []}
    assert flow["steps"] == {
        "init": {"title": "Init", "set": {"a": "{{ [1] }}"}},
        "init_b": {"set": {"b": {"x": "{{ utcNow() }}"}}},
    }


def test_a_table_is_two_steps_and_what_follows_waits_for_both() -> None:
    rows = {"type": "Select", "inputs": {"from": "@triggerBody()", "select": {"A b": "@item()?['a']"}}}
    found = steps(
        {
            "Rows": rows,
            "Html": {"type": "Table", "inputs": {"from": "@body('Rows')", "format": "HTML"}, **after("Rows")},
            "Failed": {**compose("@body('Html')"), "runAfter": {"Html": ["Failed"]}},
        }
    )
    assert found["html_rows"] == {
        "select": "steps.rows.body",
        "map": "<tr><td>{{ encodeXmlValue(string(item['A b'])) }}</td></tr>",
    }
    assert found["html"]["compose"].startswith(
        "<table><thead><tr><th>A b</th></tr></thead><tbody>{{ join(steps.html_rows.body, '')"
    )
    assert found["failed"]["run_after"] == {"html": ["failed", "skipped"]}


# Loops


def test_nested_loops_name_their_items() -> None:
    inner = {
        "type": "Foreach",
        "foreach": "@items('Outer')?['list']",
        "actions": {"In": compose("@concat(items('Outer')?['a'], items('Inner')?['b'], item()?['c'])")},
    }
    found = steps({"Outer": {"type": "Foreach", "foreach": "@triggerBody()", "actions": {"Inner": inner}}})
    assert found["outer"]["as"] == "outer_item"
    loop = found["outer"]["steps"]["inner"]
    assert (loop["foreach"], loop["as"]) == ("outer_item.list", "inner_item")
    assert loop["steps"]["in"]["compose"] == "{{ outer_item.a ~ inner_item.b ~ inner_item.c }}"


def test_a_select_in_a_loop_has_an_item_of_its_own() -> None:
    mapped = {
        "type": "Select",
        "inputs": {"from": "@item()?['rows']", "select": "@concat(item()?['a'], items('Loop')?['b'])"},
    }
    found = steps({"Loop": {"type": "Foreach", "foreach": "@triggerBody()", "actions": {"Map": mapped}}})
    assert found["loop"]["steps"]["map"] == {
        "title": "Map",
        "select": "loop_item.rows",
        "map": "{{ item.a ~ loop_item.b }}",
    }


def test_steps_in_a_loop_are_read_from_outside_by_its_result() -> None:
    loop = {
        "type": "Foreach",
        "foreach": "@triggerBody()",
        "actions": {"One": compose("@item()"), "Two": {**compose(2), **after("One")}},
    }
    found = steps({"Loop": loop, "It": {**compose("@outputs('One')"), **after("Loop")}})
    assert found["loop"]["result"] == "{{ steps.one.body }}"
    assert found["it"]["compose"] == "{{ steps.loop.body }}"
    found = steps({"Loop": loop, "It": {**compose(["@outputs('One')", "@length(outputs('Two'))"]), **after("Loop")}})
    assert found["loop"]["result"] == {"one": "{{ steps.one.body }}", "two": "{{ steps.two.body }}"}
    assert found["it"]["compose"] == [
        "{{ (steps.loop.body | map(attribute='one')) }}",
        "{{ length((steps.loop.body | map(attribute='two'))) }}",
    ]


def test_how_many_items_at_once() -> None:
    loop = {"type": "Foreach", "foreach": "@triggerBody()", "actions": {"In": compose(1)}}
    assert "concurrency" not in step(loop)
    assert step(loop, cloud=False)["concurrency"] == 20
    assert "concurrency" not in step({**loop, "operationOptions": "Sequential"}, cloud=False)
    counting = {**loop, "actions": {"In": {"type": "IncrementVariable", "inputs": {"name": "n"}}}}
    given = definition({"N": NUMBER, "Loop": {**counting, **after("N")}})
    flow, conversion = convert(given, cloud=False)
    assert "concurrency" not in flow["steps"]["loop"]
    (entry,) = [e for e in conversion.entries if e.name == "Loop"]
    assert entry.status == "changed"


def test_switch() -> None:
    cases = {
        "A": {"case": "a", "actions": {"Is a": compose(1)}},
        "B": {"case": 2, "actions": {}},
        "C": {"case": "@{1}", "actions": {}},
    }
    found = step({"type": "Switch", "expression": "@triggerBody()?['x']", "cases": cases, "default": {"actions": {}}})
    assert found["switch"] == "trigger.inputs.x"
    assert list(found["cases"]) == ["a", "2", "{{ string(1) }}"]
    assert found["cases"]["a"] == {"is_a": {"title": "Is a", "compose": 1}}
    assert "default" not in found


# What nothing here does


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in leaves(member)]
    return [value]


@pytest.mark.parametrize("case", cases("kept.yaml"), ids=there)
def test_it_survives_with_all_its_inputs(case: dict[str, Any]) -> None:
    action, call = case["there"], case["here"]
    flow, conversion = convert(definition({"It": action}))
    found = flow["steps"]["it"]
    assert found["call"] == call
    assert flow["connections"][call.partition(".")[0]]
    kept = json.dumps(found["with"])
    inputs = {k: v for k, v in action["inputs"].items() if k not in ("host", "authentication")}
    assert all(json.dumps(leaf) in kept for leaf in leaves(inputs) if "@" not in str(leaf)), kept
    (entry,) = [e for e in conversion.entries if e.name == "It"]
    assert entry.status == "by hand"
    assert entry.said


# Triggers


def triggers(
    given: dict[str, Any], actions: dict[str, Any] | None = None, **options: Any
) -> tuple[dict[str, Any], Conversion]:
    flow, conversion = convert(definition(actions or {"A": compose("@triggerBody()?['x']")}, {"It": given}), **options)
    return {**flow["triggers"]["it"], "read": flow["steps"].get("a", {}).get("compose")}, conversion


@pytest.mark.parametrize("case", cases("triggers.yaml"), ids=there)
def test_a_trigger(case: dict[str, Any]) -> None:
    assert triggers(case["there"])[0] == case["here"]


def test_more_than_the_body_of_a_call() -> None:
    reads = {
        "A": compose("@triggerOutputs()['headers']['X-Key']"),
        "B": {**compose("@triggerBody()?['x']"), **after("A")},
    }
    flow, conversion = convert(definition(reads))
    assert list(flow["triggers"]["manual"]["manual"]["inputs"]["properties"]) == [
        "headers",
        "queries",
        "relativePathParameters",
        "body",
    ]
    assert flow["steps"]["a"]["compose"] == "{{ trigger.inputs.headers['x-key'] }}"
    assert flow["steps"]["b"]["compose"] == "{{ trigger.inputs.body.x }}"
    assert conversion.entries[0].status == "changed"


@pytest.mark.parametrize(
    ("recurrence", "schedule"),
    [
        ({"frequency": "Second", "interval": 30}, "* * * * *"),
        ({"frequency": "Minute", "interval": 7}, "*/7 * * * *"),
        ({"frequency": "Hour", "interval": 5}, "0 */5 * * *"),
        ({"frequency": "Day", "interval": 2}, "0 0 */2 * *"),
        ({"frequency": "Week", "interval": 2}, "0 0 * * MON"),
    ],
)
def test_what_a_time_table_cannot_say_is_changed(recurrence: dict[str, Any], schedule: str) -> None:
    found, conversion = triggers({"type": "Recurrence", "recurrence": recurrence})
    assert found["schedule"] == schedule
    assert conversion.entries[0].status == "changed"
    assert conversion.entries[0].said


# The rest of a definition


def test_parameters() -> None:
    flow, conversion = convert(
        definition(
            {
                "A": compose(
                    [
                        "@parameters('Site URL (new_site)')",
                        "@parameters('n')",
                        "@appsetting('Other-Key')",
                        "@parameters('elsewhere')",
                    ]
                )
            },
            parameters={
                "Site URL (new_site)": {
                    "type": "String",
                    "metadata": {"schemaName": "new_site", "description": "Where"},
                },
                "n": {"type": "Int", "defaultValue": 5},
                "list": {"type": "Array", "defaultValue": ["a"]},
                "Key": {"type": "SecureString", "defaultValue": "very-secret-value"},
                "config": {"type": "SecureObject"},
                "app": {"type": "String", "defaultValue": "@appsetting('My-App')"},
                "odd": {"type": "String", "defaultValue": "${x}"},
            },
        )
    )
    assert flow["parameters"] == {
        "site_url_new_site": {
            "type": "string",
            "default": "${env:SITE_URL_NEW_SITE}",
            "note": "Site URL (new_site): Where",
        },
        "n": {"type": "integer", "default": 5},
        "list": {"type": "array", "default": ["a"]},
        "key": {"type": "string", "default": "${env:KEY}", "secret": True, "note": "Key"},
        "config": {"type": "object", "default": "${env:CONFIG}", "secret": True},
        "app": {"type": "string", "default": "${env:My_App}"},
        "odd": {"type": "string", "default": "${env:ODD}"},
        "elsewhere": {"type": "string", "default": "${env:ELSEWHERE}"},
        "other_key": {"type": "string", "default": "${env:Other_Key}", "note": "Other-Key"},
    }
    assert flow["steps"]["a"]["compose"][2] == "{{ parameters.other_key }}"
    assert "very-secret-value" not in written(flow)
    assert any("elsewhere" in remark for remark in conversion.remarks)


def test_outputs_and_description() -> None:
    flow, _ = convert(
        definition(
            {"A": compose(1)},
            outputs={"The Result": {"type": "String", "value": "@{outputs('A')}"}},
            description="What it does",
        )
    )
    assert flow["outputs"] == {"the_result": "{{ string(steps.a.body) }}"}
    assert flow["note"] == "What it does"


def test_nothing_to_do() -> None:
    assert convert(definition({}))[0]["steps"] == {"nothing": {"note": "Nothing was in here.", "compose": None}}


def test_what_is_no_json_schema_is_left_out() -> None:
    properties = {"a": {"type": "Int"}, "b": {"type": "string", "required": True}, "c": {"$ref": "#/nowhere"}}
    schema = {"type": "object", "properties": properties, "required": ["a"]}
    action = {"type": "ParseJson", "inputs": {"content": "@triggerBody()", "schema": schema}}
    flow, conversion = convert(definition({"Parse": action}))
    assert flow["steps"]["parse"]["schema"] == {
        "type": "object",
        "properties": {"a": {}, "b": {"type": "string"}, "c": {}},
        "required": ["a"],
    }
    (entry,) = (e for e in conversion.entries if e.name == "Parse")
    assert entry.status == "changed"
    assert "properties.b.required" in str(entry)
    assert "properties.c.$ref" in str(entry)


def test_what_has_no_place_is_a_note() -> None:
    options = {
        "trackedProperties": {"id": "@{triggerBody()?['id']}"},
        "operationOptions": "Odd, DisableAsyncPattern",
        "runtimeConfiguration": {"staticResult": {"name": "x"}},
    }
    found = step({**CALL, **options})
    assert found["note"].splitlines() == [
        'staticResult: {"name": "x"}',
        'trackedProperties: {"id": "@{triggerBody()?[\'id\']}"}',
        "operationOptions: Odd, DisableAsyncPattern",
    ]


def test_a_child_flow() -> None:
    child = {"type": "Workflow", "inputs": {"host": {"workflowReferenceName": "ABC"}, "body": {"n": 1}}}
    flow, conversion = convert(
        definition(
            {
                "Child": child,
                "It": {**compose(["@body('Child')?['x']", "@outputs('Child')['statusCode']"]), **after("Child")},
            }
        ),
        children={"abc": "other_flow"},
    )
    assert flow["steps"]["child"] == {"title": "Child", "run": "other_flow", "with": {"n": 1}}
    assert flow["steps"]["it"]["compose"] == ["{{ steps.child.body.body.x }}", "{{ steps.child.body.status }}"]
    assert {e.status for e in conversion.entries} == {"converted"}


# Defects that any flow may have


def test_quotes_in_a_comparison() -> None:
    given = {"type": "If", "expression": {"equals": ["@triggerBody()?['s']", "'Closed'"]}, "actions": {}}
    assert step(given)["if"] == "trigger.inputs.s == 'Closed'"
    assert step(given)["note"].startswith("QuotedText: compares with 'Closed'")
    assert step(given, faithful=True)["if"] == "trigger.inputs.s == \"'Closed'\""
    assert step(given, faithful=True)["note"].endswith("(kept)")


def test_a_null_test_of_text() -> None:
    given = {"type": "If", "expression": "@not(equals(variables('id'), null))", "actions": {}}
    made = init("id", "String", value="@{triggerBody()?['id']}")
    assert step(given, made)["if"] == "not empty(variables.id)"
    assert step(given, made, faithful=True)["if"] == "variables.id != null"
    plain = init("id", "String", value="@triggerBody()?['id']")
    assert step(given, plain)["if"] == "variables.id != null"


def test_a_form_that_is_built_by_hand() -> None:
    inputs = {
        "method": "POST",
        "uri": " https://x.example/oauth2/token",
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "body": "grant_type=password&client_id=a%20b&\nuser=@{triggerBody()?['u']}&x=@{1}-@{2}",
    }
    found = step({"type": "Http", "inputs": inputs})
    assert found["with"] == {
        "method": "POST",
        "url": "https://x.example/oauth2/token",
        "form": {
            "grant_type": "password",
            "client_id": "a b",
            "user": "{{ trigger.inputs.u }}",
            "x": "{{ 1 }}-{{ 2 }}",
        },
        "idempotent": True,
    }
    assert found["secure"] == ["outputs"]
    assert [line.partition(":")[0] for line in found["note"].splitlines()] == ["BlankInUrl", "FormByHand"]
    kept = step({"type": "Http", "inputs": inputs}, faithful=True)["with"]
    assert kept["url"] == " https://x.example/oauth2/token"
    assert kept["text"].startswith("grant_type=password&client_id=a%20b&\nuser={{ ")


# All of it


def test_everything_is_told_of_once() -> None:
    flow, conversion = convert(everything())
    names = [e.name for e in conversion.entries]
    assert sorted(names) == sorted({*names})
    assert len(names) == 1 + len(conversion.actions)
    assert len(flow["steps"]) >= 30


def test_expressions_are_idiomatic() -> None:
    """At most one in ten holds a call where there is an operator or a path."""
    import re

    from engine.loader.references import texts

    flow, _ = convert(everything())
    called = re.compile(r"\b(equals|and|or|not|if|greater\w*|less\w*|contains|concat|add|sub|mul|createArray|prop)\(")
    expressions = [text for _, text in texts(flow) if "{{" in text]
    assert len(expressions) > 20
    assert sum(bool(called.search(text)) for text in expressions) <= len(expressions) / 10
