"""One mistake in a large document: found at its line and column, once, with its remedy named, and nothing else said.

Each case puts a mistake into tests/documents/referral_desk.yaml: a piece of its text, and what stands in its place.
`⟦` stands right before each place that a finding points at; it is no part of the document.
"""

# ruff: noqa: E501 - a case stands in one line
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.dynamics365.connector import Dynamics365
from connectors.http.connector import Http
from connectors.partner_center.connector import PartnerCenter
from connectors.sqlite.connector import SqliteCrm
from engine.functions import FUNCTIONS
from engine.loader import Catalog, check, load
from engine.loader.findings import Finding

DOCUMENTS = Path(__file__).parent / "documents"
BASE = (DOCUMENTS / "referral_desk.yaml").read_text(encoding="utf-8")
CATALOG = Catalog(
    FUNCTIONS,
    {"partner_center": PartnerCenter, "dynamics365": Dynamics365, "sqlite": SqliteCrm, "http": Http},
    {file.stem: load(file.read_bytes(), file.name) for file in sorted(DOCUMENTS.glob("*.yaml"))},
    {file.name for file in DOCUMENTS.iterdir()},
)


@dataclass
class Mistake:
    """`old` becomes `new`; a code for each mark, and a word of what the first finding says to do."""

    rule: str
    old: str
    new: str
    codes: str
    remedy: str = ""


M = Mistake
# fmt: off
MISTAKES = [
    # YAML
    M("a quote that isn't closed", 'title: Referrals to leads, with the desk told', 'title: ⟦"Referrals to leads', "YamlSyntax", "add \""),
    M("a quote that the next one closes", '    result: "{{ steps.look.body.status }}"', '    result: ⟦"{{ steps.look.body.status }}', "YamlSyntax", "isn't closed"),
    M("an apostrophe in single quotes", "title: Referrals to leads, with the desk told", "title: 'The desk'⟦s leads'", "YamlSyntax", "''"),
    M("a bracket that isn't closed", "events: [referral-created, referral-updated]", "events: ⟦[referral-created, referral-updated", "YamlSyntax", "add ']'"),
    M("a brace that isn't closed", "with: {key: \"{{ steps.get_referral.body.id }}\"}", "with: ⟦{key: \"{{ steps.get_referral.body.id }}\"", "YamlSyntax", "add '}'"),
    M("a brace too many", "limit: {count: 10, timeout: 2h}", "limit: {count: 10, timeout: 2h}⟦}", "YamlSyntax", "too many"),
    M("a comma that is missing", "retry: {count: 5, interval: 2s, max", "retry: {count: 5 interval⟦: 2s, max", "YamlSyntax", "comma"),
    M("a tab", "    timeout: 30s", "⟦\ttimeout: 30s", "YamlSyntax", "spaces"),
    M("a tab behind spaces", "    timeout: 30s", "  ⟦\ttimeout: 30s", "YamlSyntax", "spaces"),
    M("too little indentation", "    concurrency: 4", "   ⟦concurrency: 4", "YamlSyntax", "indent"),
    M("too much indentation", "    timeout: 30s", "      ⟦timeout: 30s", "YamlSyntax", "indent"),
    M("a colon in a text", "note: The document", "note: Note⟦: The document", "YamlSyntax", "in quotes"),
    M("a key without its colon", "    on_limit: succeed", "    ⟦on_limit succeed", "YamlSyntax", "colon"),
    M("no blank after the colon", "    timeout: 30s", "    ⟦timeout:30s", "YamlSyntax", "timeout: 30s"),
    M("no blank after the colon in braces", "{type: number, default: 1000,", "{⟦type:number, default: 1000,", "YamlSyntax", "type: number"),
    M("no colon before braces", "    limit: {count", "    ⟦limit {count", "YamlSyntax", "limit: "),
    M("a text that begins with @", "note: The document", "note: ⟦@The document", "YamlSyntax", "in quotes"),
    M("a text that begins with a backtick", "note: The document", "note: ⟦`The` document", "YamlSyntax", "in quotes"),
    M("a text that begins with *", "note: The document", "note: ⟦*The document", "Alias", "quotes"),
    M("a text that begins with %", "note: The document", "note: ⟦%The document", "YamlSyntax", "in quotes"),
    M("a text that begins with !", "when: steps.get_referral.body.status != 'Closed'", "when: ⟦!steps.get_referral.body.status", "Tag", "needs quotes"),
    M("a text that begins with >", "note: The document that", "note: ⟦> The document that", "YamlSyntax", "in quotes"),
    M("text behind a quote", "until: steps.look.body.status == 'qualified'", "until: 'qualified' ⟦== steps.look.body.status", "YamlSyntax", "whole text in quotes"),
    M("an escape that there isn't", 'remark: {type: string}', 'remark: "⟦\\d+"', "YamlSyntax", "\\\\"),
    M("an alias of nothing", "interval: 2s", "interval: ⟦*short", "Alias", "quotes"),
    M("an anchor twice", "interval: 2s, max_interval: 1m", "interval: &i 2s, max_interval: ⟦&i 1m", "Alias", "another name"),
    M("a tag", "total: 0", "total: ⟦!!timestamp 0", "Tag", "no YAML tags"),
    M("two documents", "outputs:\n", "⟦---\noutputs:\n", "YamlSyntax", "a file of its own"),
    M("a control character", "title: Referrals", "title: ⟦\x07Referrals", "YamlSyntax", "remove it"),
    M("a list item among keys", "    timeout: 30s", "    ⟦- timeout: 30s", "YamlSyntax", "list"),
    M("a key twice", "    timeout: 30s", "    timeout: 30s\n    ⟦timeout: 40s", "DuplicateKey", "remove or rename"),
    M("a step twice, the second with another one in it", "  large:\n    if:", "  ⟦contact:\n    if:", "DuplicateKey", "remove or rename"),
    M("a section twice", "business_key:", "⟦variables: {more: 1}\nbusiness_key:", "DuplicateKey"),
    M("a merge of a list", "    timeout: 30s", "    ⟦<<: [1]", "Merge", "mapping"),
    # Expressions without quotes
    M("without quotes", '    result: "{{ steps.look.body.status }}"', "    result: ⟦{{ steps.look.body.status }}", "UnquotedTemplate", "put quotes around it"),
    M("without quotes in a flow mapping", 'with: {id: "{{ trigger.event.subject }}"}', "with: {id: ⟦{{ trigger.event.subject }}}", "UnquotedTemplate", "put quotes around it"),
    M("without quotes, with text behind", '    result: "{{ steps.look.body.status }}"', "    result: ⟦{{ steps.look.body.status }} so far", "UnquotedTemplate", "put quotes around it"),
    M("without quotes, with an index", '    result: "{{ steps.look.body.status }}"', "    result: ⟦{{ steps.look.body['status'] }}", "UnquotedTemplate", "put quotes around it"),
    M("without quotes in a list", "  told: []", "  told: [⟦{{ parameters.lead_source }}]", "UnquotedTemplate", "put quotes around it"),
    M("without quotes in a list of lines", "    on_limit: succeed", "    on_limit: succeed\n    secure:\n      - ⟦{{ parameters.lead_source }}", "UnquotedTemplate", "put quotes around it"),
    # Keys
    M("an unknown key of the document", "title: Referrals", "⟦titel: Referrals", "UnknownKey", "did you mean 'title'?"),
    M("a misspelt section that others refer to", "variables:\n", "⟦varaibles:\n", "UnknownKey", "did you mean 'variables'?"),
    M("misspelt connections", "connections:\n", "⟦conections:\n", "UnknownKey", "did you mean 'connections'?"),
    M("misspelt parameters", "parameters:\n", "⟦paramters:\n", "UnknownKey", "did you mean 'parameters'?"),
    M("misspelt triggers", "triggers:\n", "⟦trigger:\n", "UnknownKey", "did you mean 'triggers'?"),
    M("misspelt steps", "\nsteps:\n", "\n⟦step:\n", "UnknownKey", "did you mean 'steps'?"),
    M("misspelt outputs", "outputs:\n", "⟦output:\n", "UnknownKey", "did you mean 'outputs'?"),
    M("an unknown key of a step", "    timeout: 30s", "    ⟦time_out: 30s", "UnknownKey", "did you mean 'timeout'?"),
    M("Power Automate's spelling", "    run_after: {later: any}", "    ⟦runAfter: {later: any}", "UnknownKey", "did you mean 'run_after'?"),
    M("a misspelt kind", "  get_token:\n    call:", "  get_token:\n    ⟦cal:", "UnknownKey", "did you mean 'call'?"),
    M("a misspelt loop that others look into", "    foreach: steps.products.body", "    ⟦for_each: steps.products.body", "UnknownKey", "did you mean 'foreach'?"),
    M("a misspelt list of steps", "    concurrency: 4\n    steps:", "    concurrency: 4\n    ⟦stpes:", "UnknownKey", "did you mean 'steps'?"),
    M("a misspelt item", "    as: person", "    ⟦as_: person", "UnknownKey", "did you mean 'as'?"),
    M("a misspelt branch", "    else:\n", "    ⟦esle:\n", "UnknownKey", "did you mean 'else'?"),
    M("a misspelt default", "    default:\n", "    ⟦defualt:\n", "UnknownKey", "did you mean 'default'?"),
    M("misspelt cases", "    cases:\n", "    ⟦case:\n", "UnknownKey", "did you mean 'cases'?"),
    M("misspelt inputs", "    with: {id: \"{{ trigger.event.subject }}\"}", "    ⟦wiht: {id: \"{{ trigger.event.subject }}\"}", "UnknownKey", "did you mean 'with'?"),
    M("another language's inputs", "    with: {id: \"{{ trigger.event.subject }}\"}", "    with: {id: \"{{ trigger.event.subject }}\"}\n    ⟦inputs: {}", "UnknownKey", "did you mean 'with'?"),
    M("an unknown key of retry", "retry: {count: 5, interval", "retry: {⟦cuont: 5, interval", "UnknownKey", "did you mean 'count'?"),
    M("an unknown key of a limit", "limit: {count: 10, timeout: 2h}", "limit: {count: 10, ⟦timout: 2h}", "UnknownKey", "did you mean 'timeout'?"),
    M("an unknown key of a trigger", "    zone: Europe/Berlin", "    ⟦timezone: Europe/Berlin", "UnknownKey", "did you mean 'zone'?"),
    M("a misspelt kind of trigger", "    webhook: partner_center", "    ⟦webhok: partner_center", "UnknownKey", "did you mean 'webhook'?"),
    M("an unknown key of a parameter", "default: 1000, note", "⟦defualt: 1000, note", "UnknownKey", "did you mean 'default'?"),
    M("an unknown key of alerts", "  on: [failed]", "  ⟦when: [failed]", "UnknownKey", "known"),
    M("an unknown key of an answer", "respond: {status: 202", "respond: {⟦stauts: 202", "UnknownKey", "did you mean 'status'?"),
    M("an unknown key of an error", "error: {code: WriteBack, message", "error: {⟦kode: WriteBack, message", "UnknownKey", "did you mean 'code'?"),
    M("two kinds in one step", "    timeout: 30s", "    ⟦compose: 1", "UnknownKey", "a step of its own"),
    M("a step without a kind", "  get_token:\n    call: partner_center.get_token\n    timeout: 30s", "  ⟦get_token:\n    timeout: 30s", "NoKind", "one of append, call"),
    M("a step of nothing", "  get_token:\n    call: partner_center.get_token\n    timeout: 30s", "  get_token:⟦", "WrongType", "object"),
    M("a loop without steps", "  settle:\n    until: steps.look.body.status == 'qualified'\n    limit: {count: 10, timeout: 2h}\n    on_limit: succeed\n    steps:\n      pause: {wait: 10m}\n      look:\n        call: crm.get_lead\n        with: {key: \"{{ steps.get_referral.body.id }}\"}\n    result: \"{{ steps.look.body.status }}\"\n", "  ⟦settle:\n    until: steps.look.body.status == 'qualified'\n", "MissingKey", "steps"),
    # Values
    M("a text for a number", "limit: {count: 10,", "limit: {count: ⟦ten,", "WrongType", "integer"),
    M("a number in quotes", "limit: {count: 10,", "limit: {count: ⟦'10',", "WrongType", "without quotes"),
    M("a number for a text", "    title: The referral as it now is", "    title: ⟦2026", "WrongType", "in quotes"),
    M("yes for true", "    collapse: true", "    collapse: ⟦yes", "WrongType", "write true"),
    M("an object for a list", "  on: [failed]", "  on: ⟦{failed: true}", "WrongType", "array"),
    M("a text for a list", "events: [referral-created, referral-updated]", "events: ⟦referral-created", "WrongType", "array"),
    M("out of range", "    concurrency: 4", "    concurrency: ⟦400", "WrongValue", "at most 50"),
    M("one word of several", "    on_limit: succeed", "    on_limit: ⟦succeeded", "NotAllowed", "did you mean 'succeed'?"),
    M("what is missed", "    missed: run_once", "    missed: ⟦once", "NotAllowed", "run_once"),
    M("a type that there isn't", "minimum: {type: number,", "minimum: {type: ⟦float,", "NotAllowed", "number"),
    M("a type of a variable that there isn't", "  remark: {type: string}", "  remark: {type: ⟦text}", "NotAllowed", "string"),
    M("a default of another type", "{type: number, default: 1000,", "{type: number, default: ⟦'1000',", "WrongType", "without quotes"),
    M("a kind of retry", "kind: exponential", "kind: ⟦linear", "NotAllowed", "exponential, fixed"),
    M("what is secure", "    timeout: 30s", "    secure: [⟦output]", "NotAllowed", "did you mean 'outputs'?"),
    M("a name in capitals", "  get_token:\n", "  ⟦GetToken:\n", "Name", "get_token"),
    M("the flow's name", "flow: referral_desk", "flow: ⟦referral-desk", "Name", "referral_desk"),
    M("the item's name", "    as: person", "    as: ⟦Person", "Name", "person"),
    M("an item's name that means something already", "    as: person", "    as: ⟦steps", "Name", "another name"),
    M("operation without a connection", "    call: partner_center.get_token", "    call: ⟦get_token", "WrongValue", "alias.operation"),
    M("a schema that is none", "schema: {type: object, required: [status]}", "schema: {type: ⟦objekt, required: [status]}", "Schema"),
    M("inputs that are no schema", "inputs: {type: object, properties: {id: {type: string}}}", "inputs: {type: object, properties: ⟦[id]}", "Schema"),
    # Durations, times
    M("a duration: time-out", "    timeout: 30s", "    timeout: ⟦30 sec", "WrongValue", "10m"),
    M("a duration: a number", "    timeout: 30s", "    timeout: ⟦30", "WrongType", "30s"),
    M("a duration: interval", "interval: 2s, max", "interval: ⟦2 s, max", "WrongValue", "10m"),
    M("a duration: longest interval", "max_interval: 1m", "max_interval: ⟦1min", "WrongValue", "10m"),
    M("a duration: limit", "timeout: 2h}", "timeout: ⟦2hours}", "WrongValue", "10m"),
    M("a duration: every", "    every: 5m", "    every: ⟦5 minutes", "WrongValue", "10m"),
    M("a duration: wait", "pause: {wait: 10m}", "pause: {wait: ⟦ten minutes}", "WrongValue", "10m"),
    M("a duration: ISO 8601", "pause: {wait: 10m}", "pause: {wait: ⟦P10M}", "WrongValue", "PT10M"),
    M("a time to wait for", "pause: {wait: 10m}", "pause: {wait: {until: ⟦tomorrow}}", "Time", "2026"),
    M("a time table of four fields", "schedule: 30 2 * * MON-FRI", "schedule: ⟦30 2 * *", "Cron", "five fields"),
    M("a time table's hour", "schedule: 30 2 * * MON-FRI", "schedule: 30 ⟦25 * * MON-FRI", "Cron", "0 to 23"),
    M("a time table's weekday", "schedule: 30 2 * * MON-FRI", "schedule: 30 2 * * ⟦MO-FR", "Cron", "SUN to SAT"),
    M("a time table of a day that never comes", "schedule: 30 2 * * MON-FRI", "schedule: 30 2 ⟦31 4 *", "Cron", "days"),
    M("a time table in words", "schedule: 30 2 * * MON-FRI", "schedule: ⟦'@daily'", "Cron", "0 0 * * *"),
    M("a zone", "zone: Europe/Berlin", "zone: ⟦Europe/Berln", "Zone", "did you mean 'Europe/Berlin'?"),
    M("where a poll begins", "    from: now", "    from: ⟦nwo", "Time", "did you mean 'now'?"),
    # Names
    M("a connection's entry", "  crm: dynamics365", "  crm: ⟦dynamics356", "UnknownConnection", "did you mean 'dynamics365'?"),
    M("an alias", "    call: crm.upsert_lead", "    call: ⟦cmr.upsert_lead", "UnknownConnection", "did you mean 'crm'?"),
    M("an operation", "    call: crm.upsert_lead", "    call: crm.⟦upsert_laed", "UnknownOperation", "did you mean 'upsert_lead'?"),
    M("a webhook's connection", "    webhook: partner_center", "    webhook: ⟦partner_centre", "UnknownConnection", "did you mean 'partner_center'?"),
    M("an event", "events: [referral-created, ", "events: [⟦referal-created, ", "UnknownEvent", "did you mean 'referral-created'?"),
    M("a poll's operation", "    poll: crm.list_changes", "    poll: crm.⟦list_change", "UnknownOperation", "did you mean 'list_changes'?"),
    M("an alert's operation", "  to: desk.request", "  to: desk.⟦requst", "UnknownOperation", "did you mean 'request'?"),
    M("a variable to change", "        increment: {total: 1}", "        increment: {⟦totals: 1}", "UnknownVariable", "did you mean 'total'?"),
    M("a step", "{{ steps.contact.body.name }}\"\n        email", "{{ steps.⟦contacts.body.name }}\"\n        email", "UnknownStep", "did you mean 'contact'?"),
    M("a step without steps.", "    until: steps.look.body.status", "    until: ⟦look.body.status", "UnknownName", "did you mean 'steps.look'?"),
    M("a parameter", "dealValue >= parameters.minimum", "dealValue >= parameters.⟦minimal", "UnknownParameter", "did you mean 'minimum'?"),
    M("a parameter without parameters.", "dealValue >= parameters.minimum", "dealValue >= ⟦minimum", "UnknownName", "did you mean 'parameters.minimum'?"),
    M("a variable", "{{ join(variables.told, ', ') }}", "{{ join(variables.⟦tolled, ', ') }}", "UnknownVariable", "did you mean 'told'?"),
    M("a root", "{{ parameters.lead_source }}", "{{ ⟦parameter.lead_source }}", "UnknownName", "did you mean 'parameters'?"),
    M("a function", "{{ join(variables.told, ', ') }}", "{{ ⟦joinn(variables.told, ', ') }}", "UnknownFunction", "did you mean 'join'?"),
    M("a connector's function", "partner_center.contact(steps.get_referral.body).lastName", "⟦partner_center.contakt(steps.get_referral.body).lastName", "UnknownFunction", "did you mean 'partner_center.contact'?"),
    M("a filter", "direction | toLower", "direction | ⟦lower", "UnknownFunction", "did you mean 'toLower'?"),
    M("a test", "    where: item.email != null", "    where: item.email is ⟦strng", "UnknownFunction", "did you mean 'string'?"),
    M("a flow", "    start: tell_desk", "    start: ⟦tell_dsk", "UnknownFlow", "did you mean 'tell_desk'?"),
    M("an item outside of its loop", "  told: \"{{ join(variables.told, ', ') }}\"", "  told: \"{{ ⟦person.mail }}\"", "UnknownName", "tell_all"),
    M("an input", "      known_id:", "      ⟦knownid:", "UnknownKey", "did you mean 'known_id'?"),
    M("an input inside an input", "        last_name:", "        ⟦lastname:", "UnknownKey", "did you mean 'last_name'?"),
    M("an input that is missing", "    with:\n      key: \"{{ steps.get_referral.body.id }}\"\n      known_id", "    ⟦with:\n      known_id", "MissingKey", "key"),
    M("all inputs missing", "  get_referral:\n    title: The referral as it now is\n    call: partner_center.get_referral\n    with: {id: \"{{ trigger.event.subject }}\"}\n", "  ⟦get_referral:\n    call: partner_center.get_referral\n", "MissingKey", "The referral's id"),
    M("an input's type", "    with: {id: \"{{ trigger.event.subject }}\"}", "    with: {id: ⟦[1]}", "WrongType", "string"),
    M("an input's form", "    with: {id: \"{{ trigger.event.subject }}\"}", "    with: {id: ⟦abc}", "WrongValue", "a GUID"),
    M("an input's word", "          method: POST", "          method: ⟦PSOT", "NotAllowed", "did you mean 'POST'?"),
    M("a path of an update", "            details.dealValue:", "            ⟦detials.dealValue:", "UnknownKey", "did you mean 'details.dealValue'?"),
    # Members
    M("a member of an event", "{{ trigger.event.subject }}", "{{ trigger.event.⟦subjct }}", "UnknownMember", "did you mean 'subject'?"),
    M("a member of a result", "steps.get_referral.body.customerProfile.address.city", "steps.get_referral.body.customerProfile.⟦adress.city", "UnknownMember", "did you mean 'address'?"),
    M("a member of a closed result", "known_id: \"{{ steps.get_referral.body.externalReferenceId }}\"", "known_id: \"{{ steps.get_token.body.⟦acount }}\"", "UnknownMember", "did you mean 'account'?"),
    M("a member of what a connector's function gives", "contact(steps.get_referral.body).email", "contact(steps.get_referral.body).⟦emial", "UnknownMember", "did you mean 'email'?"),
    M("a member of an item", "    map: {mail: \"{{ item.email }}\"", "    map: {mail: \"{{ item.⟦emial }}\"", "UnknownMember", "did you mean 'email'?"),
    M("a member of what was composed", "{{ steps.contact.body.email }}", "{{ steps.contact.body.⟦mail }}", "UnknownMember", "did you mean 'email'?"),
    M("a member of what was selected", "people/{{ person.mail }}", "people/{{ person.⟦mial }}", "UnknownMember", "did you mean 'mail'?"),
    M("an output of http", "{{ steps.tell.outputs.status_code }}", "{{ steps.tell.outputs.⟦statuscode }}", "UnknownMember", "did you mean 'status_code'?"),
    M("a member of a step", "{{ steps.upsert_lead.body.lead.amount }}", "{{ steps.upsert_lead.⟦lead.amount }}", "UnknownMember", "did you mean steps.upsert_lead.body.lead?"),
    M("a member of an error", "not written back: {{ steps.write_back.error.message }}", "not written back: {{ steps.write_back.error.⟦mesage }}", "UnknownMember", "did you mean 'message'?"),
    M("a member of the run", "{{ run.id }}", "{{ run.⟦number }}", "UnknownMember", "known"),
    M("a member of a text", "{{ steps.get_referral.body.name }}\"}\n\n  answer", "{{ steps.get_referral.body.name.⟦first }}\"}\n\n  answer", "UnknownMember", "needs an object"),
    M("a member of a list", "json: {lead: \"{{ steps.upsert_lead.body.id }}\"", "json: {lead: \"{{ steps.get_referral.body.team.⟦email }}\"", "UnknownMember", "map(attribute='email')"),
    M("a case that never is", "      qualified:\n", "      ⟦qualifed:\n", "NeverEqual", "did you mean 'qualified'?"),
    M("a comparison that never holds", "until: steps.look.body.status == 'qualified'", "until: steps.look.body.status == ⟦'Qualified'", "NeverEqual", "did you mean 'qualified'?"),
    M("a status of Power Automate", "    where: item.email != null", "    where: steps.get_token.status == ⟦'Succeeded'", "NeverEqual", "did you mean 'succeeded'?"),
    # Order
    M("a later step", "{{ steps.get_referral.body.direction | toLower }}", "{{ steps.⟦large.status }}", "NotBefore", "move the step"),
    M("itself", "    switch: steps.upsert_lead.body.status", "    switch: steps.⟦by_status.status", "NotBefore", "before it ends"),
    M("the other branch", "{remark: \"small: {{ steps.get_referral.body.name }}\"}", "{remark: \"small: {{ steps.⟦announce.body }}\"}", "NotBefore", "after the branches"),
    M("another case", "        won: {set: {remark: won}}", "        won: {set: {remark: \"{{ steps.⟦still_open.status }}\"}}", "NotBefore", "after the branches"),
    M("a step side by side", "{lead: \"{{ steps.upsert_lead.body.id }}\"}}\n\noutputs", "{lead: \"{{ steps.⟦give_up.status }}\"}}\n\noutputs", "NotBefore", "run_after: give_up"),
    M("the step around it", "      check_answer:\n        parse: \"{{ steps.update_referral.body }}\"", "      check_answer:\n        parse: \"{{ steps.⟦write_back.body }}\"", "NotBefore", "before it ends"),
    M("into a loop", "  told: \"{{ join(variables.told, ', ') }}\"", "  told: \"{{ steps.⟦tell.body }}\"", "IntoLoop", "steps.tell_all.body"),
    M("a step in a trigger", "    key: trigger.event.id", "    key: ⟦steps.get_token.body", "NotBefore", "parameters, trigger"),
    M("a stranger in run_after", "    run_after: {later: any}", "    run_after: {⟦latter: any}", "RunAfter", "did you mean 'later'?"),
    M("a step of another list in run_after", "    run_after: {later: any}", "    run_after: {⟦update_referral: any}", "RunAfter", "same list"),
    M("a status in run_after", "run_after: {write_back: [failed, timed_out]}", "run_after: {write_back: [⟦Failed, timed_out]}", "NotAllowed", "did you mean 'failed'?"),
    M("one status in run_after", "    run_after: {later: any}", "    run_after: {later: ⟦TimedOut}", "NotAllowed", "timed_out"),
    M("a cycle", "  get_referral:\n    title", "  get_referral:\n    run_after: ⟦write_back\n    title", "Cycle", "take one"),
    M("a cycle of two, the other way round", "    run_after: {write_back: succeeded}", "    run_after: ⟦answer", "Cycle", "take one"),
    M("behind the end", "    error: {code: WriteBack, message: \"not written back: {{ steps.write_back.error.message }}\"}\n", "    error: {code: WriteBack}\n  ⟦too_late:\n    compose: 1\n", "Unreachable", "a `when`"),
    M("never skipped", "run_after: {write_back: [failed, timed_out]}", "run_after: ⟦{get_token: skipped, write_back: failed}", "Unreachable", "always begins"),
    M("a false when is no skip", "  get_token:\n    call: partner_center.get_token\n    timeout: 30s\n", "  get_token:\n    when: parameters.minimum > 0\n    call: partner_center.get_token\n  instead:\n    run_after: ⟦{get_token: skipped}\n    compose: 1\n", "Unreachable", "counts as succeeded"),
    M("two that can't both fail", "    run_after: {later: any}", "    run_after: ⟦{settle: failed, write_back: failed}", "Unreachable", "scope"),
    M("a condition that is written down", "    if: steps.get_referral.body.details.dealValue >= parameters.minimum", "    if: ⟦true", "Unreachable", "condition"),
    # Variables
    M("set by several at once", "        append: {told: \"{{ person.mail }}\"}", "        set: {⟦remark: \"{{ person.mail }}\"}", "Race", "concurrency: 1"),
    M("read beside what sets it", "    run_after: {later: any}\n    respond: {status: 202, body: {lead: \"{{ steps.upsert_lead.body.id }}\"}}", "    run_after: {}\n    respond: {status: 202, body: {lead: \"{{ ⟦variables.remark }}\"}}", "Race", "run_after"),
    M("an expression as a first value", "  total: 0", "  total: \"⟦{{ parameters.minimum }}\"", "NotEvaluated", "set it by a step"),
    M("an expression as a default", "default: Partner}", "default: \"⟦{{ run.id }}\"}", "NotEvaluated", "--set"),
    # Other flows
    M("an input that a flow needs", "    with: {subject: \"{{ steps.get_referral.body.name }}\"}", "    ⟦with: {urgent: true}", "MissingKey", "What it is about"),
    M("all inputs that a flow needs", "  later:\n    run_after: {write_back: succeeded}\n    start: tell_desk\n    with: {subject: \"{{ steps.get_referral.body.name }}\"}", "  ⟦later:\n    run_after: {write_back: succeeded}\n    start: tell_desk", "MissingKey", "What it is about"),
    M("an input that a flow hasn't", "error.message }}\", urgent: true}", "error.message }}\", ⟦urgnt: true}", "UnknownKey", "did you mean 'urgent'?"),
    M("an input of another type", "error.message }}\", urgent: true}", "error.message }}\", urgent: ⟦very}", "WrongType", "boolean"),
    M("a flow that would run itself", "    run: tell_desk\n    with: {subject: \"{{ steps.write_back.error.message }}\", urgent: true}", "    run: ⟦referral_desk", "Recursion", "start: referral_desk"),
    # Sub-flows' own mistakes are told in their own file: see below
    # Syntax of expressions
    M("a quote in an expression", "{{ join(variables.told, ', ') }}", "{{ join(variables.told, ⟦', ) }}", "Expression", "close"),
    M("one equals sign", "until: steps.look.body.status == 'qualified'", "until: steps.look.body.status ⟦= 'qualified'", "Expression", "did you mean '=='?"),
    M("three equals signs", "until: steps.look.body.status == 'qualified'", "until: steps.look.body.status ⟦=== 'qualified'", "Expression", "did you mean '=='?"),
    M("&&", "dealValue >= parameters.minimum", "dealValue ⟦&& parameters.minimum", "Expression", "`and`"),
    M("||", "dealValue >= parameters.minimum", "dealValue ⟦|| parameters.minimum", "Expression", "`or`"),
    M("!", "    where: item.email != null", "    where: item.email and (⟦!item.phoneNumber)", "Expression", "`not`"),
    M("<>", "    where: item.email != null", "    where: item.email ⟦<> null", "Expression", "did you mean '!='?"),
    M("?.", "steps.get_referral.body.customerProfile.address.city", "steps.get_referral.body⟦?.customerProfile.address.city", "Expression", "leave the ? out"),
    M("? :", "    where: item.email != null", "    where: item.email ? true ⟦: false", "YamlSyntax", "`B if A else C`"),
    M("? : in quotes", "    where: item.email != null", "    where: 'item.email ⟦? true : false'", "Expression", "A if CONDITION else B"),
    M("NULL", "    where: item.email != null", "    where: item.email != ⟦NULL", "UnknownName", "did you mean 'null'?"),
    M("undefined", "    where: item.email != null", "    where: item.email != ⟦undefined", "UnknownName", "did you mean 'null'?"),
    M("braces that aren't closed", "{{ join(variables.told, ', ') }}", "⟦{{ join(variables.told, ', ')", "Expression", "close it"),
    M("one closing brace", "{{ join(variables.told, ', ') }}", "⟦{{ join(variables.told, ', ') }", "Expression", "close it"),
    M("a bracket in an expression", "{{ join(variables.told, ', ') }}", "{{ join⟦(variables.told, ', ' }}", "Expression", "add ')'"),
    M("a bracket too many", "{{ join(variables.told, ', ') }}", "{{ join(variables.told, ', ')⟦) }}", "Expression", "too many"),
    M("no operator", "    where: item.email != null", "    where: item.email ⟦null", "Expression", "missing"),
    M("nothing behind an operator", "    where: item.email != null", "    where: item.email !=⟦", "Expression", "has to follow"),
    M("an empty expression", "{{ run.id }}", "{{⟦ }}", "Expression", "a value"),
    M("braces around a part", "until: steps.look.body.status == 'qualified'", "until: \"⟦{{ steps.look.body.status }} == 'qualified'\"", "Expression", "leave the braces out"),
    M("too few arguments", "{{ join(variables.told, ', ') }}", "{{ ⟦join(variables.told) }}", "Arguments", "join(collection, separator)"),
    M("too many arguments of a filter", "direction | toLower", "direction | ⟦toLower('x')", "Arguments", "toLower(text)"),
    M("an argument by name", "{{ join(variables.told, ', ') }}", "{{ ⟦join(variables.told, separator=', ') }}", "Expression", "leave the names out"),
    M("an argument that a filter hasn't", "{{ join(variables.told, ', ') }}", "{{ steps.products.body | ⟦map(atribute='mail') }}", "Arguments", "did you mean 'attribute'?"),
    M("no else", "{{ join(variables.told, ', ') }}", "{{ ⟦'some' if variables.told }}", "Expression", "else null"),
    M("Power Automate's @{…}", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"Deal of ⟦@{body('contact')}\"", "NotEvaluated", "steps.contact.body"),
    M("Power Automate's @f(…)", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"⟦@triggerBody()\"", "NotEvaluated", "trigger.event"),
    M("Power Automate's functions", "{{ steps.contact.body.email }}", "{{ ⟦body('contact').email }}", "UnknownFunction", "steps.contact.body"),
    M("a block of Jinja", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"⟦{% if true %}large{% endif %}\"", "NotEvaluated", "A if CONDITION else B"),
    M("a comment of Jinja", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"Deal ⟦{# large #}\"", "NotEvaluated", "comments"),
    M("single braces", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"Deal of ⟦{ steps.contact.body.name }\"", "NotEvaluated", "two braces"),
    M("a dollar", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"Deal of ⟦${{ steps.contact.body.name }}\"", "NotEvaluated", "without $"),
    # The column in texts of every form
    M("in a block text", "          worth {{ steps.get_referral.body.details.dealValue }}.", "          worth {{ steps.⟦get_referal.body.details.dealValue }}.", "UnknownStep", "did you mean 'get_referral'?"),
    M("in a folded text", "        description: |\n", "        description: >-\n          Of {{ steps.⟦get_tokn.body }}\n", "UnknownStep", "did you mean 'get_token'?"),
    M("in a quoted text of several lines", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"Deal\n            of {{ steps.⟦contcat.body.name }}\"", "UnknownStep", "did you mean 'contact'?"),
    M("behind escapes", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: \"\\u00e9\\n\\\"Deal\\\" \\\n              of {{ steps.⟦contcat.body.name }}\"", "UnknownStep", "did you mean 'contact'?"),
    M("behind an apostrophe", "text: \"Deal of {{ steps.contact.body.name }}\"", "text: 'It''s {{ steps.⟦contcat.body.name }}'", "UnknownStep", "did you mean 'contact'?"),
    M("in a plain text of several lines", "until: steps.look.body.status == 'qualified'", "until: steps.look.body.status == 'qualified'\n      or steps.⟦loook.body.id == null", "UnknownStep", "did you mean 'look'?"),
    M("in a key", "    map: {mail: \"{{ item.email }}\"", "    map: {\"{{ item.⟦emial }}\": 1, mail: \"{{ item.email }}\"", "UnknownMember", "did you mean 'email'?"),
    M("the second of two in one text", "{{ run.id }} {{ run.status }}", "{{ run.id }} {{ run.⟦state }}", "UnknownMember", "did you mean 'status'?"),
    # Kinds of values
    M("a text as a condition", "    if: steps.get_referral.body.details.dealValue >= parameters.minimum", "    if: ⟦steps.get_referral.body.name", "NoCondition", "!= null"),
    M("a number as a condition", "    when: steps.get_referral.body.status != 'Closed'", "    when: ⟦parameters.minimum", "NoCondition", "> 0"),
    M("a list as a condition", "    where: item.email != null", "    where: ⟦steps.get_referral.body.team", "NoCondition", "empty"),
    M("a loop over a text", "    foreach: steps.products.body", "    foreach: ⟦steps.get_referral.body.name", "NoList", "split"),
    M("a selection from an object", "    select: steps.get_referral.body.team", "    select: ⟦steps.get_referral.body.customerProfile", "NoList", "list"),
    # Others
    M("a secure write", "    call: partner_center.get_token\n", "    call: partner_center.create_referral\n    ⟦secure: [outputs]\n    with: {type: Shared, customer_profile: {}, consent: {}, details: {}}\n", "SecureWrite", "done twice"),
    M("a sample that isn't there", "    sample: referral_created.json", "    sample: ⟦referal_created.json", "NoFile", "did you mean 'referral_created.json'?"),
    M("collapse without a lane", "    lane: trigger.event.subject\n    collapse: true", "    ⟦collapse: true", "NoLane", "lane"),
    M("a step's name twice", "      pause: {wait: 10m}", "      ⟦contact: {wait: 10m}", "DuplicateStep", "unique"),
    # Two mistakes
    M("two in one expression", "{{ join(variables.told, ', ') }}", "{{ ⟦joinn(variables.⟦tolled, ', ') }}", "UnknownFunction UnknownVariable", "did you mean 'join'?"),
    M("two in one step", "    run_after: {later: any}", "    ⟦tiemout: 10s\n    run_after: {⟦latter: any}", "UnknownKey RunAfter", "did you mean 'timeout'?"),
    M("a connection and an operation of another one", "  crm: dynamics365\n  desk: http", "  crm: ⟦dynamics\n  desk: ⟦htpp", "UnknownConnection UnknownConnection", "did you mean 'dynamics365'?"),
    M("text without quotes, and an unknown name", "note: The document that the broken ones are made of\n", "note: this⟦: that\n⟦nots: x\n", "YamlSyntax UnknownKey", "in quotes"),
]
# fmt: on


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The document without its marks, and where they stood."""
    places = []
    while (at := text.find("⟦")) >= 0:
        places.append((text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
        text = text[:at] + text[at + 1 :]
    return text, places


def found(text: str) -> list[Finding]:
    return check(load(text.encode(), "referral_desk.yaml"), CATALOG)[1]


def test_the_document_is_valid() -> None:
    assert [str(f) for f in found(BASE)] == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.rule)
def test_mistake(mistake: Mistake) -> None:
    assert BASE.count(mistake.old) == 1, "the piece stands once"
    text, places = marked(BASE.replace(mistake.old, mistake.new))
    findings = found(text)
    assert [(f.place.line, f.place.column, f.code) for f in findings] == [
        (*place, code) for place, code in zip(places, mistake.codes.split(), strict=True)
    ], "\n".join(map(str, findings))
    if findings:
        words = f"{findings[0].hint} {findings[0].expected} {findings[0].message}"
        assert mistake.remedy in words, words


def test_there_are_many() -> None:
    assert len(MISTAKES) >= 120
    assert len({m.rule for m in MISTAKES}) == len(MISTAKES)


# Other files


def test_a_flow_that_runs_inside_has_its_own_mistakes() -> None:
    """They stand in its own file, once, however often it is run."""
    text = BASE.replace(
        '    run: tell_desk\n    with: {subject: "{{ steps.write_back.error.message }}", urgent: true}',
        "    run: broken_inside",
    )
    text = text.replace("  give_up:\n", "  again:\n    run: broken_inside\n\n  give_up:\n")
    (finding,) = found(text)
    assert (str(finding.place), finding.code) == ("broken_inside.yaml:3:29", "UnknownStep")


def test_flows_that_run_each_other() -> None:
    text = BASE.replace(
        '    run: tell_desk\n    with: {subject: "{{ steps.write_back.error.message }}", urgent: true}',
        "    run: runs_itself",
    )
    (finding,) = found(text)
    assert (str(finding.place), finding.code) == ("runs_itself.yaml:3:16", "Recursion")
    assert "referral_desk → runs_itself → referral_desk" in finding.message


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_of_every_system(form: str, ends: str) -> None:
    text, ((line, column),) = marked(
        BASE.replace("steps.look.body.status == 'qualified'", "steps.⟦lok.body.status == 'é'")
    )
    (finding,) = check(load(text.replace("\n", ends).encode(form), "f.yaml"), CATALOG)[1]
    assert (finding.place.line, finding.place.column, finding.code) == (line, column, "UnknownStep")


@pytest.mark.parametrize(
    ("saved", "place", "word"),
    [
        ("flow: f\ntitle: Größe\n".encode("latin-1"), (2, 10), "byte 0xF6"),
        ("flow: f\n".encode("utf-16"), (1, 1), "UTF-16"),
        (b"\xef\xbb\xbfflow: \xff\n", (1, 7), "byte 0xFF"),
    ],
)
def test_what_is_no_utf_8(saved: bytes, place: tuple[int, int], word: str) -> None:
    _, (finding,) = check(load(saved, "f.yaml"), CATALOG)
    assert (finding.place.line, finding.place.column, finding.code) == (*place, "Encoding")
    assert word in finding.message and "UTF-8" in finding.hint


# One mistake, one finding


def test_one_unknown_name_is_one_finding() -> None:
    """A step that is misspelt where it stands is unknown wherever it is read."""
    text, ((line, column),) = marked(
        BASE.replace("\n  upsert_lead:\n", "\n  upset_lead:\n").replace(
            'json: {lead: "{{ steps.upsert_lead', 'json: {lead: "{{ steps.⟦upsert_lead'
        )
    )
    (finding,) = found(text)
    assert (finding.place.line, finding.place.column, finding.code) == (line, column, "UnknownStep")
    assert finding.hint == "did you mean 'upset_lead'?"
    others = [i for i, text in enumerate(BASE.split("\n"), 1) if "steps.upsert_lead" in text and i != line]
    assert f"(also in line {', '.join(map(str, others))})" in finding.message


KEY = re.compile(r"( *)(\w+):(.*)")


def damaged(how: str) -> list[str]:
    """The document with one line of it damaged, for each line with a key."""
    lines, out = BASE.split("\n"), []
    for number, line in enumerate(lines):
        if not (found := KEY.fullmatch(line)):
            continue
        indent, key, rest = found.groups()
        new = {
            "swapped": f"{indent}{key[0]}{key[1:3][::-1]}{key[3:]}:{rest}",
            "in capitals": f"{indent}{key.capitalize()}:{rest}",
            "without its colon": f"{indent}{key}{rest}",
            "twice": f"{line}\n{line}",
            "a tab": f"\t{line.lstrip()}",
            "deeper": f" {line}",
            "nothing": f"{indent}{key}:",
            "a number": f"{indent}{key}: 7" if rest else line,
            "a list": f"{indent}{key}: [1]" if rest else line,
        }[how]
        if how != "nothing" or rest:  # of what stands on several lines that would be another document
            out.append("\n".join([*lines[:number], new, *lines[number + 1 :]]))
    return out


@pytest.mark.parametrize(
    "how",
    ["swapped", "in capitals", "without its colon", "twice", "a tab", "deeper", "nothing", "a number", "a list"],
)
def test_one_damaged_line_is_at_most_one_finding(how: str) -> None:
    """Nothing follows from it: neither unknown names nor parts that are missing because of it."""
    several = [text for text in damaged(how) if len(found(text)) > 1]
    assert not several, "\n".join(map(str, found(several[0])))
