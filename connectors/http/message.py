"""Requests and answers as a flow writes and reads them: URL, headers, body."""

from __future__ import annotations

import base64
import json as jsonlib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import SplitResult, quote, quote_plus, unquote, urlencode, urlsplit

from engine import JSON, ConfigError, DataError, RemoteError

if TYPE_CHECKING:
    from requests import Response

Scalar: TypeAlias = str | float | bool | None
Fields: TypeAlias = Mapping[str, Scalar | list[Scalar]]

NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # of a header: RFC 9110 §5.1
VALUE = r"[\t\x20-\x7e\xa0-\xff]*"
RESERVED = frozenset({"host", "content-length", "transfer-encoding", "connection"})  # they belong to the transport
DEFAULT_PORTS = {"https": 443, "http": 80}
TEXTS = ("application/xml", "application/javascript", "application/x-ndjson", "application/x-www-form-urlencoded")


def target(base: str | None, url: str, query: Fields) -> str:
    """The whole URL. Raises ConfigError, DataError; they don't quote it: it may hold a password or personal data."""
    url = url.strip()
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        if not base:
            raise ConfigError("the URL is relative, and the connection has no base_url", code="NoBaseUrl")
        url = f"{base.rstrip('/')}/{url.lstrip('/')}" if url else base
    if re.search(r"[\x00-\x20\x7f\\\ud800-\udfff]", url):
        raise DataError(
            "the URL holds a blank, a backslash or a character that isn't one",
            code="BadUrl",
            hint="encode values with uriComponent()",
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise DataError("the URL can't be read", code="BadUrl") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise DataError("the URL must begin with https:// and a host", code="BadUrl")
    if "@" in parts.netloc:
        raise ConfigError("the URL holds a user name", code="BadUrl", hint="credentials belong in `auth`")
    if {".", ".."} & set(unquote(parts.path).split("/")):
        raise DataError("the URL's path climbs by '.' or '..'", code="BadUrl", hint="encode values with uriComponent()")
    pairs = "&".join(text for text in (parts.query, _encoded(query, "query", quote)) if text)
    return parts._replace(netloc=netloc(parts), query=pairs, fragment="").geturl()


def netloc(parts: SplitResult) -> str:
    """Host and port as hosts are listed: without the scheme's own port."""
    return parts.netloc.removesuffix(f":{DEFAULT_PORTS.get(parts.scheme)}")


def headers(given: Mapping[str, Scalar], own: frozenset[str]) -> dict[str, str]:
    """The headers of a step, checked; those in `own` are the connection's. Raises ConfigError, DataError."""
    sent = {}
    for name, value in given.items():
        if value is None:
            continue
        if not re.fullmatch(NAME, name):
            raise DataError(f"headers: {name[:60]!r} is no header name", code="BadHeader")
        if name.lower() in RESERVED:
            raise ConfigError(f"headers: {name} belongs to the transport", code="BadHeader", hint="leave it out")
        if name.lower() in own:
            raise ConfigError(
                f"headers: {name} is sent by the connection itself", code="BadHeader", hint="leave it out"
            )
        sent[name] = _header_value(name, _text(value))
    return sent


def body(
    json: JSON, form: Fields | None, text: str | None, content: str | Mapping[str, str] | None
) -> tuple[str | None, bytes | None]:
    """Media type and bytes of the one body that is given. Raises ConfigError for two, DataError."""
    candidates = {"json": json, "form": form, "text": text, "bytes": content}
    given = [name for name, value in candidates.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given: a request has one body", code="TwoBodies")
    if form is not None:
        return "application/x-www-form-urlencoded", _encoded(form, "form", quote_plus).encode()
    try:
        if json is not None:
            return "application/json", jsonlib.dumps(json, ensure_ascii=False, allow_nan=False).encode()
        if text is not None:
            return "text/plain; charset=utf-8", text.encode()
    except (ValueError, TypeError):
        raise DataError(f"{given[0]}: it holds what UTF-8 or JSON can't", code="BadBody") from None
    if content is None:
        return None, None
    envelope = content if isinstance(content, Mapping) else {"$content": content}
    try:
        decoded = base64.b64decode(envelope["$content"], validate=True)
    except (KeyError, ValueError):
        raise DataError("bytes: expected base64, or {$content-type, $content} with base64", code="BadBytes") from None
    return _header_value("$content-type", envelope.get("$content-type", "application/octet-stream")), decoded


def content(answer: Response) -> JSON:
    """An answer's body: its JSON, its text, else base64 with its type; null without one. Raises RemoteError."""
    raw = answer.content
    if not raw:
        return None
    full = answer.headers.get("Content-Type", "")
    kind, _, parameters = full.lower().partition(";")
    kind = kind.strip()
    if kind.endswith(("/json", "+json")):
        try:
            return jsonlib.loads(raw, parse_constant=_no_json)
        except (ValueError, RecursionError):
            raise RemoteError(f"the answer says {kind} and isn't", code="BadJson") from None
    if kind.startswith("text/") or kind in TEXTS or kind.endswith("+xml"):
        charset = re.search(r'charset="?([\w.:-]+)', parameters)
        try:
            return raw.decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            return raw.decode("utf-8", "replace")
    return {"$content-type": full or "application/octet-stream", "$content": base64.b64encode(raw).decode()}


def told(answer: Response) -> dict[str, str]:
    """An answer's headers by their names in lower case, without cookies."""
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() != "set-cookie"}


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _encoded(fields: Fields, what: str, quote_via: Callable[..., str]) -> str:
    pairs = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, _text(v)) for v in values if v is not None]
    try:
        return urlencode(pairs, quote_via=quote_via)
    except UnicodeEncodeError:
        raise DataError(f"{what}: a value holds half a surrogate pair", code="BadText") from None


def _header_value(name: str, value: str) -> str:
    value = value.strip()
    if not re.fullmatch(VALUE, value):
        raise DataError(
            f"headers: the value of {name} holds a line break or a character beyond ISO 8859-1",
            code="BadHeader",
            hint="encode it, with uriComponent() or base64()",
        )
    return value


def _no_json(name: str) -> JSON:
    raise ValueError(name)
