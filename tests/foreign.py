"""Foreign services on loopback: Entra ID, Partner Center and Dataverse as Microsoft's pages describe them.

They share nothing with the sandbox's emulators: what flowrun does against them it does for the services' sake. One
server answers for all three hosts (by Host header) over HTTP/1.1 with keep-alive. It fails on demand, at a given
request of a run, and answers in several manners that HTTP allows.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import quote

from foreign_dataverse import CRM, Dataverse
from foreign_dataverse import RESOURCE as CRM_RESOURCE
from foreign_entra import LOGIN, TENANT, TOKEN, Application, SignIn
from foreign_partner import REFERRALS, Referrals
from foreign_partner import RESOURCE as REFERRALS_RESOURCE
from foreign_wire import Answer, Ask, Refused

PC_APP, CRM_APP = "9d4e8f7a-6b5c-4d3e-8f2a-1b0c9d8e7f6a", "5e2d1c0b-a9f8-4e7d-b6c5-4d3e2f1a0b9c"
HTML = "text/html; charset=us-ascii"
GATEWAY = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1><hr>Azure gateway</body></html>"


class Moving(Protocol):
    """A clock that the server can move: then a slow answer takes no time."""

    def now(self) -> Any: ...
    def advance(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Manner:
    """How a server answers, within what HTTP and the pages allow."""

    chunked: bool = False
    gzip: bool = False  # even where nobody asked for it
    names: str = "as they are"  # or upper, lower: the letter case of header names
    more: bool = False  # members in bodies that no page names
    mark: bool = False  # a byte order mark before an API's JSON
    hangs_up: bool = False  # closes each connection after its answer
    deaf: bool = False  # doesn't hear Prefer: answers a write with 204


@dataclass(frozen=True)
class Exchange:
    """A request and what came of it: the status that the service gave (0: it never saw it), and the fault on top."""

    method: str
    host: str
    path: str
    status: int
    fault: str = ""
    body: bytes = b""

    @property
    def wrote(self) -> bool:
        """Whether the service was changed."""
        return self.method not in ("GET", "HEAD") and 200 <= self.status < 300 and self.host != LOGIN


# Faults that an answer of the gateway in front stands for: the service never sees the request.
INSTEAD: dict[str, Answer] = {
    "429": Answer(429, {"statusCode": 429, "message": "Rate limit is exceeded."}, {"Retry-After": "7"}),
    "429 until": Answer(429, {"statusCode": 429, "message": "Rate limit is exceeded."}, {"Retry-After": "DATE"}),
    "429 bare": Answer(429),
    "408": Answer(408, GATEWAY.format("Request Timeout"), {}, HTML),
    "500": Answer(500, {"error": {"code": "0x80040216", "message": "An unexpected error occurred."}}),
    "502": Answer(502, GATEWAY.format("502 - Web server received an invalid response"), {}, HTML),
    "503": Answer(503, {"error": {"code": "serviceNotAvailable", "message": "Try later"}}, {"Retry-After": "45"}),
    "503 html": Answer(503, GATEWAY.format("Service Unavailable"), {}, HTML),
    "504": Answer(504),
}
# Faults on the wire. Before: the service never sees the request. After: it has done it.
BEFORE = ("reset", "hung up")
AFTER = ("lost", "lost politely", "cut", "cut chunk", "half the JSON", "empty", "page", "stalled", "500 after")
# What the answer is worth all the same.
HARMLESS = ("slow", "expired")
# A refusal by something in front of the service: a person has to look.
BLOCKED: dict[str, Answer] = {
    "403 html": Answer(403, GATEWAY.format("403 Forbidden"), {}, HTML),
    "404 html": Answer(404, GATEWAY.format("404 - File or directory not found."), {}, HTML),
    "400 html": Answer(400, GATEWAY.format("400 Bad Request"), {}, HTML),
    "302": Answer(302, "", {"Location": "https://portal.example/login"}, HTML),
}
TRANSIENT = (*INSTEAD, *BEFORE, *AFTER, *HARMLESS)


class Foreign(ThreadingHTTPServer):
    """The three services behind one loopback address.

    `faults` says what goes wrong with a request, by referral and number: the requests are counted from the one that
    reads the referral on, those before the first such one under "". `before` holds what others do just before a
    request is handled, by method and host, once.
    """

    entra: SignIn
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, clock: Moving | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clock = clock
        self.lock = threading.RLock()
        self.manner = Manner()
        self.crashes: list[str] = []
        self.leaks: list[str] = []  # credentials where they don't belong
        self.earlier: set[str] = set()
        self.renew()

    def renew(self) -> None:
        """Empty services, and nothing wrong with them."""
        self.earlier = self.secrets
        apps = {
            PC_APP: Application(PC_APP, "pc~Secret_8.vw+/Zq==", delegated=frozenset({REFERRALS_RESOURCE})),
            CRM_APP: Application(CRM_APP, "crm~Secret.4x&%7Tr", own=frozenset({CRM_RESOURCE})),
        }
        self.entra = SignIn(self.now, apps)
        self.referrals = Referrals(self.now, lambda text: self.entra.valid(text, REFERRALS_RESOURCE))
        self.crm = Dataverse(self.now, lambda text: self.entra.valid(text, CRM_RESOURCE))
        self.refresh_token = self.entra.signed_in(PC_APP)
        self.fresh()

    def now(self) -> float:
        return float(self.clock.now().timestamp()) if self.clock else time.time()

    def fresh(self, faults: Mapping[tuple[str, int], str] | None = None) -> None:
        """Begins to count requests anew."""
        self.seen: list[Exchange] = []
        self.faults = dict(faults or {})
        self.before: dict[tuple[str, str], Callable[[], object]] = {}
        self.subject, self.count = "", 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def secrets(self) -> set[str]:
        """All that nobody may see, of now and before."""
        return self.earlier | self.entra.secrets if "entra" in vars(self) else set()

    def credentials_in(self, content: bytes) -> list[str]:
        """What of these secrets stands in a file or output, as it is or quoted for a URL."""
        secrets = self.secrets
        found = {text.decode() for text in TOKEN.findall(content)} & secrets
        plain = [secret for secret in secrets if not TOKEN.fullmatch(secret.encode())]
        return [*found, *(s for s in plain if s.encode() in content or quote(s, safe="").encode() in content)]

    @property
    def writes(self) -> list[Exchange]:
        """The requests that changed something."""
        return [e for e in self.seen if e.wrote]

    @property
    def variables(self) -> dict[str, str]:
        """What the settings of `connections` refer to."""
        secret = {id: app.secret for id, app in self.entra.applications.items()}
        return {"PC_SECRET": secret[PC_APP], "PC_REFRESH": self.refresh_token, "CRM_SECRET": secret[CRM_APP]}

    @property
    def connections(self) -> str:
        """A connections.yaml whose environment `lab` is routed here."""
        routes = "".join(f'      {host}: "{self.url}"\n' for host in (LOGIN, REFERRALS, CRM))
        return (
            f"environments:\n  lab:\n    route:\n{routes}    connections:\n"
            f'      partner_center: {{tenant: {TENANT}, client_id: {PC_APP}, client_secret: "${{env:PC_SECRET}}",\n'
            f'                       refresh_token: "${{env:PC_REFRESH}}"}}\n'
            f"      dynamics365: {{url: https://{CRM}, tenant: {TENANT}, client_id: {CRM_APP},\n"
            f'                    client_secret: "${{env:CRM_SECRET}}"}}\n'
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers come and go: a broken connection is no crash."""

    def service(self, ask: Ask) -> Answer:
        """The answer of the service that the Host header names."""
        services: dict[str, Callable[[Ask], Answer]]
        services = {LOGIN: self.entra.answer, REFERRALS: self.referrals.answer, CRM: self.crm.answer}
        service = services.get(ask.host)
        with self.lock:
            if service is None:
                self.leaks.append(f"a request came for {ask.host!r}")
                return Answer(421, GATEWAY.format("Misdirected Request"), {}, HTML)
            self._watch(ask)
            if event := self.before.pop((ask.method, ask.host), None):
                event()
            try:
                _ = ask.path, ask.query
            except ValueError as error:
                return Answer(400, GATEWAY.format(f"Bad Request: {error}"), {}, HTML)
            try:
                answer = service(ask)
            except Refused as refusal:
                answer = refusal.answer
            except Exception as error:  # noqa: BLE001 - a fault of the test's own
                self.crashes.append(f"{ask.method} {ask.target}: {type(error).__name__}: {error}")
                answer = Answer(500, GATEWAY.format("500"), {}, HTML)
            return answer

    def _watch(self, ask: Ask) -> None:
        """Notes credentials that come where they don't belong."""
        headers = "\n".join(f"{name}: {value}" for name, value in ask.headers.items())
        sent = f"{ask.target}\n{headers}\n{ask.body.decode(errors='replace')}"
        resource = {REFERRALS: REFERRALS_RESOURCE, CRM: CRM_RESOURCE}.get(ask.host)
        for text, token in self.entra.issued.items():
            if text in sent and (token.resource != resource or text in ask.target or text != ask.bearer):
                self.leaks.append(f"a token for {token.resource} came to {ask.host} in {ask.method} {ask.target}")
        if ask.host != LOGIN:
            plain = {app.secret for app in self.entra.applications.values()} | {*self.entra.refresh_tokens}
            self.leaks += [f"a secret came to {ask.host}" for text in plain if text in sent]
        if ask.header("X-Forwarded-Proto") != "https":
            self.leaks.append(f"{ask.method} {ask.target} was not meant for https")

    def meet(self, ask: Ask) -> tuple[Answer, str]:
        """The answer to a request, and the fault of the wire to send it with."""
        with self.lock:
            path = ask.target
            if ask.host == REFERRALS and ask.method == "GET" and path.rpartition("/")[2] != self.subject:
                self.subject, self.count = path.rpartition("/")[2], 0
            self.count += 1
            fault = self.faults.get((self.subject, self.count), "")
            if fault in INSTEAD or fault in BLOCKED or fault in BEFORE:
                self._watch(ask)
                self.seen.append(Exchange(ask.method, ask.host, path, 0, fault, ask.body))
                return {**INSTEAD, **BLOCKED}.get(fault, Answer(500)), fault
            if fault == "expired":
                self.entra.revoke_all()
            answer = self.service(ask)
            self.seen.append(Exchange(ask.method, ask.host, path, answer.status, fault, ask.body))
            return answer, fault

    def pass_time(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock.advance(seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Foreign

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host = str(self.headers.get("Host") or "").lower()
        ask = Ask(self.command, host, self.path, self.headers, body)
        answer, fault = self.server.meet(ask)
        if fault in ("reset", "lost"):
            self._reset()
        elif fault in ("hung up", "lost politely"):
            self.close_connection = True
        else:
            self._send(ask, self._spoilt(answer, fault), fault)
        if self.server.manner.hangs_up:
            self.close_connection = True

    def _spoilt(self, answer: Answer, fault: str) -> Answer:
        if fault == "page":
            return Answer(200, GATEWAY.format("Sign in to the guest network"), {}, HTML)
        if fault == "empty":
            return Answer(answer.status, None, answer.headers, answer.kind)
        if fault == "500 after":
            return Answer(500, {"error": {"code": "", "message": "The answer was lost on the way."}})
        if answer.headers.get("Retry-After") == "DATE":
            return Answer(answer.status, answer.body, {"Retry-After": formatdate(self.server.now() + 9, usegmt=True)})
        return answer

    def _send(self, ask: Ask, answer: Answer, fault: str) -> None:
        manner = self.server.manner
        body = answer.body
        if isinstance(body, dict | list):
            if manner.more and isinstance(body, dict) and not fault:
                body = {**body, "futureMember": {"of": [1, None, "…"]}, "@odata.unheardOf": "x"}
            text = json.dumps(body, ensure_ascii=not manner.more)
            body = (b"\xef\xbb\xbf" if manner.mark and ask.host != LOGIN else b"") + text.encode()
            if fault == "half the JSON":
                body = body[: len(body) // 2]
        elif isinstance(body, str):
            body = body.encode()
        headers = {"Date": formatdate(self.server.now(), usegmt=True), "Strict-Transport-Security": "max-age=31536000"}
        headers |= {"Server": "Microsoft-IIS/10.0", "Set-Cookie": "ARRAffinity=c0ffee; path=/; secure; HttpOnly"}
        if manner.deaf and ask.method == "PATCH" and answer.status in (200, 201):
            kept = {k: v for k, v in answer.headers.items() if k != "Preference-Applied"}
            answer, body = Answer(204, None, kept), None
        headers |= answer.headers
        if manner.hangs_up:
            headers["Connection"] = "close"
        if body:
            headers["Content-Type"] = answer.kind
        if body and manner.gzip:
            body = gzip.compress(body, 1, mtime=0)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        bodiless = answer.status in (204, 304) or ask.method == "HEAD"
        chunked = fault == "cut chunk" or (manner.chunked and not bodiless and fault != "cut")
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not bodiless:
            headers["Content-Length"] = str(len(body or b""))
        head = f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}\r\n"
        style = {"upper": str.upper, "lower": str.lower}.get(manner.names, str)
        head += "".join(f"{style(name)}: {value}\r\n" for name, value in headers.items())
        self._write(f"{head}\r\n".encode(), body or b"", fault, chunked=chunked and not bodiless)

    def _write(self, head: bytes, body: bytes, fault: str, *, chunked: bool) -> None:
        half = len(body) // 2
        pieces = [p for p in (body[:half], body[half:]) if p]
        framed = [b"%x\r\n%s\r\n" % (len(p), p) for p in pieces] + [b"0\r\n\r\n"] if chunked else pieces
        if fault in ("cut", "cut chunk"):
            self.wfile.write(head + (framed[0] if framed and len(pieces) > 1 else b""))
            self._reset() if fault == "cut chunk" and not pieces else None
            self.close_connection = True
            return
        if fault in ("slow", "stalled"):
            self.wfile.write(head + (framed[0] if framed else b""))
            self.server.pass_time(40 if fault == "slow" else 400)
            self.wfile.write(b"".join(framed[1:]))
            return
        self.wfile.write(head + b"".join(framed))

    def _reset(self) -> None:
        """Breaks the connection off with a RST."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


@contextmanager
def foreign(clock: Moving | None = None) -> Iterator[Foreign]:
    """The services for as long as they are needed."""
    server = Foreign(clock)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
