"""WSGI applications (PEP 3333) as the far end of HTTP: mounted on a session, or served on loopback."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

WSGI: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dropped(ConnectionResetError):  # noqa: N818 - it is what the caller sees, not a mistake of ours
    """The connection broke. Served emulators reset the socket."""


class WSGIAdapter(BaseAdapter):
    """Answers requests by a WSGI application (PEP 3333) in this process."""

    def __init__(self, app: WSGI) -> None:
        super().__init__()
        self.app = app

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body or b""
        environ = environ_of(
            request.method or "GET",
            request.url or "",
            dict(request.headers),
            body.encode() if isinstance(body, str) else body,
        )
        status, headers, content = call_wsgi(self.app, environ)
        answer = requests.Response()
        code, _space, answer.reason = status.partition(" ")
        answer.status_code = int(code)
        answer.headers = CaseInsensitiveDict(headers)
        answer.url, answer.request, answer.encoding = request.url or "", request, "utf-8"
        answer.raw = io.BytesIO(content)
        return answer

    def close(self) -> None:
        pass


def environ_of(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The WSGI environ of a request."""
    parts = urlsplit(url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(parts.path or "/").decode("latin-1"),
        "RAW_URI": parts.path + (f"?{parts.query}" if parts.query else ""),
        "QUERY_STRING": parts.query,
        "SERVER_NAME": parts.hostname or "",
        "SERVER_PORT": str(parts.port or (443 if parts.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": parts.netloc,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


def call_wsgi(app: WSGI, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status line, headers and whole body of a WSGI application's answer."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[[bytes], object]:
        started.append((status, headers))
        return lambda _: None

    result = app(environ, start_response)
    try:
        content = b"".join(result)
    finally:
        if close := getattr(result, "close", None):
            close()
    status, headers = started[-1]
    return status, headers, content


def serve(apps: Mapping[str, WSGI], port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A loopback server that gives each request to the application named by its Host header.

    HTTP/1.1 with keep-alive; not started: call serve_forever(). A Host that no application has gets 421.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_request(self) -> None:
            name = self.headers.get("Host", "").lower()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            environ = environ_of(self.command, f"https://{name}{self.path}", dict(self.headers.items()), body)
            app = apps.get(name)
            if app is None:
                status, headers, content = "421 Misdirected Request", [("Content-Length", "0")], b""
            else:
                try:
                    status, headers, content = call_wsgi(app, environ)
                except Dropped:
                    linger = struct.pack("ii", 1, 0)  # close with RST
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    return
            lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers), "", ""]
            self.wfile.write("\r\n".join(lines).encode("latin-1") + content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_request  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            pass  # a caller that went away

    return Server((host, port), Handler)
