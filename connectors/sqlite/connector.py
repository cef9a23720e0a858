"""A CRM in one local file: the embedded CRM, and the proof that a flow's CRM is swapped by one word."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from connectors.sqlite.records import Records
from connectors.sqlite.schema import opened
from engine import (
    JSON,
    NEUTRAL_FIELDS,
    UNKNOWN,
    Change,
    ConfigError,
    Connector,
    DataError,
    Doc,
    Finding,
    Lead,
    LeadResult,
    LeadStatus,
    Page,
    Place,
    RemoteError,
    Result,
    TransientError,
    did_you_mean,
    difference,
    operation,
)

PAGE = 100  # leads in one page of list_changes
BUSY = 30.0  # seconds to wait for another writer
LONGEST_KEY = 400
# The greatest number of characters that a field holds; what is longer is cut there.
LIMITS: Mapping[str, int] = {
    "title": 300,
    "company": 200,
    "first_name": 100,
    "last_name": 100,
    "job_title": 100,
    "email": 254,
    "phone": 50,
    "mobile": 50,
    "website": 500,
    "street": 250,
    "street2": 250,
    "city": 100,
    "state": 100,
    "postal_code": 20,
    "country": 100,
    "description": 1_000_000,
    "source": 100,
}
LARGEST_AMOUNT = 1e12

Row: TypeAlias = dict[str, Any]  # a row of `leads`, native as an object

_NAMES = ("id", "key", "status", *NEUTRAL_FIELDS, "native")
_INSERT = f"INSERT INTO leads ({', '.join(_NAMES)}) VALUES ({', '.join(f':{n}' for n in _NAMES)})"  # noqa: S608
_UPDATE = f"UPDATE leads SET {', '.join(f'{n} = :{n}' for n in _NAMES[1:])} WHERE id = :id"  # noqa: S608
_CURSOR = re.compile(r"([0-9a-f]{32})\.(\d{1,18})(?:\.(\d{1,18}))?")


class SqliteCrm(Records, Connector):
    """The CRM protocol on a local SQLite file, for one machine.

    Safe for several threads and processes at once. Text is trimmed and blank text says nothing; amounts keep four
    decimal places, dates the day, currencies are in capitals; what is longer than LIMITS is cut, and the summary says
    so. Any other field may be kept under `native`, as JSON.
    """

    @dataclass(frozen=True)
    class Settings:
        """Where the leads are."""

        path: Annotated[str, Doc("The file, made when it is first needed; relative to connections.yaml")] = "leads.db"

    settings: Settings

    @property
    def path(self) -> Path:
        return Path(self.ctx.folder) / self.settings.path

    @operation(effect="idempotent", plans=True)
    def upsert_lead(
        self,
        key: str,
        lead: Lead,
        on_create: Lead | None = None,
        known_id: str | None = None,
        clear: list[str] | None = None,
    ) -> Result[LeadResult]:
        """Create or change the one lead that mirrors the record `key`.

        `lead` is kept equal at every call, `on_create` is written once, at creation. `clear` names fields to empty
        (`native.NAME` for one of `native`). A lead without a key whose id is `known_id` is adopted.
        Raises DataError for a key, date, amount or currency that can't be kept.
        """
        _check_key(key)
        given, cut = _normalised(lead)
        first, cut_first = _normalised(on_create or Lead())
        emptied = _emptied(clear, given)
        planning = self.ctx.planning
        with self._file(write=not planning) as db:
            row = _find(db, key=key)
            if row is None and known_id:
                known = _find(db, id=known_id)
                row = known if known and known["key"] is None else None
            if row is None:
                row = _merged(_merged(_blank(key), first, []), given, emptied)
                cut += [name for name in cut_first if name not in given and name not in emptied]
                if planning:
                    said, row["id"] = "a new lead", UNKNOWN
                else:
                    _write(db, _INSERT, row)
                    said = f"created lead {row['id'][:8]}…"
                new = [difference(None, None, _lead(row), given)]
                body = _result(row, created=True)
                return Result(body=body, changed=True, summary=_said(said, cut), differences=new)
            if row["status"] != "open":
                return Result(body=_result(row), summary=f"left alone: the lead is {row['status']}")
            after = _merged(row, given, emptied) | {"key": key}
            names = _differing(row, after)
            adopted = row["key"] is None
            if not names and not adopted:
                return Result(body=_result(row), summary=_said("already up to date", cut), differences=[
                    difference(row["id"], _lead(row), _lead(row), given)])  # fmt: skip
            if not planning:
                _write(db, _UPDATE, after)
        done = [f"adopted lead {row['id']}"] if adopted else []
        done += [f"updated: {', '.join(names)}"] if names else []
        changes = [difference(row["id"], _lead(row), _lead(after), given)]
        return Result(body=_result(after), changed=True, summary=_said("; ".join(done), cut), differences=changes)

    @operation(effect="read")
    def get_lead(self, id: str | None = None, key: str | None = None) -> Result[LeadResult | None]:
        """The lead by its id or by key; body null where there is none. Raises DataError without either."""
        if not id and not key:
            raise DataError("get_lead needs id or key", code="MissingInput")
        with self._file() as db:
            row = _find(db, id=id) if id else _find(db, key=key)
        return Result(body=_result(row) if row else None, summary="found" if row else "no such lead")

    @operation(effect="read")
    def list_changes(self, cursor: str | None = None) -> Result[Page]:
        """Leads created, changed or deleted since `cursor`, each once, in the order of their last change.

        Without a cursor, or with one of another file: all leads (full=True). At most 100 a page.
        """
        with self._file() as db:
            file: str = db.execute("SELECT id FROM file").fetchone()[0]
            latest: int = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]
            # after: the last change told. begun: where a full listing began, whose earlier deletions nobody knows of.
            after, begun = 0, latest
            full = True
            match = _CURSOR.fullmatch(cursor or "")
            if match and match[1] == file and int(match[2]) <= latest:  # beyond: the file is an older copy
                after, begun, full = int(match[2]), int(match[3] or 0), match[3] is not None
            rows = db.execute(
                "SELECT changes.number, changes.id AS changed_id, changes.key AS changed_key, leads.* FROM changes"
                " LEFT JOIN leads ON leads.id = changes.id"
                " WHERE number > ? AND (NOT deleted OR number > ?) ORDER BY number LIMIT ?",
                (after, begun, PAGE + 1),
            ).fetchall()
        more = len(rows) > PAGE
        rows = rows[:PAGE]
        reached = f"{rows[-1]['number']}" if more else f"{latest}"
        page = Page(
            items=[_change(row) for row in rows],
            cursor=f"{file}.{reached}.{begun}" if more and full else f"{file}.{reached}",
            more=more,
            full=full,
        )
        return Result(body=page, summary=f"{len(rows)} {'leads' if full else 'changes'}{', more to come' * more}")

    @operation(effect="write")
    def create_lead(self, lead: Lead) -> Result[LeadResult]:
        """A lead that a person enters by hand: it has no key."""
        given, cut = _normalised(lead)
        row = _merged(_blank(None), given, [])
        with self._file(write=True) as db:
            _write(db, _INSERT, row)
        return Result(
            body=_result(row, created=True), changed=True, summary=_said(f"created lead {row['id'][:8]}…", cut)
        )

    @operation(effect="idempotent")
    def edit_lead(self, id: str, fields: Lead, clear: list[str] | None = None) -> Result[LeadResult]:
        """What a person changes by hand; `clear` names fields to empty. Raises RemoteError: no such lead, read-only."""
        given, cut = _normalised(fields)
        emptied = _emptied(clear, given)
        with self._file(write=True) as db:
            row = _must_find(db, id)
            if row["status"] != "open":
                raise RemoteError(f"lead {id} is {row['status']}: it takes no changes", code="ReadOnly", status=403)
            after = _merged(row, given, emptied)
            names = _differing(row, after)
            if names:
                _write(db, _UPDATE, after)
        done = f"updated: {', '.join(names)}" if names else "already up to date"
        return Result(body=_result(after), changed=bool(names), summary=_said(done, cut))

    @operation(effect="idempotent")
    def set_status(self, id: str, status: LeadStatus) -> Result[LeadResult]:
        """Qualifies, disqualifies or reopens a lead. Raises RemoteError: no such lead."""
        with self._file(write=True) as db:
            row = _must_find(db, id)
            changed = row["status"] != status
            if changed:
                row["status"] = status
                _write(db, _UPDATE, row)
        return Result(body=_result(row), changed=changed, summary=f"{'now' if changed else 'already'} {status}")

    @operation(effect="idempotent")
    def delete_lead(self, id: str) -> Result[bool]:
        """Deletes a lead; body false where there was none."""
        with self._file(write=True) as db:
            deleted = db.execute("DELETE FROM leads WHERE id = ?", (_clean(id),)).rowcount > 0
        return Result(body=deleted, changed=deleted, summary=f"deleted lead {id}" if deleted else "no such lead")

    @operation(effect="read")
    def list_leads(self) -> Result[list[LeadResult]]:
        """All leads, oldest first."""
        with self._file() as db:
            rows = db.execute("SELECT * FROM leads ORDER BY rowid").fetchall()
        return Result(body=[_result(_row(row)) for row in rows], summary=f"{len(rows)} leads")

    def check(self) -> Iterator[Finding]:
        """Whether the folder is there and writable, and the file ours to use. Makes no file."""
        place = Place(str(self.path))
        folder = self.path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            words = "isn't writable to this user" if folder.is_dir() else "doesn't exist"
            yield Finding(place, "Folder", f"the folder {folder} {words}", hint="make it, or give another `path`")
            return
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            yield Finding(place, "File", f"{self.path} isn't readable and writable to this user")
            return
        try:
            with self._file():
                pass
        except (ConfigError, TransientError) as error:
            yield Finding(place, error.code, error.message, hint=error.hint)

    def _file(self, *, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """The file in one transaction, within the step's time; a step that isn't wanted any more writes nothing."""
        left = BUSY if self.ctx.deadline is None else min(BUSY, self.ctx.deadline - self.ctx.clock.monotonic())
        if left <= 0:
            raise TransientError("the step's time is up", code="Timeout")
        if write and not self.ctx.call.wanted():
            raise TransientError("the step is no longer wanted: nothing was written", code="Stale")
        missing = self.ctx.planning and not self.path.exists()  # a plan makes no file
        return opened(Path(":memory:") if missing else self.path, write=write, wait=left)


def _check_key(key: str) -> None:
    reason = ""
    if not key.strip():
        reason = "it is blank"
    elif len(key) > LONGEST_KEY:
        reason = f"it is longer than {LONGEST_KEY} characters"
    elif _clean(key) != key:
        reason = "it holds half a surrogate pair, which is no character"
    if reason:
        raise DataError(f"key {key[:60]!r} can't be used: {reason}", code="BadKey")


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _normalised(lead: Lead) -> tuple[dict[str, Any], list[str]]:
    """What a lead says, as this CRM keeps it (`native` without its nulls), and the names of the fields cut."""
    values: dict[str, Any] = {}
    cut = []
    for name, value in lead.given().items():
        if name == "amount":
            values[name] = _amount(value)
            continue
        text = _clean(str(value)).strip()
        if not text:
            continue
        if name == "close_date":
            text = _date(text)
        elif name == "currency":
            text = _currency(text)
        elif len(text) > LIMITS[name]:
            text = text[: LIMITS[name]].rstrip()
            cut.append(name)
        values[name] = text
    if native := {k: v for k, v in lead.native.items() if v is not None}:
        values["native"] = json.loads(_native_text(native))
    return values, cut


def _amount(value: float | str) -> float:
    number = float(value)
    if not math.isfinite(number) or abs(number) > LARGEST_AMOUNT:
        raise DataError(f"amount: expected a number up to {LARGEST_AMOUNT:g}, found {number:g}", code="BadAmount")
    return round(number, 4) + 0.0  # no -0.0


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise DataError(f"close_date: {text[:10]} is no day of the calendar", code="BadDate") from None


def _currency(text: str) -> str:
    if not re.fullmatch("[A-Za-z]{3}", text):
        raise DataError(f"currency: expected an ISO 4217 code such as USD, found {text[:20]!r}", code="BadCurrency")
    return text.upper()


def _native_text(native: Mapping[str, JSON]) -> str:
    try:
        return _clean(json.dumps(native, ensure_ascii=False, sort_keys=True, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise DataError(f"native: can't be kept as JSON: {error}", code="BadNative") from error


def _emptied(clear: list[str] | None, given: Mapping[str, Any]) -> list[str]:
    """The names in `clear`. Raises DataError for one that is no field, or that has a value at the same time."""
    names = list(dict.fromkeys(clear or ()))
    for name in names:
        native = name.removeprefix("native.")
        if name == native and name not in NEUTRAL_FIELDS:
            hint = did_you_mean(name, set(NEUTRAL_FIELDS)) or "a field of `native` is written native.NAME"
            raise DataError(f"clear: no field '{name}'", code="UnknownField", hint=hint)
        if name in given or (name != native and native in given.get("native", {})):
            raise DataError(f"clear: '{name}' is given a value too", code="Contradiction", hint="do one or the other")
    return names


def _blank(key: str | None) -> Row:
    return dict.fromkeys(_NAMES) | {"id": str(uuid.uuid4()), "key": key, "status": "open", "native": {}}


def _merged(row: Row, given: Mapping[str, Any], emptied: list[str]) -> Row:
    native = row["native"] | given.get("native", {})
    native = {k: v for k, v in native.items() if f"native.{k}" not in emptied}
    nulls = {name: None for name in emptied if name in NEUTRAL_FIELDS}
    return {**row, **nulls, **given, "native": native}


def _differing(before: Row, after: Row) -> list[str]:
    """Names of the fields that differ, those of `native` as native.NAME."""
    names = [name for name in NEUTRAL_FIELDS if before[name] != after[name]]
    # By their text, for 1 and true are equal in Python.
    old, new = ({k: _native_text({k: v}) for k, v in row["native"].items()} for row in (before, after))
    return names + [f"native.{k}" for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]


def _find(db: sqlite3.Connection, *, id: str | None = None, key: str | None = None) -> Row | None:
    column, value = ("id", id) if id is not None else ("key", key)
    row = db.execute(f"SELECT * FROM leads WHERE {column} = ?", (_clean(str(value)),)).fetchone()  # noqa: S608
    return _row(row) if row else None


def _must_find(db: sqlite3.Connection, id: str) -> Row:
    row = _find(db, id=id)
    if row is None:
        raise RemoteError("there is no lead with this id", code="NotFound", status=404)
    return row


def _row(row: sqlite3.Row) -> Row:
    return {name: row[name] for name in _NAMES} | {"native": json.loads(row["native"])}


def _write(db: sqlite3.Connection, statement: str, row: Row) -> None:
    db.execute(statement, row | {"native": _native_text(row["native"])})


def _lead(row: Row) -> Lead:
    return Lead(**{name: row[name] for name in (*NEUTRAL_FIELDS, "native")})


def _result(row: Row, *, created: bool = False) -> LeadResult:
    status: LeadStatus = row["status"]
    return LeadResult(
        id=row["id"], key=row["key"], lead=_lead(row), status=status, created=created, read_only=status != "open"
    )


def _change(row: sqlite3.Row) -> Change:
    if row["id"] is None:
        return Change(id=row["changed_id"], key=row["changed_key"], deleted=True)
    return Change(id=row["id"], key=row["key"], status=row["status"], lead=_lead(_row(row)))


def _said(sentence: str, cut: list[str]) -> str:
    return f"{sentence}; shortened: {', '.join(cut)}" if cut else sentence
