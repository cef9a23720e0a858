"""The shipped flow against services that flowrun has never met, reached by `route:`.

The real command line in this process. Its clock stands still unless somebody waits, so no test does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from foreign import BLOCKED, HARMLESS, PC_APP, TRANSIENT, Foreign, Manner, foreign
from foreign_cases import BACK, ID, SHAPES, expected, prepare
from foreign_dataverse import CRM, EUR
from foreign_entra import LOGIN
from foreign_partner import BARE, HEADER, QUOTED, REFERRALS, WEAK, sample
from terminal import FLOWS, Said, flowrun

from engine.contract import SystemClock
from engine.testing import FakeClock

FLOW = "referral_to_dynamics.yaml"
FAULTS = (*TRANSIENT, *BLOCKED)
ONE_OF_EACH_SORT = ("429", "503", "reset", "lost", "cut", "half the JSON", "stalled", "404 html", "302")
MANNERS = {
    "plain": Manner(),
    "gzip in chunks, loud": Manner(gzip=True, chunked=True, names="upper"),
    "quiet, more members": Manner(names="lower", more=True),
    "byte order mark, hangs up": Manner(mark=True, hangs_up=True),
    "deaf, in chunks": Manner(deaf=True, chunked=True),
}


@dataclass
class Outcome:
    """What the command line says of one run."""

    status: str
    steps: dict[str, dict[str, Any]]
    error: dict[str, Any] | None


@dataclass
class Lab:
    """A project routed to foreign services; `sync` types the command for some referrals."""

    folder: Path
    far: Foreign
    clock: FakeClock
    said: list[str] = field(default_factory=list)

    def type(self, *args: str, env: dict[str, str] | None = None) -> Said:
        said = flowrun(*args, cwd=self.folder, env={**self.far.variables, **(env or {})})
        self.said.append(said.all)
        return said

    def sync(self, *referrals: str, env: dict[str, str] | None = None) -> list[Outcome]:
        """One run for each referral, in one process. What every run must leave behind is seen to."""
        events = [
            {"EventName": "referral-updated", "ResourceName": "referral", "AuditUri": None,
             "ResourceUri": f"https://{REFERRALS}/v1.0/engagements/referrals/{id}",
             "ResourceChangeUtcDate": "2026-11-20T09:14:22.6178337+00:00"}
            for id in referrals
        ]  # fmt: skip
        (self.folder / "events.json").write_text(json.dumps(events), "utf-8")
        said = self.type(FLOW, "--env", "lab", "--input", "events.json", "--json", env=env)
        outcomes: list[Outcome] = []
        steps: dict[str, dict[str, Any]] = {}
        for line in said.lines:
            if line["type"] == "step":
                steps[line["name"]] = line
            if line["type"] == "end":
                outcomes.append(Outcome(line["status"], steps, line["error"]))
                steps = {}
        assert len(outcomes) == len(referrals), said.all
        assert said.code == (0 if all(o.status == "succeeded" for o in outcomes) else 1), said.all
        assert (self.far.crashes, self.far.leaks, self.far.referrals.remarks) == ([], [], [])
        return outcomes

    def settled(self, *referrals: str) -> None:
        """Another pass writes nothing at all, and says so."""
        self.far.fresh()
        for outcome in self.sync(*referrals):
            assert outcome.status == "succeeded", outcome
            assert not any(step["changed"] for step in outcome.steps.values())
        assert self.far.writes == []

    def referral(self, id: str) -> dict[str, Any]:
        return self.far.referrals.records[id]

    def back(self, id: str) -> list[list[dict[str, Any]]]:
        """The patches that the service took for a referral."""
        return [patch for to, patch in self.far.referrals.patched if to.lower() == id]

    def one_each(self, id: str, shape: str = "full", before: dict[str, Any] | None = None) -> None:
        """One lead with the right columns, written once; its id went back once, and nothing else did."""
        before = before or SHAPES[shape](id)
        lead = self.far.crm.lead(id)
        wanted = expected(shape, before, self.far.crm)
        assert {name: lead[name] for name in wanted} == wanted
        writes = [method for method, to, _ in self.far.crm.written if to == lead["leadid"]]
        assert writes == (["POST", "PATCH"] if shape == "adopted" else ["POST"])
        now, paths = self.referral(id), BACK.get(shape, [ID])
        assert [[o["path"] for o in patch] for patch in self.back(id)] == ([paths] if paths else [])
        assert now["externalReferenceId"] == (lead["leadid"] if ID in paths else before["externalReferenceId"])
        kept = before.keys() - {"eTag", "updatedDateTime", "externalReferenceId", *(p.split("/")[1] for p in paths)}
        assert {k: now[k] for k in kept} == {k: before[k] for k in kept}


def name(number: int) -> str:
    """A referral's id."""
    return f"0a1b2c3d-1111-4222-8333-{number:012x}"


@pytest.fixture(scope="module")
def clock() -> Iterator[FakeClock]:
    """The machine's clock of this process: it moves when somebody sleeps."""
    fake = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemClock, "now", lambda _: fake.now())
        patch.setattr(SystemClock, "monotonic", lambda _: fake.monotonic())
        patch.setattr(SystemClock, "sleep", lambda _, seconds, woken=None: fake.sleep(seconds))
        yield fake


@pytest.fixture(scope="module")
def far(clock: FakeClock) -> Iterator[Foreign]:
    with foreign(clock) as server:
        yield server


@pytest.fixture(scope="module")
def place(far: Foreign, clock: FakeClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One project for all tests: what they leave in it and what was said is looked through at the end."""
    folder = tmp_path_factory.mktemp("lab") / "flows"
    shutil.copytree(FLOWS, folder, ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    (folder / "connections.yaml").write_text(far.connections, "utf-8")
    yield (found := Lab(folder, far, clock))
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert any(p.name == "journal.db" for p in files)
    files[Path("what was said")] = "\n".join(found.said).encode()
    assert [p for p, content in files.items() if far.credentials_in(content)] == []


@pytest.fixture
def lab(place: Lab) -> Lab:
    """The project before services that are as new."""
    place.far.renew()
    place.far.manner = Manner()
    return place


# Every shape, in every manner


@pytest.mark.parametrize("manner", MANNERS)
def test_every_referral_becomes_one_lead_with_its_fields_and_gets_its_id(lab: Lab, manner: str) -> None:
    lab.far.manner = MANNERS[manner]
    ids = {shape: name(number) for number, shape in enumerate(SHAPES)}
    for shape, id in ids.items():
        prepare(lab.far.crm, shape, id)
        lab.far.referrals.put(SHAPES[shape](id))
    outcomes = lab.sync(*ids.values())
    for (shape, id), outcome in zip(ids.items(), outcomes, strict=True):
        assert outcome.status == "succeeded", (shape, outcome)
        lab.one_each(id, shape)
    assert len(lab.far.crm.leads) == len(ids)
    lab.settled(*ids.values())


# Every fault, at every request


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_while_signing_in(lab: Lab, fault: str) -> None:
    """At discovery and at the token, for Partner Center and, once the referral is read, for the CRM: four in all."""
    ids = [name(number) for number in range(4 if fault in BLOCKED else 1)]
    for id in ids:
        lab.far.referrals.put(sample(id))
    if fault in BLOCKED:  # each time the run ends, and the next one gets as far as the next request
        places = [("", 1), ("", 3), (ids[2], 2), (ids[3], 3)]
    elif fault in HARMLESS:
        places = [("", 1), ("", 2), (ids[0], 2), (ids[0], 3)]
    else:  # after the same request again
        places = [("", 1), ("", 3), (ids[0], 2), (ids[0], 4)]
    lab.far.fresh(dict.fromkeys(places, fault))
    outcomes = lab.sync(*ids)
    met = [(e.method, e.host) for e in lab.far.seen if e.fault]
    assert met == [("GET", LOGIN), ("POST", LOGIN)] * 2
    assert {o.status for o in outcomes} == {"failed" if fault in BLOCKED else "succeeded"}, outcomes
    if fault in BLOCKED:
        assert lab.far.writes == []
        lab.far.fresh()
        assert {o.status for o in lab.sync(*ids)} == {"succeeded"}
    for id in ids:
        lab.one_each(id)
    lab.settled(*ids)


@pytest.mark.parametrize("shape", ["full", "bare", "adopted", "closed"])
def test_every_fault_at_every_other_request(lab: Lab, shape: str) -> None:
    """In one process, one fault a run. A full referral has a currency of its own, so that it is looked up each time."""
    far = lab.far
    far.entra.life = 10**6  # seconds: a slow answer is not to cost a sign-in
    made: dict[str, dict[str, Any]] = {}

    def put(id: str) -> str:
        prepare(far.crm, shape, id)
        made[id] = SHAPES[shape](id)
        if shape == "full":
            a, b = divmod(len(made), 26)
            made[id]["details"]["currency"] = f"Q{chr(65 + a)}{chr(65 + b)}"
            far.crm.set_up(made[id]["details"]["currency"])
        far.referrals.put(made[id])
        return id

    warm, clean = put(name(1000)), put(name(1001))
    assert [o.status for o in lab.sync(warm, clean)] == ["succeeded"] * 2
    numbers = range(1, far.count + 1)  # of the requests that the second one took
    faults = FAULTS if shape == "full" else ONE_OF_EACH_SORT
    cases = {put(name(n)): case for n, case in enumerate(product(numbers, faults))}
    far.fresh({(id, number): fault for id, (number, fault) in cases.items()})
    outcomes = dict(zip(cases, lab.sync(warm, *cases)[1:], strict=True))
    assert [e.fault for e in far.seen if e.fault] == [fault for _, fault in cases.values()]
    for id, case in cases.items():
        assert outcomes[id].status == ("succeeded" if case[1] in TRANSIENT else "failed"), (case, outcomes[id])
    far.fresh()
    assert {o.status for o in lab.sync(*cases)} == {"succeeded"}
    blocked = {id for id, (_, fault) in cases.items() if fault in BLOCKED}
    assert all(any(id in f"{e.path} {e.body!r}" for id in blocked) for e in far.writes)
    for id in cases:
        lab.one_each(id, shape, made[id])
    lab.settled(*blocked)


# Others write, too


@pytest.mark.parametrize("form", [QUOTED, WEAK, BARE, HEADER], ids=["quoted", "weak", "bare", "in the header"])
def test_what_a_person_writes_in_the_portal_meanwhile_is_kept(lab: Lab, form: str) -> None:
    far, id = lab.far, name(1)
    far.referrals.form = form
    far.referrals.put(sample(id))
    far.before[("PATCH", REFERRALS)] = lambda: far.referrals.edit(id, statusReason="called them")
    (outcome,) = lab.sync(id)
    assert outcome.status == "succeeded", outcome
    assert [e.status for e in far.seen if (e.method, e.host) == ("PATCH", REFERRALS)] == [412, 200]
    now = lab.referral(id)
    assert (now["statusReason"], now["externalReferenceId"]) == ("called them", far.crm.lead(id)["leadid"])
    lab.settled(id)


def test_a_referral_that_others_write_without_end_gets_its_id_at_last(lab: Lab) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))

    def meddle(times: int) -> None:
        far.referrals.edit(id, statusReason=f"{times} more")
        if times:
            far.before[("PATCH", REFERRALS)] = lambda: meddle(times - 1)

    far.before[("PATCH", REFERRALS)] = lambda: meddle(8)
    (outcome,) = lab.sync(id)
    assert (outcome.status, outcome.steps["update_referral"]["attempt"]) == ("succeeded", 3)
    lab.settled(id)
    assert len(lab.back(id)) == 1


@pytest.mark.parametrize("properties", [{"status": "Closed", "substatus": "Won"}, {"externalReferenceId": "CRM-1"}])
def test_a_referral_that_is_closed_or_numbered_meanwhile_is_left_alone(lab: Lab, properties: dict[str, str]) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    far.before[("PATCH", REFERRALS)] = lambda: far.referrals.edit(id, **properties)
    (outcome,) = lab.sync(id)
    assert (outcome.status, outcome.steps["update_referral"]["changed"]) == ("succeeded", False)
    assert {k: lab.referral(id)[k] for k in properties} == properties
    lab.settled(id)


@pytest.mark.parametrize("theirs", [{"subject": "theirs", "jobtitle": "Buyer"}, {}])
def test_a_lead_that_another_machine_creates_meanwhile_is_the_one(lab: Lab, theirs: dict[str, str]) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    far.before[("PATCH", CRM)] = lambda: far.crm.add(new_referralid=id, **theirs)
    (outcome,) = lab.sync(id)
    assert outcome.status == "succeeded", outcome
    assert len(far.crm.leads) == 1
    lead = far.crm.lead(id)
    assert (lead["subject"], lead["emailaddress1"]) == ("Tailspin rollout", "kim.okafor@tailspin.example")
    assert (lead["jobtitle"], lab.referral(id)["externalReferenceId"]) == (theirs.get("jobtitle"), lead["leadid"])
    lab.settled(id)


def test_what_sales_type_into_a_lead_meanwhile_is_kept(lab: Lab) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    lab.sync(id)
    lead = far.crm.lead(id)["leadid"]
    far.referrals.edit(id, name="Another name")
    far.before[("PATCH", CRM)] = lambda: far.crm.edit(lead, jobtitle="Buyer", estimatedamount=9.5)
    (outcome,) = lab.sync(id)
    assert outcome.status == "succeeded", outcome
    row = far.crm.lead(id)
    assert (row["subject"], row["jobtitle"], row["estimatedamount"]) == ("Another name", "Buyer", 9.5)
    assert lab.referral(id)["details"]["dealValue"] == 9.5
    lab.settled(id)


@pytest.mark.parametrize("shape", ["full", "absent", "new"])
def test_what_the_crm_owns_goes_back_in_one_write(lab: Lab, shape: str) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(SHAPES[shape](id))
    lab.sync(id)
    far.fresh()
    far.crm.edit(far.crm.lead(id)["leadid"], estimatedamount=310.25, estimatedclosedate="2027-06-30",
                 _transactioncurrencyid_value=EUR)  # fmt: skip
    assert lab.sync(id)[0].status == "succeeded"
    assert [(e.method, e.host) for e in far.writes] == [("PATCH", REFERRALS)]
    details = lab.referral(id)["details"]
    assert (details["dealValue"], details["currency"]) == (310.25, "EUR")
    assert details["closingDateTime"] == "2027-06-30T00:00:00Z"
    lab.settled(id)
    for code, reason, after in ((1, 3, ("Active", "Accepted")), (2, 4, ("Closed", "Lost"))):
        far.crm.edit(far.crm.lead(id)["leadid"], statecode=code, statuscode=reason)
        assert lab.sync(id)[0].status == "succeeded"
        assert (lab.referral(id)["status"], lab.referral(id)["substatus"]) == after
        lab.settled(id)


# Sign-in, rights, set-up


def test_tokens_that_expire_between_two_requests_are_renewed(lab: Lab) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    for host in (CRM, REFERRALS):
        far.before[("PATCH", host)] = lambda: lab.clock.advance(4000)
    assert lab.sync(id)[0].status == "succeeded"
    assert [e.status for e in far.seen if e.method == "PATCH"] == [401, 201, 401, 200]
    lab.one_each(id)


def test_the_newest_refresh_token_is_used_where_older_ones_are_dead(lab: Lab) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    far.entra.one_time = True
    key = {"FLOWRUN_KEY": Fernet.generate_key().decode()}
    for _ in range(4):
        assert lab.sync(id, env=key)[0].status == "succeeded"
        lab.clock.advance(7200)
    assert far.refresh_token in far.entra.dead
    lab.one_each(id)
    (lab.folder / ".flowrun" / "journal.db").touch()


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"PC_REFRESH": "no token at all"}, "invalid_grant", "AADSTS70000"),
        ({"PC_SECRET": "not the secret"}, "invalid_client", "AADSTS7000215"),
        ({"CRM_SECRET": "not the secret"}, "invalid_client", "AADSTS7000215"),
    ],
)
def test_a_refused_sign_in_is_said_in_words(lab: Lab, settings: dict[str, str], code: str, words: str) -> None:
    lab.far.referrals.put(sample(name(1)))
    (outcome,) = lab.sync(name(1), env=settings)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error["kind"], outcome.error["code"]) == ("config", code)
    assert words in outcome.error["message"]
    assert outcome.error["hint"]
    assert lab.far.writes == []


def test_a_sign_in_without_mfa_is_refused_and_explained(lab: Lab) -> None:
    lab.far.referrals.put(sample(name(1)))
    (outcome,) = lab.sync(name(1), env={"PC_REFRESH": lab.far.entra.signed_in(PC_APP, mfa=False)})
    assert outcome.error is not None
    assert (outcome.status, outcome.error["kind"], outcome.error["code"]) == ("failed", "config", "900421")
    assert "flowrun login" in outcome.error["hint"]


def test_somebody_else_s_referral_is_no_lead(lab: Lab) -> None:
    (outcome,) = lab.sync(name(1))
    assert outcome.error is not None
    assert (outcome.status, outcome.error["kind"], outcome.error["code"]) == ("failed", "remote", "NotOurs")
    assert lab.far.writes == []


@pytest.mark.parametrize(("status", "code"), [("Pending", "KeyNotReady"), ("Failed", "KeyFailed"), ("", "NoKey")])
def test_without_an_active_key_nothing_is_written(lab: Lab, status: str, code: str) -> None:
    lab.far.crm.key_status = status
    lab.far.referrals.put(sample(name(1)))
    (outcome,) = lab.sync(name(1))
    assert outcome.error is not None
    assert (outcome.status, outcome.error["kind"]) == ("failed", "config")
    assert "alternate key" in outcome.error["hint"]
    assert lab.far.writes == []
    said = lab.type("connections", "check", "--env", "lab")
    assert (said.code, lab.far.leaks) == (1, []), said.all
    assert "key" in said.all
    lab.far.crm.key_status = "Active"
    assert lab.type("connections", "check", "--env", "lab").code == 0


def test_the_job_needs_no_definitions(lab: Lab) -> None:
    lab.far.crm.tells = False
    lab.far.referrals.put(sample(name(1)))
    assert lab.sync(name(1))[0].status == "succeeded"
    lab.one_each(name(1))
    lab.settled(name(1))


def test_a_date_that_the_crm_cannot_hold_is_an_error_of_the_record(lab: Lab) -> None:
    referral = sample(name(1))
    referral["details"]["closingDateTime"] = "0001-01-01T00:00:00Z"
    lab.far.referrals.put(referral)
    (outcome,) = lab.sync(name(1))
    assert outcome.error is not None
    assert (outcome.status, outcome.error["kind"]) == ("failed", "data")
    assert lab.far.writes == []


# After a failure


@pytest.mark.parametrize("fault", BLOCKED)
def test_a_resumed_run_does_only_what_is_missing(lab: Lab, fault: str) -> None:
    far, id = lab.far, name(1)
    far.referrals.put(sample(id))
    far.fresh({(id, 7): fault})
    (outcome,) = lab.sync(id)
    assert [(e.method, e.host) for e in far.seen if e.fault] == [("PATCH", REFERRALS)], far.seen
    assert outcome.status == "failed"
    far.fresh()
    said = lab.type("runs", "resume", "last", "--json")
    assert said.code == 0, said.all
    assert [(e.method, e.host) for e in far.seen if e.host != LOGIN] == [("PATCH", REFERRALS)]
    lab.one_each(id)
    lab.settled(id)


def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    """By the machine's own clock."""
    with foreign() as far:
        lab = Lab(tmp_path, far, FakeClock())
        shutil.copy(FLOWS / FLOW, tmp_path)
        (tmp_path / "connections.yaml").write_text(far.connections, "utf-8")
        far.referrals.put(sample(name(1)))
        event = {"EventName": "referral-created", "ResourceUri": f"https://{REFERRALS}/v1.0/engagements/referrals/"}
        event |= {"ResourceUri": event["ResourceUri"] + name(1), "ResourceChangeUtcDate": "2026-11-20T09:14:22Z"}
        command = [sys.executable, "-c", "from engine.cli import main; main()", FLOW, "--env", "lab", "--input", "-"]
        env = {**far.variables, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            command, input=json.dumps(event), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (far.crashes, far.leaks, far.referrals.remarks) == ([], [], [])
        lab.one_each(name(1))
