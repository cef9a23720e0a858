"""Tokens between processes: msal's cache of a connection, encrypted in the journal's database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import ConfigError
from engine.local.database import lock
from engine.local.journal import Journal

KEY_HELP = 'make one with: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


def cipher(key: str) -> Any:
    """The Fernet of FLOWRUN_KEY. Raises ConfigError for a text that is no key."""
    from cryptography.fernet import Fernet

    try:
        return Fernet(key)
    except ValueError as error:
        raise ConfigError("FLOWRUN_KEY is no Fernet key", code="Key", hint=KEY_HELP) from error


class JournalTokens:
    """A TokenStore in the journal's database; one process at a time refreshes."""

    def __init__(self, journal: Journal, connection: str) -> None:
        self.journal = journal
        self.connection = connection
        self._lock = threading.RLock()
        self._held = 0

    def load(self) -> str | None:
        """The stored text, None without one. Raises ConfigError if it was encrypted under another key."""
        sql = "SELECT data FROM tokens WHERE connection=?"
        row = self.journal.commit(lambda db: db.execute(sql, (self.connection,)).fetchone())
        if row is None:
            return None
        from cryptography.fernet import InvalidToken

        try:
            return str(self.journal.cipher.decrypt(row["data"]).decode())
        except InvalidToken as error:
            message = f"the stored sign-in of {self.connection} was encrypted under another FLOWRUN_KEY"
            raise ConfigError(message, code="Key", hint="set the old key, or run `flowrun login` again") from error

    def save(self, text: str) -> None:
        data = self.journal.cipher.encrypt(text.encode())
        self.journal.commit(lambda db: db.execute("REPLACE INTO tokens VALUES (?,?)", (self.connection, data)))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a token is refreshed, against other threads and processes."""
        with self._lock:
            if self._held or self.journal.folder is None:
                yield
                return
            with (self.journal.folder / "locks" / "tokens").open("a", encoding="utf-8") as file:
                lock(file, wait=True)
                self._held += 1
                try:
                    yield
                finally:
                    self._held -= 1
