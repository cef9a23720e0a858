"""Every CRM connector that ships keeps the rules of the CRM protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.emulator import Dataverse
from connectors.entra.emulator import Entra
from connectors.sqlite.connector import PAGE, SqliteCrm
from engine import LeadStatus
from engine.sandbox import Faults, Incoming, Reply
from engine.testing import FakeClock, connect
from engine.testing.crm import CrmBench, CrmConformance, does_not_apply


class SqliteBench(CrmBench):
    """A person acts by the connector's own operations, through another connection than the tests'."""

    native: ClassVar = {"rating": 3, "tags": ["north", "pilot"], "hot": True}
    page = PAGE

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.person = self.connect()

    def connect(self) -> SqliteCrm:
        return connect(SqliteCrm, {}, folder=self.folder)

    def insert(self, lead: Mapping[str, Any]) -> str:
        return self.person.invoke("create_lead", {"lead": dict(lead)}).body.id

    def edit(self, id: str, fields: Mapping[str, Any]) -> None:
        emptied = [name for name, value in fields.items() if value is None]
        self.person.invoke("edit_lead", {"id": id, "fields": dict(fields), "clear": emptied})

    def finish(self, id: str, status: LeadStatus) -> None:
        self.person.set_status(id, status)

    def delete(self, id: str) -> None:
        self.person.delete_lead(id)

    def count(self) -> int:
        return len(self.person.list_leads().body)

    def writes(self) -> int:
        with self.person._file() as db:  # every change takes the next number
            return db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]

    def lose_answer(self) -> None:
        does_not_apply("a local file gives no answer that could be lost on the way")

    def throttle(self) -> float:
        does_not_apply("a local file counts no requests")

    def expire_token(self) -> None:
        does_not_apply("a local file asks for no token")


class CountingDataverse(Dataverse):
    """Counts the requests that would change a lead; five rows a page, so that a few leads make several."""

    page_size = 5

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.writes = 0

    def answer(self, request: Incoming) -> Reply:
        self.writes += request.method != "GET"
        return super().answer(request)


class Dynamics365Bench(CrmBench):
    """A person acts on the emulator's rows."""

    native: ClassVar = {"leadqualitycode": 1, "middlename": "Q."}
    page = CountingDataverse.page_size
    notes = 1900  # lead.description holds 2000 UTF-16 units
    columns: ClassVar = {
        "title": "subject",
        "company": "companyname",
        "first_name": "firstname",
        "last_name": "lastname",
        "email": "emailaddress1",
        "phone": "telephone1",
        "job_title": "jobtitle",
        "city": "address1_city",
    }

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.dataverse = CountingDataverse(self.clock)
        self.faults = Faults(self.dataverse)
        self.entra = Entra(clock=self.clock)

    def connect(self) -> Dynamics365:
        settings = Dataverse.connections["dynamics365"]
        return connect(Dynamics365, settings, self.faults, self.entra, clock=self.clock)

    def insert(self, lead: Mapping[str, Any]) -> str:
        return str(self.dataverse.add("leads", {self.columns[name]: value for name, value in lead.items()})["leadid"])

    def edit(self, id: str, fields: Mapping[str, Any]) -> None:
        self.dataverse.edit("leads", id, {self.columns[name]: value for name, value in fields.items()})

    def finish(self, id: str, status: LeadStatus) -> None:
        state = {"qualified": {"statecode": 1, "statuscode": 3}, "disqualified": {"statecode": 2, "statuscode": 4}}
        self.dataverse.edit("leads", id, state[status])

    def delete(self, id: str) -> None:
        self.dataverse.remove("leads", id)

    def count(self) -> int:
        return len(self.dataverse.rows("leads"))

    def writes(self) -> int:
        return self.dataverse.writes

    def lose_answer(self) -> None:
        self.faults.once += [("PATCH", "/leads", "lost")]

    def throttle(self) -> float:
        self.dataverse.throttle(1, retry_after=17)
        return 17

    def expire_token(self) -> None:
        self.dataverse.revoke_tokens()


class TestDynamics365(CrmConformance):
    @pytest.fixture
    def bench(self) -> Dynamics365Bench:
        return Dynamics365Bench()


class TestSqlite(CrmConformance):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> SqliteBench:
        return SqliteBench(tmp_path)

    def test_what_does_not_apply_is_said(self, bench: SqliteBench) -> None:
        """Exactly the three faults of the way to a remote CRM are left out, and each says why."""
        for hook in (bench.lose_answer, bench.throttle, bench.expire_token):
            with pytest.raises(pytest.skip.Exception, match="does not apply: a local file"):
                hook()
