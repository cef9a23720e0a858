"""Calls that come in: how a caller proves who it is (the forms of `verify`), and where an event's parts are (`event`).

Every comparison takes the same time whatever is compared.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias
from urllib.parse import parse_qs

from connectors.http.message import NAME
from connectors.http.paging import parsed
from engine import JSON, ConfigError, Doc, Event, Pattern, Range, RemoteError, Request, Secret

HeaderName: TypeAlias = Annotated[str, Pattern(NAME, "a header's name")]
Source: TypeAlias = Annotated[str, Pattern(rf"\$.*|header:{NAME}", "a JSONPath such as $.id, or header:NAME")]
PLACE = re.compile(r"\{([^{}]+)\}")
MILLISECONDS = 1e11  # a Unix time from here on is in milliseconds


@dataclass(frozen=True)
class Hmac:
    """A hash of the body under a shared key, in a header (RFC 2104)."""

    type: Literal["hmac"]
    header: Annotated[HeaderName, Doc("It may hold several signatures, with blanks between them")]
    secret: Secret
    algorithm: Literal["sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Doc("What stands before the signature, such as sha256=")] = ""
    timestamp_header: Annotated[HeaderName | None, Doc("When it was signed: Unix seconds, or ISO 8601")] = None
    tolerance: Annotated[float, Range(1), Doc("Seconds that this may be from now")] = 300
    signed: Annotated[
        str | None,
        Doc("What is signed: {body}, {NAME} for a header; if not given, {body}, with a timestamp {its header}.{body}"),
    ] = None


@dataclass(frozen=True)
class SharedSecret:
    """A secret in a header of the caller's."""

    type: Literal["secret"]
    header: HeaderName
    secret: Secret


@dataclass(frozen=True)
class BasicCaller:
    """User name and password (RFC 7617)."""

    type: Literal["basic"]
    username: str
    password: Secret


Verify: TypeAlias = Hmac | SharedSecret | BasicCaller


@dataclass(frozen=True, kw_only=True)
class EventParts:
    """Where the parts of an event are in a call."""

    id: Annotated[Source | None, Doc("Same id, same event; if there is none, a digest of the body")] = None
    subject: Annotated[Source | None, Doc("The record that it is about")] = None
    type: Annotated[Source | None, Doc("What happened; if there is none, `call`")] = None
    time: Annotated[Source | None, Doc("When: ISO 8601 or Unix time; if there is none, when it came")] = None


def verifier(settings: Verify) -> Callable[[Request, datetime], None]:
    """A function that raises RemoteError (401) for a call that isn't from who it should be. Raises ConfigError."""
    if not (settings.password if isinstance(settings, BasicCaller) else settings.secret):
        raise ConfigError("verify: the secret is empty, so anybody would know it", code="Verify")
    match settings:
        case Hmac():
            return _by_hmac(settings)
        case SharedSecret():
            return lambda request, _: _accept(_same(request.headers.get(settings.header.lower(), ""), settings.secret))
        case BasicCaller():
            return lambda request, _: _by_password(settings, request)


def _by_hmac(settings: Hmac) -> Callable[[Request, datetime], None]:
    timestamp = (settings.timestamp_header or "").lower()
    signed = settings.signed or (f"{{{timestamp}}}.{{body}}" if timestamp else "{body}")
    pieces = PLACE.split(signed)  # texts, with the name of a place between each two
    places = [name.lower() for name in pieces[1::2]]
    for needed in filter(None, ("body", timestamp)):
        if needed not in places:
            message = f"verify.signed must hold {{{needed}}}: what isn't signed anybody may change"
            raise ConfigError(message, code="Verify")
    secret = settings.secret.reveal().encode()
    decode = bytes.fromhex if settings.encoding == "hex" else lambda text: base64.b64decode(text, validate=True)

    def check(request: Request, now: datetime) -> None:
        given = [request.body if name == "body" else request.headers.get(name, "").encode() for name in places]
        parts = [text.encode() for text in pieces[::2]]
        content = b"".join(part for pair in zip(parts, [*given, b""], strict=True) for part in pair)
        wanted, fits = hmac.digest(secret, content, settings.algorithm), False
        for text in request.headers.get(settings.header.lower(), "").split():
            if not text.startswith(settings.prefix):
                continue
            try:
                fits |= hmac.compare_digest(decode(text.removeprefix(settings.prefix)), wanted)
            except ValueError:
                continue
        _accept(fits)
        if timestamp:
            at = _moment(request.headers.get(timestamp, ""))
            if at is None or abs((now - at).total_seconds()) > settings.tolerance:
                raise RemoteError("the call was not signed just now", code="Replay", status=401)

    return check


def _by_password(settings: BasicCaller, request: Request) -> None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, password = "", ""
    known = hmac.compare_digest(name.encode(), settings.username.encode())
    _accept(scheme.lower() == "basic" and _same(password, settings.password) & known)


def _same(given: str, secret: Secret) -> bool:
    return hmac.compare_digest(given.encode(), secret.reveal().encode())


def _accept(fits: bool) -> None:
    if not fits:
        raise RemoteError("the call doesn't prove who sends it", code="Unverified", status=401)


def prepare(parts: EventParts) -> None:
    """Raises ConfigError for a JSONPath that can't work."""
    for field in fields(parts):
        source = getattr(parts, field.name)
        if source is not None and source.startswith("$"):
            parsed(source)


def event(parts: EventParts, request: Request, now: datetime) -> Event:
    """The event of a call. Only what can't be read at all is refused: RemoteError (400)."""
    body = _content(request)
    at = _moment(_found(parts.time, request, body)) or now
    return Event(
        id=_found(parts.id, request, body) or hashlib.sha256(request.body).hexdigest()[:32],
        subject=_found(parts.subject, request, body),
        type=_found(parts.type, request, body) or "call",
        time=at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        data=body if isinstance(body, dict) else {"body": body},
    )


def _content(request: Request) -> JSON:
    """A body's JSON, or the fields of a form; a field that comes several times is a list."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            fields = parse_qs(request.body.decode(), keep_blank_values=True)
            return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
        return json.loads(request.body.decode("utf-8-sig"), parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise RemoteError("the body is neither JSON nor a form, in UTF-8", code="BadEvent", status=400) from None


def _found(source: str | None, request: Request, body: JSON) -> str:
    """What a source leads to, as text; empty where there is nothing of that kind."""
    if source is None:
        return ""
    if source.startswith("header:"):
        return request.headers.get(source.removeprefix("header:").lower(), "").strip()
    try:
        value = next((match.value for match in parsed(source).find(body)), None)
    except (TypeError, ValueError, AttributeError):  # a filter met a value that it isn't made for
        value = None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def _moment(text: str) -> datetime | None:
    """ISO 8601, or Unix time in seconds or milliseconds."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            number = float(text)
            return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS else number, UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _no_json(name: str) -> JSON:
    raise ValueError(name)
