"""A foreign Partner Center: the referrals API v1.0 by Microsoft's pages on referrals, headers and error codes."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from foreign_entra import Token
from foreign_wire import Answer, Ask, Now, refuse

REFERRALS = "api.partner.microsoft.com"
RESOURCE = f"https://{REFERRALS}"
ROOT = "/v1.0/engagements/referrals"
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)")
STATES = {"New": ("New", "Active", "Closed"), "Active": ("Active", "Closed"), "Closed": ("Closed",)}
SUBSTATES = {
    "New": ("Pending", "Received"),
    "Active": ("Accepted",),
    "Closed": ("Won", "Lost", "Declined", "Expired"),
}
READ_ONLY = ("id", "engagementId", "organizationId", "createdDateTime", "updatedDateTime", "eTag", "links", "direction")
TEXTS = ("name", "externalReferenceId", "statusReason", "details/notes")
EDITABLE = (
    *TEXTS, "status", "substatus", "details", "details/dealValue", "details/currency", "details/closingDateTime",
    "team", "consent", "target",
)  # fmt: skip
# The forms of an eTag inside a referral; by the last one it stands in the answer's header alone.
QUOTED, WEAK, BARE, HEADER = '"{}"', 'W/"{}"', "{}", ""


def sample(id: str, **properties: Any) -> dict[str, Any]:
    """A referral with everything that the pages name; `properties` stand in place of it."""
    return {
        "id": id,
        "engagementId": str(uuid.uuid5(uuid.NAMESPACE_OID, id)),
        "organizationId": "3b33e682-00f1-4f8e-8d92-a3a1b7a1b8f4",
        "organizationName": "Fabrikam Partner",
        "name": "Tailspin rollout",
        "externalReferenceId": None,
        "createdDateTime": "2026-11-18T08:01:42.6178337Z",
        "updatedDateTime": "2026-11-19T17:30:05.1Z",
        "expirationDateTime": "2026-12-02T08:01:42.6178337Z",
        "acceptedDateTime": None,
        "status": "Active",
        "substatus": "Accepted",
        "statusReason": None,
        "type": "Independent",
        "qualification": "Direct",
        "direction": "Incoming",
        "referralSource": None,
        "callToAction": None,
        "customerProfile": {
            "name": "Tailspin Toys",
            "address": {
                "addressLine1": "1 Harbour Road", "addressLine2": "Floor 3", "city": "Bristol", "state": "Avon",
                "postalCode": "BS1 4ND", "country": "GB", "region": None,
            },
            "size": "51to250employees",
            "team": [
                {"firstName": "Kim", "lastName": "Okafor", "phoneNumber": "+44 117 496 0001",
                 "email": "kim.okafor@tailspin.example", "contactPreference": None},
                {"firstName": "Sam", "lastName": "Second", "phoneNumber": None, "email": None},
            ],
            "ids": [{"profileType": "External", "id": "T-77"}],
        },
        "consent": {"consentToToShareInfoWithOthers": True, "consentToContact": True},
        "details": {
            "notes": "Wants to move 120 seats.",
            "dealValue": 12500.5,
            "currency": "USD",
            "closingDateTime": "2027-01-31T00:00:00Z",
            "requirements": {"industries": [{"id": "Retail"}], "products": [], "services": [], "solutions": []},
            "additionalRequirements": None,
        },
        "team": [{"firstName": "Ana", "lastName": "Ours", "phoneNumber": None, "email": "ana@fabrikam.example"}],
        "target": [{"id": "loc-1", "type": "BusinessProfileLocation"}],
        "inviteContext": {"notes": "", "invitedBy": {"organizationId": "msft", "organizationName": "Microsoft"}},
        "links": {"self": {"uri": f"/engagments/referrals/{id}", "method": "GET"}, "relatedReferrals": None},
        **properties,
    }  # fmt: skip


class Referrals:
    """One partner's referrals. `verify` finds the token of a request; `form` is how eTags are written."""

    def __init__(self, now: Now, verify: Callable[[str], Token | None]) -> None:
        self.now = now
        self.verify = verify
        self.form = QUOTED
        self.records: dict[str, dict[str, Any]] = {}
        self.answered: set[str] = set()  # the ids of requests that were carried out
        self.remarks: list[str] = []  # what is allowed and yet not as the pages want it
        self.patched: list[tuple[str, list[dict[str, Any]]]] = []

    def put(self, referral: dict[str, Any]) -> None:
        """Stores a referral under a new eTag."""
        tag = f"{uuid.uuid4().hex[:8]}-0000-0000-0000-{uuid.uuid4().hex[:12]}"
        stored = {**copy.deepcopy(referral), "eTag": (self.form or QUOTED).format(tag)}
        self.records[str(referral["id"]).lower()] = stored

    def edit(self, id: str, **properties: Any) -> None:
        """What a person changes in the portal."""
        stamp = datetime.fromtimestamp(self.now(), UTC)
        self.put({**self.records[id], **properties, "updatedDateTime": f"{stamp:%Y-%m-%dT%H:%M:%S}.1234567Z"})

    def answer(self, ask: Ask) -> Answer:
        echo = {"request-id": str(uuid.uuid4()), "client-request-id": ask.header("client-request-id")}
        token = self.verify(ask.bearer)
        if token is None:
            _refuse(401, "unauthenticated", "The access token is missing, expired or for another audience.",
                    {"WWW-Authenticate": 'Bearer error="invalid_token"'})  # fmt: skip
        if not token.user:
            _refuse(401, "unauthenticated", "App only access is not supported. Use App+User credentials.")
        if not token.mfa:
            _refuse(401, "900421", "MFA required for the user principal.")
        if not GUID.fullmatch(ask.header("client-request-id")):
            _refuse(400, "invalidRequest", "The header client-request-id must be a GUID.")
        if ask.header("client-request-id") in self.answered:
            _refuse(400, "invalidRequest", "The header client-request-id must be new for each call.")
        if not re.search(r"application/json|\*/\*", ask.header("Accept")):
            _refuse(406, "invalidRequest", "Only application/json is served.")
        if not ask.path.startswith(ROOT):
            _refuse(404, "itemNotFound", f"No HTTP resource was found that matches the request URI {ask.path}.")
        answer = self._route(ask)
        self.answered.add(ask.header("client-request-id"))
        return Answer(answer.status, answer.body, {**echo, **answer.headers}, answer.kind)

    def _route(self, ask: Ask) -> Answer:
        id = ask.path.removeprefix(ROOT).removeprefix("/")
        if not id:
            return self._list(ask)
        if ask.query:
            _refuse(400, "invalidRequest", "Query options are for lists.")
        found = self.records.get(id.lower()) if GUID.fullmatch(id) else None
        if found is None:
            _refuse(404, "itemNotFound", f"Referral {id} does not exist.")
        if ask.method not in ("GET", "PATCH"):
            _refuse(405, "invalidRequest", f"{ask.method} is not allowed.", {"Allow": "GET, PATCH, PUT"})
        return self._patch(ask, found) if ask.method == "PATCH" else Answer(200, self._shown(found), _tagged(found))

    def _shown(self, found: dict[str, Any]) -> dict[str, Any]:
        return {k: copy.deepcopy(v) for k, v in found.items() if k != "eTag" or self.form != HEADER}

    def _list(self, ask: Ask) -> Answer:
        if ask.method != "GET":
            _refuse(405, "invalidRequest", f"{ask.method} is not served here.")
        asked = ask.query
        if unknown := asked.keys() - {"$top", "$skiptoken", "$orderby"}:
            _refuse(400, "invalidRequest", f"Not supported: {', '.join(unknown)}")
        start, size = int(asked.get("$skiptoken", "0")), int(asked.get("$top", "50"))
        everything = [*self.records.values()]
        body: dict[str, Any] = {"@odata.context": f"{RESOURCE}/v1.0/$metadata#referrals"}
        body |= {"@odata.count": len(everything), "value": copy.deepcopy(everything[start : start + size])}
        if start + size < len(everything):  # without https and /engagements, as Microsoft's own sample has it
            body["@odata.nextLink"] = f"http://{REFERRALS}/v1.0/referrals?$top={size}&$skiptoken={start + size}"
        return Answer(200, body)

    def _patch(self, ask: Ask, found: Mapping[str, Any]) -> Answer:
        if ask.header("Content-Type").partition(";")[0].strip() != "application/json":
            _refuse(415, "invalidRequest", "The media type of the body is not supported.")
        match = ask.header("If-Match")
        if not match:
            self.remarks.append("PATCH without If-Match")
        elif match not in (found["eTag"], _header(found["eTag"])):
            _refuse(412, "preconditionFailed", "The resource has been modified.", inner="resourceModified")
        try:
            operations = ask.json()
        except ValueError:
            _refuse(400, "invalidRequest", "The request body is not valid JSON.")
        if not isinstance(operations, list) or not operations:
            _refuse(400, "invalidRequest", "A JSON Patch document is an array of operations.")
        changed = copy.deepcopy(dict(found))
        for operation in operations:
            _apply(changed, operation)
        _judge(found, changed)
        self.patched.append((str(found["id"]), operations))
        stamp = datetime.fromtimestamp(self.now(), UTC)
        if changed["status"] == "Active" and found["status"] != "Active":
            changed["acceptedDateTime"] = f"{stamp:%Y-%m-%dT%H:%M:%S}.0000001Z"
        self.put({**changed, "updatedDateTime": f"{stamp:%Y-%m-%dT%H:%M:%S}.7654321Z"})
        stored = self.records[str(found["id"]).lower()]
        if ask.prefers.get("return") != "representation":
            return Answer(204, None, _tagged(stored))
        return Answer(200, self._shown(stored), {**_tagged(stored), "Preference-Applied": "return=representation"})


def _tagged(referral: Mapping[str, Any]) -> dict[str, str]:
    return {"ETag": _header(referral["eTag"])}


def _header(tag: str) -> str:
    """An eTag as a header must hold it (RFC 9110 §8.8.3)."""
    return tag if tag.endswith('"') else f'"{tag}"'


def _refuse(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, inner: str = ""
) -> NoReturn:
    error = {"code": code, "message": message, "target": None, "innerError": {"code": inner} if inner else None}
    refuse(status, {"error": error}, headers)


def _apply(document: dict[str, Any], operation: Any) -> None:
    """One operation of RFC 6902 on the referral as it is shown: what isn't there can be added, not replaced."""
    if not isinstance(operation, dict) or operation.keys() != {"op", "path", "value"}:
        _refuse(400, "invalidRequest", "An operation has op, path and value.")
    op, path, value = operation["op"], operation["path"], operation["value"]
    if op not in ("add", "replace"):
        _refuse(400, "invalidRequest", f"The operation '{op}' is not supported.")
    keys = str(path).removeprefix("/").split("/")
    name = "/".join(keys)
    if not str(path).startswith("/") or keys[0] in READ_ONLY:
        _refuse(400, "invalidRequest", f"'{path}' can't be changed.")
    if name not in EDITABLE and not re.fullmatch(r"(team|target)/(-|\d+)", name):
        _refuse(400, "invalidRequest", f"The target location specified by path segment '{path}' was not found.")
    node: Any = document
    for key in keys[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, list) and keys[-1] == "-" and op == "add":
        node.append(value)
        return
    if not isinstance(node, dict) or (op == "replace" and keys[-1] not in node):
        _refuse(400, "invalidRequest", f"The target location specified by path '{path}' was not found.")
    node[keys[-1]] = value


def _judge(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuses a referral that can't be so."""
    if before["status"] == "Closed":
        _refuse(409, "invalidRequest", "A closed referral can't be changed.")
    status, substatus = after.get("status"), after.get("substatus")
    if status not in STATES[str(before["status"])] or substatus not in SUBSTATES[str(status)]:
        _refuse(400, "invalidRequest", f"The status {status}/{substatus} is not allowed here.", inner="invalidStatus")
    details = after.get("details")
    if not isinstance(details, dict | None):
        _refuse(400, "invalidRequest", "details is an object.")
    for path in TEXTS:
        value: Any = after
        for key in path.split("/"):
            value = (value or {}).get(key)
        if not isinstance(value, str | None):
            _refuse(400, "invalidRequest", f"{path} is a text.")
    value = (details or {}).get("dealValue")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (value is None or number or (isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value))):
        _refuse(400, "invalidRequest", "details.dealValue is a decimal number.")
    currency = (details or {}).get("currency")
    if currency is not None and not (isinstance(currency, str) and re.fullmatch(r"[A-Za-z]{3}", currency)):
        _refuse(400, "invalidRequest", "details.currency is a code of ISO 4217.")
    closing = (details or {}).get("closingDateTime")
    if closing is not None and not (isinstance(closing, str) and TIME.fullmatch(closing)):
        _refuse(400, "invalidRequest", "details.closingDateTime is a date-time with its offset.")
