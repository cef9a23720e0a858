"""The shipped flow over every referral of the sandbox: what arrives in the CRM, what goes back, and when it rests."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from remote import CRM, MAIN, REFERRALS, VARIABLES, Exchange, Remote, remote
from terminal import FLOWS, Said, flowrun

SEEDED = "10000000-0000-4000-8000-0000000000"
NAMELESS_FIRST, EMPTY, NO_CONTACT, WON, EXPIRED, GERMAN, JAPANESE, HOSTILE, LONG = (
    f"{SEEDED}0{n}" for n in range(1, 10)
)
SYNCED = {f"{SEEDED}1{n}": f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)}
QUALIFIED = f"{SEEDED}13"  # its lead was qualified already
NUMBERED = f"{SEEDED}14"
OTHERS = "20000000-0000-4000-8000-000000000001"
OURS = [MAIN, NAMELESS_FIRST, EMPTY, NO_CONTACT, WON, EXPIRED, GERMAN, JAPANESE, HOSTILE, LONG, *SYNCED, NUMBERED]
CLOSED = (WON, EXPIRED)
CRMS = ("dynamics365", "sqlite")
NOTES = "🥐 " + '{{ 7*7 }} \'; drop table leads;-- "quoted" \\ é ' * 2200  # 100 KB


@dataclass
class Job:
    """A project and its services; `sync` runs the flow for some referrals."""

    folder: Path
    far: Remote
    crm: str = "dynamics365"

    def sync(self, *referrals: str, event: str = "referral-updated") -> Said:
        """One run for each referral, in one command."""
        base = "https://api.partner.microsoft.com/v1.0/engagements/referrals/"
        events = [
            {"EventName": event, "ResourceUri": base + id, "ResourceName": "referral", "AuditUri": None,
             "ResourceChangeUtcDate": f"2026-11-20T09:14:{n:02}.6178337+00:00"}
            for n, id in enumerate(referrals)
        ]  # fmt: skip
        (self.folder / "events.json").write_text(json.dumps(events), "utf-8")
        self.far.seen.clear()
        args = ("referral_to_dynamics.yaml", "--env", "lab", "--input", "events.json", "--json")
        return flowrun(*args, "--connect", f"crm={self.crm}", cwd=self.folder, env=VARIABLES)

    def settled(self, *referrals: str) -> list[Exchange]:
        """Syncs, and then once more, which must write nothing; the writes of the first time."""
        said = self.sync(*referrals)
        assert said.code == 0, said.all
        writes = self.writes
        again = self.sync(*referrals)
        assert again.code == 0, again.all
        assert self.writes == [], again.all
        assert not any(line["changed"] for line in again.lines if line["type"] == "step")
        return writes

    @property
    def writes(self) -> list[Exchange]:
        return self.far.writes

    def lead(self, referral: str) -> dict[str, Any]:
        """The one lead of a referral, by neutral names."""
        if self.crm == "sqlite":
            db = sqlite3.connect(self.folder / "leads.db")
            db.row_factory = sqlite3.Row
            (row,) = db.execute("SELECT * FROM leads WHERE key=?", (referral,)).fetchall()
            db.close()
            return dict(row)
        (row,) = self.far.leads(referral)
        return neutral(self.far, row)


COLUMNS = {
    "leadid": "id", "subject": "title", "companyname": "company", "firstname": "first_name", "lastname": "last_name",
    "emailaddress1": "email", "telephone1": "phone", "address1_line1": "street", "address1_line2": "street2",
    "address1_city": "city", "address1_stateorprovince": "state", "address1_postalcode": "postal_code",
    "address1_country": "country", "description": "description", "estimatedamount": "amount",
    "estimatedclosedate": "close_date",
}  # fmt: skip


def neutral(far: Remote, row: dict[str, Any]) -> dict[str, Any]:
    lead = {name: row[column] for column, name in COLUMNS.items()}
    lead["close_date"] = lead["close_date"] and lead["close_date"][:10]
    currency = far.crm.row("transactioncurrencies", row["_transactioncurrencyid_value"])
    lead["currency"] = currency and currency["isocurrencycode"]
    lead["source"] = {4: "Partner"}.get(row["leadsourcecode"])
    lead["status"] = {0: "open", 1: "qualified", 2: "disqualified"}[row["statecode"]]
    return lead


def expected(referral: dict[str, Any]) -> dict[str, Any]:
    """What the flow promises of a lead, out of a referral, in the CRM's limits."""
    profile, details = referral["customerProfile"], referral["details"] or {}
    team = profile.get("team") or []
    named = [p for p in team if p.get("firstName") or p.get("lastName")]
    person: dict[str, Any] = (named or team or [{}])[0]
    address = profile.get("address") or {}
    closing = details.get("closingDateTime")
    return {
        "title": referral["name"] or profile["name"],
        "company": profile["name"],
        "first_name": person.get("firstName") or None,
        "last_name": person.get("lastName") or None,
        "email": person.get("email"),
        "phone": person.get("phoneNumber"),
        "street": address.get("addressLine1"),
        "street2": address.get("addressLine2"),
        "city": address.get("city"),
        "state": address.get("state"),
        "postal_code": address.get("postalCode"),
        "country": address.get("country"),
        "description": (details.get("notes") or "").strip() or None,
        "amount": details.get("dealValue"),
        "currency": details.get("currency"),
        "close_date": closing and closing[:10],
        "source": "Partner",
    }


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with remote(tmp_path / "remote") as far:
        yield project(tmp_path / "project", far)


def project(folder: Path, far: Remote, crm: str = "dynamics365") -> Job:
    shutil.copytree(FLOWS, folder, ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    (folder / "connections.yaml").write_text(far.connections(), "utf-8")
    return Job(folder, far, crm)


@dataclass
class Passes:
    """Two syncs of everything, and how things were before."""

    job: Job
    before: dict[str, dict[str, Any]]
    leads_before: dict[str, dict[str, Any]]
    first: Said
    first_writes: list[Exchange]
    second: Said
    second_writes: list[Exchange]

    def outcome(self, said: Said, referral: str) -> tuple[str, dict[str, dict[str, Any]]]:
        """A run's status and its steps."""
        runs: list[list[dict[str, Any]]] = []
        for line in said.lines:
            if line["type"] == "run":
                runs.append([])
            runs[-1].append(line)
        order = [*OURS, OTHERS]
        lines = runs[order.index(referral)]
        return lines[-1]["status"], {line["name"]: line for line in lines if line["type"] == "step"}


@pytest.fixture(scope="module", params=CRMS)
def passes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passes]:
    folder = tmp_path_factory.mktemp("all")
    with remote(folder / "remote") as far:
        job = project(folder / "project", far, request.param)
        before = dict(far.store.all("partner_center.referral"))
        leads_before = {row["leadid"]: row for row in far.leads()}
        said, writes = [], []
        for _ in range(2):
            said.append(job.sync(*OURS, OTHERS))
            writes.append(job.writes)
        yield Passes(job, before, leads_before, said[0], writes[0], said[1], writes[1])


def test_every_seeded_referral_is_in_the_list(passes: Passes) -> None:
    assert sorted(passes.before) == sorted([*OURS, OTHERS])


@pytest.mark.parametrize("referral", OURS)
def test_each_one_ends_well(passes: Passes, referral: str) -> None:
    for said in (passes.first, passes.second):
        status, steps = passes.outcome(said, referral)
        assert status == "succeeded", steps
        closed = passes.before[referral]["status"] == "Closed"
        assert steps["update_referral"]["status"] == ("skipped" if closed else "succeeded")


def test_another_partner_s_referral_fails_in_words_and_leaves_the_others_alone(passes: Passes) -> None:
    status, steps = passes.outcome(passes.first, OTHERS)
    assert (status, passes.first.code) == ("failed", 1)
    assert steps["get_referral"]["error"]["code"] == "NotOurs"
    assert steps["update_referral"]["status"] == "skipped"
    assert not passes.job.far.leads(OTHERS)


def test_the_second_pass_writes_nothing(passes: Passes) -> None:
    assert passes.second_writes == []
    assert not any(line["changed"] for line in passes.second.lines if line["type"] == "step")


def test_one_write_a_lead_and_one_a_referral(passes: Passes) -> None:
    leads = [e for e in passes.first_writes if e.host == CRM]
    if passes.job.crm == "dynamics365":
        assert len(leads) == len(OURS) - 1  # all but the one that is qualified
        assert len(passes.job.far.leads()) == len(passes.leads_before) + len(OURS) - len(SYNCED)
    back = Counted([e.path for e in passes.first_writes if e.host == REFERRALS])
    assert not back.twice
    left_alone = {*CLOSED, *SYNCED, NUMBERED}
    assert {path.rpartition("/")[2] for path in back.paths} == set(OURS) - left_alone


@dataclass
class Counted:
    paths: list[str]

    @property
    def twice(self) -> set[str]:
        return {p for p in self.paths if self.paths.count(p) > 1}


@pytest.mark.parametrize("referral", [id for id in OURS if id not in SYNCED])
def test_a_new_lead_holds_the_mapped_fields_exactly(passes: Passes, referral: str) -> None:
    lead, wanted = passes.job.lead(referral), expected(passes.before[referral])
    if passes.job.crm == "dynamics365":
        wanted["last_name"] = wanted["last_name"] or wanted["company"]  # its forms insist on one
        wanted["currency"] = wanted["currency"] or "USD"  # the organization's own
        if wanted["currency"] == "JPY":  # isn't set up there
            wanted |= {"currency": "USD", "amount": None}
        if len(wanted["description"] or "") > 2000:
            assert len(lead["description"]) <= 2000
            assert lead["description"].endswith("…")
            assert wanted["description"].startswith(lead["description"][:-1])
            del wanted["description"]
    assert {name: lead[name] for name in wanted} == wanted
    assert lead["status"] == "open"


def test_the_lead_s_id_goes_back(passes: Passes) -> None:
    for referral in OURS:
        now = passes.job.far.referral(referral)["externalReferenceId"]
        if referral in CLOSED:
            assert passes.job.far.referral(referral) == passes.before[referral]
        elif referral == NUMBERED:
            assert now == "CRM-4711"
            _, steps = passes.outcome(passes.first, referral)
            assert "CRM-4711" in steps["update_referral"]["summary"]
        elif referral in SYNCED:
            assert now.lower() == SYNCED[referral]
        else:
            assert now == passes.job.lead(referral)["id"]


def test_a_write_back_leaves_the_rest_of_the_referral_alone(passes: Passes) -> None:
    for referral in OURS:
        now, before = passes.job.far.referral(referral), passes.before[referral]
        moved = {name for name in now if now[name] != before[name]}
        assert moved <= {"externalReferenceId", "eTag", "updatedDateTime", "acceptedDateTime"}, (
            referral
        )  # by the service


def test_what_the_old_flow_had_synced_is_adopted_not_doubled(passes: Passes) -> None:
    if passes.job.crm != "dynamics365":
        assert {row["leadid"]: row for row in passes.job.far.leads()} == passes.leads_before
        return
    for referral, id in SYNCED.items():
        row = passes.job.far.crm.row("leads", id)
        assert row is not None
        _, steps = passes.outcome(passes.first, referral)
        if referral == QUALIFIED:
            assert row == passes.leads_before[id]  # read-only
            assert "qualified" in steps["upsert_lead"]["summary"]
            continue
        assert row["new_referralid"] == referral
        lead, wanted = neutral(passes.job.far, row), expected(passes.before[referral])
        kept_equal = {k for k, v in wanted.items() if v and k not in ("amount", "currency", "close_date", "source")}
        assert {k: lead[k] for k in kept_equal} == {k: wanted[k] for k in kept_equal}
        assert "adopted" in steps["upsert_lead"]["summary"]


# Odd texts


@pytest.mark.parametrize("crm", CRMS)
def test_hostile_and_long_texts_arrive_unharmed(job: Job, crm: str) -> None:
    job.crm = crm
    hostile = [
        "{{ 7*7 }}",
        "'; drop table leads;--",
        "${env:PC_SECRET}",
        "🥐" * 9,
        "\u202egnp.exe",
        "<b>&amp;</b>",
        'a\\b"c',
    ]
    team = [{"firstName": t, "lastName": f"x {t}", "email": None, "phoneNumber": None} for t in hostile]
    assert len(NOTES.encode()) > 100_000
    for text, person in zip(hostile, team, strict=True):
        profile = {"name": f"Company {text}", "team": [person], "address": {"addressLine1": text, "city": text}}
        job.far.edit_referral(MAIN, {"notes": NOTES}, name=text, customerProfile=profile)
        job.settled(MAIN)
        lead = job.lead(MAIN)
        names = ("title", "company", "first_name", "last_name", "street", "city")
        assert [lead[n] for n in names] == [text, f"Company {text}", text, f"x {text}", text, text]
        if crm == "sqlite":
            assert lead["description"] == NOTES.strip()
        else:
            assert lead["description"].endswith("…")
            assert NOTES.startswith(lead["description"][:-1])
            assert 1990 < len(lead["description"].encode("utf-16-le")) // 2 <= 2000
    assert job.far.referral(MAIN)["details"]["notes"] == NOTES


def test_what_the_crm_can_t_hold_is_said_in_the_summary(job: Job) -> None:
    job.far.edit_referral(MAIN, {"notes": NOTES})
    said = job.sync(MAIN)
    assert "shortened: description" in said.steps["upsert_lead"]["summary"]


def test_a_mail_address_that_is_too_long_is_an_error_of_the_record_and_nothing_is_written(job: Job) -> None:
    team = [{"firstName": "A", "lastName": "B", "email": "x" * 200 + "@fabrikam.example", "phoneNumber": None}]
    job.far.edit_referral(MAIN, customerProfile={"name": "Fabrikam", "team": team})
    said = job.sync(MAIN)
    assert said.code == 1
    assert said.end["error"]["kind"] == "data"
    assert job.writes == []


# The CRM's side goes back


@pytest.mark.parametrize("referral", [MAIN, NAMELESS_FIRST])
def test_edits_in_the_crm_flow_back_and_rest(job: Job, referral: str) -> None:
    job.settled(referral)
    (row,) = job.far.leads(referral)
    edits = {"estimatedamount": 31000.5, "estimatedclosedate": "2027-06-30"}
    job.far.crm.edit("leads", row["leadid"], edits)
    writes = job.settled(referral)
    assert [(e.method, e.host) for e in writes] == [("PATCH", REFERRALS)]
    details = job.far.referral(referral)["details"]
    assert details["dealValue"] == 31000.5
    assert details["closingDateTime"].startswith("2027-06-30")
    (after,) = job.far.leads(referral)
    assert {k: after[k] for k in edits} == edits


def test_an_amount_emptied_in_the_crm_leaves_the_referral_s_alone(job: Job) -> None:
    job.settled(MAIN)
    (row,) = job.far.leads(MAIN)
    job.far.crm.edit("leads", row["leadid"], {"estimatedamount": None, "estimatedclosedate": None})
    assert job.settled(MAIN) == []
    assert job.far.referral(MAIN)["details"]["dealValue"] == 25000


def test_an_amount_in_another_currency_never_stands_in_the_referral_as_its_own(job: Job) -> None:
    """Sales move the lead to EUR: 25,000 USD are 23,000 EUR, not 23,000 USD."""
    job.settled(MAIN)
    (row,) = job.far.leads(MAIN)
    euro = next(r for r in job.far.crm.rows("transactioncurrencies") if r["isocurrencycode"] == "EUR")
    job.far.crm.edit(
        "leads",
        row["leadid"],
        {"_transactioncurrencyid_value": euro["transactioncurrencyid"], "estimatedamount": 23000.0},
    )
    job.settled(MAIN)
    details = job.far.referral(MAIN)["details"]
    assert (details["dealValue"], details["currency"]) in [(25000, "USD"), (23000, "EUR")]


@pytest.mark.parametrize(
    ("referral", "code", "after"),
    [
        (MAIN, 1, ("Active", "Accepted")),
        (NAMELESS_FIRST, 1, ("Active", "Accepted")),
        (EMPTY, 1, ("Active", "Accepted")),
        (MAIN, 2, ("Closed", "Lost")),
        (NAMELESS_FIRST, 2, ("Closed", "Lost")),
    ],
)
def test_the_lead_s_status_becomes_the_referral_s(job: Job, referral: str, code: int, after: tuple[str, str]) -> None:
    job.settled(referral)
    (row,) = job.far.leads(referral)
    job.far.crm.edit("leads", row["leadid"], {"statecode": code, "statuscode": {1: 3, 2: 4}[code]})
    writes = job.settled(referral)
    now = job.far.referral(referral)
    assert (now["status"], now["substatus"]) == after
    assert all(e.host == REFERRALS for e in writes)
    assert len(writes) <= 1
    assert job.far.leads(referral)[0]["statecode"] == code


def test_a_lead_lost_before_it_was_ever_synced_back_closes_the_referral_with_its_id(job: Job) -> None:
    job.settled(NAMELESS_FIRST)
    (row,) = job.far.leads(NAMELESS_FIRST)
    job.far.edit_referral(NAMELESS_FIRST, externalReferenceId=None)
    job.far.crm.edit("leads", row["leadid"], {"estimatedamount": 9000.0})
    job.far.crm.edit("leads", row["leadid"], {"statecode": 2, "statuscode": 4})
    job.settled(NAMELESS_FIRST)
    now = job.far.referral(NAMELESS_FIRST)
    assert (now["status"], now["externalReferenceId"], now["details"]["dealValue"]) == ("Closed", row["leadid"], 9000)


def test_a_referral_closed_meanwhile_is_left_alone(job: Job) -> None:
    job.settled(MAIN)
    (row,) = job.far.leads(MAIN)
    job.far.edit_referral(MAIN, status="Closed", substatus="Won")
    closed = job.far.referral(MAIN)
    job.far.crm.edit("leads", row["leadid"], {"estimatedamount": 1.0})
    assert job.settled(MAIN) == []
    assert job.far.referral(MAIN) == closed


def test_a_contact_that_goes_leaves_the_lead_s_as_it_was(job: Job) -> None:
    job.settled(MAIN)
    profile = {**job.far.referral(MAIN)["customerProfile"], "team": None}
    job.far.edit_referral(MAIN, customerProfile=profile)
    assert job.settled(MAIN) == []
    assert job.lead(MAIN)["email"] == "robin.baker@fabrikam.example"


def test_what_sales_typed_into_the_crm_s_own_fields_survives_the_referral_s_changes(job: Job) -> None:
    job.settled(MAIN)
    (row,) = job.far.leads(MAIN)
    job.far.crm.edit("leads", row["leadid"], {"estimatedamount": 99.0, "jobtitle": "Owner", "leadqualitycode": 1})
    job.far.edit_referral(MAIN, {"dealValue": 4, "notes": "new notes"}, name="new name")
    job.settled(MAIN)
    (after,) = job.far.leads(MAIN)
    assert (after["estimatedamount"], after["jobtitle"], after["leadqualitycode"]) == (99.0, "Owner", 1)
    assert (after["subject"], after["description"]) == ("new name", "new notes")
    assert job.far.referral(MAIN)["details"]["dealValue"] == 99  # the CRM owns it


@pytest.mark.parametrize("referral", [NAMELESS_FIRST, JAPANESE])
def test_twenty_rounds_of_changes_on_both_sides_settle_without_ping_pong(job: Job, referral: str) -> None:
    job.settled(referral)
    for number in range(20):
        (row,) = job.far.leads(referral)
        sides = number % 3
        if sides != 1:
            job.far.edit_referral(
                referral,
                {"notes": f"round {number} 🥐", "closingDateTime": f"2027-02-0{number % 9 + 1}T12:30:15.1234567Z"},
                name=f"Round {number} é",
            )
        if sides != 0:
            amounts = (10_000, 0.1 + 0.2, 1234.565, 10**7 + 0.01)
            job.far.crm.edit(
                "leads",
                row["leadid"],
                {
                    "estimatedamount": round(amounts[number % 4] + number, 2),
                    "estimatedclosedate": f"2027-03-{number + 1:02}",
                },
            )
        writes = job.settled(referral)  # and a second time nothing
        assert len([e for e in writes if e.host == CRM]) <= 1
        assert len([e for e in writes if e.host == REFERRALS]) <= 1
        lead, now = job.lead(referral), job.far.referral(referral)
        assert lead["title"] == now["name"]
        assert lead["description"] == now["details"]["notes"]
        assert now["externalReferenceId"] == lead["id"]
        if lead["amount"] is not None and lead["currency"] == now["details"]["currency"]:
            assert float(now["details"]["dealValue"]) == pytest.approx(lead["amount"], abs=1e-9)
        if lead["close_date"]:
            assert now["details"]["closingDateTime"][:10] == lead["close_date"]


# As a newcomer sees it


def test_the_demo_creates_then_changes_nothing_then_swaps_the_crm(tmp_path: Path) -> None:
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    args = ("flows/referral_to_dynamics.yaml", "--json")
    first, second = (flowrun(*args, cwd=tmp_path) for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.all + second.all
    assert [(n, s["status"], s["changed"]) for n, s in first.steps.items()] == [
        ("get_token", "succeeded", False),
        ("get_referral", "succeeded", False),
        ("upsert_lead", "succeeded", True),
        ("update_referral", "succeeded", True),
    ]
    assert re.fullmatch(r"created lead [0-9a-f]{8}…", first.steps["upsert_lead"]["summary"])
    assert not any(s["changed"] for s in second.steps.values())
    assert second.steps["upsert_lead"]["summary"] == second.steps["update_referral"]["summary"] == "already up to date"
    assert second.end["outputs"] == first.end["outputs"]
    third, fourth = (flowrun(*args, "--connect", "crm=sqlite", cwd=tmp_path) for _ in range(2))
    assert (third.code, fourth.code) == (0, 0), third.all + fourth.all
    assert third.steps["upsert_lead"]["summary"].startswith("created lead ")
    assert third.end["outputs"]["lead"] != first.end["outputs"]["lead"]
    assert not any(s["changed"] for s in fourth.steps.values())


# Both directions


def test_the_two_directions_come_to_rest(job: Job) -> None:
    """Twenty rounds of the one after the other, once what a person has changed is through: no further write."""
    folder, far = job.folder, job.far
    assert job.sync(MAIN).code == 0
    change = json.dumps({"id": "x", "key": MAIN, "deleted": False, "status": "open", "lead": None})
    (folder / "change.json").write_text(change, "utf-8")
    back = ("dynamics_to_referral.yaml", "--env", "lab", "--input", "change.json")
    far.edit_referral(MAIN, name="Another name", details={"notes": "changed"})
    assert job.sync(MAIN).code == 0
    assert flowrun(*back, cwd=folder, env=VARIABLES).code == 0
    far.seen.clear()
    for _ in range(20):
        said = flowrun(*back, cwd=folder, env=VARIABLES)
        assert said.code == 0, said.all
        writes = list(far.writes)
        assert job.sync(MAIN).code == 0  # forgets what was seen before
        assert [*writes, *far.writes] == []
