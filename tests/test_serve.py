"""`flowrun serve`, as a real process: webhooks to durable runs, the API, health, and what survives its end."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from terminal import FLOWS

SAMPLE = json.loads((FLOWS / "samples" / "referral_created.json").read_text("utf-8"))
ASK = """\
flow: ask
triggers:
  by_hand: {manual: {inputs: {type: object, required: [n], properties: {n: {type: integer}}}}}
  event: {webhook: partner_center, events: [referral-created], key: trigger.event.id}
connections: {partner_center: partner_center, desk: http}
steps:
  answer: {respond: {status: 201, headers: {X-Said: hello}, body: {id: "{{ trigger.event.subject }}"}}}
  slow: {when: trigger.inputs.n > 1, wait: "{{ concat(trigger.inputs.n, 's') }}"}
outputs: {n: "{{ trigger.inputs.n }}"}
"""
CONNECTIONS = """\
environments:
  sandbox:
    emulate: true
    connections: {partner_center: {webhook: {mode: observe}}}  # signatures: test_webhook.py
"""
STRICT = """\
flow: strict
triggers:
  event:
    webhook: partner_center
    schema: {type: object, properties: {type: {const: referral-updated}}}
connections: {partner_center: partner_center}
steps: {a: {compose: 1}}
"""


class Served:
    """A serving process, and calls to it."""

    def __init__(self, folder: Path, *flows: str) -> None:
        self.folder = folder
        self.flows = flows
        self.http = requests.Session()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "flowrun"), "serve", *self.flows, "--port", "0"]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        self.base = re.findall(r"http://[\d.:]+", self.process.stdout.readline())[0]
        self.hooks: dict[str, str] = {}
        while len(self.hooks) < len(self.flows):
            hook = self.process.stdout.readline().split()[-1]
            self.hooks[hook.split("/")[-3]] = hook

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def token(self, name: str = "me") -> dict[str, str]:
        command = [str(Path(sys.executable).parent / "flowrun"), "serve", "token", "add", name]
        said = subprocess.run(
            [*command, "--connections", "connections.yaml"], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return {"Authorization": f"Bearer {said.stdout.strip()}"}

    def event(self, flow: str, event: Any, **options: Any) -> requests.Response:
        return self.http.post(
            self.hooks[flow], data=event if isinstance(event, bytes) else json.dumps(event), **options
        )

    def run(self, id: str, token: dict[str, str], *, until: str | None = None) -> dict[str, Any]:
        end = time.monotonic() + 15
        while True:
            run: dict[str, Any] = self.http.get(f"{self.base}/api/v1/runs/{id}", headers=token).json()
            if until is None or run["status"] == until:
                return run
            assert time.monotonic() < end, run
            time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served") / "flows"
    shutil.copytree(FLOWS, made, ignore=shutil.ignore_patterns(".flowrun"))
    (made / "connections.yaml").write_text(CONNECTIONS, "utf-8")
    (made / "ask.yaml").write_text(ASK, "utf-8")
    (made / "strict.yaml").write_text(STRICT, "utf-8")
    return made


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    found = Served(folder, "referral_to_dynamics.yaml", "ask.yaml", "strict.yaml")
    found.start()
    yield found
    found.http.close()
    if found.process is not None:
        assert found.stop() == 0


@pytest.fixture(scope="module")
def token(served: Served) -> dict[str, str]:
    return served.token()


def changed(number: int, **more: Any) -> dict[str, Any]:
    """The sample's event at another time, so that it is another event."""
    return {**SAMPLE, "ResourceChangeUtcDate": f"2026-11-24T10:00:{number:02}.0000000Z", **more}


def test_an_event_is_recorded_and_then_run(served: Served, token: dict[str, str]) -> None:
    answer = served.event("referral_to_dynamics", changed(1))
    assert answer.status_code == 202
    (run,) = answer.json()["runs"]
    assert run["created"]
    done = served.run(run["run"], token, until="succeeded")
    assert done["outputs"]["lead"]
    assert [r["path"] for r in done["records"]] == ["get_token", "get_referral", "upsert_lead", "update_referral"]


def test_the_same_event_again_is_the_same_run(served: Served) -> None:
    first, second = served.event("referral_to_dynamics", changed(2)), served.event("referral_to_dynamics", changed(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["runs"][0]["run"] == second.json()["runs"][0]["run"]
    assert not second.json()["runs"][0]["created"]


def test_events_that_nobody_asked_for_start_nothing(served: Served) -> None:
    answer = served.event("referral_to_dynamics", changed(3, EventName="referral-deleted"))
    assert (answer.status_code, answer.json()) == (200, {"runs": []})
    metrics = served.http.get(f"{served.base}/metrics").text
    assert 'flowrun_events_total{flow="referral_to_dynamics",outcome="ignored",trigger="event"} 1.0' in metrics


def test_what_is_no_event_is_refused(served: Served) -> None:
    assert served.event("referral_to_dynamics", b"no JSON").status_code == 400
    assert served.event("referral_to_dynamics", b"x" * 2_000_000).status_code == 413


def test_only_the_whole_path_leads_to_a_hook(served: Served) -> None:
    hook = served.hooks["ask"]
    for url in (hook[:-1], hook + "x", hook.rpartition("/")[0] + "/", hook.replace("/ask/", "/other/")):
        assert served.http.post(url, data=json.dumps(SAMPLE)).status_code == 404


def test_a_flow_answers_for_itself(served: Served) -> None:
    answer = served.event("ask", changed(4))
    assert (answer.status_code, answer.headers["X-Said"]) == (201, "hello")
    assert answer.json() == {"id": SAMPLE["ResourceUri"].rpartition("/")[2]}
    assert served.event("ask", changed(4)).status_code == 200


def test_an_event_of_another_shape_is_a_run_that_failed(served: Served, token: dict[str, str]) -> None:
    answer = served.event("strict", changed(5))
    run = served.run(answer.json()["runs"][0]["run"], token)
    assert (answer.status_code, run["status"], run["error"]["code"]) == (200, "failed", "SchemaViolation")


def test_other_names_and_other_sites_are_refused(served: Served, token: dict[str, str]) -> None:
    assert served.http.get(f"{served.base}/healthz").json() == {"status": "ok"}
    assert served.http.get(f"{served.base}/readyz").json()["status"] == "ready"
    assert served.http.get(f"{served.base}/healthz", headers={"Host": "evil.example"}).status_code == 421
    headers = {**token, "Origin": "https://evil.example"}
    assert served.http.get(f"{served.base}/api/v1/runs", headers=headers).status_code == 403
    assert served.http.get(f"{served.base}/api/v1/runs").status_code == 401
    assert served.http.get(f"{served.base}/api/v1/runs", headers={"Authorization": "Bearer x"}).status_code == 401
    assert served.http.get(f"{served.base}/nothing").status_code == 404


def test_tokens_are_kept_as_digests(served: Served, token: dict[str, str]) -> None:
    secret = token["Authorization"].partition(" ")[2]
    for file in (served.folder / ".flowrun").glob("journal.db*"):
        assert secret.encode() not in file.read_bytes()


def test_runs_are_started_listed_and_cancelled(served: Served, token: dict[str, str]) -> None:
    runs = f"{served.base}/api/v1/runs"
    started = served.http.post(runs, json={"flow": "ask", "input": {"n": 1}}, headers=token)
    assert started.status_code == 202
    assert served.run(started.json()["run"], token, until="succeeded")["outputs"] == {"n": 1}
    assert served.http.post(runs, json={"flow": "ask", "input": {"n": "x"}}, headers=token).status_code == 400
    assert served.http.post(runs, json={"flow": "asks"}, headers=token).status_code == 409
    waiting = served.http.post(runs, json={"flow": "ask", "input": {"n": 3000}}, headers=token).json()["run"]
    assert served.run(waiting, token, until="waiting")["wake"]
    assert served.http.post(f"{runs}/{waiting}/cancel", headers=token).status_code == 202
    assert served.run(waiting, token)["status"] == "cancelled"
    assert served.http.post(f"{runs}/{waiting}/cancel", headers=token).status_code == 409
    under_way = served.http.post(runs, json={"flow": "ask", "input": {"n": 40}}, headers=token).json()["run"]
    served.run(under_way, token, until="running")
    found = served.http.get(runs, params={"flow": "ask", "limit": 2}, headers=token).json()["runs"]
    assert [run["id"] for run in found] == [under_way, waiting]
    assert served.http.get(f"{runs}/zzz", headers=token).status_code == 404


def test_a_failed_run_is_resumed(served: Served, token: dict[str, str]) -> None:
    answer = served.event("strict", changed(6))
    id = answer.json()["runs"][0]["run"]
    assert served.http.post(f"{served.base}/api/v1/runs/{id}/resume", headers=token).status_code == 202
    assert served.run(id, token, until="succeeded")["records"][-1]["path"] == "a"


def test_the_api_describes_itself(served: Served) -> None:
    described = served.http.get(f"{served.base}/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) >= {"/api/v1/runs", "/api/v1/runs/{id}/cancel"}


def test_what_was_accepted_is_run_after_a_kill(folder: Path) -> None:
    """Events in, the process killed at once, another one started: each event has its run, and each run its end."""
    other = folder.parent / "killed"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns(".flowrun"))
    served = Served(other, "referral_to_dynamics.yaml")
    accepted: set[str] = set()
    for round_ in range(3):
        served.start()
        for n in range(8):
            answer = served.event("referral_to_dynamics", changed(10 * round_ + n))
            assert answer.status_code in (200, 202)
            accepted |= {run["run"] for run in answer.json()["runs"]}
        served.http.close()
        served.stop(signal.SIGKILL)
    served.start()
    token = served.token()
    for id in accepted:
        served.run(id, token, until="succeeded")
    assert served.stop() == 0
    assert len(accepted) == 24
    with sqlite3.connect(other / ".flowrun" / "journal.db") as db:
        twice = db.execute(
            "SELECT run, path, count(*) FROM records WHERE status='succeeded' GROUP BY run, path HAVING count(*) > 1"
        ).fetchall()
    db.close()
    assert twice == []
