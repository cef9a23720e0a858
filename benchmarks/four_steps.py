"""The shipped flow against a hand-written script, in one run on one loopback server.

Both do the same calls: read the referral, look for the lead, create it, write its id back. The script uses one
requests.Session, caches its tokens and stores nothing; flowrun journals with SQLite at synchronous=FULL.
Prints the medians and their ratio at 0 ms and at 20 ms a call, then the time of a check and of a cold run.

    python benchmarks/four_steps.py [--rounds 300]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

REPOSITORY = Path(__file__).parent.parent
FLOW = REPOSITORY / "flows" / "referral_to_dynamics.yaml"
PARTNER, CRM, LOGIN = "api.partner.microsoft.com", "contoso.crm.dynamics.com", "login.microsoftonline.com"

SERVER = """
import sys, time
from importlib.metadata import entry_points
from engine.sandbox import Faults, Store, serve
store = Store()
latency = float(sys.argv[1])
apps = {}
for ep in entry_points(group="flowrun.emulators"):
    kind = ep.load()
    app = kind(store)
    apps |= dict.fromkeys(kind.hosts, Faults(app, latency=latency) if latency else app)
server = serve(apps)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Script:
    """What a careful person would write by hand."""

    def __init__(self, base: str, settings: dict[str, dict[str, Any]]) -> None:
        self.base = base
        self.http = requests.Session()
        self.partner = self.token("partner_center", "https://api.partner.microsoft.com/.default", settings)
        self.crm = self.token("dynamics365", "https://contoso.crm.dynamics.com/.default", settings)

    def token(self, connection: str, scope: str, settings: dict[str, dict[str, Any]]) -> str:
        s = settings[connection]
        form = {"client_id": s["client_id"], "client_secret": s["client_secret"], "scope": scope}
        if "refresh_token" in s:
            form |= {"grant_type": "refresh_token", "refresh_token": s["refresh_token"]}
        else:
            form |= {"grant_type": "client_credentials"}
        url = f"{self.base}/{s['tenant']}/oauth2/v2.0/token"
        return str(self.http.post(url, data=form, headers={"Host": LOGIN}).json()["access_token"])

    def sync(self, id: str) -> None:
        partner = {"Host": PARTNER, "Authorization": f"Bearer {self.partner}"}
        crm = {"Host": CRM, "Authorization": f"Bearer {self.crm}", "OData-Version": "4.0", "Accept": "application/json"}
        url = f"{self.base}/v1.0/engagements/referrals/{id}"
        referral = self.ok(self.http.get(url, headers={**partner, "client-request-id": str(uuid.uuid4())}))
        lead_url = f"{self.base}/api/data/v9.2/leads(new_referralid='{id}')"
        found = self.http.get(lead_url, params={"$select": "leadid,companyname"}, headers=crm)
        assert found.status_code == 404, found.status_code
        profile, details = referral["customerProfile"], referral["details"]
        contact, address = profile["team"][0], profile["address"]
        lead = {
            "subject": referral["name"], "companyname": profile["name"], "firstname": contact["firstName"],
            "lastname": contact["lastName"], "emailaddress1": contact["email"], "telephone1": contact["phoneNumber"],
            "address1_line1": address["addressLine1"], "address1_city": address["city"],
            "address1_stateorprovince": address["state"], "address1_postalcode": address["postalCode"],
            "address1_country": address["country"], "description": details["notes"],
            "estimatedamount": details["dealValue"], "estimatedclosedate": details["closingDateTime"][:10],
            "leadsourcecode": 4,
        }  # fmt: skip
        created = self.ok(
            self.http.patch(
                lead_url,
                params={"$select": "leadid,companyname"},
                json={k: v for k, v in lead.items() if v is not None},
                headers={**crm, "If-None-Match": "*", "Prefer": "return=representation"},
            )
        )
        patch = [{"op": "add", "path": "/externalReferenceId", "value": created["leadid"]}]
        headers = {**partner, "If-Match": referral["eTag"], "Prefer": "return=representation"}
        self.ok(self.http.patch(url, json=patch, headers={**headers, "client-request-id": str(uuid.uuid4())}))

    @staticmethod
    def ok(answer: requests.Response) -> Any:
        answer.raise_for_status()
        return answer.json()


def flowrun(folder: Path, base: str, settings: dict[str, dict[str, Any]]) -> Callable[[str], None]:
    """A function that runs the shipped flow for one referral, journalled."""
    from engine.connections.config import OpenConnections, Project
    from engine.connections.secrets import Mask
    from engine.contract import SystemClock
    from engine.decider import Decider
    from engine.effects import Start
    from engine.functions import FUNCTIONS
    from engine.loader import Catalog, load, load_flow
    from engine.local.driver import Driver
    from engine.local.journal import Journal, Run

    config = folder / "connections.yaml"
    route = dict.fromkeys((PARTNER, CRM, LOGIN), base)
    connections = {name: settings[name] for name in ("partner_center", "dynamics365")}
    config.write_text(json.dumps({"environments": {"bench": {"route": route, "connections": connections}}}))
    project = Project(config, folder, {}, Mask())
    environment = project.environment("bench")
    text = FLOW.read_text()
    program = load_flow(text, str(FLOW), Catalog(FUNCTIONS, project.entries(environment)))
    document, clock, journal = load(text, str(FLOW)), SystemClock(), Journal(project.state)
    opened = OpenConnections(project, environment, clock)
    driver = Driver(journal, clock)

    def run(id: str) -> None:
        trigger = {
            "name": "event",
            "event": {"id": id, "subject": id, "type": "referral-created", "time": "", "data": {}},
        }
        row = Run(id=uuid.uuid4().hex, flow=program.flow.flow, digest=document.digest, environment="bench",
                  targets=opened.targets(connections), trigger=trigger, started=clock.now())  # fmt: skip
        journal.create(row, {document.digest: (str(FLOW), text)}, durable=False)
        decider = Decider(program, Start(run=row.id, trigger=trigger, parameters={"lead_source": "Partner"}))
        status = driver.run(row.id, decider, opened)
        assert status == "succeeded", decider.error

    return run


def referrals(base: str, script: Script, count: int) -> list[str]:
    """New referrals, all alike."""
    headers = {"Host": PARTNER, "Authorization": f"Bearer {script.partner}"}
    body = {
        "type": "Independent",
        "name": "Data platform for Contoso",
        "consent": {"consentToToShareInfoWithOthers": True, "consentToContact": True},
        "customerProfile": {
            "name": "Contoso", "size": "51to250employees",
            "address": {"addressLine1": "1 Main St", "city": "Redmond", "state": "WA", "postalCode": "98052",
                        "country": "US"},
            "team": [{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@contoso.com",
                      "phoneNumber": "+1 425 555 0100"}],
        },
        "details": {"notes": "wants a lakehouse", "dealValue": 25000, "currency": "USD",
                    "closingDateTime": "2027-03-31T00:00:00Z", "requirements": {}},
    }  # fmt: skip
    out = []
    for _ in range(count):
        answer = script.http.post(f"{base}/v1.0/engagements/referrals", json=body, headers=headers)
        out.append(str(Script.ok(answer)["id"]))
    return out


def settings_of_the_sandbox() -> dict[str, dict[str, Any]]:
    from engine.connections.sandboxed import sandbox_settings

    return {name: dict(sandbox_settings(name)) for name in ("partner_center", "dynamics365")}


def compare(latency: float, rounds: int) -> None:
    """Alternates script and flow, so that both meet the same machine."""
    settings = settings_of_the_sandbox()
    with subprocess.Popen([sys.executable, "-c", SERVER, str(latency)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            base = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            script = Script(base, settings)
            ids = referrals(base, script, 2 * rounds + 20)
            with tempfile.TemporaryDirectory() as folder:
                run = flowrun(Path(folder), base, settings)
                for id in ids[:10]:
                    script.sync(id)
                for id in ids[10:20]:
                    run(id)
                times: tuple[list[float], list[float]] = ([], [])
                for i in range(20, len(ids), 2):
                    for which, (work, id) in enumerate(((script.sync, ids[i]), (run, ids[i + 1]))):
                        start = time.perf_counter()
                        work(id)
                        times[which].append(time.perf_counter() - start)
        finally:
            server.terminate()
    by_hand, flow = (statistics.median(t) * 1000 for t in times)
    limit = 1.25 if not latency else 1.05
    ratio = f"ratio {flow / by_hand:.3f} (≤ {limit})"
    print(f"{latency * 1000:4.0f} ms a call: script {by_hand:.2f} ms, flowrun {flow:.2f} ms, {ratio}")


def cold(rounds: int) -> None:
    """Whole processes: check, run, and a script that only imports requests and msal."""

    def best(*command: str) -> float:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    with tempfile.TemporaryDirectory() as folder:
        flow = Path(folder) / "referral_to_dynamics.yaml"
        flow.write_text(FLOW.read_text())
        (Path(folder) / "samples").symlink_to(FLOW.parent / "samples")
        command = str(Path(sys.executable).parent / "flowrun")
        imports = best(sys.executable, "-c", "import requests, msal")
        print(f"imports of requests and msal {imports:.3f} s")
        print(f"check {best(command, 'check', str(flow)):.3f} s (≤ 0.4)")
        run = best(command, str(flow))
        print(f"cold run {run:.3f} s, over the imports {run - imports:.3f} s (≤ 0.35)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    os.environ.pop("FLOWRUN_ENV", None)
    compare(0.0, rounds)
    compare(0.02, max(20, rounds // 6))
    cold(max(5, rounds // 30))


if __name__ == "__main__":
    main()
