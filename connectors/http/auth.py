"""How the http connector proves who it is: the forms of its `auth` setting, and the headers out of them."""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode, urlsplit

from connectors.http.message import NAME
from engine import (
    PUBLIC_CLOUD,
    ConfigError,
    Context,
    Doc,
    Entra,
    Pattern,
    RemoteError,
    Secret,
    Token,
    TransientError,
    retry_after,
)

Authorize: TypeAlias = Callable[[bool], Mapping[str, str]]
TokenUrl: TypeAlias = Annotated[str, Pattern(r"https?://[^\s/?#@]+/[^\s#]*", "a URL"), Doc("Where tokens are issued")]
CredentialsIn: TypeAlias = Annotated[
    Literal["header", "body"], Doc("Where the service wants the client's id and secret: HTTP Basic, or the form")
]
Parameters: TypeAlias = Annotated[Mapping[str, str], Doc("More fields that the service asks for: audience, resource")]
EARLY = 60.0  # seconds before its end from which a token counts as expired


@dataclass(frozen=True)
class NoAuth:
    """No credential."""

    type: Literal["none"] = "none"


@dataclass(frozen=True)
class Basic:
    """User name and password in each request (RFC 7617)."""

    type: Literal["basic"]
    username: str
    password: Secret


@dataclass(frozen=True)
class Bearer:
    """A token that doesn't change (RFC 6750)."""

    type: Literal["bearer"]
    token: Secret


@dataclass(frozen=True)
class ApiKey:
    """A key in a header of the service's own."""

    type: Literal["api_key"]
    header: Annotated[str, Pattern(NAME, "a header's name")]
    key: Secret


@dataclass(frozen=True)
class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749 §4.4) of any service."""

    type: Literal["client_credentials"]
    token_url: TokenUrl
    client_id: str
    client_secret: Secret
    scope: str | None = None
    credentials_in: CredentialsIn = "header"
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Password:
    """OAuth 2.0 password grant (RFC 6749 §4.3), for flows imported from elsewhere; it can't satisfy MFA."""

    type: Literal["password"]
    token_url: TokenUrl
    username: str
    password: Secret
    client_id: str | None = None
    client_secret: Secret | None = None
    scope: str | None = None
    credentials_in: CredentialsIn = "header"
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Microsoft:
    """Client credentials of Microsoft Entra ID."""

    type: Literal["microsoft"]
    tenant: str
    client_id: str
    client_secret: Secret
    scope: Annotated[str, Doc("The resource followed by /.default")]
    authority: str = PUBLIC_CLOUD


@dataclass(frozen=True)
class MicrosoftPassword:
    """Password grant of Microsoft Entra ID, for flows imported from elsewhere; it can't satisfy MFA."""

    type: Literal["microsoft_password"]
    tenant: str
    client_id: str
    client_secret: Secret
    username: str
    password: Secret
    scope: Annotated[str, Doc("The resource followed by /.default")]
    authority: str = PUBLIC_CLOUD


Auth: TypeAlias = NoAuth | Basic | Bearer | ApiKey | ClientCredentials | Password | Microsoft | MicrosoftPassword


def credential(auth: Auth, ctx: Context) -> tuple[Mapping[str, str], Authorize | None]:
    """Headers that never change, and where tokens expire what gives the header of the newest one."""
    match auth:
        case Basic():
            return {"Authorization": _basic(auth.username, auth.password.reveal())}, None
        case Bearer():
            return {"Authorization": f"Bearer {auth.token.reveal()}"}, None
        case ApiKey():
            return {auth.header: auth.key.reveal()}, None
        case ClientCredentials() | Password():
            return {}, _PlainTokens(ctx, auth).authorize
        case Microsoft() | MicrosoftPassword():
            return {}, _microsoft(ctx, auth)
        case NoAuth():
            return {}, None


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _microsoft(ctx: Context, auth: Microsoft | MicrosoftPassword) -> Authorize:
    entra = Entra(
        ctx, tenant=auth.tenant, client_id=auth.client_id, credential=auth.client_secret, authority=auth.authority
    )

    def token(renew: bool) -> Token:
        if isinstance(auth, Microsoft):
            return entra.client_token(auth.scope, renew=renew)
        return entra.password_token(auth.scope, auth.username, auth.password, renew=renew)

    return entra.authorizer(token)


class _PlainTokens:
    """Tokens of an OAuth 2.0 service, kept in memory until a minute before they expire.

    The token endpoint is reached by a session bound to its host alone, so the client's secret goes nowhere else and
    the endpoint gets no token.
    """

    def __init__(self, ctx: Context, auth: ClientCredentials | Password) -> None:
        self.ctx = ctx
        self.auth = auth
        self.host = urlsplit(auth.token_url).netloc
        self.session = ctx.session.bound({self.host})
        self._lock = threading.Lock()
        self._kept: tuple[Secret, float] | None = None  # token, Unix seconds from which it counts as expired

    def authorize(self, renew: bool) -> Mapping[str, str]:
        seen = self._kept
        if seen is None or renew or seen[1] <= self.ctx.clock.now().timestamp():
            with self._lock:
                if self._kept is seen:  # else another thread was first
                    self._kept = self._ask()
                seen = self._kept
        assert seen is not None
        return {"Authorization": f"Bearer {seen[0].reveal()}"}

    def _ask(self) -> tuple[Secret, float]:
        form, headers = self._request()
        try:
            answer = self.session.request("POST", self.auth.token_url, data=urlencode(form), headers=headers, read=True)
        except TransientError as error:
            error.answer_lost = False  # a token may be asked for again, whatever it is wanted for
            raise
        now = self.ctx.clock.now()
        try:
            body = json.loads(answer.content)
        except (ValueError, RecursionError):
            body = None  # not quoted anywhere: it may hold a token
        body = body if isinstance(body, dict) else {}
        status = answer.status_code
        if status == 429 or status >= 500:
            wait = retry_after(answer.headers.get("Retry-After"), now)
            raise TransientError(
                f"token endpoint {self.host} answered {status}", code=str(status), status=status, retry_after=wait
            )
        if status != 200:
            raise self._refusal(status, body)
        token, kind = body.get("access_token"), str(body.get("token_type", "bearer")).lower()
        if not isinstance(token, str) or not token or kind != "bearer":
            raise RemoteError(f"token endpoint {self.host}: no bearer token in the answer", code="TokenAnswer")
        self.session.hide(token)
        return Secret(token), now.timestamp() + _useful(body.get("expires_in"))

    def _request(self) -> tuple[dict[str, str], dict[str, str]]:
        auth, form = self.auth, dict(self.auth.parameters)
        if isinstance(auth, ClientCredentials):
            form["grant_type"] = "client_credentials"
        else:
            form |= {"grant_type": "password", "username": auth.username, "password": auth.password.reveal()}
        if auth.scope:
            form["scope"] = auth.scope
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        secret = auth.client_secret.reveal() if auth.client_secret else ""
        if auth.client_id and secret and auth.credentials_in == "header":
            # RFC 6749 §2.3.1: both are form-encoded before they are joined.
            headers["Authorization"] = _basic(quote_plus(auth.client_id), quote_plus(secret))
        elif auth.client_id:
            form |= {"client_id": auth.client_id} | ({"client_secret": secret} if secret else {})
        return form, headers

    def _refusal(self, status: int, body: Mapping[str, Any]) -> ConfigError:
        """RFC 6749 §5.2. A service that quotes our secrets back doesn't get them into a message."""
        code, told = (text if isinstance(text := body.get(k), str) else "" for k in ("error", "error_description"))
        words = f"{code or status} {told[:300]}".strip()
        secrets = [s.reveal() for s in (self.auth.client_secret, getattr(self.auth, "password", None)) if s]
        for text in sorted(secrets, key=len, reverse=True):
            words = words.replace(text, "***")
        hints = {
            "invalid_client": "check `client_id`, `client_secret` and `credentials_in`",
            "invalid_grant": "check `username` and `password`",
            "invalid_scope": "check `scope`",
            "unauthorized_client": "this client may not use this grant: see its registration",
        }
        return ConfigError(
            f"token endpoint {self.host} refused: {words}",
            code=code[:60] or str(status),
            status=status,
            hint=hints.get(code, ""),
        )


def _useful(expires_in: Any) -> float:
    """Seconds for which a token is used; without a lifetime (RFC 6749 §5.1) until it is refused."""
    try:
        lifetime = float(expires_in)
    except (TypeError, ValueError):
        return math.inf
    return lifetime - min(EARLY, lifetime / 2)
