"""The database of runs: one SQLite file, commits that threads share, and the lock that says a process is alive.

Durable when a commit returns (WAL, synchronous=FULL). A run is alive exactly as long as its process holds its lock: no
lease, no clock, no guess.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from engine.errors import ConfigError

MIGRATIONS = (
    """
    CREATE TABLE documents (digest TEXT PRIMARY KEY, file TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, flow TEXT NOT NULL, digest TEXT NOT NULL,
        flows TEXT NOT NULL, environment TEXT NOT NULL, connect TEXT NOT NULL, targets TEXT NOT NULL,
        trigger TEXT NOT NULL, parameters TEXT NOT NULL,
        key TEXT, lane TEXT, collapse INTEGER NOT NULL, business_key TEXT, forked_from TEXT,
        status TEXT NOT NULL, process TEXT NOT NULL,
        started TEXT NOT NULL, ended TEXT, wake TEXT, error TEXT, outputs TEXT);
    CREATE INDEX runs_by_status ON runs (status, number);
    CREATE INDEX runs_by_wake ON runs (wake) WHERE wake IS NOT NULL;
    CREATE INDEX runs_by_key ON runs (flow, environment, key) WHERE key IS NOT NULL;
    CREATE INDEX runs_by_lane ON runs (lane, number) WHERE lane IS NOT NULL;
    CREATE INDEX runs_by_business_key ON runs (business_key, number) WHERE business_key IS NOT NULL;
    CREATE TABLE records (
        number INTEGER PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL, attempt INTEGER NOT NULL,
        status TEXT NOT NULL, kind TEXT NOT NULL, inputs TEXT, output TEXT, outputs TEXT, error TEXT,
        effect TEXT NOT NULL, changed INTEGER NOT NULL, summary TEXT NOT NULL, started TEXT, ended TEXT);
    CREATE INDEX records_by_run ON records (run);
    CREATE TABLE tokens (connection TEXT PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE hooks (environment TEXT, flow TEXT, trigger TEXT, token TEXT NOT NULL,
        PRIMARY KEY (environment, flow, trigger));
    CREATE TABLE positions (environment TEXT, flow TEXT, trigger TEXT, at TEXT NOT NULL, cursor TEXT,
        PRIMARY KEY (environment, flow, trigger));
    CREATE TABLE polled (environment TEXT, flow TEXT, trigger TEXT, item TEXT, digest TEXT NOT NULL,
        PRIMARY KEY (environment, flow, trigger, item)) WITHOUT ROWID;
    CREATE TABLE callers (name TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, made TEXT NOT NULL);
    """,
)
T = TypeVar("T")


class _Job:
    """What a thread wants to have committed."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Database:
    """The database in a folder, or in memory without one. Safe for several threads."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.process = uuid.uuid4().hex
        self._lock = threading.RLock()
        self._claim: IO[str] | None = None
        self._jobs: deque[_Job] = deque()
        if folder is not None:
            prepare(folder)
        path = str(folder / "journal.db") if folder else ":memory:"
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._migrate()

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise ConfigError(f"the journal in {self.folder} was written by a newer flowrun", code="JournalVersion",
                              hint="update flowrun")  # fmt: skip
        for number in range(version, len(MIGRATIONS)):
            script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version={number + 1}; COMMIT;"
            try:
                self._db.executescript(script)
            except sqlite3.OperationalError:
                self._db.execute("ROLLBACK")
                if self._db.execute("PRAGMA user_version").fetchone()[0] <= number:  # else another process did it
                    raise

    def commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` with the connection, durably when this returns, or not at all.

        What several threads ask for at the same time is one commit: who comes first does it for all that wait.
        """
        mine = _Job(work)
        self._jobs.append(mine)
        with self._lock:
            if not mine.done:
                jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
                try:
                    self._together(jobs)
                except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                    for job in jobs:
                        job.error = job.error or error
                for job in jobs:
                    job.done = True
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[no-any-return]

    def _together(self, jobs: list[_Job]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if len(jobs) == 1:
                jobs[0].result = jobs[0].work(self._db)
            for job in jobs if len(jobs) > 1 else ():
                self._db.execute("SAVEPOINT job")
                try:
                    job.result = job.work(self._db)
                except Exception as error:  # noqa: BLE001 - its own caller gets it
                    self._db.execute("ROLLBACK TO job")
                    job.error = error
                self._db.execute("RELEASE job")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """The rows of a query."""
        return self._db.execute(sql, values).fetchall()

    def close(self) -> None:
        """Gives up its runs' lock and closes the database."""
        self._db.close()
        if self._claim is not None:
            name = self._claim.name
            self._claim.close()
            Path(name).unlink(missing_ok=True)

    def hold(self) -> None:
        """Takes this process's lock, once."""
        with self._lock:
            if self.folder is not None and self._claim is None:
                file = (self.folder / "locks" / self.process).open("w", encoding="utf-8")
                lock(file)
                self._claim = file

    def alive(self, process: str) -> bool:
        """Whether a process that has held its lock is still there."""
        if self.folder is None:
            return False
        try:
            with (self.folder / "locks" / process).open("r+", encoding="utf-8") as file:
                lock(file)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        (self.folder / "locks" / process).unlink(missing_ok=True)
        return False


def lock(file: IO[Any], *, wait: bool = False) -> None:
    """Takes the operating system's exclusive lock on an open file, held until it is closed or the process ends.

    Raises OSError when another process holds it, unless `wait`.
    """
    if os.name == "nt":  # pragma: no cover - the same promise on Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def prepare(folder: Path) -> None:
    """Makes the folder for state: readable by its owner only, and ignored by git."""
    if not (folder / "locks").is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "locks").mkdir(mode=0o700, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        for name in ("journal.db", "sandbox.db"):
            (folder / name).touch(mode=0o600)
