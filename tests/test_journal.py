"""The journal: what is stored, what is kept out, whose run it is, and how it grows."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from scripted import NOON

from engine.connections.secrets import Mask
from engine.connections.tokens import JournalTokens
from engine.effects import SECURED, Record
from engine.errors import ConfigError
from engine.local.database import MIGRATIONS
from engine.local.journal import Journal, Run


@pytest.fixture
def opened() -> Iterator[Callable[..., Journal]]:
    """Opens journals, and closes them whatever comes."""
    journals: list[Journal] = []

    def open_(*args: Any, **more: Any) -> Journal:
        journals.append(Journal(*args, **more))
        return journals[-1]

    yield open_
    for journal in journals:
        journal.close()


@pytest.fixture
def journal(opened: Callable[..., Journal]) -> Journal:
    return opened()


def run(id: str, **more: Any) -> Run:
    return Run(**{"id": id, "flow": "f", "digest": "d1", "environment": "sandbox", "started": NOON, **more})


def create(journal: Journal, *ids: str, **more: Any) -> None:
    for id in ids:
        journal.create(run(id, **more), {"d": ("f.yaml", "flow: f\n")})


def record(path: str, status: str = "succeeded", **more: Any) -> Record:
    return Record(path=path, attempt=1, status=status, kind="call", started=NOON, ended=NOON, **more)


def raw(journal: Journal) -> str:
    """Everything in the database, as text."""
    return "\n".join(journal._db.iterdump())


# Runs and records


def test_a_run_comes_back_as_it_was(journal: Journal) -> None:
    given = run(
        "r1", connect={"crm": "sqlite"}, targets={"crm": "https://x"}, trigger={"event": {"subject": "ü"}},
        parameters={"n": 1, "none": None}, key="k", lane="l",
    )  # fmt: skip
    journal.create(given, {given.digest: ("flows/f.yaml", "flow: f\n")})
    found = journal.run("r1")
    assert replace(found, number=0, process="") == given
    assert journal.document("d1") == ("flows/f.yaml", "flow: f\n")


def test_records_come_back_in_their_order(journal: Journal) -> None:
    create(journal, "r1", "r2")
    given = [
        record("b", inputs={"x": [1, None, "ü"]}, output={"y": 1.5}, outputs={"status_code": 200}, effect="write",
               changed=True, summary="created"),
        record("a", "failed", error={"kind": "data", "message": "no"}),
        record("each", "decided", output={"count": 2}),
    ]  # fmt: skip
    journal.write("r1", given[:1])
    journal.write("r2", [record("other")])
    journal.write("r1", given[1:])
    assert journal.records("r1") == given
    assert [r.path for r in journal.records("r2")] == ["other"]
    assert journal.records("nothing") == []


def test_the_end_is_written_with_the_last_records(journal: Journal) -> None:
    create(journal, "r1")
    ended = NOON + timedelta(minutes=1)
    error = {"kind": "data", "code": "X", "message": "no"}
    journal.write(
        "r1", [record("a")],
        {"status": "failed", "ended": ended.isoformat(), "error": error, "outputs": None, "business_key": "bk"},
    )  # fmt: skip
    found = journal.run("r1")
    assert (found.status, found.ended, found.error, found.outputs, found.business_key) == (
        "failed", ended, error, None, "bk",
    )  # fmt: skip


def test_outputs_of_any_type_come_back(journal: Journal) -> None:
    for i, outputs in enumerate([{"a": 1}, {"a": "text"}, {}]):
        create(journal, f"r{i}")
        journal.write(f"r{i}", [], {"status": "succeeded", "outputs": outputs})
        assert journal.run(f"r{i}").outputs == outputs


def test_all_or_nothing(journal: Journal) -> None:
    create(journal, "r1")
    with pytest.raises(TypeError):
        journal.write("r1", [record("a"), record("b", output=object())], {"status": "succeeded"})
    assert journal.records("r1") == []
    assert journal.run("r1").status == "running"
    journal.write("r1", [record("a")])


def test_several_threads_may_write(journal: Journal) -> None:
    from concurrent.futures import ThreadPoolExecutor

    create(journal, "r1", "r2")
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(journal.write, f"r{i % 2 + 1}", [record(f"s{i}")]) for i in range(40)]:
            future.result()
    assert len(journal.records("r1")) == len(journal.records("r2")) == 20


# Finding


def test_a_run_is_found_by_a_unique_beginning(journal: Journal) -> None:
    create(journal, "abc1", "abd2", "x_y", "xzy")
    assert journal.run("abc").id == "abc1"
    assert journal.run("abc1").id == "abc1"
    assert journal.run("x_").id == "x_y"
    assert journal.run("last").id == "xzy"
    for id, words in {"ab": "several runs", "q": "no run", "%": "no run", "": "several runs", "_": "no run"}.items():
        with pytest.raises(ConfigError, match=words) as caught:
            journal.run(id)
        assert caught.value.hint


def test_an_id_that_begins_another_is_found(journal: Journal) -> None:
    create(journal, "ab", "abc")
    assert journal.run("ab").id == "ab"


def test_an_empty_journal(journal: Journal) -> None:
    with pytest.raises(ConfigError, match="no run 'last'"):
        journal.run("last")
    assert journal.runs() == []


def test_what_is_not_there_is_an_error_for_people(journal: Journal) -> None:
    with pytest.raises(ConfigError):
        journal.take_over("nothing")
    with pytest.raises(ConfigError):
        journal.document("nothing")


def test_the_first_run_with_a_key(journal: Journal) -> None:
    create(journal, "r1", key="k", environment="production")
    create(journal, "r2", key="k")
    create(journal, "r3", key="k")
    assert journal.with_key("f", "sandbox", "k").id == "r2"  # type: ignore[union-attr]
    assert journal.with_key("f", "sandbox", "other") is None
    assert journal.with_key("g", "sandbox", "k") is None


def test_pages_by_key(journal: Journal) -> None:
    create(journal, *(f"r{i}" for i in range(7)))
    create(journal, "other", flow="g")
    seen: list[str] = []
    before = None
    while page := journal.runs(before=before, limit=3):
        assert len(page) <= 3
        seen += [r.id for r in page]
        before = page[-1].number
        create(journal, f"new{len(seen)}")  # what comes in between shifts nothing
    assert seen == ["other", *(f"r{i}" for i in reversed(range(7)))]
    assert [r.id for r in journal.runs(flow="g")] == ["other"]


def test_runs_by_status(journal: Journal) -> None:
    create(journal, "r1", "r2", "r3")
    journal.write("r2", [], {"status": "failed"})
    assert [r.id for r in journal.runs(status="failed")] == ["r2"]
    assert [r.id for r in journal.runs(status="running")] == ["r3", "r1"]
    assert journal.runs(status="interrupted") == []


# Secrets


SECURE = record(
    "a",
    inputs={"token": "s3cret-in"},
    output="s3cret-out",
    outputs={"x": "s3cret-http"},
    secure=frozenset({"inputs", "outputs"}),
)


def test_secure_parts_are_markers(journal: Journal) -> None:
    create(journal, "r1")
    journal.write("r1", [SECURE, replace(SECURE, path="b", secure=frozenset({"inputs"}))])
    first, second = journal.records("r1")
    assert (first.inputs, first.output, first.outputs) == (SECURED, SECURED, SECURED)
    assert (second.inputs, second.output, second.outputs) == (SECURED, "s3cret-out", {"x": "s3cret-http"})
    assert "s3cret-in" not in raw(journal)


def test_what_is_null_needs_no_marker(journal: Journal) -> None:
    create(journal, "r1")
    journal.write("r1", [record("a", secure=frozenset({"inputs", "outputs"}))])
    assert journal.records("r1")[0].output is None


def test_decisions_of_a_secure_container_are_kept(journal: Journal) -> None:
    """They hold a branch, a count or a time, and resume needs them."""
    create(journal, "r1")
    journal.write("r1", [record("a", "decided", output={"branch": "then"}, secure=frozenset({"inputs", "outputs"}))])
    assert journal.records("r1")[0].output == {"branch": "then"}


def test_secure_parts_are_encrypted_where_there_is_a_key(opened: Callable[..., Journal], tmp_path: Path) -> None:
    key = Fernet(Fernet.generate_key())
    journal = opened(tmp_path / "state", cipher=key)
    create(journal, "r1")
    journal.write("r1", [SECURE])
    found = journal.records("r1")[0]
    assert (found.inputs, found.output, found.outputs) == ({"token": "s3cret-in"}, "s3cret-out", {"x": "s3cret-http"})
    assert "s3cret" not in raw(journal)
    journal.close()
    without = opened(tmp_path / "state")
    assert without.records("r1")[0].output == SECURED


def test_another_key_is_an_error_for_people(opened: Callable[..., Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path / "state", cipher=Fernet(Fernet.generate_key()))
    create(journal, "r1")
    journal.write("r1", [SECURE])
    journal.close()
    other = opened(tmp_path / "state", cipher=Fernet(Fernet.generate_key()))
    with pytest.raises(ConfigError, match="key"):
        other.records("r1")


def test_errors_are_masked_and_values_are_not(opened: Callable[..., Journal]) -> None:
    mask = Mask()
    mask.add("hunter2-hunter2")
    journal = opened(mask=mask)
    create(journal, "r1")
    error = {"kind": "remote", "code": "X", "message": "token hunter2-hunter2 refused"}
    journal.write(
        "r1", [record("a", "failed", error=error, output="hunter2-hunter2")], {"status": "failed", "error": error}
    )
    assert "hunter2" not in str(journal.records("r1")[0].error)
    assert "hunter2" not in str(journal.run("r1").error)
    assert journal.records("r1")[0].output == "hunter2-hunter2", "data is never rewritten by value"


@pytest.mark.parametrize("secret", ['with "quotes" in it', "back\\slash\\ed", "zwei\nzeilen\nlang", "geheimnis-äöü"])
def test_a_secret_is_masked_in_an_error_however_json_writes_it(opened: Callable[..., Journal], secret: str) -> None:
    mask = Mask()
    mask.add(secret)
    journal = opened(mask=mask)
    create(journal, "r1")
    journal.write("r1", [record("a", "failed", error={"message": f"bad: {secret}!"})])
    message = journal.records("r1")[0].error["message"]  # type: ignore[index]
    assert secret not in message
    assert message.startswith("bad: ") and message.endswith("!")
    journal.close()


# Files, migrations


def test_the_folder_is_its_owners_alone(opened: Callable[..., Journal], tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    opened(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


def test_what_was_written_is_there_for_the_next(opened: Callable[..., Journal], tmp_path: Path) -> None:
    first = opened(tmp_path / "state")
    create(first, "r1")
    first.write("r1", [record("a")], {"status": "succeeded"})
    second = opened(tmp_path / "state")  # without the first one being closed
    assert second.run("r1").status == "succeeded"
    assert [r.path for r in second.records("r1")] == ["a"]
    assert second._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert second._db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_migrations_are_numbered_and_run_once(
    opened: Callable[..., Journal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.local.database.MIGRATIONS", MIGRATIONS[:1])
    journal = opened(tmp_path / "state")
    create(journal, "r1")
    journal.close()
    more = (*MIGRATIONS[:1], "ALTER TABLE runs ADD COLUMN colour TEXT;", "CREATE TABLE colours (name TEXT);")
    monkeypatch.setattr("engine.local.database.MIGRATIONS", more)
    for _ in range(2):
        journal = opened(tmp_path / "state")
        assert journal._db.execute("PRAGMA user_version").fetchone()[0] == 3
        journal._db.execute("SELECT colour FROM runs")
        journal.close()


def test_a_migration_that_fails_leaves_everything_as_it_was(
    opened: Callable[..., Journal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path / "state").close()
    bad = (*MIGRATIONS, "CREATE TABLE half (x TEXT); CREATE TABLE runs (x TEXT);")
    monkeypatch.setattr("engine.local.database.MIGRATIONS", bad)
    with pytest.raises(sqlite3.OperationalError):
        opened(tmp_path / "state")
    monkeypatch.undo()
    journal = opened(tmp_path / "state")
    assert not journal._db.execute("SELECT name FROM sqlite_master WHERE name='half'").fetchall()


def test_a_newer_journal_is_refused(opened: Callable[..., Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path / "state")
    journal._db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    journal.close()
    with pytest.raises(ConfigError, match="newer") as caught:
        opened(tmp_path / "state")
    assert caught.value.hint == "update flowrun"


def test_many_may_open_a_new_journal_at_once(opened: Callable[..., Journal], tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from engine.local.journal import Journal; Journal(Path(sys.argv[1]))"
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state")]) for _ in range(4)]
    assert [child.wait(30) for child in children] == [0, 0, 0, 0]


# Whose run it is


CHILD = """
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from engine.local.journal import Journal, Run
journal = Journal(Path(sys.argv[1]))
for id in sys.argv[2:]:
    run = Run(id=id, flow="f", digest="d1", environment="sandbox", started=datetime.now(UTC))
    journal.create(run, {"d": ("f.yaml", "flow: f")})
print("ready", flush=True)
sys.stdin.read()
journal.close()
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with two runs under way."""
    command = [sys.executable, "-c", CHILD, str(tmp_path / "state"), "theirs", "others"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_run_is_running_as_long_as_its_process_lives(
    opened: Callable[..., Journal], tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    journal = opened(tmp_path / "state")
    for _ in range(2):  # looking changes nothing
        assert journal.run("theirs").status == "running"
        assert [r.status for r in journal.runs(status="running")] == ["running", "running"]
    assert journal.runs(status="interrupted") == []
    with pytest.raises(ConfigError, match="running in another process"):
        journal.take_over("theirs")
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    for _ in range(2):
        assert journal.run("theirs").status == "interrupted"
        assert [r.id for r in journal.runs(status="interrupted")] == ["others", "theirs"]
    assert journal.runs(status="running") == []
    journal.take_over("theirs")
    assert journal.run("theirs").status == "running"
    assert journal.run("others").status == "interrupted"
    third = opened(tmp_path / "state")
    with pytest.raises(ConfigError, match="running in another process"):
        third.take_over("theirs")


def test_a_process_that_ends_in_order_leaves_no_lock(
    opened: Callable[..., Journal], tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    assert len(list((tmp_path / "state" / "locks").iterdir())) == 1
    child.communicate("")
    assert child.returncode == 0
    assert list((tmp_path / "state" / "locks").iterdir()) == []
    journal = opened(tmp_path / "state")
    assert journal.run("theirs").status == "interrupted"


def test_pages_of_interrupted_runs_are_whole(
    opened: Callable[..., Journal], tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    """Newer runs that are alive take no place on a page of the dead."""
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    journal = opened(tmp_path / "state")
    create(journal, "alive1", "alive2")
    assert [r.id for r in journal.runs(status="interrupted", limit=1)] == ["others"]
    assert [r.id for r in journal.runs(status="running", limit=2)] == ["alive2", "alive1"]
    (first,) = journal.runs(status="interrupted", limit=1)
    assert [r.id for r in journal.runs(status="interrupted", limit=1, before=first.number)] == ["theirs"]


def test_one_takes_a_dead_run_over_not_two(
    opened: Callable[..., Journal], tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    first, second = opened(tmp_path / "state"), opened(tmp_path / "state")
    first.take_over("theirs")
    with pytest.raises(ConfigError):
        second.take_over("theirs")
    first.close()
    second.take_over("theirs")


def test_a_run_taken_over_begins_without_an_end(journal: Journal) -> None:
    create(journal, "r1")
    journal.write("r1", [], {"status": "failed", "ended": NOON.isoformat(), "error": {"kind": "data"}})
    journal.take_over("r1")
    found = journal.run("r1")
    assert (found.status, found.ended, found.error) == ("running", None, None)


# Tokens


def test_tokens(journal: Journal) -> None:
    journal.cipher = Fernet(Fernet.generate_key())
    tokens = JournalTokens(journal, "sandbox.crm")
    assert tokens.load() is None
    tokens.save("one")
    tokens.save("two")
    assert tokens.load() == "two"
    assert JournalTokens(journal, "sandbox.other").load() is None


def test_threads_that_write_at_once_share_commits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    commits: list[int] = []
    together = journal._together
    journal._together = lambda jobs: (commits.append(len(jobs)), together(jobs))[1]  # type: ignore[method-assign]
    failures: list[Exception] = []

    def work(thread: int) -> None:
        for n in range(50):
            try:
                journal.create(run(f"{thread}-{n}", key=f"k{thread}-{n}"), {"d": ("f.yaml", "flow: f\n")})
                journal.create(run(f"{thread}-{n}"), {})  # there is one of this id: refused, and nobody else with it
            except sqlite3.IntegrityError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 400
    assert len(journal.runs(limit=1000)) == 400
    assert sum(commits) == 800
    assert len(commits) < 700
    journal.close()


def test_a_run_by_its_number_or_the_beginning_of_its_id(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    for id in ("1a", "2b", "22c"):
        journal.create(run(id), {"d": ("f.yaml", "flow: f\n")})
    assert [journal.run(text).id for text in ("1", "2", "3", "22", "2b", "last")] == [
        "1a",
        "2b",
        "22c",
        "22c",
        "2b",
        "22c",
    ]
    journal.close()


def test_outputs_that_are_secret_are_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.create(run("a"), {"d": ("f.yaml", "flow: f\n")})
    journal.write("a", [], {"status": "succeeded", "outputs": SECURED})
    assert journal.run("a").outputs == SECURED
    journal.close()


def test_what_is_forgotten_leaves_its_shape_and_the_digest_of_its_key(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    secret = "Ada Lovelace of Contoso"
    first = replace(run("a", key="k1"), lane="r-1", trigger={"event": secret})
    assert journal.enqueue(first, {"d": ("f.yaml", "flow: f\n")}) == ("a", True)
    journal.take_over("a", [replace(record("one"), output=secret, summary=secret)])
    journal.write("a", [], {"status": "succeeded", "outputs": {"x": secret}, "business_key": "r-1"})
    assert journal.forget("r-2") == 0
    assert journal.forget("r-1") == 1
    found = journal.run("a")
    assert (found.status, found.trigger, found.outputs) == ("succeeded", {}, None)
    assert (found.lane, found.business_key) == (None, None)
    for file in (tmp_path / "state").glob("journal.db*"):
        assert secret.encode() not in file.read_bytes()
    assert [(r.path, r.status, r.output, r.summary) for r in journal.records("a")] == [("one", "succeeded", None, "")]
    assert journal.enqueue(replace(first, id="b"), {}) == ("a", False), "the key is still known"
    assert not [r for r in journal.records("a") if r.status == "conflict"]
    journal.close()


def test_an_event_that_comes_again_as_another_is_noted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    first = run("a", key="k1")
    assert journal.enqueue(first, {"d": ("f.yaml", "flow: f\n")}) == ("a", True)
    assert journal.enqueue(replace(first, id="b"), {}) == ("a", False)
    assert journal.enqueue(replace(first, id="c", trigger={"event": 2}), {}) == ("a", False)
    assert [(r.status, r.output) for r in journal.records("a")] == [("conflict", {"event": 2})]
    journal.close()


def test_old_runs_are_removed_for_good(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    for id in ("a", "b", "c"):
        journal.create(run(id), {"d": ("f.yaml", "flow: f\n")})
        journal.write(id, [record("one")])
    journal.write("a", [], {"status": "succeeded", "ended": (NOON - timedelta(days=100)).isoformat()})
    journal.write("b", [], {"status": "succeeded", "ended": NOON.isoformat()})
    assert journal.prune(NOON - timedelta(days=90)) == 1
    assert {found.id for found in journal.runs()} == {"b", "c"}
    assert journal.records("a") == []
    journal.close()
