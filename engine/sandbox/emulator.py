"""Emulators: strict stand-ins for remote services, as WSGI applications for the services' real host names.

Mounted on a connection's session, connectors and msal run unchanged against real URLs; served on loopback, other
programs (and `route:`) reach the same applications. State lives in a Store, so it survives the process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import json
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

from engine.contract import Clock, SystemClock
from engine.sandbox.wsgi import WSGI, Dropped
from engine.types import JSON


@dataclass(frozen=True)
class Reply:
    """An answer; `body` is sent as JSON, bytes as they are, None as nothing."""

    status: int = 200
    body: JSON | bytes = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - an answer that ends the request early
    """Ends a request with this reply; what the request had stored is undone."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True)
class Incoming:
    """A request as an emulator sees it: header names in lower case, `query` decoded, `path` percent-encoded."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> JSON:
        """Its body as JSON. Raises ValueError."""
        return json.loads(self.body or b"null")

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def bearer(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


class Store:
    """Documents by kind and id in SQLite, with transactions; in memory without a path."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(str(path or ":memory:"), check_same_thread=False, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS documents"
            " (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID"
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, one at a time, also between processes."""
        with self._lock:
            if not self._depth:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not self._depth:
                self._db.execute("COMMIT")

    def get(self, kind: str, id: str) -> JSON:
        """The document, or None."""
        with self._lock:
            row = self._db.execute("SELECT body FROM documents WHERE kind=? AND id=?", (kind, id)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, id: str, body: JSON) -> None:
        with self._lock:
            self._db.execute("REPLACE INTO documents VALUES (?,?,?)", (kind, id, json.dumps(body, ensure_ascii=False)))

    def delete(self, kind: str, id: str) -> bool:
        with self._lock:
            return self._db.execute("DELETE FROM documents WHERE kind=? AND id=?", (kind, id)).rowcount > 0

    def all(self, kind: str) -> list[tuple[str, JSON]]:
        """(id, document) of a kind in the order of ids."""
        with self._lock:
            rows = self._db.execute("SELECT id, body FROM documents WHERE kind=? ORDER BY id", (kind,)).fetchall()
        return [(id, json.loads(body)) for id, body in rows]

    def next_number(self, name: str) -> int:
        """A counter that only grows (row versions, eTags)."""
        with self.transaction():
            number = int(self.get("counter", name) or 0) + 1
            self.put("counter", name, number)
        return number

    def close(self) -> None:
        self._db.close()


@dataclass(frozen=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    function: Callable[..., Reply]
    parameters: frozenset[str]


def route(method: str, path: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Marks an emulator's method as the answer to METHOD path; `{name}` matches one path segment, decoded.

    The method gets the Incoming and the named segments.
    """
    pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))

    def mark(function: Callable[..., Reply]) -> Callable[..., Reply]:
        routes = getattr(function, "__routes__", ())
        names = frozenset(pattern.groupindex)
        function.__routes__ = (*routes, _Route(method, pattern, function, names))  # type: ignore[attr-defined]
        return function

    return mark


class Emulator:
    """Base of emulators: one WSGI application for `hosts`.

    `connections` gives, by connector, the settings that reach it in the sandbox. Each request runs in one
    transaction of the store. `seed()` fills an empty store. Requests meet `not_found` and `wrong_method` where no
    route fits; subclasses answer those in their service's own words. `collections` names what tests of flows set up and
    look at: collection → its kind in the store, and the property that is a record's id.
    """

    hosts: ClassVar[tuple[str, ...]] = ()
    connections: ClassVar[Mapping[str, Mapping[str, JSON]]] = {}
    collections: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, store: Store | None = None, clock: Clock | None = None) -> None:
        self.store = store or Store()
        self.clock = clock or SystemClock()
        methods = [m for _, m in inspect.getmembers(type(self), inspect.isfunction)]
        self._routes: list[_Route] = [r for m in methods for r in getattr(m, "__routes__", ())]
        with self.store.transaction():
            marker = type(self).__module__
            if self.store.get("seeded", marker) is None:
                self.seed()
                self.store.put("seeded", marker, True)

    def seed(self) -> None:
        """Fills an empty store."""

    def records(self, collection: str) -> list[JSON]:
        """What a collection holds, by id."""
        return [record for _, record in self.store.all(self.collections[collection][0])]

    def put_record(self, collection: str, record: Mapping[str, JSON]) -> None:
        """Makes a record as it is given, past the service's rules. Raises ValueError for an impossible one."""
        kind, id = self.collections[collection]
        self.store.put(kind, str(record[id]), dict(record))

    def remove_record(self, collection: str, id: str) -> None:
        """Takes a record away."""
        self.store.delete(self.collections[collection][0], id)

    def answer(self, request: Incoming) -> Reply:
        """The reply to one request."""
        fits = [(r, m) for r in self._routes if (m := r.pattern.fullmatch(request.path))]
        for r, match in fits:
            if r.method == request.method:
                segments = {name: unquote(text) for name, text in match.groupdict().items()}
                return r.function(self, request, **segments)
        return self.wrong_method(request) if fits else self.not_found(request)

    def not_found(self, request: Incoming) -> Reply:
        return Reply(404, {"error": {"code": "NotFound", "message": f"no resource at {request.path}"}})

    def wrong_method(self, request: Incoming) -> Reply:
        return Reply(405, {"error": {"code": "MethodNotAllowed", "message": f"{request.method} is not allowed here"}})

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = incoming(environ)
        try:
            with self.store.transaction():
                reply = self.answer(request)
        except Refusal as refusal:
            reply = refusal.reply
        if request.method == "HEAD":  # RFC 9110 §9.3.2: the same without its body
            reply = Reply(reply.status, None, reply.headers)
        return respond(reply, start_response)


def incoming(environ: dict[str, Any]) -> Incoming:
    """The request in a WSGI environ."""
    headers = {k[5:].replace("_", "-").lower(): str(v) for k, v in environ.items() if k.startswith("HTTP_")}
    if kind := environ.get("CONTENT_TYPE"):
        headers["content-type"] = kind
    length = int(environ.get("CONTENT_LENGTH") or 0)
    raw = environ.get("RAW_URI") or environ["PATH_INFO"]
    return Incoming(
        environ["REQUEST_METHOD"],
        str(environ.get("HTTP_HOST", "")).lower(),
        raw.partition("?")[0],
        dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        headers,
        environ["wsgi.input"].read(length) if length else b"",
    )


def respond(reply: Reply, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Sends a Reply."""
    headers = dict(reply.headers)
    if isinstance(reply.body, bytes):
        content = reply.body
    elif reply.body is None:
        content = b""
    else:
        content = json.dumps(reply.body, ensure_ascii=False).encode()
        headers.setdefault("Content-Type", "application/json; charset=utf-8")
    if reply.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(content))
    start_response(f"{reply.status} {_phrase(reply.status)}", list(headers.items()))
    return [content]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


FAULTS = ("429", "500", "503", "reset", "lost")


@dataclass
class Faults:
    """Wraps an emulator and makes it fail on demand.

    `rates` gives a probability for each of FAULTS: `reset` breaks the connection before the service has acted,
    `lost` after it has. `latency` is seconds before each answer. `once` is a list of (method, part of the path, fault)
    that strike one time each, in tests.
    """

    app: WSGI
    rates: Mapping[str, float] = field(default_factory=dict)
    latency: float = 0.0
    seed: int | None = None
    once: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - chooses faults, guards nothing

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.latency:
            time.sleep(self.latency)
        fault = self._strikes(environ)
        if fault == "reset":
            raise Dropped("connection reset before the request was handled")
        if fault in ("429", "500", "503"):
            headers = {"Retry-After": "1"} if fault != "500" else {}
            body = {"error": {"code": fault, "message": f"fault on demand: {fault}"}}
            return respond(Reply(int(fault), body, headers), start_response)
        answer = self.app(environ, start_response)
        if fault == "lost":
            b"".join(answer)
            raise Dropped("connection reset after the request was handled")
        return answer

    def _strikes(self, environ: dict[str, Any]) -> str:
        for entry in self.once:
            method, path, fault = entry
            if environ["REQUEST_METHOD"] == method and path in (environ.get("RAW_URI") or environ["PATH_INFO"]):
                self.once.remove(entry)
                return fault
        dice = self._random.random()
        for fault, rate in self.rates.items():
            dice -= rate
            if dice < 0:
                return fault
        return ""


_SIGNING_KEY = b"flowrun sandbox: worth nothing outside of it"


def sign_token(claims: Mapping[str, JSON]) -> str:
    """An access token of the sandbox, which every emulator can verify without asking the one that issued it."""
    payload = base64.urlsafe_b64encode(json.dumps(dict(claims)).encode()).decode().rstrip("=")
    return f"{payload}.{_mac(payload)}"


def read_token(token: str) -> dict[str, JSON] | None:
    """The claims of a sandbox token, None for anything else. The caller checks `aud` and `exp`."""
    payload, _, mac = token.partition(".")
    if not payload or not hmac.compare_digest(mac.encode(), _mac(payload).encode()):
        return None
    claims: dict[str, JSON] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _mac(payload: str) -> str:
    digest = hmac.new(_SIGNING_KEY, payload.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
