"""Words for editors beyond those of the model: a snippet for each kind of step and trigger, and keys without a Doc.

Snippets are VS Code's: `${1:text}` is a place to fill in, `${1|a,b|}` a choice. Each is its kind's example, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

STEPS: Mapping[str, str] = {
    "call": """\
call: ${1:crm.get_lead}
with:
  ${2:key}: ${3:value}""",
    "set": """\
set: {${1:variable}: ${2:value}}""",
    "append": """\
append: {${1:variable}: ${2:item}}""",
    "increment": """\
increment: {${1:variable}: ${2:1}}""",
    "compose": """\
compose: ${1:value}""",
    "parse": """\
parse: "{{ ${1:steps.ask.body} }}"
schema:
  type: object
  properties: {${2:id}: {type: ${3:string}}}
  required: [${4:id}]""",
    "select": """\
select: ${1:steps.ask.body}
where: ${2:item.amount > 0}
map: "{{ ${3:item.name} }}\"""",
    "if": """\
if: ${1:variables.count > 0}
then:
  ${2:name}:
    ${3:compose: value}""",
    "switch": """\
switch: ${1:steps.ask.body.status}
cases:
  ${2:New}:
    ${3:name}:
      ${4:compose: value}
default:
  ${5:other}:
    ${6:compose: value}""",
    "foreach": """\
foreach: ${1:steps.ask.body}
as: ${2:row}
steps:
  ${3:name}:
    ${4:compose: value}""",
    "until": """\
until: ${1:steps.ask.body.done}
limit: {count: ${2:60}, timeout: ${3:1h}}
steps:
  ${4:ask}:
    ${5:compose: value}""",
    "wait": """\
wait: ${1:10m}""",
    "respond": """\
respond:
  status: ${1:200}
  body: ${2:done}""",
    "terminate": """\
terminate: ${1|failed,succeeded,cancelled|}
error: {code: ${2:NoLead}, message: ${3:what is wrong}}""",
    "run": """\
run: ${1:flow_name}
with:
  ${2:name}: ${3:value}""",
    "start": """\
start: ${1:flow_name}
with:
  ${2:name}: ${3:value}""",
    "steps": """\
steps:
  ${1:name}:
    ${2:compose: value}""",
}

TRIGGERS: Mapping[str, str] = {
    "webhook": """\
webhook: ${1:partner_center}
events: [${2:referral-created}]
key: trigger.event.id
lane: trigger.event.subject""",
    "schedule": """\
schedule: "${1:0 6 * * *}"
zone: ${2:Europe/Berlin}""",
    "poll": """\
poll: ${1:crm.list_changes}
every: ${2:5m}
key: trigger.event.id""",
    "manual": """\
manual:
  inputs:
    type: object
    properties: {${1:id}: {type: ${2:string}}}
    required: [${3:id}]""",
}

# Maps whose keys the author chooses: what the key is called while it isn't typed, and what it means.
NAMES: Mapping[str, tuple[str, str]] = {
    "triggers": ("trigger_name", "What one way to start the flow is called"),
    "connections": ("alias", "How the steps of this flow call the connection"),
    "parameters": ("parameter_name", "Expressions read it as `parameters.NAME`"),
    "variables": ("variable_name", "Expressions read it as `variables.NAME`"),
    "steps": ("step_name", "Unique in the whole document; expressions read it as `steps.NAME`"),
    "outputs": ("output_name", "What the caller finds it under"),
}

# Keys that have no Doc in the model, by the title of what they stand in.
KEYS: Mapping[str, Mapping[str, str]] = {
    "flowrun flow": {
        "title": "Shown instead of the name",
        "note": "For readers",
        "parameters": "Settings of the flow: `flowrun FLOW --set NAME=VALUE`",
        "alerts": "Whom to tell when a run fails or waits for a person",
    },
    "Parameter": {
        "type": "What it holds; `--set` reads numbers, lists and so on accordingly",
        "default": "Used where `--set` gives none; may be a reference such as `${env:NAME}`",
        "note": "For readers",
    },
    "Alerts": {
        "on": "Which ends are told of",
        "with": "Its inputs; `error` is what went wrong",
    },
    "call step": {"with": "Its inputs"},
    "compose step": {"compose": "Any value: `steps.NAME.body` is it"},
    "parse step": {
        "parse": "The value: `steps.NAME.body` is it, once it fits",
        "schema": "The JSON Schema that it has to fit, else the step fails",
    },
    "select step": {
        "select": "The list",
        "where": "Keeps the items for which it is true; `item` and `index` are names in it",
        "map": "What becomes of each; `item` and `index` are names in it",
    },
    "if step": {
        "if": "The condition: true or false; null counts as false",
        "then": "Steps that run where it is true",
        "else": "Steps that run where it isn't",
    },
    "switch step": {
        "switch": "The value; it is compared as text",
        "cases": "Text: steps that run where the value is that text",
        "default": "Steps that run where no case fits",
    },
    "foreach step": {
        "foreach": "The list",
        "steps": "Run once for each item",
    },
    "until step": {
        "until": "The condition, read after each pass: true ends the loop",
        "limit": "When the loop gives up",
        "on_limit": "What the step then is",
        "steps": "Run in each pass",
        "result": "What the last pass gives: `steps.NAME.body` is it",
    },
    "Limit": {
        "count": "Passes",
        "timeout": "For all passes together",
    },
    "terminate step": {
        "terminate": "What the run then is",
        "error": "What a failed run says",
    },
    "Fault": {
        "code": "For programs",
        "message": "For people",
    },
    "steps step": {"steps": "Run in this order; the group fails when one of them does and nothing handles it"},
    "answer": {
        "status": "HTTP status, 200 if there is none",
        "headers": "Name: value",
        "body": "Any value; an object or a list is sent as JSON",
    },
    "schedule trigger": {
        "zone": "Whose clock it is, by its IANA or Windows name",
        "missed": "What becomes of the times when nothing was running",
    },
    "poll trigger": {
        "with": "Its inputs; the cursor is kept by the engine",
        "every": "How often it asks",
    },
}


# What the model leaves open and an editor explains all the same: (definition, key) → more of its schema.
INSIDE: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("respond_step", "respond"): {"title": "answer"},
    ("manual_trigger", "manual"): {
        "title": "manual start",
        "properties": {
            "inputs": {"description": "JSON Schema of the inputs: `trigger.inputs` is an object that fits it"}
        },
    },
}


def example(snippet: str) -> str:
    """A snippet with its places filled in by what they propose."""
    return re.sub(r"\$\{\d+[:|]([^},|]*)[^}]*\}|\$\d+", r"\1", snippet)
