"""Calls that come in at the http connector: who is believed, and what event is made of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from terminal import flowrun

from connectors.http.connector import Http
from connectors.http.emulator import HttpEcho
from engine import ConfigError, DataError, Event, RemoteError, Request
from engine.testing import FakeClock, connect

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
UNIX = int(NOW.timestamp())
BODY = b'{"id": 7, "kind": "order.paid", "at": "2026-11-24T13:00:00+01:00", "order": {"id": "A-1"}}'
KEY = "a-shared-key"


def connected(**settings: Any) -> Http:
    given = {"base_url": "https://http.example", **settings}
    return connect(Http, given, HttpEcho(clock=FakeClock()))


def call(body: bytes = BODY, **headers: str) -> Request:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request("POST", "/hooks/x", sent, body)


def digest(content: bytes, algorithm: str = "sha256", key: str = KEY) -> bytes:
    return hmac.new(key.encode(), content, algorithm).digest()


def refused(http: Http, request: Request) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        http.receive(request)
    assert KEY not in caught.value.message
    return caught.value


# Without a verifier


def test_without_a_verifier_nothing_is_taken() -> None:
    with pytest.raises(ConfigError) as caught:
        connected().receive(call())
    assert caught.value.code == "NoVerifier"
    assert "hmac, secret or basic" in caught.value.hint


def test_by_hand_nothing_is_verified(tmp_path: Path) -> None:
    (event,) = connected().parse(call())
    assert event.data == json.loads(BODY)
    (tmp_path / "event.json").write_bytes(BODY)
    (tmp_path / "flow.yaml").write_text(
        "flow: paid\ntriggers: {call: {webhook: http}}\nconnections: {http: http}\n"
        "steps: {kind: {compose: '{{ trigger.event.data.kind }}'}}\noutputs: {kind: '{{ steps.kind.body }}'}\n"
    )
    said = flowrun("flow.yaml", "--input", "event.json", "--json", cwd=tmp_path)
    assert said.code == 0, said.all
    assert said.end["outputs"] == {"kind": "order.paid"}


# HMAC

HMAC = {"type": "hmac", "header": "X-Signature", "secret": KEY}


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256=", "v1,"])
def test_a_signed_call_is_taken(algorithm: str, encoding: str, prefix: str) -> None:
    http = connected(verify={**HMAC, "algorithm": algorithm, "encoding": encoding, "prefix": prefix})

    def text(raw: bytes) -> str:
        return prefix + (raw.hex() if encoding == "hex" else base64.b64encode(raw).decode())

    good = text(digest(BODY, algorithm))
    assert http.receive(call(x_signature=good))
    assert http.receive(call(x_signature=f"{text(b'0' * 32)} {good}")), "keys in rotation: several signatures"
    for wrong in (
        "",
        prefix,
        good[:-1],
        good + "0",
        text(b"0" * 32),
        text(digest(BODY, algorithm, "another-key")),
        text(digest(BODY + b" ", algorithm)),
        f"x{good}",
        "ä" * 64,
        "zz" * 32,
    ):
        error = refused(http, call(x_signature=wrong))
        assert (error.status, error.code) == (401, "Unverified")
    assert refused(http, call()).status == 401
    assert refused(http, call(BODY + b" ", x_signature=good)).status == 401
    if prefix:
        assert refused(http, call(x_signature=good.removeprefix(prefix))).status == 401


def test_the_letters_of_hex_make_no_difference() -> None:
    assert connected(verify=HMAC).receive(call(x_signature=digest(BODY).hex().upper()))


@pytest.mark.parametrize(
    ("at", "good"),
    [
        (str(UNIX), True),
        (str(UNIX - 299), True),
        (str(UNIX + 299), True),
        (f"{UNIX}.5", True),
        (str(UNIX * 1000), True),
        ("2026-11-24T12:01:00Z", True),
        (str(UNIX - 301), False),
        (str(UNIX + 301), False),
        ("2026-11-24T11:00:00Z", False),
        ("", False),
        ("now", False),
        ("9" * 40, False),
    ],
)
def test_a_signed_timestamp(at: str, good: bool) -> None:
    http = connected(verify={**HMAC, "timestamp_header": "X-Time"})
    request = call(x_time=at, x_signature=digest(at.encode() + b"." + BODY).hex())
    if good:
        assert http.receive(request)
    else:
        assert (refused(http, request).status, refused(http, request).code) == (401, "Replay")


def test_a_timestamp_cannot_be_changed_and_its_tolerance_is_a_setting() -> None:
    http = connected(verify={**HMAC, "timestamp_header": "X-Time", "tolerance": 3600})
    old, signature = str(UNIX - 3000), digest(f"{UNIX - 3000}.".encode() + BODY).hex()
    assert http.receive(call(x_time=old, x_signature=signature))
    assert refused(http, call(x_time=str(UNIX), x_signature=signature)).code == "Unverified"
    assert refused(http, call(x_signature=signature)).code == "Unverified"
    older = call(x_time=str(UNIX - 4000), x_signature=digest(f"{UNIX - 4000}.".encode() + BODY).hex())
    assert refused(http, older).code == "Replay"


@pytest.mark.parametrize(
    ("settings", "headers", "content"),
    [
        (
            {"signed": "v0:{X-Time}:{body}", "timestamp_header": "x-time", "prefix": "v0="},
            {"x_time": str(UNIX)},
            f"v0:{UNIX}:".encode() + BODY,
        ),
        (
            {"signed": "{webhook-id}.{webhook-timestamp}.{body}", "timestamp_header": "webhook-timestamp"},
            {"webhook_id": "msg_1", "webhook_timestamp": str(UNIX)},
            f"msg_1.{UNIX}.".encode() + BODY,
        ),
        ({"signed": "{body}{x-a}"}, {"x_a": "é"}, BODY + "é".encode()),
    ],
)
def test_what_is_signed_is_a_setting(settings: Mapping[str, str], headers: dict[str, str], content: bytes) -> None:
    http = connected(verify={**HMAC, **settings})
    good = settings.get("prefix", "") + digest(content).hex()
    assert http.receive(call(x_signature=good, **headers))
    assert refused(http, call(x_signature=settings.get("prefix", "") + digest(BODY).hex(), **headers)).status == 401


@pytest.mark.parametrize(
    ("verify", "kind"),
    [
        ({**HMAC, "signed": "{x-time}"}, ConfigError),
        ({**HMAC, "signed": "{body}", "timestamp_header": "x-time"}, ConfigError),
        ({**HMAC, "secret": ""}, ConfigError),
        ({"type": "secret", "header": "x-secret", "secret": ""}, ConfigError),
        ({"type": "basic", "username": "u", "password": ""}, ConfigError),
        ({**HMAC, "algorithm": "md5"}, DataError),
        ({**HMAC, "header": "x signature"}, DataError),
        ({"type": "none"}, DataError),
    ],
)
def test_verifiers_that_make_no_sense(verify: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        connected(verify=verify)


# A shared secret, a password


@pytest.mark.parametrize("wrong", ["", "A-SHARED-KEY", f"{KEY} ", KEY[:-1], "é"])
def test_a_secret_in_a_header(wrong: str) -> None:
    http = connected(verify={"type": "secret", "header": "X-Api-Key", "secret": KEY})
    assert http.receive(call(x_api_key=KEY))
    assert refused(http, call(x_api_key=wrong)).status == 401
    assert refused(http, call()).status == 401


@pytest.mark.parametrize(
    "wrong",
    ["hook:wrong", f"other:{KEY}", f"hook{KEY}", f":{KEY}", "hook:", ":", f"hook:{KEY}:", f"hook:{KEY}\n", ""],
)
def test_a_password(wrong: str) -> None:
    http = connected(verify={"type": "basic", "username": "hook", "password": KEY})

    def basic(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    assert http.receive(call(authorization=f"Basic {basic(f'hook:{KEY}')}"))
    assert http.receive(call(authorization=f"basic  {basic(f'hook:{KEY}')}"))
    assert refused(http, call(authorization=f"Basic {basic(wrong)}")).status == 401
    for odd in ("", "Basic", "Basic %%%", "Basic /w==", f"Bearer {basic(f'hook:{KEY}')}", basic(f"hook:{KEY}")):
        assert refused(http, call(authorization=odd)).status == 401


def test_passwords_may_hold_colons() -> None:
    http = connected(verify={"type": "basic", "username": "hook", "password": "a:b:c"})
    assert http.receive(call(authorization=f"Basic {base64.b64encode(b'hook:a:b:c').decode()}"))


# The event

PARTS = {"id": "$.id", "subject": "$.order.id", "type": "$.kind", "time": "$.at"}


def event(body: bytes = BODY, parts: Mapping[str, str] = PARTS, **headers: str) -> Event:
    (found,) = connected(event=dict(parts)).parse(call(body, **headers))
    return found


def test_the_parts_of_an_event() -> None:
    assert event() == Event("7", "A-1", "order.paid", "2026-11-24T12:00:00Z", json.loads(BODY))


def test_parts_in_headers() -> None:
    parts = {"id": "header:X-Delivery", "type": "header:x-event", "time": "header:X-Time"}
    found = event(parts=parts, x_delivery=" d-1 ", x_event="push", x_time=str(UNIX))
    assert (found.id, found.type, found.time, found.subject) == ("d-1", "push", "2026-11-24T12:00:00Z", "")


def test_an_event_without_parts() -> None:
    found = event(parts={})
    assert (found.subject, found.type, found.time) == ("", "call", "2026-11-24T12:00:00Z")
    assert found.id == hashlib.sha256(BODY).hexdigest()[:32]
    assert event(BODY + b" ", {}).id != found.id


@pytest.mark.parametrize(
    ("value", "id"),
    [("x", "x"), (7, "7"), (1.5, "1.5"), (True, "true"), (None, ""), ({"a": 1}, ""), ([1], ""), ("", "")],
)
def test_a_part_of_another_kind_counts_as_none(value: Any, id: str) -> None:
    """A verified event is never refused for its shape."""
    body = json.dumps({"id": value, "kind": value, "order": {"id": value}, "at": value}).encode()
    found = event(body)
    assert found.subject == id
    assert found.type == (id or "call")
    assert found.id == (id or hashlib.sha256(body).hexdigest()[:32])


@pytest.mark.parametrize(
    ("at", "time"),
    [
        ("2026-11-24T13:00:00.5+01:00", "2026-11-24T12:00:00.500000Z"),
        ("2026-11-24T12:00:00.1234567Z", "2026-11-24T12:00:00.123456Z"),
        ("2026-11-24T09:30:00", "2026-11-24T09:30:00Z"),
        (UNIX - 60, "2026-11-24T11:59:00Z"),
        (UNIX * 1000 - 60_000, "2026-11-24T11:59:00Z"),
        ("yesterday", "2026-11-24T12:00:00Z"),
        (10**30, "2026-11-24T12:00:00Z"),
        (-1, "2026-11-24T12:00:00Z"),
    ],
)
def test_the_time_of_an_event(at: Any, time: str) -> None:
    assert event(json.dumps({"at": at}).encode()).time == time


def test_bodies_of_other_kinds() -> None:
    assert event(b'["a", 1]', {"id": "$[0]"}).data == {"body": ["a", 1]}
    assert event(b'["a", 1]', {"id": "$[0]"}).id == "a"
    assert event(b"\xef\xbb\xbf{}", {}).data == {}
    form = {"content_type": "application/x-www-form-urlencoded; charset=utf-8"}
    found = event(b"token=x&text=a+b&n=1&n=2&empty=", {"id": "$.token"}, **form)
    assert (found.id, found.data) == ("x", {"token": "x", "text": "a b", "n": ["1", "2"], "empty": ""})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"<xml/>", b'{"n": NaN}', b"[" * 100_000])
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        event(body)
    assert (caught.value.status, caught.value.code) == (400, "BadEvent")


@pytest.mark.parametrize("source", ["$.a[", "id", "header:", "header:a b", "$.a.`split(x)`"])
def test_sources_that_are_none(source: str) -> None:
    with pytest.raises((ConfigError, DataError)):
        connected(event={"id": source})


def test_a_refused_call_is_not_even_read() -> None:
    http = connected(verify=HMAC)
    assert refused(http, call(b"{")).status == 401
    bad = call(b"{", x_signature=digest(b"{").hex())
    assert refused(http, bad).status == 400
