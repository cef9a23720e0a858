"""The http connector against its strict emulator: what is sent, what comes back, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from connectors.entra.emulator import Entra
from connectors.http.connector import Http
from connectors.http.emulator import ITEMS, HttpEcho
from engine import Call, ConfigError, DataError, FlowrunError, RemoteError, TransientError
from engine.sandbox import Faults
from engine.testing import FakeClock, connect
from engine.testing.crm.bench import on_behalf_of

TENANT = "5b0f4c1e-7d8a-4f1c-9a55-1d2e3f405060"
ENTRA_APP = {
    "tenant": TENANT,
    "client_id": "2b8c3d4e-5f60-4172-8cbd-2e3f4a5b6c7d",
    "client_secret": "sandbox-http-secret",
}
OAUTH = {
    "token_url": "https://tokens.example/oauth/token",
    "client_id": HttpEcho.client[0],
    "client_secret": HttpEcho.client[1],
}


class Recorder(HttpEcho):
    """Keeps what arrived, as raw as WSGI has it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen.append(dict(environ))
        return super().__call__(environ, start_response)


class Tokens(Recorder):
    """The same service as token endpoint of another host."""

    hosts = ("tokens.example",)


class Elsewhere(Recorder):
    """A host that nobody is to reach."""

    hosts = ("elsewhere.example",)


@pytest.fixture
def service() -> Recorder:
    return Recorder(clock=FakeClock())


@pytest.fixture
def http(service: Recorder) -> Http:
    return connect(Http, {"base_url": "https://http.example"}, service, Elsewhere())


def ask(http: Http, url: str, **inputs: Any) -> Any:
    return http.invoke("request", {"url": url, **inputs}).body


# What is sent


@pytest.mark.parametrize(
    ("base", "url", "path"),
    [
        ("https://http.example", "/echo", "/echo"),
        ("https://http.example/", "echo", "/echo"),
        ("https://http.example", "https://http.example/echo#part", "/echo"),
        ("https://http.example", "HTTPS://HTTP.EXAMPLE:443/echo", "/echo"),
        ("https://http.example", "  https://http.example/echo ", "/echo"),
        ("https://http.example/echo", "", "/echo"),
        ("https://http.example", "//echo", "/echo"),
    ],
)
def test_urls(service: Recorder, base: str, url: str, path: str) -> None:
    """Absolute, or appended to the base URL; blanks around it, a fragment and the usual port are dropped."""
    assert ask(connect(Http, {"base_url": base}, service), url)["path"] == path


def test_a_base_url_keeps_its_path(service: Recorder) -> None:
    http = connect(Http, {"base_url": "https://http.example/items"}, service)
    for url in ("cursor", "/cursor"):
        assert len(ask(http, url)["data"]["items"]) == 10


@pytest.mark.parametrize(
    ("url", "kind", "code"),
    [
        ("https://elsewhere.example/echo", ConfigError, "HostRefused"),
        ("https://http.example.evil.example/echo", ConfigError, "HostRefused"),
        ("https://http.example:8443/echo", ConfigError, "HostRefused"),
        ("https://user:pass-word@http.example/echo", ConfigError, "BadUrl"),
        ("https://http.example\\@elsewhere.example/", DataError, "BadUrl"),
        ("ftp://http.example/echo", DataError, "BadUrl"),
        ("https:///echo", DataError, "BadUrl"),
        ("https://[::1/echo", DataError, "BadUrl"),
        ("https://http.example:port/echo", DataError, "BadUrl"),
        ("items/../secure/basic", DataError, "BadUrl"),
        ("items/%2e%2E/secure/basic", DataError, "BadUrl"),
        ("a b", DataError, "BadUrl"),
        ("a\r\nHost: elsewhere.example", DataError, "BadUrl"),
        ("half/\ud800", DataError, "BadUrl"),
    ],
)
def test_urls_that_are_refused(http: Http, service: Recorder, url: str, kind: type, code: str) -> None:
    """Nothing is sent to a host that isn't listed, by a way nobody wrote, or with a credential in the URL."""
    with pytest.raises(kind) as caught:
        ask(http, url)
    assert caught.value.code == code
    assert "pass-word" not in str(caught.value)
    assert service.seen == []


def test_more_hosts(service: Recorder) -> None:
    """Hosts that are listed are reached by absolute URLs; without a base URL relative ones are refused."""
    http = connect(Http, {"hosts": ["HTTP.example"]}, service)
    assert ask(http, "https://http.example/echo")["method"] == "GET"
    with pytest.raises(ConfigError, match="no base_url"):
        ask(http, "/echo")


@pytest.mark.parametrize("host", ["https://http.example", "http.example/path", "a b", "", "user@http.example"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(DataError, match=r"hosts\[0\]: expected a host such as api.example"):
        connect(Http, {"hosts": [host]})


@pytest.mark.parametrize(
    ("query", "raw"),
    [
        ({"q": "a b&c=d/é+"}, "q=a%20b%26c%3Dd%2F%C3%A9%2B"),
        ({"n": 5, "f": 1.5, "yes": True, "no": False, "none": None}, "n=5&f=1.5&yes=true&no=false"),
        ({"tag": ["x", "y", None]}, "tag=x&tag=y"),
        ({"$filter": "name eq 'O''Brien'"}, "%24filter=name%20eq%20%27O%27%27Brien%27"),
        ({}, ""),
    ],
)
def test_query(http: Http, service: Recorder, query: dict, raw: str) -> None:
    """Values are encoded; numbers and booleans as JSON writes them; a list repeats, null is left out."""
    ask(http, "/echo", query=query)
    assert service.seen[0]["QUERY_STRING"] == raw
    ask(http, "/echo?first=1", query=query)
    assert service.seen[1]["QUERY_STRING"] == f"first=1&{raw}".rstrip("&")


@pytest.mark.parametrize(
    ("inputs", "kind", "body"),
    [
        ({"json": {"a": [1, None, "é🙂"]}}, "application/json", {"a": [1, None, "é🙂"]}),
        ({"json": False}, "application/json", False),
        ({"json": []}, "application/json", []),
        (
            {"form": {"a": "x y&z=é", "n": 1, "ok": True, "gone": None}},
            "application/x-www-form-urlencoded",
            {"a": "x y&z=é", "n": "1", "ok": "true"},
        ),
        ({"text": "naïve 🙂\n"}, "text/plain; charset=utf-8", "naïve 🙂\n"),
        ({"bytes": "AAEC/w=="}, "application/octet-stream", "AAEC/w=="),
        ({"bytes": {"$content-type": "image/png", "$content": "iVBORw=="}}, "image/png", "iVBORw=="),
        (
            {"json": [1], "headers": {"content-type": "application/json-patch+json"}},
            "application/json-patch+json",
            [1],
        ),
        ({}, None, None),
    ],
)
def test_bodies(http: Http, inputs: dict, kind: str | None, body: Any) -> None:
    """One of four forms, with its media type, which a header may replace."""
    seen = ask(http, "/echo", method="POST", **inputs)
    assert (seen["headers"].get("content-type"), seen["body"]) == (kind, body)


def test_templates_and_quotes_arrive_unharmed(http: Http) -> None:
    odd = "{{ 7*7 }} '; drop table x; -- \" \u202e \0 " + "n" * 100_000
    assert ask(http, "/echo", method="POST", json={"t": odd})["body"] == {"t": odd}


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        ({"json": 1, "text": "x"}, ConfigError, "json and text are given: a request has one body"),
        ({"json": {"x": float("nan")}}, DataError, "json: it holds what UTF-8 or JSON can't"),
        ({"json": "half \ud800"}, DataError, "json: it holds"),
        ({"text": "half \ud800"}, DataError, "text: it holds"),
        ({"form": {"x": "half \ud800"}}, DataError, "form: a value holds half a surrogate pair"),
        ({"query": {"x": "half \ud800"}}, DataError, "query: a value holds half a surrogate pair"),
        ({"bytes": "not base64"}, DataError, "bytes: expected base64"),
        ({"bytes": {"$content-type": "image/png"}}, DataError, "bytes: expected base64"),
        ({"bytes": {"$content-type": "a\r\nb", "$content": ""}}, DataError, "headers: the value of $content-type"),
        ({"form": ["x"]}, DataError, "form: expected an object"),
        ({"form": {"x": {"y": 1}}}, DataError, "form.x: expected"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, DataError, "headers: the value of X-A holds a line break"),
        ({"headers": {"X-A": "🙂"}}, DataError, "headers: the value of X-A holds"),
        ({"headers": {"X A": "b"}}, DataError, "headers: 'X A' is no header name"),
        ({"headers": {"host": "elsewhere.example"}}, ConfigError, "headers: host belongs to the transport"),
        ({"headers": {"Content-Length": 3}}, ConfigError, "headers: Content-Length belongs to the transport"),
        ({"method": "get"}, DataError, "method: expected one of GET, HEAD"),
        ({"metod": "GET"}, DataError, "request has no input 'metod'"),
    ],
)
def test_requests_that_are_refused(http: Http, service: Recorder, inputs: dict, kind: type, words: str) -> None:
    """Before anything is sent, with the input's name."""
    with pytest.raises(kind) as caught:
        ask(http, "/echo", **{"method": "POST", **inputs})
    assert caught.value.message.startswith(words)
    assert service.seen == []


def test_headers(http: Http) -> None:
    """Sent as given, numbers and booleans as text, null left out; JSON is preferred unless the step says otherwise."""
    seen = ask(http, "/echo", headers={"X-Text": " é ", "X-Number": 5, "X-Yes": True, "X-None": None})["headers"]
    assert {k: v for k, v in seen.items() if k.startswith("x-")} == {"x-text": "é", "x-number": "5", "x-yes": "true"}
    assert seen["accept"] == "application/json, */*;q=0.8"
    assert ask(http, "/echo", headers={"accept": "text/csv"})["headers"]["accept"] == "text/csv"


@pytest.mark.parametrize(
    ("inputs", "effect"),
    [
        ({}, "read"),
        ({"method": "HEAD"}, "read"),
        ({"method": "OPTIONS"}, "read"),
        ({"method": "PUT"}, "idempotent"),
        ({"method": "DELETE"}, "idempotent"),
        ({"method": "POST"}, "write"),
        ({"method": "PATCH"}, "write"),
        ({"method": "POST", "idempotent": True}, "idempotent"),
        ({"method": "POST", "idempotent": "{{ x }}"}, "write"),
        ({"method": "{{ x }}"}, "write"),
    ],
)
def test_the_effect_follows_the_method(inputs: dict, effect: str) -> None:
    """What isn't known before the run counts as a write, which is never repeated blindly."""
    assert Http.operations()["request"].effect_of(inputs) == effect


@pytest.mark.parametrize(("method", "sent"), [("POST", "run/step"), ("DELETE", "run/step"), ("GET", None)])
def test_the_idempotency_key(service: Recorder, method: str, sent: str | None) -> None:
    """Where the connection names a header for it, requests that change something carry the step's key."""
    named = connect(Http, {"base_url": "https://http.example", "idempotency_header": "Idempotency-Key"}, service)
    plain = connect(Http, {"base_url": "https://http.example"}, service)
    with on_behalf_of(Call(idempotency_key="run/step")):
        assert ask(named, "/echo", method=method)["headers"].get("idempotency-key") == sent
        assert "idempotency-key" not in ask(plain, "/echo", method=method)["headers"]
    assert "idempotency-key" not in ask(named, "/echo", method=method)["headers"]


# What comes back


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("json", {"n": 1}),
        ("problem", {"title": "none"}),
        ("text", "naïve 🙂"),
        ("latin1", "naïve"),
        ("xml", "<feed/>"),
        ("image", {"$content-type": "image/png", "$content": base64.b64encode(b"\x89PNG\r\n\x1a\n\0").decode()}),
        ("none", None),
    ],
)
def test_answers(http: Http, name: str, body: Any) -> None:
    """JSON, text or base64 by media type; nothing is null."""
    assert ask(http, f"/content/{name}") == body


def test_bytes_pass_through(http: Http) -> None:
    """What came as base64 can be sent on as it is."""
    assert (
        ask(http, "/echo", method="POST", bytes=ask(http, "/content/image"))["headers"]["content-type"] == "image/png"
    )


@pytest.mark.parametrize("name", ["notjson", "nan"])
def test_answers_that_only_say_they_are_json(http: Http, name: str) -> None:
    with pytest.raises(RemoteError, match="says application/json and isn't"):
        ask(http, f"/content/{name}")


def test_outputs(http: Http) -> None:
    """Status, headers in lower case without cookies, body; `changed` follows the method."""
    result = http.invoke("request", {"url": "/echo", "method": "PUT"})
    assert result.outputs["status_code"] == 200
    assert result.outputs["headers"]["x-seen"] == "1"
    assert "set-cookie" not in result.outputs["headers"]
    assert result.outputs["body"] == result.body
    assert (result.changed, result.summary) == (True, "PUT answered 200")
    result = http.invoke("request", {"url": "/echo", "method": "HEAD"})
    assert (result.body, result.changed, result.summary) == (None, False, "HEAD answered 200")
    assert http.invoke("request", {"url": "/status/204", "method": "DELETE"}).outputs["status_code"] == 204


@pytest.mark.parametrize(
    ("status", "method", "kind", "lost"),
    [
        (400, "POST", "data", False),
        (401, "GET", "config", False),
        (403, "GET", "remote", False),
        (404, "GET", "remote", False),
        (409, "POST", "remote", False),
        (418, "GET", "remote", False),
        (429, "POST", "transient", False),
        (500, "POST", "transient", True),
        (503, "POST", "transient", True),
        (507, "POST", "transient", True),
    ],
)
def test_refusals(http: Http, status: int, method: str, kind: str, lost: bool) -> None:
    """A status from 400 on is an error, sorted by what to do next, with the service's own code and words."""
    with pytest.raises(FlowrunError) as caught:
        ask(http, f"/status/{status}", method=method)
    error = caught.value
    assert (error.kind, error.status, error.code, error.answer_lost) == (kind, status, f"E{status}", lost)
    assert error.message == f"{method} http.example answered {status}: you asked for {status}"
    assert error.retry_after == (7 if status in (429, 503) else None)


def test_statuses_that_are_answers(http: Http) -> None:
    """`ok_status` makes a refusal an answer: of a deletion, say, that finds nothing."""
    result = http.invoke("request", {"url": "/status/404", "method": "DELETE", "ok_status": [404, 410]})
    assert (result.outputs["status_code"], result.changed) == (404, False)
    assert result.body["error"]["code"] == "E404"
    with pytest.raises(RemoteError):
        ask(http, "/status/409", method="DELETE", ok_status=[404, 410])


def test_redirects(http: Http, service: Recorder) -> None:
    """Followed on the same origin and for reads only; never to another host."""
    assert ask(http, "/redirect/here")["path"] == "/echo"
    with pytest.raises(RemoteError, match=r"redirect from http.example to elsewhere.example refused"):
        ask(http, "/redirect/away")
    moved = http.invoke("request", {"url": "/status/303", "method": "POST"})
    assert moved.outputs["status_code"] == 303


def test_a_lost_answer(service: Recorder) -> None:
    """The request may have been carried out: the error says so, and only the engine repeats."""
    http = connect(Http, {"base_url": "https://http.example"}, Faults(service, once=[("POST", "/echo", "lost")]))
    with pytest.raises(TransientError) as caught:
        ask(http, "/echo", method="POST")
    assert caught.value.answer_lost
    assert len(service.seen) == 1


# Paging


@pytest.mark.parametrize(
    ("url", "paging"),
    [
        ("/items/next", {"next": "@odata.nextLink"}),
        ("/items/next", {"next": "$['@odata.nextLink']", "items": "$.value"}),
        ("/items/link", {"link_header": True}),
        ("/items/cursor", {"cursor": {"path": "$.paging.next.after", "param": "after"}, "items": "$.data.items"}),
        ("/items/cursor", {"cursor": {"path": "$.paging.next.after", "param": "after"}, "items": "$.data.items[*]"}),
    ],
)
def test_paging(http: Http, service: Recorder, url: str, paging: dict) -> None:
    """All items in their order, whichever way the service leads on."""
    result = http.invoke("request", {"url": url, "paging": paging})
    assert result.body == result.outputs["body"] == ITEMS
    assert result.summary == "GET answered 200: 25 items in 3 pages"
    assert len(service.seen) == 3


def test_the_first_query_is_kept_by_a_cursor_and_left_to_a_link(http: Http, service: Recorder) -> None:
    cursor = {"path": "$.paging.next.after", "param": "after"}
    ask(http, "/items/cursor", query={"limit": 10}, paging={"cursor": cursor, "items": "$.data.items"})
    assert [e["QUERY_STRING"] for e in service.seen] == ["limit=10", "limit=10&after=10", "limit=10&after=20"]
    service.seen.clear()
    ask(http, "/items/next", query={"$filter": "id ge 0"}, paging={"next": "@odata.nextLink"})
    assert [e["QUERY_STRING"] for e in service.seen][1:] == [f"$filter=id%20ge%200&$skiptoken={n}" for n in (10, 20)]


@pytest.mark.parametrize(
    ("most", "items", "pages", "said"),
    [
        (5, 5, 1, "5 items in 1 page, more left out by max_items"),
        (10, 10, 1, "10 items in 1 page, more left out by max_items"),
        (11, 11, 2, "11 items in 2 pages, more left out by max_items"),
        (25, 25, 3, "25 items in 3 pages"),
    ],
)
def test_max_items(http: Http, service: Recorder, most: int, items: int, pages: int, said: str) -> None:
    """Reading ends at max_items, and the summary says that there was more."""
    result = http.invoke("request", {"url": "/items/link", "paging": {"link_header": True, "max_items": most}})
    assert (result.body, len(service.seen)) == (ITEMS[:items], pages)
    assert result.summary == f"GET answered 200: {said}"


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("host", ConfigError, "request to elsewhere.example refused"),
        ("plain", RemoteError, "leaves https"),
        ("circle", RemoteError, "leads back to one already read"),
        ("number", RemoteError, "is no text"),
    ],
)
def test_next_links_that_are_not_followed(http: Http, service: Recorder, how: str, kind: type, words: str) -> None:
    """A link is the service's word, not ours: it goes to allowed hosts only, by https, and forward."""
    with pytest.raises(kind, match=words):
        ask(http, f"/items/astray/{how}", paging={"next": "@odata.nextLink"})
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"paging": {}}, "exactly one of next, link_header: true, cursor"),
        ({"paging": {"next": "$.x", "link_header": True}}, "exactly one of"),
        ({"paging": {"next": "$.x["}}, "no JSONPath"),
        ({"paging": {"link_header": True, "items": "$.a.`split(x)`"}}, "no JSONPath"),
        ({"paging": {"link_header": True}, "method": "POST"}, "needs GET, or idempotent: true"),
    ],
)
def test_paging_that_cannot_work(http: Http, service: Recorder, inputs: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask(http, "/items/link", **inputs)
    assert service.seen == []


@pytest.mark.parametrize(
    ("url", "paging", "words"),
    [
        ("/items/cursor", {"next": "$.next"}, "the page holds no list"),
        ("/items/cursor", {"cursor": {"path": "$.paging", "param": "after"}, "items": "$.data.items"}, "neither text"),
        ("/items/next", {"next": "$.value.`sub(/a/, b)`"}, "doesn't fit the page"),
    ],
)
def test_pages_of_another_form(http: Http, url: str, paging: dict, words: str) -> None:
    with pytest.raises(RemoteError, match=words):
        ask(http, url, paging=paging)


# Credentials


@pytest.mark.parametrize(
    ("auth", "url"),
    [
        ({"type": "basic", "username": HttpEcho.user[0], "password": HttpEcho.user[1]}, "/secure/basic"),
        ({"type": "api_key", "header": "X-Api-Key", "key": HttpEcho.api_key}, "/secure/key"),
        ({"type": "client_credentials", **OAUTH}, "/secure/bearer"),
        ({"type": "client_credentials", **OAUTH, "credentials_in": "body", "scope": "read write"}, "/secure/bearer"),
        ({"type": "password", **OAUTH, "username": HttpEcho.user[0], "password": HttpEcho.user[1]}, "/secure/bearer"),
        ({"type": "microsoft", **ENTRA_APP, "scope": "https://http.example/.default"}, "/secure/bearer"),
        (
            {
                "type": "microsoft_password",
                **ENTRA_APP,
                "username": "no.mfa@contoso.onmicrosoft.com",
                "password": "sandbox-no-mfa-password",
                "scope": "https://http.example/.default",
            },
            "/secure/bearer",
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
def test_credentials(auth: dict, url: str) -> None:
    """Each form of `auth` opens what it should; it is in no result, and nothing else may set its header."""
    clock = FakeClock()
    service = Recorder(clock=clock)
    apps = (service, Tokens(clock=clock), Entra(clock=clock))
    http = connect(Http, {"base_url": "https://http.example", "auth": auth}, *apps, clock=clock)
    for _ in range(2):
        result = http.invoke("request", {"url": url})
        assert result.outputs["status_code"] == 200
    shown = f"{result} {http.settings}"
    secrets = [auth[name] for name in ("password", "key", "client_secret") if name in auth]
    assert not [secret for secret in secrets if secret in shown]
    header = auth.get("header", "authorization").lower()
    with pytest.raises(ConfigError, match="is sent by the connection itself"):
        ask(http, url, headers={header: "mine"})
    assert [f.severity for f in http.check()] == ["warning"] * ("password" in auth["type"])


def test_a_fixed_bearer_token() -> None:
    service = HttpEcho(clock=FakeClock())
    issued = connect(Http, {"base_url": "https://http.example"}, service)
    form = {"grant_type": "client_credentials", "client_id": HttpEcho.client[0], "client_secret": HttpEcho.client[1]}
    token = ask(issued, "/oauth/token", method="POST", form=form)["access_token"]
    http = connect(Http, {"base_url": "https://http.example", "auth": {"type": "bearer", "token": token}}, service)
    assert ask(http, "/secure/bearer")["sub"] == HttpEcho.client[0]


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "basic", "username": "u", "password": "wrong-password"},
        {"type": "bearer", "token": "wrong-token"},
    ],
)
def test_a_fixed_credential_is_not_tried_twice(service: Recorder, auth: dict) -> None:
    """Where there is nothing to renew, a 401 is final: repeating would only lock the account."""
    http = connect(Http, {"base_url": "https://http.example", "auth": auth}, service)
    with pytest.raises(ConfigError) as caught:
        ask(http, f"/secure/{auth['type']}")
    assert caught.value.status == 401
    assert len(service.seen) == 1


def oauth(**changes: str) -> tuple[Http, Recorder, Tokens, FakeClock]:
    clock = FakeClock()
    service, tokens = Recorder(clock=clock), Tokens(service_store(clock), clock=clock)
    service.store = tokens.store
    auth = {"type": "client_credentials", **OAUTH, **changes}
    http = connect(Http, {"base_url": "https://http.example", "auth": auth}, service, tokens, clock=clock)
    return http, service, tokens, clock


def service_store(clock: FakeClock) -> Any:
    return HttpEcho(clock=clock).store


def test_a_token_is_kept_until_it_expires() -> None:
    """One token serves until a minute before its end; then one more is asked for."""
    http, _, tokens, clock = oauth()
    for seconds, asked in ((0, 1), (3539, 1), (2, 2), (60, 2)):
        clock.advance(seconds)
        ask(http, "/secure/bearer")
        assert len(tokens.seen) == asked


def test_a_refused_token_is_renewed_once() -> None:
    """A 401 before its time: one new token, one repeat; no more than that."""
    http, service, tokens, _ = oauth()
    ask(http, "/secure/bearer")
    service.revoke()
    ask(http, "/secure/bearer")
    assert (len(tokens.seen), len(service.seen)) == (2, 3)
    with pytest.raises(ConfigError) as caught:
        ask(http, "/secure/basic")
    assert caught.value.status == 401
    assert (len(tokens.seen), len(service.seen)) == (3, 5)


def test_secret_and_token_go_only_where_they_belong() -> None:
    """The token endpoint is no host of the connection: it gets the secret, the service gets the token."""
    http, service, tokens, _ = oauth()
    ask(http, "/secure/bearer")
    assert tokens.seen[0]["HTTP_AUTHORIZATION"].startswith("Basic ")
    assert service.seen[0]["HTTP_AUTHORIZATION"].startswith("Bearer ")
    with pytest.raises(ConfigError) as caught:
        ask(http, "https://tokens.example/echo")
    assert caught.value.code == "HostRefused"
    assert len(tokens.seen) == 1


@pytest.mark.parametrize(
    ("changes", "code", "hint"),
    [
        ({"client_secret": "a-wrong-secret"}, "invalid_client", "check `client_id`"),
        ({"client_secret": "a-wrong-secret", "credentials_in": "body"}, "invalid_client", "check `client_id`"),
        ({"scope": "all"}, "invalid_scope", "check `scope`"),
    ],
)
def test_a_refused_client(changes: dict, code: str, hint: str) -> None:
    """The endpoint's own code, a hint, and no secret, though this endpoint quotes it; the service is not asked."""
    http, service, _, _ = oauth(**changes)
    with pytest.raises(ConfigError) as caught:
        ask(http, "/secure/bearer")
    error = caught.value
    assert (error.code, error.hint[: len(hint)]) == (code, hint)
    assert "a-wrong-secret" not in f"{error} {error.hint}"
    assert service.seen == []
    assert [f.code for f in http.check()] == [code]


@pytest.mark.parametrize(
    ("fault", "code", "wait"),
    [("429", "429", 1), ("500", "500", None), ("reset", "Reset", None), ("lost", "Reset", None)],
)
def test_a_token_endpoint_in_trouble(fault: str, code: str, wait: float | None) -> None:
    """Transient, and the request itself was not sent: so even a write may be repeated."""
    clock = FakeClock()
    service, tokens = Recorder(clock=clock), Tokens(clock=clock)
    faulty = Faults(tokens, once=[("POST", "/oauth/token", fault)])
    auth = {"type": "client_credentials", **OAUTH}
    http = connect(Http, {"base_url": "https://http.example", "auth": auth}, service, faulty, clock=clock)
    with pytest.raises(TransientError) as caught:
        ask(http, "/secure/bearer", method="POST")
    assert (caught.value.code, caught.value.retry_after, caught.value.answer_lost) == (code, wait, False)
    assert service.seen == []
    ask(http, "/secure/bearer", method="POST")


@pytest.mark.parametrize("path", ["/content/notjson", "/content/none", "/echo", "/status/200"])
def test_a_token_endpoint_that_gives_no_token(path: str) -> None:
    """An answer without a token is quoted nowhere."""
    http, service, _, _ = oauth(token_url=f"https://tokens.example{path}")
    with pytest.raises(FlowrunError) as caught:
        ask(http, "/secure/bearer")
    assert caught.value.code == "TokenAnswer"
    assert caught.value.__cause__ is None
    assert service.seen == []


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({"type": "basic", "username": "u"}, "settings.auth: missing password"),
        ({"type": "basic", "username": "u", "password": "p", "realm": "r"}, "settings.auth: unknown key 'realm'"),
        ({"type": "basci"}, "settings.auth.type: expected one of none, basic, bearer"),
        ({"type": ["basic"]}, "settings.auth.type: expected one of none, basic, bearer"),
        ({"username": "u", "password": "p"}, "settings.auth: missing type"),
        ("basic", "settings.auth: expected an object, found text 'basic'"),
        ({"type": "bearer", "token": 5}, "settings.auth.token: expected text, found a number"),
        ({"type": "api_key", "header": "X Key", "key": "k"}, "settings.auth.header: expected a header's name"),
        (
            {"type": "client_credentials", **OAUTH, "token_url": "tokens.example"},
            "settings.auth.token_url: expected a URL",
        ),
    ],
)
def test_settings_are_read_by_type(auth: Any, words: str) -> None:
    """A mistake in `auth` is told in the words of the form that `type` names, not of all forms at once."""
    with pytest.raises(DataError) as caught:
        connect(Http, {"base_url": "https://http.example", "auth": auth})
    assert caught.value.message.startswith(words)


@pytest.mark.parametrize(
    "url", ["http.example", "ftp://http.example", "https://u:p@http.example", "https://a b", "https://x?y"]
)
def test_a_base_url_is_a_url(url: str) -> None:
    with pytest.raises(DataError, match="base_url: expected a URL such as"):
        connect(Http, {"base_url": url})


# Checking a connection


def test_check(service: Recorder) -> None:
    """Reach and credential by one HEAD; a connection that may go nowhere is told so."""
    assert list(connect(Http, {"base_url": "https://http.example"}, service).check()) == []
    assert service.seen[0]["REQUEST_METHOD"] == "HEAD"
    assert list(connect(Http, {"hosts": ["http.example"]}, service).check()) == []
    wrong = {"type": "basic", "username": "u", "password": "p"}
    for settings, code in (
        ({}, "NoHost"),
        ({"base_url": "http://http.test"}, "PlainHttp"),
        ({"base_url": "https://http.example/secure/basic", "auth": wrong}, "401"),
        ({"base_url": "https://http.example/status/503"}, "503"),
    ):
        assert [finding.code for finding in connect(Http, settings, service).check()] == [code]
    faulty = Faults(service, once=[("HEAD", "/", "reset")])
    [finding] = connect(Http, {"base_url": "https://http.example"}, faulty).check()
    assert finding.code == "Reset"


def test_plain_http_goes_to_loopback_only() -> None:
    with pytest.raises(ConfigError, match="plain http goes to loopback only"):
        ask(connect(Http, {"base_url": "http://http.test"}), "/echo")
