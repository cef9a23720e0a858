"""Webhooks of the sandbox's Partner Center: the registration API v1, and the host of the signing certificate.

Strict as its pages say: an application's or a user's token for https://api.partnercenter.microsoft.com, one
registration (409 for a second), known events only, a test event only for who is registered for it and at most two a
minute, kept for seven days. There is no DELETE.

Not documented, and chosen here: a URL is https, or http on loopback; a user's token needs MFA (401 with code 900421);
both notations of an event (names, address of the referral) come in turn; `related-…` events are never sent.

Sources: Partner Center developer pages on webhooks and webhook events; REST reference and Swagger of the webhooks API.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

from connectors.partner_center.dispatcher import CERTIFICATES, Dispatcher
from engine import JSON
from engine.sandbox import Emulator, Incoming, Refusal, Reply, read_token, route

RESOURCE = "https://api.partnercenter.microsoft.com"
ROOT = "/webhooks/v1/registration"
EVENTS = (
    "referral-created",
    "referral-updated",
    "related-referral-created",
    "related-referral-updated",
    "subscription-updated",
    "test-created",
    "usagerecords-thresholdExceeded",
)
WRITABLE = {
    name.lower(): name for name in ("WebhookUrl", "WebhookEvents", "SignatureTokenToMsSignatureHeader", "Properties")
}
READ_ONLY = frozenset({"subscriberid", "lastmodifiedtimestamp"})
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
A_MINUTE = 2  # test events
KEPT = timedelta(days=7)


class Webhooks(Emulator):
    """The registration of one partner. `changed` is told of referrals that have changed."""

    hosts: ClassVar[tuple[str, ...]] = (urlsplit(RESOURCE).netloc, CERTIFICATES)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.store, self.clock)

    def changed(self, referral: Mapping[str, JSON], *, created: bool) -> None:
        """Posts an event to the hook, if one is registered for it."""
        name = f"referral-{'created' if created else 'updated'}"
        if name not in (self._registration() or {}).get("WebhookEvents", ()):
            return
        at = str(referral["updatedDateTime"]).replace("Z", "+00:00")
        api = f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{referral['id']}"
        docs = f"{RESOURCE}/engagements/v1/referrals/{referral['id']}"
        number = self.store.next_number("partner_center.notation")
        event = {
            "EventName": name,
            "ResourceUri": docs if number % 2 else api,
            "ResourceName": "referral",
            "AuditUri": None,
            "ResourceChangeUtcDate": at,
        }
        if number % 2 == 0:
            event = {key[0].lower() + key[1:]: value for key, value in event.items()}
        self.dispatcher.queue(json.dumps(event, indent=4))

    def answer(self, request: Incoming) -> Reply:
        if request.host == CERTIFICATES:
            return self._blob(request)
        for header in ("ms-correlationid", "ms-requestid"):
            if not GUID.fullmatch(request.headers.get(header, str(uuid4()))):
                self._refuse(400, f"{header} must be a GUID")
        self._authorize(request)
        reply = super().answer(request)
        ids = {"MS-CorrelationId": request.headers.get("ms-correlationid", str(uuid4())), "MS-RequestId": str(uuid4())}
        return Reply(reply.status, reply.body, {**reply.headers, **ids})

    @route("GET", ROOT + "/events")
    def events(self, request: Incoming) -> Reply:
        return Reply(body=list(EVENTS))

    @route("GET", ROOT)
    def view(self, request: Incoming) -> Reply:
        return Reply(body={name: value for name, value in self._needed().items() if name != "SubscriberId"})

    @route("POST", ROOT)
    def create(self, request: Incoming) -> Reply:
        sent = self._sent(request)
        if self._registration() is not None:
            self._refuse(409, "Registration already exists, use the PUT method to update a registration.")
        return self._save({"SubscriberId": str(uuid4()), **sent})

    @route("PUT", ROOT)
    def update(self, request: Incoming) -> Reply:
        return self._save({"SubscriberId": self._needed()["SubscriberId"], **self._sent(request)})

    @route("POST", ROOT + "/validationEvents")
    def test(self, request: Incoming) -> Reply:
        registration, now = self._needed(), self.clock.now()
        if "test-created" not in registration["WebhookEvents"]:
            self._refuse(400, "the registration isn't for test-created")
        made = [datetime.fromisoformat(test["made"]) for _, test in self.store.all("partner_center.test")]
        if len(lately := [at for at in made if at > now - timedelta(minutes=1)]) >= A_MINUTE:
            wait = max(1, round((min(lately) + timedelta(minutes=1) - now).total_seconds()))
            body = {"statusCode": 429, "message": f"Rate limit is exceeded. Try again in {wait} seconds."}
            return Reply(429, body, {"Retry-After": str(wait)})
        id = str(uuid4())
        test = {"made": now.isoformat(), "status": "inProgress", "url": registration["WebhookUrl"], "results": []}
        self.store.put("partner_center.test", id, test)
        event = {
            "EventName": "test-created",
            "ResourceUri": f"{RESOURCE.replace('https', 'http')}{ROOT}/validationEvents/{id}",
            "ResourceName": "test",
            "AuditUri": None,
            "ResourceChangeUtcDate": f"{now:%Y-%m-%dT%H:%M:%S.%f}0+00:00",
        }
        self.dispatcher.queue(json.dumps(event, indent=4), id)
        return Reply(body={"correlationId": id})

    @route("GET", ROOT + "/validationEvents/{id}")
    def test_state(self, request: Incoming, id: str) -> Reply:
        test = self.store.get("partner_center.test", id)
        if test is None or datetime.fromisoformat(test["made"]) < self.clock.now() - KEPT:
            self._refuse(404, f"no test event {id}")
        body = {"correlationId": id, "partnerId": "00234d9d-8c2d-4ff5-8c18-39f8afc6f7f3", "status": test["status"]}
        return Reply(body={**body, "callbackUrl": test["url"], "results": test["results"]})

    # What they share

    def _authorize(self, request: Incoming) -> None:
        claims = read_token(request.bearer) if request.bearer else None
        now = self.clock.now().timestamp()
        if claims is None or claims.get("aud") != RESOURCE or claims.get("exp", 0) <= now:
            self._refuse(401, "the access token is missing, expired or for another audience")
        if claims.get("scp") and "mfa" not in claims.get("amr", ()):
            self._refuse(401, "MFA is required for this operation", 900421)

    def _registration(self) -> Any:
        return self.store.get("partner_center", "webhook")

    def _needed(self) -> Any:
        return self._registration() or self._refuse(404, "the tenant has no registration")

    def _save(self, registration: dict[str, JSON]) -> Reply:
        self.store.put("partner_center", "webhook", registration)
        self.dispatcher.wake()
        return Reply(body=registration)

    def _sent(self, request: Incoming) -> dict[str, JSON]:
        """A registration, checked, in the letters of Microsoft's pages."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "text/json"):
            self._refuse(415, "Content-Type must be application/json")
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._refuse(400, "the body must be a registration")
        sent = {str(name).lower(): value for name, value in body.items()}
        if unknown := sorted(sent.keys() - WRITABLE.keys() - READ_ONLY):
            self._refuse(400, f"unknown property {', '.join(unknown)}")
        if not _acceptable(sent.get("webhookurl")):
            self._refuse(400, "WebhookUrl must be an absolute https URL")
        events = sent.get("webhookevents")
        if not isinstance(events, list) or not events:
            self._refuse(400, "WebhookEvents is a list of names")
        if foreign := [str(event) for event in events if event not in EVENTS]:
            self._refuse(400, f"WebhookEvents: no event {', '.join(foreign)}")
        if not isinstance(sent.get("signaturetokentomssignatureheader", False), bool):
            self._refuse(400, "SignatureTokenToMsSignatureHeader is true or false")
        properties = sent.get("properties") or {}
        if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
            self._refuse(400, "Properties is a map of texts")
        return {WRITABLE[name]: value for name, value in sent.items() if name in WRITABLE}

    def _blob(self, request: Incoming) -> Reply:
        """The storage account's public container: whoever asks, with a credential or without, gets the file."""
        name = re.fullmatch(r"/cert/([^/]+)", request.path)
        found = self.dispatcher.authority.certificate(name[1]) if name else None
        if request.method not in ("GET", "HEAD"):
            return Reply(405)
        if found is None:
            return Reply(404, b"<Error><Code>BlobNotFound</Code></Error>", {"Content-Type": "application/xml"})
        return Reply(body=found, headers={"Content-Type": "application/octet-stream"})

    def not_found(self, request: Incoming) -> Reply:
        self._refuse(404, f"no resource at {request.path}")

    def wrong_method(self, request: Incoming) -> Reply:
        self._refuse(405, f"{request.method} is not allowed here")

    def _refuse(self, status: int, description: str, code: int = 0) -> NoReturn:
        """In the words of Partner Center's older API."""
        body = {"code": code or status * 10, "description": description, "data": [], "source": "PartnerWebhooks"}
        raise Refusal(Reply(status, body, {"MS-CorrelationId": str(uuid4())}))


def _acceptable(url: JSON) -> bool:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host = parts.hostname or ""
    except ValueError:
        return False
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))
