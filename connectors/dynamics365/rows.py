"""Operations on the rows of any Dataverse table, by entity set name (`leads`, `accounts`, `new_projects`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias
from uuid import UUID, uuid4, uuid5

from connectors.dynamics365 import leads
from connectors.dynamics365.catalog import Catalog
from connectors.dynamics365.webapi import GUID, Row, key_path, row_path, set_name
from engine import JSON, DataError, Doc, Guid, Range, Result, operation

# `list` is an operation below, so annotations in its class name the builtin through these.
Texts: TypeAlias = list[str]
RowList: TypeAlias = list[Row]

Table: TypeAlias = Annotated[str, Doc("The table's entity set name, such as leads")]
Values: TypeAlias = Annotated[
    Mapping[str, JSON],
    Doc(
        "Columns by logical name; null empties. Lookups are {table, id} or NAME@odata.bind, choices a number or {label}"
    ),
]
Select: TypeAlias = Annotated[Texts | None, Doc("The columns wanted; without it all of them")]

MOST = 5000
BACK = {"Prefer": "return=representation"}
CREATE_ONLY = BACK | {"If-None-Match": "*"}
UPDATE_ONLY = BACK | {"If-Match": "*"}
STEPS = UUID("6f1c2c0e-9a55-4f0b-8d59-0b8c5d2f9a10")  # namespace of the ids made from idempotency keys


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Some rows; `more` says that there are others beyond `max_items`."""

    value: RowList
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class Upserted:
    """A row as it now is, and whether this call created it."""

    row: Row
    created: bool


class Rows(Catalog):
    """create, get, list, update, upsert, delete."""

    @operation(effect="idempotent")
    def create(self, table: Table, row: Values, select: Select = None) -> Result[Row]:
        """A new row; body: the row as it is then.

        Its id is made from the step's idempotency key, so that repeating the step finds the row that it made.
        Raises DataError for a column or value that the table doesn't take, RemoteError where an alternate key is taken.
        """
        key = self.ctx.idempotency_key
        path = row_path(table, str(uuid5(STEPS, f"{key} {table}") if key else uuid4()))
        query = _selected(select)
        answer = self.send("PATCH", path, query, self.payload(table, row), headers=CREATE_ONLY)
        if self.raced(answer):
            if mine := self.find(path, query):
                return Result(body=mine, summary=f"created by an earlier attempt: {path}")
            raise self.failure(answer)
        return Result(body=self.returned(answer, path, query), changed=True, summary=f"created {path}")

    @operation(effect="read")
    def get(self, table: Table, id: Guid, select: Select = None) -> Result[Row | None]:
        """The row with this id; body null where there is none."""
        found = self.find(row_path(table, id), _selected(select))
        return Result(body=found, summary=f"found {table}({id})" if found else "no such row")

    @operation(effect="read")
    def list(
        self,
        table: Table,
        filter: Annotated[str | None, Doc("OData, such as statecode eq 0 and createdon ge 2026-01-01")] = None,
        *,
        select: Select = None,
        order_by: Annotated[str | None, Doc("Such as createdon desc")] = None,
        top: Annotated[int | None, Range(1, MOST)] = None,
        max_items: Annotated[int, Range(1, None)] = MOST,
    ) -> Result[Listed]:
        """Rows of a table, all pages up to `max_items`."""
        query = _selected(select)
        query |= {"$filter": filter} if filter else {}
        query |= {"$orderby": order_by} if order_by else {}
        query |= {"$top": str(top)} if top else {}
        rows: RowList = []
        for row in self.pages(set_name(table), query):
            if len(rows) == max_items:
                return Result(body=Listed(value=rows, more=True), summary=f"the first {max_items} {table}")
            rows.append(row)
        return Result(body=Listed(value=rows), summary=f"{len(rows)} {table}")

    @operation(effect="idempotent")
    def update(self, table: Table, id: Guid, row: Values, select: Select = None) -> Result[Row]:
        """Change the named columns of a row that is there; body: the row as it is then. Raises RemoteError (404)."""
        path, query = row_path(table, id), _selected(select)
        answer = self.send("PATCH", path, query, self.payload(table, row), headers=UPDATE_ONLY)
        return Result(body=self.returned(answer, path, query), changed=True, summary=f"updated {path}")

    @operation(effect="idempotent")
    def upsert(
        self,
        table: Table,
        key: Annotated[Mapping[str, JSON], Doc("The columns of an alternate key and their values")],
        row: Values,
        select: Select = None,
    ) -> Result[Upserted]:
        """Create or change the row with this alternate key.

        Raises DataError for a key that can't be addressed, ConfigError where these columns aren't declared as a key.
        """
        path, query = key_path(table, key), _selected(select)
        answer = self.send("PATCH", path, query, self.payload(table, row), headers=BACK)
        if self.raced(answer):  # both of two first upserts may find nothing: the later one then finds the row
            answer = self.send("PATCH", path, query, self.payload(table, row), headers=BACK)
        created = answer.status_code == 201
        body = Upserted(row=self.returned(answer, path, query), created=created)
        return Result(body=body, changed=True, summary=f"{'created' if created else 'updated'} a row of {table}")

    @operation(effect="idempotent")
    def delete(self, table: Table, id: Guid) -> Result[bool]:
        """Delete a row; body false where there was none."""
        answer = self.send("DELETE", row_path(table, id))
        gone = self.absent(answer)
        if not gone and answer.status_code not in (200, 204):
            raise self.failure(answer)
        return Result(body=not gone, changed=not gone, summary="already gone" if gone else f"deleted {table}({id})")

    def returned(self, answer: Any, path: str, query: Mapping[str, str]) -> Row:
        """The row that a write gave back, or asked for where the service sent none. Raises the answer's error."""
        if answer.status_code not in (200, 201, 204):
            raise self.failure(answer)
        wanted = query.get("$select", "").split(",")
        body = self.content(answer) if answer.status_code != 204 and answer.content else {}
        if any(name not in body for name in wanted if name) or not body:
            body = self.find(path, query) or body
        return body

    def payload(self, table: str, row: Mapping[str, JSON]) -> Row:
        """A row as the Web API takes it: {table, id} becomes a reference, {label} a choice's number.

        Choices of `leads` that ship with it may be given by a bare label too.
        """
        out: Row = {}
        for name, value in row.items():
            if isinstance(value, Mapping) and set(value) == {"table", "id"} and GUID.fullmatch(str(value["id"])):
                out[f"{name}@odata.bind"] = f"/{row_path(str(value['table']), str(value['id']))}"
            elif isinstance(value, Mapping) and set(value) == {"label"}:
                out[name] = self.choice(table, name, value["label"])
            elif isinstance(value, Mapping):
                raise DataError(
                    f"{name}: an object is a lookup, {{table, id}}, or a choice, {{label}}", code="WrongValue"
                )
            elif table == "leads" and name in leads.CHOICES and isinstance(value, str):
                known = leads.SOURCES if name == "leadsourcecode" else None
                out[name] = self.choice(table, name, value, known)
            else:
                if table == "leads":
                    leads.fit(name, value)
                out[name] = value
        return out


def _selected(select: Texts | None) -> dict[str, str]:
    return {"$select": ",".join(select)} if select else {}
