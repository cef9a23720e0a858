"""Sign-in: engine.Entra and the real msal against the emulator of Entra ID."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msal
import pytest
import requests

from connectors.entra.emulator import Entra as Emulated
from connectors.entra.emulator import digest
from engine import (
    Certificate,
    ConfigError,
    Context,
    Entra,
    FlowrunError,
    MemoryTokens,
    Secret,
    Session,
    TransientError,
    Transport,
)
from engine.sandbox import WSGI, Faults, Incoming, Reply, Store, WSGIAdapter, read_token, serve
from engine.testing import FakeClock

TENANT = "5b0f4c1e-7d8a-4f1c-9a55-1d2e3f405060"
PARTNER = "0f6a1b2c-3d4e-4f50-8a9b-0c1d2e3f4a5b"
DYNAMICS = "1a7b2c3d-4e5f-4061-9bac-1d2e3f4a5b6c"
HTTP = "2b8c3d4e-5f60-4172-8cbd-2e3f4a5b6c7d"
ADMIN = "referral.admin@contoso.onmicrosoft.com"
HOST = "login.microsoftonline.com"
REFERRALS = "https://api.partner.microsoft.com/.default"
CRM = "https://contoso.crm.dynamics.com/.default"
SEEDED = Secret("sandbox-refresh-token")
PEM = Path(__file__).parent.parent / "connectors/entra/certificate.pem"
THUMBPRINT = "A462157573CCD233C12E02D7D85ED487050BD990"


class Seen(Emulated):
    """Remembers the requests that came in, and may answer some by other means."""

    instead: Callable[[Incoming], Reply | None] = staticmethod(lambda _: None)

    def answer(self, request: Incoming) -> Reply:
        self.__dict__.setdefault("requests", []).append(request)
        return self.instead(request) or super().answer(request)

    def posts(self) -> list[dict[str, str]]:
        return [r.form() for r in self.__dict__.get("requests", []) if r.method == "POST"]

    def paths(self) -> list[str]:
        return [r.path for r in self.__dict__.get("requests", [])]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(clock: FakeClock) -> Seen:
    return Seen(clock=clock)


def client(app: WSGI, clock: FakeClock, tokens: Any = None, **options: Any) -> Entra:
    log = logging.getLogger("flowrun.test")
    session = Session({"elsewhere.example"}, Transport(mounted={HOST: WSGIAdapter(app)}), clock, log)
    ctx = Context(session, clock, log, tokens or MemoryTokens())
    return Entra(ctx, **{"tenant": TENANT, "client_id": PARTNER, **options})


def partner(app: WSGI, clock: FakeClock, tokens: Any = None, **options: Any) -> Entra:
    given = {"credential": Secret("sandbox-partner-center-secret"), "refresh_token": SEEDED, **options}
    return client(app, clock, tokens, **given)


def dynamics(app: WSGI, clock: FakeClock, **options: Any) -> Entra:
    return client(app, clock, **{"client_id": DYNAMICS, "credential": Secret("sandbox-dynamics365-secret"), **options})


def claims(token: Any) -> dict[str, Any]:
    found = read_token(token.access_token.reveal())
    assert found is not None
    return found


# Grants


def test_client_credentials_by_secret(app: Seen, clock: FakeClock) -> None:
    token = dynamics(app, clock).client_token(CRM)
    found = claims(token)
    assert found["aud"] == "https://contoso.crm.dynamics.com"
    assert found["appid"] == token.account == DYNAMICS
    assert found["roles"] and "scp" not in found
    assert token.expires_at == pytest.approx(clock.now().timestamp() + 3599)
    assert found["exp"] == int(token.expires_at)
    assert "sandbox" not in repr(token) and token.access_token.reveal() not in repr(token)


def test_any_dataverse_organization_is_a_resource(app: Seen, clock: FakeClock) -> None:
    token = dynamics(app, clock).client_token("https://fabrikam.crm4.dynamics.com/.default")
    assert claims(token)["aud"] == "https://fabrikam.crm4.dynamics.com"


def test_client_credentials_by_certificate(app: Seen, clock: FakeClock) -> None:
    colons = ":".join(THUMBPRINT[i : i + 2] for i in range(0, 40, 2))
    for thumbprint in (THUMBPRINT, colons):
        token = dynamics(app, clock, credential=Certificate(Secret(PEM.read_text()), thumbprint)).client_token(CRM)
        assert claims(token)["appid"] == DYNAMICS
    assert all("client_secret" not in form and form["client_assertion"] for form in app.posts())


def test_certificate_that_is_not_registered(app: Seen, clock: FakeClock) -> None:
    entra = dynamics(app, clock, credential=Certificate(Secret(PEM.read_text()), "00" * 20))
    with pytest.raises(ConfigError, match="AADSTS700027") as caught:
        entra.client_token(CRM)
    assert "thumbprint" in caught.value.hint


@pytest.mark.parametrize(("key", "thumbprint"), [("no key at all", THUMBPRINT), (PEM.read_text(), "not hex")])
def test_unreadable_certificate(app: Seen, clock: FakeClock, key: str, thumbprint: str) -> None:
    with pytest.raises(ConfigError, match="can't be read") as caught:
        dynamics(app, clock, credential=Certificate(Secret(key), thumbprint)).client_token(CRM)
    assert "no key" not in "".join(traceback.format_exception(caught.value))


def test_refresh_token_gives_a_user_with_mfa(app: Seen, clock: FakeClock) -> None:
    token = partner(app, clock).user_token(REFERRALS)
    found = claims(token)
    assert (token.account, found["upn"], found["scp"]) == (ADMIN, ADMIN, "user_impersonation")
    assert found["aud"] == "https://api.partner.microsoft.com"
    assert "mfa" in found["amr"]
    assert REFERRALS in token.scopes


def test_a_token_is_kept_in_memory_until_five_minutes_before_its_end(app: Seen, clock: FakeClock) -> None:
    entra = partner(app, clock)
    first = entra.user_token(REFERRALS)
    clock.advance(3599 - 301)
    assert entra.user_token(REFERRALS) is first
    clock.advance(2)
    second = entra.user_token(REFERRALS)
    assert second.access_token != first.access_token
    assert second.expires_at == pytest.approx(clock.now().timestamp() + 3599)
    assert second.account == ADMIN


def test_renew_gives_a_new_token_at_once(app: Seen, clock: FakeClock) -> None:
    for token_of in (partner(app, clock).user_token, dynamics(app, clock).client_token):
        scope = REFERRALS if "user" in token_of.__name__ else CRM
        first = token_of(scope)
        assert token_of(scope, renew=True).access_token != first.access_token


def test_a_rotated_refresh_token_is_used_from_then_on(app: Seen, clock: FakeClock) -> None:
    entra = partner(app, clock)
    entra.user_token(REFERRALS)
    entra.user_token(REFERRALS, renew=True)
    entra.user_token(REFERRALS, renew=True)
    used = [form["refresh_token"] for form in app.posts()]
    assert used[0] == "sandbox-refresh-token"
    assert len(set(used)) == 3
    seeded = app.store.get("entra.refresh", digest("sandbox-refresh-token"))
    assert (seeded["uses"], seeded["replaced_by"]) == (1, digest(used[1]))


def test_another_process_reuses_the_stored_token_silently(app: Seen, clock: FakeClock) -> None:
    tokens = MemoryTokens()
    first = partner(app, clock, tokens).user_token(REFERRALS)
    before = len(app.posts())
    second = partner(app, clock, tokens).user_token(REFERRALS)
    assert second.access_token == first.access_token
    assert second.account == ADMIN
    assert len(app.posts()) == before


def test_another_process_goes_on_with_the_rotated_refresh_token(app: Seen, clock: FakeClock) -> None:
    tokens = MemoryTokens()
    a, b = partner(app, clock, tokens), partner(app, clock, tokens)
    a.user_token(REFERRALS)
    b.user_token(REFERRALS)
    a.user_token(REFERRALS, renew=True)
    newest = app.store.get("entra.refresh", digest(app.posts()[-1]["refresh_token"]))["replaced_by"]
    b.user_token(REFERRALS, renew=True)
    assert digest(app.posts()[-1]["refresh_token"]) == newest


def test_when_the_stored_sign_in_has_ended_the_configured_one_is_tried(app: Seen, clock: FakeClock) -> None:
    tokens = MemoryTokens()
    partner(app, clock, tokens).user_token(REFERRALS)
    for token, grant in app.store.all("entra.refresh"):
        if token != digest("sandbox-refresh-token"):
            app.store.put("entra.refresh", token, {**grant, "revoked": True})
    partner(app, clock, tokens).user_token(REFERRALS, renew=True)
    assert app.posts()[-1]["refresh_token"] == "sandbox-refresh-token"


def test_a_refresh_token_that_was_replaced_in_the_settings_counts(app: Seen, clock: FakeClock) -> None:
    tokens = MemoryTokens()
    no_mfa = partner(app, clock, tokens, refresh_token=Secret("sandbox-refresh-token-no-mfa")).user_token(REFERRALS)
    assert claims(no_mfa)["amr"] == ["pwd"]
    mended = partner(app, clock, tokens).user_token(REFERRALS)
    assert mended.account == ADMIN


@pytest.mark.parametrize("text", ["", "{", "[]", '{"origin": 1}', "null"])
def test_a_store_that_cannot_be_read_is_a_new_start(app: Seen, clock: FakeClock, text: str) -> None:
    tokens = MemoryTokens()
    tokens.save(text)
    assert partner(app, clock, tokens).user_token(REFERRALS).account == ADMIN


def test_nobody_has_signed_in(app: Seen, clock: FakeClock) -> None:
    with pytest.raises(ConfigError) as caught:
        partner(app, clock, refresh_token=None).user_token(REFERRALS)
    assert (caught.value.code, caught.value.hint) == ("NoSignIn", "run `flowrun login`")


def test_threads_share_one_sign_in(app: Seen, clock: FakeClock) -> None:
    entra = partner(app, clock)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(entra.user_token(REFERRALS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({t.access_token for t in found}) == 1 and len(app.posts()) == 1


def test_password_grant(app: Seen, clock: FakeClock) -> None:
    entra = client(app, clock, client_id=HTTP, credential=Secret("sandbox-http-secret"))
    token = entra.password_token(REFERRALS, "no.mfa@contoso.onmicrosoft.com", Secret("sandbox-no-mfa-password"))
    assert claims(token)["amr"] == ["pwd"]
    with pytest.raises(ConfigError, match="AADSTS50126"):
        entra.password_token(CRM, "no.mfa@contoso.onmicrosoft.com", Secret("wrong"))
    with pytest.raises(ConfigError, match="AADSTS50034"):
        entra.password_token(CRM, "nobody@contoso.onmicrosoft.com", Secret("wrong"))


def test_password_grant_cannot_satisfy_mfa(app: Seen, clock: FakeClock) -> None:
    entra = client(app, clock, client_id=HTTP, credential=Secret("sandbox-http-secret"))
    with pytest.raises(ConfigError, match="AADSTS50076") as caught:
        entra.password_token(REFERRALS, ADMIN, Secret("sandbox-admin-password"))
    assert "MFA" in caught.value.hint


# Device code


def by_page(app: Seen, **settings: Any) -> None:
    app.store.put("entra", "device_sign_in", {**app.store.get("entra", "device_sign_in"), **settings})


def post(app: Seen, path: str, **form: str) -> Any:
    answer = session(app).post(f"https://{HOST}{path}", data=form)
    return answer.json() if "json" in answer.headers["Content-Type"] else answer.text


def session(app: WSGI) -> requests.Session:
    found = requests.Session()
    found.mount("https://", WSGIAdapter(app))
    return found


def test_device_sign_in_confirms_itself_in_the_sandbox(app: Seen, clock: FakeClock) -> None:
    tokens, shown = MemoryTokens(), list[str]()
    entra = partner(app, clock, tokens, refresh_token=None)
    token = entra.device_login(REFERRALS, shown.append)
    assert (token.account, clock.slept) == (ADMIN, [1])
    assert "https://login.microsoftonline.com/common/oauth2/deviceauth?user_code=" in shown[0]
    assert entra.user_token(REFERRALS) is token
    later = partner(app, clock, tokens, refresh_token=None)
    assert later.user_token(REFERRALS).access_token == token.access_token
    assert later.user_token(REFERRALS, renew=True).account == ADMIN


def test_device_sign_in_waits_for_the_page(app: Seen, clock: FakeClock) -> None:
    by_page(app, automatic=False, interval=5)
    polls = 0

    def person(request: Incoming) -> None:
        nonlocal polls
        polls += request.path.endswith("/token")
        if polls == 3:
            polls = 99
            code = app.store.all("entra.device")[0][1]["user_code"]
            opened = session(app).get(f"https://{HOST}/common/oauth2/deviceauth", params={"user_code": code})
            assert code in opened.text and "Approve" in opened.text
            assert "Approved" in post(app, "/common/oauth2/deviceauth", user_code=code, username=ADMIN)

    app.instead = person
    token = partner(app, clock, refresh_token=None).device_login(REFERRALS, lambda _: None)
    assert token.account == ADMIN
    assert clock.slept == [5, 5]


def test_device_sign_in_slows_down_when_told(app: Seen, clock: FakeClock) -> None:
    by_page(app, interval=5)

    def hurried(request: Incoming) -> None:
        for code, flow in app.store.all("entra.device"):
            if "polled_at" in flow and flow["interval"] == 5:
                app.store.put("entra.device", code, {**flow, "polled_at": clock.now().timestamp()})

    app.instead = hurried
    partner(app, clock, refresh_token=None).device_login(REFERRALS, lambda _: None)
    assert clock.slept == [5, 10]


@pytest.mark.parametrize(("action", "error"), [("decline", "authorization_declined"), ("", "expired_token")])
def test_device_sign_in_that_fails(app: Seen, clock: FakeClock, action: str, error: str) -> None:
    by_page(app, automatic=False, interval=5, expires_in=60)

    def show(_: str) -> None:
        code = app.store.all("entra.device")[0][1]["user_code"]
        if action:
            post(app, "/common/oauth2/deviceauth", user_code=code, action=action)

    with pytest.raises(ConfigError) as caught:
        partner(app, clock, refresh_token=None).device_login(REFERRALS, show)
    assert caught.value.code == error


def test_device_sign_in_survives_an_outage_while_it_polls(app: Seen, clock: FakeClock) -> None:
    faulty = Faults(app, once=[("POST", "/token", "503"), ("POST", "/token", "reset")])
    assert partner(faulty, clock, refresh_token=None).device_login(REFERRALS, lambda _: None).account == ADMIN


def test_who_signs_in_last_replaces_whoever_was_signed_in(app: Seen, clock: FakeClock) -> None:
    tokens = MemoryTokens()
    reader = "referral.user@contoso.onmicrosoft.com"
    partner(app, clock, tokens).user_token(REFERRALS)
    by_page(app, user=reader)
    partner(app, clock, tokens).device_login(REFERRALS, lambda _: None)
    assert partner(app, clock, tokens).user_token(REFERRALS, renew=True).account == reader


def test_device_sign_in_of_an_application_that_is_not_public(app: Seen, clock: FakeClock) -> None:
    entra = client(app, clock, client_id=HTTP, credential=Secret("sandbox-http-secret"))
    with pytest.raises(ConfigError, match="AADSTS7000218") as caught:
        entra.device_login(CRM, lambda _: None)
    assert "public client flows" in caught.value.hint


# Refusals, each with what to do


@pytest.mark.parametrize(
    ("options", "number", "hint"),
    [
        ({"credential": Secret("wrong")}, "7000215", "the secret's value"),
        ({"tenant": "11111111-2222-4333-8444-555555555555"}, "90002", "check `tenant`"),
        ({"tenant": "fabrikam.onmicrosoft.com"}, "90002", "check `tenant`"),
        ({"client_id": "11111111-2222-4333-8444-555555555555"}, "700016", "check `client_id`"),
        ({"credential": None, "client_id": DYNAMICS}, "7000218", "client_secret"),
        ({"refresh_token": Secret("garbage")}, "9002313", "refresh_token"),
        ({"client_id": HTTP, "credential": Secret("sandbox-http-secret")}, "70000", "`client_id`"),
    ],
)
def test_refusals_are_explained(app: Seen, clock: FakeClock, options: dict[str, Any], number: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"AADSTS{number}: ") as caught:
        partner(app, clock, **options).user_token(REFERRALS)
    assert hint in caught.value.hint
    assert "Trace ID" not in caught.value.message


@pytest.mark.parametrize(
    ("scope", "number"),
    [
        ("https://graph.example/.default", "500011"),
        (REFERRALS, "501051"),
        ("https://contoso.crm.dynamics.com/user_impersonation", "1002012"),
    ],
)
def test_resources_that_an_application_does_not_get(app: Seen, clock: FakeClock, scope: str, number: str) -> None:
    with pytest.raises(ConfigError, match=f"AADSTS{number}: "):
        dynamics(app, clock).client_token(scope)


def test_a_user_without_consent_for_the_resource(app: Seen, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="AADSTS65001"):
        partner(app, clock).user_token(CRM)


def test_an_old_refresh_token_has_expired(app: Seen, clock: FakeClock) -> None:
    clock.advance(timedelta(days=91).total_seconds())
    with pytest.raises(ConfigError, match="AADSTS700082") as caught:
        partner(app, clock).user_token(REFERRALS)
    assert "flowrun login" in caught.value.hint


@pytest.mark.parametrize("authority", ["http://127.0.0.1:1", "nonsense", "https://login.microsoftonline.com/x/y"])
def test_an_authority_that_cannot_be(app: Seen, clock: FakeClock, authority: str) -> None:
    with pytest.raises(ConfigError):
        dynamics(app, clock, authority=authority).client_token(CRM)


def test_client_credentials_need_a_credential(app: Seen, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="client secret or certificate"):
        dynamics(app, clock, credential=None).client_token(CRM)


def test_a_refusal_is_told_although_instance_discovery_is_down(app: Seen, clock: FakeClock) -> None:
    app.instead = lambda request: Reply(500) if "instance" in request.path else None
    for call in (dynamics(app, clock, credential=Secret("wrong")).client_token, partner(app, clock).user_token):
        with pytest.raises(ConfigError, match="AADSTS"):
            call("https://contoso.crm.dynamics.com/.default")


# Answers that are no answer


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "lost"])
@pytest.mark.parametrize("path", ["/token", "openid-configuration"])
def test_outages_are_transient(app: Seen, clock: FakeClock, fault: str, path: str) -> None:
    faulty = Faults(app, once=[("POST" if path == "/token" else "GET", path, fault)])
    entra = partner(faulty, clock)
    with pytest.raises(TransientError) as caught:
        entra.user_token(REFERRALS)
    assert not caught.value.answer_lost, "a token may be asked for again, whatever step it is for"
    assert caught.value.retry_after == (1 if fault in ("429", "503") else None)
    assert entra.user_token(REFERRALS).account == ADMIN


LEAK = "eyJ-a-token-that-must-not-show"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, f'{{"access_token": "{LEAK}"'.encode(), TransientError),
        (200, f'["{LEAK}"]'.encode(), TransientError),
        (200, f'{{"access_token": "{LEAK}", "expires_in": "soon"}}'.encode(), TransientError),
        (200, f'{{"access_token": "{LEAK}", "expires_in": 3600, "id_token": "{LEAK}"}}'.encode(), TransientError),
        (200, f'{{"access_token": "{LEAK}", "expires_in": 3600, "client_info": "{LEAK}"}}'.encode(), TransientError),
        (200, f'{{"token": "{LEAK}"}}'.encode(), ConfigError),
        (200, b"", TransientError),
        (403, f"<html>blocked by the proxy, {LEAK}</html>".encode(), ConfigError),
        (404, f"<html>{LEAK}</html>".encode(), ConfigError),
        (500, f'{{"access_token": "{LEAK}"}}'.encode(), TransientError),
        (400, b'{"error": "temporarily_unavailable", "error_description": "AADSTS90033: wait"}', TransientError),
        (400, b'{"error": 7, "error_codes": "x"}', ConfigError),
    ],
)
def test_malformed_token_answers(
    app: Seen,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
    kind: type[FlowrunError],
) -> None:
    app.instead = lambda request: Reply(status, body) if request.path.endswith("/token") else None
    entra = partner(app, clock)
    with caplog.at_level(logging.DEBUG), pytest.raises(kind) as caught:
        entra.user_token(REFERRALS)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(caught.value))
    for secret in (LEAK, "sandbox-partner-center-secret", "sandbox-refresh-token"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"{"), (200, b"{}"), (502, b""), (200, b"[]"), (403, b"<html>"), (404, b"{}")]
)
def test_malformed_discovery(app: Seen, clock: FakeClock, status: int, body: bytes) -> None:
    app.instead = lambda request: Reply(status, body) if "openid" in request.path else None
    with pytest.raises((TransientError, ConfigError)):
        dynamics(app, clock).client_token(CRM)


# The emulator, as other programs see it


def test_a_plain_msal_client_asks_for_instance_discovery_after_an_error(app: Seen) -> None:
    plain = msal.ConfidentialClientApplication(
        DYNAMICS, "wrong", authority=f"https://{HOST}/{TENANT}", http_client=session(app)
    )
    result = plain.acquire_token_for_client([CRM])
    assert result["error_codes"] == [7000215]
    assert "/common/discovery/instance" in app.paths()


def test_published_urls_are_https_behind_a_loopback_server(app: Seen, clock: FakeClock) -> None:
    server = serve({HOST: app})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = logging.getLogger("flowrun.test")
    transport = Transport(route={HOST: f"http://127.0.0.1:{server.server_address[1]}"})
    ctx = Context(Session({"x"}, transport, clock, log), clock, log, MemoryTokens())
    try:
        entra = Entra(ctx, tenant=TENANT, client_id=PARTNER, refresh_token=SEEDED)
        assert entra.user_token(REFERRALS).account == ADMIN
        ctx.session.close()
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("form", "status", "number"),
    [
        ({}, 400, 900144),
        ({"grant_type": "client_credentials"}, 400, 900144),
        ({"grant_type": "magic", "client_id": HTTP, "client_secret": "sandbox-http-secret"}, 400, 70003),
        ({"grant_type": "client_credentials", "client_id": HTTP}, 401, 7000216),
        ({"grant_type": "client_credentials", "client_id": HTTP, "client_secret": "x"}, 401, 7000215),
        ({"grant_type": "client_credentials", "client_id": HTTP, "client_assertion": "a.b.c"}, 400, 900144),
        ({"grant_type": "refresh_token", "client_id": PARTNER}, 400, 900144),
        ({"grant_type": "refresh_token", "client_id": PARTNER, "refresh_token": SEEDED.reveal()}, 400, 900144),
        (
            {
                "grant_type": "refresh_token",
                "client_id": PARTNER,
                "refresh_token": SEEDED.reveal(),
                "scope": "openid offline_access",
            },
            400,
            70011,
        ),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": PARTNER}, 400, 900144),
        (
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
                "client_id": PARTNER,
                "device_code": "x",
            },
            400,
            70018,
        ),
    ],
)
def test_the_token_endpoint_refuses_with_entras_shape(
    app: Seen, form: dict[str, str], status: int, number: int
) -> None:
    answer = session(app).post(f"https://{HOST}/{TENANT}/oauth2/v2.0/token", data=form)
    body = answer.json()
    assert (answer.status_code, body["error_codes"]) == (status, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert set(body) >= {"error", "timestamp", "trace_id", "correlation_id"}


def test_client_credentials_by_http_basic(app: Seen) -> None:
    answer = session(app).post(
        f"https://{HOST}/contoso.onmicrosoft.com/oauth2/v2.0/token",
        data={"grant_type": "client_credentials", "scope": "https://http.example/.default"},
        auth=(HTTP, "sandbox-http-secret"),
    )
    assert answer.json()["token_type"] == "Bearer"


def test_app_only_needs_a_tenant(app: Seen) -> None:
    form = {"grant_type": "client_credentials", "client_id": HTTP, "client_secret": "sandbox-http-secret"}
    answer = session(app).post(f"https://{HOST}/common/oauth2/v2.0/token", data=form)
    assert answer.json()["error_codes"] == [50059]


def test_a_client_assertion_is_verified(app: Seen) -> None:
    def ask(**changed: Any) -> list[int]:
        given = {"audience": f"https://{HOST}/{TENANT}/oauth2/v2.0/token", "issuer": DYNAMICS, **changed}
        from msal.oauth2cli.assertion import JwtAssertionCreator

        creator = JwtAssertionCreator(PEM.read_text(), "RS256", sha1_thumbprint=THUMBPRINT)
        assertion = creator.create_normal_assertion(**given).decode()
        if changed.pop("broken", False):
            assertion = assertion[:-8] + "AAAAAAAA"
        form = {
            "grant_type": "client_credentials",
            "client_id": DYNAMICS,
            "scope": CRM,
            "client_assertion": assertion,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        answer = session(app).post(f"https://{HOST}/{TENANT}/oauth2/v2.0/token", data=form).json()
        found: list[int] = answer.get("error_codes", [])
        return found

    long_ago = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    assert ask() == []
    assert ask(broken=True) == [700027]
    assert ask(expires_at=long_ago) == [700024]
    assert ask(audience="https://elsewhere.example") == [700023]
    assert ask(issuer=PARTNER) == [700021]


def test_discovery(app: Seen) -> None:
    plain = session(app)
    found = plain.get(f"https://{HOST}/contoso.onmicrosoft.com/v2.0/.well-known/openid-configuration").json()
    assert found["token_endpoint"] == f"https://{HOST}/{TENANT}/oauth2/v2.0/token"
    assert found["issuer"] == f"https://{HOST}/{TENANT}/v2.0"
    unknown = plain.get(f"https://{HOST}/nowhere/v2.0/.well-known/openid-configuration")
    assert (unknown.status_code, unknown.json()["error_codes"]) == (400, [90002])
    query = urlencode({"authorization_endpoint": "https://login.evil.example/x", "api-version": "1.1"})
    assert plain.get(f"https://{HOST}/common/discovery/instance?{query}").json()["error"] == "invalid_instance"
    assert plain.get(f"https://{HOST}/{TENANT}/oauth2/v2.0/token").status_code == 405
    assert plain.get(f"https://{HOST}/elsewhere").status_code == 404


def test_state_survives_the_process(tmp_path: Path, clock: FakeClock) -> None:
    tokens, file = MemoryTokens(), tmp_path / "sandbox.db"
    first = Seen(Store(file), clock)
    partner(first, clock, tokens).user_token(REFERRALS)
    first.store.close()
    again = Seen(Store(file), clock)
    assert partner(again, clock, tokens).user_token(REFERRALS, renew=True).account == ADMIN
    again.store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    rotated = again.posts()[-1]["refresh_token"]
    for secret in ("sandbox-partner-center-secret", "sandbox-admin-password", rotated, "PRIVATE KEY"):
        assert secret.encode() not in kept
