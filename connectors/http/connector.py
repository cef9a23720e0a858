"""Any HTTP service, one request at a time: what a flow uses where no connector of its own exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from connectors.http import calls, message
from connectors.http.auth import Auth, MicrosoftPassword, NoAuth, Password, credential
from connectors.http.message import NAME, Fields, Scalar
from connectors.http.paging import Paging
from engine import (
    JSON,
    ConfigError,
    Connector,
    Context,
    Doc,
    Effect,
    Event,
    Finding,
    FlowrunError,
    Pattern,
    Place,
    Request,
    Result,
    operation,
)

if TYPE_CHECKING:
    from requests import Response

Method: TypeAlias = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
Host: TypeAlias = Annotated[str, Pattern(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d+)?", "a host such as api.example")]

READS = ("GET", "HEAD", "OPTIONS")


def _effect(inputs: Mapping[str, JSON]) -> Effect:
    """By method (RFC 9110 §9.2); a method that only the run will know counts as a write."""
    method = inputs.get("method") or "GET"
    if method in READS:
        return "read"
    return "idempotent" if method in ("PUT", "DELETE") or inputs.get("idempotent") is True else "write"


class Http(Connector):
    """Any HTTP service.

    The connection's credential goes to its hosts alone: that of `base_url`, and those in `hosts`. A status of 400 or
    more is an error, sorted by what to do next, unless the step lists it in `ok_status`.
    """

    @dataclass(frozen=True)
    class Settings:
        """Where requests may go, and how they prove who sends them."""

        base_url: Annotated[
            str | None,
            Pattern(r"https?://[^\s/?#@]+(/[^\s?#]*)?", "a URL such as https://api.example.com/v1"),
            Doc("Where relative URLs start"),
        ] = None
        hosts: Annotated[list[Host], Doc("More hosts that it may reach, with its credential")] = field(
            default_factory=list
        )
        auth: Annotated[Auth, Doc("The credential, by `type`")] = field(default_factory=NoAuth)
        idempotency_header: Annotated[
            str | None,
            Pattern(NAME, "a header's name such as Idempotency-Key"),
            Doc("The header in which the service takes a key that is the same on every repeat of a step"),
        ] = None
        verify: Annotated[calls.Verify | None, Doc("How callers of its hook prove who they are, by `type`")] = None
        event: Annotated[calls.EventParts, Doc("Where the parts of an event are in a call")] = field(
            default_factory=calls.EventParts
        )

    settings: Settings

    def __init__(self, settings: Settings, ctx: Context) -> None:
        super().__init__(settings, ctx)
        self._fixed, self._authorize = credential(settings.auth, ctx)
        self._verify = calls.verifier(settings.verify) if settings.verify else None
        calls.prepare(settings.event)

    @classmethod
    def hosts(cls, settings: Settings) -> frozenset[str]:
        return super().hosts(settings) | {host.lower() for host in settings.hosts}

    @operation(effect=_effect)
    def request(
        self,
        url: Annotated[str, Doc("Absolute, or relative to the connection's base_url")],
        *,
        method: Method = "GET",
        headers: Mapping[str, Scalar] | None = None,
        query: Annotated[Fields | None, Doc("A list repeats its parameter, null leaves it out")] = None,
        json: Annotated[JSON, Doc("Body: any value, sent as JSON")] = None,
        form: Annotated[Fields | None, Doc("Body: fields, sent URL-encoded")] = None,
        text: Annotated[str | None, Doc("Body: text, sent as UTF-8")] = None,
        bytes: Annotated[
            str | dict[str, str] | None, Doc("Body: base64, alone or as {$content-type, $content}, as answers have it")
        ] = None,
        paging: Annotated[
            Paging | None, Doc("Follow the pages of a list; the body is then the list of all items")
        ] = None,
        ok_status: Annotated[list[int] | None, Doc("Statuses from 400 on that are an answer too, such as 404")] = None,
        idempotent: Annotated[bool, Doc("The service makes repeating this POST or PATCH harmless")] = False,
    ) -> Result[JSON]:
        """One request; outputs are status_code, headers (names in lower case) and body.

        The body of an answer is its JSON, its text, or {$content-type, $content} with base64. At most one of json,
        form, text and bytes is given. Raises the error that a refusing status stands for, DataError for a request
        that can't be sent.
        """
        target = message.target(self.settings.base_url, url, query or {})
        kind, content = message.body(json, form, text, bytes)
        sent = self._headers(method, headers or {}, kind)
        if paging is not None:
            if method != "GET" and not idempotent:
                raise ConfigError(f"paging repeats the {method}: it needs GET, or idempotent: true", code="Paging")
            paging.prepare()

        def send(at: str) -> Response:
            answer = self.ctx.session.request(method, at, headers=sent, data=content, authorize=self._authorize)
            if answer.status_code >= 400 and answer.status_code not in (ok_status or ()):
                error = self.failure(answer)
                error.outputs = _outputs(answer, message.content(answer))
                raise error
            return answer

        answer, said = send(target), ""
        if paging is not None and answer.status_code < 400:
            answer, body, said = paging.follow(send, target, answer)
        else:
            body = message.content(answer)
        changed = method not in READS and answer.status_code < 400
        summary = f"{method} answered {answer.status_code}{said}"
        return Result(body=body, changed=changed, summary=summary, outputs=_outputs(answer, body))

    def receive(self, request: Request) -> list[Event]:
        """The event of a verified call. Raises RemoteError (400, 401), ConfigError where nothing says how to verify."""
        if self._verify is None:
            raise ConfigError(
                "this connection takes no calls: nothing says how to verify them",
                code="NoVerifier",
                hint="give it `verify`: hmac, secret or basic",
            )
        self._verify(request, self.ctx.clock.now())
        return self.parse(request)

    def parse(self, request: Request) -> list[Event]:
        """The event of a call, whoever sent it. Raises RemoteError (400)."""
        return [calls.event(self.settings.event, request, self.ctx.clock.now())]

    def check(self) -> Iterator[Finding]:
        """Whether a credential can be had and the base URL be reached, by a HEAD request."""
        place, settings = Place(), self.settings
        if isinstance(settings.auth, Password | MicrosoftPassword):
            yield Finding(
                place,
                "PasswordGrant",
                "the password grant can't satisfy MFA and keeps a person's password",
                severity="warning",
                hint="use client_credentials, or microsoft for Entra ID",
            )
        if not settings.base_url:
            if not settings.hosts:
                yield Finding(place, "NoHost", "this connection may reach nothing", hint="set base_url or hosts")
            return
        try:
            answer = self.ctx.session.request("HEAD", settings.base_url, headers=self._fixed, authorize=self._authorize)
        except FlowrunError as error:
            yield Finding(place, error.code, error.message, hint=error.hint)
            return
        host = urlsplit(settings.base_url).netloc
        if answer.status_code == 401:
            yield Finding(place, "401", f"{host} doesn't take the credential", hint="check `auth`")
        elif answer.status_code >= 500:
            yield Finding(place, str(answer.status_code), f"{host} answers {answer.status_code}", severity="warning")

    def describe(self, response: Response) -> tuple[str, str, str]:
        """The usual shapes: {error: {code, message}}, OAuth's, problem details (RFC 9457), {code, message}."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            return "", response.text[:200], ""
        if not isinstance(body, dict):
            return "", response.text[:200], ""
        inner = body.get("error")
        found = inner if isinstance(inner, dict) else {**body, "code": body.get("code") or inner}
        names = ("message", "error_description", "detail", "title", "description")
        words = next((found[name] for name in names if isinstance(found.get(name), str)), "")
        code = found.get("code")
        return str(code)[:60] if isinstance(code, str | int) else "", words[:500], ""

    def _headers(self, method: str, given: Mapping[str, Scalar], kind: str | None) -> dict[str, str]:
        own = dict(self._fixed)
        key = self.ctx.idempotency_key
        if self.settings.idempotency_header and key and method not in READS:
            own[self.settings.idempotency_header] = key
        reserved = {name.lower() for name in own} | ({"authorization"} if self._authorize else set())
        asked = message.headers(given, frozenset(reserved))
        replaced = {name.lower() for name in asked}
        usual = {"Accept": "application/json, */*;q=0.8"} | ({"Content-Type": kind} if kind else {})
        return {name: value for name, value in usual.items() if name.lower() not in replaced} | asked | own


def _outputs(answer: Response, body: JSON) -> dict[str, JSON]:
    return {"status_code": answer.status_code, "headers": message.told(answer), "body": body}
