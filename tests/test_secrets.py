"""Secrets from the environment are in nothing that flowrun writes or says, whatever the other side does with them.

Each secret has a core that no escaping changes. A core that is found anywhere, plain or in base64 at any alignment, is
a leak, in whatever quoting it came (URL, JSON, JSON in JSON, form in Basic).
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from cryptography.fernet import Fernet
from remote import LOGIN, VARIABLES, Remote, remote
from terminal import Said, flowrun

from connectors.entra.emulator import digest
from engine.connections.config import OpenConnections, Project
from engine.connections.secrets import Mask
from engine.contract import SystemClock
from engine.errors import FlowrunError
from engine.sandbox import Dropped, Incoming, Reply
from engine.sandbox.emulator import incoming, respond
from engine.types import Secret

ODD = "p@ss w/rd+=\"éZq7Vx2Kp9wTt4'\\"
LONG = "Qw8Er7Ty6Ui5Op4As3Df2Gh1Jk9Lz0"
REFRESH = "1.AbRefreshXy5Nm3Bv8Cq2-_.é"
ACCESS = "eyAccessHn4Jm7Kd2Sw9Fx6"
CORES = {ODD: "Zq7Vx2Kp9wTt4", LONG: LONG, REFRESH: "RefreshXy5Nm3Bv8Cq2", ACCESS: "AccessHn4Jm7Kd2Sw9Fx6"}
FETCHED = "fetchedRt6Gy3Hu8Ij1"  # a value that only the run gets to know
ENV = {**VARIABLES, "ODD": ODD, "LONG": LONG, "REFRESH": REFRESH, "ACCESS": ACCESS}
PARROT = "parrot.example"


def needles(core: str) -> list[str]:
    """The core, and what it looks like inside base64."""
    found = [core]
    data = core.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for lead in range(3):
            text = encode(b"\0" * lead + data).decode().rstrip("=")
            found.append(text[-(-lead * 8 // 6) : (lead + len(data)) * 8 // 6])
    return found


def leaks(places: Iterable[tuple[str, bytes]], *cores: str) -> list[str]:
    out = []
    for name, content in places:
        for core in cores:
            for needle in needles(core):
                at = content.find(needle.encode())
                if at >= 0:
                    out.append(f"{name}: …{content[max(0, at - 150) : at + 60].decode('utf-8', 'replace')}…")
                    break
    return out


@dataclass
class House:
    """A project, its services and a parrot, and all that was said."""

    folder: Path
    far: Remote
    said: list[tuple[str, Said]]
    parrot: Callable[[Incoming], Reply]
    asked: int = 0

    def write(self, connections: str, flow: str, more: str = "") -> None:
        (self.folder / "connections.yaml").write_text(self.far.connections(connections) + more, "utf-8")
        (self.folder / "flow.yaml").write_text(flow, "utf-8")

    def type(self, *args: str, env: dict[str, str] | None = None, stdin: bytes = b"") -> Said:
        said = flowrun(*args, cwd=self.folder, env={**ENV, **(env or {})}, stdin=stdin)
        self.said.append((" ".join(args), said))
        return said

    def run(self, *more: str, env: dict[str, str] | None = None) -> Said:
        """Runs the flow, plain and as JSON, and looks at the runs in every way. The first run's outcome."""
        first = self.type("flow.yaml", "--env", "lab", *more, env=env)
        self.type("flow.yaml", "--env", "lab", "--json", *more, env=env)
        self.type("runs", "show", "last", "--json")
        return first

    def check(self, *cores: str) -> None:
        """Nothing has leaked anywhere."""
        places = [(name, f"{said.out}\n{said.err}".encode()) for name, said in self.said]
        files = [p for p in (self.folder / ".flowrun").rglob("*") if p.is_file()]
        assert any(p.name == "journal.db" for p in files)
        places += [(str(p.relative_to(self.folder)), p.read_bytes()) for p in files]
        assert leaks(places, *(cores or CORES.values())) == []


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(tmp_path_factory.mktemp("remote")) as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, far: Remote) -> Iterator[House]:
    far.renew()
    for client, secret in ((VARIABLES["PC_CLIENT_ID"], ODD), (VARIABLES["CRM_CLIENT_ID"], LONG)):
        app = far.store.get("entra.app", client)
        far.store.put("entra.app", client, {**app, "secrets": [digest(secret), digest(ODD)]})
    far.entra._remember(VARIABLES["PC_CLIENT_ID"], "referral.admin@contoso.onmicrosoft.com", ["pwd", "mfa"], REFRESH)
    found = House(tmp_path, far, [], lambda _: Reply(200, {}))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found.asked += 1
        return respond(found.parrot(incoming(environ)), start_response)

    far.apps[PARROT] = app
    yield found


PIECES = ("authorization", "decoded", "body", "values", "base64", "json")


def told(request: Incoming) -> dict[str, str]:
    """What a service might say of a request that it doesn't like."""
    authorization = request.headers.get("authorization", "")
    scheme, _, encoded = authorization.partition(" ")
    body = request.body.decode("utf-8", "replace")
    form = parse_qsl(body) if "form" in request.headers.get("content-type", "") else []
    decoded = base64.b64decode(encoded).decode() if scheme == "Basic" else encoded
    values = [decoded, request.headers.get("x-api-key", ""), *(v for _, v in form), *request.query.values()]
    return {
        "authorization": f"{authorization} {request.headers.get('x-api-key', '')}",
        "decoded": decoded,
        "body": f"{body} {request.path}",
        "values": " | ".join(values),
        "base64": " ".join(base64.b64encode(v.encode()).decode() for v in values),
        "json": json.dumps(values),
    }


def parrot(mode: str, piece: str = "") -> Callable[[Incoming], Reply]:
    """A service that repeats in its answers what it was told: one piece of it, else all."""

    def answer(request: Incoming) -> Reply:
        pieces = told(request)
        said = pieces[piece] if piece else " ".join(pieces.values())
        text = {"Content-Type": "text/plain; charset=utf-8"}
        match mode:
            case "reset":
                raise Dropped("reset")
            case "400" | "401" | "403" | "409" | "500" | "503":
                return Reply(int(mode), {"error": {"code": "E", "message": said, "innererror": {"message": said}}})
            case "text 401":
                return Reply(401, said.encode(), text)
            case "text 500":
                return Reply(500, said.encode(), text)
            case "no charset":
                return Reply(400, said.encode(), {"Content-Type": "text/plain"})
            case "html":
                return Reply(400, f"<html>{said}</html>".encode(), {"Content-Type": "text/html"})
            case "oauth":
                return Reply(401, {"error": "invalid_client", "error_description": said, "error_codes": [7000215]})
            case "oauth code":
                return Reply(400, {"error": said, "error_description": ""})
            case "oauth object":
                return Reply(400, {"error": {"code": said, "message": said}})
            case "200 html":
                return Reply(200, f"<html>{said}</html>".encode(), {"Content-Type": "application/json"})
            case "200 list":
                return Reply(200, [said])
            case "200 no token":
                return Reply(200, {"token_type": "Bearer", "said": said})
            case "200 odd token":
                return Reply(200, {"token_type": "Bearer", "access_token": {"said": said}, "expires_in": 3600})
            case "200 odd time":
                return Reply(200, {"token_type": "Bearer", "access_token": ACCESS, "expires_in": said})
            case "200 odd id":
                ids = {"id_token": f"{said}.{said}.x", "client_info": said}
                return Reply(200, {"token_type": "Bearer", "access_token": ACCESS, "expires_in": 3600, **ids})
            case "200 odd scope":
                return Reply(200, {"access_token": ACCESS, "token_type": said, "scope": [said], "expires_in": 3600})
        raise AssertionError(mode)

    return answer


def token_answers(call: Callable[..., Any]) -> Callable[..., Any]:
    """The answers of a token endpoint: those that are quoted piece by piece, the others with all pieces at once."""
    quoted = [(mode, piece) for mode in ("oauth", "oauth code", "oauth object") for piece in PIECES]
    return pytest.mark.parametrize(("mode", "piece"), [*quoted, *((mode, "") for mode in TOKEN_ANSWERS)])(call)


TOKEN_ANSWERS = ("reset", "401", "500", "503", "html", "text 500", "200 html", "200 list", "200 no token",
                 "200 odd token", "200 odd time", "200 odd id", "200 odd scope")  # fmt: skip

MICROSOFT = """\
      pc:
        connector: partner_center
        tenant: "${env:PC_TENANT}"
        client_id: "${env:PC_CLIENT_ID}"
        client_secret: "${env:ODD}"
        refresh_token: "${env:REFRESH}"
      crm365:
        connector: dynamics365
        url: "${env:CRM_URL}"
        tenant: "${env:PC_TENANT}"
        client_id: "${env:CRM_CLIENT_ID}"
        client_secret: "${env:LONG}"
      crm_odd:
        connector: dynamics365
        url: "${env:CRM_URL}"
        tenant: "${env:PC_TENANT}"
        client_id: "${env:CRM_CLIENT_ID}"
        client_secret: "${env:ODD}"
"""
MICROSOFT_FLOW = """\
flow: secrets
connections: {pc: pc, crm: crm365, odd: crm_odd}
steps:
  token: {call: pc.get_token, retry: {count: 0}, run_after: {}}
  referral: {call: pc.get_referral, with: {id: 8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718}, retry: {count: 0}, run_after: {}}
  long: {call: crm.get_lead, with: {key: nobody}, retry: {count: 0}, run_after: {}}
  odd: {call: odd.get_lead, with: {key: nobody}, retry: {count: 0}, run_after: {}}
"""


@pytest.mark.parametrize("key", [False, True], ids=["tokens-in-memory", "tokens-kept"])
def test_a_run_that_ends_well(house: House, key: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    house.write(MICROSOFT, MICROSOFT_FLOW)
    env = {"FLOWRUN_KEY": Fernet.generate_key().decode()} if key else None
    login = house.far.apps[LOGIN]
    issued: set[str] = set()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        content = b"".join(login(environ, start_response))
        issued.update(v for k, v in json.loads(content).items() if k in ("access_token", "refresh_token"))
        return [content]

    house.far.apps[LOGIN] = app
    said = house.run(env=env)
    assert said.code == 0, said.all
    assert house.type("connections", "check", "pc", "crm365", "crm_odd", "--env", "lab", env=env).code == 0
    house.check()
    assert len(issued) >= 4  # what was issued meanwhile is secret too
    house.check(*(token[-40:] for token in issued))
    assert leaks([("log", caplog.text.encode())], *CORES.values()) == []


@token_answers
def test_microsoft_s_token_service_repeats_what_it_was_told(
    house: House, mode: str, piece: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    house.write(MICROSOFT, MICROSOFT_FLOW)
    login = house.far.apps[LOGIN]
    repeat = parrot(mode, piece)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return login(environ, start_response)
        return respond(repeat(incoming(environ)), start_response)

    house.far.apps[LOGIN] = app
    said = house.run()
    assert said.code == 1, said.all
    house.type("connections", "check", "pc", "crm365", "crm_odd", "--env", "lab")
    house.type("connections", "check", "pc", "--env", "lab", "--json")
    house.check()
    assert leaks([("log", caplog.text.encode())], *CORES.values()) == []


@pytest.mark.parametrize("wrong", ["secret", "refresh_token", "client"])
def test_microsoft_s_token_service_refuses(house: House, wrong: str) -> None:
    change = {
        "secret": ("${env:ODD}", "${env:LONG}x"),
        "refresh_token": ("${env:REFRESH}", "${env:ODD}"),
        "client": ("${env:PC_CLIENT_ID}", "11111111-1111-4111-8111-111111111111"),
    }[wrong]
    house.write(MICROSOFT.replace(*change), MICROSOFT_FLOW)
    assert house.run().code == 1
    house.type("connections", "check", "pc", "crm365", "crm_odd", "--env", "lab")
    house.check()


# Any HTTP service

AUTHS = {
    "basic": "{type: basic, username: someone, password: '${env:ODD}'}",
    "bearer": "{type: bearer, token: '${env:LONG}'}",
    "bearer odd": "{type: bearer, token: '${env:ODD}'}",
    "api key": "{type: api_key, header: X-Api-Key, key: '${env:ODD}'}",
}
OAUTHS = {
    f"{grant} {secret} {place}": f"{{type: {grant}, token_url: 'https://{PARROT}/token', client_id: me, "
    f"client_secret: '${{env:{secret}}}', credentials_in: {place}{more}}}"
    for grant, secret, place, more in (
        ("client_credentials", "ODD", "header", ""),
        ("client_credentials", "ODD", "body", ""),
        ("client_credentials", "LONG", "header", ""),
        ("password", "ODD", "body", ", username: someone, password: '${env:LONG}'"),
    )
}


def http(auth: str) -> str:
    return f"      web: {{connector: http, base_url: 'https://{PARROT}', auth: {auth}}}\n"


WEB_FLOW = """\
flow: secrets
connections: {web: web}
steps:
  ask: {call: web.request, with: {url: /ask}, retry: {count: 0}}
  tell: {call: web.request, with: {url: /tell, method: PUT, json: {a: 1}}, retry: {count: 0}, run_after: {ask: any}}
"""


@pytest.mark.parametrize(
    ("mode", "piece"),
    [
        (mode, p)
        for mode in ("401", "500", "text 401", "no charset", "html")
        for p in ("authorization", "values", "json")
    ]
    + [(mode, "") for mode in ("400", "403", "409", "oauth", "reset")],
)
@pytest.mark.parametrize("auth", AUTHS)
def test_an_http_service_repeats_the_credential(house: House, auth: str, mode: str, piece: str) -> None:
    house.write(http(AUTHS[auth]), WEB_FLOW)
    house.parrot = parrot(mode, piece)
    said = house.run()
    assert said.code == 1, said.all
    assert house.asked >= 2
    house.type("connections", "check", "web", "--env", "lab")
    house.check()


@token_answers
@pytest.mark.parametrize("auth", [name for name in OAUTHS if "LONG" not in name])
def test_an_oauth_token_endpoint_repeats_the_credential(house: House, auth: str, mode: str, piece: str) -> None:
    house.write(http(OAUTHS[auth]), WEB_FLOW)
    repeat = parrot(mode, piece)
    house.parrot = lambda request: repeat(request) if request.path == "/token" else Reply(200, {})
    said = house.run()
    assert house.asked >= 2, said.all
    house.check()


CUTS = [(mode, before) for mode in ("400", "text 500", "html", "oauth") for before in range(3, 520, 23)]


def test_a_message_that_is_cut_short_shows_no_part_of_a_secret(house: House) -> None:
    """Cut first and masked then, the secret's beginning would stay."""
    house.write(http(AUTHS["bearer"]), WEB_FLOW)
    found = []
    for mode, before in CUTS:
        body = "x" * before + LONG + "y" * 600
        error = {"error": {"code": body, "message": body}, "error_description": body}
        answer = Reply(400, error)
        if mode in ("text 500", "html"):
            answer = Reply(500 if mode == "text 500" else 400, body.encode(), {"Content-Type": "text/plain"})
        house.parrot = lambda _, answer=answer: answer
        said = house.type("flow.yaml", "--env", "lab")
        found += [f"{mode}, after {before}: {n} characters" for n in (12, len(LONG) - 1) if LONG[:n] in said.all]
    assert found == []


@pytest.mark.parametrize("mode", ["400", "401", "text 401", "text 500"])
def test_an_access_token_that_a_service_repeats_is_a_secret_too(house: House, mode: str) -> None:
    house.write(http(OAUTHS["client_credentials ODD header"]), WEB_FLOW)
    repeat = parrot(mode)

    def answer(request: Incoming) -> Reply:
        if request.path == "/token":
            return Reply(200, {"access_token": ACCESS, "token_type": "Bearer", "expires_in": 3600})
        return repeat(request)

    house.parrot = answer
    said = house.run()
    assert said.code == 1, said.all
    house.check()


@pytest.mark.parametrize("host", ["api.partner.microsoft.com", "contoso.crm.dynamics.com"])
def test_microsoft_s_access_token_that_a_service_repeats_is_a_secret_too(house: House, host: str) -> None:
    house.write(MICROSOFT, MICROSOFT_FLOW)
    tokens = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        tokens.append(environ["HTTP_AUTHORIZATION"].partition(" ")[2])
        body = {"error": {"code": "x", "message": f"bad token {tokens[-1]}"}}
        return respond(Reply(400, body), start_response)

    house.far.apps[host] = app
    assert house.run().code == 1
    assert tokens
    house.check(*(t[-43:] for t in tokens))


# Parameters and secure parts


def test_a_secret_parameter_leaves_no_trace(house: House) -> None:
    flow = """\
flow: secrets
connections: {web: web}
parameters: {pw: {type: string, secret: true, default: "${env:ODD}"}, given: {type: string, secret: true}}
variables: {kept: "", list: []}
steps:
  send:
    call: web.request
    with: {url: /send, method: PUT, json: {pw: "{{ parameters.pw }}"}, query: {q: "{{ parameters.given }}"}}
  name: {compose: "{{ parameters.pw }}"}
  keep: {set: {kept: "{{ steps.name.body }}"}}
  more: {append: {list: "{{ variables.kept }}"}}
  each: {foreach: "{{ [parameters.given] }}", as: one, steps: {inner: {compose: "{{ one }}"}}, result: "{{ one }}"}
  only: {select: "{{ [parameters.given] }}", map: "x{{ item }}"}
  choice: {switch: parameters.given, cases: {nothing: {a: {compose: 1}}}, default: {b: {compose: 2}}}
  shape: {parse: "{{ parameters.given }}", schema: {type: string}}
"""
    house.write(http("{type: none}"), flow)
    said = house.run("--set", f"given={LONG}")
    assert said.code == 0, said.all
    house.check()


def test_a_secret_parameter_that_a_service_repeats(house: House) -> None:
    flow = """\
flow: secrets
connections: {web: web}
parameters: {pw: {type: string, secret: true, default: "${env:ODD}"}}
steps:
  send:
    call: web.request
    retry: {count: 0}
    with:
      url: "/x/{{ uriComponent(parameters.pw) }}"
      method: PUT
      json: {pw: "{{ parameters.pw }}"}
      query: {q: "{{ parameters.pw }}"}
"""
    house.write(http("{type: none}"), flow)
    for mode, piece in [(m, p) for m in ("400", "500", "text 500") for p in ("body", "values", "json", "base64")]:
        house.parrot = parrot(mode, piece)
        assert house.run().code == 1
    house.check()


QUOTING = {
    "type": "{parse: '{{ parameters.pw }}', schema: {type: integer}}",
    "enum": "{parse: '{{ parameters.pw }}', schema: {enum: [a]}}",
    "no list": "{foreach: '{{ parameters.pw }}', steps: {a: {compose: 1}}}",
    "time": "{wait: {until: '{{ parameters.pw }}'}}",
    "sum": "{compose: '{{ parameters.pw + 1 }}'}",
    "int": "{compose: '{{ int(parameters.pw) }}'}",
    "json": "{compose: '{{ json(parameters.pw) }}'}",
    "condition": "{when: parameters.pw, compose: 1}",
    "member": '{compose: "{{ prop({}, parameters.pw) }}"}',
    "terminate": "{terminate: failed, error: {code: '{{ parameters.pw }}', message: '{{ parameters.pw }}'}}",
}


@pytest.mark.parametrize("kind", QUOTING)
def test_an_error_about_a_secret_parameter_does_not_quote_it(house: House, kind: str) -> None:
    flow = f"""\
flow: secrets
parameters: {{pw: {{type: string, secret: true, default: "${{env:ODD}}"}}}}
steps:
  fails: {QUOTING[kind]}
"""
    house.write("", flow)
    said = house.run()
    assert said.code == 1, said.all
    house.check()


@pytest.mark.parametrize("key", [False, True], ids=["marker", "encrypted"])
@pytest.mark.parametrize(
    "what",
    [
        "outputs: {x: '{{ steps.fetch.body }}'}",
        "outputs: {x: '{{ steps.name.body }}'}",
        "business_key: steps.fetch.body",
    ],
)
def test_a_secure_output_does_not_come_out_by_the_back_door(house: House, what: str, key: bool) -> None:
    flow = f"""\
flow: secrets
connections: {{web: web}}
steps:
  fetch: {{call: web.request, with: {{url: /fetch}}, secure: [outputs]}}
  name: {{compose: "{{{{ steps.fetch.body }}}}"}}
{what}
"""
    house.write(http("{type: none}"), flow)
    house.parrot = lambda request: Reply(200, FETCHED) if request.path == "/fetch" else Reply(200)
    said = house.run(env={"FLOWRUN_KEY": Fernet.generate_key().decode()} if key else None)
    assert said.code == 0, said.all
    files = [p for p in (house.folder / ".flowrun").rglob("*") if p.is_file()]
    assert leaks([(p.name, p.read_bytes()) for p in files], FETCHED) == []
    house.check(FETCHED)


READING = {
    "compose": "{compose: '{{ steps.fetch.body }}'}",
    "select": "{select: '{{ [steps.fetch.body] }}'}",
    "foreach": "{foreach: '{{ [steps.fetch.body] }}', as: one, steps: {inner: {compose: '{{ one }}'}}}",
    "foreach, result": "{foreach: [1], steps: {inner: {compose: 1}}, result: '{{ steps.fetch.body }}'}",
    "foreach, call": "{foreach: '{{ [steps.fetch.body] }}', as: one, steps: {inner: {call: web.request, "
    "with: {url: /y, method: PUT, text: '{{ one }}'}}}}",
    "until": "{until: 'true', steps: {inner: {compose: '{{ steps.fetch.body }}'}}, result: '{{ steps.inner.body }}'}",
    "switch": "{switch: steps.fetch.body, cases: {a: {inner: {compose: 1}}}, default: {other: {compose: 2}}}",
    "respond": "{respond: {status: 200, body: '{{ steps.fetch.body }}'}}",
    "call": "{call: web.request, with: {url: /y, text: '{{ steps.fetch.body }}', method: PUT}}",
    "if": "{if: \"steps.fetch.body != 'x'\", then: {inner: {compose: '{{ steps.fetch.body }}'}}}",
    "scope": "{steps: {inner: {compose: '{{ steps.fetch.outputs.body }}'}}}",
    "set": "{set: {kept: '{{ steps.fetch.body }}'}}",
}


@pytest.mark.parametrize("step", READING)
def test_what_reads_a_secure_output_is_secure_itself(house: House, step: str) -> None:
    flow = f"""\
flow: secrets
connections: {{web: web}}
variables: {{kept: ""}}
steps:
  fetch: {{call: web.request, with: {{url: /fetch}}, secure: [outputs]}}
  reads: {READING[step]}
  after: {{compose: '{{{{ variables.kept }}}}'}}
"""
    house.write(http("{type: none}"), flow)
    house.parrot = lambda request: Reply(200, FETCHED) if request.path == "/fetch" else Reply(200)
    said = house.run()
    assert said.code == 0, said.all
    house.check(FETCHED)


def test_an_error_of_a_step_with_secure_inputs_does_not_hold_them(house: House) -> None:
    """The service quotes the input back; only the step knows that it is secret."""
    flow = """\
flow: secrets
connections: {web: web}
steps:
  fetch: {call: web.request, with: {url: /fetch}, secure: [outputs]}
  send:
    call: web.request
    with: {url: /send, method: PUT, text: "{{ steps.fetch.body }}"}
    secure: [inputs]
    retry: {count: 0}
"""
    house.write(http("{type: none}"), flow)
    repeat = parrot("400")
    house.parrot = lambda r: (
        Reply(200, FETCHED.encode(), {"Content-Type": "text/plain"}) if r.method == "GET" else repeat(r)
    )
    said = house.run()
    assert said.code == 1, said.all
    house.check(FETCHED)


@pytest.mark.parametrize("what", ["done", "repeat"])
@pytest.mark.parametrize("key", [False, True], ids=["marker", "encrypted"])
def test_a_person_s_answer_to_a_write_with_secret_inputs_writes_none_of_them(
    house: House, what: str, key: bool
) -> None:
    flow = """\
flow: secrets
connections: {web: web}
parameters: {pw: {type: string, secret: true, default: "${env:ODD}"}}
steps:
  send: {call: web.request, with: {url: /send, method: POST, json: {pw: "{{ parameters.pw }}"}}, retry: {count: 0}}
"""
    house.write(http("{type: none}"), flow)
    env = {"FLOWRUN_KEY": Fernet.generate_key().decode()} if key else None
    house.parrot = parrot("reset")
    said = house.type("flow.yaml", "--env", "lab", env=env)
    assert said.code == 3, said.all
    house.parrot = lambda _: Reply(200, {})
    said = house.type("runs", "resolve", "last", "send", what, "--json", env=env)
    assert said.code == 0, said.all
    house.type("runs", "show", "last", "--json")
    house.check()


# Bugs

PLUGIN = """\
import base64, json, re
from urllib.parse import quote, quote_plus
from dataclasses import dataclass
from engine import Connector, Result, Secret, operation

class Broken(Connector):
    "A connector with a bug."
    @dataclass(frozen=True)
    class Settings:
        password: Secret
        where: str = ""
        base_url: str = "https://parrot.example"

    def __init__(self, settings, ctx):
        super().__init__(settings, ctx)
        self.fail("init")

    def fail(self, where):
        secret = self.settings.password.reveal()
        if self.settings.where == where:
            RAISE

    @operation(effect="read")
    def look(self) -> Result[str]:
        "Looks."
        self.fail("look")
        return Result(body="fine")

    def check(self):
        self.fail("check")
        return iter(())

    def login(self, show):
        self.fail("login")
        return "nobody"
"""
RAISES = {
    "text": "raise RuntimeError('no use: ' + secret)",
    "repr": "raise RuntimeError(f'no use: {secret!r}')",
    "key": "raise KeyError(secret)",
    "args": "raise RuntimeError({'password': secret}, [secret])",
    "chained": """try:
                int(secret)
            except ValueError as error:
                raise RuntimeError("odd") from error""",
    "bytes": "raise RuntimeError(secret.encode())",
    "json": "raise RuntimeError(json.dumps({'text': json.dumps(secret)}))",
    "url": "raise RuntimeError(quote(secret) + ' ' + quote_plus(secret) + ' ' + quote(secret, safe=''))",
    "lower url": "raise RuntimeError(re.sub('%..', lambda m: m[0].lower(), quote(secret)))",
    "base64": "raise RuntimeError([base64.b64encode(b'x' * n + secret.encode() + b'yz') for n in range(3)])",
    "form in basic": "raise RuntimeError(base64.b64encode(('me:' + quote_plus(secret)).encode()))",
}


@pytest.mark.parametrize("raised", RAISES)
@pytest.mark.parametrize("secret", ["ODD", "LONG"])
def test_a_bug_that_quotes_a_secret(house: House, raised: str, secret: str) -> None:
    (house.folder / "plugins").mkdir()
    (house.folder / "plugins" / "broken.py").write_text(PLUGIN.replace("RAISE", RAISES[raised]), "utf-8")
    flow = "flow: secrets\nconnections: {broken: broken}\nsteps:\n  look: {call: broken.look}\n"
    for where in ("init", "look", "check", "login"):
        connection = f"      broken: {{where: {where}, password: '${{env:{secret}}}'}}\n"
        house.write(connection, flow, "plugins: ./plugins\n")
        said = house.type("flow.yaml", "--env", "lab")
        assert said.code == (1 if where in ("init", "look") else 0), said.all
        house.type("flow.yaml", "--env", "lab", "--json")
        assert house.type("connections", "check", "broken", "--env", "lab").code == (
            1 if where in ("init", "check") else 0
        )
        house.type("connections", "check", "broken", "--env", "lab", "--json")
        house.type("login", "broken", "--env", "lab", env={"FLOWRUN_KEY": Fernet.generate_key().decode()})
        house.type("runs", "show", "last", "--json")
    house.check()


# In memory


def test_settings_and_errors_show_no_secret(house: House) -> None:
    house.write(MICROSOFT + http(OAUTHS["password ODD body"]), MICROSOFT_FLOW)
    mask = Mask()
    project = Project.find(house.folder, None, ENV, mask)
    environment = project.environment("lab")
    opened = OpenConnections(project, environment, SystemClock())
    house.parrot = parrot("oauth")
    shown: list[Any] = []
    for name, operation, inputs in (
        ("pc", "get_token", {}),
        ("crm365", "get_lead", {"key": "nobody"}),
        ("web", "request", {"url": "/x"}),
    ):
        connector = opened[name]
        shown += [connector, connector.settings, vars(connector.settings), asdict(connector.settings)]
        shown += [vars(connector), connector.ctx, vars(connector.ctx), vars(connector.ctx.session)]
        auth = getattr(connector.settings, "auth", None)
        shown += [vars(auth)] if hasattr(auth, "__dict__") else []
        try:
            shown.append(connector.invoke(operation, inputs))
        except FlowrunError as error:
            chain: BaseException | None = error
            while chain is not None:
                shown += [type(chain).__name__, vars(chain), chain.args]
                chain = chain.__cause__ or chain.__context__
    opened.close()
    texts = [(str(type(s)), mask(f"{s!r}\n{s!s}\n{s}").encode()) for s in shown]
    assert leaks(texts, *CORES.values()) == []
    unmasked = [(str(type(s)), f"{s!r}\n{s!s}".encode()) for s in shown if not isinstance(s, tuple)]
    assert leaks(unmasked[:8], *CORES.values()) == []


def test_a_secret_shows_itself_to_no_formatting() -> None:
    secret = Secret(ODD)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret} {secret!r}",
        str([secret]),
        str({"a": secret}),
    ]
    assert leaks([(str(n), s.encode()) for n, s in enumerate(shown)], CORES[ODD]) == []
    for refused in (lambda: json.dumps(secret), lambda: "".join([secret])):  # type: ignore[list-item]
        with pytest.raises(TypeError):
            refused()


@pytest.mark.parametrize(
    "secret",
    [ODD, LONG, REFRESH, "aaaaaaaa", "\n\t\x00 control", "日本語のひみつの言葉", "%41%42%43%44", "****aaaa"],
    ids=["odd", "long", "refresh", "one letter", "control", "japanese", "escapes", "stars"],
)
def test_the_mask_takes_every_form_out(secret: str) -> None:
    mask = Mask()
    mask.add(secret)
    forms = {
        "plain": secret,
        "json": json.dumps(secret),
        "json, unicode": json.dumps(secret, ensure_ascii=False),
        "url": quote(secret),
        "url, all": quote(secret, safe=""),
        "form": quote_plus(secret),
        "repr": repr(secret),
        "lower url": re.sub("%..", lambda m: m[0].lower(), quote(secret)),
        **{f"base64 {n}": base64.b64encode(b"x" * n + secret.encode() + b"yz").decode() for n in range(3)},
        **{f"base64url {n}": base64.urlsafe_b64encode(b"x" * n + secret.encode() + b"yz").decode() for n in range(3)},
    }
    masked = {name: mask(f"before {form} after") for name, form in forms.items()}
    missed = [n for n, text in masked.items() if "***" not in text or forms[n].strip("\"'") in text]
    assert missed == []
    assert all(text.startswith("before ") and text.endswith(" after") for text in masked.values())


def test_the_longest_secret_goes_first() -> None:
    mask = Mask()
    for secret in ("password", "password-and-more", "word-and-more-of-it"):
        mask.add(secret)
    assert mask("x password-and-more y") == "x *** y"
    assert "more" not in mask("password-and-more")


def test_the_state_folder_is_the_owner_s_alone(house: House) -> None:
    house.write(MICROSOFT, MICROSOFT_FLOW)
    house.run()
    state = house.folder / ".flowrun"
    assert state.stat().st_mode & 0o077 == 0
    assert (state / ".gitignore").read_text("utf-8").strip() == "*"


def test_tokens_in_the_journal_are_encrypted_and_open_with_the_key_alone(house: House) -> None:
    house.write(MICROSOFT, MICROSOFT_FLOW)
    key = Fernet.generate_key()
    assert house.run(env={"FLOWRUN_KEY": key.decode()}).code == 0
    db = sqlite3.connect(house.folder / ".flowrun" / "journal.db")
    rows = db.execute("SELECT connection, data FROM tokens").fetchall()
    db.close()
    assert {name for name, _ in rows} == {"lab.pc", "lab.crm365", "lab.crm_odd"}
    assert "RefreshToken" in Fernet(key).decrypt(dict(rows)["lab.pc"]).decode()
    house.check(key.decode()[:40])


def test_of_the_tokens_that_pass_the_newest_are_known() -> None:
    mask = Mask()
    mask.add("a-secret-for-ever")
    tokens = [f"token-number-{n:04}" for n in range(100)]
    for token in tokens:
        mask.add(token, passing=True)
    text = " ".join(["a-secret-for-ever", *tokens])
    assert mask(text).split() == ["***", *tokens[:68], *["***"] * 32]


def test_of_two_secrets_that_begin_alike_the_longer_goes() -> None:
    mask = Mask()
    for secret in ("abcdefgh", "abcdefghijkl"):
        mask.add(secret)
    assert mask("xabcdefghijklabcdefghi") == "x******i"
