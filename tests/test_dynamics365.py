"""The Dynamics 365 connector against the Dataverse emulator: real requests, real msal, no network.

The rules that every CRM connector keeps are in test_crm_conformance.py.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.dynamics365 import leads
from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.emulator import ORG, Dataverse
from connectors.entra.emulator import Entra
from engine import (
    Call,
    ConfigError,
    DataError,
    FlowrunError,
    Lead,
    RemoteError,
    Result,
    TransientError,
    plain,
)
from engine.loader import input_schema, output_schema
from engine.sandbox import Emulator, Faults, Incoming, Reply
from engine.testing import FakeClock, connect
from engine.testing.crm.bench import on_behalf_of

KEY = "2f1d7a3c-5b64-4e0f-8a1b-9c2d3e4f5a6b"
OTHER_KEY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
KEYLESS = "aaaaaaaa-0000-4000-8000-000000000001"
QUALIFIED = "aaaaaaaa-0000-4000-8000-000000000003"
USD = "c0de0000-0000-4000-8000-0000000000a1"
EUR = "c0de0000-0000-4000-8000-0000000000a2"
USER = "c0de0000-0000-4000-8000-0000000000c1"
TEAM = "c0de0000-0000-4000-8000-0000000000d1"
SETTINGS: Mapping[str, Any] = Dataverse.connections["dynamics365"]
LEAD = {"title": "A deal", "company": "Fabrikam", "last_name": "Aziz", "phone": "+45 1"}


class Watched(Dataverse):
    """Notes each request to the Web API, and lets something happen just before one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.log: list[Incoming] = []
        self.before: list[tuple[str, str, Callable[[], Any]]] = []  # (method, part of the path, what happens)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        for entry in self.before:
            method, part, happens = entry
            if environ["REQUEST_METHOD"] == method and part in environ["PATH_INFO"]:
                self.before.remove(entry)
                happens()
                break
        return super().__call__(environ, start_response)

    def answer(self, request: Incoming) -> Reply:
        self.log.append(request)
        return super().answer(request)

    def calls(self) -> list[str]:
        """The requests since the last look, as METHOD set."""
        log, self.log = self.log, []
        return [f"{r.method} {r.path.removeprefix('/api/data/v9.2/').partition('(')[0]}" for r in log]


class World:
    """A clock, Entra, an organization, and the connector on them."""

    def __init__(self, dataverse: type[Watched] = Watched, **settings: Any) -> None:
        self.clock = FakeClock()
        self.entra = Entra(clock=self.clock)
        self.dataverse = dataverse(clock=self.clock)
        self.faults = Faults(self.dataverse)
        self.settings = {**SETTINGS, **settings}
        self.crm = self.connect()

    def connect(self) -> Dynamics365:
        return connect(Dynamics365, self.settings, self.faults, self.entra, clock=self.clock)

    def upsert(self, key: str = KEY, lead: Mapping[str, Any] = LEAD, **more: Any) -> Result[Any]:
        return self.crm.invoke("upsert_lead", {"key": key, "lead": dict(lead), **more})

    def do(self, name: str, **inputs: Any) -> Result[Any]:
        return self.crm.invoke(name, inputs)

    def row(self, id: str) -> dict[str, Any]:
        row = self.dataverse.row("leads", id)
        assert row is not None
        return row

    def calls(self) -> list[str]:
        return self.dataverse.calls()


@pytest.fixture
def world() -> World:
    return World()


# What upsert_lead sends


def test_creating_is_one_look_and_one_write(world: World) -> None:
    result = world.upsert()
    assert world.calls() == ["GET leads", "PATCH leads", "GET transactioncurrencies"]
    world.upsert(OTHER_KEY)
    assert world.calls() == ["GET leads", "PATCH leads"]  # the currency's code is known by now
    assert result.body.url == f"{ORG}/main.aspx?etn=lead&id={result.body.id}&pagetype=entityrecord"


def test_creating_with_an_amount_asks_for_the_currency_once(world: World) -> None:
    world.upsert(on_create={"amount": 5, "currency": "EUR"})
    assert world.calls() == ["GET leads", "GET transactioncurrencies", "PATCH leads"]
    world.upsert(OTHER_KEY, on_create={"amount": 6, "currency": "EUR"})
    assert world.calls() == ["GET leads", "PATCH leads"]


def test_repeating_is_one_look(world: World) -> None:
    world.upsert(on_create={"amount": 5, "currency": "USD"})
    world.calls()
    result = world.upsert(on_create={"amount": 5, "currency": "USD"})
    assert world.calls() == ["GET leads"]
    assert (result.changed, result.summary) == (False, "already up to date")


def test_the_requests_are_those_of_the_documentation(world: World) -> None:
    world.upsert()
    world.upsert(lead={"phone": "+45 2"})
    look, create, _, again, update = world.dataverse.log
    for request in (look, create, update):
        assert (request.headers["odata-version"], request.headers["odata-maxversion"]) == ("4.0", "4.0")
        assert request.headers["accept"] == "application/json"
        assert "statecode" in request.query["$select"]
    assert look.path == create.path == again.path == f"/api/data/v9.2/leads(new_referralid=%27{KEY}%27)"
    assert look.headers["if-none-match"] == "null"  # against caches
    assert (create.headers["if-none-match"], create.headers["prefer"]) == ("*", "return=representation")
    assert "new_referralid" not in create.json()
    assert update.headers["if-match"].startswith('W/"')
    assert "if-none-match" not in update.headers
    assert update.json() == {"telephone1": "+45 2"}  # what differs, and nothing else


@pytest.mark.parametrize(
    ("lead", "columns"),
    [
        ({"title": " A\nB ", "company": "C"}, {"subject": "A B", "companyname": "C", "lastname": "C"}),
        ({"title": "T"}, {"subject": "T", "lastname": "T"}),
        ({"company": "C" * 120}, {"subject": "C" * 120, "lastname": "C" * 49 + "…", "companyname": "C" * 99 + "…"}),
        ({"last_name": "L"}, {"subject": "L", "lastname": "L"}),
        ({"last_name": "L", "company": "C"}, {"subject": "C", "lastname": "L"}),
        ({"last_name": " ", "company": "C"}, {"lastname": "C"}),
        ({"first_name": "F"}, {"subject": None, "lastname": None, "firstname": "F"}),
        (
            {"email": "a@b.c", "phone": "1", "mobile": "2"},
            {"emailaddress1": "a@b.c", "telephone1": "1", "mobilephone": "2"},
        ),
        (
            {"website": "w", "street": "s", "street2": "t"},
            {"websiteurl": "w", "address1_line1": "s", "address1_line2": "t"},
        ),
        ({"city": "c", "state": "s"}, {"address1_city": "c", "address1_stateorprovince": "s"}),
        ({"postal_code": "p", "country": "DK"}, {"address1_postalcode": "p", "address1_country": "DK"}),
        ({"job_title": "j", "description": "a\nb\n"}, {"jobtitle": "j", "description": "a\nb"}),
        ({"amount": "10.005"}, {"estimatedamount": 10.01, "_transactioncurrencyid_value": USD}),
        ({"amount": 1e12, "currency": "eur"}, {"estimatedamount": 1e12, "_transactioncurrencyid_value": EUR}),
        ({"currency": "EUR"}, {"estimatedamount": None, "_transactioncurrencyid_value": EUR}),
        ({"close_date": "2026-12-31T00:00:00.0000000Z"}, {"estimatedclosedate": "2026-12-31"}),
        ({"close_date": "2026-12-31"}, {"estimatedclosedate": "2026-12-31"}),
        ({"source": "partner"}, {"leadsourcecode": 4}),
        ({"source": "Marketplace"}, {"leadsourcecode": 100000001}),
        ({"source": "7"}, {"leadsourcecode": 7}),
        ({"native": {"leadqualitycode": "Warm"}}, {"leadqualitycode": 2}),
        ({"native": {"industrycode": {"label": "Consulting"}}}, {"industrycode": 7}),
        ({"native": {"ownerid": {"table": "teams", "id": TEAM}}}, {"_ownerid_value": TEAM}),
        ({"native": {"ownerid@odata.bind": f"/teams({TEAM})"}}, {"_ownerid_value": TEAM}),
        ({"native": {"budgetamount": "10.005", "fax": " 1\x02 "}}, {"budgetamount": 10.01, "fax": "1"}),
        ({"native": {"numberofemployees": 5, "donotemail": False}}, {"numberofemployees": 5, "donotemail": False}),
        ({"native": {"sic": None}}, {"sic": None}),
    ],
    ids=",".join,
)
def test_mapping(world: World, lead: dict[str, Any], columns: dict[str, Any]) -> None:
    """Each field goes to its column in the form in which the service keeps it, and is found unchanged later."""
    id = world.upsert(lead=lead).body.id
    row = world.row(id)
    assert {name: row[name] for name in columns} == columns
    world.calls()
    assert not world.upsert(lead=lead).changed
    assert not any(c.startswith("PATCH") for c in world.calls())


@pytest.mark.parametrize(
    ("lead", "words"),
    [
        ({"email": "a" * 101}, "emailaddress1 takes 100 characters, the value has 101"),
        ({"phone": "1" * 51}, "telephone1 takes 50 characters, the value has 51"),
        ({"mobile": "🙂" * 11}, "mobilephone takes 20 characters, the value has 22"),
        ({"website": "w" * 201}, "websiteurl takes 200"),
        ({"native": {"middlename": "m" * 51}}, "middlename takes 50"),
        ({"native": {"subject": "m" * 301}}, "subject takes 300"),
        ({"amount": -1}, "no amount from 0 to 1,000,000,000,000"),
        ({"amount": "1000000000001"}, "no amount"),
        ({"native": {"budgetamount": "much"}}, "no amount"),
        ({"close_date": "2026-02-30"}, "no date"),
        ({"close_date": "0001-01-01T00:00:00"}, "no date from 1753 on"),
        ({"source": "Radio"}, "there are Advertisement, Employee Referral"),
        ({"native": {"leadqualitycode": "Hott"}}, "no label 'Hott'; there are Hot, Warm, Cold"),
        ({"native": {"ownerid": {"table": "teams"}}}, "an object is a lookup"),
        ({"native": {"new_referralid": "x"}}, "is what upsert_lead itself writes"),
        ({"native": {"leadid": USD}}, "is what upsert_lead itself writes"),
        ({"native": {"parentaccountid@odata.bind": "/accounts(accountnumber='1')"}}, "needs the row's id"),
        ({"native": {"nosuch": 1}}, "'nosuch'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_that_are_refused(world: World, lead: dict[str, Any], words: str) -> None:
    before = world.dataverse.rows("leads")
    with pytest.raises(DataError) as caught:
        world.upsert(lead={"company": "C", **lead})
    assert words in caught.value.message
    assert world.dataverse.rows("leads") == before


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"clear": ["phnoe"]}, "no field 'phnoe'"),
        ({"clear": ["telephone1"]}, "no field 'telephone1'"),  # a column is written native.telephone1
        ({"clear": ["phone"]}, "'phone' is given a value too"),
        ({"clear": ["native.fax"], "lead": {"native": {"fax": "1"}}}, "'native.fax' is given a value too"),
        ({"clear": ["currency"]}, "keeps a currency for every lead"),
    ],
    ids=str,
)
def test_what_cannot_be_cleared(world: World, inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        world.upsert(**inputs)
    assert words in caught.value.message
    assert world.calls() == []


def test_clearing(world: World) -> None:
    """A column of lead's own too; what is cleared isn't created either; a blank value is no value."""
    clear = ["city", "native.fax", "phone"]
    lead = {"company": "C", "phone": " ", "currency": "", "source": " "}
    first = {"city": "Ribe", "native": {"fax": "1"}}
    id = world.upsert(lead=lead, on_create=first, clear=clear).body.id
    assert (world.row(id)["address1_city"], world.row(id)["fax"]) == (None, None)
    assert not world.upsert(lead=lead, on_create=first, clear=clear).changed
    world.dataverse.edit("leads", id, {"address1_city": "Ribe", "fax": "1", "telephone1": "1", "pager": "1"})
    assert world.upsert(lead=lead, on_create=first, clear=clear).summary == "updated: city, native.fax, phone"
    row = world.row(id)
    assert [row[c] for c in ("address1_city", "fax", "telephone1", "pager")] == [None, None, None, "1"]


def test_a_label_that_is_nearly_right_gets_a_hint(world: World) -> None:
    with pytest.raises(DataError) as caught:
        world.upsert(lead={"source": "Partnr"})
    assert caught.value.hint == "did you mean 'Partner'?"


def test_labels_are_asked_for_once_and_only_when_they_are_needed(world: World) -> None:
    world.upsert(lead={"source": "Partner"})
    assert "GET EntityDefinitions" not in world.calls()
    for key in (KEY, OTHER_KEY):
        assert world.upsert(key, lead={"source": "Marketplace"}).body.lead.source == "Marketplace"
    assert world.calls().count("GET EntityDefinitions") == 1


def test_a_source_that_others_set_is_read_by_its_label(world: World) -> None:
    id = world.upsert().body.id
    for number, label in ((8, "Web"), (100000001, "Marketplace"), (77, "77"), (None, None)):
        world.dataverse.edit("leads", id, {"leadsourcecode": number})
        assert world.do("get_lead", id=id).body.lead.source == label


def test_shortened_fields_are_named_and_compare_equal(world: World) -> None:
    lead = {"title": "🙂" * 151, "city": "c" * 80, "street": "s" * 251, "description": "d" * 100_000}
    result = world.upsert(lead=lead)
    assert result.summary.endswith("; shortened: title, street, description")
    row = world.row(result.body.id)
    assert row["subject"] == "🙂" * 149 + "…"  # half an emoji isn't kept
    assert row["description"] == "d" * 1999 + "…"
    result = world.upsert(lead=lead)
    assert (result.changed, result.summary) == (False, "already up to date; shortened: title, street, description")


def test_what_people_tidied_is_no_difference(world: World) -> None:
    """Line ends and outer blanks that the application adds aren't put back."""
    id = world.upsert(lead={"company": "C", "description": "a\nb"}).body.id
    world.dataverse.edit("leads", id, {"description": "a\r\nb \r\n", "companyname": " C"})
    assert not world.upsert(lead={"company": "C", "description": "a\nb"}).changed


# Currencies


def test_a_currency_that_is_not_set_up_leaves_the_amount_out(world: World) -> None:
    result = world.upsert(on_create={"amount": 5_000_000, "currency": "JPY", "city": "Kyoto"})
    assert result.summary.endswith("; JPY isn't set up in the CRM: amount left out")
    assert (result.body.lead.amount, result.body.lead.currency, result.body.lead.city) == (None, "USD", "Kyoto")


@pytest.mark.parametrize("status", [403, 404])
def test_a_currency_table_that_cannot_be_read_leaves_the_amount_out(status: int) -> None:
    class NoCurrencies(Watched):
        def answer(self, request: Incoming) -> Reply:
            if "transactioncurrencies" in request.path:
                return Reply(status, {"error": {"code": "", "message": "no"}})
            return super().answer(request)

    world = World(NoCurrencies)
    result = world.upsert(on_create={"amount": 5, "currency": "USD"})
    assert result.summary.endswith("USD isn't set up in the CRM: amount left out")
    assert (result.body.created, result.body.lead.amount, result.body.lead.currency) == (True, None, None)


def test_an_amount_kept_equal_is_not_written_into_another_currency(world: World) -> None:
    inputs = {"lead": {**LEAD, "amount": 100}, "on_create": {"currency": "USD"}}
    id = world.upsert(**inputs).body.id
    assert world.row(id)["estimatedamount"] == 100
    world.dataverse.edit("leads", id, {"_transactioncurrencyid_value": EUR, "estimatedamount": 92.0})
    result = world.upsert(**inputs)
    assert not result.changed
    assert result.summary.endswith("the lead is in EUR by now, not in USD: amount left out")
    assert (result.body.lead.amount, result.body.lead.currency) == (92, "EUR")
    changed = world.upsert(lead={**LEAD, "amount": 100, "currency": "USD"})
    assert changed.summary == "updated: currency, amount"


# What stands in front of the service

PAGE = b"<!DOCTYPE html><html><head><title>no</title></head></html>"


class Gateway(Watched):
    """Answers requests whose path holds `part` with a page."""

    part, status = "", 404

    def answer(self, request: Incoming) -> Reply:
        if self.part and self.part in request.path:
            self.log.append(request)
            return Reply(self.status, PAGE, {"Content-Type": "text/html"})
        return super().answer(request)


def test_a_gateways_page_does_not_say_that_there_is_no_lead() -> None:
    world = World(Gateway)
    before = world.dataverse.rows("leads")
    world.dataverse.part = KEYLESS  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match="404"):
        world.upsert(known_id=KEYLESS)
    assert world.dataverse.rows("leads") == before


@pytest.mark.parametrize("status", [403, 404])
def test_a_gateways_page_does_not_say_that_there_is_no_such_currency(status: int) -> None:
    world = World(Gateway)
    world.dataverse.part, world.dataverse.status = "transactioncurrencies", status  # type: ignore[attr-defined]
    before = world.dataverse.rows("leads")
    with pytest.raises(FlowrunError, match=str(status)):
        world.upsert(on_create={"amount": 5, "currency": "USD"})
    assert world.dataverse.rows("leads") == before


# Whose lead it is


def test_the_seeds_keyless_lead_is_adopted(world: World) -> None:
    result = world.upsert(known_id=KEYLESS.upper(), on_create={"city": "Ribe"})
    assert result.summary == "adopted lead aaaaaaaa…; updated: title, company, last_name, phone"
    assert world.calls()[:3] == ["GET leads", "GET leads", "PATCH leads"]
    row = world.row(KEYLESS)
    assert (row["new_referralid"], row["companyname"], row["address1_city"]) == (KEY, "Fabrikam", None)
    assert world.upsert(known_id=KEYLESS).summary == "already up to date"


def test_adopting_sends_the_etag(world: World) -> None:
    world.upsert(known_id=KEYLESS)
    patch = next(r for r in world.dataverse.log if r.method == "PATCH")
    assert patch.headers["if-match"].startswith('W/"')
    assert patch.json()["new_referralid"] == KEY


def test_a_qualified_lead_is_said_to_be_read_only(world: World) -> None:
    result = world.upsert(known_id=QUALIFIED)
    assert result.summary == "lead aaaaaaaa… is qualified: read-only, left alone"
    assert (result.changed, result.body.read_only, result.body.key) == (False, True, None)


# Races


def test_a_lead_created_between_look_and_write_is_updated(world: World) -> None:
    """The other writer's lead is taken, not doubled; on_create isn't written over it."""

    def other() -> None:
        world.dataverse.add("leads", {"new_referralid": KEY, "companyname": "Older", "address1_city": "Ribe"})

    world.dataverse.before = [("PATCH", "/leads", other)]
    result = world.upsert(on_create={"city": "Aarhus"})
    assert (result.body.created, result.changed) == (False, True)
    assert (result.body.lead.company, result.body.lead.city) == ("Fabrikam", "Ribe")
    assert world.calls()[:4] == ["GET leads", "PATCH leads", "GET leads", "PATCH leads"]


@pytest.mark.parametrize("code", ["0x80060892", "0x80040237", "-2147220937", ""])
def test_every_way_of_saying_that_the_key_is_taken(code: str) -> None:
    status = 412 if code in ("", "0x80060892") else 400  # the codes count, wherever they come

    class Racing(Watched):
        def answer(self, request: Incoming) -> Reply:
            if request.method == "PATCH" and not self.rows("leads")[-1]["new_referralid"]:
                self.add("leads", {"leadid": "ffffffff-0000-4000-8000-000000000001", "new_referralid": KEY})
                self.log.append(request)
                return Reply(status, {"error": {"code": code, "message": "A record with matching key values exists"}})
            return super().answer(request)

    result = World(Racing).upsert()
    assert (result.body.created, result.body.id[:8]) == (False, "ffffffff")


def test_a_lead_changed_between_look_and_write_is_looked_at_again(world: World) -> None:
    id = world.upsert().body.id
    world.dataverse.before = [("PATCH", "/leads", lambda: world.dataverse.edit("leads", id, {"telephone1": "+45 9"}))]
    result = world.upsert(lead={"city": "Ribe"})
    assert result.summary == "updated: city"
    assert result.body.lead.phone == "+45 9"


def test_re_applying_finds_the_wish_already_there(world: World) -> None:
    id = world.upsert().body.id
    world.dataverse.before = [("PATCH", "/leads", lambda: world.dataverse.edit("leads", id, {"telephone1": "+45 9"}))]
    assert world.upsert(lead={"phone": "+45 9"}).summary == "already up to date"


def test_a_lead_that_never_holds_still_is_given_up_after_three_repeats(world: World) -> None:
    id = world.upsert().body.id
    world.calls()
    world.dataverse.before = [("PATCH", "/leads", lambda: world.dataverse.edit("leads", id, {}))] * 9
    with pytest.raises(RemoteError) as caught:
        world.upsert(lead={"city": "Ribe"})
    assert (caught.value.code, caught.value.status) == ("0x80060882", 412)
    assert caught.value.hint == "somebody else changed the row in between"
    assert world.calls().count("PATCH leads") == 4
    assert len(world.dataverse.before) == 5


def test_a_lead_deleted_between_look_and_write_is_created_anew(world: World) -> None:
    id = world.upsert().body.id
    world.dataverse.before = [("PATCH", "/leads", lambda: world.dataverse.remove("leads", id))]
    result = world.upsert(lead={"city": "Ribe"})
    assert result.body.created
    assert result.body.id != id


def test_a_lead_adopted_by_another_writer_meanwhile(world: World) -> None:
    other = world.dataverse.add("leads", {"new_referralid": None})["leadid"]
    world.dataverse.before = [
        ("PATCH", "/leads", lambda: world.dataverse.edit("leads", other, {"new_referralid": KEY}))
    ]
    result = world.upsert(known_id=KEYLESS)
    assert result.body.id == other
    assert world.row(KEYLESS)["new_referralid"] is None


def test_a_lead_qualified_between_look_and_write_is_left_alone(world: World) -> None:
    id = world.upsert().body.id
    world.dataverse.before = [
        ("PATCH", "/leads", lambda: world.dataverse.edit("leads", id, {"statecode": 1, "statuscode": 3}))
    ]
    result = world.upsert(lead={"city": "Ribe"})
    assert (result.changed, result.body.read_only, result.body.lead.city) == (False, True, None)


# Keys


@pytest.mark.parametrize("key", ["a/b", "50%", "a+b@c.example", "x:y", "C:\\d", "why?", "<a&b*>", "O'Brien/Søn"])
def test_keys_that_cannot_be_addressed_are_found_by_a_filter(world: World, key: str) -> None:
    created = world.upsert(key)
    assert created.body.created
    assert world.row(created.body.id)["new_referralid"] == key
    assert [c for c in world.calls() if "leads" in c] == ["GET leads", "POST leads"]
    assert world.upsert(key, lead={"city": "Ribe"}).body.id == created.body.id
    assert world.do("get_lead", key=key).body.id == created.body.id
    world.dataverse.before = [("POST", "/leads", lambda: world.dataverse.add("leads", {"new_referralid": key + "2"}))]
    raced = world.upsert(key + "2")
    assert (raced.body.created, raced.changed) == (False, True)
    assert len(world.dataverse.rows("leads")) == 5


def test_such_a_key_is_not_written_unless_it_is_unique(world: World) -> None:
    world.dataverse.set_key("leads", "new_referralkey", "Pending")
    with pytest.raises(ConfigError, match="no active alternate key"):
        world.upsert("a/b")
    assert len(world.dataverse.rows("leads")) == 3


@pytest.mark.parametrize("status", [None, "Pending", "Failed"])
def test_an_undeclared_key_is_an_error_with_the_remedy(world: World, status: str | None) -> None:
    world.dataverse.set_key("leads", "new_referralkey", status)
    with pytest.raises(ConfigError) as caught:
        world.upsert()
    assert "declare new_referralid as an alternate key of lead: Power Apps → Tables → Lead → Keys" in caught.value.hint


def test_the_key_column_is_a_setting() -> None:
    for column in ("subject", "nosuch"):  # a column that is no key, and none at all
        with pytest.raises(ConfigError, match="key in the request URI") as caught:
            World(key_column=column).upsert()
        assert f"declare {column} as an alternate key" in caught.value.hint
    with pytest.raises(DataError, match="logical name"):
        World(key_column="No Such")


def test_letter_case_of_a_key_makes_no_second_lead(world: World) -> None:
    assert world.upsert(KEY.upper()).body.id == world.upsert(KEY).body.id


# Services that answer differently, as the documentation allows


class Sparse(Watched):
    """Sends no representation, whatever is preferred."""

    def answer(self, request: Incoming) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name != "prefer"}
        return super().answer(replace(request, headers=headers))


class Terse(Watched):
    """Sends the id and eTag alone, and 200 for a creation."""

    def answer(self, request: Incoming) -> Reply:
        reply = super().answer(request)
        if request.method == "PATCH" and reply.status in (200, 201) and isinstance(reply.body, dict):
            return Reply(200, {n: v for n, v in reply.body.items() if n in ("leadid", "accountid", "@odata.etag")})
        return reply


@pytest.mark.parametrize("service", [Sparse, Terse])
def test_what_a_write_does_not_tell_is_asked_for(service: type[Watched]) -> None:
    world = World(service)
    result = world.upsert()
    assert (result.body.created, result.body.lead.company) == (True, "Fabrikam")
    result = world.upsert(lead={"city": "Ribe"})
    assert (result.changed, result.body.lead.city, result.body.lead.phone) == (True, "Ribe", "+45 1")
    row = world.do("create", table="accounts", row={"name": "A"}, select=["name"]).body
    assert row["name"] == "A"


def test_an_answer_without_json_is_a_lost_answer() -> None:
    class Garbled(Watched):
        def answer(self, request: Incoming) -> Reply:
            reply = super().answer(request)
            return Reply(reply.status, b"<html>", {"Content-Type": "text/html"}) if reply.status < 300 else reply

    world = World(Garbled)
    with pytest.raises(TransientError) as caught:
        world.upsert()
    assert caught.value.answer_lost
    assert len(world.dataverse.rows("leads")) == 4


# Changes


def drain(world: World, cursor: str | None) -> tuple[list[Any], str, list[bool]]:
    items, full = [], []
    while True:
        page = world.do("list_changes", cursor=cursor).body
        items += page.items
        full.append(page.full)
        cursor = page.cursor
        if not page.more:
            return items, page.cursor, full


def test_changes_come_in_pages_each_once(world: World) -> None:
    world.dataverse.page_size = 2
    items, cursor, full = drain(world, None)
    assert [i.id[-1] for i in items] == ["1", "2", "3"]
    assert full == [True, True]
    assert [i.status for i in items] == ["open", "open", "qualified"]
    new = [world.upsert(f"key-{n}").body.id for n in range(3)]
    world.dataverse.remove("leads", KEYLESS)
    items, cursor, full = drain(world, cursor)
    assert [(i.id, i.deleted, i.key) for i in items] == [
        *((id, False, f"key-{n}") for n, id in enumerate(new)),
        (KEYLESS, True, None),
    ]
    assert full == [False, False]
    assert items[0].lead.company == "Fabrikam"
    assert drain(world, cursor)[0] == []


def test_an_expired_cursor_is_a_full_listing(world: World) -> None:
    _, cursor, _ = drain(world, None)
    world.dataverse.remove("leads", KEYLESS)
    world.clock.advance(8 * 24 * 3600)
    items, cursor, full = drain(world, cursor)
    assert (len(items), full) == (2, [True])
    assert not any(i.deleted for i in items)
    assert drain(world, cursor)[2] == [False]


def test_switched_off_change_tracking_is_a_config_error(world: World) -> None:
    _, cursor, _ = drain(world, None)
    world.dataverse.track_changes("leads", False)
    for each in (None, cursor):
        with pytest.raises(ConfigError, match="Change tracking is not enabled") as caught:
            world.do("list_changes", cursor=each)
        assert "Lead → Properties → Track changes" in caught.value.hint


def test_a_service_that_gives_no_delta_link(world: World) -> None:
    class Untracked(Watched):
        def answer(self, request: Incoming) -> Reply:
            headers = {name: value for name, value in request.headers.items() if name != "prefer"}
            return super().answer(replace(request, headers=headers))

    with pytest.raises(ConfigError) as caught:
        World(Untracked).do("list_changes")
    assert "turn change tracking on" in caught.value.hint


def test_a_lead_told_twice_in_a_page_is_told_once_by_its_last_change() -> None:
    def told(id: str, city: str) -> dict[str, Any]:
        return {"leadid": id, "statecode": 0, "address1_city": city}

    class Repeating(Watched):
        def answer(self, request: Incoming) -> Reply:
            rows = [told(KEYLESS, "Ribe"), told(QUALIFIED, "Aarhus"), told(KEYLESS, "Vejle")]
            return Reply(200, {"value": rows, "@odata.deltaLink": "leads?$deltatoken=1"})

    items = World(Repeating).do("list_changes").body.items
    assert [(i.id, i.lead.city) for i in items] == [(QUALIFIED, "Aarhus"), (KEYLESS, "Vejle")]


@pytest.mark.parametrize("link", ["https://evil.example/api/data/v9.2/leads?x", "/elsewhere/leads?x"])
@pytest.mark.parametrize("kind", ["@odata.nextLink", "@odata.deltaLink"])
def test_links_that_lead_elsewhere_are_not_followed(link: str, kind: str) -> None:
    class Misleading(Watched):
        def answer(self, request: Incoming) -> Reply:
            self.log.append(request)
            return Reply(200, {"value": [], kind: link})

    world = World(Misleading)
    for operation, inputs in (("list_changes", {}), ("list", {"table": "leads"})):
        if (operation, kind) != ("list", "@odata.deltaLink"):
            with pytest.raises(RemoteError, match="not followed"):
                world.do(operation, **inputs)
    assert all(request.host == "contoso.crm.dynamics.com" for request in world.dataverse.log)


def test_links_over_http_or_without_a_host_are_followed_by_our_own_address() -> None:
    class Loose(Watched):
        links: ClassVar = ["http://CONTOSO.crm.dynamics.com/api/data/v9.2/leads?$skiptoken=1", "leads?$skiptoken=2", ""]

        def answer(self, request: Incoming) -> Reply:
            link = self.links[int(request.query.get("$skiptoken", "0"))]
            return Reply(200, {"value": [{}], **({"@odata.nextLink": link} if link else {})})

    assert len(World(Loose).do("list", table="leads").body.value) == 3


# Rows


def test_create_and_get_and_delete(world: World) -> None:
    made = world.do("create", table="accounts", row={"name": "A"}, select=["name"])
    assert (made.changed, made.body["name"]) == (True, "A")
    id = made.body["accountid"]
    assert made.summary == f"created accounts({id})"
    found = world.do("get", table="accounts", id=id, select=["name", "accountnumber"])
    assert {n: v for n, v in found.body.items() if "@" not in n} == {
        "accountid": id,
        "name": "A",
        "accountnumber": None,
    }
    assert world.do("get", table="accounts", id=id).body["statecode"] == 0
    assert world.do("delete", table="accounts", id=id).body is True
    assert world.do("get", table="accounts", id=id).body is None
    gone = world.do("delete", table="accounts", id=id)
    assert (gone.body, gone.changed, gone.summary) == (False, False, "already gone")


def test_create_repeated_by_the_same_step_finds_its_row(world: World) -> None:
    """The answer is lost, the step is repeated: one row. Another step makes another row."""
    world.faults.once = [("PATCH", "/accounts(", "lost")]
    step = Call(idempotency_key="run 1/make_account")
    with on_behalf_of(step):
        with pytest.raises(TransientError) as caught:
            world.do("create", table="accounts", row={"name": "A"})
        assert caught.value.answer_lost
        again = world.do("create", table="accounts", row={"name": "A"})
    assert (again.changed, again.body["name"]) == (False, "A")
    with on_behalf_of(Call(idempotency_key="run 2/make_account")):
        assert world.do("create", table="accounts", row={"name": "A"}).changed
    assert len(world.dataverse.rows("accounts")) == 2


def test_create_with_a_taken_alternate_key_is_refused(world: World) -> None:
    world.do("create", table="accounts", row={"accountnumber": "1"})
    with pytest.raises(RemoteError) as caught:
        world.do("create", table="accounts", row={"accountnumber": "1"})
    assert (caught.value.code, caught.value.status) == ("0x80060892", 412)
    assert caught.value.hint == "a row with the same alternate key exists already"


def test_update_and_upsert(world: World) -> None:
    id = world.do("create", table="accounts", row={"name": "A", "telephone1": "1"}).body["accountid"]
    row = world.do("update", table="accounts", id=id, row={"telephone1": None, "name": "B"}).body
    assert (row["name"], row["telephone1"]) == ("B", None)
    with pytest.raises(RemoteError) as caught:
        world.do("update", table="accounts", id=USD, row={"name": "B"})
    assert caught.value.status == 404
    assert len(world.dataverse.rows("accounts")) == 1
    for created in (True, False):
        body = world.do("upsert", table="accounts", key={"accountnumber": "O'Hara 1"}, row={"name": "C"}).body
        assert (body.created, body.row["name"], body.row["accountnumber"]) == (created, "C", "O'Hara 1")
    with pytest.raises(ConfigError, match="The key in the request URI is not valid"):
        world.do("upsert", table="accounts", key={"name": "C"}, row={})


def test_two_first_upserts_at_once(world: World) -> None:
    class Racing(Watched):
        """Says once that the key is taken, as both of two first upserts find nothing."""

        def answer(self, request: Incoming) -> Reply:
            if request.method == "PATCH" and not self.rows("accounts"):
                self.add("accounts", {"accountnumber": "1"})
                return Reply(412, {"error": {"code": "0x80060892", "message": "Entity Key violated"}})
            return super().answer(request)

    world = World(Racing)
    assert not world.do("upsert", table="accounts", key={"accountnumber": "1"}, row={"name": "A"}).body.created
    assert [row["name"] for row in world.dataverse.rows("accounts")] == ["A"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({}, "no column given"),
        ({"accountnumber": None}, "a text or a number is needed"),
        ({"accountnumber": ""}, "a text or a number is needed"),
        ({"accountnumber": True}, "a text or a number is needed"),
        ({"accountnumber": ["x"]}, "a text or a number is needed"),
        ({"accountnumber": "a/b?c"}, "a value with / ? can't be addressed"),
        ({"account number": "a"}, "is no column"),
        ({"x)": 5}, "is no column"),
    ],
    ids=str,
)
def test_keys_of_upsert_that_are_refused(world: World, key: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        world.do("upsert", table="accounts", key=key, row={"name": "A"})
    assert words in caught.value.message
    assert world.calls() == []


def test_list(world: World) -> None:
    for n in range(7):
        world.do("create", table="accounts", row={"name": f"O'A & {n}+", "numberofemployees": n})
    world.dataverse.page_size = 3
    world.calls()
    every = world.do("list", table="accounts", order_by="name", select=["name"]).body
    assert ([row["name"][-2] for row in every.value], every.more) == (list("0123456"), False)
    assert world.calls() == ["GET accounts"] * 3
    some = world.do("list", table="accounts", filter="numberofemployees ge 2", order_by="name desc", max_items=3)
    assert ([row["name"][-2] for row in some.body.value], some.body.more) == (list("654"), True)
    assert some.summary == "the first 3 accounts"
    exact = world.do("list", table="accounts", filter="name eq 'O''A & 6+'", max_items=1).body
    assert (len(exact.value), exact.more) == (1, False)
    assert len(world.do("list", table="accounts", top=2).body.value) == 2
    assert world.do("list", table="campaigns").summary == "0 campaigns"


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        ("get", {"table": "Leads", "id": KEYLESS}),
        ("get", {"table": "leads", "id": "5"}),
        ("get", {"table": "leads", "id": f"{KEYLESS})/x("}),
        ("list", {"table": "leads?$top=1"}),
        ("list", {"table": "leads", "top": 0}),
        ("list", {"table": "leads", "max_items": 0}),
        ("list", {"table": "leads", "filter": "nosuch eq 1"}),
        ("create", {"table": "accounts", "row": {"nosuch": 1}}),
        ("create", {"table": "accounts", "row": {"industrycode": {"label": "Nothing"}}}),
        ("create", {"table": "accounts", "row": {"x)": {"label": "Nothing"}}}),
        ("create", {"table": "nosuch", "row": {"industrycode": {"label": "Nothing"}}}),
        ("create", {"table": "leads", "row": {"ownerid": {"table": "teams", "id": "5"}}}),
        ("delete", {"table": "leads", "id": "5"}),
        ("create", {"table": "accounts", "row": {"name": "half \ud83d"}}),
    ],
    ids=str,
)
def test_inputs_of_row_operations_that_are_refused(world: World, operation: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        world.do(operation, **inputs)


def test_texts_that_are_too_long_are_not_sent(world: World) -> None:
    with pytest.raises(DataError, match="firstname takes 50 characters, the value has 51"):
        world.do("create", table="leads", row={"firstname": "f" * 51})
    assert world.calls() == []


def test_an_unknown_table_is_no_absent_row(world: World) -> None:
    for operation in ("get", "delete"):
        with pytest.raises(ConfigError) as caught:
            world.do(operation, table="nosuches", id=KEYLESS)
        assert "entity set name" in caught.value.hint


def test_choices_and_lookups_in_rows(world: World) -> None:
    row = {"industrycode": {"label": "consulting"}, "ownerid": {"table": "systemusers", "id": USER}}
    made = world.do("create", table="accounts", row={"name": "A", **row}).body
    assert (made["industrycode"], made["_ownerid_value"]) == (7, USER)
    lead = world.do("create", table="leads", row={"lastname": "L", "leadqualitycode": "Cold", "need": "0"}).body
    assert (lead["leadqualitycode"], lead["need"]) == (3, 0)


# Qualifying


def test_qualify_lead_and_again(world: World) -> None:
    lead = world.upsert(lead={**LEAD, "amount": 5}).body.id
    first = world.do("qualify_lead", key=KEY)
    assert (first.changed, first.body.id) == (True, lead)
    assert world.dataverse.row("opportunities", first.body.opportunity_id)["_originatingleadid_value"] == lead
    again = world.do("qualify_lead", id=lead)
    assert (again.changed, again.body) == (False, first.body)
    assert [len(world.dataverse.rows(t)) for t in ("accounts", "contacts", "opportunities")] == [1, 1, 1]
    assert world.do("get_lead", key=KEY).body.status == "qualified"


def test_qualify_lead_makes_what_is_asked_for(world: World) -> None:
    result = world.do("qualify_lead", id=KEYLESS, create_account=False, create_opportunity=False)
    assert (result.body.account_id, result.body.opportunity_id) == (None, None)
    assert result.body.contact_id
    assert world.dataverse.rows("opportunities") == []


def test_a_lost_answer_to_qualify_lead(world: World) -> None:
    world.faults.once = [("POST", "QualifyLead", "lost")]
    with pytest.raises(TransientError):
        world.do("qualify_lead", id=KEYLESS)
    result = world.do("qualify_lead", id=KEYLESS)
    assert not result.changed
    assert result.body.opportunity_id == world.dataverse.rows("opportunities")[0]["opportunityid"]


def test_qualify_lead_when_somebody_was_faster(world: World) -> None:
    world.dataverse.before = [
        ("POST", "Qualify", lambda: world.dataverse.edit("leads", KEYLESS, {"statecode": 1, "statuscode": 3}))
    ]
    assert not world.do("qualify_lead", id=KEYLESS).changed


def test_leads_that_cannot_be_qualified(world: World) -> None:
    world.dataverse.edit("leads", KEYLESS, {"statecode": 2, "statuscode": 4})
    with pytest.raises(RemoteError, match="disqualified"):
        world.do("qualify_lead", id=KEYLESS)
    with pytest.raises(RemoteError, match="no such lead"):
        world.do("qualify_lead", id=USD)
    with pytest.raises(DataError):
        world.do("qualify_lead")
    world.dataverse.deny("prvCreateAccount")
    with pytest.raises(ConfigError, match="prvCreateAccount"):
        world.do("qualify_lead", id="aaaaaaaa-0000-4000-8000-000000000002")


# Errors


@pytest.mark.parametrize(
    ("code", "limit"),
    [("0x80072322", "6000 requests"), ("0x80072321", "20 minutes"), ("0x80072326", "52 requests")],
)
def test_service_protection_limits_are_explained(world: World, code: str, limit: str) -> None:
    world.dataverse.throttle(1, code, retry_after=30)
    with pytest.raises(TransientError) as caught:
        world.upsert()
    assert (caught.value.retry_after, caught.value.code, caught.value.answer_lost) == (30.0, code, False)
    assert limit in caught.value.hint


class Answering(Emulator):
    """Gives one and the same answer to everything."""

    hosts = ("contoso.crm.dynamics.com",)
    reply: ClassVar[Reply] = Reply()

    def answer(self, request: Incoming) -> Reply:
        return self.reply


def answered(reply: Reply) -> FlowrunError:
    """The error that a connector makes of an answer to its write."""

    class Once(Answering):
        def answer(self, request: Incoming) -> Reply:
            return reply if request.method == "PATCH" else Reply(404, {"error": {"code": "", "message": "none"}})

    crm = connect(Dynamics365, SETTINGS, Once(), Entra(clock=FakeClock()))
    with pytest.raises(FlowrunError) as caught:
        crm.invoke("upsert_lead", {"key": KEY, "lead": {"company": "C"}})
    return caught.value


def body(code: Any, message: str = "words") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    ("reply", "kind", "code", "words"),
    [
        (Reply(500, body("0x80040333")), RemoteError, "0x80040333", "words"),  # a refusal, though it says 500
        (Reply(412, body("0x80040333")), RemoteError, "0x80040333", "words"),
        (Reply(412, body("-2147220685")), RemoteError, "0x80040333", "words"),
        (Reply(412, body("")), RemoteError, "412", "words"),
        (Reply(400, body("0x80060888", "The key in the request URI is not valid")), ConfigError, "0x80060888", "key"),
        (Reply(400, body("0x80048D19")), DataError, "0x80048d19", "words"),
        (Reply(400, body("0x80040265")), RemoteError, "0x80040265", "words"),
        (Reply(401, body("")), ConfigError, "401", "words"),
        (Reply(403, body("0x80040220")), ConfigError, "0x80040220", "words"),
        (Reply(403, body("")), ConfigError, "403", "words"),
        (Reply(404, body("0x8006088a", "Resource not found for the segment")), ConfigError, "0x8006088a", "segment"),
        (Reply(500, body("0x80040216")), TransientError, "0x80040216", "words"),
        (Reply(503, b"<html><style>x{}</style><h1>Busy\n</h1></html>"), TransientError, "503", "Busy"),
        (Reply(429, b"", {"Retry-After": "3"}), TransientError, "429", "answered 429"),
        (Reply(400, {"Message": "words"}), DataError, "400", "words"),
        (Reply(400, {"error": "bad_request", "error_description": "words"}), DataError, "bad_request", "words"),
        (Reply(400, {"error": {"innererror": {"message": "inner"}}}), DataError, "400", "inner"),
        (Reply(400, {"error": None}), DataError, "400", "None"),
        (Reply(400, ["words"]), DataError, "400", "words"),
        (Reply(400, b""), DataError, "400", "Bad Request"),
        (Reply(302, b"", {"Location": "https://login.example"}), RemoteError, "302", "302"),
    ],
    ids=str,
)  # fmt: skip
def test_errors_are_sorted_by_code_then_status(
    reply: Reply, kind: type[FlowrunError], code: str | None, words: str
) -> None:
    error = answered(reply)
    assert type(error) is kind
    assert code in (None, error.code)
    assert words in error.message
    assert error.status == reply.status


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (
            Reply(412, body("", "The version of the existing record doesn't match the RowVersion")),
            "somebody else changed",
        ),
        (Reply(412, body("", "A record with matching key values already exists.")), "a row with the same key exists"),
        (Reply(412, body("0x80040333")), "duplicate detection rule"),
        (Reply(401, body("")), "check url, tenant and client_id"),
        (Reply(403, body("")), "security role"),
        (Reply(403, body("0x80072560")), "application user"),
        (Reply(403, body("0x80048306")), "wider scope"),
    ],
    ids=str,
)
def test_hints_say_what_to_do(reply: Reply, hint: str) -> None:
    assert hint in answered(reply).hint


def test_a_duplicate_detection_rule_is_not_asked_twice() -> None:
    """Of the three meanings of 412 it is the one that no repeating helps."""

    class Detecting(Watched):
        def answer(self, request: Incoming) -> Reply:
            self.log.append(request)
            return Reply(412, body("0x80040333")) if request.method == "PATCH" else super().answer(request)

    world = World(Detecting)
    with pytest.raises(RemoteError):
        world.upsert()
    assert world.calls().count("PATCH leads") == 1


def test_only_what_may_have_been_done_is_uncertain() -> None:
    assert answered(Reply(500, body(""))).answer_lost
    assert not answered(Reply(429, body("0x80072322"))).answer_lost
    assert not answered(Reply(500, body("0x80040333"))).answer_lost


def test_the_message_quotes_no_more_than_it_must() -> None:
    assert len(answered(Reply(400, body("", "x" * 10_000))).message) < 700


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "lost"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_faults_are_transient_and_repeating_makes_one_lead(world: World, fault: str, method: str) -> None:
    world.faults.once = [(method, "/leads", fault)]
    with pytest.raises(TransientError):
        world.upsert(on_create={"city": "Ribe"})
    result = world.upsert(on_create={"city": "Ribe"})
    assert result.body.lead.city == "Ribe"
    assert result.body.created == ((method, fault) != ("PATCH", "lost"))
    assert len(world.dataverse.rows("leads")) == 4


# Signing in


def test_a_token_is_fetched_once_and_renewed_before_it_ends(world: World) -> None:
    asked: list[str] = []
    inner = world.entra.answer

    class Counting(Entra):
        def answer(self, request: Incoming) -> Reply:
            asked.append(f"{request.method} {request.path}")
            return inner(request)

    crm = connect(Dynamics365, SETTINGS, world.dataverse, Counting(clock=world.clock), clock=world.clock)
    for _ in range(3):
        crm.invoke("get_lead", {"key": KEY})
    assert sum(a.startswith("POST") for a in asked) == 1
    world.clock.advance(3600 - 200)
    crm.invoke("get_lead", {"key": KEY})
    assert sum(a.startswith("POST") for a in asked) == 2


def test_a_certificate_in_place_of_a_secret() -> None:
    key = (Path(__file__).parent.parent / "connectors/entra/certificate.pem").read_text()
    thumbprint = "A462157573CCD233C12E02D7D85ED487050BD990"
    world = World(client_secret=None, certificate=key, thumbprint=thumbprint)
    assert world.upsert().body.created
    assert repr(key.splitlines()[1])[1:-1] not in repr(world.crm.settings)


def test_a_stranger_is_told_to_become_an_application_user() -> None:
    world = World(client_id="2b8c3d4e-5f60-4172-8cbd-2e3f4a5b6c7d", client_secret="sandbox-http-secret")
    with pytest.raises(ConfigError) as caught:
        world.upsert()
    assert "application user" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"client_secret": None}, "client_secret, or certificate"),
        ({"certificate": "PEM"}, "client_secret, or certificate"),
        ({"client_secret": None, "certificate": "PEM"}, "thumbprint"),
        ({"url": "contoso"}, "is no address"),
    ],
    ids=str,
)
def test_settings_that_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        World(**settings)


def test_the_environment_may_be_given_as_its_web_api_address() -> None:
    world = World(url=f"{ORG}/api/data/v9.2/")
    assert world.upsert().body.created


class Unwilling(Watched):
    """Takes no token at all."""

    def answer(self, request: Incoming) -> Reply:
        self.log.append(request)
        return Reply(401, body("", "The token is not for this organization."))


def test_a_token_that_is_refused_twice_is_a_config_error() -> None:
    world = World(Unwilling)
    with pytest.raises(ConfigError, match="answered 401: The token is not for this organization"):
        world.upsert()
    first, second = world.dataverse.log  # renewed once, then said
    assert first.bearer != second.bearer


def everything(error: BaseException) -> str:
    """All that a log of an error could show."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


@pytest.mark.parametrize("trouble", ["secret", "401", "403", "500", "reset"])
def test_no_secret_in_errors_or_logs(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "wrong-secret-f00ba4" if trouble == "secret" else SETTINGS["client_secret"]
    world = World(Unwilling if trouble == "401" else Watched, client_secret=secret)
    if trouble == "403":
        world.dataverse.edit("systemusers", USER, {"isdisabled": True})
    elif trouble in ("500", "reset"):
        world.faults.once = [("PATCH", "/leads", trouble)]
    with pytest.raises(FlowrunError) as caught:
        world.upsert()
    shown = everything(caught.value) + caplog.text + repr(world.crm.settings) + str(world.crm.__dict__)
    assert secret not in shown
    assert all(request.bearer not in shown for request in world.dataverse.log)


# The set-up


def codes(world: World) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in world.crm.check()]


def test_a_good_set_up_has_no_findings(world: World) -> None:
    assert list(world.crm.check()) == []
    assert {c.partition(" ")[0] for c in world.calls()} == {"GET"}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("Pending", "KeyNotReady", "wait"),
        ("InProgress", "KeyNotReady", "wait"),
        ("Failed", "KeyFailed", "reactivate the key"),
        (None, "NoKey", "Power Apps → Tables → Lead → Keys → New key"),
    ],
)
def test_a_key_that_is_not_active(world: World, status: str | None, code: str, words: str) -> None:
    world.dataverse.set_key("leads", "new_referralkey", status)
    (finding,) = world.crm.check()
    assert (finding.code, finding.severity) == (code, "error")
    assert words in finding.hint
    assert "new_referralid" in finding.message


def test_a_key_column_that_is_not_there() -> None:
    (finding,) = World(key_column="new_missing").crm.check()
    assert finding.code == "NoKeyColumn"
    assert "add a text column (100) with the schema name new_missing" in finding.hint
    assert "Keys → New key" in finding.hint


def test_missing_rights_and_change_tracking(world: World) -> None:
    world.dataverse.deny("prvWriteLead")
    world.dataverse.track_changes("leads", False)
    first, second = world.crm.check()
    assert (first.code, first.severity) == ("MissingPrivilege", "error")
    assert "prvWriteLead" in first.message
    assert "prvReadLead" not in first.message
    assert (second.code, second.severity) == ("NoChangeTracking", "warning")


def test_no_sign_in_and_no_reach_end_the_check() -> None:
    assert codes(World(client_secret="wrong")) == [("invalid_client", "error")]
    stranger = World(client_id="2b8c3d4e-5f60-4172-8cbd-2e3f4a5b6c7d", client_secret="sandbox-http-secret")
    assert codes(stranger) == [("0x80072560", "error")]


def test_definitions_that_cannot_be_read_are_a_warning() -> None:
    class NoDefinitions(Watched):
        def answer(self, request: Incoming) -> Reply:
            if "EntityDefinitions" in request.path:
                return Reply(403, body("0x80040220", "missing prvReadEntity"))
            return super().answer(request)

    assert codes(World(NoDefinitions)) == [("NotChecked", "warning")]


# What the flow sees


def test_results_are_json_and_their_schema_is_declared(world: World) -> None:
    operations = Dynamics365.operations()
    assert list(operations) == [
        "create", "get", "list", "update", "upsert", "delete",
        "upsert_lead", "get_lead", "list_changes", "qualify_lead",
    ]  # fmt: skip
    assert {name for name, op in operations.items() if op.effect == "read"} == {
        "get",
        "list",
        "get_lead",
        "list_changes",
    }
    assert not any(op.effect == "write" for op in operations.values())
    for op in operations.values():
        assert input_schema(op)["additionalProperties"] is False
        assert output_schema(op)
        assert op.doc
    assert plain(world.upsert().body)["lead"]["company"] == "Fabrikam"
    assert isinstance(world.upsert(lead={"amount": 50000.0}).body.lead.amount, int)


def test_summaries_hold_no_personal_data(world: World) -> None:
    lead = {"title": "Topic", "last_name": "Aziz", "email": "noor@fabrikam.example", "phone": "+45 33", "city": "Ribe"}
    said = [world.upsert(lead=lead).summary, world.upsert(lead={**lead, "phone": "+45 44"}).summary]
    said += [world.do("get_lead", key=KEY).summary, world.do("qualify_lead", key=KEY).summary]
    said += [world.upsert(lead={**lead, "city": "x" * 90}).summary]
    assert not any(value in sentence for value in lead.values() for sentence in said)


def test_the_neutral_lead_has_a_column_for_every_field() -> None:
    assert set(leads.COLUMNS) == {*Lead.__dataclass_fields__} - {"native"}
    assert set(leads.FIELDS.values()) == set(leads.COLUMNS)
