"""The tenant's webhook registration: where Partner Center posts events, which ones, and a test event.

A tenant has one registration, and an event goes to one URL. The API documents no way to delete it.
Source: Partner Center developer pages on webhooks; REST reference and Swagger of the webhooks API v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

from connectors.partner_center.answers import done, json_of, object_of
from connectors.partner_center.events import EVENTS
from engine import (
    JSON,
    Connector,
    DataError,
    Doc,
    Entra,
    Pattern,
    Range,
    RemoteError,
    Result,
    Secret,
    Token,
    TransientError,
    operation,
)

if TYPE_CHECKING:
    from requests import Response

PATH = "/webhooks/v1/registration"
TEST = "test-created"
DELIVERED = frozenset({"OK", "Created", "Accepted", "NonAuthoritativeInformation", "NoContent", "ResetContent"})
MAY = "the application or the signed-in user needs a right to Partner Center's API; see `register_as`"
Header: TypeAlias = Literal["authorization", "x-ms-signature"]
HookUrl: TypeAlias = Annotated[
    str, Pattern(r"https?://[^\s/?#@]+/[^\s#]*", "a URL such as https://flows.example.com/…")
]
Host: TypeAlias = Annotated[str, Pattern(r"[A-Za-z0-9.-]+", "a host such as www.example.com")]


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """How calls to the hook are verified, and how it is registered."""

    mode: Annotated[
        Literal["strict", "observe", "external"],
        Doc("strict refuses what it can't verify; observe logs it and accepts; external asks `validator`"),
    ] = "strict"
    validator: Annotated[
        Secret | None, Doc("For external: the URL of a service that gets headers and body, and answers 200 or 401")
    ] = None
    roots: Annotated[
        list[str],
        Doc("CA certificates to trust: `default` (Mozilla's list, as certifi has it), PEM files, https URLs"),
    ] = field(default_factory=lambda: ["default"])
    organization: Annotated[str, Doc("Whose certificate it must be")] = "Microsoft Corporation"
    certificate_hosts: Annotated[list[Host], Doc("Where certificates may lie")] = field(
        default_factory=lambda: ["3psostorageacct.blob.core.windows.net"]
    )
    certificate_path: Annotated[str, Doc("Regular expression that a certificate's whole path must match")] = (
        r"/cert/[A-Za-z0-9._-]+\.cer"
    )
    issuer_hosts: Annotated[list[Host], Doc("Where the certificates of their issuers may lie, too")] = field(
        default_factory=lambda: ["www.microsoft.com", "caissuers.microsoft.com", "cacerts.digicert.com"]
    )
    replay_days: Annotated[float, Range(0.01, 366), Doc("An event about an older change is refused")] = 14
    register_as: Annotated[
        Literal["app", "user"] | None,
        Doc("Who registers; if not given, the application where it has a credential, else the signed-in user"),
    ] = None
    registration_url: Annotated[str, Doc("The webhooks API's origin")] = "https://api.partnercenter.microsoft.com"


class Registration(TypedDict):
    """Where events go."""

    url: str
    events: list[str]
    signature_in: Annotated[Header, Doc("The header that holds the signature")]


class ValidationEvent(TypedDict):
    """A test event that was asked for."""

    correlation_id: str


class Attempt(TypedDict):
    code: Annotated[str, Doc("The hook's answer, such as OK or Unauthorized")]
    message: str
    system_error: bool
    time: str


class ValidationResult(TypedDict):
    """How a test event fared. `delivered` says whether an attempt was answered with 2xx."""

    status: str
    delivered: bool
    attempts: list[Attempt]


class Registrations(Connector):
    """The operations on the registration. The connector that has them sets `_entra`."""

    settings: Any
    _entra: Entra

    @operation(effect="read")
    def webhook_events(self) -> Result[list[str]]:
        """The names of all events that can be registered for."""
        names = json_of(self._webhooks("GET", "/events"))
        if not isinstance(names, list):
            raise TransientError("the webhooks API gave no list of events", code="Malformed")
        return Result(body=sorted(map(str, names)), summary=f"{len(names)} events")

    @operation(effect="read")
    def show_webhook(self) -> Result[Registration | None]:
        """The tenant's registration; body null without one."""
        current = self._current()
        found = _registration(current) if current is not None else None
        return Result(body=found, summary=_said("registered", found) if found else "nothing is registered")

    @operation(effect="idempotent")
    def register_webhook(
        self,
        url: Annotated[HookUrl, Doc("Where events are to be posted")],
        events: Annotated[
            list[str] | None, Doc("Their names; by default all about referrals, and test-created")
        ] = None,
        signature_in: Annotated[
            Header | None, Doc("The header for the signature; not given: as it is, else authorization")
        ] = None,
    ) -> Result[Registration]:
        """Register a hook. A registration that is there gets this URL, and these events beside those that it has."""
        wanted = _body(url, events or EVENTS, signature_in or "authorization")
        answer = self._answer("POST", "", json=wanted)
        if answer.status_code != 409:
            made = _registration(wanted | object_of(self._accepted(answer)))
            return Result(body=made, changed=True, summary=_said("registered", made))
        current = self._needed()
        was = _registration(current)
        now = _body(url, {*was["events"], *wanted["WebhookEvents"]}, signature_in or was["signature_in"])
        return self._put(current, was, now)

    @operation(effect="idempotent")
    def update_webhook(
        self,
        url: HookUrl | None = None,
        events: Annotated[list[str] | None, Doc("All that are wanted: others end")] = None,
        signature_in: Annotated[Header | None, Doc("The header for the signature; default: as it is")] = None,
    ) -> Result[Registration]:
        """Change what is given of the registration. RemoteError NotRegistered: there is none."""
        current = self._needed()
        was = _registration(current)
        now = _body(url or was["url"], events or was["events"], signature_in or was["signature_in"])
        return self._put(current, was, now)

    @operation(effect="idempotent")
    def delete_webhook(self) -> Result[Registration | None]:
        """End the delivery of events about referrals, and of all others.

        The API can't delete a registration: it stays with the one event that nothing sends but a test.
        """
        current = self._current()
        if current is None:
            return Result(body=None, summary="nothing is registered")
        was = _registration(current)
        left = self._put(current, was, _body(was["url"], [TEST], was["signature_in"]))
        return Result(body=left.body, changed=left.changed, summary=left.summary)

    @operation(effect="idempotent")
    def test_webhook(self) -> Result[ValidationEvent]:
        """Have a test-created event posted to the hook: at most two a minute. The hook must be registered for it."""
        body = json_of(self._webhooks("POST", "/validationEvents"))
        id = body.get("correlationId") if isinstance(body, dict) else body
        if not isinstance(id, str):
            raise TransientError("the webhooks API gave no id of the test event", code="Malformed")
        return Result(body=ValidationEvent(correlation_id=id), changed=True, summary=f"asked for test event {id}")

    @operation(effect="read")
    def webhook_test(self, correlation_id: Annotated[str, Doc("What test_webhook gave")]) -> Result[ValidationResult]:
        """How a test event fared, attempt by attempt. Known for seven days."""
        if not correlation_id.replace("-", "").isalnum():
            raise DataError("correlation_id is no id of a test event", code="CorrelationId")
        found = _lower(object_of(self._webhooks("GET", f"/validationEvents/{correlation_id}")))
        attempts = [_attempt(_lower(one)) for one in found.get("results") or [] if isinstance(one, dict)]
        delivered = any(one["code"] in DELIVERED and not one["system_error"] for one in attempts)
        body = ValidationResult(status=str(found.get("status")), delivered=delivered, attempts=attempts)
        return Result(body=body, summary=f"{body['status']} after {len(attempts)} attempts")

    # The API

    def _current(self) -> dict[str, JSON] | None:
        answer = self._answer("GET", "")
        return None if answer.status_code == 404 else _lower(object_of(self._accepted(answer)))

    def _needed(self) -> dict[str, JSON]:
        current = self._current()
        if current is None:
            raise RemoteError("the tenant has no webhook registration", code="NotRegistered", hint="register one first")
        return current

    def _put(self, current: Mapping[str, JSON], was: Registration, now: Mapping[str, JSON]) -> Result[Registration]:
        wanted = _registration(now)
        if was == wanted:
            return Result(body=was, summary="already registered so")
        kept = {"Properties": current["properties"]} if current.get("properties") else {}
        self._webhooks("PUT", "", json={**now, **kept})
        return Result(body=wanted, changed=True, summary=_said(f"changed, was {_said('', was)}; now", wanted))

    def _webhooks(self, method: str, path: str, **options: Any) -> Response:
        return self._accepted(self._answer(method, path, **options))

    def _accepted(self, answer: Response) -> Response:
        if done(answer):
            return answer
        error = self.failure(answer)
        if answer.status_code == 403:
            error.hint = MAY
        raise error

    def _answer(self, method: str, path: str, **options: Any) -> Response:
        """One request, by a session that reaches this host alone and with a token for it alone.

        The request id is the same on every repeat of a step, as the API wants it.
        """
        base, key = self.settings.webhook.registration_url.rstrip("/"), self.ctx.idempotency_key
        request = uuid5(NAMESPACE_URL, f"{key} {method} {path}") if key else uuid4()
        return self.ctx.session.bound({urlsplit(base).netloc}).request(
            method,
            f"{base}{PATH}{path}",
            headers={"MS-RequestId": str(request), "MS-CorrelationId": str(uuid4())},
            authorize=self._entra.authorizer(self._registrar),
            **options,
        )

    def _registrar(self, renew: bool) -> Token:
        """App-only or App+User: the API takes both."""
        scope = f"{self.settings.webhook.registration_url.rstrip('/')}/.default"
        who = self.settings.webhook.register_as or ("app" if self._entra.credential else "user")
        return (self._entra.client_token if who == "app" else self._entra.user_token)(scope, renew=renew)


def _body(url: str, events: Iterable[str], signature_in: Header) -> dict[str, JSON]:
    """A registration in the API's words."""
    return {
        "WebhookUrl": url,
        "WebhookEvents": sorted(set(events)),
        "SignatureTokenToMsSignatureHeader": signature_in == "x-ms-signature",
    }


def _registration(given: Mapping[str, JSON]) -> Registration:
    found = _lower(given)
    return Registration(
        url=str(found.get("webhookurl") or ""),
        events=sorted(map(str, found.get("webhookevents") or [])),
        signature_in="x-ms-signature" if found.get("signaturetokentomssignatureheader") else "authorization",
    )


def _lower(given: Mapping[str, JSON]) -> dict[str, JSON]:
    """Its keys in lower case: pages and Swagger of the API differ in their letters."""
    return {str(name).lower(): value for name, value in given.items()}


def _attempt(given: Mapping[str, JSON]) -> Attempt:
    return Attempt(
        code=str(given.get("responsecode") or ""),
        message=str(given.get("responsemessage") or ""),
        system_error=bool(given.get("systemerror")),
        time=str(given.get("datetimeutc") or ""),
    )


def _said(what: str, found: Registration) -> str:
    """Without the URL's path: a hook's ends in a token."""
    return f"{what} {urlsplit(found['url']).netloc} for {len(found['events'])} events".strip()
