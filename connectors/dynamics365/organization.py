"""The organization behind the Dataverse emulator: its rows, keys and rules, without HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NoReturn
from uuid import uuid4

from connectors.dynamics365.definitions import CAST
from connectors.dynamics365.odata import BAD_REQUEST, BREAKING, Literal, parse_key, refuse
from connectors.dynamics365.tables import INVALID, PAYLOAD, Table, load_tables
from engine import JSON, did_you_mean
from engine.sandbox import Emulator

NO_SUCH_ROW, NO_SUCH_SEGMENT = "0x80040217", "0x8006088a"
DUPLICATE_ID, DUPLICATE_KEY, DUPLICATE_DETECTED = "0x80040237", "0x80060892", "0x80040333"
WRONG_REASON = "0x80048408"

Row = dict[str, JSON]


class Organization(Emulator):
    """Rows and rules. What administrators and sales people do at the far end, without the checks of the Web API:

    `add`, `edit` and `remove` change rows, `row` and `rows` look at them; `set_key`, `deny`, `track_changes` and
    `throttle` change how the service answers.
    """

    tables: ClassVar[Mapping[str, Table]] = load_tables()
    collections: ClassVar[Mapping[str, tuple[str, str]]] = {name: (name, t.id) for name, t in tables.items()}

    def seed(self) -> None:
        """The organization's currencies, users and the leads of an earlier flow."""
        seeds = json.loads(Path(__file__).with_name("seed.json").read_text(encoding="utf-8"))
        for name, rows in seeds.items():
            for row in rows:
                self.add(name, row)

    def add(self, name: str, columns: Mapping[str, JSON]) -> Row:
        """A new row; the id may be among the columns."""
        table = self.tables[name]
        with self.store.transaction():
            return self._insert(table, columns, str(columns.get(table.id) or uuid4()))

    def edit(self, name: str, id: str, columns: Mapping[str, JSON]) -> Row:
        """A row changed by somebody in the application."""
        with self.store.transaction():
            return self._change(self.tables[name], self._existing(name, id), columns)

    def remove(self, name: str, id: str) -> None:
        """A row deleted by somebody in the application."""
        with self.store.transaction():
            self._remove(self.tables[name], self._existing(name, id))

    def row(self, name: str, id: str) -> Row | None:
        """The row with this id."""
        row: Row | None = self.store.get(name, id.lower())
        return row

    def rows(self, name: str) -> list[Row]:
        """All rows of a table, by id."""
        return [row for _, row in self.store.all(name)]

    def put_record(self, collection: str, record: Mapping[str, JSON]) -> None:
        """A row as it is given. Raises ValueError for a column that the table doesn't have."""
        table = self.tables[collection]
        for column in record.keys() - {*table.columns, table.id}:
            raise ValueError(f"{collection} has no column '{column}'; {did_you_mean(column, {*table.columns})}")
        id = str(record[table.id])
        if self.row(collection, id) is None:
            self.add(collection, record)
        else:
            self.edit(collection, id, record)

    def remove_record(self, collection: str, id: str) -> None:
        """Takes a row away."""
        self.remove(collection, id)

    def set_key(self, table: str, key: str, status: str | None) -> None:
        """Sets an alternate key's status: Pending, InProgress, Active, Failed; None deletes the key."""
        self.store.put("key status", f"{table}.{key}", {"status": status})

    def deny(self, privilege: str) -> None:
        """Takes a privilege such as prvWriteLead from the application user's role."""
        self.store.put("denied", privilege, True)

    def track_changes(self, table: str, on: bool) -> None:
        """Switches a table's change tracking."""
        self.store.put("tracked", table, on)

    def throttle(self, times: int, code: str = "0x80072322", retry_after: int = 17) -> None:
        """Refuses the next requests by a service protection limit."""
        self.store.put("throttle", "next", {"times": times, "code": code, "retry_after": retry_after})

    def _existing(self, name: str, id: str) -> Row:
        row = self.row(name, id)
        if row is None:
            raise KeyError(f"{name} has no row {id}")
        return row

    def _tracked(self, table: Table) -> bool:
        switched = self.store.get("tracked", table.set)
        return table.tracked if switched is None else bool(switched)

    def _status(self, table: Table, key: str) -> str | None:
        """An alternate key's status, None when it isn't there."""
        switched = self.store.get("key status", f"{table.set}.{key}")
        return switched["status"] if switched else "Active"

    def _resource(self, resource: str) -> tuple[Table, dict[str, Literal] | None]:
        """The table and the key in its brackets, None for the whole set."""
        name, bracket, rest = resource.partition("(")
        table = self.tables.get(name)
        if table is None or (bracket and not rest.endswith(")")):
            refuse(404, NO_SUCH_SEGMENT, f"Resource not found for the segment '{resource}'.")
        return table, self._key(table, rest[:-1]) if bracket else None

    def _key(self, table: Table, text: str) -> dict[str, Literal]:
        key = parse_key(text)
        if list(key) == [table.id]:
            key = {"": key[table.id]}
        usable = any(set(of) == set(key) and self._status(table, name) == "Active" for name, of in table.keys.items())
        if not usable and not ("" in key and key[""].kind == "guid"):
            of = f"Microsoft.Dynamics.CRM.{table.name}"
            refuse(
                400,
                BAD_REQUEST,
                f"The key in the request URI is not valid for resource '{of}'. Ensure that the names and number of "
                f"key properties match the declared or alternate key properties for the resource '{of}'.",
            )
        if any(BREAKING & set(str(value.value)) for value in key.values()):
            refuse(400, "", "A potentially dangerous Request.Path value was detected from the client.")
        return key

    def _found(self, table: Table, key: Mapping[str, Literal]) -> Row | None:
        if "" in key:
            return self.row(table.set, str(key[""].value))
        id = self.store.get(f"{table.set} by key", key_text({name: value.value for name, value in key.items()}))
        return self.row(table.set, id) if id else None

    def _missing(self, table: Table, key: Mapping[str, Literal]) -> NoReturn:
        named = ", ".join(f"{name or 'Id'} = {value.value}" for name, value in key.items())
        refuse(404, NO_SUCH_ROW, f"{table.name} With {named} Does Not Exist")

    def _checked(self, table: Table, body: Row, row: Row | None, *, detect: bool) -> Row:
        """A body as columns. Refuses what the service refuses; `detect` runs the duplicate detection rules too."""
        out: Row = {}
        for name, value in body.items():
            prop, annotation, _ = name.partition("@odata.")
            if annotation and not prop:
                continue
            if annotation:
                out |= self._bound(table, prop, value)
                continue
            column = table.columns.get(name)
            if column is None or column.read_only:
                refuse(
                    400,
                    PAYLOAD,
                    "Error identified in Payload provided by the user for Entity :'', with error The property "
                    f"'{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}', or can't be set.",
                )
            out[name] = column.accept(table.name, value)
        self._check_state(table, out, row)
        self._check_duplicates(table, out, row, detect=detect)
        return out

    def _bound(self, table: Table, prop: str, value: JSON) -> Row:
        """The lookup column set by `prop@odata.bind`."""
        if prop not in table.navigation:
            refuse(400, PAYLOAD, f"The property '{prop}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'.")
        column, targets = table.navigation[prop]
        if value is None:
            return {column: None}
        target, key = self._resource(str(value).rpartition("/")[2])
        if target.set not in targets or key is None:
            refuse(400, PAYLOAD, f"'{value}' is no reference that property '{prop}' can hold.")
        linked = self._found(target, key)
        if linked is None:
            self._missing(target, key)
        return {column: linked[target.id]}

    def _check_state(self, table: Table, columns: Row, row: Row | None) -> None:
        """The rules of state and reason. On update a closed lead takes nothing but being opened again.

        That it is read-only is documented; the code of the refusal isn't, so it is the general one.
        """
        state, reason = columns.get("statecode"), columns.get("statuscode")
        if row is None and state is not None:
            refuse(400, INVALID, f"{state} is not a valid state code on {table.name} at creation.")
        if row is not None and table.set == "leads":
            if row["statecode"] != 0 and state != 0:
                words = table.columns["statecode"].options[row["statecode"]]
                refuse(400, INVALID, f"The lead is {words} and therefore read-only.")
            if state == 1:
                refuse(400, INVALID, "A lead can be qualified by the action QualifyLead only.")
        becomes = state if state is not None else row["statecode"] if row else 0
        if reason is not None and table.state_of(reason) != becomes:
            refuse(400, WRONG_REASON, f"{reason} is not a valid status code for state code {becomes} on {table.name}.")
        if state is not None and reason is None:
            columns["statuscode"] = next(iter(table.states[state]))

    def _check_duplicates(self, table: Table, columns: Row, row: Row | None, *, detect: bool) -> None:
        """Alternate keys that are active are unique; `detect` runs the duplicate detection rule of leads too."""
        own = row[table.id] if row else None
        for name, of in table.keys.items():
            values = {column: columns.get(column, (row or {}).get(column)) for column in of}
            holder = self.store.get(f"{table.set} by key", key_text(values))
            if self._status(table, name) == "Active" and holder not in (None, own):
                refuse(
                    412,
                    DUPLICATE_KEY,
                    f"Entity Key {name} violated. A record with the same value for {', '.join(of)} already exists.",
                )
        mail = columns.get("emailaddress1")
        if detect and table.set == "leads" and mail:
            for other in self.rows("leads"):
                if other["leadid"] != own and other["emailaddress1"] == mail:
                    message = "A record was not created or updated because a duplicate of the current record exists."
                    refuse(412, DUPLICATE_DETECTED, message)

    def _insert(self, table: Table, columns: Mapping[str, JSON], id: str) -> Row:
        """Stores a new row with the service's defaults: state, the organization's currency, time."""
        row: Row = dict.fromkeys(table.columns) | {table.id: id.lower()}
        if table.states:
            row |= {"statecode": 0, "statuscode": next(iter(table.states[0]))}
        if "_transactioncurrencyid_value" in row:
            base = next(r for r in self.rows("transactioncurrencies") if r["isocurrencycode"] == "USD")
            row["_transactioncurrencyid_value"] = base["transactioncurrencyid"]
        row["createdon"] = f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        return self._change(table, row, {**columns, table.id: id.lower()})

    def _change(self, table: Table, row: Row, columns: Mapping[str, JSON]) -> Row:
        """Stores a row with new values: a new version, its name and its alternate keys brought up to date."""
        after = {**row, **columns}
        if "lastname" in after:
            after["fullname"] = " ".join(n for n in (after["firstname"], after["lastname"]) if n)[:160] or None
        after["versionnumber"] = self.store.next_number("version")
        after["modifiedon"] = f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        for of in table.keys.values():
            old, new = ({column: r.get(column) for column in of} for r in (row, after))
            if old != new:
                self.store.delete(f"{table.set} by key", key_text(old))
            if None not in new.values():
                self.store.put(f"{table.set} by key", key_text(new), after[table.id])
        self.store.put(table.set, after[table.id], after)
        return after

    def _remove(self, table: Table, row: Row) -> None:
        for of in table.keys.values():
            self.store.delete(f"{table.set} by key", key_text({column: row.get(column) for column in of}))
        self.store.delete(table.set, row[table.id])
        self.store.put(f"{table.set} deleted", row[table.id], self.store.next_number("version"))

    def _qualify(self, lead: Row, body: Mapping[str, JSON]) -> list[Row]:
        """QualifyLead: closes the lead and makes the customer's account, contact and opportunity, linked both ways."""
        table = self.tables["leads"]
        flags = {name: body.get(f"Create{name}") for name in ("Account", "Contact", "Opportunity")}
        if missing := [f"Create{name}" for name, flag in flags.items() if not isinstance(flag, bool)]:
            refuse(400, PAYLOAD, f"Required parameter missing or of the wrong type: {', '.join(missing)}.")
        if lead["statecode"] != 0:
            refuse(400, INVALID, "The lead is already closed.")
        if body.get("Status") not in (*table.states[1], -1):
            refuse(400, WRONG_REASON, f"{body.get('Status')} is not a valid status code for state code 1 on lead.")
        made: list[Row] = []
        links: Row = {"statecode": 1, "statuscode": 3}

        def make(name: str, column: str, columns: Row) -> JSON:
            of = self.tables[name]
            origin = {"_originatingleadid_value": lead["leadid"], "_ownerid_value": lead["_ownerid_value"]}
            row = self._insert(of, {**origin, **columns}, str(uuid4()))
            made.append({"@odata.type": f"#{CAST}{of.name}", of.id: row[of.id]})
            links[column] = row[of.id]
            return row[of.id]

        address = {c: lead[c] for c in lead if c.startswith("address1_") or c == "telephone1"}
        customer = lead["_parentaccountid_value"]
        if flags["Account"]:
            name = lead["companyname"] or lead["fullname"]
            customer = make("accounts", "_parentaccountid_value", {**address, "name": name})
        if flags["Contact"]:
            person = {c: lead[c] for c in ("firstname", "lastname", "jobtitle", "emailaddress1", "mobilephone")}
            make("contacts", "_parentcontactid_value", {**address, **person, "_parentcustomerid_value": customer})
        if flags["Opportunity"]:
            deal = {"name": lead["subject"], "estimatedvalue": lead["estimatedamount"], "_customerid_value": customer}
            deal |= {c: lead[c] for c in ("estimatedclosedate", "description", "_transactioncurrencyid_value")}
            make("opportunities", "_qualifyingopportunityid_value", deal)
        self._change(table, lead, links)
        return made


def etag(row: Mapping[str, JSON]) -> str:
    """A row's eTag."""
    return f'W/"{row["versionnumber"]}"'


def key_text(values: Mapping[str, JSON]) -> str:
    """An alternate key's values as one text; the database doesn't regard case."""
    return json.dumps(sorted((name, str(value).casefold()) for name, value in values.items()), ensure_ascii=False)
