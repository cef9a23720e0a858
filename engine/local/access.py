"""Who may call from outside: the random ends of webhooks' addresses, and the API's callers by the digests of their
tokens.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from datetime import datetime

from engine.errors import ConfigError
from engine.local.database import Database


class Access:
    """What a database knows of those who call from outside."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def hook(self, environment: str, flow: str, trigger: str) -> str:
        """The random end of a webhook's path, made once."""
        names = (environment, flow, trigger)

        def work(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO hooks VALUES (?,?,?,?)", (*names, secrets.token_urlsafe(24)))
            sql = "SELECT token FROM hooks WHERE environment=? AND flow=? AND trigger=?"
            return str(db.execute(sql, names).fetchone()["token"])

        return self.database.commit(work)

    def allow(self, name: str, made: datetime) -> str:
        """A new token for a caller of the API; only its digest is kept. Raises ConfigError if there is one."""
        token = secrets.token_urlsafe(32)
        row = (name, _digest(token), made.isoformat())
        try:
            self.database.commit(lambda db: db.execute("INSERT INTO callers VALUES (?,?,?)", row))
        except sqlite3.IntegrityError as error:
            raise ConfigError(f"there is a token '{name}'", code="Token", hint="remove it first") from error
        return token

    def caller(self, token: str) -> str | None:
        """Whose token this is, None for nobody's."""
        found = self.database.read("SELECT name FROM callers WHERE digest=?", _digest(token))
        return found[0]["name"] if found else None

    def callers(self) -> dict[str, str]:
        """The names of the API's callers, and when their tokens were made."""
        return {row["name"]: row["made"] for row in self.database.read("SELECT name, made FROM callers ORDER BY made")}

    def refuse(self, name: str) -> bool:
        """Takes a caller's token away. False: there is none."""
        return bool(self.database.commit(lambda db: db.execute("DELETE FROM callers WHERE name=?", (name,)).rowcount))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
