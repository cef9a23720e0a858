"""`flowrun test` and the pytest plugin: what test files say, and what is told where something differs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from terminal import FLOWS, Said, flowrun

from engine.loader import load
from engine.testing.flows import schema_of_tests
from engine.testing.flows.matching import compare, fits

ROOT = FLOWS.parent
MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"


@dataclass
class Desk:
    """A folder with one flow and one test file."""

    folder: Path

    def flow(self, text: str, name: str = "work") -> None:
        whole = f"flow: {name}\n{textwrap.dedent(text)}"
        (self.folder / f"{name}.yaml").write_text(whole, "utf-8")

    def cases(self, text: str, name: str = "work") -> None:
        inner = textwrap.indent(textwrap.dedent(text).strip("\n"), "  ")
        (self.folder / f"{name}.test.yaml").write_text(f"flow: {name}.yaml\ncases:\n{inner}\n", "utf-8")

    def run(self, *options: str) -> Said:
        return flowrun("test", *options, cwd=self.folder)

    def passes(self, text: str) -> None:
        """Every case is as it says."""
        self.cases(text)
        said = self.run()
        assert said.code == 0, said.all

    def differences(self, text: str) -> list[dict[str, Any]]:
        """How the one case differs."""
        self.cases(text)
        said = self.run("--json")
        assert said.code == 1, said.all
        (case,) = (line for line in said.lines if line["type"] == "case")
        assert case["status"] == "failed"
        return list(case["differences"])

    def findings(self, text: str) -> list[tuple[str, int, int]]:
        """What is wrong with the test file: code, line, column."""
        self.cases(text)
        said = self.run("--json")
        assert said.code == 2, said.all
        return [(f["code"], f["line"], f["column"]) for f in said.lines if f["type"] == "finding"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


ORDER = """\
    triggers: {by_hand: {manual: {inputs: {type: object, required: [pieces]}}}}
    connections: {shop: http}
    parameters: {least: {type: integer, default: 1}, pin: {type: string, secret: true, default: none}}
    steps:
      reserve:
        call: shop.request
        with: {method: PUT, url: echo, json: {pieces: "{{ trigger.inputs.pieces }}", pin: "{{ parameters.pin }}"}}
        secure: [inputs]
      enough:
        if: trigger.inputs.pieces >= parameters.least
        then:
          place:
            call: shop.request
            with: {method: POST, url: echo, json: {pieces: "{{ trigger.inputs.pieces }}"}}
            timeout: 30s
        else:
          refuse:
            terminate: failed
            error: {code: TooFew, message: "{{ trigger.inputs.pieces }} of {{ parameters.least }}"}
      answer:
        respond: {status: 201, body: {by: "{{ steps.place.body.method }}"}}
    outputs: {method: "{{ steps.place.body.method }}"}
    business_key: trigger.inputs.pieces
"""


# What a case may say


def test_inputs_parameters_and_what_came_of_it(desk: Desk) -> None:
    desk.flow(ORDER)
    (desk.folder / "forty.json").write_text('{"pieces": 40}', "utf-8")
    desk.passes("""
        by a value:
          input: {pieces: 7}
          expect:
            order: [reserve, place, enough, answer]
            steps:
              reserve: {inputs: {method: PUT}, body: {body: {pieces: 7}}, outputs: {status_code: 200}, tries: 1}
              enough/place: succeeded
              refuse: skipped
            outputs: {method: POST}
            response: {status: 201, body: {by: POST}}
            business_key: "7"
            writes: 2
        by a file:
          input: forty.json
          expect: {steps: {place: {body: {body: {pieces: 40}}}}}
        too few:
          input: {pieces: 2}
          parameters: {least: 3}
          expect:
            status: failed
            error: {step: refuse, code: TooFew, message: 2 of 3}
            steps: {place: skipped, answer: {status: skipped}}
    """)


def test_what_is_pinned_is_not_called(desk: Desk) -> None:
    desk.flow(ORDER)
    desk.passes("""
        a body:
          input: {pieces: 1}
          steps:
            reserve: {outputs: {status_code: 299}, summary: reserved, changed: true}
            place: {body: {method: PIN}}
          expect:
            steps: {reserve: {body: null, outputs: {status_code: 299}, summary: reserved, changed: true}}
            outputs: {method: PIN}
            writes: 0
        an error:
          input: {pieces: 1}
          steps: {place: {error: {kind: data, code: Sold, message: sold out}}}
          expect: {status: failed, error: {kind: data, code: Sold, message: sold out, hint: null}, writes: 1}
        a list is told try by try:
          input: {pieces: 1}
          steps: {reserve: [{error: {kind: transient, retry_after: 3600}}, {error: {kind: transient}}, {body: ok}]}
          expect: {steps: {reserve: {tries: 3, body: ok}}, writes: 1}
        one that stays away for long runs out of time:
          input: {pieces: 1}
          steps: {enough/place: {after: 31s, error: {kind: remote}}}
          expect:
            status: waiting
            error: {step: enough/place, kind: uncertain}
            steps: {reserve: succeeded}
    """)


def test_lost_answers(desk: Desk) -> None:
    """Of an idempotent call it is asked again, of a write a person, or its probe."""
    desk.flow(ORDER)
    desk.passes("""
        idempotent:
          input: {pieces: 1}
          steps: {reserve: [{lost: true}, {body: found}]}
          expect: {steps: {reserve: {tries: 2, body: found, changed: true}}}
        a write:
          input: {pieces: 1}
          steps: {place: {lost: true}}
          expect: {status: waiting, error: {step: enough/place}}
    """)
    for status in ("failed", "skipped"):
        (found,) = desk.differences(f"""
            a write that waits:
              input: {{pieces: 1}}
              steps: {{place: {{lost: true}}}}
              expect: {{status: waiting, steps: {{place: {status}}}}}
        """)
        assert (found["path"], found["note"]) == ("expect.steps.place", "it waits for a person")


PROBED = '''
from dataclasses import dataclass
from typing import Any
from engine import Connector, Result, operation

class Post(Connector):
    """Letters."""

    @operation(effect="write", probe="sent")
    def send(self, text: str) -> Result[Any]:
        """Send a letter."""
        raise AssertionError("a test has sent a letter")

    @operation(effect="read")
    def sent(self, text: str) -> Result[Any]:
        """The letter."""
        return Result(body=None)
'''


def test_a_probe_is_pinned_with_its_write(desk: Desk) -> None:
    (desk.folder / "plugins").mkdir()
    (desk.folder / "plugins/post.py").write_text(PROBED, "utf-8")
    (desk.folder / "connections.yaml").write_text(
        "environments: {sandbox: {emulate: true}}\nplugins: plugins\n", "utf-8"
    )
    desk.flow("""
        connections: {post: post}
        steps:
          letter: {call: post.send, with: {text: hello}}
        outputs: {id: "{{ steps.letter.body.id }}"}
    """)
    desk.passes("""
        it was sent:
          steps: {letter: {lost: true, probe: {body: {id: L1}, summary: it had been sent}}}
          expect: {outputs: {id: L1}, steps: {letter: {tries: 1, changed: true, summary: it had been sent}}}
        it was not:
          steps: {letter: [{lost: true}, {body: {id: L2}}]}
          expect: {outputs: {id: L2}, steps: {letter: {tries: 2}}}
    """)
    desk.passes("""
        a bug of a connector is told as one:
          expect: {status: failed, error: {kind: bug, code: AssertionError}, steps: {letter: {tries: 9}}}
    """)


def test_loops_by_name_by_path_and_by_pass(desk: Desk) -> None:
    desk.flow("""
        connections: {shop: http}
        triggers: {by_hand: {manual: {}}}
        steps:
          each:
            foreach: trigger.inputs.items
            steps:
              post: {call: shop.request, with: {method: PUT, url: echo, json: "{{ item }}"}, retry: {count: 0}}
            result: "{{ steps.post.body }}"
    """)
    desk.passes("""
        all alike:
          input: {items: [1, 2]}
          steps: {post: {body: x}}
          expect: {steps: {each: {body: [x, x]}, post: succeeded, each/post: {inputs: {method: PUT}}}}
        one by one:
          input: {items: [1, 2, 3]}
          steps: {"each[1]/post": {error: {}}, each/post: {body: y}}
          expect:
            status: failed
            order: ["each[0]/post", "each[1]/post", post, each]
            steps:
              post: [succeeded, {status: failed, error: {code: Pinned}}, {inputs: {json: 3}}]
              "each[2]/post": {body: y}
              each: failed
        none:
          input: {items: []}
          expect: {order: [each], steps: {post: []}}
        a fault in each pass:
          input: {items: [1, 2]}
          faults: {"each[1]/post": 503}
          expect: {status: failed, steps: {post: [succeeded, failed]}}
    """)
    assert desk.differences("""
        too few:
          input: {items: [1, 2]}
          expect: {steps: {post: [succeeded]}}
    """)[0]["found"] == ["succeeded", "succeeded"]  # fmt: skip


def test_nobody_waits(desk: Desk) -> None:
    desk.flow("""
        steps:
          begin: {compose: "{{ utcNow() }}"}
          days: {wait: 30d}
          after: {compose: "{{ formatDateTime(utcNow(), 'yyyy-MM-dd') }}"}
    """)
    desk.passes("""
        a month:
          now: 2027-01-01T08:00:00Z
          expect: {steps: {begin: {body: ~regex 2027-01-01T08:00:00.*}, after: {body: 2027-01-31}}}
    """)


def test_flows_in_flows(desk: Desk) -> None:
    desk.flow(
        """
        connections: {shop: http}
        triggers: {by_hand: {manual: {}}}
        steps:
          ask: {call: shop.request, with: {url: echo, query: {q: "{{ trigger.inputs.q }}"}}}
        outputs: {q: "{{ steps.ask.body.query.q }}"}
        """,
        "inner",
    )
    desk.flow("""
        steps:
          child: {run: inner, with: {q: a}}
          later: {start: inner, with: {q: b}}
          both: {compose: "{{ steps.child.body.q }} {{ steps.later.body.created }}"}
    """)
    desk.passes("""
        together:
          expect:
            order: [child/ask, child, later, both]
            steps: {ask: {inputs: {url: echo}}, later: {inputs: {flow: inner, with: {q: b}}}, both: {body: a true}}
        pinned inside:
          steps: {child/ask: {body: {query: {q: z}}}, later: {body: {run: null, created: false}}}
          expect: {steps: {both: {body: z false}}}
    """)


def test_alerts_are_calls_like_others(desk: Desk) -> None:
    desk.flow("""
        connections: {shop: http}
        alerts: {on: [failed], to: shop.request, with: {method: PUT, url: echo, json: "{{ error.code }}"}}
        steps:
          stop: {terminate: failed, error: {code: Gone}}
    """)
    desk.passes("""
        it is told:
          expect: {status: failed, steps: {alerts/failed: {inputs: {json: Gone}, body: {body: Gone}}}}
        by a pin:
          steps: {alerts/failed: {error: {kind: remote}}}
          expect: {status: failed, error: {code: Gone}, steps: {alerts/failed: failed}, writes: 0}
    """)


def test_what_starts_a_run(desk: Desk) -> None:
    desk.flow("""
        triggers:
          hook: {webhook: partner_center, events: [referral-created], when: trigger.event.data.n > parameters.least}
          clock: {schedule: "0 6 * * *"}
          news: {poll: crm.list_changes}
          many: {manual: {}, each: trigger.inputs.rows}
        connections: {partner_center: partner_center, crm: dynamics365}
        parameters: {least: {type: integer, default: 1}}
        steps:
          seen: {compose: "{{ trigger }}"}
    """)
    desk.passes(f"""
        an event as the trigger sees it:
          event: {{subject: s, data: {{n: 2}}}}
          expect:
            steps:
              seen:
                body:
                  name: hook
                  event: {{id: test-event, subject: s, type: referral-created, time: ~any, data: {{n: 2}}}}
        one that it lets by:
          event: {{subject: s, data: {{n: 1}}}}
          expect: {{status: skipped, steps: {{seen: skipped}}}}
        with another parameter:
          event: {{subject: s, data: {{n: 1}}}}
          parameters: {{least: 0}}
        an event as it is sent:
          input:
            EventName: referral-created
            ResourceUri: https://api.partner.microsoft.com/v1.0/engagements/referrals/{MAIN}
            ResourceName: referral
            ResourceChangeUtcDate: "2026-11-20T09:14:22Z"
            n: 5
          expect: {{steps: {{seen: {{body: {{event: {{subject: {MAIN}, time: "2026-11-20T09:14:22Z"}}}}}}}}}}
        the time:
          trigger: clock
          expect: {{steps: {{seen: {{body: {{name: clock, time: ~regex 2026-11-24T12:00:00.*}}}}}}}}
        news:
          trigger: news
          event: {{subject: a}}
          expect: {{steps: {{seen: {{body: {{event: {{subject: a, type: ""}}}}}}}}}}
        an item:
          trigger: many
          input: {{rows: [x]}}
          expect: {{steps: {{seen: {{body: {{item: x, index: 0}}}}}}}}
        no item:
          trigger: many
          input: {{rows: []}}
          expect: {{status: skipped}}
    """)
    for text, what in (
        ("{trigger: many, input: {rows: [1, 2]}}", "case is one run"),
        ("{trigger: hook}", "needs an event"),
        ("{trigger: hook, input: {EventName: x}}", "the event has no resourceUri"),
        ("{expect: {status: succeeded}, event: {subject: s, type: other}}", "no run started"),
    ):
        (found,) = desk.differences(f"it: {text}")
        assert what in found["note"]


def test_the_input_has_to_fit_and_so_do_parameters(desk: Desk) -> None:
    desk.flow(ORDER)
    (found,) = desk.differences("it: {input: {}}")
    assert (found["found"], "pieces" in found["note"]) == ("data error SchemaViolation", True)
    (found,) = desk.differences("it: {input: {pieces: 1}, parameters: {least: many}}")
    assert found["note"] == "parameter least is no integer"
    desk.flow("parameters: {key: {default: '${env:KEY}'}}\nsteps: {one: {compose: '{{ parameters.key }}'}}")
    (found,) = desk.differences("it: {}")
    assert "give `parameters: {key: …}` in the case" in found["note"]
    desk.passes("it: {parameters: {key: k}, expect: {steps: {one: {body: k}}}}")


def test_secret_parameters_are_shown_to_nobody(desk: Desk) -> None:
    desk.flow(ORDER)
    desk.cases("""
        it:
          input: {pieces: 1}
          parameters: {pin: correct-horse-battery}
          expect: {steps: {reserve: {body: {body: {pin: something else}}}}}
    """)
    for options in ((), ("--json",), ("--junit", "out.xml")):
        said = desk.run(*options)
        assert said.code == 1
        assert "***" in said.all
        assert "correct-horse" not in said.all
    assert "correct-horse" not in (desk.folder / "out.xml").read_text("utf-8")


# Services


def test_tests_reach_nothing_outside(desk: Desk) -> None:
    (desk.folder / "connections.yaml").write_text(
        "environments: {sandbox: {emulate: true, connections:"
        " {here: {connector: http, base_url: 'http://127.0.0.1:9'}, there: {connector: http, base_url: https://a.test}}}}",
        "utf-8",
    )
    for entry, host in (("here", "127.0.0.1:9"), ("there", "a.test")):
        desk.flow(f"connections: {{c: {entry}}}\nsteps: {{ask: {{call: c.request, with: {{url: x}}}}}}")
        (found,) = desk.differences("it: {}")
        assert host in found["note"]
        assert "NoEmulator" in found["note"]
        desk.passes("it: {steps: {ask: {body: 1}}}")


def test_tests_leave_no_state_and_find_none(desk: Desk) -> None:
    desk.flow("""
        connections: {crm: sqlite}
        steps:
          keep: {call: crm.upsert_lead, with: {key: k, lead: {company: A}}}
    """)
    desk.passes("""
        one: {expect: {steps: {keep: {body: {created: true}}}, writes: 1}}
        two: {expect: {steps: {keep: {body: {created: true}}}, records: {crm.leads: [{where: {}}]}}}
        three: {runs: 3, expect: {steps: {keep: {body: {created: false}}}, writes: 0}}
    """)
    assert sorted(p.name for p in desk.folder.iterdir()) == ["work.test.yaml", "work.yaml"]


READ = """
    connections: {partner_center: partner_center, crm: dynamics365}
    triggers: {by_hand: {manual: {}}}
    steps:
      list: {call: partner_center.list_referrals}
      lead: {call: crm.get_lead, with: {key: "{{ trigger.inputs.key }}"}}
"""


def test_given_records_are_there_and_no_others(desk: Desk) -> None:
    desk.flow(READ)
    desk.passes(
        f"""
        none:
          given: {{partner_center.referrals: [], crm.leads: []}}
          input: {{key: a}}
          expect:
            steps: {{list: {{body: {{count: 0}}}}, lead: {{body: null}}}}
            records: {{crm.leads: [{{where: {{}}, count: 0}}]}}
        laid over the sandbox's own:
          given:
            partner_center.referrals: [{{id: {MAIN}, details: {{dealValue: 1}}}}]
            crm.leads: [{{leadid: 00000000-0000-4000-8000-00000000000A, new_referralid: k, companyname: K}}]
          input: {{key: k}}
          expect:
            steps:
              list:
                body: {{items: [{{name: Fabrikam ovens in the cloud, details: {{dealValue: 1, currency: USD}}}}]}}
              lead: {{body: {{lead: {{company: K}}}}}}
        the sandbox's own:
          input: {{key: k}}
          expect:
            steps: {{list: {{body: {{items: ~any}}}}}}
            records: {{crm.leads: [{{where: {{}}, count: 3}}, {{where: {{companyname: ~regex "Alpine.*"}}}}]}}
    """.replace('~regex "Alpine.*"', '"~regex Alpine.*"')
    )
    (found,) = desk.differences(f"""
        it: {{given: {{partner_center.referrals: [{{id: {MAIN}, stats: Closed}}]}}, input: {{key: a}}}}
    """)
    assert "referrals[0]: unknown property /stats" in found["note"]
    (found,) = desk.differences("""
        it: {given: {crm.leads: [{leadid: 00000000-0000-4000-8000-00000000000A, compnyname: K}]}, input: {key: a}}
    """)
    assert "did you mean 'companyname'?" in found["note"]


def test_rows_of_the_crm_in_a_file(desk: Desk) -> None:
    desk.flow(READ.replace("dynamics365", "sqlite"))
    desk.passes("""
        it:
          given: {crm.leads: [{id: a, key: k, company: K, native: {n: 1}}, {id: b, status: qualified}]}
          input: {key: k}
          expect:
            steps: {lead: {body: {id: a, lead: {company: K, native: {n: 1}}}}}
            records: {crm.leads: [{where: {id: b}, has: {status: qualified, key: null}}, {where: {}, count: 2}]}
    """)
    (found,) = desk.differences("it: {given: {crm.leads: [{id: a, compny: K}]}, input: {key: k}}")
    assert "did you mean 'company'?" in found["note"]


def test_differences_of_records(desk: Desk) -> None:
    desk.flow(READ)
    found = desk.differences("""
        it:
          input: {key: k}
          expect:
            records:
              crm.leads:
                - {where: {companyname: Nobody}}
                - {where: {}, count: 4}
                - {where: {companyname: Coho Winery}, has: {firstname: Maxine, lastname: Vine}}
    """)
    assert [(d["path"], d["expected"], d["found"]) for d in found] == [
        ("expect.records.crm.leads[0]", "1 where companyname = Nobody", "0"),
        ("expect.records.crm.leads[1].count", "4 where all", "3"),
        ("expect.records.crm.leads[2].has.firstname", "Maxine", "Max"),
    ]


def test_faults_strike_where_they_are_told_to(desk: Desk) -> None:
    desk.flow("""
        connections: {crm: dynamics365}
        steps:
          keep: {call: crm.upsert_lead, with: {key: k, lead: {company: K}}, retry: {count: 2}}
    """)
    desk.passes("""
        before it is handled:
          faults: {keep: [reset, 503]}
          expect: {steps: {keep: {tries: 3, body: {created: true}}}, writes: 1}
        after it was:
          faults: {keep: lost}
          expect: {steps: {keep: {tries: 2, body: {created: false}, changed: true}}, writes: 1}
        in the sign-in:
          faults: {keep: {fault: 500, host: login.microsoftonline.com, path: token}}
          expect: {steps: {keep: {tries: 2}}}
        one request of several:
          faults: {keep: {fault: 429, method: patch, path: "leads(new_referralid='k')"}}
          expect: {steps: {keep: {tries: 2}}, writes: 1}
        a status of its own:
          faults: {keep: {fault: 418}}
          expect: {status: failed, error: {code: "418"}, writes: 0}
        in the first run alone:
          faults: {keep: lost}
          runs: 2
          expect: {steps: {keep: {tries: 1}}, writes: 0}
    """)
    found = desk.differences("""
        it: {faults: {keep: [503, {fault: 500, method: DELETE}]}}
    """)
    assert [d["path"] for d in found] == ["faults.keep"]


def test_each_of_several_runs_has_to_succeed(desk: Desk) -> None:
    desk.flow("""
        connections: {crm: sqlite}
        steps:
          keep: {call: crm.get_lead, with: {key: k}}
          stop: {when: steps.keep.body == null, terminate: failed}
    """)
    found = desk.differences("it: {runs: 2, expect: {status: failed}}")
    assert [(d["path"], d["note"]) for d in found] == [("runs", "run 1 of 2")]


# What is wrong with a test file

WRONG = {
    "an unknown key": ("it: {expects: {}}", "UnknownKey", 3, 8),
    "a wrong type": ("it: {expect: {writes: none}}", "WrongType", 3, 25),
    "a status that there is not": ("it: {expect: {status: done}}", "NotAllowed", 3, 25),
    "a fault that there is not": ("it: {faults: {reserve: {fault: slow}}}", "", 3, 0),
    "a step that there is not": ("it: {steps: {reserv: {}}}", "UnknownStep", 3, 16),
    "a path that there is not": ("it: {steps: {reserve/place: {}}}", "UnknownStep", 3, 16),
    "a step that calls nothing": ("it: {steps: {enough: {}}}", "NotACall", 3, 16),
    "a step without a service": ("it: {faults: {answer: 500}}", "NotACall", 3, 17),
    "an expected step that there is not": ("it: {expect: {steps: {plcae: skipped}}}", "UnknownStep", 3, 25),
    "an order that can't be": ("it: {expect: {order: [reserve, plcae]}}", "UnknownStep", 3, 34),
    "a failure of a step that there is not": ("it: {expect: {error: {step: plcae}}}", "UnknownStep", 3, 25),
    "an output that there is not": ("it: {expect: {outputs: {metod: x}}}", "UnknownOutput", 3, 27),
    "an input that there is not": ("it: {expect: {steps: {place: {inputs: {metod: x}}}}}", "UnknownMember", 3, 42),
    "a trigger that there is not": ("it: {trigger: by_hnd}", "UnknownTrigger", 3, 17),
    "an event by hand": ("it: {event: {subject: a}}", "NoEvent", 3, 8),
    "a file that there is not": ("it: {input: nothing.json}", "NoFile", 3, 15),
    "a parameter that there is not": ("it: {parameters: {leest: 1}}", "UnknownParameter", 3, 21),
    "a connection that there is not": ("it: {connect: {shop: hhtp}}", "UnknownConnection", 3, 24),
    "an alias that there is not": ("it: {connect: {shopp: http}}", "UnknownConnection", 3, 18),
    "a collection that there is not": ("it: {given: {shop.leads: []}}", "UnknownCollection", 3, 16),
    "an alias of records that there is not": ("it: {expect: {records: {crm.leads: []}}}", "UnknownConnection", 3, 27),
    "no time": ("it: {now: noon}", "Time", 3, 13),
    "no pattern": ("it: {expect: {response: {body: '~regex ('}}}", "Pattern", 3, 34),
    "no duration": ("it: {steps: {place: {after: soon}}}", "WrongValue", 3, 31),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_found_where_it_stands(desk: Desk, what: str) -> None:
    text, code, line, column = WRONG[what]
    desk.flow(ORDER)
    found = desk.findings(text)
    assert len(found) == 1
    if code:
        assert found == [(code, line, column)]
    assert found[0][1] == line


def test_mistakes_are_told_all_at_once_with_the_likely_name(desk: Desk) -> None:
    desk.flow(ORDER)
    desk.cases("""
        one: {steps: {reserv: {}}}
        two: {expect: {outputs: {metod: 1}, steps: {plac: skipped}}}
    """)
    said = desk.run()
    assert said.code == 2
    for meant in ("reserve", "method", "place"):
        assert f"did you mean '{meant}'?" in said.out
    assert "work.test.yaml:3:17: error[UnknownStep]" in said.out
    assert "1 file wrong" in said.out


def test_members_that_a_closed_result_lacks(desk: Desk) -> None:
    desk.flow(READ)
    assert desk.findings("it: {steps: {lead: {body: {lead: {compny: x}}}}}") == [("UnknownMember", 3, 37)]
    assert desk.findings("it: {expect: {steps: {lead: {body: {stauts: x}}}}}") == [("UnknownMember", 3, 39)]
    assert desk.findings("it: {given: {crm.leads: [{companyname: x}]}}") == [("MissingKey", 3, 28)]


def test_faults_need_a_service(desk: Desk) -> None:
    desk.flow(READ.replace("dynamics365", "sqlite"))
    assert desk.findings("it: {faults: {lead: 500}}") == [("NoService", 3, 17)]


def test_a_flow_that_is_wrong_or_missing(desk: Desk) -> None:
    desk.flow("steps: {one: {compose: '{{ steps.two }}'}}")
    desk.cases("it: {}\nand: {}")
    said = desk.run()
    assert said.code == 2
    assert said.out.count("UnknownStep") == 1
    assert "work.yaml:2:" in said.out
    (desk.folder / "work.yaml").unlink()
    said = desk.run()
    assert (said.code, "there is no file work.yaml" in said.out) == (2, True)


def test_yaml_faults_and_unquoted_expressions(desk: Desk) -> None:
    desk.flow(ORDER)
    assert desk.findings("it: {input: {{ a }}}")[0][1] == 3
    desk.cases("it: {}\nit: {}")
    assert "DuplicateKey" in desk.run().out


def test_every_key_is_explained_to_editors() -> None:
    def unexplained(piece: Any, path: str = "") -> list[str]:
        if isinstance(piece, list):
            return [found for inner in piece for found in unexplained(inner, path)]
        if not isinstance(piece, dict):
            return []
        keys = piece.get("properties", {})
        bare = [f"{path}.{k}" for k, v in keys.items() if "description" not in v and "anyOf" not in v]
        return bare + [found for k, v in piece.items() for found in unexplained(v, f"{path}.{k}")]

    assert not unexplained(schema_of_tests())
    printed = flowrun("schema", "--for", "tests", cwd=ROOT)
    assert printed.code == 0
    text = load((FLOWS / "referral_to_dynamics.test.yaml").read_text("utf-8"), "t").data
    assert not list(Draft202012Validator(json.loads(printed.out)).iter_errors(text))


# Comparing


@pytest.mark.parametrize(
    ("expected", "found", "fit"),
    [
        (1, 1.0, True), (1, True, False), (True, True, True), (0, False, False), (None, None, True), ("1", 1, False),
        ({"a": 1}, {"a": 1, "b": 2}, True), ({"a": None}, {}, True), ({"a": 1}, None, False), ({}, {"a": 1}, True),
        ({}, [], False), ([1, 2], [1, 2], True), ([1], [1, 2], False), ([], [], True), ([], None, False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True), ("~any", 0, True), ("~any", "", True), ("~any", None, False),
        ("~regex a.*c", "a\nbc", True), ("~regex b", "abc", False), ("~regex 1", 1, False), ("~anything", "x", False),
    ],
)  # fmt: skip
def test_objects_in_part_lists_whole(expected: Any, found: Any, fit: bool) -> None:
    assert fits(expected, found) is fit


def test_where_and_how_it_differs() -> None:
    found = list(compare({"a": [{"b": 1}, {"b": 2}], "c": {"d": "x"}}, {"a": [{"b": 1}, {"b": 3}], "c": {"d": "y"}}))
    assert [(m.where, m.expected, m.found) for m in found] == [("a[1].b", 2, 3), ("c.d", "x", "y")]
    (one,) = compare("x" * 900 + "y" + "x" * 900, "x" * 900 + "z" + "x" * 900)
    expected, got = one.lines()
    assert "xyx" in expected
    assert "xzx" in got
    assert len(expected) < 350


def test_what_a_failing_case_says(desk: Desk) -> None:
    desk.flow(ORDER)
    desk.cases("""
        it passes: {input: {pieces: 1}}
        it fails:
          input: {pieces: 1}
          steps: {place: {error: {code: Sold, message: sold out}}}
          expect:
            order: [reserve, place, enough, answer]
            steps:
              reserve: {body: {body: {pieces: 2}}}
              answer: succeeded
    """)
    said = desk.run()
    assert said.code == 1
    shown = said.out.replace("reserve  PUT", "reserve  …PUT")
    assert (
        shown[: shown.index("the run:")]
        == """\
work.test.yaml
  ✓ it passes
  ✗ it fails
      work.test.yaml:4:3: expect.status
        expected  succeeded
        found     failed
        enough/place: remote error Sold: sold out
      work.test.yaml:8:7: expect.order
        (- expected, + found)
          reserve
          enough/place
          enough
        - answer
      work.test.yaml:10:33: expect.steps.reserve.body.body.pieces
        expected  2
        found     1
      work.test.yaml:11:9: expect.steps.answer
        expected  succeeded
        found     skipped
      """
    )
    assert "✗ enough/place  Sold: sold out" in shown
    assert shown.endswith("s\n")
    assert "1 passed, 1 failed in" in shown


# The command


def test_which_cases_run(desk: Desk) -> None:
    desk.flow("steps: {one: {compose: 1}}")
    desk.cases("first: {}\nsecond: {}")
    inner = Desk(desk.folder / "more")
    inner.folder.mkdir()
    inner.flow("steps: {one: {compose: 1}}", "other")
    inner.cases("third: {}", "other")
    for name in (".hidden", "node_modules"):
        (desk.folder / name).mkdir()
        (desk.folder / name / "x.test.yaml").write_text("nonsense", "utf-8")
    names = lambda *args: [line["case"] for line in desk.run("--json", *args).lines if line["type"] == "case"]  # noqa: E731
    assert names() == ["third", "first", "second"]
    assert names("more") == ["third"]
    assert names("work.test.yaml", "more", ".") == ["first", "second", "third"]
    assert names("-k", "IR") == ["third", "first"]
    assert names("-k", "other.test") == ["third"]
    said = desk.run("-k", "nothing")
    assert (said.code, "no case matches 'nothing'" in said.err) == (2, True)
    (desk.folder / "empty").mkdir()
    assert desk.run("empty").code == 2
    assert desk.run("nowhere").code == 2


def test_json_and_junit(desk: Desk) -> None:
    desk.flow("steps: {one: {compose: 1}}")
    desk.cases("good: {}\nbad: {expect: {steps: {one: {body: 2}}}}")
    Desk(desk.folder).cases("it: {}", "missing")
    said = desk.run("--json", "--junit", "out.xml")
    assert said.code == 2
    types = [line["type"] for line in said.lines]
    assert types == ["finding", "case", "case", "end"]
    assert said.lines[-1] == {"type": "end", "passed": 1, "failed": 1, "wrong": 1}
    bad = said.lines[2]
    assert (bad["file"], bad["line"], bad["case"]) == ("work.test.yaml", 4, "bad")
    assert bad["differences"] == [
        {"line": 4, "column": 32, "path": "expect.steps.one.body", "expected": 2, "found": 1}
    ]  # fmt: skip
    root = ET.parse(desk.folder / "out.xml").getroot()
    counted = {s.attrib["name"]: tuple(s.attrib[k] for k in ("tests", "failures", "errors")) for s in root}
    assert counted == {"work.test.yaml": ("2", "1", "0"), "missing.test.yaml": ("1", "0", "1")}
    (failure,) = root.iter("failure")
    assert failure.attrib["message"] == "expect.steps.one.body"
    assert "work.test.yaml:4:32" in (failure.text or "")


def test_other_commands_import_nothing_of_it() -> None:
    code = (
        "import sys\nfrom engine.cli import cli\n"
        "for args in (['--help'], ['check', 'flows/referral_to_dynamics.yaml'], ['init', '--help']):\n"
        "    try: cli.main(args, standalone_mode=False, obj=lambda text: text)\n"
        "    except SystemExit: pass\n"
        "assert 'engine.cli.check' in sys.modules\n"
        "print([m for m in sys.modules if m.startswith('engine.testing')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


# Coverage

BRANCHES = """\
    connections: {shop: http}
    triggers: {by_hand: {manual: {}, when: trigger.inputs.go}}
    variables: {"n": 0}
    steps:
      sync:
        steps:
          ask: {call: shop.request, with: {url: echo}, retry: {count: 0}}
      alert: {run_after: {sync: [failed, timed_out]}, compose: alarm}
      clean: {run_after: {sync: any, alert: any}, compose: done}
      big: {if: trigger.inputs.big, then: {yes: {compose: 1}}}
      kind:
        switch: trigger.inputs.kind
        cases: {a: {is_a: {compose: 1}}, b: {is_b: {compose: 1}}}
      maybe: {when: trigger.inputs.maybe, compose: 1}
      each: {foreach: trigger.inputs.items, steps: {item_step: {compose: 1}}}
      fixed: {foreach: [1, 2], steps: {fixed_step: {compose: 1}}}
      poll:
        until: variables.n >= trigger.inputs.passes
        limit: {count: 3}
        steps: {count: {increment: {"n": 1}}}
"""
BASE = "go: true, big: true, kind: a, maybe: true, items: [1], passes: 1"


def coverage(desk: Desk, *options: str) -> tuple[Said, dict[str, Any]]:
    said = desk.run("--json", "--coverage", *options)
    return said, next(line for line in said.lines if line["type"] == "coverage")


def test_what_no_case_has_taken(desk: Desk) -> None:
    desk.flow(BRANCHES)
    desk.cases(f"it: {{input: {{{BASE}}}}}")
    said, found = coverage(desk)
    assert said.code == 0
    missed = {(m["step"], m["way"]) for m in found["missed"]}
    assert missed == {
        ("by_hand", "when is false"), ("alert", "ran"), ("alert", "after sync failed"),
        ("alert", "after sync timed_out"), ("big", "else"), ("kind", "case b"), ("kind", "default"), ("is_b", "ran"),
        ("maybe", "when is false"), ("each", "no item"), ("each", "several items"), ("poll", "several passes"),
        ("poll", "limit reached"),
    }  # fmt: skip
    assert found["taken"] == found["ways"] - len(missed)
    assert desk.run("--fail-under", "50").code == 0
    said = desk.run("--fail-under", "99.5")
    assert (said.code, "less than 99.5 % covered: work" in said.err) == (1, True)
    assert f"work.yaml: {int(found['percent'])} % covered, {found['taken']} of {found['ways']}" in said.out
    assert "  work.yaml:11:3: big: else: never" in said.out


def test_every_way_can_be_taken(desk: Desk) -> None:
    desk.flow(BRANCHES)
    desk.cases(f"""
        one: {{input: {{{BASE}}}}}
        two: {{input: {{go: false}}, expect: {{status: skipped}}}}
        three:
          input: {{go: true, big: false, kind: b, maybe: false, items: [], passes: 2}}
          steps: {{ask: {{error: {{kind: remote}}}}}}
        four:
          input: {{go: true, big: false, kind: c, maybe: false, items: [1, 2], passes: 9}}
          expect: {{status: failed, error: {{code: Limit}}}}
    """)
    _, found = coverage(desk)
    assert [(m["step"], m["way"]) for m in found["missed"]] == [("alert", "after sync timed_out")]
    desk.flow(BRANCHES.replace("sync:\n", "sync:\n        timeout: 1m\n"))
    text = (desk.folder / "work.test.yaml").read_text("utf-8")
    text += f"  five: {{input: {{{BASE}}}, steps: {{ask: {{after: 2m}}}}}}\n"
    (desk.folder / "work.test.yaml").write_text(text, "utf-8")
    said, found = coverage(desk, "--fail-under", "100")
    assert (said.code, found["missed"], found["percent"]) == (0, [], 100)


def test_a_flow_in_a_flow_counts_for_its_own_tests(desk: Desk) -> None:
    desk.flow(
        "triggers: {by_hand: {manual: {}}}\nsteps: {fork: {if: trigger.inputs.x, then: {in_then: {compose: 1}}}}",
        "inner",
    )
    desk.cases("it: {input: {x: false}}", "inner")
    desk.flow("steps: {loop: {foreach: [1], steps: {child: {run: inner, with: {x: true}}}}}")
    desk.cases("it: {}")
    found = {line["flow"]: line for line in desk.run("--json", "--coverage").lines if line["type"] == "coverage"}
    assert {name: one["percent"] for name, one in found.items()} == {"inner": 100, "work": 100}
    alone = desk.run("--json", "--coverage", "inner.test.yaml").lines
    assert [m["way"] for m in alone[1]["missed"]] == ["then", "ran"]


# The flow that ships


def test_the_shipped_flow_passes_its_tests_and_all_of_it_is_covered() -> None:
    said = flowrun("test", FLOWS, "--json", "--fail-under", "100", cwd=ROOT)
    assert said.code == 0, said.all
    assert sum(line["type"] == "case" for line in said.lines) >= 25


BROKEN = {
    "a field of another name": ("first_name:", "last_name:"),
    "a closed referral is written to": ("when: steps.get_referral.body.status != 'Closed'", "when: true"),
    "the CRM's amount doesn't go back": ("details.dealValue: ", "details.notes: "),
    "amounts are kept equal": ("      on_create:  ", "      lead_:  "),
    "a qualified lead says nothing": ("'qualified': 'Active'", "'qualified': 'New'"),
    "a disqualified lead is won": ("'disqualified': 'Lost'", "'disqualified': 'Won'"),
    "leads are not found again": ('key: "{{ steps.get_referral.body.id }}"', 'key: "{{ trigger.event.id }}"'),
    "old leads are not adopted": ("known_id:", "clear_: #"),
    "every event counts": (
        "[referral-created, referral-updated]",
        "[referral-created, test-created, referral-deleted]",
    ),
    "the parameter is not used": ("{{ parameters.lead_source }}", "Partner"),
    "the ID doesn't go back": ('externalReferenceId: "{{ steps.upsert_lead.body.id }}"', "externalReferenceId: null"),
    "outputs are mixed up": (
        'lead: "{{ steps.upsert_lead.body.id }}"\n  url',
        'url: "{{ steps.upsert_lead.body.id }}"\n  lead',
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_change_of_the_shipped_flow_fails_a_test(tmp_path: Path, what: str) -> None:
    import shutil

    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db*"))
    flow = tmp_path / "flows/referral_to_dynamics.yaml"
    text, (good, bad) = flow.read_text("utf-8"), BROKEN[what]
    assert good in text
    flow.write_text(text.replace(good, bad, 1), "utf-8")
    said = flowrun("test", "flows", "--json", cwd=tmp_path)
    assert said.code in (1, 2), said.all


# pytest


def pytest_(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_pytest_collects_cases(desk: Desk) -> None:
    desk.flow("steps: {one: {compose: 1}}")
    desk.cases("good: {}\nbad: {expect: {steps: {one: {body: 2}}}}")
    (desk.folder / "docker-compose.test.yaml").write_text("services: {}\n", "utf-8")
    done = pytest_(desk.folder, "-v", "--junitxml", "out.xml")
    assert done.returncode == 1, done.stdout
    assert "work.test.yaml::good PASSED" in done.stdout
    assert "work.test.yaml::bad FAILED" in done.stdout
    assert "expect.steps.one.body\n  expected  2\n  found     1" in done.stdout
    assert "Traceback" not in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert pytest_(desk.folder, "-k", "good").returncode == 0


def test_pytest_tells_of_a_wrong_test_file(desk: Desk) -> None:
    desk.flow("steps: {one: {compose: 1}}")
    desk.cases("it: {steps: {two: {}}}")
    done = pytest_(desk.folder)
    assert done.returncode == 2, done.stdout
    assert "error[UnknownStep]: unknown step 'two'" in done.stdout
    (desk.folder / "connections.yaml").write_text("environments: {sandbox: 7}\n", "utf-8")
    assert "1 error found" in pytest_(desk.folder).stdout


def test_our_own_suite_runs_the_flows_tests() -> None:
    done = pytest_(ROOT, "flows", "--collect-only", "-q", "--override-ini=addopts=")
    assert done.returncode == 0, done.stdout
    assert "the same event again changes nothing" in done.stdout
    assert json.dumps("flows") in (ROOT / "pyproject.toml").read_text("utf-8")
