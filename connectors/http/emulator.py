"""http.example: a small service that shows a caller what it sent, and demands what it should have sent.

Everything that isn't asked for is refused: unknown query parameters, wrong media types, credentials where none belong.
Tokens are the sandbox's own, so one of the Entra emulator opens /secure/bearer too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from typing import ClassVar, NoReturn
from urllib.parse import unquote_plus

from engine import JSON
from engine.sandbox import Emulator, Incoming, Refusal, Reply, read_token, route, sign_token

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
ITEMS = [{"id": n, "name": f"Item {n}"} for n in range(1, 26)]
PAGE = 10
LIFETIME = 3600  # seconds of an access token


def any_method(path: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Marks the answer to every method at a path."""

    def mark(function: Callable[..., Reply]) -> Callable[..., Reply]:
        for method in METHODS:
            function = route(method, path)(function)
        return function

    return mark


class HttpEcho(Emulator):
    """http.example, with one client and one user."""

    hosts: ClassVar[tuple[str, ...]] = ("http.example",)
    connections: ClassVar[Mapping[str, Mapping[str, JSON]]] = {"http": {"base_url": "https://http.example"}}

    client: ClassVar[tuple[str, str]] = ("sandbox client", "sandbox+client&secret")
    user: ClassVar[tuple[str, str]] = ("sandbox-user", "sandbox-user-password")
    api_key: ClassVar[str] = "sandbox-api-key"

    @any_method("/")
    def root(self, request: Incoming) -> Reply:
        return Reply(204)

    @any_method("/echo")
    def echo(self, request: Incoming) -> Reply:
        """What arrived: method, path, query, headers without credentials, body as JSON, form, text or base64."""
        kind, body = request.headers.get("content-type", ""), request.body
        shown: JSON
        try:
            if kind.partition(";")[0].endswith(("/json", "+json")):
                shown = request.json()
            elif kind.startswith("application/x-www-form-urlencoded"):
                shown = request.form()
            elif kind.startswith("text/"):
                shown = body.decode()
            else:
                shown = base64.b64encode(body).decode() if body else None
        except ValueError:
            self._refuse(400, "BadBody", f"the body isn't what its Content-Type {kind} says")
        headers = {name: value for name, value in request.headers.items() if name not in CREDENTIALS}
        seen = {"method": request.method, "path": request.path, "query": dict(request.query)}
        return Reply(body={**seen, "headers": headers, "body": shown}, headers={"Set-Cookie": "seen=1", "X-Seen": "1"})

    @any_method("/status/{code}")
    def status(self, request: Incoming, code: str) -> Reply:
        """That status, with an error's body from 400 on and Retry-After on 429 and 503."""
        if not code.isdigit() or not 200 <= int(code) <= 599:
            self._refuse(400, "BadStatus", "a status is a number from 200 to 599")
        number = int(code)
        headers = {"Retry-After": "7"} if number in (429, 503) else {}
        if number == 204 or 300 <= number < 400:
            return Reply(number, None, headers)
        body = (
            {"error": {"code": f"E{number}", "message": f"you asked for {number}"}} if number >= 400 else {"ok": True}
        )
        return Reply(number, body, headers)

    @any_method("/content/{name}")
    def content(self, request: Incoming, name: str) -> Reply:
        """Answers of several media types: json, problem, text, latin1, xml, image, none, notjson, nan."""
        answers: dict[str, tuple[str, bytes]] = {
            "json": ("application/json", b'{"n": 1}'),
            "problem": ("application/problem+json; charset=utf-8", b'{"title": "none"}'),
            "text": ("text/plain; charset=utf-8", "naïve 🙂".encode()),
            "latin1": ("text/plain; charset=iso-8859-1", "naïve".encode("latin-1")),
            "xml": ("application/atom+xml", b"<feed/>"),
            "image": ("image/png", b"\x89PNG\r\n\x1a\n\x00"),
            "none": ("application/json", b""),
            "notjson": ("application/json", b"<html>"),
            "nan": ("application/json", b'{"n": NaN}'),
        }
        if name not in answers:
            return self.not_found(request)
        kind, body = answers[name]
        return Reply(body=body, headers={"Content-Type": kind})

    @route("GET", "/redirect/{where}")
    def redirect(self, request: Incoming, where: str) -> Reply:
        places = {"here": "/echo", "away": "https://elsewhere.example/echo"}
        return Reply(302, None, {"Location": places[where]}) if where in places else self.not_found(request)

    # Lists of 25 items, ten a page

    @route("GET", "/items/next")
    def items_by_next_link(self, request: Incoming) -> Reply:
        """OData's form: `value` and `@odata.nextLink`."""
        start = self._start(request, "$skiptoken", {"$filter"})
        body: dict[str, JSON] = {"value": ITEMS[start : start + PAGE]}
        if start + PAGE < len(ITEMS):
            keep = f"$filter={request.query['$filter']}&" if "$filter" in request.query else ""
            body["@odata.nextLink"] = f"https://{request.host}:443/items/next?{keep}$skiptoken={start + PAGE}"
        return Reply(body=body)

    @route("GET", "/items/link")
    def items_by_link_header(self, request: Incoming) -> Reply:
        """A bare list; `Link: <…>; rel="next"` as a relative reference."""
        start = self._start(request, "start")
        links = [f'</items/link?start={max(0, start - PAGE)}>; rel="prev"']
        if start + PAGE < len(ITEMS):
            links.append(f'</items/link?start={start + PAGE}>; rel="next"')
        return Reply(body=ITEMS[start : start + PAGE], headers={"Link": ", ".join(links)})

    @route("GET", "/items/cursor")
    def items_by_cursor(self, request: Incoming) -> Reply:
        """`data.items` and `paging.next.after`, which goes into `after`."""
        start = self._start(request, "after", {"limit"})
        page: dict[str, JSON] = {"data": {"items": ITEMS[start : start + PAGE]}, "paging": {}}
        if start + PAGE < len(ITEMS):
            page["paging"] = {"next": {"after": start + PAGE}}
        return Reply(body=page)

    @route("GET", "/items/astray/{how}")
    def items_astray(self, request: Incoming, how: str) -> Reply:
        """Next links that must not be followed: to another host, to plain http, back to the same page, no text."""
        links: dict[str, JSON] = {
            "host": "https://elsewhere.example/items",
            "plain": f"http://{request.host}/items/next",
            "circle": f"https://{request.host}{request.path}",
            "number": 7,
        }
        if how not in links:
            return self.not_found(request)
        return Reply(body={"value": ITEMS[:1], "@odata.nextLink": links[how]})

    # Credentials

    @any_method("/secure/basic")
    def secure_basic(self, request: Incoming) -> Reply:
        if _basic(request) != self.user:
            self._refuse(401, "Unauthorized", "user name or password is wrong", {"WWW-Authenticate": 'Basic realm="s"'})
        return Reply(body={"user": self.user[0]})

    @any_method("/secure/key")
    def secure_key(self, request: Incoming) -> Reply:
        if not hmac.compare_digest(request.headers.get("x-api-key", ""), self.api_key):
            self._refuse(401, "Unauthorized", "the key is wrong")
        return Reply(body={"key": True})

    @any_method("/secure/bearer")
    def secure_bearer(self, request: Incoming) -> Reply:
        """Takes the tokens of /oauth/token, and those of the Entra emulator for https://http.example."""
        claims = read_token(request.bearer) or {}
        fresh = int(claims.get("exp", 0)) > self.clock.now().timestamp()
        issued = int(claims.get("number", 0)) > int(self.store.get("http", "revoked") or 0) or "appid" in claims
        if claims.get("aud") != "https://http.example" or not fresh or not issued:
            self._refuse(401, "invalid_token", "the token is unknown or expired", {"WWW-Authenticate": "Bearer"})
        return Reply(body={name: claims[name] for name in ("sub", "appid", "scope", "upn") if name in claims})

    def revoke(self) -> None:
        """No token issued by /oauth/token so far is taken any more."""
        with self.store.transaction():
            self.store.put("http", "revoked", self.store.next_number("http token"))

    @route("POST", "/oauth/token")
    def token(self, request: Incoming) -> Reply:
        """RFC 6749 §4.3 and §4.4; the client proves itself by HTTP Basic or in the form, not both."""
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            self._oauth(400, "invalid_request", "the body must be a form")
        form = request.form()
        by_header = "authorization" in request.headers
        if by_header and "client_secret" in form:
            self._oauth(400, "invalid_request", "two client authentications")
        name, secret = _basic(request) if by_header else (form.get("client_id", ""), form.get("client_secret", ""))
        given = (unquote_plus(name), unquote_plus(secret)) if by_header else (name, secret)
        if given != self.client:
            # A service that tells too much: nothing of this may reach a message.
            self._oauth(401, "invalid_client", f"no client with secret {secret}")
        if form.get("scope", "read") not in ("read", "read write"):
            self._oauth(400, "invalid_scope", "known scopes: read, write")
        if form.get("grant_type") == "password":
            if (form.get("username"), form.get("password")) != self.user:
                self._oauth(400, "invalid_grant", f"{form.get('password')} is not the password")
        elif form.get("grant_type") != "client_credentials":
            self._oauth(400, "unsupported_grant_type", "known: client_credentials, password")
        claims = {
            "aud": "https://http.example",
            "sub": form.get("username", self.client[0]),
            "scope": form.get("scope", "read"),
            "exp": int(self.clock.now().timestamp()) + LIFETIME,
            "number": self.store.next_number("http token"),
        }
        body = {"access_token": sign_token(claims), "token_type": "Bearer", "expires_in": LIFETIME}
        return Reply(body=body, headers={"Cache-Control": "no-store"})

    def _start(self, request: Incoming, name: str, more: frozenset[str] | set[str] = frozenset()) -> int:
        if unknown := request.query.keys() - {name} - more:
            self._refuse(400, "BadQuery", f"unknown query parameter {min(unknown)}")
        mark = request.query.get(name, "0")
        if not mark.isdigit() or int(mark) > len(ITEMS):
            self._refuse(400, "BadQuery", f"{name} is none of ours")
        return int(mark)

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> NoReturn:
        raise Refusal(Reply(status, {"error": {"code": code, "message": message}}, headers or {}))

    def _oauth(self, status: int, error: str, description: str) -> NoReturn:
        headers = {"WWW-Authenticate": "Basic"} if status == 401 else {}
        raise Refusal(Reply(status, {"error": error, "error_description": description}, headers))


def _basic(request: Incoming) -> tuple[str, str]:
    """User name and password of HTTP Basic (RFC 7617), empty for anything else."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (name, password) if scheme.lower() == "basic" else ("", "")
