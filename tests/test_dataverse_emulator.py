"""The Dataverse emulator answers, and refuses, as the Web API does. Each row of a table is one rule of the service."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from connectors.dynamics365.emulator import ORG, TENANT, Dataverse
from engine.sandbox import Store, WSGIAdapter, sign_token
from engine.testing import FakeClock

API = f"{ORG}/api/data/v9.2/"
APP = "1a7b2c3d-4e5f-4061-9bac-1d2e3f4a5b6c"
KEYLESS = "aaaaaaaa-0000-4000-8000-000000000001"
QUALIFIED = "aaaaaaaa-0000-4000-8000-000000000003"
USD = "c0de0000-0000-4000-8000-0000000000a1"
EUR = "c0de0000-0000-4000-8000-0000000000a2"
USER = "c0de0000-0000-4000-8000-0000000000c1"
TEAM = "c0de0000-0000-4000-8000-0000000000d1"
KEY = "leads(new_referralid='r-1')"
NOBODY = "leads(00000000-0000-4000-8000-00000000dead)"
BACK = {"Prefer": "return=representation"}


class Caller:
    """A program with a token that talks to the emulator by requests."""

    def __init__(self, emulator: Dataverse, clock: FakeClock) -> None:
        self.emulator, self.clock = emulator, clock
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount(ORG, WSGIAdapter(emulator))

    def token(self, **changes: Any) -> str:
        end = int(self.clock.now().timestamp()) + 3600
        return sign_token({"aud": ORG, "exp": end, "tid": TENANT, "appid": APP, "roles": []} | changes)

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> requests.Response:
        sent = {"Authorization": f"Bearer {token if token is not None else self.token()}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        url = path if path.startswith("https:") else API + path
        data = None if body is None else json.dumps(body).encode()
        return self.http.request(method, url, headers=sent, data=data)

    def get(self, path: str, **headers: str) -> Any:
        answer = self("GET", path, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, query: str) -> list[str]:
        return [row["leadid"][-1] for row in self.get(f"leads?$select=leadid&{query}")["value"]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dataverse(clock: FakeClock) -> Dataverse:
    return Dataverse(clock=clock)


@pytest.fixture
def call(dataverse: Dataverse, clock: FakeClock) -> Caller:
    return Caller(dataverse, clock)


def refused(answer: requests.Response, status: int, code: str | None = None, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    assert code in (None, error["code"])
    assert words in error["message"]


# Who calls


@pytest.mark.parametrize(
    "changes",
    [{"aud": "https://other.crm.dynamics.com"}, {"exp": 0}, {"tid": "00000000-0000-4000-8000-000000000000"}],
    ids=["audience", "expired", "tenant"],
)
def test_a_token_for_something_else_is_401_with_a_challenge(call: Caller, changes: dict[str, Any]) -> None:
    answer = call("GET", "WhoAmI", token=call.token(**changes))
    refused(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=https://login.microsoftonline.com/")
    assert f"resource_id={ORG}/" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("token", ["", "x", "e30.x", "e30"])
def test_what_is_no_token_is_401(call: Caller, token: str) -> None:
    refused(call("GET", "WhoAmI", token=token), 401)


def test_a_token_ends_by_the_clock_and_by_revocation(call: Caller, clock: FakeClock, dataverse: Dataverse) -> None:
    token = call.token()
    assert call("GET", "WhoAmI", token=token).json()["UserId"] == USER
    clock.advance(3601)
    refused(call("GET", "WhoAmI", token=token), 401)
    second = call.token()
    assert call("GET", "WhoAmI", token=second).status_code == 200
    dataverse.revoke_tokens()
    refused(call("GET", "WhoAmI", token=second), 401)
    assert call("GET", "WhoAmI", token=call.token(uti="new")).status_code == 200


def test_an_app_that_is_no_application_user_is_403(call: Caller, dataverse: Dataverse) -> None:
    stranger = call.token(appid="2b8c3d4e-5f60-4172-8cbd-2e3f4a5b6c7d")
    refused(call("GET", "WhoAmI", token=stranger), 403, "0x80072560", "not a member")
    dataverse.edit("systemusers", USER, {"isdisabled": True})
    refused(call("GET", "WhoAmI"), 403, "0x80072560")


@pytest.mark.parametrize(
    ("privilege", "method", "path", "body"),
    [
        ("prvReadLead", "GET", "leads", None),
        ("prvReadLead", "GET", f"leads({KEYLESS})", None),
        ("prvCreateLead", "POST", "leads", {"lastname": "A"}),
        ("prvCreateLead", "PATCH", KEY, {"lastname": "A"}),
        ("prvWriteLead", "PATCH", f"leads({KEYLESS})", {"lastname": "A"}),
        ("prvDeleteLead", "DELETE", f"leads({KEYLESS})", None),
        ("prvReadTransactionCurrency", "GET", "transactioncurrencies", None),
    ],
)
def test_a_missing_privilege_is_403(
    call: Caller, dataverse: Dataverse, privilege: str, method: str, path: str, body: Any
) -> None:
    dataverse.deny(privilege)
    refused(call(method, path, body), 403, "0x80040220", privilege)


@pytest.mark.parametrize("code", ["0x80072322", "0x80072321", "0x80072326"])
def test_service_protection_answers_429_as_often_as_it_is_told(call: Caller, dataverse: Dataverse, code: str) -> None:
    dataverse.throttle(2, code, retry_after=9)
    for _ in range(2):
        answer = call("GET", "WhoAmI")
        refused(answer, 429, code)
        assert answer.headers["Retry-After"] == "9"
    assert call("GET", "WhoAmI").status_code == 200


# Addresses and headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "Leads", 404, "0x8006088a"),
        ("GET", "leads(", 404, "0x8006088a"),
        ("GET", "nothing", 404, "0x8006088a"),
        ("GET", f"{ORG}/api/data/v8.2/leads", 404, None),
        ("GET", f"{ORG}/elsewhere", 404, None),
        ("PUT", "leads", 405, None),
        ("POST", f"leads({KEYLESS})", 405, None),
        ("PATCH", "leads", 405, None),
        ("DELETE", "leads", 405, None),
        ("POST", "WhoAmI", 404, None),
        ("GET", NOBODY, 404, "0x80040217"),
        ("DELETE", NOBODY, 404, "0x80040217"),
        ("GET", KEY, 404, "0x80040217"),
        ("POST", f"leads({KEYLESS})/Microsoft.Dynamics.CRM.Win", 404, "0x8006088a"),
        ("GET", f"leads({KEYLESS})/subject/x", 404, None),
    ],
)
def test_wrong_addresses(call: Caller, method: str, path: str, status: int, code: str | None) -> None:
    refused(call(method, path, {} if method in ("POST", "PATCH", "PUT") else None), status, code)


@pytest.mark.parametrize("key", ["subject='x'", "new_referralid='x',subject='y'", "leadid='x'", "'x'", "5", "x=y", "x"])
def test_a_key_that_is_not_declared_is_400(call: Caller, key: str) -> None:
    refused(call("GET", f"leads({key})"), 400, "0x80060888")


def test_the_words_for_an_undeclared_key(call: Caller, dataverse: Dataverse) -> None:
    refused(call("GET", "leads(subject='x')"), 400, words="The key in the request URI is not valid for resource")


@pytest.mark.parametrize("status", ["Pending", "InProgress", "Failed", None])
def test_a_key_serves_only_while_it_is_active(call: Caller, dataverse: Dataverse, status: str | None) -> None:
    dataverse.set_key("leads", "new_referralkey", status)
    refused(call("GET", KEY), 400, "0x80060888", "The key in the request URI is not valid")
    for _ in range(2):  # nor is it unique
        assert call("POST", "leads", {"new_referralid": "r-1"}).status_code == 204
    dataverse.set_key("leads", "new_referralkey", "Active")
    assert call("GET", KEY).status_code == 200


@pytest.mark.parametrize("letter", sorted("/<>*%&:\\?+"))
def test_characters_that_break_keys_in_addresses(call: Caller, letter: str) -> None:
    """They may be stored, and found by a filter, but not addressed."""
    assert call("POST", "leads", {"new_referralid": f"a{letter}b"}).status_code == 204
    value = quote(f"'a{letter}b'", safe="")
    for method in ("GET", "PATCH"):
        refused(call(method, f"leads(new_referralid={value})", {} if method == "PATCH" else None), 400)
    assert len(call.get(f"leads?$filter=new_referralid eq {value}")["value"]) == 1


def test_quotes_in_keys_are_doubled_and_case_makes_no_difference(call: Caller) -> None:
    assert (
        call("PATCH", "leads(new_referralid=%27O%27%27Brien%20%F0%9F%99%82%27)", {"lastname": "A"}).status_code == 204
    )
    row = call.get("leads(new_referralid='o''BRIEN%20%F0%9F%99%82')")
    assert row["new_referralid"] == "O'Brien 🙂"
    refused(call("GET", "leads(new_referralid='O'Brien')"), 400)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content_Type": "text/plain"}, 415), ({"OData_Version": "3.0"}, 400), ({"OData_Version": "4.0"}, 204)],
)
def test_headers(call: Caller, headers: dict[str, str], status: int) -> None:
    assert call("POST", "leads", {"lastname": "A"}, **headers).status_code == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"null"])
def test_a_body_must_be_a_json_object(call: Caller, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {call.token()}", "Content-Type": "application/json"}
    refused(call.http.post(API + "leads", data=body, headers=headers), 400)


def test_every_answer_says_its_odata_version(call: Caller) -> None:
    assert call("GET", "WhoAmI").headers["OData-Version"] == "4.0"
    assert call("GET", NOBODY).headers["OData-Version"] == "4.0"


# Creating, changing, deleting


def test_a_patch_without_condition_creates_or_updates_and_does_not_say_which(call: Caller) -> None:
    for name in ("A", "B"):
        answer = call("PATCH", KEY, {"lastname": name})
        assert (answer.status_code, answer.text) == (204, "")
        assert answer.headers["OData-EntityId"] == API + KEY  # the alternate key's address, not the id's
    row = call.get(KEY)
    assert (row["lastname"], row["new_referralid"], row["statecode"], row["statuscode"]) == ("B", "r-1", 0, 1)


def test_a_representation_says_201_or_200_and_has_what_was_selected(call: Caller) -> None:
    created = call("PATCH", KEY + "?$select=subject", {"lastname": "A", "subject": "S"}, **BACK)
    updated = call("PATCH", KEY + "?$select=subject", {"subject": "T"}, **BACK)
    assert (created.status_code, updated.status_code) == (201, 200)
    assert created.headers["Preference-Applied"] == "return=representation"
    assert set(created.json()) == {"@odata.context", "@odata.etag", "leadid", "subject"}
    assert (created.json()["leadid"], updated.json()["subject"]) == (updated.json()["leadid"], "T")


def test_post_gives_the_id_and_takes_one(call: Caller) -> None:
    answer = call("POST", "leads", {"lastname": "A"})
    assert answer.status_code == 204
    assert call("GET", urlsplit(answer.headers["OData-EntityId"]).path.rpartition("/")[2]).json()["lastname"] == "A"
    id = "BBBBBBBB-0000-4000-8000-000000000009"
    assert call("POST", "leads", {"leadid": id}, **BACK).json()["leadid"] == id.lower()
    refused(call("POST", "leads", {"leadid": id}), 412, "0x80040237", "Cannot insert duplicate key")
    refused(call("POST", "leads", {"leadid": "5"}), 400)


def test_a_patch_by_id_creates_with_that_id(call: Caller) -> None:
    assert call("PATCH", NOBODY, {"lastname": "A"}, **BACK).status_code == 201
    assert call.get(NOBODY)["lastname"] == "A"


def test_conditions(call: Caller) -> None:
    refused(call("PATCH", KEY, {"lastname": "A"}, If_Match="*"), 404, "0x80040217")
    refused(call("PATCH", KEY, {"lastname": "A"}, If_Match='W/"1"'), 404)
    assert call("PATCH", KEY, {"lastname": "A"}, If_None_Match="*").status_code == 204
    words = "A record with matching key values already exists."
    refused(call("PATCH", KEY, {"lastname": "B"}, If_None_Match="*"), 412, "0x80040237", words)
    assert call("PATCH", KEY, {"lastname": "C"}, If_Match="*").status_code == 204
    old = call.get(KEY)["@odata.etag"]
    assert call("PATCH", KEY, {"lastname": "D"}, If_Match=old).status_code == 204
    refused(call("PATCH", KEY, {"lastname": "E"}, If_Match=old), 412, "0x80060882", "RowVersion")
    refused(call("DELETE", KEY, If_Match=old), 412, "0x80060882")
    assert call.get(KEY)["lastname"] == "D"
    assert call("DELETE", KEY, If_Match=call.get(KEY)["@odata.etag"]).status_code == 204
    refused(call("GET", KEY), 404)


def test_the_etag_changes_at_every_write_and_a_known_one_saves_the_answer(call: Caller) -> None:
    etags = {call.get(f"leads({KEYLESS})")["@odata.etag"]}
    for _ in range(3):  # even where the values stay
        etags.add(call("PATCH", f"leads({KEYLESS})", {"subject": "same"}, **BACK).json()["@odata.etag"])
    assert len(etags) == 4
    last = call.get(f"leads({KEYLESS})")["@odata.etag"]
    assert call("GET", f"leads({KEYLESS})", If_None_Match=last).status_code == 304
    assert call("GET", f"leads({KEYLESS})", If_None_Match="null").status_code == 200


def test_key_columns_in_the_body_of_a_keyed_patch(call: Caller) -> None:
    """On creation a differing value in the body wins over the address, on update it is dropped."""
    assert call("PATCH", KEY, {"new_referralid": "r-2"}).status_code == 204
    refused(call("GET", KEY), 404)
    other = "leads(new_referralid='r-2')"
    assert call("PATCH", other, {"new_referralid": "r-3", "subject": "S"}).status_code == 204
    assert call.get(other)["subject"] == "S"


def test_an_active_key_is_unique(call: Caller) -> None:
    assert call("PATCH", KEY, {"lastname": "A"}).status_code == 204
    refused(call("POST", "leads", {"new_referralid": "R-1"}), 412, "0x80060892", "already exists")
    refused(call("PATCH", f"leads({KEYLESS})", {"new_referralid": "r-1"}), 412, "0x80060892")
    assert call("PATCH", KEY, {"subject": "own"}).status_code == 204
    assert call("DELETE", KEY).status_code == 204
    assert call("PATCH", f"leads({KEYLESS})", {"new_referralid": "r-1"}).status_code == 204
    assert call("PATCH", f"leads({KEYLESS})", {"new_referralid": None}).status_code == 204
    refused(call("GET", KEY), 404)


def test_duplicate_detection_works_only_when_asked_for(call: Caller) -> None:
    mail = {"emailaddress1": "a@b.example"}
    assert call("POST", "leads", mail).status_code == 204
    assert call("POST", "leads", mail).status_code == 204
    refused(call("POST", "leads", mail, **{"MSCRM.SuppressDuplicateDetection": "false"}), 412, "0x80040333")


def test_the_service_fills_in(call: Caller) -> None:
    row = call("POST", "leads", {"firstname": "Ada", "lastname": "Byron"}, **BACK).json()
    expected = {"fullname": "Ada Byron", "_ownerid_value": USER, "_transactioncurrencyid_value": USD, "subject": None}
    assert {name: row[name] for name in expected} == expected
    assert row["createdon"] == row["modifiedon"] == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"nosuch": 1}, "0x80048d19"),
        ({"Subject": "x"}, "0x80048d19"),  # names are case sensitive
        ({"fullname": "x"}, "0x80048d19"),
        ({"createdon": "2026-01-01T00:00:00Z"}, "0x80048d19"),
        ({"_ownerid_value": USER}, "0x80048d19"),
        ({"ownerid": USER}, "0x80048d19"),
        ({"subject": 5}, "0x80048d19"),
        ({"subject": ["x"]}, "0x80048d19"),
        ({"estimatedamount": "5"}, "0x80048d19"),
        ({"estimatedamount": True}, "0x80048d19"),
        ({"numberofemployees": 1.5}, "0x80048d19"),
        ({"donotemail": "true"}, "0x80048d19"),
        ({"leadsourcecode": "Partner"}, "0x80048d19"),
        ({"estimatedclosedate": "2026-12-31T00:00:00Z"}, "0x80048d19"),
        ({"estimatedclosedate": "2026-02-30"}, "0x80048d19"),
        ({"estimatedclosedate": 5}, "0x80048d19"),
        ({"subject": "x" * 301}, "0x80044331"),
        ({"lastname": "🙂" * 26}, "0x80044331"),  # two units each
        ({"description": "x" * 2001}, "0x80044331"),
        ({"subject": "nul\0"}, "0x80040203"),
        ({"estimatedamount": -1}, "0x80044330"),
        ({"estimatedamount": 1e12 + 1}, "0x80044330"),
        ({"numberofemployees": 1_000_001}, "0x80044330"),
        ({"leadsourcecode": 11}, "0x8004431a"),
        ({"statuscode": 99}, "0x8004431a"),
        ({"statecode": 0}, "0x80040203"),  # not valid on creation
        ({"statuscode": 3}, "0x80048408"),  # a reason of another state
        ({"nosuch@odata.bind": f"/systemusers({USER})"}, "0x80048d19"),
        ({"ownerid@odata.bind": f"/accounts({USER})"}, "0x80048d19"),
        ({"ownerid@odata.bind": "/systemusers"}, "0x80048d19"),
    ],
    ids=str,
)
def test_bodies_that_are_refused(call: Caller, body: dict[str, Any], code: str) -> None:
    before = len(call.emulator.rows("leads"))
    refused(call("POST", "leads", body), 400, code)
    assert len(call.emulator.rows("leads")) == before


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"subject": "x" * 300}, None),
        ({"lastname": "🙂" * 25}, None),
        ({"subject": ""}, {"subject": None}),
        ({"subject": None}, None),
        ({"description": "a\r\nb\tc"}, None),
        ({"estimatedamount": 1234.565}, {"estimatedamount": 1234.56}),
        ({"estimatedamount": 10**12}, {"estimatedamount": 1e12}),
        ({"estimatedclosedate": "2026-12-31"}, None),
        ({"leadsourcecode": 100000001}, None),
        ({"statuscode": 2}, None),
        ({"ownerid@odata.bind": f"/teams({TEAM})"}, {"_ownerid_value": TEAM}),
        (
            {"transactioncurrencyid@odata.bind": f"{API}transactioncurrencies({EUR})"},
            {"_transactioncurrencyid_value": EUR},
        ),
        ({"parentaccountid@odata.bind": None}, {"_parentaccountid_value": None}),
        ({"@odata.type": "Microsoft.Dynamics.CRM.lead", "subject": "x"}, {"subject": "x"}),
    ],
    ids=str,
)
def test_bodies_that_are_taken(call: Caller, sent: dict[str, Any], read: dict[str, Any] | None) -> None:
    answer = call("POST", "leads", sent, **BACK)
    assert answer.status_code == 201, answer.text
    expected = sent if read is None else read
    assert {name: answer.json()[name] for name in expected} == expected


def test_references_by_alternate_key_and_to_nothing(call: Caller) -> None:
    account = call("POST", "accounts", {"name": "A", "accountnumber": "A-1"}, **BACK).json()["accountid"]
    body = {"customerid_account@odata.bind": "/accounts(accountnumber='A-1')"}
    assert call("POST", "leads", body, **BACK).json()["_customerid_value"] == account
    refused(call("POST", "leads", {"ownerid@odata.bind": f"/systemusers({EUR})"}), 404, "0x80040217")


def test_states(call: Caller) -> None:
    lead = f"leads({KEYLESS})"
    refused(call("PATCH", lead, {"statecode": 1}), 400, "0x80040203", "QualifyLead")
    refused(call("PATCH", lead, {"statecode": 2, "statuscode": 1}), 400, "0x80048408")
    refused(call("PATCH", lead, {"statuscode": 4}), 400, "0x80048408")
    assert call("PATCH", lead, {"statuscode": 2}).status_code == 204
    assert call("PATCH", lead, {"statecode": 2, "statuscode": 5}).status_code == 204
    refused(call("PATCH", lead, {"subject": "x"}), 400, "0x80040203", "read-only")
    refused(call("PATCH", lead, {"statecode": 2, "statuscode": 4}), 400)
    assert call("PATCH", lead, {"statecode": 0}).status_code == 204
    row = call.get(lead)
    assert (row["statecode"], row["statuscode"]) == (0, 1)
    assert call("PATCH", lead, {"statecode": 2}, **BACK).json()["statuscode"] == 4
    refused(call("PATCH", f"leads({QUALIFIED})", {"subject": "x"}), 400, "0x80040203", "Qualified")
    assert call("DELETE", f"leads({QUALIFIED})").status_code == 204


# QualifyLead

QUALIFY = {"CreateAccount": True, "CreateContact": True, "CreateOpportunity": True, "Status": 3}


def test_qualify_lead_makes_rows_and_links_both_ways(call: Caller) -> None:
    body = {"firstname": "Ada", "lastname": "Byron", "companyname": "Engines", "subject": "Deal", "estimatedamount": 5}
    lead = call("POST", "leads", body, **BACK).json()["leadid"]
    answer = call("POST", f"leads({lead})/Microsoft.Dynamics.CRM.QualifyLead", QUALIFY)
    assert [row["@odata.type"].rpartition(".")[2] for row in answer.json()["value"]] == [
        "account", "contact", "opportunity",
    ]  # fmt: skip
    made = {k: v for row in answer.json()["value"] for k, v in row.items()}
    row = call.get(f"leads({lead})")
    assert (row["statecode"], row["statuscode"]) == (1, 3)
    assert row["_qualifyingopportunityid_value"] == made["opportunityid"]
    assert (row["_parentaccountid_value"], row["_parentcontactid_value"]) == (made["accountid"], made["contactid"])
    opportunity = call.get(f"opportunities({made['opportunityid']})?$expand=originatingleadid($select=subject)")
    assert opportunity["originatingleadid"]["leadid"] == lead
    assert (opportunity["name"], opportunity["estimatedvalue"]) == ("Deal", 5.0)
    assert call.get(f"accounts({made['accountid']})")["name"] == "Engines"
    assert call.get(f"contacts({made['contactid']})")["_parentcustomerid_value"] == made["accountid"]
    refused(call("POST", f"leads({lead})/Microsoft.Dynamics.CRM.QualifyLead", QUALIFY), 400, None, "closed")


@pytest.mark.parametrize(
    "body",
    [{}, {**QUALIFY, "Status": 1}, {**QUALIFY, "Status": None}, {**QUALIFY, "CreateAccount": "yes"}],
    ids=["nothing", "reason", "none", "type"],
)
def test_qualify_lead_wants_its_parameters(call: Caller, body: dict[str, Any]) -> None:
    refused(call("POST", f"leads({KEYLESS})/Microsoft.Dynamics.CRM.QualifyLead", body), 400)
    assert call.get(f"leads({KEYLESS})")["statecode"] == 0
    refused(call("POST", f"{NOBODY}/Microsoft.Dynamics.CRM.QualifyLead", QUALIFY), 404)


def test_qualify_lead_needs_the_right_to_create(call: Caller, dataverse: Dataverse) -> None:
    dataverse.deny("prvCreateAccount")
    path = f"leads({KEYLESS})/Microsoft.Dynamics.CRM.QualifyLead"
    refused(call("POST", path, QUALIFY), 403, "0x80040220", "prvCreateAccount")
    assert call("POST", path, {**QUALIFY, "CreateAccount": False}).status_code == 200


# Queries


@pytest.fixture
def people(call: Caller) -> Caller:
    """Five leads whose ids end in a … e; the seeded three end in 1 2 3."""
    rows = {
        "a": {"lastname": "Alba", "estimatedamount": 10, "leadsourcecode": 4, "estimatedclosedate": "2026-01-31"},
        "b": {"lastname": "Berg", "estimatedamount": 20, "donotemail": True, "estimatedclosedate": "2026-02-28"},
        "c": {"lastname": "Čapek", "estimatedamount": 30.5, "subject": "it's, (c) and 'more'"},
        "d": {"lastname": "d'Arc", "subject": "100% & more"},
        "e": {"lastname": "EBERG", "ownerid@odata.bind": f"/teams({TEAM})"},
    }
    for letter, row in rows.items():
        assert call("PATCH", f"leads(00000000-0000-4000-8000-00000000000{letter})", row).status_code == 204
        call.clock.advance(60)
    return call


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        ("lastname eq 'alba'", "a"),
        ("lastname eq 'd''Arc'", "d"),
        ("subject eq 'it''s, (c) and ''more'''", "c"),
        ("contains(lastname,'BERG')", "be"),
        ("startswith(lastname,'a')", "a"),
        ("endswith(lastname,'berg')", "be"),
        ("contains(subject,'%25 %26')", "d"),
        ("estimatedamount gt 10", "bc"),
        ("estimatedamount ge 10 and estimatedamount le 20", "ab"),
        ("estimatedamount lt 30.5", "ab"),
        ("estimatedamount eq 30.5 or lastname eq 'Alba'", "ac"),
        ("(lastname eq 'Alba' or lastname eq 'Berg') and estimatedamount gt 10", "b"),
        ("lastname eq 'Alba' or lastname eq 'Berg' and estimatedamount gt 10", "ab"),
        ("not (estimatedamount eq null) and not contains(lastname,'a')", "b"),
        ("estimatedamount eq null and budgetamount eq null", "2de"),
        ("estimatedamount ne null", "abc"),
        ("donotemail eq true", "b"),
        ("donotemail ne true", "123acde"),  # rows without a value too
        ("leadsourcecode eq 4", "a"),
        ("leadid eq 00000000-0000-4000-8000-00000000000A", "a"),
        (f"_ownerid_value eq {TEAM}", "e"),
        ("estimatedclosedate ge 2026-02-01", "b"),
        ("createdon gt 2026-11-24T12:00:00Z and createdon le 2026-11-24T12:02:00%2B00:00", "bc"),
        ("createdon ge 2026-11-25", ""),
        ("statecode eq 1", "3"),
    ],
)
def test_filters(people: Caller, filter: str, ids: str) -> None:
    assert "".join(sorted(people.ids(f"$filter={filter}"))) == ids


@pytest.mark.parametrize(
    "query",
    [
        "$filter=nosuch eq 1",
        "$filter=lastname eq 5",
        "$filter=lastname eq Alba",
        "$filter=lastname = 'Alba'",
        "$filter=lastname is 'Alba'",
        "$filter='Alba' eq lastname",
        "$filter=lastname eq 'Alba' and",
        "$filter=(lastname eq 'Alba'",
        "$filter=lastname eq 'Alba')",
        "$filter=lastname eq 'Alba' lastname",
        "$filter=lastname eq 'a'b'",
        "$filter=lastname gt null",
        "$filter=estimatedamount eq '10'",
        "$filter=donotemail eq 1",
        "$filter=leadid eq 'x'",
        "$filter=estimatedclosedate eq '2026-01-01'",
        "$filter=contains(estimatedamount,'1')",
        "$filter=contains(lastname)",
        "$filter=tolower(lastname) eq 'alba'",
        "$filter=",
        "$filter=%23",
        "$select=nosuch",
        "$select=ownerid",
        "$select=lastname,",
        "$orderby=nosuch",
        "$orderby=lastname up",
        "$expand=nosuch",
        "$expand=ownerid($filter=a)",
        "$expand=ownerid($select=nosuch)",
        "$top=x",
        "$top=-1",
        "$skip=1",
        "$apply=aggregate",
        "$search=x",
        "anything=1",
    ],
)
def test_queries_that_are_refused(people: Caller, query: str) -> None:
    refused(people("GET", f"leads?{query}"), 400)


def test_what_may_be_asked_of_one_row(people: Caller) -> None:
    path = f"leads({KEYLESS})"
    assert set(people.get(f"{path}?$select=subject")) == {"@odata.context", "@odata.etag", "leadid", "subject"}
    for query in ("$filter=lastname eq 'x'", "$top=1", "$orderby=lastname"):
        refused(people("GET", f"{path}?{query}"), 400)
    refused(people("GET", f"{path}?$select=nosuch"), 400, "0x0", "Could not find a property named 'nosuch'")


def test_expand(people: Caller) -> None:
    expand = "$expand=transactioncurrencyid($select=isocurrencycode,currencyname),parentaccountid"
    row = people.get(f"leads({KEYLESS})?$select=subject&{expand}")
    assert row["transactioncurrencyid"]["isocurrencycode"] == "USD"
    assert set(row["transactioncurrencyid"]) == {
        "@odata.etag", "transactioncurrencyid", "isocurrencycode", "currencyname",
    }  # fmt: skip
    assert row["parentaccountid"] is None
    owner = people.get("leads(00000000-0000-4000-8000-00000000000e)?$expand=ownerid")["ownerid"]
    assert owner["name"] == "Partner sales"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("$orderby=createdon desc,lastname&$top=3", "edc"),
        ("$orderby=estimatedamount desc&$top=3", "cba"),
        ("$orderby=estimatedamount asc,lastname desc&$filter=contains(lastname,'e')", "2ebc"),
        ("$orderby=statecode desc,lastname&$top=2", "3a"),
    ],
)
def test_order(people: Caller, query: str, ids: str) -> None:
    assert "".join(people.ids(query)) == ids


def test_paging_follows_the_preference_and_counts(people: Caller) -> None:
    query, found, pages = "leads?$select=lastname&$orderby=lastname desc&$count=true", [], 0
    while query:
        answer = people("GET", query, Prefer="odata.maxpagesize=3")
        assert answer.headers["Preference-Applied"] == "odata.maxpagesize=3"
        body = answer.json()
        assert body["@odata.count"] == 8
        found += [row["lastname"] for row in body["value"]]
        query, pages = body.get("@odata.nextLink"), pages + 1
    assert pages == 3
    assert found == sorted(found, key=str.casefold, reverse=True)
    assert len(set(found)) == 8
    assert "@odata.nextLink" not in people.get("leads")
    assert "@odata.nextLink" not in people.get("leads?$top=2", Prefer="odata.maxpagesize=1")
    refused(people("GET", "leads", Prefer="odata.maxpagesize=x"), 400)


def test_the_page_size_of_an_organization(people: Caller, dataverse: Dataverse) -> None:
    dataverse.page_size = 2
    body = people.get("leads?$select=leadid")
    assert len(body["value"]) == 2
    assert len(people.get(body["@odata.nextLink"])["value"]) == 2


# Change tracking

TRACK = {"Prefer": "odata.track-changes"}


def test_delta_links_tell_each_change_once_and_deletions_last(people: Caller, dataverse: Dataverse) -> None:
    first = people("GET", "leads?$select=lastname", **TRACK)
    assert first.headers["Preference-Applied"] == "odata.track-changes"
    assert [row["leadid"][-1] for row in first.json()["value"]] == list("123abcde")
    assert "deltaLink" not in people.get("leads?$select=lastname")
    link = first.json()["@odata.deltaLink"]
    assert people.get(link)["value"] == []
    dataverse.edit("leads", "00000000-0000-4000-8000-00000000000b", {"lastname": "B"})
    dataverse.remove("leads", "00000000-0000-4000-8000-00000000000a")
    dataverse.remove("leads", dataverse.add("leads", {"lastname": "short-lived"})["leadid"])
    dataverse.edit("leads", KEYLESS, {"subject": "x"})
    dataverse.edit("leads", "00000000-0000-4000-8000-00000000000b", {"lastname": "C"})
    body = people.get(link)
    changed, gone = body["value"][:2], body["value"][2:]
    assert [(row["leadid"][-1], row["lastname"]) for row in changed] == [("1", "Frost"), ("b", "C")]
    assert set(changed[0]) == {"@odata.etag", "leadid", "lastname"}
    assert [row["reason"] for row in gone] == ["deleted", "deleted"]
    assert gone[0]["id"] == "00000000-0000-4000-8000-00000000000a"
    assert gone[0]["@odata.context"].endswith("#leads/$deletedEntity")
    assert people.get(body["@odata.deltaLink"])["value"] == []


def test_pages_of_changes_lose_nothing_that_changes_in_between(people: Caller, dataverse: Dataverse) -> None:
    dataverse.page_size = 3
    body = people.get("leads?$select=lastname", **TRACK)
    told = [row["leadid"][-1] for row in body["value"]]
    assert told == list("123")
    dataverse.edit("leads", KEYLESS, {"subject": "again"})
    while "@odata.nextLink" in body:
        body = people.get(body["@odata.nextLink"])
        told += [row["leadid"][-1] for row in body["value"]]
    assert told == list("123abcde")
    assert [row["leadid"][-1] for row in people.get(body["@odata.deltaLink"])["value"]] == ["1"]


def test_a_delta_token_lives_seven_days(people: Caller, clock: FakeClock) -> None:
    link = people.get("leads?$select=lastname", **TRACK)["@odata.deltaLink"]
    clock.advance(timedelta(days=7).total_seconds())
    assert people("GET", link).status_code == 200
    clock.advance(1)
    refused(people("GET", link), 400, "0x80044352", "full sync")
    refused(people("GET", "leads?$deltatoken=x"), 400)


@pytest.mark.parametrize("option", ["$filter=lastname eq 'x'", "$orderby=lastname", "$expand=ownerid", "$top=5"])
def test_options_that_change_tracking_does_not_take(people: Caller, option: str) -> None:
    name = option.partition("=")[0]
    refused(people("GET", f"leads?{option}", **TRACK), 400, None, f'The "{name}" query parameter isn\'t supported')


def test_change_tracking_is_switched_for_each_table(people: Caller, dataverse: Dataverse) -> None:
    refused(people("GET", "systemusers", **TRACK), 400, None, "Change tracking is not enabled")
    dataverse.track_changes("leads", False)
    refused(people("GET", "leads", **TRACK), 400)
    definition = people.get("EntityDefinitions(LogicalName='lead')?$select=ChangeTrackingEnabled")
    assert definition["ChangeTrackingEnabled"] is False


# Definitions

LEAD = "EntityDefinitions(LogicalName='lead')"


def test_alternate_keys_are_in_the_table_definition(call: Caller, dataverse: Dataverse) -> None:
    path = f"{LEAD}?$select=LogicalName&$expand=Keys($select=KeyAttributes,EntityKeyIndexStatus)"
    keys = call.get(path)["Keys"]
    assert [(k["KeyAttributes"], k["EntityKeyIndexStatus"]) for k in keys] == [(["new_referralid"], "Active")]
    dataverse.set_key("leads", "new_referralkey", "Failed")
    assert call.get(path)["Keys"][0]["EntityKeyIndexStatus"] == "Failed"
    dataverse.set_key("leads", "new_referralkey", None)
    assert call.get(path)["Keys"] == []


def test_tables_are_found_by_their_set_name(call: Caller) -> None:
    found = call.get("EntityDefinitions?$select=LogicalName&$filter=EntitySetName eq 'opportunities'")["value"]
    assert [d["LogicalName"] for d in found] == ["opportunity"]
    tracked = call.get("EntityDefinitions?$select=EntitySetName&$filter=ChangeTrackingEnabled eq true")["value"]
    assert {d["EntitySetName"] for d in tracked} == {"leads", "accounts", "contacts", "opportunities"}


def test_columns_and_the_labels_of_choices(call: Caller) -> None:
    column = call.get(f"{LEAD}/Attributes(LogicalName='subject')?$select=LogicalName,MaxLength,AttributeType")
    assert (column["MaxLength"], column["AttributeType"]) == (300, "String")
    assert call.get(f"{LEAD}/Attributes(LogicalName='ownerid')")["AttributeType"] == "Lookup"
    choice = f"{LEAD}/Attributes(LogicalName='leadsourcecode')/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
    options = call.get(f"{choice}?$select=LogicalName&$expand=OptionSet")["OptionSet"]["Options"]
    labels = {o["Value"]: o["Label"]["UserLocalizedLabel"]["Label"] for o in options}
    assert (labels[4], labels[100000001], len(labels)) == ("Partner", "Marketplace", 11)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("EntityDefinitions(LogicalName='nosuch')", 404),
        ("EntityDefinitions(lead)", 404),
        (f"{LEAD}?$select=nosuch", 400),
        (f"{LEAD}?$expand=nosuch", 400),
        (f"{LEAD}?$expand=Keys($select=nosuch)", 400),
        (f"{LEAD}?$top=1", 400),
        (f"{LEAD}/Attributes(LogicalName='nosuch')", 404),
        (f"{LEAD}/Attributes", 404),
        (f"{LEAD}/Attributes(LogicalName='subject')/Microsoft.Dynamics.CRM.PicklistAttributeMetadata", 404),
        ("EntityDefinitions?$filter=nosuch eq 'x'", 400),
    ],
)
def test_definitions_that_are_not_there(call: Caller, path: str, status: int) -> None:
    refused(call("GET", path), status)


def test_privileges_that_a_user_holds(call: Caller, dataverse: Dataverse) -> None:
    dataverse.deny("prvWriteLead")
    path = f"systemusers({USER})/Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@n)"
    body = call.get(path + '?@n=["prvReadLead","prvWriteLead"]')
    assert [p["PrivilegeName"] for p in body["RolePrivileges"]] == ["prvReadLead"]


# The organization


def test_the_seed(dataverse: Dataverse) -> None:
    leads = dataverse.rows("leads")
    assert [(row["leadid"], row["new_referralid"], row["statecode"]) for row in leads] == [
        (f"aaaaaaaa-0000-4000-8000-00000000000{n}", None, int(n == 3)) for n in (1, 2, 3)
    ]
    currencies = {row["isocurrencycode"] for row in dataverse.rows("transactioncurrencies")}
    assert currencies == {"USD", "EUR", "GBP"}
    assert {row["applicationid"] for row in dataverse.rows("systemusers")} == {APP, None}


def test_an_organization_survives_its_process(tmp_path: Path, clock: FakeClock) -> None:
    store = Store(tmp_path / "crm.db")
    call = Caller(Dataverse(store, clock), clock)
    link = call.get("leads?$select=subject", **TRACK)["@odata.deltaLink"]
    assert call("PATCH", KEY, {"lastname": "A"}).status_code == 204
    store.close()
    again = Caller(Dataverse(Store(tmp_path / "crm.db"), clock), clock)
    assert again.get(KEY)["lastname"] == "A"
    assert len(again.get("leads")["value"]) == 4
    assert len(again.get(link)["value"]) == 1


def test_a_refused_request_leaves_nothing_behind(call: Caller, dataverse: Dataverse) -> None:
    before = (dataverse.rows("leads"), dataverse.store.get("counter", "version"))
    refused(call("PATCH", KEY, {"lastname": "A", "subject": "x" * 301}), 400)
    refused(call("POST", "leads", {"ownerid@odata.bind": f"/teams({USD})"}), 404)
    assert (dataverse.rows("leads"), dataverse.store.get("counter", "version")) == before
    with pytest.raises(KeyError):
        dataverse.edit("leads", USD, {})
