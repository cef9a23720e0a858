"""The registration of a hook, its strict emulator, and the dispatcher that posts signed events to loopback."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from terminal import flowrun

from connectors.entra.emulator import Entra
from connectors.partner_center.connector import PartnerCenter
from connectors.partner_center.dispatcher import LEAF, OFFLINE, ROOT, Dispatcher, Post
from connectors.partner_center.emulator import PartnerCenter as Emulated
from connectors.partner_center.webhooks import EVENTS, Webhooks
from engine import Call, ConfigError, DataError, Event, FlowrunError, RemoteError, Request, Result, TransientError
from engine.sandbox import Faults, Incoming, Reply, Store, WSGIAdapter, read_token, serve, sign_token
from engine.sandbox.emulator import incoming, respond
from engine.testing import FakeClock, connect
from engine.testing.crm.bench import on_behalf_of

SANDBOX = Emulated.connections["partner_center"]
HOST = "api.partnercenter.microsoft.com"
API = f"https://{HOST}/webhooks/v1/registration"
MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
OURS = ["referral-created", "referral-updated", "related-referral-created", "related-referral-updated", "test-created"]
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Service(Emulated):
    """Remembers what came in; `before` may answer in the emulator's stead."""

    before: Callable[[Incoming], Reply | None] = staticmethod(lambda _: None)

    def answer(self, request: Incoming) -> Reply:
        self.__dict__.setdefault("requests", []).append(request)
        return self.before(request) or super().answer(request)

    def seen(self, host: str = HOST) -> list[Incoming]:
        return [request for request in self.__dict__.get("requests", []) if request.host == host]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock=clock)


def connected(service: Any, clock: FakeClock, **settings: Any) -> PartnerCenter:
    given = {name: value for name, value in {**SANDBOX, **settings}.items() if value is not None}
    return connect(PartnerCenter, given, Entra(clock=clock), service, clock=clock)


@pytest.fixture
def partner(service: Service, clock: FakeClock) -> PartnerCenter:
    return connected(service, clock)


def call(partner: PartnerCenter, operation: str, **inputs: Any) -> Result[Any]:
    return partner.invoke(operation, inputs)


# The registration


def test_register_show_and_register_again(service: Service, partner: PartnerCenter) -> None:
    assert call(partner, "show_webhook").body is None
    made = call(partner, "register_webhook", url="https://flows.example/hooks/secret-token")
    assert made.body == {
        "url": "https://flows.example/hooks/secret-token",
        "events": OURS,
        "signature_in": "authorization",
    }
    assert made.changed and made.summary == "registered flows.example for 5 events"
    assert call(partner, "show_webhook").body == made.body
    again = call(partner, "register_webhook", url="https://flows.example/hooks/secret-token")
    assert (again.changed, again.body, again.summary) == (False, made.body, "already registered so")
    assert [r.method for r in service.seen()] == ["GET", "POST", "GET", "POST", "GET"]


def test_a_registration_that_is_there_is_taken_over_and_keeps_its_events(partner: PartnerCenter) -> None:
    call(partner, "register_webhook", url="https://other.example/h", events=["subscription-updated", "test-created"],
         signature_in="x-ms-signature")  # fmt: skip
    taken = call(partner, "register_webhook", url="https://flows.example/h", events=["referral-created"])
    assert taken.changed
    assert taken.summary == "changed, was other.example for 2 events; now flows.example for 3 events"
    assert taken.body == {
        "url": "https://flows.example/h",
        "events": ["referral-created", "subscription-updated", "test-created"],
        "signature_in": "x-ms-signature",
    }
    assert call(partner, "show_webhook").body == taken.body


def test_update_changes_what_is_given(service: Service, partner: PartnerCenter) -> None:
    call(partner, "register_webhook", url="https://flows.example/h")
    service.store.put(
        "partner_center",
        "webhook",
        {**service.store.get("partner_center", "webhook"), "Properties": {"somebody": "else's"}},
    )
    assert call(partner, "update_webhook", signature_in="x-ms-signature").body["signature_in"] == "x-ms-signature"
    assert call(partner, "update_webhook", events=["test-created"]).body["events"] == ["test-created"]
    moved = call(partner, "update_webhook", url="https://new.example/h")
    assert moved.body == {
        "url": "https://new.example/h",
        "events": ["test-created"],
        "signature_in": "x-ms-signature",
    }
    assert call(partner, "update_webhook").changed is False
    assert service.store.get("partner_center", "webhook")["Properties"] == {"somebody": "else's"}


def test_without_a_registration_nothing_is_updated_or_tested(partner: PartnerCenter) -> None:
    for operation in ("update_webhook", "test_webhook"):
        with pytest.raises(RemoteError):
            call(partner, operation)
    assert call(partner, "delete_webhook").body is None


def test_delete_leaves_a_registration_that_nothing_is_sent_for(partner: PartnerCenter) -> None:
    """The API has no DELETE."""
    call(partner, "register_webhook", url="https://flows.example/h")
    ended = call(partner, "delete_webhook")
    assert ended.changed and ended.body["events"] == ["test-created"]
    assert call(partner, "delete_webhook").changed is False


def test_the_names_of_the_events(partner: PartnerCenter) -> None:
    assert call(partner, "webhook_events").body == sorted(EVENTS)
    assert set(PartnerCenter.events) <= set(EVENTS)
    with pytest.raises(DataError, match="no-such-event"):
        call(partner, "register_webhook", url="https://flows.example/h", events=["no-such-event"])


@pytest.mark.parametrize("url", ["", "flows.example/h", "ftp://flows.example/h", "https://flows.example", "https:///h",
                                 "https://user@flows.example/h", "https://flows.example/h#x"])  # fmt: skip
def test_urls_that_are_none(service: Service, partner: PartnerCenter, url: str) -> None:
    with pytest.raises(DataError):
        call(partner, "register_webhook", url=url)
    assert service.seen() == []


def test_pages_and_swagger_spell_it_differently(service: Service, partner: PartnerCenter) -> None:
    answer = {"webhookUrl": "https://flows.example/h", "webhookEvents": ["test-created"], "lastModifiedTimestamp": None}
    service.before = lambda r: Reply(200, {**answer, "signatureTokenToMsSignatureHeader": True})
    assert call(partner, "show_webhook").body["signature_in"] == "x-ms-signature"
    service.before = lambda r: Reply(200, answer)
    assert call(partner, "show_webhook").body == {
        "url": "https://flows.example/h",
        "events": ["test-created"],
        "signature_in": "authorization",
    }


# Who asks, and where its token goes


def test_a_token_for_this_host_alone(service: Service, partner: PartnerCenter) -> None:
    call(partner, "get_referral", id=MAIN)
    call(partner, "show_webhook")
    (request,) = service.seen()
    claims = read_token(request.bearer)
    assert claims is not None and claims["aud"] == f"https://{HOST}" and claims["roles"]
    (other,) = service.seen("api.partner.microsoft.com")
    referrals = read_token(other.bearer)
    assert referrals is not None and referrals["aud"] == "https://api.partner.microsoft.com"
    assert GUID.fullmatch(request.headers["ms-requestid"]) and GUID.fullmatch(request.headers["ms-correlationid"])


@pytest.mark.parametrize("settings", [{"client_secret": None}, {"webhook": {"register_as": "user"}}])
def test_a_signed_in_user_may_register_too(service: Service, clock: FakeClock, settings: dict[str, Any]) -> None:
    call(connected(service, clock, **settings), "show_webhook")
    claims = read_token(service.seen()[0].bearer)
    assert claims is not None and claims["scp"] == "user_impersonation"


def test_a_user_needs_mfa(service: Service, clock: FakeClock) -> None:
    webhook = {"register_as": "user"}
    partner = connected(service, clock, refresh_token="sandbox-refresh-token-no-mfa", webhook=webhook)
    with pytest.raises(ConfigError) as caught:
        call(partner, "show_webhook")
    assert caught.value.code == "900421"


def test_an_application_without_a_credential(service: Service, clock: FakeClock) -> None:
    partner = connected(service, clock, client_secret=None, webhook={"register_as": "app"})
    with pytest.raises(ConfigError, match="client secret or certificate"):
        call(partner, "show_webhook")


def test_a_right_that_is_missing(service: Service, partner: PartnerCenter) -> None:
    service.before = lambda r: Reply(403, {"code": 4030, "description": "no", "data": [], "source": "x"})
    with pytest.raises(RemoteError, match="no") as caught:
        call(partner, "show_webhook")
    assert "register_as" in caught.value.hint


def test_a_repeated_step_has_the_same_request_id(service: Service, partner: PartnerCenter) -> None:
    for _ in range(2):
        with on_behalf_of(Call(idempotency_key="run/step")):
            call(partner, "register_webhook", url="https://flows.example/h")
    posts = [r.headers for r in service.seen() if r.method == "POST"]
    assert posts[0]["ms-requestid"] == posts[1]["ms-requestid"]
    assert posts[0]["ms-correlationid"] != posts[1]["ms-correlationid"]


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "lost"])
@pytest.mark.parametrize("operation", ["register_webhook", "update_webhook", "delete_webhook"])
def test_a_repeat_after_a_fault_ends_where_one_call_does(clock: FakeClock, operation: str, fault: str) -> None:
    service = Service(clock=clock)
    call(connected(service, clock), "register_webhook", url="https://other.example/h")
    for method in ("POST", "GET", "PUT"):
        partner = connected(Faults(service, once=[(method, "/registration", fault)]), clock)
        inputs = {} if operation == "delete_webhook" else {"url": "https://flows.example/h"}
        if method != "POST" or operation == "register_webhook":
            try:
                partner.invoke(operation, inputs)
            except FlowrunError as error:
                assert isinstance(error, TransientError)
        found = partner.invoke(operation, inputs).body
        assert found["url"] == ("https://other.example/h" if operation == "delete_webhook" else inputs["url"])
        assert call(partner, "show_webhook").body == found


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        ("show_webhook", {}),
        ("webhook_events", {}),
        ("register_webhook", {"url": "https://flows.example/h"}),
        ("update_webhook", {"url": "https://flows.example/h"}),
        ("delete_webhook", {}),
        ("test_webhook", {}),
        ("webhook_test", {"correlation_id": "a-1"}),
    ],
)
@pytest.mark.parametrize("reply", [Reply(200, b"<html>"), Reply(200, 5), Reply(200), Reply(302), Reply(500, b"x")])
def test_answers_that_make_no_sense(
    service: Service, partner: PartnerCenter, reply: Reply, operation: str, inputs: dict[str, str]
) -> None:
    service.before = lambda r: reply if r.host == HOST else None
    with pytest.raises(FlowrunError):
        partner.invoke(operation, inputs)


# The emulator refuses what the service refuses

CLAIMS = {"aud": f"https://{HOST}", "exp": 4e9, "roles": ["Application.All"]}
GOOD = {"WebhookUrl": "https://flows.example/h", "WebhookEvents": ["test-created"]}


class Caller:
    """A program with a token."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.app = Webhooks(clock=self.clock)
        self.session = requests.Session()
        self.session.mount("https://", WSGIAdapter(self.app))
        self.claims: dict[str, Any] | None = CLAIMS

    def __call__(self, method: str, path: str = "", **options: Any) -> requests.Response:
        headers = options.pop("headers", {})
        if self.claims is not None:
            headers = {"Authorization": f"Bearer {sign_token(self.claims)}", **headers}
        return self.session.request(method, f"{API}{path}", headers=headers, **options)


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.mark.parametrize(
    "claims",
    [
        None,
        {**CLAIMS, "aud": "https://api.partner.microsoft.com"},
        {**CLAIMS, "exp": 1},
        {**CLAIMS, "scp": "user_impersonation", "amr": ["pwd"]},
    ],
)
def test_tokens_that_are_refused(caller: Caller, claims: dict[str, Any] | None) -> None:
    caller.claims = claims
    answer = caller("GET")
    assert answer.status_code == 401
    assert set(answer.json()) == {"code", "description", "data", "source"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (GOOD, 200),
        ({"webhookURL": GOOD["WebhookUrl"], "webhookevents": GOOD["WebhookEvents"]}, 200),
        ({**GOOD, "signatureTokenToMsSignatureHeader": True, "properties": {"a": "b"}, "subscriberId": "x"}, 200),
        ({**GOOD, "WebhookUrl": "http://127.0.0.1:8080/h"}, 200),
        ({**GOOD, "WebhookUrl": "http://flows.example/h"}, 400),
        ({**GOOD, "WebhookUrl": "flows.example"}, 400),
        ({**GOOD, "WebhookUrl": None}, 400),
        ({"WebhookUrl": GOOD["WebhookUrl"]}, 400),
        ({**GOOD, "WebhookEvents": []}, 400),
        ({**GOOD, "WebhookEvents": ["referral-deleted"]}, 400),
        ({**GOOD, "WebhookEvents": "test-created"}, 400),
        ({**GOOD, "SignatureTokenToMsSignatureHeader": "yes"}, 400),
        ({**GOOD, "Properties": {"a": 1}}, 400),
        ({**GOOD, "Secret": "x"}, 400),
        ([GOOD], 400),
        ("text", 400),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_registrations_that_are_refused(caller: Caller, method: str, body: Any, status: int) -> None:
    if method == "PUT":
        assert caller("PUT", json=GOOD).status_code == 404
        assert caller("POST", json=GOOD).status_code == 200
    answer = caller(method, json=body)
    assert answer.status_code == status
    if status == 200:
        assert set(answer.json()) >= {"SubscriberId", "WebhookUrl", "WebhookEvents"}
        assert caller("GET").json()["WebhookEvents"] == ["test-created"]


def test_one_registration_and_no_way_to_delete_it(caller: Caller) -> None:
    assert caller("GET").status_code == 404
    assert caller("POST", json=GOOD).status_code == 200
    again = caller("POST", json={**GOOD, "WebhookUrl": "https://other.example/h"})
    assert again.status_code == 409 and "PUT" in again.json()["description"]
    assert caller("GET").json()["WebhookUrl"] == GOOD["WebhookUrl"]
    assert caller("DELETE").status_code == 405
    assert caller("GET", "/nothing").status_code == 404
    assert caller("POST", data="x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert caller("GET", headers={"MS-CorrelationId": "x"}).status_code == 400


def test_test_events_are_counted_and_forgotten(caller: Caller) -> None:
    assert caller("POST", "/validationEvents").status_code == 404
    caller("POST", json={**GOOD, "WebhookEvents": ["referral-created"]})
    assert caller("POST", "/validationEvents").status_code == 400
    caller("PUT", json=GOOD)
    ids = [caller("POST", "/validationEvents").json()["correlationId"] for _ in range(2)]
    third = caller("POST", "/validationEvents")
    assert (third.status_code, third.headers["Retry-After"]) == (429, "60")
    caller.clock.advance(60)
    assert caller("POST", "/validationEvents").status_code == 200
    state = caller("GET", f"/validationEvents/{ids[0]}").json()
    assert state["status"] == "inProgress" and state["callbackUrl"] == GOOD["WebhookUrl"] and state["results"] == []
    assert caller("GET", "/validationEvents/none").status_code == 404
    caller.clock.advance(7 * 24 * 3600)
    assert caller("GET", f"/validationEvents/{ids[0]}").status_code == 404


def test_the_certificates_are_public(caller: Caller) -> None:
    base = "https://3psostorageacct.blob.core.windows.net/cert"
    found = caller.session.get(f"{base}/{LEAF}")
    assert found.status_code == 200 and found.content == caller.session.get(f"{base}/{LEAF}").content
    assert caller.session.get(f"{base}/{ROOT}").status_code == 200
    assert caller.session.get(f"{base}/none.cer").status_code == 404
    assert caller.session.get(f"{base}/key").status_code == 404
    assert caller.session.post(f"{base}/{LEAF}").status_code == 405
    assert caller.session.get(f"https://{HOST}/cert/{LEAF}").status_code == 401


def test_the_signing_certificate_is_renewed_in_its_place(caller: Caller) -> None:
    url = f"https://3psostorageacct.blob.core.windows.net/cert/{LEAF}"
    first = caller.session.get(url).content
    caller.clock.advance(363 * 24 * 3600)
    assert caller.session.get(url).content == first
    caller.clock.advance(2 * 24 * 3600)
    assert caller.session.get(url).content != first


# The dispatcher


class Hook:
    """What somebody serves on loopback: verifies each call as a connection of its own does."""

    def __init__(self, partner: PartnerCenter) -> None:
        self.partner = partner
        self.calls: list[Incoming] = []
        self.events: list[Event] = []
        self.refused: list[FlowrunError] = []
        self.answers: list[int] = []  # what it answers next in place of its own

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            return respond(self.answer(incoming(environ)), start_response)

        apps: dict[str, Any] = {}
        self.server = serve(apps)
        apps[f"127.0.0.1:{self.server.server_port}"] = app
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/secret-token"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: Incoming) -> Reply:
        self.calls.append(request)
        if self.answers:
            return Reply(self.answers.pop(0))
        try:
            self.events += self.partner.receive(Request("POST", request.path, request.headers, request.body))
        except FlowrunError as error:
            self.refused.append(error)
            return Reply(error.status or 503)
        return Reply(202)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook(service: Service, clock: FakeClock) -> Iterator[Hook]:
    hook = Hook(connected(service, clock))
    yield hook
    hook.close()


def change(partner: PartnerCenter, number: int = 1, id: str = MAIN) -> None:
    call(partner, "update_referral", referral=id, set={"details.notes": f"change {number}"})


def statuses(posts: list[Post], kind: str = "event") -> list[int]:
    return [post.status for post in posts if post.kind == kind]


@pytest.mark.parametrize("header", ["authorization", "x-ms-signature"])
def test_a_change_is_posted_signed(service: Service, partner: PartnerCenter, hook: Hook, header: str) -> None:
    call(partner, "register_webhook", url=hook.url, signature_in=header)
    for number in range(2):
        change(partner, number)
        assert statuses(service.webhooks.dispatcher.deliver()) == [202]
    assert [(e.type, e.subject) for e in hook.events] == [("referral-updated", MAIN)] * 2
    assert len({e.id for e in hook.events}) == 2
    assert {request.headers[header][:10] for request in hook.calls} == {"Signature "}
    other = {"authorization": "x-ms-signature", "x-ms-signature": "authorization"}[header]
    assert not [request for request in hook.calls if other in request.headers]
    bodies = [json.loads(request.body) for request in hook.calls]
    assert [set(map(str.lower, body)) for body in bodies] == [{key.lower() for key in bodies[0]}] * 2
    assert set(bodies[0]) != set(bodies[1]), "both notations come in turn"
    assert service.webhooks.dispatcher.waiting() == []


def test_the_time_of_an_event_is_that_of_the_change(service: Service, partner: PartnerCenter, hook: Hook) -> None:
    call(partner, "register_webhook", url=hook.url)
    change(partner)
    service.webhooks.dispatcher.deliver()
    changed = service.store.get("partner_center.referral", MAIN)["updatedDateTime"]
    assert hook.events[0].time.rstrip("Z") == changed.rstrip("Z").rstrip("0")


def test_created_and_updated_and_only_what_is_registered(service: Service, partner: PartnerCenter, hook: Hook) -> None:
    dispatcher = service.webhooks.dispatcher
    change(partner)
    assert dispatcher.waiting() == []
    call(partner, "register_webhook", url=hook.url, events=["referral-created"])
    change(partner, 2)
    made = call(partner, "create_referral", type="Independent", customer_profile={"name": "Fabrikam"},
                consent={"consentToContact": True}, details={"notes": "x"}).body  # fmt: skip
    service.put_record("referrals", {"id": "10000000-0000-4000-8000-0000000000aa"})
    dispatcher.deliver()
    assert [(e.type, e.subject) for e in hook.events] == [("referral-created", made["id"])]


def test_what_a_refused_write_would_have_changed_is_not_posted(
    service: Service, partner: PartnerCenter, hook: Hook
) -> None:
    call(partner, "register_webhook", url=hook.url)
    with pytest.raises(FlowrunError):
        call(partner, "update_referral", referral=MAIN, set={"customerProfile.address.country": "Atlantis"})
    assert service.webhooks.dispatcher.deliver() == []


def test_ten_tries_then_it_is_offline(service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock) -> None:
    call(partner, "register_webhook", url=hook.url)
    change(partner)
    hook.answers = [500] * 20
    dispatcher, waits = service.webhooks.dispatcher, list[float]()
    assert statuses(dispatcher.deliver()) == [500]
    assert dispatcher.deliver() == [], "the next try isn't due"
    while dispatcher.waiting():
        waits.append(dispatcher.waiting()[0][1]["due"] - clock.now().timestamp())
        clock.advance(waits[-1])
        dispatcher.deliver()
    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(hook.calls) == 10
    assert len({request.body for request in hook.calls}) == 1
    assert [e["attempts"] for _, e in service.store.all(OFFLINE)] == [10]
    clock.advance(86400)
    assert dispatcher.deliver() == []


@pytest.mark.parametrize("answers", [[503], [401], [302], [404], [500, 429, 408]])
def test_it_is_tried_again_until_it_is_taken(
    service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock, answers: list[int]
) -> None:
    call(partner, "register_webhook", url=hook.url)
    change(partner)
    hook.answers, tries = list(answers), len(answers) + 1
    for _ in range(tries):
        service.webhooks.dispatcher.deliver()
        clock.advance(60)
    assert len(hook.calls) == tries
    assert len(hook.events) == 1
    assert service.webhooks.dispatcher.waiting() == []


def test_a_hook_that_is_down(service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock) -> None:
    call(partner, "register_webhook", url=hook.url)
    change(partner)
    hook.close()
    dispatcher = service.webhooks.dispatcher
    assert statuses(dispatcher.deliver()) == [0]
    again = Hook(hook.partner)
    call(partner, "register_webhook", url=again.url)
    clock.advance(2)
    assert statuses(dispatcher.deliver()) == [202], "the URL is that of the moment"
    again.close()


@pytest.mark.parametrize("url", ["https://flows.example/h", "https://127.0.0.1.flows.example/h"])
def test_nothing_is_posted_beyond_loopback(service: Service, partner: PartnerCenter, url: str) -> None:
    call(partner, "register_webhook", url=url)
    id = call(partner, "test_webhook").body["correlation_id"]
    assert statuses(service.webhooks.dispatcher.deliver()) == [0]
    (attempt,) = call(partner, "webhook_test", correlation_id=id).body["attempts"]
    assert attempt["system_error"] and "loopback" in attempt["message"]


def test_another_process_posts_what_is_left(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "sandbox.db"
    first = Service(Store(path), clock)
    partner = connected(first, clock)
    call(partner, "register_webhook", url="http://127.0.0.1:9/h")
    change(partner)
    second = Service(Store(path), clock)
    hook = Hook(connected(second, clock))
    call(partner, "update_webhook", url=hook.url)
    assert statuses(second.webhooks.dispatcher.deliver()) == [202]
    assert len(hook.events) == 1
    assert first.webhooks.dispatcher.deliver() == []
    hook.close()


def test_two_do_not_post_the_same(service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock) -> None:
    """While one posts an event another one lets it be, for a minute; after that it is taken for dead."""
    call(partner, "register_webhook", url=hook.url)
    change(partner)
    dispatcher, other, seen = service.webhooks.dispatcher, Dispatcher(service.store, clock), list[list[Post]]()
    own = hook.answer

    def meanwhile(request: Incoming) -> Reply:
        if not seen:
            seen.append(other.deliver())
            clock.advance(61)
            seen.append(other.deliver())
        return own(request)

    hook.answer = meanwhile  # type: ignore[method-assign]
    assert statuses(dispatcher.deliver()) == [202]
    assert [statuses(posts) for posts in seen] == [[], [202]]
    assert dispatcher.waiting() == []


def test_faults_on_demand(service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock) -> None:
    """Duplicates, any order, forged copies, foreign certificates: what is genuine comes through, and nothing else."""
    faults = {"duplicates": 0.3, "forged": 0.2, "foreign": 0.2, "shuffle": True, "seed": 7}
    service.store.put("partner_center", "delivery", faults)
    call(partner, "register_webhook", url=hook.url)
    for number in range(60):
        clock.advance(1)
        change(partner, number)
    posts = service.webhooks.dispatcher.deliver()
    kinds = Counter(post.kind for post in posts)
    assert kinds["event"] == 60
    assert 8 <= kinds["duplicate"] <= 30 and kinds["forged"] >= 4 and kinds["foreign"] >= 4
    assert set(statuses(posts)) == set(statuses(posts, "duplicate")) == {202}
    assert set(statuses(posts, "forged")) == {401}
    assert set(statuses(posts, "foreign")) == {403}
    times = [event.time for event in hook.events]
    assert len({event.id for event in hook.events}) == 60
    assert times != sorted(times)
    assert {event.subject for event in hook.events} == {MAIN}
    assert {error.code for error in hook.refused} == {"Signature", "CertificateUrl"}


def test_a_seed_makes_them_repeatable(clock: FakeClock) -> None:
    def kinds() -> list[str]:
        service = Service(clock=clock)
        service.store.put("partner_center", "delivery", {"duplicates": 0.5, "forged": 0.5, "seed": 3})
        partner = connected(service, clock)
        hook = Hook(partner)
        call(partner, "register_webhook", url=hook.url)
        for number in range(8):
            change(partner, number)
        posts = service.webhooks.dispatcher.deliver()
        hook.close()
        return [post.kind for post in posts]

    assert kinds() == kinds()


def test_a_test_event_is_tracked(service: Service, partner: PartnerCenter, hook: Hook, clock: FakeClock) -> None:
    call(partner, "register_webhook", url=hook.url)
    asked = call(partner, "test_webhook")
    id = asked.body["correlation_id"]
    assert asked.summary == f"asked for test event {id}"
    assert call(partner, "webhook_test", correlation_id=id).body == {
        "status": "inProgress",
        "delivered": False,
        "attempts": [],
    }
    hook.answers = [401]
    for _ in range(2):
        service.webhooks.dispatcher.deliver()
        clock.advance(2)
    found = call(partner, "webhook_test", correlation_id=id)
    assert found.summary == "completed after 2 attempts"
    assert found.body["delivered"] is True
    assert [attempt["code"] for attempt in found.body["attempts"]] == ["Unauthorized", "Accepted"]
    assert [(event.type, event.subject) for event in hook.events] == [("test-created", "test")]
    with pytest.raises(DataError):
        call(partner, "webhook_test", correlation_id="../events")
    with pytest.raises(RemoteError):
        call(partner, "webhook_test", correlation_id="00000000-0000-4000-8000-000000000000")


def test_test_events_are_throttled(partner: PartnerCenter) -> None:
    call(partner, "register_webhook", url="https://flows.example/h")
    for _ in range(2):
        call(partner, "test_webhook")
    with pytest.raises(TransientError) as caught:
        call(partner, "test_webhook")
    assert caught.value.retry_after == 60


# The command line


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Its sandbox keeps its state here."""
    (tmp_path / "connections.yaml").write_text("environments:\n  sandbox: {emulate: true}\n")
    yield tmp_path
    if not (tmp_path / ".flowrun" / "sandbox.db").exists():
        return
    store = Store(tmp_path / ".flowrun" / "sandbox.db")
    store.delete("partner_center", "webhook")  # what a thread still has to post goes nowhere
    store.close()


@pytest.fixture
def listening(folder: Path) -> Iterator[Hook]:
    """A hook of this folder's sandbox, on the machine's clock."""
    (folder / ".flowrun").mkdir()
    store = Store(folder / ".flowrun" / "sandbox.db")

    class Now(FakeClock):
        def now(self) -> datetime:
            return datetime.now(UTC)

    hook = Hook(connected(Service(store, Now()), Now()))
    yield hook
    hook.close()


def webhook(folder: Path, *args: str) -> Any:
    return flowrun("webhook", *args, cwd=folder)


def test_the_commands(folder: Path) -> None:
    assert webhook(folder, "events", "partner_center").out.split() == sorted(EVENTS)
    assert json.loads(webhook(folder, "events", "partner_center", "--json").out) == sorted(EVENTS)
    nothing = webhook(folder, "show", "partner_center")
    assert (nothing.code, nothing.out) == (1, "nothing is registered\n")
    said = webhook(folder, "register", "partner_center", "--url", "http://127.0.0.1:9/hooks/x")
    assert said.code == 0
    assert said.out.splitlines() == [
        "registered 127.0.0.1:9 for 5 events",
        "  url        http://127.0.0.1:9/hooks/x",
        f"  events     {', '.join(OURS)}",
        "  signature  in authorization",
    ]
    again = webhook(folder, "register", "partner_center", "--url", "http://127.0.0.1:9/hooks/x", "--event",
                    "subscription-updated")  # fmt: skip
    assert "now 127.0.0.1:9 for 6 events" in again.out
    changed = webhook(folder, "update", "partner_center", "--event", "referral-updated", "--event", "test-created",
                      "--signature-header", "x-ms-signature", "--json")  # fmt: skip
    assert json.loads(changed.out) == {
        "url": "http://127.0.0.1:9/hooks/x",
        "events": ["referral-updated", "test-created"],
        "signature_in": "x-ms-signature",
    }
    assert json.loads(webhook(folder, "show", "partner_center", "--json").out) == json.loads(changed.out)
    ended = webhook(folder, "delete", "partner_center")
    assert ended.code == 0 and "  events     test-created" in ended.out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["register", "partner_center"], "--url"),
        (["register", "partner_center", "--url", "flows.example"], "a URL such as"),
        (["register", "partner_center", "--url", "https://flows.example/h", "--event", "none"], "no event none"),
        (["register", "sqlite", "--url", "https://flows.example/h"], "has no hooks to register"),
        (["show", "nothing"], "no connection 'nothing' in sandbox"),
        (["update", "partner_center", "--event", "test-created"], "register one first"),
        (["test", "partner_center"], "no registration"),
        (["test", "partner_center", "--wait", "soon"], "is no duration"),
    ],
)
def test_commands_that_go_wrong(folder: Path, args: list[str], says: str) -> None:
    said = webhook(folder, *args)
    assert said.code == 2
    assert says in said.err


def test_a_test_event_arrives(folder: Path, listening: Hook) -> None:
    webhook(folder, "register", "partner_center", "--url", listening.url)
    said = webhook(folder, "test", "partner_center")
    assert (said.code, said.out) == (0, "attempt 1: Accepted\ndelivered\n"), said.all
    assert said.err.startswith("asked for test event ")
    assert [event.type for event in listening.events] == ["test-created"]
    found = json.loads(webhook(folder, "test", "partner_center", "--json").out)
    assert found["delivered"] and found["attempts"][0]["code"] == "Accepted"


def test_a_test_event_that_does_not_arrive(folder: Path, listening: Hook) -> None:
    webhook(folder, "register", "partner_center", "--url", listening.url)
    listening.answers = [401] * 10
    said = webhook(folder, "test", "partner_center", "--wait", "500ms")
    assert said.code == 1
    assert said.out.splitlines()[:1] == ["attempt 1: Unauthorized"]
    assert said.out.splitlines()[-1] == "not delivered (inProgress)"


def test_a_run_in_the_sandbox_makes_its_hook_hear_of_it(folder: Path, listening: Hook) -> None:
    """The flow's own write to the referral is posted too: another run by it changes nothing, so it ends there."""
    import shutil

    from terminal import FLOWS

    for name in ("referral_to_dynamics.yaml", "samples"):
        (shutil.copytree if name == "samples" else shutil.copy)(FLOWS / name, folder / name)
    webhook(folder, "register", "partner_center", "--url", listening.url)
    heard = threading.Event()
    own = listening.answer

    def answer(request: Incoming) -> Reply:
        reply = own(request)
        heard.set()
        return reply

    listening.answer = answer  # type: ignore[method-assign]
    assert flowrun("referral_to_dynamics.yaml", cwd=folder).code == 0
    assert heard.wait(10)
    assert [(event.type, event.subject) for event in listening.events] == [("referral-updated", MAIN)]
    assert flowrun("referral_to_dynamics.yaml", cwd=folder).code == 0
    assert len(listening.events) == 1
