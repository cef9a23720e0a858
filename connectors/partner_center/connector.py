"""Microsoft Partner Center, referrals API v1.0: read, list, create and change referrals; their webhook events.

Every call is made for a signed-in user (App+User) of the role Referral Admin; Microsoft demands that the user signs in
with MFA. Source: Partner Center developer pages on referrals, webhooks and authentication.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypedDict
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from connectors.partner_center.answers import done, error_in, json_of, object_of
from connectors.partner_center.events import EVENTS, GUID, events, referral_id
from connectors.partner_center.patch import OnForeignId, Plan, plan
from connectors.partner_center.referral import Consent, CustomerProfile, Details, Referral, contact, paths
from connectors.partner_center.registration import Registrations, Webhook
from engine import (
    JSON,
    PUBLIC_CLOUD,
    Certificate,
    ConfigError,
    Context,
    DataError,
    Difference,
    Doc,
    Entra,
    Event,
    Finding,
    FlowrunError,
    Guid,
    Place,
    Range,
    RemoteError,
    Request,
    Result,
    Schema,
    Secret,
    Token,
    TransientError,
    operation,
)

if TYPE_CHECKING:
    from requests import Response

    from connectors.partner_center.signature import Verifier

REAPPLIED = 3  # times that a change is planned anew after somebody else's edit
NO_MFA = re.compile(r"(?<!\d)900421(?!\d)")
ADMIN = "the signed-in user needs the role Referral Admin in Partner Center"
# The codes that the API documents; the most specific known one counts, others are tolerated.
CODES: Mapping[str, tuple[str, str]] = {
    code.lower(): (code, hint)
    for code, hint in {
        "accessDenied": ADMIN,
        "generalException": "",
        "insufficent_claims": "Conditional Access asks for more (the spelling is Microsoft's): sign in anew",
        "invalidRequest": "",
        "itemNotFound": "",
        "preconditionFailed": "",
        "resourceModified": "somebody else has changed it meanwhile",
        "serviceNotAvailable": "",
        "unauthenticated": "check `tenant`, `client_id` and the sign-in: `flowrun connections check`",
        "unauthorized": "check `tenant`, `client_id` and the sign-in: `flowrun connections check`",
    }.items()
}


class TokenInfo(TypedDict):
    """What is known of the connection's token; never the token."""

    account: Annotated[str, Doc("The user who signed in")]
    expires_at: Annotated[str, Doc("RFC 3339")]
    scopes: list[str]


class Referrals(TypedDict):
    items: list[Referral]
    count: Annotated[int, Doc("How many match in all, as far as the service says, else the number of items")]


class Updated(TypedDict):
    """A referral after an update, and what was left alone."""

    id: str | None
    eTag: str | None
    status: str | None
    substatus: str | None
    externalReferenceId: str | None
    referral: Referral
    skipped: Annotated[list[str], Doc("What was left alone and why: 'PATH: reason'")]


class PartnerCenter(Registrations):
    """Microsoft Partner Center referrals API v1.0."""

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        tenant: Annotated[str, Doc("The partner's tenant: GUID or domain")]
        client_id: Annotated[Guid, Doc("The app registration's application id")]
        client_secret: Annotated[Secret | None, Doc("Its client secret's value")] = None
        certificate: Annotated[Secret | None, Doc("Instead of the secret: the certificate's private key, PEM")] = None
        thumbprint: Annotated[str | None, Doc("The certificate's SHA-1 thumbprint")] = None
        refresh_token: Annotated[
            Secret | None, Doc("Of a user who signed in with MFA (Secure Application Model); later ones are kept")
        ] = None
        auth: Annotated[
            Literal["refresh_token", "device_code"],
            Doc("device_code: the user comes from `flowrun login` alone"),
        ] = "refresh_token"
        base_url: Annotated[str, Doc("The API's origin")] = "https://api.partner.microsoft.com"
        authority: Annotated[str, Doc("The sign-in service, where it isn't the public cloud's")] = PUBLIC_CLOUD
        webhook: Annotated[Webhook, Doc("How events are verified")] = field(default_factory=Webhook)

    settings: Settings
    functions: ClassVar[Mapping[str, Callable[..., JSON]]] = {"contact": contact, "referral_id": referral_id}
    events: ClassVar[Collection[str]] = EVENTS

    def __init__(self, settings: Settings, ctx: Context) -> None:
        super().__init__(settings, ctx)
        base = settings.base_url.rstrip("/")
        self._url = f"{base}/v1.0/engagements/referrals"
        self._scope = f"{base}/.default"
        if (settings.certificate is None) != (settings.thumbprint is None):
            raise ConfigError("`certificate` and `thumbprint` go together", code="Settings")
        if (settings.webhook.mode == "external") != (settings.webhook.validator is not None):
            raise ConfigError("`webhook.mode: external` and `webhook.validator` go together", code="Settings")
        credential: Secret | Certificate | None = settings.client_secret
        if settings.certificate is not None:
            credential = Certificate(settings.certificate, settings.thumbprint or "")
        self._entra = Entra(
            ctx,
            tenant=settings.tenant,
            client_id=settings.client_id,
            credential=credential,
            refresh_token=settings.refresh_token if settings.auth == "refresh_token" else None,
            authority=settings.authority,
        )
        self._authorize = self._entra.authorizer(self._token)

    @operation(effect="read")
    def get_token(self) -> Result[TokenInfo]:
        """Make sure of a valid token for this connection. The token itself is never returned."""
        token = self._token(False)
        until = datetime.fromtimestamp(token.expires_at, UTC)
        body = TokenInfo(account=token.account, expires_at=f"{until:%Y-%m-%dT%H:%M:%SZ}", scopes=list(token.scopes))
        return Result(body=body, summary=f"token for {token.account} valid until {until:%H:%M}")

    @operation(effect="read")
    def get_referral(self, id: Annotated[Guid, Doc("The referral's id")]) -> Result[Referral]:
        """One referral as it now is, with its eTag.

        RemoteError NotOurs: there is no such referral for this partner.
        """
        referral = self._read(id)
        return Result(body=referral, summary=f"referral {id.lower()}: {referral.get('status')}")

    @operation(effect="read")
    def list_referrals(
        self,
        filter: Annotated[
            str | None, Doc("OData, such as `status eq 'New' and updatedDateTime gt 2026-11-01T00:00:00Z`")
        ] = None,
        order_by: Annotated[str | None, Doc("Such as `updatedDateTime desc`")] = None,
        select: Annotated[list[str] | None, Doc("Top-level properties to give, such as id, status")] = None,
        top: Annotated[int | None, Range(1, 1000), Doc("Referrals asked for in one request")] = None,
        max_items: Annotated[int, Range(1, 100_000), Doc("Stop after so many")] = 1000,
    ) -> Result[Referrals]:
        """Referrals by OData options, page after page."""
        asked = {"$filter": filter, "$orderby": order_by, "$select": ",".join(select or []), "$top": top}
        params: dict[str, Any] | None = {name: value for name, value in asked.items() if value}
        url, count, items, seen = self._url, None, list[Referral](), set[str]()
        while True:
            page = object_of(self._send("GET", url, params=params))
            items += page.get("value") or []
            count = page.get("@odata.count") if count is None else count
            link = page.get("@odata.nextLink")
            if not link or len(items) >= max_items:
                break
            url, params = self._next_page(str(link)), None
            if url in seen:
                raise RemoteError("the list of referrals leads in a circle", code="NextLink")
            seen.add(url)
        items = items[:max_items]
        total = count if isinstance(count, int) else len(items)
        return Result(body=Referrals(items=items, count=total), summary=f"{len(items)} of {total} referrals")

    @operation(effect="idempotent", plans=True)
    def update_referral(
        self,
        referral: Annotated[Referral | Guid, Doc("What get_referral gave, or the id alone (then it is read first)")],
        set: Annotated[
            dict[str, JSON],
            Schema({"properties": {path: {} for path in paths()}}),
            Doc("Dotted path to value, such as details.dealValue; null leaves a property alone"),
        ],
        on_foreign_id: Annotated[
            OnForeignId, Doc("What to do with an externalReferenceId that somebody else has set")
        ] = "keep",
    ) -> Result[Updated]:
        """Make a referral as `set` says, in one JSON Patch under its eTag; nothing is sent where nothing differs.

        Somebody else's edit in between: read anew, planned anew, at most 3 times, then TransientError. A closed
        referral is left alone, and so is a status that the state machine doesn't allow: the result says so.
        """
        current = self._read(referral) if isinstance(referral, str) or not referral.get("eTag") else referral
        for _ in range(1 + REAPPLIED):
            todo = plan(current, set, on_foreign_id)
            if not todo.operations or self.ctx.planning:
                return _updated({**current, **todo.after}, todo)  # type: ignore[typeddict-item]  # the same keys
            answer = self._patch(current, todo)
            if answer is not None:
                return _updated(answer, todo)
            current = self._read(current)
        raise TransientError(
            f"referral {current.get('id')} was changed by others each time it was to be written",
            code="resourceModified",
        )

    @operation(effect="write")
    def create_referral(
        self,
        type: Literal["Independent", "Shared"],
        customer_profile: CustomerProfile,
        consent: Consent,
        details: Details,
        more: Annotated[dict[str, JSON] | None, Doc("Further properties by the API's names, such as target")] = None,
    ) -> Result[Referral]:
        """A new referral of ours. The API knows no idempotency key: the same call makes a second one."""
        required = {"customer_profile": customer_profile, "consent": consent, "details": details}
        if empty := [name for name, value in required.items() if not value]:
            raise DataError(f"create_referral: {', '.join(empty)} must not be empty", code="Missing")
        if not customer_profile.get("name"):
            raise DataError("create_referral: customer_profile.name is missing", code="Missing")
        known = {"type": type, "customerProfile": customer_profile, "consent": consent, "details": details}
        if twice := sorted({*known} & {*(more or {})}):
            raise DataError(f"create_referral: {', '.join(twice)} stands in `more` too", code="Twice")
        created: Referral = object_of(self._send("POST", self._url, json={**(more or {}), **known}))  # type: ignore[assignment]
        return Result(body=created, changed=True, summary=f"created referral {created.get('id')}")

    def receive(self, request: Request) -> list[Event]:
        """Verified events of referrals out of a webhook call; `subject` is the referral's id.

        Raises RemoteError (400, 401, 403), or TransientError or ConfigError where the call can't be verified now.
        """
        try:
            self._verifier.verify(request)
            found = self.parse(request)
            self._verifier.in_time(found)
        except FlowrunError as error:
            if self.settings.webhook.mode != "observe":
                raise
            self.ctx.log.warning("accepted a call that strict would refuse: %s: %s", error.code, error.message)
            return self.parse(request)
        return found

    def parse(self, request: Request) -> list[Event]:
        """The events in a body, whoever sent it. Raises RemoteError (400)."""
        return events(request.body)

    @cached_property
    def _verifier(self) -> Verifier:
        from connectors.partner_center.signature import Verifier  # noqa: PLC0415 - slow to import, seldom needed

        return Verifier(self.ctx, self.settings.webhook)

    def login(self, show: Callable[[str], None]) -> str:
        """Sign-in by device code: `show` gets the sentence for the person. Gives the account's name."""
        return self._entra.device_login(self._scope, show).account

    def check(self) -> Iterator[Finding]:
        """Token, reach and the right to see referrals (the right to change them shows only by changing one)."""
        try:
            self._token(False)
            self.list_referrals(top=1, max_items=1)
            self._verifier.certificates.check()
        except FlowrunError as error:
            yield Finding(Place(), error.code, error.message, hint=error.hint)
        if self.settings.webhook.mode == "observe":
            message, hint = "webhook.mode is observe: unsigned calls are taken, too", "change it to strict"
            yield Finding(Place(), "Observe", message, severity="warning", hint=hint)

    def describe(self, response: Response) -> tuple[str, str, str]:
        """Code, message and hint out of the referrals API's, Partner Center's or the gateway's error form."""
        said = f"{response.text} {response.headers.get('WWW-Authenticate', '')}"
        if response.status_code == 401 and NO_MFA.search(said):
            return (
                "900421",
                "the sign-in behind this token was made without MFA, and Partner Center demands it",
                "run `flowrun login` with an account that has MFA, or put a refresh token from such a sign-in into "
                "`refresh_token`",
            )
        codes, message = error_in(json_of(response))
        known = [CODES[code.lower()] for code in codes if code.lower() in CODES]
        code, hint = known[-1] if known else (codes[0] if codes else "", "")
        return code, message[:500], hint or (ADMIN if response.status_code == 403 else "")

    def _token(self, renew: bool) -> Token:
        return self._entra.user_token(self._scope, renew=renew)

    def _send(self, method: str, url: str, **options: Any) -> Response:
        answer = self._ask(method, url, **options)
        if done(answer):
            return answer
        raise self.failure(answer)

    def _ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, **options: Any) -> Response:
        return self.ctx.session.request(
            method,
            url,
            headers={"client-request-id": str(uuid4()), **(headers or {})},
            authorize=self._authorize,
            **options,
        )

    def _read(self, referral: Referral | str) -> Referral:
        id = referral if isinstance(referral, str) else str(referral.get("id"))
        answer = self._ask("GET", self._address(id))
        if done(answer):
            return self._tagged(answer)
        error = self.failure(answer)
        status, page = answer.status_code, answer.text.lstrip().startswith("<")  # a page is a gateway's, not the API's
        if not page and (status == 404 or (status == 403 and error.code != "insufficent_claims")):
            raise RemoteError(
                f"referral {id} isn't ours to see: {error.message}",
                code="NotOurs",
                hint=f"an event may be about another partner's copy of a shared referral; if it is ours, {ADMIN}",
                status=answer.status_code,
            )
        raise error

    def _patch(self, current: Referral, todo: Plan) -> Referral | None:
        """The referral after the change; None when its eTag is out of date."""
        if not current.get("eTag"):
            raise RemoteError(f"referral {current.get('id')} came without an eTag", code="NoETag")
        headers = {"If-Match": str(current["eTag"]), "Prefer": "return=representation"}
        answer = self._ask("PATCH", self._address(str(current.get("id"))), headers=headers, json=todo.operations)
        if answer.status_code == 412:
            return None
        if not done(answer):
            raise self.failure(answer)
        return self._tagged(answer) if answer.content else self._read(current)

    def _tagged(self, answer: Response) -> Referral:
        """The referral in an answer, with its eTag, which may stand in the header alone."""
        referral: Referral = object_of(answer)  # type: ignore[assignment]
        tag = answer.headers.get("ETag")
        return referral if referral.get("eTag") or not tag else {**referral, "eTag": tag}

    def _address(self, id: str) -> str:
        if not GUID.fullmatch(id):
            raise DataError(f"'{id[:80]}' is no referral id: they are GUIDs", code="ReferralId")
        return f"{self._url}/{id.lower()}"

    def _next_page(self, link: str) -> str:
        """The next page on our own URL: Microsoft's links come with http and without /engagements, too."""
        try:
            parts = urlsplit(link)
            foreign = (
                parts.scheme not in ("http", "https") or parts.netloc.lower() != urlsplit(self._url).netloc.lower()
            )
        except ValueError:
            foreign = True
        if foreign:
            raise RemoteError(f"the list's next page is elsewhere, refused: {link[:200]}", code="NextLink")
        if "$skiptoken" not in parse_qs(parts.query):
            raise RemoteError(f"the list's next page has no $skiptoken: {link[:200]}", code="NextLink")
        return f"{self._url}?{parts.query}"


def _updated(referral: Referral, todo: Plan) -> Result[Updated]:
    body = Updated(
        id=referral.get("id"),
        eTag=referral.get("eTag"),
        status=referral.get("status"),
        substatus=referral.get("substatus"),
        externalReferenceId=referral.get("externalReferenceId"),
        referral=referral,
        skipped=todo.skipped,
    )
    said = "updated: " + ", ".join(todo.changes) if todo.changes else "already up to date"
    if referral.get("status") == "Closed" and not todo.changes:
        said = "closed: left alone"
    elif todo.skipped:
        said += "; left alone: " + "; ".join(todo.skipped)
    action: Literal["update", "leave"] = "update" if todo.changes else "leave"
    difference = Difference(f"referral {referral.get('id')}", action, todo.changes, todo.unchanged)
    return Result(body=body, changed=bool(todo.changes), summary=said, differences=[difference])
