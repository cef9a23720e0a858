"""The foreign services have teeth: what the pages forbid is refused, and a credential gone astray is noticed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import pytest
from foreign import CRM_APP, PC_APP, Foreign, foreign
from foreign_dataverse import CRM
from foreign_dataverse import ROOT as WEB_API
from foreign_entra import LOGIN, TENANT
from foreign_partner import REFERRALS, ROOT, sample

ID = "0a1b2c3d-1111-4222-8333-444455556666"
ODATA = {"OData-Version": "4.0", "OData-MaxVersion": "4.0", "Accept": "application/json"}
BY_KEY = f"leads(new_referralid='{ID}')"


@dataclass
class Client:
    """Bare HTTP, as a careless program would speak it."""

    far: Foreign

    def ask(self, method: str, host: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.far.server_port, timeout=5)
        sent = {"Host": host, "X-Forwarded-Proto": "https", "Accept": "application/json"}
        data = body if isinstance(body, str) else None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if data is not None else {}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, {**sent, **kind, **names})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text

    def token(self, client: str, **form: str) -> tuple[int, Any]:
        known = {"client_id": client, "client_secret": self.far.entra.applications[client].secret}
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", LOGIN, f"/{TENANT}/oauth2/v2.0/token", urlencode(known | form), **kind)

    def crm_token(self) -> str:
        status, body = self.token(CRM_APP, grant_type="client_credentials", scope=f"https://{CRM}/.default")
        assert status == 200, body
        return str(body["access_token"])

    def user_token(self) -> str:
        form = {"grant_type": "refresh_token", "scope": f"https://{REFERRALS}/.default"}
        status, body = self.token(PC_APP, refresh_token=self.far.refresh_token, **form)
        assert status == 200, body
        return str(body["access_token"])

    def referral(self, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
        own = {"Authorization": f"Bearer {self.user_token()}", "client_request_id": str(uuid.uuid4())}
        return self.ask(method, REFERRALS, f"{ROOT}/{ID}", body, **(own | headers))

    def crm(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        own = {"Authorization": f"Bearer {self.crm_token()}", **ODATA}
        return self.ask(method, CRM, WEB_API + path, body, **(own | headers))


@pytest.fixture
def client() -> Iterator[Client]:
    with foreign() as far:
        far.referrals.put(sample(ID))
        yield Client(far)


def test_sign_in(client: Client) -> None:
    assert client.token(CRM_APP, grant_type="client_credentials", scope="https://other.example/.default")[0] == 400
    assert client.token(CRM_APP, grant_type="client_credentials", scope=f"https://{REFERRALS}/.default")[0] == 400
    assert client.token(PC_APP, grant_type="password", scope=f"https://{REFERRALS}/.default")[0] == 400
    wrong = {"client_secret": "wrong", "grant_type": "client_credentials", "scope": f"https://{CRM}/.default"}
    status, body = client.token(CRM_APP, **wrong)
    assert (status, body["error"], body["error_codes"]) == (401, "invalid_client", [7000215])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": "Bearer nothing"}, 401),
        ({"client_request_id": "1"}, 400),
        ({"Accept": "text/html"}, 406),
    ],
)
def test_headers_of_referrals(client: Client, headers: dict[str, str], status: int) -> None:
    assert client.referral(**headers)[0] == status


@pytest.mark.parametrize(
    ("operation", "headers", "status"),
    [
        ({"op": "add", "path": "/externalReferenceId", "value": "x"}, {}, 204),
        ({"op": "add", "path": "/externalReferenceId", "value": "x"}, {"Prefer": "return=representation"}, 200),
        ({"op": "add", "path": "/externalReferenceId", "value": "x"}, {"If_Match": '"old"'}, 412),
        ({"op": "add", "path": "/externalReferenceId", "value": "x"}, {"Content_Type": "text/plain"}, 415),
        ({"op": "add", "path": "/externalReferenceId", "value": 7}, {}, 400),
        ({"op": "remove", "path": "/name"}, {}, 400),
        ({"op": "replace", "path": "/nosuch", "value": 1}, {}, 400),
        ({"op": "replace", "path": "/id", "value": ID}, {}, 400),
        ({"op": "replace", "path": "/status", "value": "New"}, {}, 400),
        ({"op": "replace", "path": "/status", "value": "Closed"}, {}, 400),  # without its substatus
        ({"op": "replace", "path": "/details/dealValue", "value": "much"}, {}, 400),
        ({"op": "replace", "path": "/details/closingDateTime", "value": "2027-01-01"}, {}, 400),
        ({"op": "replace", "path": "/details/currency", "value": None}, {}, 204),
    ],
)
def test_patches_of_referrals(client: Client, operation: dict[str, Any], headers: dict[str, str], status: int) -> None:
    before = client.far.referrals.records[ID]
    assert client.referral("PATCH", [operation], **headers)[0] == status
    assert (client.far.referrals.records[ID]["eTag"] != before["eTag"]) == (status < 300)


def test_a_closed_referral_takes_nothing(client: Client) -> None:
    client.far.referrals.edit(ID, status="Closed", substatus="Won")
    assert client.referral("PATCH", [{"op": "add", "path": "/name", "value": "x"}])[0] == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", BY_KEY, None, {}, 404),
        ("GET", "leads?$select=nosuch", None, {}, 400),
        ("GET", "leads?$top=1&$top=2", None, {}, 400),
        ("GET", "leads(subject='x')", None, {}, 400),
        ("GET", "leads(new_referralid='a%26b')", None, {}, 400),
        ("GET", "lead", None, {}, 404),
        ("GET", "leads", None, {"OData_Version": "3.0"}, 400),
        ("GET", "leads", None, {"Authorization": "Bearer nothing"}, 401),
        ("PATCH", BY_KEY, {"subject": "x"}, {}, 204),
        ("PATCH", BY_KEY, {"subject": "x"}, {"Prefer": "return=representation"}, 201),
        ("PATCH", BY_KEY, {"subject": "x"}, {"If_Match": "*"}, 404),
        ("PATCH", BY_KEY, {"nosuch": "x"}, {}, 400),
        ("PATCH", BY_KEY, {"subject": "x" * 301}, {}, 400),
        ("PATCH", BY_KEY, {"subject": "\u0001"}, {}, 400),
        ("PATCH", BY_KEY, {"estimatedamount": "5"}, {}, 400),
        ("PATCH", BY_KEY, {"estimatedclosedate": "2027-01-01T00:00:00Z"}, {}, 400),
        ("PATCH", BY_KEY, {"leadsourcecode": 99}, {}, 400),
        ("PATCH", BY_KEY, {"statecode": 1}, {}, 400),
        ("PATCH", BY_KEY, {"transactioncurrencyid": ID}, {}, 400),
        ("PATCH", BY_KEY, {"transactioncurrencyid@odata.bind": f"/transactioncurrencies({ID})"}, {}, 404),
        ("PATCH", BY_KEY, "{", {}, 400),
        ("PUT", BY_KEY, {}, {}, 405),
    ],
)
def test_the_web_api(client: Client, method: str, path: str, body: Any, headers: dict[str, str], status: int) -> None:
    assert client.crm(method, path, body, **headers)[0] == status
    assert len(client.far.crm.leads) == (1 if status in (201, 204) else 0)
    assert client.far.crashes == []


def test_keys_and_etags_of_leads(client: Client) -> None:
    back = {"Prefer": "return=representation"}
    status, made = client.crm("PATCH", BY_KEY, {"subject": "x"}, If_None_Match="*", **back)
    assert status == 201
    assert client.crm("PATCH", BY_KEY, {"subject": "y"}, If_None_Match="*")[0] == 412
    assert client.crm("PATCH", BY_KEY, {"subject": "y"}, If_Match='W/"1"')[0] == 412
    assert client.crm("POST", "leads", {"subject": "z", "new_referralid": ID.upper()})[0] == 412
    assert client.crm("PATCH", BY_KEY, {"subject": "y"}, If_Match=made["@odata.etag"], **back)[0] == 200
    assert [row["subject"] for row in client.far.crm.leads] == ["y"]
    client.far.crm.edit(made["leadid"], statecode=1, statuscode=3)
    assert client.crm("PATCH", BY_KEY, {"subject": "closed"})[0] == 400


def test_a_token_gone_astray_is_noticed(client: Client) -> None:
    assert client.referral()[0] == 200
    assert client.far.leaks == []
    assert client.referral(Authorization=f"Bearer {client.crm_token()}")[0] == 401
    assert len(client.far.leaks) == 1
    client.crm("GET", f"leads?x={client.crm_token()}")
    client.crm("GET", "leads", x_debug=client.far.refresh_token)
    client.ask("GET", "elsewhere.example", "/")
    assert len(client.far.leaks) == 4


def test_credentials_are_found_in_what_is_left_behind(client: Client) -> None:
    assert client.far.credentials_in(b"EwB and 1.A and a journal") == []
    token, secret = client.crm_token(), client.far.variables["CRM_SECRET"]
    for text, there in ((f"x{token}y", token), (client.far.refresh_token, client.far.refresh_token), (secret, secret)):
        assert client.far.credentials_in(f"bytes {text} bytes".encode()) == [there]
    assert client.far.credentials_in(urlencode({"client_secret": secret}).encode()) == [secret]
    client.far.renew()
    assert client.far.credentials_in(token.encode()) == [token]
