"""Calls to the Dataverse Web API v9.2: addresses, tokens, errors, links, and the definitions it is asked for.

Sources: Power Apps developer guide, "Use the Web API" (conditional operations, alternate keys, error handling), service
protection API limits, web service error codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import quote, urljoin, urlsplit

from engine import (
    JSON,
    PUBLIC_CLOUD,
    Certificate,
    ConfigError,
    Connector,
    Context,
    DataError,
    Doc,
    Entra,
    FlowrunError,
    Pattern,
    RemoteError,
    Secret,
    Token,
    TransientError,
)

if TYPE_CHECKING:
    from requests import Response

Row = dict[str, Any]

GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
BREAKING = frozenset("/<>*%&:\\?+")  # alternate key values that hold one can't stand in an address
DUPLICATE_DETECTED = "0x80040333"
MOVED, KEY_TAKEN, ID_TAKEN = "0x80060882", "0x80060892", "0x80040237"
RACES = frozenset({MOVED, KEY_TAKEN, ID_TAKEN})
NO_SUCH_SEGMENT = "0x8006088a"
TRACK_CHANGES = "turn change tracking on (for good): Power Apps → Tables → Lead → Properties → Track changes"

# The service's code → (kind, what it means or what to do).
CODES: Mapping[str, tuple[type[FlowrunError], str]] = {
    "0x80072322": (TransientError, "service protection limit: more than 6000 requests of this user in 5 minutes"),
    "0x80072321": (TransientError, "service protection limit: more than 20 minutes of working time in 5 minutes"),
    "0x80072326": (TransientError, "service protection limit: more than 52 requests of this user at once"),
    DUPLICATE_DETECTED: (
        RemoteError,
        "a duplicate detection rule of the environment refused the row: merge or relax it",
    ),
    MOVED: (RemoteError, "somebody else changed the row in between"),
    KEY_TAKEN: (RemoteError, "a row with the same alternate key exists already"),
    ID_TAKEN: (RemoteError, "a row with the same key exists already"),
    NO_SUCH_SEGMENT: (ConfigError, "tables go by their entity set name, in lower case and plural, such as leads"),
    "0x80072560": (
        ConfigError,
        "make the app an application user: Power Platform admin center → environment → Settings → Application users",
    ),
    "0x80040220": (ConfigError, "give the application user a security role that has this privilege"),
    "0x80048306": (ConfigError, "the application user's role must reach this row: give the privilege a wider scope"),
    "0x80040265": (RemoteError, "a plug-in or workflow of the environment refused it"),
}


class WebApi(Connector):
    """What the operations of Dynamics365 are made of."""

    @dataclass(frozen=True)
    class Settings:
        """An environment and the application that acts in it: by secret, or by certificate."""

        url: Annotated[str, Doc("The environment, such as https://contoso.crm.dynamics.com")]
        tenant: Annotated[str, Doc("Its Entra tenant: id or domain")]
        client_id: Annotated[str, Doc("The app registration, which is an application user of the environment")]
        client_secret: Annotated[Secret | None, Doc("A client secret's value")] = None
        certificate: Annotated[Secret | None, Doc("In place of a secret: a certificate's private key (PEM)")] = None
        thumbprint: Annotated[str, Doc("That certificate's SHA-1 thumbprint in hex")] = ""
        authority: Annotated[str, Doc("The cloud's sign-in host")] = PUBLIC_CLOUD
        key_column: Annotated[
            str,
            Pattern("[a-z][a-z0-9_]*", "a column's logical name"),
            Doc("The column of lead, declared as an alternate key, that holds the key of the record it mirrors"),
        ] = "new_referralid"

    settings: Settings
    status_kinds: ClassVar[Mapping[int, type[FlowrunError]]] = {403: ConfigError}

    def __init__(self, settings: Settings, ctx: Context) -> None:
        super().__init__(settings, ctx)
        if bool(settings.client_secret) == bool(settings.certificate):
            raise ConfigError("set client_secret, or certificate with its thumbprint", code="Credential")
        if settings.certificate and not settings.thumbprint:
            raise ConfigError("certificate needs the thumbprint beside it", code="Credential")
        parts = urlsplit(settings.url)
        if not parts.scheme or not parts.netloc:
            raise ConfigError(
                f"url: '{settings.url}' is no address", code="Url", hint="such as https://contoso.crm.dynamics.com"
            )
        self.org = f"{parts.scheme}://{parts.netloc}"
        self.base = f"{self.org}/api/data/v9.2/"
        self.entra = Entra(
            ctx,
            tenant=settings.tenant,
            client_id=settings.client_id,
            credential=Certificate(settings.certificate, settings.thumbprint)
            if settings.certificate
            else settings.client_secret,
            authority=settings.authority.rstrip("/"),
        )
        self._authorize = self.entra.authorizer(self.token)

    def token(self, renew: bool = False) -> Token:
        """The application's token for the environment."""
        return self.entra.client_token(f"{self.org}/.default", renew=renew)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: JSON = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request; `path` is relative to the Web API, or came out of a link.

        Raises what Session.request raises, and DataError for text that no encoding holds.
        """
        sent = {"OData-Version": "4.0", "OData-MaxVersion": "4.0", **(headers or {})}
        if method == "GET":
            sent["If-None-Match"] = "null"  # keeps caches on the way out of it
        # %20, not +: a plus would be part of the value to a strict reader of OData addresses.
        pairs = [f"{name}={quote(value, safe='$,()=;', errors='replace')}" for name, value in (query or {}).items()]
        url = f"{self.base}{path}?{'&'.join(pairs)}" if pairs else self.base + path
        try:
            return self.ctx.session.request(method, url, headers=sent, json=body, authorize=self._authorize)
        except UnicodeEncodeError:
            message = "a text holds half a surrogate pair, which is no character"
            raise DataError(message, code="BadText", hint="take it out in the flow") from None

    def find(self, path: str, query: Mapping[str, str] | None = None) -> Row | None:
        """The JSON object at a path, None where there is no such row."""
        answer = self.send("GET", path, query)
        if answer.status_code == 200:
            return self.content(answer)
        if self.absent(answer):
            return None
        raise self.failure(answer)

    def content(self, answer: Response) -> Row:
        """The JSON object in an answer. Raises TransientError where it isn't one."""
        body = _json(answer)
        if not isinstance(body, dict):
            raise TransientError(
                f"{urlsplit(self.org).netloc} answered {answer.status_code} without JSON",
                code="NoJson",
                answer_lost=True,
            )
        return body

    def absent(self, answer: Response) -> bool:
        """Whether an answer says that the row doesn't exist (and not that the table doesn't, nor a gateway's page)."""
        if answer.status_code != 404 or is_page(answer):
            return False
        code, message, _ = self.describe(answer)
        return code != NO_SUCH_SEGMENT and "for the segment" not in message

    def raced(self, answer: Response) -> bool:
        """Whether somebody else was faster: the row moved on, or a row with that key exists by now.

        412 has a third meaning, a duplicate detection rule, which no repeating helps.
        """
        if answer.status_code < 400:
            return False
        code, _, _ = self.describe(answer)
        return code in RACES or (answer.status_code == 412 and code != DUPLICATE_DETECTED)

    def follow(self, link: str) -> str:
        """The path and query of a nextLink or deltaLink. Raises RemoteError for a link that leads elsewhere."""
        parts = urlsplit(urljoin(self.base, link))
        match = re.fullmatch(r"/api/data/v9\.\d+/(.+)", parts.path)
        if parts.netloc.lower() != urlsplit(self.org).netloc.lower() or not match:
            raise RemoteError(f"a link leads to {parts.netloc}{parts.path}: not followed", code="ForeignLink")
        return match[1] + (f"?{parts.query}" if parts.query else "")

    def describe(self, response: Response) -> tuple[str, str, str]:
        """Code (as 0x…), message and hint out of the shapes in which the service and what stands before it answer."""
        body = _json(response)
        if body is None:
            text = re.sub(r"<(script|style).*?</\1>|<[^>]+>|\s+", " ", response.text[:5000], flags=re.DOTALL)
            return "", " ".join(text.split())[:300], ""
        error = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(error, str) and isinstance(body, dict):  # OAuth's shape, from a gateway
            return error[:60], str(body.get("error_description") or error)[:500], ""
        if not isinstance(error, dict):
            return "", str(error)[:500], ""
        inner = error.get("innererror") or error.get("innerError") or {}
        message = error.get("message") or error.get("Message")
        message = str(message or (inner.get("message") if isinstance(inner, dict) else "") or "")[:500]
        code = str(error.get("code") or error.get("ErrorCode") or "")
        if re.fullmatch(r"-\d{10}", code):
            code = f"0x{int(code) + 2**32:08x}"
        code = code.lower() if code.lower().startswith("0x") else code
        return code, message, self._hint(code, message, response.status_code)

    def _hint(self, code: str, message: str, status: int) -> str:
        if _is_about_set_up(message):
            return TRACK_CHANGES if "change tracking" in message.lower() else self.key_remedy()
        if code in CODES:
            return CODES[code][1]
        if status == 412:
            return CODES[MOVED][1] if "RowVersion" in message else CODES[ID_TAKEN][1]
        return {
            401: "the environment doesn't take this token: check url, tenant and client_id",
            403: "the application user's security role doesn't allow it",
        }.get(status, "")

    def key_remedy(self) -> str:
        """How an administrator makes the alternate key."""
        return (
            f"declare {self.settings.key_column} as an alternate key of lead: Power Apps → Tables → Lead → Keys → New "
            f"key, with the column {self.settings.key_column} (text, 100), then wait until its status is Active"
        )

    def failure(self, response: Response) -> FlowrunError:
        """Sorted by the service's code first (a 500 may be a refusal), then by the HTTP status."""
        error = super().failure(response)
        kind = CODES.get(error.code, (type(error), ""))[0]
        if _is_about_set_up(error.message):
            kind = ConfigError
        if kind is type(error):
            return error
        return kind(
            error.message,
            code=error.code,
            hint=error.hint,
            status=error.status,
            retry_after=error.retry_after,
            answer_lost=error.answer_lost and kind is TransientError,
        )

    def pages(self, path: str, query: Mapping[str, str]) -> Iterator[Row]:
        """The rows of a collection, page after page; links are checked before they are followed."""
        answer = self.send("GET", path, query)
        while True:
            if answer.status_code != 200:
                raise self.failure(answer)
            body = self.content(answer)
            yield from body.get("value") or []
            link = body.get("@odata.nextLink")
            if not link:
                return
            answer = self.send("GET", self.follow(link))


def _json(answer: Response) -> JSON:
    """The body's JSON, None where it is none. It is in UTF-8 whatever the header says, and may begin with a mark."""
    answer.encoding = "utf-8-sig"
    try:
        return answer.json()
    except ValueError:
        return None


def is_page(answer: Response) -> bool:
    """Whether an answer is an HTML page: then it comes from something in front of the service."""
    return answer.text.lstrip().startswith("<")


def _is_about_set_up(message: str) -> bool:
    """Whether a refusal, whose code is shared with others, is about what an administrator has to switch on."""
    return "key in the request URI is not valid" in message or "change tracking is not enabled" in message.lower()


def text_literal(value: str) -> str:
    """A text as an OData literal: in quotes, its own quotes doubled."""
    return "'" + value.replace("'", "''") + "'"


def row_path(table: str, id: str) -> str:
    """The address of a row. Raises DataError for what is no GUID or no entity set name."""
    if not GUID.fullmatch(id):
        raise DataError(f"'{id[:60]}' is no row id (a GUID)", code="WrongId")
    return f"{set_name(table)}({id})"


def set_name(table: str) -> str:
    """An entity set name, fit for an address."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", table):
        raise DataError(
            f"'{table[:60]}' is no entity set name", code="WrongTable", hint="lower case and plural, such as leads"
        )
    return table


def key_path(table: str, key: Mapping[str, JSON]) -> str:
    """The address of a row by alternate key. Raises DataError for values that can't stand in an address."""
    parts = []
    for name, value in key.items():
        if not re.fullmatch(r"_?[a-z][a-z0-9_]*", name):
            raise DataError(f"key: '{name[:60]}' is no column", code="WrongKey")
        if isinstance(value, str) and name.startswith("_") and GUID.fullmatch(value):
            parts.append(f"{name}={value}")  # a lookup in the key is a bare GUID
        elif isinstance(value, str) and value:
            if bad := BREAKING & set(value):
                raise DataError(
                    f"key {name}: a value with {' '.join(sorted(bad))} can't be addressed in Dataverse",
                    code="BreakingKey",
                )
            parts.append(f"{name}={quote(text_literal(value), safe='', errors='replace')}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            parts.append(f"{name}={value}")
        else:
            raise DataError(f"key {name}: a text or a number is needed", code="WrongKey")
    if not parts:
        raise DataError("key: no column given", code="WrongKey")
    return f"{set_name(table)}({','.join(parts)})"
