"""The emulator of Partner Center refuses what the service refuses. Spoken to directly, as any program could."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from connectors.partner_center.emulator import PartnerCenter
from engine.sandbox import Store, WSGIAdapter, serve, sign_token
from engine.testing import FakeClock

HOST = "api.partner.microsoft.com"
ROOT = f"https://{HOST}/v1.0/engagements/referrals"
ADMIN = "3c9d4e5f-6071-4283-9dce-3f4a5b6c7d8e"
READER = "5ebf6071-8293-44a5-9ef0-5b6c7d8e9fa0"
MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
NEW = "10000000-0000-4000-8000-000000000001"
NO_DETAILS = "10000000-0000-4000-8000-000000000003"
WON = "10000000-0000-4000-8000-000000000004"
OTHERS = "20000000-0000-4000-8000-000000000001"
CLAIMS = {"aud": f"https://{HOST}", "exp": 4e9, "scp": "user_impersonation", "amr": ["pwd", "mfa"], "oid": ADMIN}


class Caller:
    """A program with a token."""

    def __init__(self) -> None:
        self.app = PartnerCenter(clock=FakeClock())
        self.session = requests.Session()
        self.session.mount("https://", WSGIAdapter(self.app))
        self.session.mount("http://", WSGIAdapter(self.app))
        self.claims: Mapping[str, Any] | None = CLAIMS

    def __call__(self, method: str, url: str = "", **options: Any) -> requests.Response:
        headers = options.pop("headers", {})
        if self.claims is not None:
            headers = {"Authorization": f"Bearer {sign_token(self.claims)}", **headers}
        return self.session.request(method, url if "//" in url else ROOT + url, headers=headers, **options)

    def patch(self, id: str, *operations: Any, **headers: str) -> requests.Response:
        return self("PATCH", f"/{id}", json=list(operations), headers=headers)

    def etag(self, id: str = MAIN) -> str:
        return str(self("GET", f"/{id}").json()["eTag"])


@pytest.fixture
def call() -> Caller:
    return Caller()


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def code(answer: requests.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "target", "innerError"}
    return str((error["innerError"] or error)["code"])


# Who may


@pytest.mark.parametrize(
    ("claims", "status", "expected"),
    [
        (None, 401, "unauthenticated"),
        ({**CLAIMS, "aud": "https://api.partnercenter.microsoft.com"}, 401, "unauthenticated"),
        ({**CLAIMS, "exp": 1.0}, 401, "unauthenticated"),
        ({**CLAIMS, "amr": ["pwd"]}, 401, "900421"),
        ({k: v for k, v in CLAIMS.items() if k != "amr"}, 401, "900421"),
        ({**CLAIMS, "scp": None, "roles": ["Application.All"]}, 403, "accessDenied"),
        ({**CLAIMS, "oid": "somebody else"}, 403, "accessDenied"),
    ],
)
@pytest.mark.parametrize("path", ["", f"/{MAIN}"])
def test_tokens(call: Caller, claims: Mapping[str, Any] | None, status: int, expected: str, path: str) -> None:
    call.claims = claims
    answer = call("GET", path)
    assert (answer.status_code, code(answer)) == (status, expected)
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)


def test_a_forged_token(call: Caller) -> None:
    answer = call("GET", headers={"Authorization": "Bearer eyJhdWQiOiJ4In0.AAAA"})
    assert answer.status_code == 401


def test_a_reader_reads_only(call: Caller) -> None:
    call.claims = {**CLAIMS, "oid": READER}
    assert call("GET", f"/{MAIN}").status_code == 200
    assert call.patch(MAIN, replace("/name", "x")).status_code == 403


# Headers


def test_request_ids(call: Caller) -> None:
    id = "11111111-2222-4333-8444-555555555555"
    answer = call("GET", f"/{MAIN}", headers={"client-request-id": id})
    assert answer.headers["client-request-id"] == id
    assert answer.headers["Request-ID"] and answer.headers["ETag"] == answer.json()["eTag"]
    assert call("GET", headers={"client-request-id": "17"}).status_code == 400


def test_throttling_in_the_gateways_form(call: Caller) -> None:
    call.app.store.put("partner_center", "throttle", 1)
    answer = call("GET")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "57")
    assert answer.json()["statusCode"] == 429 and "error" not in answer.json()
    assert call("GET").status_code == 200


# Reading


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/17", 400, "invalidRequest"),
        ("/99999999-0000-4000-8000-000000000000", 404, "itemNotFound"),
        (f"/{OTHERS}", 403, "accessDenied"),
        (f"/{MAIN}?$select=id", 400, "invalidRequest"),
        (f"/{MAIN}/notes", 404, "itemNotFound"),
    ],
)
def test_what_is_not_there(call: Caller, path: str, status: int, expected: str) -> None:
    answer = call("GET", path)
    assert (answer.status_code, code(answer)) == (status, expected)


def test_there_is_no_delete(call: Caller) -> None:
    assert call("DELETE", f"/{MAIN}").status_code == 405


def test_the_shape_of_a_referral(call: Caller) -> None:
    referral = call("GET", f"/{MAIN.upper()}").json()
    assert referral["eTag"].startswith('"') and referral["eTag"].endswith('"')
    assert len(referral["createdDateTime"].partition(".")[2]) == 8, "seven digits and Z"
    assert referral["statusReason"] is None
    assert "engagments" in referral["links"]["self"]["uri"], "misspelt as in the service's own samples"


def listed(call: Caller, **options: str) -> list[str]:
    answer = call("GET", params={f"${name}": value for name, value in options.items()})
    assert answer.status_code == 200, answer.text
    return [item["id"][-2:] for item in answer.json()["value"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("status eq 'New'", "12 01 02 07"),
        ("status ne 'Active'", "12 04 05 01 02 07"),
        ("substatus eq 'Won' or substatus eq 'Expired'", "04 05"),
        ("type eq 'Shared' and direction eq 'Incoming'", "01 07"),
        ("status eq 'Closed' or type eq 'Shared' and direction eq 'Outgoing'", "04 05 03"),
        ("(status eq 'Closed' or type eq 'Shared') and direction eq 'Outgoing'", "03"),
        ("qualification eq null", "02"),
        ("qualification ne null and status eq 'New'", "12 01 07"),
        ("customerProfile/address/country eq 'JP'", "07"),
        ("engagementId eq '0a1b2c3d-0001-4000-8000-000000000001'", "03 18"),
        ("updatedDateTime ge 2026-11-19", "18 02 07"),
        ("updatedDateTime gt 2026-11-21T01:02:03.4567891Z", "07"),
        ("updatedDateTime gt 2026-11-21T01:02:03.4567892Z", ""),
        ("updatedDateTime le 2026-02-04T01:00:00%2B01:00", "11 12"),
        ("updatedDateTime lt 2026-02-04", "11"),
        ("updatedDateTime eq 2026-02-04T00:00:00Z", "12"),
        ("team/any(t:t/email eq 'kim.seller@contoso.example')", "18 01"),
        ("team/any(m: m/email eq 'nobody@contoso.example' or m/email eq 'kim.seller@contoso.example')", "18 01"),
        ("type eq 'O''Brien'", ""),
    ],
)
def test_filters(call: Caller, text: str, found: str) -> None:
    assert " ".join(listed(call, filter=text.replace("%2B", "+"), top="50")) == found


@pytest.mark.parametrize(
    "options",
    [
        {"$filter": ""},
        {"$filter": "status"},
        {"$filter": "status eq"},
        {"$filter": "status eq New"},
        {"$filter": "status eq 'New' and"},
        {"$filter": "status eq 'New' status"},
        {"$filter": "(status eq 'New'"},
        {"$filter": "status gt 'New'"},
        {"$filter": "status like 'N'"},
        {"$filter": "name eq 'x'"},
        {"$filter": "externalReferenceId eq 'x'"},
        {"$filter": "updatedDateTime gt 'yesterday'"},
        {"$filter": "updatedDateTime gt null"},
        {"$filter": "contains(name,'x')"},
        {"$filter": "team/any(t:t/phoneNumber eq 'x')"},
        {"$filter": "team/any(t:status eq 'New')"},
        {"$filter": "status eq 'New' ; drop"},
        {"$orderby": "name"},
        {"$orderby": "createdDateTime downwards"},
        {"$select": "id,nothing"},
        {"$top": "0"},
        {"$top": "many"},
        {"$skip": "5"},
        {"$count": "true"},
        {"$expand": "team"},
        {"filter": "status eq 'New'"},
        {"$skiptoken": "AAAA"},
        {"$skiptoken": "e30=", "$top": "1"},
    ],
)
def test_options_that_are_not_documented(call: Caller, options: dict[str, str]) -> None:
    answer = call("GET", params=options)
    assert (answer.status_code, code(answer)) == (400, "invalidRequest")


def test_order_and_selection(call: Caller) -> None:
    down = listed(call, orderby="updatedDateTime desc", top="50")
    assert down[:3] == ["07", "18", "02"]
    assert listed(call, orderby="updatedDateTime asc", top="50") == down[::-1]
    answer = call("GET", params={"$select": "id, status", "$top": "1"}).json()
    assert set(answer["value"][0]) == {"id", "status"}


def test_pages_with_links_as_in_the_samples(call: Caller) -> None:
    answer = call("GET", params={"$filter": "status ne 'Closed'", "$orderby": "createdDateTime"}).json()
    assert (len(answer["value"]), answer["@odata.count"]) == (5, 12)
    links, seen = [], [r["id"] for r in answer["value"]]
    while link := answer.get("@odata.nextLink"):
        links.append(urlsplit(link))
        answer = call("GET", params={"$skiptoken": parse_qs(links[-1].query)["$skiptoken"][0]}).json()
        seen += [r["id"] for r in answer["value"]]
    assert [(link.scheme, link.path) for link in links] == [
        ("http", "/v1.0/referrals"),
        ("https", "/v1.0/engagements/referrals"),
    ]
    assert len(seen) == len(set(seen)) == 12
    assert len(answer["value"]) == 2


# Patching


def test_patch_answers_by_preference(call: Caller) -> None:
    before = call("GET", f"/{MAIN}").json()
    silent = call.patch(MAIN, replace("/statusReason", "a"))
    assert (silent.status_code, silent.content) == (204, b"")
    full = call.patch(MAIN, replace("/statusReason", "b"), Prefer="return=representation")
    assert (full.status_code, full.json()["statusReason"]) == (200, "b")
    tags = [before["eTag"], silent.headers["ETag"], full.json()["eTag"]]
    assert len(set(tags)) == 3 and full.headers["ETag"] == tags[2]
    assert full.json()["updatedDateTime"] > before["updatedDateTime"]


def test_if_match(call: Caller) -> None:
    etag = call.etag()
    for wrong in (etag.strip('"'), f'"{etag}"', '"stale"', ""):
        answer = call.patch(MAIN, replace("/name", "x"), **{"If-Match": wrong})
        assert (answer.status_code, code(answer)) == (412, "resourceModified")
    assert call.patch(MAIN, replace("/name", "x"), **{"If-Match": etag}).status_code == 204
    assert call.patch(MAIN, replace("/name", "y"), **{"If-Match": etag}).status_code == 412
    assert call("GET", f"/{MAIN}").json()["name"] == "x"


@pytest.mark.parametrize(
    "operations",
    [
        [],
        {"name": "x"},
        "text",
        ["x"],
        [{"op": "remove", "path": "/name"}],
        [{"op": "move", "from": "/name", "path": "/statusReason"}],
        [{"op": "test", "path": "/name", "value": "x"}],
        [{"op": "Replace", "path": "/name", "value": "x"}],
        [{"op": "replace", "path": "/name"}],
        [{"op": "replace", "value": "x"}],
        [replace("name", "x")],
        [replace("", {})],
        [replace("/nothing", "x")],
        [replace("/details/nothing", "x")],
        [replace("/details/notes/deeper", "x")],
        [replace("/id", "x")],
        [replace("/eTag", "x")],
        [replace("/createdDateTime", "2026-01-01T00:00:00Z")],
        [replace("/organizationId", "x")],
        [replace("/links/self", {})],
        [replace("/type", "Shared")],
        [replace("/target", [])],
        [replace("/name", 5)],
        [replace("/name", "x" * 1001)],
        [replace("/details/dealValue", "much")],
        [replace("/details/dealValue", -1)],
        [replace("/details/dealValue", True)],
        [replace("/details/currency", "dollars")],
        [replace("/details/closingDateTime", "2027-03-31")],
        [replace("/customerProfile/address/country", "Germany")],
        [replace("/customerProfile/size", "huge")],
        [replace("/customerProfile/team/7/email", "x")],
        [replace("/customerProfile/team", {"0": {}})],
        [replace("/customerProfile/team", [{"nickname": "x"}])],
        [replace("/details", "x")],
        [replace("/team/-", {})],
        [replace("/status", "Closed")],
        [replace("/substatus", "Won")],
        [replace("/status", "New"), replace("/substatus", "Pending")],
        [replace("/status", "Closed"), replace("/substatus", "Accepted")],
        [replace("/status", "Open"), replace("/substatus", "Accepted")],
        [replace("/status", None)],
        [replace("/name", "half done"), replace("/nothing", "x")],
    ],
)
def test_patches_that_are_refused_whole(call: Caller, operations: Any) -> None:
    before = call("GET", f"/{MAIN}").json()
    answer = call("PATCH", f"/{MAIN}", json=operations)
    assert (answer.status_code, code(answer)) == (400, "invalidRequest")
    assert call("GET", f"/{MAIN}").json() == before


def test_patches_of_the_samples(call: Caller) -> None:
    member = {"firstName": "Ann", "email": "ann@contoso.example"}
    answer = call.patch(
        MAIN,
        replace("/details/dealValue", "26000.5"),
        {"op": "add", "path": "/team/-", "value": member},
        {"op": "add", "path": "/team/0", "value": {"firstName": "First"}},
        replace("/team/1/lastName", "Changed"),
        {"op": "add", "path": "/externalReferenceId", "value": "lead"},
        Prefer="return=representation",
    ).json()
    assert answer["details"]["dealValue"] == 26000.5
    assert [m.get("firstName") for m in answer["team"]] == ["First", "Kim", "Ann"]
    assert answer["team"][1]["lastName"] == "Changed"


def test_a_parent_must_be_there(call: Caller) -> None:
    answer = call.patch(NO_DETAILS, {"op": "add", "path": "/details/notes", "value": "x"})
    assert answer.status_code == 400
    assert call.patch(NO_DETAILS, {"op": "add", "path": "/details", "value": {"notes": "x"}}).status_code == 204


def test_content_types(call: Caller) -> None:
    for kind in ("application/json-patch+json", "text/plain", ""):
        answer = call("PATCH", f"/{MAIN}", data=b"[]", headers={"Content-Type": kind})
        assert answer.status_code == 415
    answer = call("PATCH", f"/{MAIN}", data=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_closed_referral_takes_nothing(call: Caller) -> None:
    assert call.patch(WON, replace("/externalReferenceId", "late")).status_code == 409
    body = call("GET", f"/{WON}").json()
    answer = call("PUT", f"/{WON}", json=body, headers={"If-Match": body["eTag"]})
    assert answer.status_code == 409
    closing = call.patch(NEW, replace("/status", "Closed"), replace("/substatus", "Declined"))
    assert closing.status_code == 204
    assert call.patch(NEW, replace("/name", "x")).status_code == 409


def test_accepting_sets_the_time(call: Caller) -> None:
    assert call("GET", f"/{NEW}").json()["acceptedDateTime"] is None
    call.patch(NEW, replace("/status", "Active"), replace("/substatus", "Accepted"))
    assert call("GET", f"/{NEW}").json()["acceptedDateTime"].startswith("2026-11-24T12:00:00.")


# Replacing


def test_put_needs_if_match_and_blanks_what_is_left_out(call: Caller) -> None:
    body = call("GET", f"/{MAIN}").json()
    assert call("PUT", f"/{MAIN}", json=body).status_code == 428
    answer = call("PUT", f"/{MAIN}", json={**body, "name": "x"}, headers={"If-Match": '"stale"'})
    assert answer.status_code == 412
    del body["statusReason"], body["inviteContext"]
    answer = call("PUT", f"/{MAIN}", json={**body, "name": "x"}, headers={"If-Match": body["eTag"]})
    assert (answer.status_code, answer.json()["name"], answer.json()["inviteContext"]) == (200, "x", None)


@pytest.mark.parametrize(
    "changed", [{"id": NEW}, {"type": "Shared"}, {"nothing": 1}, {"status": "New"}, {"name": 5}, {"eTag": "x"}]
)
def test_put_refuses_what_patch_refuses(call: Caller, changed: dict[str, Any]) -> None:
    body = call("GET", f"/{MAIN}").json()
    answer = call("PUT", f"/{MAIN}", json={**body, **changed}, headers={"If-Match": body["eTag"]})
    assert answer.status_code == 400


# Creating

DEAL = {
    "type": "Shared",
    "customerProfile": {"name": "Relecloud", "address": {"country": "US"}},
    "consent": {"consentToToShareInfoWithOthers": True},
    "details": {"dealValue": 5, "currency": "USD"},
}


def test_create(call: Caller) -> None:
    answer = call("POST", json={**DEAL, "status": "New", "substatus": "Pending"})
    created = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{ROOT}/{created['id']}"
    assert (created["status"], created["substatus"], created["direction"]) == ("Active", "Accepted", "Outgoing")
    assert created["organizationName"] == "Contoso Partners"
    assert call("GET", f"/{created['id']}").json() == created


@pytest.mark.parametrize(
    "changed",
    [
        {"type": None},
        {"customerProfile": None},
        {"customerProfile": {"address": {}}},
        {"consent": None},
        {"details": None},
        {"details": {"dealValue": "x"}},
        {"id": NEW},
        {"eTag": "x"},
        {"nothing": 1},
        {"status": "Closed", "substatus": "Won"},
    ],
)
def test_create_refuses(call: Caller, changed: dict[str, Any]) -> None:
    assert call("POST", json={**DEAL, **changed}).status_code == 400
    assert call("POST", json=[DEAL]).status_code == 400
    assert call("GET").json()["@odata.count"] == 14


# As a service


def test_state_survives_the_process(tmp_path: Any) -> None:
    first = PartnerCenter(Store(tmp_path / "sandbox.db"), FakeClock())
    first._save({**first.store.get("partner_center.referral", MAIN), "name": "kept"})
    first.store.close()
    again = PartnerCenter(Store(tmp_path / "sandbox.db"), FakeClock())
    assert again.store.get("partner_center.referral", MAIN)["name"] == "kept"
    again.store.close()


def test_on_loopback_for_other_programs(call: Caller) -> None:
    server = serve({HOST: call.app})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        headers = {"Host": HOST, "Authorization": f"Bearer {sign_token(CLAIMS)}"}
        url = f"http://127.0.0.1:{server.server_address[1]}/v1.0/engagements/referrals/{MAIN}"
        with requests.get(url, headers=headers, timeout=10) as answer:
            assert answer.json()["id"] == MAIN
    finally:
        server.shutdown()
        server.server_close()


def test_two_writers_with_one_etag(call: Caller) -> None:
    etag, codes = call.etag(), list[int]()

    def write(n: int) -> None:
        codes.append(call.patch(MAIN, replace("/name", f"writer {n}"), **{"If-Match": etag}).status_code)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [204, 412, 412, 412, 412, 412]
