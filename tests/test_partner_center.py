"""The partner_center connector, through requests and msal, against the emulators of Partner Center and Entra ID."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from connectors.entra.emulator import Entra
from connectors.partner_center.connector import PartnerCenter
from connectors.partner_center.emulator import PartnerCenter as Emulated
from connectors.partner_center.patch import plan, same
from engine import (
    ConfigError,
    DataError,
    Event,
    FlowrunError,
    MemoryTokens,
    RemoteError,
    Request,
    Result,
    TransientError,
)
from engine.loader import input_schema, output_schema
from engine.sandbox import Faults, Incoming, Reply
from engine.testing import FakeClock, connect

SANDBOX = Emulated.connections["partner_center"]
MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
LEAD = "3f2c1a90-0000-4000-8000-00000000aaaa"
NAMELESS, EMPTY, NO_DETAILS, WON, EXPIRED, GERMAN, JAPANESE, HOSTILE, LONG = (
    f"10000000-0000-4000-8000-00000000000{n}" for n in range(1, 10)
)
SYNCED = "10000000-0000-4000-8000-000000000011"
NUMBERED = "10000000-0000-4000-8000-000000000014"
OTHERS = "20000000-0000-4000-8000-000000000001"
ROOT = "https://api.partner.microsoft.com/v1.0/engagements/referrals"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Service(Emulated):
    """Remembers what came in; `before` is called with each request and may answer in the emulator's stead."""

    before: Callable[[Incoming], Reply | None] = staticmethod(lambda _: None)

    def answer(self, request: Incoming) -> Reply:
        self.__dict__.setdefault("requests", []).append(request)
        return self.before(request) or super().answer(request)

    def seen(self, method: str) -> list[Incoming]:
        return [r for r in self.__dict__.get("requests", []) if r.method == method]

    def stored(self, id: str = MAIN) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get("partner_center.referral", id)
        return found

    def edit(self, id: str = MAIN, **properties: Any) -> None:
        """Somebody else's change, with a new eTag."""
        self._save({**self.stored(id), **properties}, touch=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock=clock)


@pytest.fixture
def partner(service: Service, clock: FakeClock) -> PartnerCenter:
    return connected(service, clock)


def connected(service: Any, clock: FakeClock, tokens: Any = None, **settings: Any) -> PartnerCenter:
    return connect(PartnerCenter, {**SANDBOX, **settings}, Entra(clock=clock), service, clock=clock, tokens=tokens)


def read(partner: PartnerCenter, id: str = MAIN) -> Any:
    return partner.invoke("get_referral", {"id": id}).body


def update(partner: PartnerCenter, referral: Any, wanted: dict[str, Any], **options: Any) -> Result[Any]:
    return partner.invoke("update_referral", {"referral": referral, "set": wanted, **options})


def sent(service: Service) -> list[dict[str, Any]]:
    """The operations of the last PATCH."""
    found: list[dict[str, Any]] = service.seen("PATCH")[-1].json()
    return found


# Tokens


def test_get_token_tells_about_the_token_but_never_gives_it(partner: PartnerCenter) -> None:
    result = partner.invoke("get_token", {})
    assert result.body == {
        "account": "referral.admin@contoso.onmicrosoft.com",
        "expires_at": "2026-11-24T12:59:59Z",
        "scopes": [
            "https://api.partner.microsoft.com/user_impersonation",
            "https://api.partner.microsoft.com/.default",
        ],
    }
    assert result.summary == "token for referral.admin@contoso.onmicrosoft.com valid until 12:59"
    assert result.changed is False
    token = partner._token(False).access_token.reveal()
    assert token not in json.dumps(result.body) + result.summary


def test_device_code_needs_a_sign_in_and_login_makes_one(service: Service, clock: FakeClock) -> None:
    tokens, shown = MemoryTokens(), list[str]()
    partner = connected(service, clock, tokens, auth="device_code")
    with pytest.raises(ConfigError) as caught:
        partner.invoke("get_token", {})
    assert caught.value.hint == "run `flowrun login`"
    assert partner.login(shown.append) == "referral.admin@contoso.onmicrosoft.com"
    assert "deviceauth?user_code=" in shown[0]
    assert read(connected(service, clock, tokens, auth="device_code"))["id"] == MAIN


def test_certificate_and_thumbprint_go_together(service: Service, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="go together"):
        connected(service, clock, thumbprint="00")


def test_a_refused_token_is_renewed_once(service: Service, partner: PartnerCenter) -> None:
    read(partner)
    refusals = [Reply(401, {"error": {"code": "unauthenticated", "message": "expired"}})]
    service.before = lambda _: refusals.pop() if refusals else None
    assert read(partner)["id"] == MAIN
    first, refused, again = (r.bearer for r in service.seen("GET"))
    assert first == refused != again


def test_a_token_that_stays_refused_is_a_matter_of_configuration(clock: FakeClock) -> None:
    later = FakeClock()
    later.advance(7200)
    service = Service(clock=later)
    with pytest.raises(ConfigError, match="401") as caught:
        read(connected(service, clock))
    assert len(service.seen("GET")) == 2
    assert "flowrun connections check" in caught.value.hint


def test_one_sign_in_serves_many_calls(service: Service, partner: PartnerCenter) -> None:
    for _ in range(3):
        read(partner)
    assert len({r.bearer for r in service.seen("GET")}) == 1


def test_each_call_has_a_request_id_of_its_own(service: Service, partner: PartnerCenter) -> None:
    read(partner)
    update(partner, read(partner), {"externalReferenceId": LEAD})
    ids = [r.headers["client-request-id"] for r in service.__dict__["requests"]]
    assert len(set(ids)) == len(ids) == 3
    assert all(GUID.fullmatch(id) for id in ids)


# Reading


def test_get_referral_gives_the_raw_resource(service: Service, partner: PartnerCenter) -> None:
    result = partner.invoke("get_referral", {"id": MAIN.upper()})
    assert result.body == service.stored()
    assert result.body["eTag"].startswith('"') and result.body["eTag"].endswith('"')
    assert result.summary == f"referral {MAIN}: Active"
    assert service.seen("GET")[0].path == f"/v1.0/engagements/referrals/{MAIN}"


@pytest.mark.parametrize("id", [EMPTY, NO_DETAILS, GERMAN, JAPANESE, HOSTILE, LONG, NAMELESS])
def test_odd_referrals_arrive_as_they_are(service: Service, partner: PartnerCenter, id: str) -> None:
    referral = read(partner, id)
    assert referral == service.stored(id)
    assert partner.operations()["update_referral"].arguments({"referral": referral, "set": {}})


@pytest.mark.parametrize(("id", "status"), [(OTHERS, 403), ("99999999-0000-4000-8000-000000000000", 404)])
def test_a_referral_that_is_not_ours(partner: PartnerCenter, id: str, status: int) -> None:
    with pytest.raises(RemoteError) as caught:
        read(partner, id)
    assert (caught.value.code, caught.value.status) == ("NotOurs", status)
    assert "another partner's copy" in caught.value.hint


@pytest.mark.parametrize("id", ["", "../../admin", "8f3c1a52", f"{MAIN}/x", f" {MAIN}"])
def test_ids_are_guids(service: Service, partner: PartnerCenter, id: str) -> None:
    with pytest.raises(DataError):
        read(partner, id)
    with pytest.raises(DataError):
        update(partner, {"id": id, "eTag": '"x"'}, {"name": "x"})
    assert not service.__dict__.get("requests")


def ids(result: Result[Any]) -> list[str]:
    return [item["id"] for item in result.body["items"]]


def test_list_follows_pages_broken_links_and_all(service: Service, partner: PartnerCenter) -> None:
    result = partner.invoke("list_referrals", {})
    pages = service.seen("GET")
    assert len(ids(result)) == len(set(ids(result))) == result.body["count"] == 14
    assert OTHERS not in ids(result)
    assert len(pages) == 3
    assert {p.path for p in pages} == {"/v1.0/engagements/referrals"}
    assert [list(p.query) for p in pages] == [[], ["$skiptoken"], ["$skiptoken"]]
    assert result.summary == "14 of 14 referrals"


def test_list_sends_odata_options(service: Service, partner: PartnerCenter) -> None:
    result = partner.invoke(
        "list_referrals",
        {
            "filter": "status eq 'New' and (customerProfile/address/country eq 'JP' or substatus eq 'Received')",
            "order_by": "updatedDateTime desc",
            "select": ["id", "status"],
            "top": 2,
        },
    )
    assert ids(result) == [JAPANESE, EMPTY, "10000000-0000-4000-8000-000000000012"]
    assert result.body["items"][0] == {"id": JAPANESE, "status": "New"}
    assert service.seen("GET")[0].query["$top"] == "2"


def test_list_stops_at_max_items(service: Service, partner: PartnerCenter) -> None:
    result = partner.invoke("list_referrals", {"max_items": 7})
    assert (len(result.body["items"]), result.body["count"], len(service.seen("GET"))) == (7, 14, 2)
    assert len(ids(partner.invoke("list_referrals", {"max_items": 1, "top": 1}))) == 1


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1.0/engagements/referrals?$skiptoken=x",
        "https://api.partner.microsoft.com.evil.example/v1.0/engagements/referrals?$skiptoken=x",
        "https://api.partner.microsoft.com@evil.example/?$skiptoken=x",
        "https://api.partner.microsoft.com:8443/?$skiptoken=x",
        "file:///etc/passwd?$skiptoken=x",
        "ftp://api.partner.microsoft.com/v1.0/engagements/referrals?$skiptoken=x",
        "/v1.0/engagements/referrals?$skiptoken=x",
        "https://[broken?$skiptoken=x",
        "https://api.partner.microsoft.com/v1.0/engagements/referrals",
    ],
)
def test_next_links_to_elsewhere_are_refused(service: Service, partner: PartnerCenter, link: str) -> None:
    service.before = lambda _: Reply(200, {"value": [], "@odata.nextLink": link})
    with pytest.raises(RemoteError) as caught:
        partner.invoke("list_referrals", {})
    assert caught.value.code == "NextLink"
    assert len(service.seen("GET")) == 1


def test_next_links_in_a_circle(service: Service, partner: PartnerCenter) -> None:
    service.before = lambda _: Reply(200, {"value": [{}], "@odata.nextLink": f"{ROOT}?$skiptoken=x"})
    with pytest.raises(RemoteError, match="circle"):
        partner.invoke("list_referrals", {})


def test_unknown_filters_are_the_documents_mistake(partner: PartnerCenter) -> None:
    with pytest.raises(DataError, match=r"\$filter"):
        partner.invoke("list_referrals", {"filter": "name eq 'x'"})


# Writing back


def test_the_lead_id_is_written_in_one_patch_under_the_etag(service: Service, partner: PartnerCenter) -> None:
    before = read(partner)
    result = update(partner, before, {"externalReferenceId": LEAD})
    assert result.changed is True
    assert result.summary == "updated: externalReferenceId"
    (request,) = service.seen("PATCH")
    assert request.headers["if-match"] == before["eTag"]
    assert request.headers["prefer"] == "return=representation"
    assert request.headers["content-type"] == "application/json"
    assert sent(service) == [{"op": "add", "path": "/externalReferenceId", "value": LEAD}]
    assert result.body["externalReferenceId"] == LEAD == service.stored()["externalReferenceId"]
    assert result.body["referral"] == service.stored()
    assert result.body["eTag"] == service.stored()["eTag"] != before["eTag"]
    assert (result.body["id"], result.body["status"], result.body["substatus"]) == (MAIN, "Active", "Accepted")
    assert result.body["skipped"] == []


def test_the_second_update_sends_nothing(service: Service, partner: PartnerCenter) -> None:
    wanted = {"externalReferenceId": LEAD, "details.dealValue": 30000, "details.closingDateTime": "2027-04-30"}
    update(partner, read(partner), wanted)
    again = update(partner, read(partner), wanted)
    assert (again.changed, again.summary) == (False, "already up to date")
    assert len(service.seen("PATCH")) == 1
    assert again.body["referral"] == service.stored()


def test_an_id_alone_is_read_first(service: Service, partner: PartnerCenter) -> None:
    assert update(partner, MAIN, {"externalReferenceId": LEAD}).changed
    assert [r.method for r in service.__dict__["requests"]] == ["GET", "PATCH"]
    assert update(partner, {"id": MAIN}, {"name": "New name"}).changed, "a body without eTag is read first, too"


def test_only_what_differs_is_sent(service: Service, partner: PartnerCenter) -> None:
    wanted = {
        "externalReferenceId": LEAD,
        "details.dealValue": "25000.00",
        "details.currency": "USD",
        "details.closingDateTime": "2027-03-31",
        "details.notes": "Changed\r\nnotes",
        "statusReason": None,
        "name": None,
        "status": "Active",
        "substatus": "Accepted",
    }
    result = update(partner, read(partner), wanted)
    assert [step["path"] for step in sent(service)] == ["/externalReferenceId", "/details/notes"]
    assert result.summary == "updated: externalReferenceId, details.notes"
    assert service.stored()["name"] == "Fabrikam ovens in the cloud"


def test_amounts_and_dates_are_sent_in_the_apis_form(service: Service, partner: PartnerCenter) -> None:
    update(partner, read(partner), {"details.dealValue": "30000.50", "details.closingDateTime": "2027-04-30"})
    assert [step["value"] for step in sent(service)] == [30000.5, "2027-04-30T00:00:00Z"]
    assert [step["op"] for step in sent(service)] == ["replace", "replace"]
    assert service.stored()["details"]["currency"] == "USD"


def test_missing_parents_come_along(service: Service, partner: PartnerCenter) -> None:
    wanted = {"details.dealValue": 5, "details.currency": "USD", "customerProfile.address.city": "Tacoma"}
    assert update(partner, NO_DETAILS, wanted).changed
    stored = service.stored(NO_DETAILS)
    assert (stored["details"], stored["customerProfile"]["address"]) == (
        {"dealValue": 5, "currency": "USD"},
        {"country": "US", "city": "Tacoma"},
    )
    assert not update(partner, NO_DETAILS, wanted).changed
    update(partner, EMPTY, {"customerProfile.address.city": "Tacoma"})
    assert service.stored(EMPTY)["customerProfile"]["address"] == {"city": "Tacoma"}


def test_items_of_lists(service: Service, partner: PartnerCenter) -> None:
    update(partner, NAMELESS, {"customerProfile.team.1.lastName": "Carter-Smith"})
    assert service.stored(NAMELESS)["customerProfile"]["team"][1]["lastName"] == "Carter-Smith"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"details.dealValue": "a lot"}, "Number"),
        ({"details.dealValue": True}, "Number"),
        ({"details.dealValue": "NaN"}, "Number"),
        ({"details.closingDateTime": "soon"}, "Date"),
        ({"/details/notes": "x"}, "Path"),
        ({"details..notes": "x"}, "Path"),
        ({"name.first": "x"}, "Path"),
        ({"customerProfile.team.9.lastName": "x"}, "Path"),
        ({"status": "Actve"}, "Status"),
        ({"substatus": "Victory"}, "Status"),
        ({"status": "Closed"}, "Substatus"),
        ({"status": "Active", "substatus": "Won"}, "Substatus"),
    ],
)
def test_values_that_cannot_be(service: Service, partner: PartnerCenter, wanted: dict[str, Any], code: str) -> None:
    with pytest.raises(DataError) as caught:
        update(partner, MAIN, wanted)
    assert caught.value.code == code
    assert not service.seen("PATCH")


@pytest.mark.parametrize("path", ["id", "eTag", "createdDateTime", "organizationId", "noSuchThing"])
def test_what_the_service_refuses_is_said(partner: PartnerCenter, path: str) -> None:
    with pytest.raises(DataError, match="400") as caught:
        update(partner, MAIN, {path: "2026-01-01"})
    assert caught.value.code == "invalidRequest"


def test_long_and_hostile_texts_arrive_unharmed(service: Service, partner: PartnerCenter) -> None:
    text = "{{ 7*7 }} '; drop table leads;-- 🥐 \\ \" \x1f é\n" * 2500
    update(partner, HOSTILE, {"details.notes": text})
    assert service.stored(HOSTILE)["details"]["notes"] == text
    assert not update(partner, HOSTILE, {"details.notes": text}).changed


# How values are compared


@pytest.mark.parametrize(
    ("path", "current", "wanted", "equal"),
    [
        ("name", None, "", True),
        ("name", "", "", True),
        ("name", "a", "", False),
        ("name", None, "a", False),
        ("name", "a\r\nb ", "a\nb", True),
        ("name", "a", "A", False),
        ("details.dealValue", 10000, 10000.0, True),
        ("details.dealValue", 10000, "10000.00", True),
        ("details.dealValue", "10000.0", "1e4", True),
        ("details.dealValue", 10000, 10000.01, False),
        ("details.dealValue", 0, "", False),
        ("details.dealValue", None, 0, False),
        ("name", "007", "7", False),
        ("details.additionalRequirements", True, 1, False),
        ("details.additionalRequirements", 1, 1.0, True),
        ("details.additionalRequirements", {"a": [1]}, {"a": [1]}, True),
        ("details.additionalRequirements", {"a": [1]}, {"a": [2]}, False),
        ("details.closingDateTime", "2027-03-31T00:00:00Z", "2027-03-31", True),
        ("details.closingDateTime", "2027-03-31T13:45:30.1234567Z", "2027-03-31", True),
        ("details.closingDateTime", "2027-03-31", "2027-03-31T08:00:00Z", True),
        ("details.closingDateTime", "2027-03-31T23:30:00-05:00", "2027-04-01", True),
        ("details.closingDateTime", "2027-03-31T00:00:00Z", "2027-04-01", False),
        ("details.closingDateTime", "2027-03-31T01:00:00.0000000Z", "2027-03-31T02:00:00+01:00", True),
        ("details.closingDateTime", "2027-03-31T15:00:00Z", "2027-03-31T00:00:00Z", False),
        ("details.closingDateTime", "some day", "2027-03-31", False),
        ("externalReferenceId", LEAD.upper(), LEAD, True),
        ("externalReferenceId", "007", "7", False),
    ],
)
def test_comparison(path: str, current: Any, wanted: Any, equal: bool) -> None:
    assert same(path, current, wanted) is equal


# Somebody else's edits


def test_a_concurrent_edit_is_kept_and_the_change_applied_anew(service: Service, partner: PartnerCenter) -> None:
    before = read(partner)
    service.edit(name="Edited in the portal", details={**before["details"], "notes": "from the portal"})
    result = update(partner, before, {"externalReferenceId": LEAD, "details.dealValue": 30000})
    assert result.changed
    stored = service.stored()
    assert (stored["name"], stored["details"]["notes"]) == ("Edited in the portal", "from the portal")
    assert (stored["externalReferenceId"], stored["details"]["dealValue"]) == (LEAD, 30000)
    assert [r.method for r in service.__dict__["requests"]] == ["GET", "PATCH", "GET", "PATCH"]


def test_an_edit_that_closes_the_referral_meanwhile(service: Service, partner: PartnerCenter) -> None:
    before = read(partner)
    service.edit(status="Closed", substatus="Lost")
    result = update(partner, before, {"externalReferenceId": LEAD})
    assert (result.changed, result.summary, result.body["status"]) == (False, "closed: left alone", "Closed")


def test_an_edit_that_sets_a_foreign_id_meanwhile(service: Service, partner: PartnerCenter) -> None:
    before = read(partner)
    service.edit(externalReferenceId="CRM-1")
    result = update(partner, before, {"externalReferenceId": LEAD})
    assert not result.changed
    assert service.stored()["externalReferenceId"] == "CRM-1"


def test_edits_without_end_are_given_up_after_three_repeats(service: Service, partner: PartnerCenter) -> None:
    before = read(partner)

    def race(request: Incoming) -> None:
        if request.method == "PATCH":
            service.edit(statusReason=f"edit {len(service.seen('PATCH'))}")

    service.before = race
    with pytest.raises(TransientError) as caught:
        update(partner, before, {"externalReferenceId": LEAD})
    assert caught.value.code == "resourceModified"
    assert len(service.seen("PATCH")) == 4


# Ids of others


def test_a_foreign_id_is_kept_and_said(service: Service, partner: PartnerCenter) -> None:
    result = update(partner, NUMBERED, {"externalReferenceId": LEAD, "details.dealValue": 16000})
    assert result.changed
    assert result.summary == (
        "updated: details.dealValue; left alone: externalReferenceId: CRM-4711 belongs to another record "
        "(on_foreign_id: replace would overwrite it)"
    )
    assert result.body["externalReferenceId"] == "CRM-4711"
    again = update(partner, NUMBERED, {"externalReferenceId": LEAD, "details.dealValue": 16000})
    assert (again.changed, again.summary.split(";")[0]) == (False, "already up to date")
    assert again.body["skipped"] == [
        "externalReferenceId: CRM-4711 belongs to another record (on_foreign_id: replace would overwrite it)"
    ]


def test_a_foreign_id_is_replaced_when_asked(service: Service, partner: PartnerCenter) -> None:
    result = update(partner, NUMBERED, {"externalReferenceId": LEAD}, on_foreign_id="replace")
    assert (result.changed, service.stored(NUMBERED)["externalReferenceId"]) == (True, LEAD)
    assert sent(service)[0]["op"] == "replace"


@pytest.mark.parametrize("id", [SYNCED, SYNCED[:-1] + "3"])
def test_an_id_that_is_ours_already_is_no_change(service: Service, partner: PartnerCenter, id: str) -> None:
    ours = f"aaaaaaaa-0000-4000-8000-00000000000{id[-1]}"
    result = update(partner, id, {"externalReferenceId": ours})
    assert (result.changed, result.summary) == (False, "already up to date")


# Status


STATES = {"New": NAMELESS, "Active": MAIN, "Won": WON, "Expired": EXPIRED}


@pytest.mark.parametrize(
    ("start", "status", "substatus", "expected"),
    [
        ("New", "New", "Pending", None),
        ("New", "New", "Received", "New/Received"),
        ("New", "Active", "Accepted", "Active/Accepted"),
        ("New", "Active", None, "Active/Accepted"),
        ("New", "active", "ACCEPTED", "Active/Accepted"),
        ("New", None, "Accepted", "Active/Accepted"),
        ("New", "Closed", "Declined", "Closed/Declined"),
        ("New", "Closed", "Won", "Closed/Won"),
        ("Active", "Active", "Accepted", None),
        ("Active", "Active", None, None),
        ("Active", None, None, None),
        ("Active", "Closed", "Won", "Closed/Won"),
        ("Active", "Closed", "Lost", "Closed/Lost"),
        ("Active", None, "Expired", "Closed/Expired"),
    ],
)
def test_the_state_machine(
    service: Service,
    partner: PartnerCenter,
    start: str,
    status: str | None,
    substatus: str | None,
    expected: str | None,
) -> None:
    id = STATES[start]
    result = update(partner, id, {"status": status, "substatus": substatus})
    assert result.changed is (expected is not None)
    if expected:
        assert "{status}/{substatus}".format(**service.stored(id)) == expected
        assert [step["path"] for step in sent(service)] == ["/status", "/substatus"]
    else:
        assert not service.seen("PATCH")
        assert result.body["skipped"] == []


@pytest.mark.parametrize("substatus", [None, "Pending", "Received"])
def test_a_transition_that_is_not_allowed_is_left_out_and_said(
    service: Service, partner: PartnerCenter, substatus: str | None
) -> None:
    wanted = {"status": "New", "substatus": substatus, "statusReason": "reopened", "externalReferenceId": LEAD}
    result = update(partner, MAIN, wanted)
    assert [step["path"] for step in sent(service)] == ["/externalReferenceId"]
    assert "left alone: status: Active/Accepted can't become New/" in result.summary
    assert result.body["skipped"] and result.body["status"] == "Active"


def test_closing_is_the_last_thing_in_the_same_patch(service: Service, partner: PartnerCenter) -> None:
    wanted = {"status": "Closed", "substatus": "Won", "externalReferenceId": LEAD, "statusReason": "signed"}
    result = update(partner, NAMELESS, wanted)
    assert [step["path"] for step in sent(service)] == [
        "/externalReferenceId",
        "/statusReason",
        "/status",
        "/substatus",
    ]
    assert result.body["status"] == "Closed"
    again = update(partner, NAMELESS, wanted)
    assert (again.changed, again.summary, len(service.seen("PATCH"))) == (False, "closed: left alone", 1)


@pytest.mark.parametrize(
    "wanted",
    [
        {"externalReferenceId": LEAD},
        {"details.dealValue": 1, "name": "x"},
        {"status": "Active", "substatus": "Accepted"},
        {"status": "Closed", "substatus": "Lost"},
        {"status": "Closed", "substatus": "Won"},
        {},
    ],
)
def test_a_closed_referral_is_left_alone(service: Service, partner: PartnerCenter, wanted: dict[str, Any]) -> None:
    result = update(partner, read(partner, WON), wanted)
    assert (result.changed, result.summary) == (False, "closed: left alone")
    assert not service.seen("PATCH")
    assert bool(result.body["skipped"]) is (wanted not in ({}, {"status": "Closed", "substatus": "Won"}))


def test_planning_leaves_its_input_alone() -> None:
    referral = {"status": "Active", "substatus": "Accepted", "details": {"notes": "a"}}
    plan(referral, {"details.notes": "b", "team": [{"email": "x"}]})
    assert referral == {"status": "Active", "substatus": "Accepted", "details": {"notes": "a"}}


# Lost answers


@pytest.mark.parametrize("fault", ["lost", "reset", "500", "503", "429"])
def test_an_update_may_be_repeated_after_any_failure(service: Service, clock: FakeClock, fault: str) -> None:
    faulty = Faults(service, once=[("PATCH", MAIN, fault)])
    partner = connected(faulty, clock)
    before = read(partner)
    with pytest.raises(TransientError) as caught:
        update(partner, before, {"externalReferenceId": LEAD})
    assert caught.value.answer_lost is (fault != "429")
    again = update(partner, before, {"externalReferenceId": LEAD})
    assert again.changed is (fault != "lost"), "after a lost answer: 412, read again, as wanted already"
    assert again.body["externalReferenceId"] == LEAD == service.stored()["externalReferenceId"]
    if fault == "lost":
        assert [r.method for r in service.__dict__["requests"]] == ["GET", "PATCH", "PATCH", "GET"]
        assert again.summary == "already up to date"


def test_the_service_may_answer_without_a_body(service: Service, partner: PartnerCenter) -> None:
    class Terse(Service):
        def answer(self, request: Incoming) -> Reply:
            reply = super().answer(request)
            return Reply(204, None, reply.headers) if request.method == "PATCH" else reply

    terse = Terse(service.store, service.clock)
    result = update(connected(terse, FakeClock()), MAIN, {"externalReferenceId": LEAD})
    assert result.changed and result.body["referral"] == service.stored()


# Errors


def shape(n: int, code: str, message: str) -> dict[str, Any]:
    return {
        1: {"error": {"code": "generalException", "message": message, "innerError": {"code": code}}},
        2: {"code": code, "description": message, "data": [], "source": "PartnerFD"},
        3: {"statusCode": code, "message": message},
    }[n]


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (400, shape(1, "invalidRequest", "bad"), DataError, "invalidRequest", "bad"),
        (403, shape(1, "ACCESSDENIED", "no"), RemoteError, "accessDenied", "no"),
        (409, shape(1, "tomorrowsCode", "odd"), RemoteError, "generalException", "odd"),
        (423, {"error": {"code": "tomorrowsCode", "message": "odd"}}, RemoteError, "tomorrowsCode", "odd"),
        (401, {"error": {"code": "unAuthorized", "message": "who"}}, ConfigError, "unauthorized", "who"),
        (400, shape(2, "2000", "bad input"), DataError, "2000", "bad input"),
        (404, shape(2, "600036", "gone"), RemoteError, "NotOurs", "gone"),
        (429, shape(3, "429", "slow down"), TransientError, "429", "slow down"),
        (
            400,
            {
                "error": {
                    "code": "invalidRequest",
                    "message": "outer",
                    "innerError": {
                        "code": "resourceModified",
                        "innerError": {"code": "evenMoreSpecific", "message": "inner"},
                    },
                }
            },
            DataError,
            "resourceModified",
            "outer",
        ),
        (500, {"error": "text"}, TransientError, "500", "Internal Server Error"),
        (502, b"<html>Bad gateway</html>", TransientError, "502", "Bad Gateway"),
        (400, b"", DataError, "400", "Bad Request"),
        (400, b"[1]", DataError, "400", "Bad Request"),
        (400, {"error": {"code": None, "message": None, "innerError": "x"}}, DataError, "400", "Bad Request"),
    ],
)
def test_error_shapes(
    service: Service,
    partner: PartnerCenter,
    status: int,
    body: Any,
    kind: type[FlowrunError],
    code: str,
    message: str,
) -> None:
    service.before = lambda _: Reply(status, body)
    read_it = partner.list_referrals if status == 403 else lambda: read(partner)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        read_it()
    assert caught.value.code == code
    assert caught.value.status == status


def test_conditional_access_is_not_taken_for_a_foreign_referral(service: Service, partner: PartnerCenter) -> None:
    service.before = lambda _: Reply(403, shape(1, "insufficent_claims", "more"))
    with pytest.raises(RemoteError) as caught:
        read(partner)
    assert caught.value.code == "insufficent_claims"
    assert "Conditional Access" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (shape(1, "900421", "no"), {}),
        ({"code": 900421, "description": "MFA"}, {}),
        ({"statusCode": 401, "message": "900421: MFA needed"}, {}),
        (b"", {"WWW-Authenticate": 'Bearer error="invalid_token", error_code="900421"'}),
    ],
)
def test_a_sign_in_without_mfa_is_explained(
    service: Service, partner: PartnerCenter, body: Any, headers: dict[str, str]
) -> None:
    service.before = lambda _: Reply(401, body, headers)
    with pytest.raises(ConfigError, match="without MFA") as caught:
        read(partner)
    assert caught.value.code == "900421"
    assert "flowrun login" in caught.value.hint


def test_a_real_sign_in_without_mfa(service: Service, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="without MFA"):
        read(connected(service, clock, refresh_token="sandbox-refresh-token-no-mfa"))


def test_throttling_says_when_to_come_back(service: Service, partner: PartnerCenter) -> None:
    service.store.put("partner_center", "throttle", 1)
    with pytest.raises(TransientError) as caught:
        read(partner)
    assert (caught.value.retry_after, caught.value.answer_lost) == (57.0, False)
    assert read(partner)["id"] == MAIN


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_success_that_is_no_json(service: Service, partner: PartnerCenter, body: bytes) -> None:
    service.before = lambda _: Reply(200, body)
    for operation, inputs in (("get_referral", {"id": MAIN}), ("list_referrals", {})):
        with pytest.raises(TransientError) as caught:
            partner.invoke(operation, inputs)
        assert caught.value.code == "Malformed"


def test_no_secret_in_any_error(service: Service, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        Reply(401, {"error": {"code": "unauthenticated", "message": "x"}}),
        Reply(500, {"error": {}}),
        Reply(200, b"{"),
        Reply(403, b"no"),
    ]
    partner = connected(service, clock)
    secrets = [SANDBOX["client_secret"], SANDBOX["refresh_token"], partner._token(False).access_token.reveal()]
    shown = repr(partner.settings)
    with caplog.at_level(logging.DEBUG):
        for answer in answers:
            service.before = lambda _, answer=answer: answer
            with pytest.raises(FlowrunError) as caught:
                read(partner)
            shown += "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    secrets += [r.bearer for r in service.seen("GET")]
    assert not [secret for secret in secrets if str(secret) in shown + caplog.text]


# Creating


NEW = {
    "type": "Shared",
    "customer_profile": {"name": "Relecloud", "address": {"country": "US"}, "team": []},
    "consent": {"consentToToShareInfoWithOthers": True, "consentToContact": True},
    "details": {"dealValue": 100, "currency": "USD", "closingDateTime": "2027-01-01T00:00:00Z"},
}


def test_create_referral(service: Service, partner: PartnerCenter) -> None:
    result = partner.invoke("create_referral", {**NEW, "more": {"name": "A deal", "externalReferenceId": LEAD}})
    assert result.changed and result.summary == f"created referral {result.body['id']}"
    stored = service.stored(result.body["id"])
    assert (stored["name"], stored["status"], stored["customerProfile"]["name"]) == ("A deal", "Active", "Relecloud")
    assert PartnerCenter.operations()["create_referral"].effect == "write"


@pytest.mark.parametrize(
    "wrong",
    [{"consent": {}}, {"details": {}}, {"customer_profile": {"team": []}}, {"more": {"type": "x"}}, {"type": "Odd"}],
)
def test_create_referral_checks_before_it_sends(
    service: Service, partner: PartnerCenter, wrong: dict[str, Any]
) -> None:
    with pytest.raises(DataError):
        partner.invoke("create_referral", {**NEW, **wrong})
    assert not service.seen("POST")


def test_a_created_referral_whose_answer_cannot_be_read_may_exist(service: Service, partner: PartnerCenter) -> None:
    service.before = lambda request: Reply(201, b"{") if request.method == "POST" else None
    with pytest.raises(TransientError) as caught:
        partner.invoke("create_referral", NEW)
    assert caught.value.answer_lost, "so that nobody creates it twice"


def test_a_sign_in_that_fails_is_no_lost_creation(service: Service, clock: FakeClock) -> None:
    entra = Faults(Entra(clock=clock), once=[("POST", "/token", "lost")])
    partner = connect(PartnerCenter, SANDBOX, entra, service, clock=clock)
    with pytest.raises(TransientError) as caught:
        partner.invoke("create_referral", NEW)
    assert not caught.value.answer_lost


# Webhook events


def receive(partner: PartnerCenter, body: Any) -> list[Event]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return partner.parse(Request("POST", "/hooks/partner_center", {}, raw))


def event(**changed: Any) -> dict[str, Any]:
    return {
        "EventName": "referral-created",
        "ResourceUri": f"{ROOT}/{MAIN}",
        "ResourceName": "referral",
        "AuditUri": None,
        "ResourceChangeUtcDate": "2018-02-17T00:05:39.5485487+00:00",
        **changed,
    }


def test_an_event_is_normalised(partner: PartnerCenter) -> None:
    (found,) = receive(partner, event())
    assert (found.subject, found.type, found.time) == (MAIN, "referral-created", "2018-02-17T00:05:39.5485487Z")
    assert re.fullmatch("[0-9a-f]{32}", found.id)
    assert found.data["resourceUri"] == f"{ROOT}/{MAIN}"
    assert found.data["auditUri"] is None


@pytest.mark.parametrize(
    "uri",
    [
        f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{MAIN}",
        f"http://api.partner.microsoft.com/v1.0/engagements/referrals/{MAIN}",
        f"https://api.partnercenter.microsoft.com/engagements/v1/referrals/{MAIN}",
        f" https://api.partnercenter.microsoft.com/engagements/v1/referrals/{MAIN.upper()}/ ",
        f"HTTPS://API.PartnerCenter.Microsoft.com:443/Engagements/v1/Referrals/{MAIN}?x=1",
    ],
)
@pytest.mark.parametrize("case", ["pascal", "camel", "odd", "lower"])
def test_letter_case_and_address_make_no_difference(partner: PartnerCenter, uri: str, case: str) -> None:
    change = {
        "pascal": str,
        "camel": lambda name: name[0].lower() + name[1:],
        "odd": lambda name: name[:6].upper() + name[6:],
        "lower": str.lower,
    }[case]
    sent = {change(name): value for name, value in event(ResourceUri=uri).items()}
    (found,) = receive(partner, sent)
    (plain,) = receive(partner, event())
    assert (found.id, found.subject, found.type) == (plain.id, MAIN, "referral-created")
    assert found.data["resourceUri"] == uri


def test_the_id_tells_changes_apart_and_repeats_not(partner: PartnerCenter) -> None:
    def key(**changed: Any) -> str:
        return receive(partner, event(**changed))[0].id

    same_moment = ["2018-02-17T00:05:39.5485487Z", "2018-02-17T01:05:39.5485487+01:00", "2018-02-17T00:05:39.54854870Z"]
    assert {key(ResourceChangeUtcDate=text) for text in same_moment} == {key()}
    assert key(EventName="Referral-Created") == key()
    assert key(ResourceChangeUtcDate="2018-02-17T00:05:39.5485488Z") != key()
    assert key(EventName="referral-updated") != key()
    assert key(ResourceUri=f"{ROOT}/{NAMELESS}") != key()


def test_events_come_in_batches_too(partner: PartnerCenter) -> None:
    found = receive(partner, [event(), event(EventName="related-referral-updated")])
    assert [e.type for e in found] == ["referral-created", "related-referral-updated"]
    assert receive(partner, []) == []


def test_the_test_event_of_a_registration(partner: PartnerCenter) -> None:
    (found,) = receive(partner, event(EventName="test-created", ResourceUri="http://localhost:16722/v1/webhooks/test"))
    assert (found.subject, found.type) == ("test", "test-created")


@pytest.mark.parametrize(
    ("name", "uri", "subject"),
    [
        ("subscription-updated", "https://api.partnercenter.microsoft.com/v1/customers/c/subscriptions/s-1", "s-1"),
        ("usagerecords-thresholdExceeded", "http://api.partnercenter.microsoft.com/usage/", "usage"),
        ("azure-fraud-event-detected", "x" * 500, "x" * 200),
    ],
)
def test_events_about_something_else_are_nobodys_fault(
    partner: PartnerCenter, name: str, uri: str, subject: str
) -> None:
    """A tenant has one registration for all its events: who asks for none of these ignores them."""
    (found,) = receive(partner, event(EventName=name, ResourceUri=uri))
    assert (found.type, found.subject) == (name.lower(), subject)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        "text",
        None,
        [1],
        {},
        event(EventName=None),
        event(EventName=" "),
        event(ResourceUri=5),
        event(ResourceChangeUtcDate="yesterday"),
        event(ResourceChangeUtcDate=None),
        event(ResourceUri="https://evil.example/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="https://api.partner.microsoft.com@evil.example/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="https://user@api.partner.microsoft.com/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="ftp://api.partner.microsoft.com/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="https://api.partner.microsoft.com:99999/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="https://api.partner.microsoft.com:8443/v1.0/engagements/referrals/" + MAIN),
        event(ResourceUri="https://api.partner.microsoft.com/v1.0/customers/" + MAIN),
        event(ResourceUri="https://api.partner.microsoft.com/v1.0/engagements/referrals/17"),
        event(ResourceUri="https://api.partner.microsoft.com/v1.0/engagements/referrals/../" + MAIN),
        event(ResourceUri="//[x"),
    ],
)
def test_events_that_cannot_be_used(partner: PartnerCenter, body: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        receive(partner, body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 400


def test_the_expression_function_referral_id() -> None:
    function = PartnerCenter.functions["referral_id"]
    assert function(f"{ROOT}/{MAIN.upper()}") == MAIN
    assert function(f" {MAIN.upper()}") == MAIN
    for wrong in (None, 5, "", "17", "https://evil.example/" + MAIN):
        with pytest.raises(DataError):
            function(wrong)


# What stands in front of the service, and what a strict reader would trip over

PAGE = b"<!DOCTYPE html><html><head><title>no</title></head></html>"


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_a_change_that_is_redirected_was_not_made(service: Service, partner: PartnerCenter, status: int) -> None:
    before = read(partner)
    service.before = lambda r: Reply(status, None, {"Location": "/login"}) if r.method == "PATCH" else None
    with pytest.raises(RemoteError) as caught:
        update(partner, before, {"externalReferenceId": LEAD})
    assert caught.value.status == status
    assert service.stored()["externalReferenceId"] is None


@pytest.mark.parametrize("status", [403, 404])
def test_a_gateways_page_does_not_say_whose_referral_it_is(
    service: Service, partner: PartnerCenter, status: int
) -> None:
    service.before = lambda _: Reply(status, PAGE, {"Content-Type": "text/html"})
    with pytest.raises(RemoteError) as caught:
        read(partner)
    assert caught.value.code == str(status)


def test_an_etag_may_stand_in_the_header_alone(service: Service, clock: FakeClock) -> None:
    class InTheHeader(Service):
        def answer(self, request: Incoming) -> Reply:
            reply = super().answer(request)
            if not isinstance(reply.body, dict) or "eTag" not in reply.body:
                return reply
            body = {k: v for k, v in reply.body.items() if k != "eTag"}
            return Reply(reply.status, body, {**reply.headers, "ETag": reply.body["eTag"]})

    partner = connected(InTheHeader(clock=clock), clock)
    result = update(partner, read(partner), {"externalReferenceId": LEAD})
    assert (result.changed, result.body["externalReferenceId"]) == (True, LEAD)
    assert update(partner, result.body["referral"], {"details.dealValue": 1}).changed


def test_without_an_etag_nothing_is_written(service: Service, partner: PartnerCenter) -> None:
    bare = {k: v for k, v in read(partner).items() if k != "eTag"}
    service.before = lambda _: Reply(200, bare)
    with pytest.raises(RemoteError) as caught:
        update(partner, MAIN, {"externalReferenceId": LEAD})
    assert caught.value.code == "NoETag"
    assert service.seen("PATCH") == []


def test_json_with_a_byte_order_mark_is_read(service: Service, partner: PartnerCenter) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"id": MAIN, "name": "é"}, ensure_ascii=False).encode()
    service.before = lambda _: Reply(200, body, {"Content-Type": "application/json; charset=utf-8"})
    assert read(partner) == {"id": MAIN, "name": "é"}


# Check of a connection


def test_check_finds_nothing_wrong_in_the_sandbox(service: Service, partner: PartnerCenter) -> None:
    assert list(partner.check()) == []
    assert not service.seen("PATCH") and not service.seen("POST")


@pytest.mark.parametrize(
    ("settings", "code", "hint"),
    [
        ({"client_secret": "wrong"}, "invalid_client", "secret's value"),
        ({"auth": "device_code"}, "NoSignIn", "flowrun login"),
        ({"refresh_token": "sandbox-refresh-token-no-mfa"}, "900421", "flowrun login"),
        ({"tenant": "11111111-2222-4333-8444-555555555555"}, "invalid_request", "tenant"),
    ],
)
def test_check_says_what_to_do(
    service: Service, clock: FakeClock, settings: dict[str, Any], code: str, hint: str
) -> None:
    (finding,) = connected(service, clock, **settings).check()
    assert finding.code == code
    assert hint in finding.hint


def test_check_without_a_role(service: Service, clock: FakeClock) -> None:
    service.store.put("partner_center", "roles", {})
    (finding,) = connected(service, clock).check()
    assert finding.code == "accessDenied"
    assert "Referral Admin" in finding.hint


def test_a_reader_may_read_and_not_write(service: Service, clock: FakeClock) -> None:
    partner = connected(service, clock, refresh_token="sandbox-refresh-token-reader")
    assert list(partner.check()) == []
    with pytest.raises(RemoteError, match="403") as caught:
        update(partner, MAIN, {"externalReferenceId": LEAD})
    assert "Referral Admin" in caught.value.hint


# The declaration


def test_schemas_say_what_flows_may_rely_on() -> None:
    operations = PartnerCenter.operations()
    assert {name: op.effect for name, op in operations.items()} == {
        "webhook_events": "read",
        "show_webhook": "read",
        "register_webhook": "idempotent",
        "update_webhook": "idempotent",
        "delete_webhook": "idempotent",
        "test_webhook": "idempotent",
        "webhook_test": "read",
        "get_token": "read",
        "get_referral": "read",
        "list_referrals": "read",
        "update_referral": "idempotent",
        "create_referral": "write",
    }
    referral = output_schema(operations["get_referral"])
    assert "additionalProperties" not in referral and "required" not in referral
    assert referral["properties"]["customerProfile"]["anyOf"][0]["properties"]["team"]
    updated = output_schema(operations["update_referral"])
    assert set(updated["required"]) >= {"id", "eTag", "status", "substatus", "externalReferenceId", "referral"}
    assert input_schema(operations["update_referral"])["required"] == ["referral", "set"]
