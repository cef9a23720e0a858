"""The SQLite CRM, beyond the conformance kit: its own operations, its file, its limits."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.sqlite.connector import LIMITS, SqliteCrm
from connectors.sqlite.schema import VERSION
from engine import NEUTRAL_FIELDS, Call, ConfigError, DataError, RemoteError, TransientError
from engine.testing import connect
from engine.testing.crm.bench import on_behalf_of


@pytest.fixture
def crm(tmp_path: Path) -> SqliteCrm:
    return connect(SqliteCrm, {}, folder=str(tmp_path))


def upsert(crm: SqliteCrm, key: str = "r-1", **inputs):
    return crm.invoke("upsert_lead", {"key": key, "lead": {"company": "Contoso", "phone": "1"}, **inputs})


def test_settings(tmp_path: Path) -> None:
    """`path` is relative to the connections file's folder, or absolute; nothing else may be set."""
    assert connect(SqliteCrm, {}, folder=str(tmp_path)).path == tmp_path / "leads.db"
    assert connect(SqliteCrm, {"path": "a/b.db"}, folder=str(tmp_path)).path == tmp_path / "a/b.db"
    assert connect(SqliteCrm, {"path": "/var/x.db"}, folder=str(tmp_path)).path == Path("/var/x.db")
    with pytest.raises(DataError, match="unknown key 'file'"):
        connect(SqliteCrm, {"file": "x"})
    assert SqliteCrm.hosts(SqliteCrm.Settings()) == frozenset()


def test_sentences(crm: SqliteCrm) -> None:
    """What the live view says of each outcome; no personal data in it."""
    created = upsert(crm)
    id = created.body.id
    assert created.summary == f"created lead {id[:8]}…"
    assert upsert(crm).summary == "already up to date"
    changed = upsert(crm, lead={"phone": "2", "amount": 5, "native": {"rating": 1}})
    assert changed.summary == "updated: phone, amount, native.rating"
    assert upsert(crm, lead={"postal_code": "9" * 21}).summary == "updated: postal_code; shortened: postal_code"
    assert upsert(crm, lead={"postal_code": "9" * 21}).summary == "already up to date; shortened: postal_code"
    assert upsert(crm, "r-2", on_create={"state": "S" * 101}).summary.endswith("; shortened: state")
    keyless = crm.invoke("create_lead", {"lead": {"company": "Contoso", "phone": "1"}}).body.id
    assert upsert(crm, "r-3", known_id=keyless).summary == f"adopted lead {keyless}"
    keyless = crm.invoke("create_lead", {"lead": {}}).body.id
    assert upsert(crm, "r-4", known_id=keyless).summary == f"adopted lead {keyless}; updated: company, phone"
    assert crm.set_status(id, "qualified").summary == "now qualified"
    assert crm.set_status(id, "qualified").summary == "already qualified"
    assert upsert(crm).summary == "left alone: the lead is qualified"
    assert crm.delete_lead(id).summary == f"deleted lead {id}"
    assert crm.delete_lead(id).summary == "no such lead"


@pytest.mark.parametrize("field", LIMITS)
def test_limits(crm: SqliteCrm, field: str) -> None:
    """Each text field has its documented length: as long is kept, one more is cut there."""
    limit = LIMITS[field]
    assert getattr(upsert(crm, lead={field: "é" * limit}).body.lead, field) == "é" * limit
    result = upsert(crm, lead={field: "é" * (limit + 1)})
    assert (result.changed, result.summary) == (False, f"already up to date; shortened: {field}")
    assert getattr(upsert(crm, lead={field: "é" * (limit - 1) + " é"}).body.lead, field) == "é" * (limit - 1)


def test_every_text_has_a_limit() -> None:
    assert set(LIMITS) == set(NEUTRAL_FIELDS) - {"amount", "currency", "close_date"}


@pytest.mark.parametrize(
    ("lead", "message"),
    [
        ({"close_date": "2026-02-30"}, "close_date: 2026-02-30 is no day of the calendar"),
        ({"close_date": "tomorrow"}, "lead.close_date: expected a date such as 2026-11-24"),
        ({"amount": 2e12}, "amount: expected a number up to 1e+12, found 2e+12"),
        ({"amount": float("nan")}, "amount: expected a number"),
        ({"amount": "12,5"}, "lead.amount: expected a number"),
        ({"currency": "Euro"}, "currency: expected an ISO 4217 code such as USD, found 'Euro'"),
        ({"native": {"x": float("inf")}}, "native: can't be kept as JSON"),
        ({"compnay": "Contoso"}, "lead: unknown key 'compnay'"),
    ],
)
def test_values_that_are_refused(crm: SqliteCrm, lead: dict, message: str) -> None:
    """A value that can't be kept is an error of the data, and no file is made for it."""
    with pytest.raises(DataError) as caught:
        upsert(crm, lead=lead)
    assert caught.value.message.startswith(message)
    assert not crm.path.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"amount": "1234.567890"}, {"amount": 1234.5679}),
        ({"amount": "-0.00001"}, {"amount": 0.0}),
        ({"currency": " usd "}, {"currency": "USD"}),
        ({"close_date": "2026-11-24T23:59:59.9999999+00:00"}, {"close_date": "2026-11-24"}),
        ({"title": "  two words \n"}, {"title": "two words"}),
        ({"title": "   "}, {"title": None}),
    ],
)
def test_values_as_they_are_kept(crm: SqliteCrm, given: dict, kept: dict) -> None:
    lead = upsert(crm, lead=given).body.lead
    assert {name: repr(getattr(lead, name)) for name in kept} == {name: repr(value) for name, value in kept.items()}


def test_blank_text_says_nothing(crm: SqliteCrm) -> None:
    """Like null, blank text leaves a field alone; only `clear` empties."""
    upsert(crm)
    result = upsert(crm, lead={"phone": " "})
    assert (result.changed, result.body.lead.phone) == (False, "1")


def test_native_fields(crm: SqliteCrm) -> None:
    """They are merged one by one, compared as JSON, left alone by null, emptied by `native.NAME`."""
    upsert(crm, lead={"native": {"a": {"b": [1]}, "hot": True, "n": None}})
    assert crm.get_lead(key="r-1").body.lead.native == {"a": {"b": [1]}, "hot": True}
    assert upsert(crm, lead={"native": {"hot": 1}}).summary == "updated: native.hot"
    assert not upsert(crm, lead={"native": {"a": {"b": [1]}, "hot": None}}).changed
    result = upsert(crm, lead={}, clear=["native.a"])
    assert (result.summary, result.body.lead.native) == ("updated: native.a", {"hot": 1})
    with pytest.raises(DataError, match=r"'native.hot' is given a value too"):
        upsert(crm, lead={"native": {"hot": 2}}, clear=["native.hot"])


def test_clear_and_a_value_contradict(crm: SqliteCrm) -> None:
    with pytest.raises(DataError, match="clear: 'phone' is given a value too"):
        upsert(crm, clear=["phone"])
    with pytest.raises(DataError, match="clear: no field 'emial'") as caught:
        upsert(crm, clear=["emial"])
    assert caught.value.hint == "did you mean 'email'?"


def test_people_cannot_edit_a_closed_lead_until_it_is_reopened(crm: SqliteCrm) -> None:
    id = upsert(crm).body.id
    crm.set_status(id, "disqualified")
    with pytest.raises(RemoteError) as caught:
        crm.invoke("edit_lead", {"id": id, "fields": {"phone": "2"}})
    assert caught.value.code == "ReadOnly"
    crm.set_status(id, "open")
    assert crm.invoke("edit_lead", {"id": id, "fields": {"phone": "2"}}).summary == "updated: phone"
    assert crm.invoke("edit_lead", {"id": id, "fields": {}, "clear": ["phone"]}).body.lead.phone is None
    for operation, inputs in (("edit_lead", {"fields": {}}), ("set_status", {"status": "open"})):
        with pytest.raises(RemoteError, match="no lead with this id"):
            crm.invoke(operation, {"id": "nobody", **inputs})


def test_a_deleted_key_is_free_again(crm: SqliteCrm) -> None:
    """After a deletion the record gets a new lead; the old one stays in the list of changes."""
    first = upsert(crm).body.id
    cursor = crm.list_changes().body.cursor
    crm.delete_lead(first)
    second = upsert(crm).body
    assert second.created
    items = crm.list_changes(cursor).body.items
    assert [(i.id, i.key, i.deleted) for i in items] == [(first, "r-1", True), (second.id, "r-1", False)]


def test_a_full_listing_leaves_earlier_deletions_out(crm: SqliteCrm) -> None:
    """Whoever begins now never heard of leads that are gone; the cursor doesn't bring them up later either."""
    upsert(crm, "r-1")
    crm.delete_lead(upsert(crm, "r-2").body.id)
    page = crm.list_changes().body
    assert [i.key for i in page.items] == ["r-1"]
    assert crm.list_changes(page.cursor).body.items == []


def test_edits_by_other_programs_are_changes_too(crm: SqliteCrm) -> None:
    """The file is plain SQLite: what somebody does with another program is listed."""
    upsert(crm, "r-1")
    upsert(crm, "r-2")
    cursor = crm.list_changes().body.cursor
    with sqlite3.connect(crm.path) as db:
        db.execute("UPDATE leads SET phone = '99' WHERE key = 'r-1'")
        db.execute("INSERT INTO leads (id, company) VALUES ('by-hand', 'Adatum')")
        db.execute("DELETE FROM leads WHERE key = 'r-2'")
    db.close()
    items = crm.list_changes(cursor).body.items
    assert [(i.key, i.deleted) for i in items] == [("r-1", False), (None, False), ("r-2", True)]
    assert items[1].lead.company == "Adatum"
    assert upsert(crm, "r-3", known_id="by-hand").body.id == "by-hand"


def test_cursors_belong_to_one_file(crm: SqliteCrm, tmp_path: Path) -> None:
    """A cursor of another file, or one that runs ahead of an older copy of this file, begins anew."""
    other = connect(SqliteCrm, {"path": "other.db"}, folder=str(tmp_path))
    upsert(crm)
    upsert(other)
    copy = crm.path.read_bytes()
    assert crm.list_changes(other.list_changes().body.cursor).body.full
    upsert(crm, "r-2")
    cursor = crm.list_changes().body.cursor
    assert not crm.list_changes(cursor).body.full
    crm.path.write_bytes(copy)
    assert crm.list_changes(cursor).body.full


def test_reading_makes_no_file(crm: SqliteCrm) -> None:
    assert crm.get_lead(key="r-1").body is None
    assert crm.list_leads().body == []
    assert crm.list_changes().body.items == []
    assert list(crm.check()) == []
    assert not crm.path.exists()


def test_an_empty_file_is_as_good_as_none(crm: SqliteCrm) -> None:
    crm.path.touch()
    assert crm.list_leads().body == []
    assert upsert(crm).body.created


def test_the_file_is_private(crm: SqliteCrm) -> None:
    upsert(crm)
    assert stat.S_IMODE(crm.path.stat().st_mode) == 0o600


def broken(kind: str, path: Path) -> None:
    if kind == "later":
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.close()
    elif kind == "foreign":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE customers (id)")
        db.close()
    elif kind == "noise":
        path.write_bytes(b"no database at all, but some text. " * 100)
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("later", "LaterVersion", "made by a later flowrun"),
        ("foreign", "NotOurs", "another program's database"),
        ("noise", "NotOurs", "is no SQLite database"),
        ("folder", "SQLITE_CANTOPEN", "can't be used"),
    ],
)
def test_files_that_are_not_ours(crm: SqliteCrm, kind: str, code: str, words: str) -> None:
    """Somebody else's file is never touched; check() and every operation say why, and what to do."""
    upsert(crm)
    broken(kind, crm.path)
    before = crm.path.read_bytes() if crm.path.is_file() else b""
    for operation in (lambda: upsert(crm), crm.list_leads):
        with pytest.raises(ConfigError) as caught:
            operation()
        assert (caught.value.code, bool(caught.value.hint)) == (code, True)
        assert words in caught.value.message
    [finding] = crm.check()
    assert (finding.code, finding.place.file) == (code, str(crm.path))
    assert (crm.path.read_bytes() if crm.path.is_file() else b"") == before


def test_check_of_the_folder(tmp_path: Path) -> None:
    crm = connect(SqliteCrm, {"path": "missing/leads.db"}, folder=str(tmp_path))
    [finding] = crm.check()
    assert finding.message == f"the folder {tmp_path / 'missing'} doesn't exist"
    with pytest.raises(ConfigError, match="No such file or directory"):
        upsert(crm)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_of_a_folder_that_is_not_writable(crm: SqliteCrm, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    [finding] = crm.check()
    tmp_path.chmod(0o700)
    assert finding.code == "Folder"


def test_another_writer_that_takes_too_long(crm: SqliteCrm) -> None:
    """Waiting for the lock ends with the step's time, and the engine may try again; nothing was written."""
    upsert(crm)
    db = sqlite3.connect(crm.path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with on_behalf_of(Call(deadline=0.01)), pytest.raises(TransientError) as caught:
        upsert(crm, "r-2")
    assert (caught.value.code, caught.value.answer_lost) == ("Busy", False)
    assert crm.get_lead(key="r-1").body  # readers go on
    db.execute("ROLLBACK")
    db.close()
    assert upsert(crm, "r-2").body.created


WRITER = """
import sys
from connectors.sqlite.connector import SqliteCrm
from engine.testing import connect
crm = connect(SqliteCrm, {}, folder=sys.argv[1])
sys.stdin.readline()
made = 0
for n in range(30):
    made += crm.invoke("upsert_lead", {"key": f"r-{n}", "lead": {"phone": sys.argv[2]}}).body.created
print(made)
"""


def test_two_processes_at_once(crm: SqliteCrm, tmp_path: Path) -> None:
    """Two processes that upsert the same thirty keys, beginning with no file: thirty leads, each created once."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    made = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert sum(made) == 30
    leads = crm.list_leads().body
    assert sorted(lead.key for lead in leads) == sorted(f"r-{n}" for n in range(30))
    assert {lead.lead.phone for lead in leads} <= {"a", "b"}
