"""The lead file as tests of flows see it: rows to set up and to look at, without the CRM's rules."""

from __future__ import annotations

import json
import sqlite3
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

from engine import JSON, NEUTRAL_FIELDS, did_you_mean

COLUMNS = ("id", "key", "status", *NEUTRAL_FIELDS, "native")


class Records:
    """The collection `leads`: a row is an object of its columns, `native` an object in it."""

    collections: ClassVar[Mapping[str, tuple[str, str]]] = {"leads": ("leads", "id")}

    @abstractmethod
    def _file(self, *, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """The file in one transaction."""

    def records(self, collection: str) -> list[JSON]:
        """All rows, by id."""
        with self._file() as db:
            rows = db.execute("SELECT * FROM leads ORDER BY id").fetchall()
        return [{name: row[name] for name in COLUMNS} | {"native": json.loads(row["native"])} for row in rows]

    def put_record(self, collection: str, record: Mapping[str, JSON]) -> None:
        """Makes a row as it is given; what it doesn't say is empty. Raises ValueError for an unknown column."""
        for name in record.keys() - {*COLUMNS}:
            raise ValueError(f"a lead has no column '{name}'; {did_you_mean(name, {*COLUMNS})}")
        row = {"status": "open", **record, "native": json.dumps(record.get("native") or {}, sort_keys=True)}
        with self._file(write=True) as db:
            db.execute("DELETE FROM leads WHERE id = ?", (row["id"],))
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            db.execute(f"INSERT INTO leads ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - checked names

    def remove_record(self, collection: str, id: str) -> None:
        """Takes a row away."""
        with self._file(write=True) as db:
            db.execute("DELETE FROM leads WHERE id = ?", (id,))
