"""Partner Center of the sandbox: the referrals API v1.0 on api.partner.microsoft.com. Its webhooks are in webhooks.py.

Strict as its pages say: a user's token (App+User) of the right audience, unexpired, made with MFA (else 401 with code
900421), of the role Referral Admin for writes; eTags that change at every write; JSON Patch of add and replace; the
state machine; documented OData options only. Half of the paging links are broken in the way of Microsoft's samples
(http, no /engagements).

Not documented, and chosen here: a write to a closed referral is 409; another partner's referral is 403; a page has five
referrals, and $top is the size of a page. `store.put("partner_center", "throttle", n)` refuses the next n requests with
429, in the gateway's own error form.

Sources: Partner Center developer pages on referrals (resources, list, create, patch, headers, error codes).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from uuid import uuid4

import yaml

from connectors.partner_center.dispatcher import CERTIFICATES
from connectors.partner_center.dispatcher import ROOT as SANDBOX_ROOT
from connectors.partner_center.odata import filtered, ordered
from connectors.partner_center.shape import AT_CREATION, READ_ONLY, SHAPE, hold, patched, step_allowed
from connectors.partner_center.webhooks import Webhooks
from engine import JSON, Clock
from engine.sandbox import Emulator, Incoming, Refusal, Reply, Store, read_token, route

RESOURCE = "https://api.partner.microsoft.com"
PAGE = 5
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
OPTIONS = frozenset({"$filter", "$orderby", "$select", "$top", "$skiptoken"})
REQUIRED = ("type", "customerProfile", "consent", "details")
ROOT = "/v1.0/engagements/referrals"
PROPERTIES = READ_ONLY | SHAPE.keys()


class PartnerCenter(Emulator):
    """The referrals of one partner, Contoso."""

    hosts: ClassVar[tuple[str, ...]] = ("api.partner.microsoft.com", *Webhooks.hosts)
    connections: ClassVar[Mapping[str, Mapping[str, JSON]]] = {
        "partner_center": {
            "tenant": "5b0f4c1e-7d8a-4f1c-9a55-1d2e3f405060",
            "client_id": "0f6a1b2c-3d4e-4f50-8a9b-0c1d2e3f4a5b",
            "client_secret": "sandbox-partner-center-secret",
            "refresh_token": "sandbox-refresh-token",
            "webhook": {"roots": [f"https://{CERTIFICATES}/cert/{SANDBOX_ROOT}"]},
        }
    }
    collections: ClassVar[Mapping[str, tuple[str, str]]] = {"referrals": ("partner_center.referral", "id")}

    def __init__(self, store: Store | None = None, clock: Clock | None = None) -> None:
        super().__init__(store, clock)
        if self.webhooks.dispatcher.waiting():
            self.webhooks.dispatcher.wake()

    def seed(self) -> None:
        seed = _seed()
        self.store.put("partner_center", "roles", seed["roles"])
        self.store.put("partner_center", "organization", seed["organization"])
        for referral in seed["referrals"]:
            self._save({**dict.fromkeys(sorted(PROPERTIES)), **seed["organization"], **referral})

    def put_record(self, collection: str, record: Mapping[str, JSON]) -> None:
        """A referral as it is given; what it doesn't say is null."""
        hold({name: value for name, value in record.items() if name not in READ_ONLY}, SHAPE, "")
        organization = self.store.get("partner_center", "organization")
        self._save({**dict.fromkeys(sorted(PROPERTIES)), **organization, **record, "id": str(record["id"]).lower()})

    @cached_property
    def webhooks(self) -> Webhooks:
        """Its webhooks, which have hosts of their own."""
        return Webhooks(self.store, self.clock)

    def answer(self, request: Incoming) -> Reply:
        if request.host in Webhooks.hosts:
            return self.webhooks.answer(request)
        left = self.store.get("partner_center", "throttle") or 0
        if left > 0:
            self.store.put("partner_center", "throttle", left - 1)
            body = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}
            return Reply(429, body, {"Retry-After": "57"})
        client_request = request.headers.get("client-request-id")
        if client_request is not None and not GUID.fullmatch(client_request):
            self._refuse(400, "invalidRequest", "client-request-id must be a GUID")
        self._authorize(request)
        reply = super().answer(request)
        ids = {"Request-ID": str(uuid4()), **({"client-request-id": client_request} if client_request else {})}
        return Reply(reply.status, reply.body, {**reply.headers, **ids})

    # Operations

    @route("GET", ROOT + "/{id}")
    def get_one(self, request: Incoming, id: str) -> Reply:
        if request.query:
            self._refuse(400, "invalidRequest", "a single referral takes no query options")
        return self._reply(self._find(id))

    @route("GET", ROOT)
    def get_many(self, request: Incoming) -> Reply:
        options = self._options(request.query)
        try:
            test = filtered(options["$filter"]) if "$filter" in options else lambda _: True
            sort = ordered(options.get("$orderby", "createdDateTime"))
        except ValueError as error:
            self._refuse(400, "invalidRequest", str(error))
        mine = self.store.get("partner_center", "organization")["organizationId"]
        found = [r for _, r in self.store.all("partner_center.referral") if r["organizationId"] == mine and test(r)]
        sort(found)
        at, size = options.get("at", 0), int(options.get("$top", PAGE))
        wanted = [name.strip() for name in options.get("$select", "").split(",") if name.strip()]
        page = [{k: r[k] for k in wanted} if wanted else r for r in found[at : at + size]]
        body = {"@odata.context": f"{RESOURCE}/v1.0/$metadata#referrals", "@odata.count": len(found), "value": page}
        if at + size < len(found):
            rest = json.dumps({**options, "at": at + size}, sort_keys=True).encode()
            token = base64.urlsafe_b64encode(rest).decode()
            broken = at // size % 2 == 0  # as in Microsoft's sample
            base = f"http://{request.host}/v1.0/referrals" if broken else f"https://{request.host}{ROOT}"
            body["@odata.nextLink"] = f"{base}?$skiptoken={token}"
        return Reply(body=body)

    @route("POST", ROOT)
    def create(self, request: Incoming) -> Reply:
        sent = self._writer(request)
        if missing := [name for name in REQUIRED if not sent.get(name)]:
            self._refuse(400, "invalidRequest", f"required: {', '.join(missing)}")
        if not sent["customerProfile"].get("name"):
            self._refuse(400, "invalidRequest", "required: customerProfile/name")
        if sent.get("status", "New") == "Closed":
            self._refuse(400, "invalidRequest", "a referral can't be created closed")
        now = self._now()
        referral = {
            **dict.fromkeys(sorted(PROPERTIES)),
            "engagementId": str(uuid4()),
            **sent,
            **self.store.get("partner_center", "organization"),
            "id": str(uuid4()),
            "status": "Active",  # an outgoing deal begins accepted, whatever was sent
            "substatus": "Accepted",
            "direction": "Outgoing",
            "createdDateTime": now,
            "acceptedDateTime": now,
        }
        created = self._save(referral, touch=True)
        return self._reply(created, 201, {"Location": f"{RESOURCE}{ROOT}/{created['id']}"})

    @route("PATCH", ROOT + "/{id}")
    def patch(self, request: Incoming, id: str) -> Reply:
        operations = self._writer(request, check=False)
        before = self._find(id)
        self._match(request, before)
        try:
            after = patched(before, operations)
            step_allowed(before, after)
        except ValueError as error:
            self._refuse(400, "invalidRequest", str(error))
        saved = self._save(after, touch=True)
        if "return=representation" in request.headers.get("prefer", "").lower():
            return self._reply(saved)
        return Reply(204, None, {"ETag": saved["eTag"]})

    @route("PUT", ROOT + "/{id}")
    def replace(self, request: Incoming, id: str) -> Reply:
        sent = self._writer(request, check=False)
        before = self._find(id)
        if "if-match" not in request.headers:
            self._refuse(428, "preconditionFailed", "If-Match is required")
        self._match(request, before)
        if not isinstance(sent, dict):
            self._refuse(400, "invalidRequest", "the body must be a referral")
        fixed = {name: before[name] for name in READ_ONLY | AT_CREATION}
        if changed := sorted(name for name in fixed if name in sent and sent[name] != fixed[name]):
            self._refuse(400, "invalidRequest", f"{', '.join(changed)} can't be changed")
        after = {**dict.fromkeys(before), **sent, **fixed}  # what a PUT leaves out, it blanks
        try:
            hold({name: value for name, value in after.items() if name not in READ_ONLY}, SHAPE, "")
            step_allowed(before, after)
        except ValueError as error:
            self._refuse(400, "invalidRequest", str(error))
        return self._reply(self._save(after, touch=True))

    # Who may

    def _authorize(self, request: Incoming) -> None:
        claims = read_token(request.bearer) if request.bearer else None
        now = self.clock.now().timestamp()
        if claims is None or claims.get("aud") != RESOURCE or claims.get("exp", 0) <= now:
            self._refuse(401, "unauthenticated", "the access token is missing, expired or for another audience")
        if not claims.get("scp"):
            self._refuse(403, "accessDenied", "referrals need a user's token (App+User)")
        if "mfa" not in claims.get("amr", ()):
            inner = {"code": "900421", "message": "MFA is required for this operation"}
            self._refuse(401, "unauthenticated", "the sign-in doesn't satisfy MFA", inner)
        role = self.store.get("partner_center", "roles").get(claims.get("oid"))
        allowed = {"Referral Admin"} if request.method not in ("GET", "HEAD") else {"Referral Admin", "Referral User"}
        if role not in allowed:
            self._refuse(403, "accessDenied", f"{request.method} needs the role {' or '.join(sorted(allowed))}")

    # What the operations share

    def _find(self, id: str) -> Any:
        if not GUID.fullmatch(id):
            self._refuse(400, "invalidRequest", "a referral id is a GUID")
        referral = self.store.get("partner_center.referral", id.lower())
        if referral is None:
            self._refuse(404, "itemNotFound", f"no referral {id}")
        if referral["organizationId"] != self.store.get("partner_center", "organization")["organizationId"]:
            self._refuse(403, "accessDenied", "the referral belongs to another organization")
        return referral

    def _writer(self, request: Incoming, *, check: bool = True) -> Any:
        """The body of a write; with `check` a referral's properties."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            self._refuse(415, "invalidRequest", "Content-Type must be application/json")
        try:
            body = request.json()
            if check:
                if not isinstance(body, dict):
                    raise ValueError("the body must be a referral")
                hold(body, SHAPE, "")
        except ValueError as error:
            self._refuse(400, "invalidRequest", f"the body can't be read: {error}")
        return body

    def _match(self, request: Incoming, referral: Mapping[str, JSON]) -> None:
        expected = request.headers.get("if-match", "*")
        if expected not in ("*", referral["eTag"]):
            inner = {"code": "resourceModified", "message": "the eTag does not match"}
            self._refuse(412, "preconditionFailed", "If-Match does not match", inner)
        if referral["status"] == "Closed":
            self._refuse(409, "invalidRequest", "a closed referral can't be changed")

    def _save(self, referral: dict[str, JSON], *, touch: bool = False) -> dict[str, JSON]:
        number = self.store.next_number("partner_center.eTag")
        if touch:
            referral["updatedDateTime"] = self._now(number)
            if referral["status"] == "Active" and not referral["acceptedDateTime"]:
                referral["acceptedDateTime"] = referral["updatedDateTime"]
        if isinstance(value := (referral.get("details") or {}).get("dealValue"), str):
            referral["details"] = {**referral["details"], "dealValue": float(value)}
        referral["eTag"] = f'"{number:08x}-0000-0000-0000-5bf4967d0000"'
        uri = f"{RESOURCE}/v1.0/engagments/referrals/{referral['id']}"  # misspelt as in Microsoft's samples
        referral["links"] = {"self": {"uri": uri, "method": "GET"}}
        known = self.store.get("partner_center.referral", str(referral["id"])) is not None
        self.store.put("partner_center.referral", str(referral["id"]), referral)
        if touch:
            self.webhooks.changed(referral, created=not known)
        return referral

    def _now(self, number: int = 0) -> str:
        """Seven digits of fraction, as the service has them; the last one tells writes of one instant apart."""
        return f"{self.clock.now():%Y-%m-%dT%H:%M:%S.%f}{number % 10}Z"

    def _options(self, query: Mapping[str, str]) -> dict[str, Any]:
        if unknown := sorted(set(query) - OPTIONS):
            self._refuse(400, "invalidRequest", f"unknown query option {', '.join(unknown)}")
        if "$skiptoken" in query:
            try:
                if len(query) > 1:
                    raise ValueError("$skiptoken stands alone")
                return dict(json.loads(base64.urlsafe_b64decode(query["$skiptoken"])))
            except (ValueError, TypeError, binascii.Error):
                self._refuse(400, "invalidRequest", "$skiptoken isn't one of ours, or isn't alone")
        top = query.get("$top", "1")
        if not top.isdigit() or not 1 <= int(top) <= 1000:
            self._refuse(400, "invalidRequest", "$top must be a number from 1 to 1000")
        names = {name.strip() for name in query.get("$select", "").split(",") if name.strip()}
        if foreign := sorted(names - PROPERTIES):
            self._refuse(400, "invalidRequest", f"$select: no property {', '.join(foreign)}")
        return dict(query)

    def _reply(self, referral: Mapping[str, JSON], status: int = 200, more: Mapping[str, str] | None = None) -> Reply:
        return Reply(status, referral, {"ETag": str(referral["eTag"]), **(more or {})})

    # Refusals

    def not_found(self, request: Incoming) -> Reply:
        self._refuse(404, "itemNotFound", f"no resource at {request.path}")

    def wrong_method(self, request: Incoming) -> Reply:
        self._refuse(405, "invalidRequest", f"{request.method} is not allowed here")

    def _refuse(self, status: int, code: str, message: str, inner: Mapping[str, JSON] | None = None) -> NoReturn:
        error = {"code": code, "message": message[:1024], "target": None, "innerError": inner}
        headers = {"Request-ID": str(uuid4())}
        if status == 401:
            headers["WWW-Authenticate"] = f'Bearer realm="", error="{(inner or {}).get("code", "invalid_token")}"'
        raise Refusal(Reply(status, {"error": error}, headers))


@cache
def _seed() -> Any:
    return yaml.safe_load((Path(__file__).parent / "seed.yaml").read_text("utf-8"))
