"""The journal: what every run did, in SQLite. Page, resume and `why` read nothing else.

Durable when a call returns. Secure parts are replaced by a marker, or encrypted where a key is set; error texts are
masked.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from engine.effects import SECURED, Record
from engine.errors import ConfigError
from engine.local.database import Database
from engine.types import JSON

ENCRYPTED = "(encrypted)"
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


class Journal(Database):
    """A journal in a folder (`.flowrun/`), or in memory without one. Safe for several threads."""

    def __init__(
        self, folder: Path | None = None, *, cipher: Any = None, mask: Callable[[str], str] = lambda text: text
    ) -> None:
        super().__init__(folder)
        self.cipher = cipher
        self.mask = mask
        self._first: dict[str, Callable[[sqlite3.Connection], Any]] = {}  # done together with a run's next commit

    # Runs

    def create(self, run: Run, documents: Documents, *, durable: bool = True) -> None:
        """Records a run and its documents; if not `durable` together with what is written for it next."""
        self.hold()
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
        self.hold()
        mine = "UPDATE runs SET status='running', process=?, wake=NULL WHERE id=?"
        self._first[id] = lambda db: db.execute(mine, (self.process, id))

    def take_over(self, id: str, records: Iterable[Record] = (), anew: tuple[Run, Documents] | None = None) -> None:
        """Makes a run that ended or died this process's, and appends records to it, in one commit.

        `anew` gives it other documents: a row that names them, and the documents.

        Raises ConfigError if there is no such run, or another process has it.
        """
        self.hold()

        def work(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT status, process FROM runs WHERE id=?", (id,)).fetchone()
            if row is None:
                raise ConfigError(f"no run '{id}'", code="NoRun", hint="flowrun runs list")
            if row["status"] == "running" and row["process"] != self.process and self.alive(row["process"]):
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
            if row["status"] != "running" or (row["process"] != self.process and not self.alive(row["process"]))
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
        if values["status"] == "running" and row["process"] != self.process and not self.alive(row["process"]):
            values["status"] = "interrupted"
        return Run(**{**values, "collapse": bool(values["collapse"])})

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


def _digest(key: str | None) -> str | None:
    """What is left of a key that was forgotten."""
    return key and "forgotten:" + hashlib.sha256(key.encode()).hexdigest()


def _plain(value: Any) -> JSON:
    return dict(value) if isinstance(value, Mapping) else list(value)


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
