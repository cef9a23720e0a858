"""SIGKILL at any moment, then `runs resume`: one lead, one write-back, no success recorded twice.

Real processes run the shipped flow against services that outlive them (remote.py, over loopback). A run that only
counts names the points first: before and after each commit, each send, each receive (killed_child.py). Then a process
dies at each of them, and others go on until the run has ended.

FLOWRUN_KILLS multiplies how many of the random kills are made, FLOWRUN_SEED repeats them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from remote import CRM, MAIN, REFERRALS, VARIABLES, Remote, remote
from terminal import FLOWS

KILLED = -signal.SIGKILL
MORE = int(os.environ.get("FLOWRUN_KILLS", "1"))
SEED = int(os.environ.get("FLOWRUN_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
FRESH = "10000000-0000-4000-8000-000000000001"  # New, several contacts
SYNCED = "10000000-0000-4000-8000-000000000011"  # an earlier flow's lead is to be adopted
FAULTS = {"lost": 0.05, "reset": 0.05, "429": 0.05, "500": 0.05}
VOLATILE = {"versionnumber", "createdon", "modifiedon", "leadid", "eTag", "updatedDateTime", "externalReferenceId"}

MAKER = """\
flow: make_referral
connections: {partner_center: partner_center}
steps:
  get_token: {call: partner_center.get_token}
  make:
    call: partner_center.create_referral
    with:
      type: Independent
      customer_profile: {name: Made once}
      consent: {consentToToShareInfoWithOthers: true, consentToContact: true}
      details: {dealValue: 100, currency: USD}
  look:
    call: partner_center.get_referral
    with: {id: "{{ steps.make.body.id }}"}
outputs: {id: "{{ steps.make.body.id }}", name: "{{ steps.look.body.customerProfile.name }}"}
"""


@dataclass
class Terminal:
    """A project folder, and processes that run in it one after another."""

    folder: Path
    remote: Remote
    zygote: subprocess.Popen[str]
    hit: Counter[str] = field(default_factory=Counter)
    key: str = ""

    def renew(self, rates: Mapping[str, float] | None = None, seed: int | None = None) -> None:
        """Everything as on the first day, here and at the far end."""
        self.remote.settle()
        self.remote.renew(rates, seed)
        for name in (".flowrun", "leads.db"):
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def run(self, *args: str, kill: int | None = None) -> tuple[int, str, list[str]]:
        """Exit code, what was said, the points passed. With `kill` it dies at that one, if it gets there."""
        env = {**VARIABLES, "PATH": os.environ["PATH"], **({"FLOWRUN_KEY": self.key} if self.key else {})}
        files = {name: str(self.folder / name) for name in ("trace", "output")}
        order = {"args": args, "cwd": str(self.folder), "env": env, "kill": kill, **files}
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(json.dumps(order) + "\n")
        self.zygote.stdin.flush()
        code = json.loads(self.zygote.stdout.readline())["code"]
        trace = Path(files["trace"]).read_text("utf-8").splitlines()
        if code == KILLED:
            self.hit[trace[-1]] += 1
        return code, Path(files["output"]).read_text("utf-8"), trace

    def journal(self, sql: str) -> list[tuple[Any, ...]]:
        path = self.folder / ".flowrun" / "journal.db"
        if not path.exists():
            return []
        db = sqlite3.connect(path)
        try:
            return db.execute(sql).fetchall()
        except sqlite3.OperationalError as error:  # it died before its tables were made
            assert "no such table" in str(error)
            return []
        finally:
            db.close()

    @property
    def status(self) -> str | None:
        """What the journal says of the newest run; None if none was recorded."""
        found = self.journal("SELECT status FROM runs ORDER BY number DESC LIMIT 1")
        return found[0][0] if found else None

    def go_on(self, start: tuple[str, ...], *, kill: int | None = None) -> tuple[int, str]:
        """What a person does after a crash: resume, or start again where nothing was recorded."""
        again = ("runs", "resume", "last") if self.status else start
        code, said, _ = self.run(*again, kill=kill)
        return code, said

    def finish(self, start: tuple[str, ...], rounds: int = 1) -> None:
        """Goes on until the run has succeeded."""
        said = ""
        for _ in range(rounds):
            if self.status == "succeeded":
                return
            code, said = self.go_on(start)
            assert code in (0, 1), said
        assert self.status == "succeeded", said

    def twice(self) -> list[tuple[Any, ...]]:
        """Successes that stand in the journal more than once."""
        return self.journal(
            "SELECT run, path, count(*) FROM records WHERE status='succeeded' GROUP BY run, path HAVING count(*) > 1"
        )


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("kill")
    project = folder / "project"
    shutil.copytree(FLOWS, project, ignore=shutil.ignore_patterns(".flowrun", "*.db"))
    (project / "make_referral.yaml").write_text(MAKER, "utf-8")
    for name in (FRESH, SYNCED):
        event = json.loads((project / "samples" / "referral_created.json").read_text("utf-8"))
        event["ResourceUri"] = event["ResourceUri"].replace(MAIN, name)
        (project / f"{name}.json").write_text(json.dumps(event), "utf-8")
    shutil.copy(project / "samples" / "referral_created.json", project / f"{MAIN}.json")
    child = Path(__file__).with_name("killed_child.py")
    with remote(folder / "remote") as far:
        (project / "connections.yaml").write_text(far.connections(), "utf-8")
        with subprocess.Popen(
            [sys.executable, str(child)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ) as zygote:
            found = Terminal(project, far, zygote)
            yield found
            assert zygote.stdin is not None
            zygote.stdin.close()
    print(f"\nSIGKILLs by point, {sum(found.hit.values())} in all, seed {SEED} (FLOWRUN_SEED={SEED} repeats them)")
    for name, count in sorted(found.hit.items()):
        print(f"{count:>5}  {name}")


def some(points: int) -> range:
    """Every second point, beginning where the seed says; all of them where more is asked for."""
    return range(points) if MORE > 1 else range(SEED % 2, points, 2)


def sync(referral: str, *more: str) -> tuple[str, ...]:
    return ("referral_to_dynamics.yaml", "--env", "lab", "--input", f"{referral}.json", *more)


def still(row: Mapping[str, Any]) -> dict[str, Any]:
    """What must come out the same each time."""
    return {k: v for k, v in row.items() if k not in VOLATILE}


def end(terminal: Terminal, referral: str, *, sqlite: bool = False) -> dict[str, Any]:
    """Asserts that the sync has ended as it should: and gives what must be the same whatever happened on the way."""
    far = terminal.remote
    far.settle()
    assert terminal.twice() == []
    ((outputs,),) = terminal.journal("SELECT outputs FROM runs ORDER BY number DESC LIMIT 1")
    said = json.loads(outputs)
    if sqlite:
        db = sqlite3.connect(terminal.folder / "leads.db")
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM leads")]
        db.close()
        (lead,) = rows
        id, writes = lead.pop("id"), []
        assert lead["key"] == referral
    else:
        (lead,) = far.leads(referral)
        id = lead["leadid"]
        adopted = referral == SYNCED
        assert len(far.leads()) == (3 if adopted else 4)
        writes = [e for e in far.writes if e.host == CRM]
        assert [e.status for e in writes] == ([200] if adopted else [201])  # the lead was written to once
        assert said["url"].count(id) == 1
    now = far.referral(referral)
    assert str(now["externalReferenceId"]).lower() == said["lead"].lower() == id.lower()
    back = [e for e in far.writes if e.host == REFERRALS]
    return {"lead": still(lead), "referral": still(now), "writes back": len(back), "said": said.keys()}


def counted(terminal: Terminal, start: tuple[str, ...]) -> list[str]:
    """The points of an undisturbed run."""
    terminal.renew()
    code, said, points = terminal.run(*start)
    assert code == 0, said
    return points


@pytest.mark.parametrize(
    ("referral", "more", "key"),
    [
        (MAIN, (), False),
        (MAIN, (), True),
        (SYNCED, (), False),
        (FRESH, ("--connect", "crm=sqlite"), False),
    ],
    ids=["created", "tokens-kept", "adopted", "sqlite"],
)
def test_killed_at_each_point_and_resumed(terminal: Terminal, referral: str, more: tuple[str, ...], key: bool) -> None:
    terminal.key = Fernet.generate_key().decode() if key else ""
    start = sync(referral, *more)
    points = counted(terminal, start)
    sqlite = bool(more)
    wanted = end(terminal, referral, sqlite=sqlite)
    assert wanted["writes back"] <= 1
    kinds = Counter(re.split(r"[ :]", p)[0] for p in points)
    assert kinds["commit"] >= 8, points  # the tables, before either write, the end: before and after each
    assert kinds["send"] >= 2 * kinds["receive"] >= 8, points
    plain = (referral, more, key) == (MAIN, (), False)
    chosen = set(range(len(points)) if plain else some(len(points)))
    for number in sorted(chosen | {n for n, name in enumerate(points) if "save" in name or "leads.db" in name}):
        terminal.renew()
        code, said, passed = terminal.run(*start, kill=number)
        assert code == KILLED, said
        assert passed == points[: number + 1]
        terminal.remote.settle()
        where = f"killed at {number}: {points[number]}"
        if terminal.status != "succeeded":  # it may have died after its last commit
            code, said = terminal.go_on(start)
            assert code == 0, f"{where}\n{said}"
        assert terminal.status == "succeeded", where
        assert end(terminal, referral, sqlite=sqlite) == wanted, where


@pytest.mark.parametrize("faulty", [False, True], ids=["sound", "faults"])
def test_killed_again_and_again(terminal: Terminal, faulty: bool) -> None:
    """Kills at random points of the run and of each resume, without waiting for what had been sent."""
    dice = random.Random(SEED + faulty)
    print(f"seed {SEED}")
    terminal.key = ""
    for _ in range(9 * MORE):
        referral = dice.choice([MAIN, FRESH, SYNCED])
        start = sync(referral)
        fault_seed = dice.randrange(2**31)
        terminal.renew(FAULTS if faulty else None, fault_seed)
        history = [f"seed {SEED}, referral {referral}, faults' seed {fault_seed}"]
        for _ in range(dice.randint(2, 4)):
            if terminal.status == "succeeded":
                break
            number = dice.randrange(45)
            code, said = terminal.go_on(start, kill=number)
            history.append(f"point {number}: exit code {code}")
            assert code in (KILLED, 0, 1), (history, said)
        terminal.finish(start, rounds=20 if faulty else 1)
        found = end(terminal, referral)
        assert found["writes back"] == (0 if referral == SYNCED else 1), history


def test_killed_while_a_failed_run_is_resumed(terminal: Terminal) -> None:
    """What the failure had kept from running is still to be done when the resume dies half way."""
    terminal.key = ""
    start = sync(MAIN)

    def failed() -> None:
        terminal.renew()
        terminal.remote.crm.deny("prvCreateLead")
        assert terminal.run(*start)[0] == 1
        assert terminal.status == "failed"
        terminal.remote.store.delete("denied", "prvCreateLead")

    failed()
    code, said, points = terminal.run("runs", "resume", "last")
    assert code == 0, said
    wanted = end(terminal, MAIN)
    assert wanted["writes back"] == 1
    wrong = []
    for number in some(len(points)):
        name = points[number]
        failed()
        assert terminal.run("runs", "resume", "last", kill=number)[0] == KILLED
        terminal.remote.settle()
        resumes = 0
        while terminal.status != "succeeded" and resumes < 3:
            terminal.go_on(start)
            resumes += 1
        terminal.remote.settle()
        back = [e for e in terminal.remote.writes if e.host == REFERRALS]
        if terminal.status != "succeeded" or resumes > 1 or len(back) != 1:
            wrong.append(
                f"killed at {number}, {name}: {terminal.status} by {resumes} resumes, {len(back)} written back"
            )
        else:
            assert end(terminal, MAIN) == wanted, f"killed at {number}: {name}"
    assert not wrong, "\n".join(wrong)


# A write that can't be repeated


def created(terminal: Terminal) -> list[dict[str, Any]]:
    terminal.remote.settle()
    rows = (r for _, r in terminal.remote.store.all("partner_center.referral"))
    return [r for r in rows if r["customerProfile"]["name"] == "Made once"]


def resolve(what: str, body: str | None = None) -> tuple[str, ...]:
    return ("runs", "resolve", "last", "make", what, *(("--body", body) if body else ()))


def test_a_write_killed_at_each_point_waits_for_a_person_unless_it_was_never_begun(terminal: Terminal) -> None:
    start = ("make_referral.yaml", "--env", "lab")
    terminal.key = ""
    points = counted(terminal, start)
    assert len(created(terminal)) == 1
    waited = Counter[str]()
    for number, name in enumerate(points):
        terminal.renew()
        assert terminal.run(*start, kill=number)[0] == KILLED
        terminal.remote.settle()
        assert len(created(terminal)) <= 1, name
        if terminal.status != "succeeded":
            code, said = terminal.go_on(start)
            assert code in (0, 3), f"{name}\n{said}"
            if code == 3:
                waited[name] += 1
                assert terminal.status == "waiting"
                assert "runs resolve" in said
                made = created(terminal)  # nothing more happened, and nothing more does without a person's word
                assert terminal.run("runs", "resume", "last")[0] == 3
                assert created(terminal) == made
                answer = resolve("done", json.dumps({"id": made[0]["id"]})) if made else resolve("repeat")
                code, said, _ = terminal.run(*answer)
                assert code == 0, f"{name}\n{said}"
        (made_once,) = created(terminal)
        assert terminal.status == "succeeded"
        assert terminal.twice() == []
        ((outputs,),) = terminal.journal("SELECT outputs FROM runs ORDER BY number DESC LIMIT 1")
        assert json.loads(outputs) == {"id": made_once["id"], "name": "Made once"}, name
    uncertain = [p for p in waited if p.startswith(("send POST api.partner", "receive POST api.partner"))]
    assert len(uncertain) == 3, waited  # from the commit before the sending to the commit after the answer


def test_killed_while_a_person_s_answer_is_taken_in(terminal: Terminal) -> None:
    start = ("make_referral.yaml", "--env", "lab")
    terminal.key = ""
    points = counted(terminal, start)
    sent = points.index(f"send POST {REFERRALS}: after, nothing received")
    for what in ("done", "repeat"):
        number, code = SEED % 3, KILLED
        while code == KILLED:
            terminal.renew()
            assert terminal.run(*start, kill=sent)[0] == KILLED
            (first,) = created(terminal)
            answer = resolve(what, json.dumps({"id": first["id"]}) if what == "done" else None)
            code, said, passed = terminal.run(*answer, kill=number)
            allowed = 1 if what == "done" else 2
            where = f"{what}, killed at {number}: {passed[-1]}"
            assert len(created(terminal)) <= allowed, where
            for _ in range(3):
                if terminal.status == "succeeded":
                    break
                again = terminal.go_on(start)
                assert again[0] in (0, 3), f"{where}\n{again[1]}"
                assert len(created(terminal)) <= allowed, where
                if again[0] == 3:  # the person looks again, and finds the newest
                    newest = created(terminal)[-1]["id"]
                    code_done, said, _ = terminal.run(*resolve("done", json.dumps({"id": newest})))
                    assert code_done == 0, f"{where}\n{said}"
            assert terminal.status == "succeeded", where
            assert terminal.twice() == [], where
            number += 1 if MORE > 1 else 3
        assert code == 0, said
        assert number > 5
