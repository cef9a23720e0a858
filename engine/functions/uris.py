"""The parts of an absolute URI, normalised as .NET does it: lower-case host, no dot segments, characters escaped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit

from engine.functions.contents import utf8
from engine.functions.declare import function
from engine.types import JSON

_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443, "ldap": 389, "mailto": 25}
_UNESCAPED = "/%:@!$&'()*+,;=[]"


@dataclass(frozen=True)
class Uri:
    """An absolute URI in its parts."""

    words: ClassVar[str] = "an absolute URI such as https://contoso.com/a?b=c"

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @classmethod
    def read(cls, value: JSON) -> Uri | None:
        """None for text without a scheme, and for http(s) and the like without a host."""
        if not isinstance(value, str):
            return None
        try:
            parts = urlsplit(value.strip())
            port = parts.port
        except ValueError:  # a port or an IPv6 address that is none
            return None
        host = parts.hostname or ""
        if not parts.scheme or (not host and parts.scheme in _PORTS and parts.scheme != "mailto"):
            return None
        if not host and not parts.path:
            return None
        if ":" in host:
            host = f"[{host}]"
        path = _without_dots(parts.path) if host else parts.path
        query = f"?{_escaped(parts.query)}" if parts.query else ""
        default = _PORTS.get(parts.scheme, -1)
        return cls(parts.scheme, host, default if port is None else port, _escaped(path) or "/", query)


def _escaped(text: str) -> str:
    return quote(utf8(text), safe=_UNESCAPED + "?")


def _without_dots(path: str) -> str:
    out: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del out[-1:]
        elif segment != ".":
            out.append(segment)
    if segments and segments[-1] in (".", ".."):
        out.append("")
    return "/" + "/".join(out)


@function("uriHost")
def uri_host(uri: Uri) -> JSON:
    """The host of a URI, without the port.

    uriHost('https://www.contoso.com:8080/a') → "www.contoso.com"
    """
    return uri.host


@function("uriPath")
def uri_path(uri: Uri) -> JSON:
    """The path of a URI, '/' if it has none.

    uriPath('https://www.contoso.com/catalog/shownew.htm?date=today') → "/catalog/shownew.htm"
    """
    return uri.path


@function("uriPathAndQuery")
def uri_path_and_query(uri: Uri) -> JSON:
    """The path and query of a URI.

    uriPathAndQuery('https://www.contoso.com/catalog/shownew.htm?date=today') → "/catalog/shownew.htm?date=today"
    """
    return uri.path + uri.query


@function("uriPort")
def uri_port(uri: Uri) -> JSON:
    """The port of a URI, the usual one of its scheme if it names none (-1 if there is no usual one).

    uriPort('https://www.contoso.com') → 443
    """
    return uri.port


@function("uriQuery")
def uri_query(uri: Uri) -> JSON:
    """The query of a URI with its question mark, '' if it has none.

    uriQuery('https://www.contoso.com/catalog/shownew.htm?date=today') → "?date=today"
    """
    return uri.query


@function("uriScheme")
def uri_scheme(uri: Uri) -> JSON:
    """The scheme of a URI.

    uriScheme('https://www.contoso.com/') → "https"
    """
    return uri.scheme
