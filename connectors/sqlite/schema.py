"""The lead file: its tables, and how it is opened.

Triggers note every change, so a lead that somebody edits with another SQLite program is listed as changed too.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from engine import NEUTRAL_FIELDS, ConfigError, FlowrunError, TransientError

APPLICATION = 0x666C7277  # "flrw" in the file's header: this file is ours
VERSION = 1

_COLUMNS = ",\n        ".join(f"{name} {'REAL' if name == 'amount' else 'TEXT'}" for name in NEUTRAL_FIELDS)
_STATEMENTS = (
    f"""CREATE TABLE leads (
        id TEXT PRIMARY KEY NOT NULL,
        key TEXT UNIQUE,
        status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'qualified', 'disqualified')),
        {_COLUMNS},
        native TEXT NOT NULL DEFAULT '{{}}')""",
    # Each lead once, under the number of its last change; a deleted lead stays here.
    "CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT,"
    " deleted INTEGER NOT NULL)",
    *(
        f"CREATE TRIGGER lead_{verb} AFTER {verb} ON leads BEGIN"  # noqa: S608 - no value comes from outside
        f" DELETE FROM changes WHERE id = {row}.id;"
        f" INSERT INTO changes (id, key, deleted) VALUES ({row}.id, {row}.key, {verb == 'DELETE'}); END"
        for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
    ),
    "CREATE TABLE file (id TEXT NOT NULL)",  # what tells a cursor of this file from one of another
)


@contextmanager
def opened(path: Path, *, write: bool, wait: float) -> Iterator[sqlite3.Connection]:
    """The file in one transaction: all or nothing, one writer at a time in all processes.

    Each use opens the file anew, so threads share nothing and a file that was replaced is seen. A reader makes no
    file. `wait` is how long another writer may take, in seconds. Raises ConfigError, TransientError.
    """
    try:
        if write and not path.exists():
            path.touch(mode=0o600)  # it holds people's names and numbers
        target = str(path) if write or path.exists() else ":memory:"
        with closing(sqlite3.connect(target, timeout=wait, isolation_level=None)) as db, db:
            db.row_factory = sqlite3.Row
            _begin(db, path, write)
            yield db
    except (sqlite3.Error, OSError) as error:
        raise _failure(error, path) from error


def _begin(db: sqlite3.Connection, path: Path, write: bool) -> None:
    db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    if _is_ours(db, path):
        return
    if not write:  # nothing to read yet, and making the tables takes the writer's lock
        db.execute("ROLLBACK")
        _begin(db, path, True)
        return
    for statement in _STATEMENTS:
        db.execute(statement)
    db.execute("INSERT INTO file VALUES (?)", (uuid.uuid4().hex,))
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _is_ours(db: sqlite3.Connection, path: Path) -> bool:
    """False for an empty file. Raises ConfigError for somebody else's, or one of a later version."""
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if application == APPLICATION and version <= VERSION:
        return True
    if application == APPLICATION:
        raise ConfigError(
            f"{path} was made by a later flowrun (version {version}; this one knows {VERSION})",
            code="LaterVersion",
            hint="update flowrun, or give another `path`",
        )
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise ConfigError(f"{path} is another program's database", code="NotOurs", hint="give another `path`")
    return False


def _failure(error: Exception, path: Path) -> FlowrunError:
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return TransientError(f"{path} is held by another writer", code="Busy")
    if name.startswith("SQLITE_NOTADB"):
        return ConfigError(f"{path} is no SQLite database", code="NotOurs", hint="give another `path`")
    if name.startswith("SQLITE_FULL"):
        return TransientError(f"no room is left for {path}", code="Full", hint="free some space on that disk")
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return ConfigError(
        f"{path} can't be used: {reason}", code=name, hint="the folder must exist and be writable to this user"
    )
