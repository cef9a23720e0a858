"""The journal: what every run did, in SQLite. Page, resume and `why` read nothing else.

Durable when a call returns (WAL, synchronous=FULL). Secure parts are replaced by a marker, or encrypted where a key is
set; error texts are masked. A run is alive exactly as long as its process holds its lock: no lease, no clock, no guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

from engine.effects import SECURED, Record
from engine.errors import ConfigError
from engine.types import JSON

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
ENCRYPTED = "(encrypted)"
T = TypeVar("T")
Documents: TypeAlias = Mapping[str, tuple[str, str]]  # digest → file name and text
# What is known of a run when it begins.
COLUMNS = ("id", "flow", "digest", "flows", "environment", "connect", "targets", "trigger", "parameters", "key", "lane",
           "collapse", "forked_from", "status", "process", "started")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's row.

    `digest` names its document, `flows` by name those of the flows that it runs inside; `connect` holds the swapped
    connections, `targets` says by entry what each one reached; `number` orders runs by their start; at `wake` a run
    that waits for a time goes on.
    """

    id: str
    flow: str
    digest: str
    environment: str
    flows: Mapping[str, str] = field(default_factory=dict)
    status: str = "running"
    connect: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    trigger: Mapping[str, JSON] = field(default_factory=dict)
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    key: str | None = None
    lane: str | None = None
    collapse: bool = False
    business_key: str | None = None
    forked_from: str | None = None
    process: str = ""
    started: datetime
    ended: datetime | None = None
    wake: datetime | None = None
    error: Mapping[str, JSON] | None = None
    outputs: JSON = None
    number: int = 0


@dataclass(frozen=True)
class Queued:
    """A run that has yet to begin (`fresh`), or to go on: at `wake`, or as soon as it is its turn in its lane."""

    id: str
    number: int = 0
    lane: str | None = None
    collapse: bool = False
    fresh: bool = True
    wake: datetime | None = None


@dataclass(frozen=True)
class Position:
    """How far a trigger that acts by itself has come: the time that it has told of, a poll's cursor."""

    at: datetime
    cursor: str | None = None


class _Job:
    """What a thread wants to have committed."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Journal:
    """A journal in a folder (`.flowrun/`), or in memory without one. Safe for several threads."""

    def __init__(
        self, folder: Path | None = None, *, cipher: Any = None, mask: Callable[[str], str] = lambda text: text
    ) -> None:
        self.folder = folder
        self.cipher = cipher
        self.mask = mask
        self._lock = threading.RLock()
        self._claim: IO[str] | None = None
        self._jobs: deque[_Job] = deque()
        self._first: dict[str, Callable[[sqlite3.Connection], Any]] = {}  # done together with a run's next commit
        self.process = uuid.uuid4().hex
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

    def close(self) -> None:
        """Gives up its runs' lock and closes the database."""
        self._db.close()
        if self._claim is not None:
            name = self._claim.name
            self._claim.close()
            Path(name).unlink(missing_ok=True)

    # Runs

    def create(self, run: Run, documents: Documents, *, durable: bool = True) -> None:
        """Records a run and its documents; if not `durable` together with what is written for it next."""
        self._hold()
        self._first[run.id] = lambda db: self._insert(db, run, documents)
        if durable:
            self.write(run.id, [])

    def enqueue(self, run: Run, documents: Documents) -> tuple[str, bool]:
        """Records a run that has yet to begin, unless there is one of this id, or with this key.

        Gives that run's id, and whether it is new. The same key with another trigger is noted with that run.
        """
        return self.commit(lambda db: self._enqueue(db, run, documents))

    def _enqueue(self, db: sqlite3.Connection, run: Run, documents: Documents) -> tuple[str, bool]:
        same = ("SELECT id, trigger, key FROM runs WHERE id=? OR (flow=? AND environment=? AND key IN (?, ?)) "
                "ORDER BY number LIMIT 1")  # fmt: skip
        digest = _digest(run.key)
        if found := db.execute(same, (run.id, run.flow, run.environment, run.key, digest)).fetchone():
            if found["key"] != digest and json.loads(found["trigger"]) != run.trigger:
                note = Record(path="", attempt=0, status="conflict", output=run.trigger, ended=run.started)
                self._append(db, found["id"], [self._row(note)])
            return found["id"], False
        self._insert(db, replace(run, status="queued"), documents)
        return run.id, True

    def position(self, environment: str, flow: str, trigger: str) -> Position | None:
        """How far a trigger has come, None if it has never acted."""
        sql = "SELECT at, cursor FROM positions WHERE environment=? AND flow=? AND trigger=?"
        row = self._db.execute(sql, (environment, flow, trigger)).fetchone()
        return Position(datetime.fromisoformat(row["at"]), row["cursor"]) if row else None

    def advance(
        self,
        environment: str,
        flow: str,
        trigger: str,
        position: Position | None,
        runs: Iterable[tuple[Run, Documents]],
        polled: Mapping[str, str] | None = None,
    ) -> list[tuple[str, bool]]:
        """Notes how far a trigger has come, what it has seen, and the runs that this starts: one commit.

        Gives each run's id, and whether it is new.
        """
        names = (environment, flow, trigger)

        def work(db: sqlite3.Connection) -> list[tuple[str, bool]]:
            if position is not None:
                now = (*names, position.at.isoformat(), position.cursor)
                db.execute("REPLACE INTO positions VALUES (?,?,?,?,?)", now)
            seen = [(*names, item, digest) for item, digest in (polled or {}).items()]
            db.executemany("REPLACE INTO polled VALUES (?,?,?,?,?)", seen)
            return [self._enqueue(db, run, documents) for run, documents in runs]

        return self.commit(work)

    def polled(self, environment: str, flow: str, trigger: str, items: list[str]) -> dict[str, str]:
        """The digests of those of these items that a poll has seen."""
        sql = "SELECT digest FROM polled WHERE environment=? AND flow=? AND trigger=? AND item=?"
        found = {item: self._db.execute(sql, (environment, flow, trigger, item)).fetchone() for item in items}
        return {item: row["digest"] for item, row in found.items() if row}

    def _insert(self, db: sqlite3.Connection, run: Run, documents: Documents) -> None:
        self._keep(db, documents)
        row: dict[str, Any] = {name: getattr(run, name) for name in COLUMNS}
        row |= {name: _dump(row[name]) for name in ("flows", "connect", "targets", "trigger", "parameters")}
        row |= {"process": self.process, "started": run.started.isoformat()}
        marks = ",".join("?" * len(row))
        db.execute(f"INSERT INTO runs ({','.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608

    def _keep(self, db: sqlite3.Connection, documents: Documents) -> None:
        rows = [(digest, file, text) for digest, (file, text) in documents.items()]
        db.executemany("INSERT OR IGNORE INTO documents VALUES (?,?,?)", rows)

    def take_up(self, id: str) -> None:
        """Makes a queued run this process's, together with what is written for it next."""
        self._hold()
        mine = "UPDATE runs SET status='running', process=?, wake=NULL WHERE id=?"
        self._first[id] = lambda db: db.execute(mine, (self.process, id))

    def take_over(self, id: str, records: Iterable[Record] = (), anew: tuple[Run, Documents] | None = None) -> None:
        """Makes a run that ended or died this process's, and appends records to it, in one commit.

        `anew` gives it other documents: a row that names them, and the documents.

        Raises ConfigError if there is no such run, or another process has it.
        """
        self._hold()

        def work(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT status, process FROM runs WHERE id=?", (id,)).fetchone()
            if row is None:
                raise ConfigError(f"no run '{id}'", code="NoRun", hint="flowrun runs list")
            if row["status"] == "running" and row["process"] != self.process and self._alive(row["process"]):
                raise ConfigError(f"run {id} is running in another process", code="Running")
            mine = "UPDATE runs SET status='running', process=?, ended=NULL, wake=NULL, error=NULL WHERE id=?"
            db.execute(mine, (self.process, id))
            if anew is not None:
                run, documents = anew
                self._keep(db, documents)
                db.execute("UPDATE runs SET digest=?, flows=? WHERE id=?", (run.digest, _dump(run.flows), id))
            self._append(db, id, rows)

        rows = [self._row(record) for record in records]
        self.commit(work)

    def write(self, id: str, records: Iterable[Record], run: Mapping[str, JSON] | None = None) -> None:
        """Appends records and sets columns of the run (status, ended, wake, error, outputs, …), in one commit."""
        rows, first = [self._row(record) for record in records], self._first.get(id)
        values = {k: v if isinstance(v, str) or v is None else _dump(v) for k, v in (run or {}).items()}
        if isinstance(error := (run or {}).get("error"), Mapping):
            values["error"] = self._error(error)
        if values.get("outputs") == SECURED:
            values["outputs"] = _dump(SECURED)

        def work(db: sqlite3.Connection) -> None:
            if first is not None:
                first(db)
            self._append(db, id, rows)
            if values:
                columns = ", ".join(f"{name}=?" for name in values)
                db.execute(f"UPDATE runs SET {columns} WHERE id=?", (*values.values(), id))  # noqa: S608

        self.commit(work)
        self._first.pop(id, None)

    def _append(self, db: sqlite3.Connection, id: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * 13)
        sql = f"INSERT INTO records SELECT NULL, number, {marks} FROM runs WHERE id=?"  # noqa: S608
        db.executemany(sql, [(*row, id) for row in rows])

    def _row(self, record: Record) -> tuple[Any, ...]:
        secure = "outputs" in record.secure and (record.status != "decided" or record.kind == "switch")
        outputs = self._secure(record.outputs, "outputs" in record.secure)
        if record.error and outputs:
            outputs = self.mask(outputs)  # a refusal may quote what it refused
        return (
            record.path, record.attempt, record.status, record.kind,
            self._secure(record.inputs, "inputs" in record.secure),
            self._secure(record.output, secure),
            outputs, self._error(record.error), record.effect, record.changed, record.summary,
            record.started.isoformat() if record.started else None, record.ended.isoformat() if record.ended else None,
        )  # fmt: skip

    def _secure(self, value: JSON, secure: bool) -> str | None:
        if value is None or not secure:
            return None if value is None else _dump(value)
        if self.cipher is None:
            return _dump(SECURED)
        return _dump({ENCRYPTED: self.cipher.encrypt(_dump(value).encode()).decode()})

    def _read(self, text: str | None) -> JSON:
        value = None if text is None else json.loads(text)
        if isinstance(value, dict) and value.keys() == {ENCRYPTED}:
            if self.cipher is None:
                return SECURED
            from cryptography.fernet import InvalidToken

            try:
                return json.loads(self.cipher.decrypt(value[ENCRYPTED].encode()))
            except InvalidToken as error:
                message = "the journal's secure values were encrypted under another key (FLOWRUN_KEY)"
                raise ConfigError(message, code="Key", hint="set the key that the run was made with") from error
        return value

    def _error(self, error: Mapping[str, JSON] | None) -> str | None:
        return None if error is None else self.mask(_dump(error))

    def run(self, id: str) -> Run:
        """The run with this id or unique beginning of one, its number, or the newest (`last`). Raises ConfigError."""
        if id == "last":
            rows = self._db.execute("SELECT * FROM runs ORDER BY number DESC LIMIT 1").fetchall()
        else:
            number = int(id) if id.isdecimal() and len(id) < 8 else None
            sql = "SELECT * FROM runs WHERE number=? OR id BETWEEN ? AND ? ORDER BY number=? DESC, id=? DESC LIMIT 2"
            rows = self._db.execute(sql, (number, id, f"{id}\uffff", number, id)).fetchall()
            rows = rows[:1] if rows and (rows[0]["id"] == id or rows[0]["number"] == number) else rows
        if len(rows) != 1:
            what = "no run" if not rows else "several runs"
            raise ConfigError(f"{what} '{id}'", code="NoRun", hint="flowrun runs list")
        return self._run(rows[0])

    def pending(self, environment: str) -> list[Queued]:
        """What is to be begun or gone on with: queued, left by a dead process, or waiting for a time. Oldest first."""
        sql = ("SELECT id, number, lane, collapse, status, process, wake FROM runs WHERE environment=? AND "
               "(status IN ('queued', 'running') OR wake IS NOT NULL) ORDER BY number")  # fmt: skip
        return [
            Queued(row["id"], row["number"], row["lane"], bool(row["collapse"]), row["status"] == "queued",
                   datetime.fromisoformat(row["wake"]) if row["wake"] else None)
            for row in self._db.execute(sql, (environment,)).fetchall()
            if row["status"] != "running" or (row["process"] != self.process and not self._alive(row["process"]))
        ]  # fmt: skip

    def with_key(self, flow: str, environment: str, key: str) -> Run | None:
        """The first run with this key."""
        sql = "SELECT * FROM runs WHERE flow=? AND environment=? AND key=? ORDER BY number LIMIT 1"
        row = self._db.execute(sql, (flow, environment, key)).fetchone()
        return self._run(row) if row else None

    def runs(
        self, *, status: str | None = None, flow: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[Run]:
        """Runs, newest first; `before` is the number of the last one seen (keyset paging)."""
        stored = "running" if status == "interrupted" else status
        where = {sql: v for sql, v in (("number<?", before), ("flow=?", flow), ("status=?", stored)) if v is not None}
        sql = f"SELECT * FROM runs WHERE {' AND '.join(where) or '1'} ORDER BY number DESC"  # noqa: S608
        runs = map(self._run, self._db.execute(sql, tuple(where.values())))
        return list(islice((run for run in runs if status in (None, run.status)), limit))

    def _run(self, row: sqlite3.Row) -> Run:
        values: dict[str, Any] = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates its values
        for name in ("flows", "connect", "targets", "trigger", "parameters", "error", "outputs"):
            values[name] = json.loads(values[name]) if values[name] else None
        for name in ("started", "ended", "wake"):
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        if values["status"] == "running" and row["process"] != self.process and not self._alive(row["process"]):
            values["status"] = "interrupted"
        return Run(**{**values, "collapse": bool(values["collapse"])})

    def hook(self, environment: str, flow: str, trigger: str) -> str:
        """The random end of a webhook's path, made once."""
        names = (environment, flow, trigger)

        def work(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO hooks VALUES (?,?,?,?)", (*names, secrets.token_urlsafe(24)))
            sql = "SELECT token FROM hooks WHERE environment=? AND flow=? AND trigger=?"
            return str(db.execute(sql, names).fetchone()["token"])

        return self.commit(work)

    def allow(self, name: str, made: datetime) -> str:
        """A new token for a caller of the API; only its digest is kept. Raises ConfigError if there is one."""
        token = secrets.token_urlsafe(32)
        row = (name, hashlib.sha256(token.encode()).hexdigest(), made.isoformat())
        try:
            self.commit(lambda db: db.execute("INSERT INTO callers VALUES (?,?,?)", row))
        except sqlite3.IntegrityError as error:
            raise ConfigError(f"there is a token '{name}'", code="Token", hint="remove it first") from error
        return token

    def caller(self, token: str) -> str | None:
        """Whose token this is, None for nobody's."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        row = self._db.execute("SELECT name FROM callers WHERE digest=?", (digest,)).fetchone()
        return row["name"] if row else None

    def callers(self) -> dict[str, str]:
        """The names of the API's callers, and when their tokens were made."""
        return {row["name"]: row["made"] for row in self._db.execute("SELECT name, made FROM callers ORDER BY made")}

    def refuse(self, name: str) -> bool:
        """Takes a caller's token away. False: there is none."""
        return bool(self.commit(lambda db: db.execute("DELETE FROM callers WHERE name=?", (name,)).rowcount))

    def forget(self, key: str) -> int:
        """Removes what runs hold of the record with this key, lane or business key; what is left tells their shape.

        The key's digest stays, so that an event that comes again is still known. Gives the number of runs.
        """
        mine = (
            "SELECT number, key FROM runs WHERE ? IN (key, lane, business_key) AND status NOT IN ('queued', 'running')"
        )
        bare = ("UPDATE runs SET trigger='{}', parameters='{}', outputs=NULL, error=NULL, lane=NULL, wake=NULL, "
                "business_key=NULL, key=? WHERE number=?")  # fmt: skip
        empty = "UPDATE records SET inputs=NULL, output=NULL, outputs=NULL, error=NULL, summary='' WHERE run=?"

        def work(db: sqlite3.Connection) -> int:
            found = [(_digest(row["key"]), row["number"]) for row in db.execute(mine, (key,))]
            db.executemany(bare, found)
            db.executemany(empty, [(number,) for _, number in found])
            return len(found)

        self._db.execute("PRAGMA secure_delete=ON")  # what is overwritten is gone from the file, too
        try:
            return self.commit(work)
        finally:
            self._db.execute("PRAGMA secure_delete=OFF")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def prune(self, before: datetime) -> int:
        """Removes runs that ended before a time, whole. Gives their number."""

        def work(db: sqlite3.Connection) -> int:
            old = "SELECT number FROM runs WHERE ended < ?"
            when = (before.isoformat(),)
            db.execute(f"DELETE FROM records WHERE run IN ({old})", when)  # noqa: S608
            return db.execute("DELETE FROM runs WHERE ended < ?", when).rowcount

        return self.commit(work)

    def document(self, digest: str) -> tuple[str, str]:
        """File name and text of a document."""
        row = self._db.execute("SELECT file, text FROM documents WHERE digest=?", (digest,)).fetchone()
        if row is None:
            raise ConfigError(f"no document {digest} in the journal", code="NoDocument")
        return row["file"], row["text"]

    def records(self, id: str) -> list[Record]:
        """The records of a run in the order they were written."""
        rows = self._db.execute(
            "SELECT * FROM records WHERE run=(SELECT number FROM runs WHERE id=?) ORDER BY number", (id,)
        ).fetchall()
        return [self._record(row) for row in rows]

    def _record(self, row: sqlite3.Row) -> Record:
        values: dict[str, Any] = {name: row[name] for name in row.keys() if name not in ("run", "number")}  # noqa: SIM118
        hidden = (f'"{SECURED}"', f'{{"{ENCRYPTED}"')
        secure = {part for part, column in (("inputs", "inputs"), ("outputs", "output"))
                  if (row[column] or "").startswith(hidden)}  # fmt: skip
        values |= {name: self._read(row[name]) for name in ("inputs", "output", "outputs", "error")}
        for name in ("started", "ended"):
            values[name] = datetime.fromisoformat(row[name]) if row[name] else None
        return Record(**{**values, "changed": bool(row["changed"]), "secure": frozenset(secure)})

    # Life and death of processes

    def _hold(self) -> None:
        """Takes this process's lock, once."""
        with self._lock:
            if self.folder is not None and self._claim is None:
                file = (self.folder / "locks" / self.process).open("w", encoding="utf-8")
                lock(file)
                self._claim = file

    def _alive(self, process: str) -> bool:
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


def _digest(key: str | None) -> str | None:
    """What is left of a key that was forgotten."""
    return key and "forgotten:" + hashlib.sha256(key.encode()).hexdigest()


def _plain(value: Any) -> JSON:
    return dict(value) if isinstance(value, Mapping) else list(value)


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
