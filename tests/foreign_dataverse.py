"""A foreign Dataverse: the Web API v9.2 over lead and currencies, by Microsoft's pages on it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NoReturn

import foreign_tables as tables
from foreign_entra import Token
from foreign_tables import KEY, LEAD, ODATA, SETS, TYPES, Column
from foreign_wire import Answer, Ask, Now, refuse

CRM = "contoso.crm.dynamics.com"
RESOURCE = f"https://{CRM}"
ROOT = "/api/data/v9.2/"
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ADDRESS = re.compile(r"(\w+)(?:\((.*)\))?")
BREAKING = frozenset("/<>*%&:\\?+")  # no alternate key that holds one can be addressed
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udfff]")  # what XML can't hold
PAYLOAD = (
    "Error identified in Payload provided by the user for Entity :'leads', For more information on this error please "
    "follow this help link https://go.microsoft.com/fwlink/?linkid=2195293  ---->  InnerException : "
    "Microsoft.OData.ODataException: "
)
USER = "7f6a1f0e-0c2b-4f5d-8c11-3a5b7c9d1e2f"
USD, EUR, GBP = (f"c0000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
PRIVILEGES = ("prvCreateLead", "prvReadLead", "prvWriteLead", "prvAppendLead", "prvAppendToLead")


def fail(status: int, code: str, message: str) -> NoReturn:
    refuse(status, {"error": {"code": code, "message": message}}, {"OData-Version": "4.0"}, ODATA)


class Dataverse:
    """One organization.

    `key_status` is that of the alternate key on lead ("" without one), `tells` whether it serves its definitions.
    """

    def __init__(self, now: Now, verify: Callable[[str], Token | None]) -> None:
        self.now = now
        self.verify = verify
        self.key_status = "Active"
        self.tells = True
        self.rows: dict[str, dict[str, dict[str, Any]]] = {"leads": {}, "transactioncurrencies": {}}
        self.written: list[tuple[str, str, dict[str, Any]]] = []  # method, lead id, body
        self.version = 4_711_000
        for id, code in ((USD, "USD"), (EUR, "EUR"), (GBP, "GBP")):
            self.set_up(code, id)

    @property
    def leads(self) -> list[dict[str, Any]]:
        return [*self.rows["leads"].values()]

    def lead(self, key: str) -> dict[str, Any]:
        """The one lead with this key."""
        (row,) = [row for row in self.leads if (row[KEY] or "").lower() == key.lower()]
        return row

    def set_up(self, code: str, id: str = "") -> None:
        """A currency that an administrator sets up."""
        id = id or str(uuid.uuid4())
        row = dict.fromkeys(tables.CURRENCY) | {"transactioncurrencyid": id, "isocurrencycode": code}
        row |= {"currencyname": code, "currencysymbol": code, "currencyprecision": 2, "statecode": 0}
        self.rows["transactioncurrencies"][id] = {**row, "exchangerate": 1.0, "@odata.etag": self._etag()}

    def add(self, **values: Any) -> str:
        """A lead as a person enters it; its id."""
        return str(self._create({}, values)["leadid"])

    def edit(self, id: str, **values: Any) -> None:
        """What a person changes."""
        self.rows["leads"][id] |= {**values, "@odata.etag": self._etag()}

    def answer(self, ask: Ask) -> Answer:
        headers = {"OData-Version": "4.0", "x-ms-service-request-id": str(uuid.uuid4()), "REQ_ID": str(uuid.uuid4())}
        if self.verify(ask.bearer) is None:
            challenge = f"Bearer authorization_uri=https://login.microsoftonline.com/common, resource_id={RESOURCE}/"
            refuse(401, "HTTP Error 401 - Unauthorized: Access is denied", {"WWW-Authenticate": challenge}, "text/html")
        for name in ("OData-Version", "OData-MaxVersion"):
            if ask.header(name) != "4.0":
                fail(400, "0x80060888", f"The {name} header must be 4.0.")
        if "application/json" not in ask.header("Accept"):
            fail(406, "0x80060888", "Only application/json is served.")
        if not ask.path.startswith(ROOT):
            refuse(404, "<html><head><title>404</title></head></html>", kind="text/html")
        answer = self._route(ask, ask.path.removeprefix(ROOT))
        return Answer(answer.status, answer.body, {**headers, **answer.headers}, ODATA)

    def _route(self, ask: Ask, path: str) -> Answer:
        if path in ("WhoAmI", "WhoAmI()"):
            body = {"@odata.context": f"{RESOURCE}{ROOT}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"}
            return Answer(200, {**body, "BusinessUnitId": USER, "UserId": USER, "OrganizationId": USER})
        if path.startswith("EntityDefinitions") and self.tells:
            return self._definition(ask, path)
        if path.startswith(f"systemusers({USER})/Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames("):
            asked = json.loads(ask.query["@names"])
            held = [{"PrivilegeName": n, "Depth": "Global", "PrivilegeId": USER} for n in asked if n in PRIVILEGES]
            return Answer(200, {"RolePrivileges": held})
        match = ADDRESS.fullmatch(path)
        if match is None or match[1] not in SETS:
            fail(404, "0x80060888", f"Resource not found for the segment '{path.partition('(')[0]}'.")
        name, key = match[1], match[2]
        match ask.method:
            case "GET" if key is None:
                return self._list(ask, name)
            case "GET":
                self._options(ask, {"$select", "$expand"})
                row = self._find(name, key)
                if row is None:
                    self._missing(name, key)
                seen = self._shown(ask, name, row)
                if ask.header("If-None-Match") == row["@odata.etag"]:
                    return Answer(304, None, {"ETag": str(row["@odata.etag"])})
                context = f"{RESOURCE}{ROOT}$metadata#{name}({','.join(seen)})/$entity"
                return Answer(200, {"@odata.context": context, **seen}, {"ETag": str(row["@odata.etag"])})
            case "PATCH" if key is not None and name == "leads":
                return self._upsert(ask, key)
            case "POST" if key is None and name == "leads":
                row = self._create({}, self._body(ask))
                return self._written(ask, row, f"leads({row['leadid']})", created=True)
        fail(405, "0x80060888", f"The requested resource does not support http method '{ask.method}'.")

    # Reading

    def _options(self, ask: Ask, known: set[str]) -> dict[str, str]:
        asked = ask.query
        if unknown := {name for name in asked if name.startswith("$")} - known:
            fail(400, "0x80060888", f"The query parameter {', '.join(sorted(unknown))} is not supported.")
        if "$expand" in asked:
            fail(501, "0x80060888", "This organization expands nothing here.")
        return asked

    def _find(self, name: str, key: str) -> dict[str, Any] | None:
        """The row that stands in brackets: by GUID or by alternate key."""
        if GUID.fullmatch(key):
            return self.rows[name].get(key.lower())
        column, equals, literal = key.partition("=")
        if name == "leads" and column == "leadid" and GUID.fullmatch(literal):
            return self.rows[name].get(literal.lower())
        if name != "leads" or column != KEY or not equals or self.key_status != "Active":
            fail(400, "0x80060888", f"The key in the request URI is not valid for resource "
                 f"'Microsoft.Dynamics.CRM.{SETS[name]}'. Ensure that the names and number of key properties match "
                 "the specified properties in the resource definition.")  # fmt: skip
        text = _text(literal)
        if text is None or not BREAKING.isdisjoint(text):
            fail(400, "0x80060888", f"Bad Request - Error in query syntax at '{literal}'.")
        return next((row for row in self.leads if (row[KEY] or "").casefold() == text.casefold()), None)

    def _missing(self, name: str, key: str) -> NoReturn:
        if GUID.fullmatch(key):
            fail(404, "0x80040217", f"Entity '{SETS[name]}' With Id = {key} Does Not Exist")
        fail(404, "0x80060891", f"A record with the specified key values does not exist in {SETS[name]} entity")

    def _shown(self, ask: Ask, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns asked for, with what always comes along."""
        columns, chosen = TYPES[SETS[name]], self._chosen(ask, name)
        if name == "leads" and any(columns[c].kind == "money" for c in chosen):
            chosen.append("_transactioncurrencyid_value")
        id = f"{SETS[name]}id"
        seen = {"@odata.etag": row["@odata.etag"], **{c: row[c] for c in chosen}, id: row[id]}
        if ask.prefers.get("odata.include-annotations") in ("*", "OData.Community.Display.V1.FormattedValue"):
            for c in chosen:
                if columns[c].options and row[c] is not None:
                    seen[f"{c}@OData.Community.Display.V1.FormattedValue"] = columns[c].options[row[c]]
        return seen

    def _chosen(self, ask: Ask, name: str) -> list[str]:
        columns, select = TYPES[SETS[name]], ask.query.get("$select")
        chosen = [part.strip() for part in select.split(",")] if select is not None else [*columns]
        for column in chosen:
            if column not in columns:
                what = f"Could not find a property named '{column}' on type 'Microsoft.Dynamics.CRM.{SETS[name]}'."
                fail(400, "0x80060888", what)
        return chosen

    def _list(self, ask: Ask, name: str) -> Answer:
        asked = self._options(ask, {"$select", "$filter", "$top"})
        self._chosen(ask, name)
        rows = [*self.rows[name].values()]
        for part in re.split(r"\s+and\s+", asked["$filter"]) if "$filter" in asked else ():
            found = re.fullmatch(r"(\w+)\s+eq\s+('(?:[^']|'')*'|\d+|null|[0-9a-fA-F-]{36})", part.strip())
            if found is None or found[1] not in TYPES[SETS[name]]:
                fail(400, "0x80060888", f"Could not understand '{part}' of $filter.")
            literal = found[2]
            number = int(literal) if literal.isdigit() else literal.lower()
            wanted = None if literal == "null" else _text(literal) if literal.startswith("'") else number
            rows = [row for row in rows if _same(row[found[1]], wanted)]
        seen = [self._shown(ask, name, row) for row in rows[: int(asked.get("$top", "5000"))]]
        return Answer(200, {"@odata.context": f"{RESOURCE}{ROOT}$metadata#{name}", "value": seen})

    def _definition(self, ask: Ask, path: str) -> Answer:
        """A table's definition, one of its columns, or all its columns of a type."""
        asked = ask.query
        if unknown := {name for name in asked if name.startswith("$")} - {"$select", "$expand"}:
            fail(400, "0x80060888", f"The query parameter {', '.join(unknown)} is not supported.")
        kind = r"(?:/Microsoft\.Dynamics\.CRM\.(\w+))?"
        pattern = rf"EntityDefinitions\(LogicalName='(\w+)'\)(?:/(Attributes)(?:\(LogicalName='(\w+)'\))?{kind})?"
        match = re.fullmatch(pattern, path)
        if match is None or match[1] not in TYPES:
            fail(404, "0x80060888", "Could not find an entity with the specified name.")
        table, attributes, name, cast = match.groups()
        if attributes is None:
            return Answer(200, tables.cut(asked, tables.entity(table, self.key_status, True), tables.TABLE_MEMBERS))
        members = (*tables.ATTRIBUTE_MEMBERS,)
        if name is not None:
            found = tables.attribute(table, name)
            if found is None or (cast and not tables.cast_fits(found, cast)):
                fail(404, "0x80060888", f"Could not find an attribute '{name}' of type {cast} on '{table}'.")
            return Answer(200, tables.cut(asked, found, members))
        names = [c.removeprefix("_").removesuffix("_value") for c in TYPES[table]]
        every = [a for a in (tables.attribute(table, n) for n in names) if a is not None]
        chosen = [tables.cut(asked, a, members) for a in every if not cast or tables.cast_fits(a, cast)]
        return Answer(200, {"value": chosen})

    # Writing

    def _body(self, ask: Ask) -> dict[str, Any]:
        if ask.header("Content-Type").partition(";")[0].strip() != "application/json":
            fail(415, "0x80060888", "The media type of the body is not supported.")
        self._options(ask, {"$select"})
        try:
            body = ask.json()
        except ValueError as error:
            fail(400, "0x80048d19", f"{PAYLOAD}{error}")
        if not isinstance(body, dict):
            fail(400, "0x80048d19", f"{PAYLOAD}An object was expected.")
        return body

    def _upsert(self, ask: Ask, key: str) -> Answer:
        body = self._body(ask)
        row, match = self._find("leads", key), ask.header("If-Match")
        if row is not None and ask.header("If-None-Match") == "*":
            fail(412, "0x80040237", "A record with matching key values already exists.")
        if row is None and match:
            self._missing("leads", key)
        if row is not None and match not in ("", "*", row["@odata.etag"]):
            what = "The version of the existing record doesn't match the RowVersion property provided."
            fail(412, "0x80060882", what)
        if row is not None:
            return self._written(ask, self._update(row, body), f"leads({key})", created=False)
        given = {"leadid": key.lower()} if GUID.fullmatch(key) else {KEY: _text(key.partition("=")[2])}
        return self._written(ask, self._create(given, body), f"leads({key})", created=True)

    def _create(self, given: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        if forbidden := {"statecode", "statuscode"} & body.keys():
            fail(400, "0x80048d19", f"{PAYLOAD}{', '.join(forbidden)} is not valid for create.")
        values = {**given, **self._values(body)}
        id = str(values.get("leadid") or uuid.uuid4())
        stamp = f"{datetime.fromtimestamp(self.now(), UTC):%Y-%m-%dT%H:%M:%SZ}"
        row: dict[str, Any] = {**dict.fromkeys(LEAD), "statecode": 0, "statuscode": 1, "createdon": stamp}
        row |= {**values, "leadid": id, "_ownerid_value": values.get("_ownerid_value") or USER}
        self._unique(row)
        self._save(row)
        self.written.append(("POST", id, dict(body)))
        return row

    def _update(self, row: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        values = self._values({k: v for k, v in body.items() if k != "leadid"})
        if row["statecode"] != 0 and values.keys() - {"statecode", "statuscode"}:
            fail(400, "0x80040203", "The lead is not open: it can't be changed.")
        changed = {**row, **values}
        self._unique(changed)
        self._save(changed)
        self.written.append(("PATCH", str(row["leadid"]), dict(body)))
        return changed

    def _save(self, row: dict[str, Any]) -> None:
        row["fullname"] = " ".join(p for p in (row["firstname"], row["lastname"]) if p) or None
        money = any(row[name] is not None for name, column in LEAD.items() if column.kind == "money")
        if money and row["_transactioncurrencyid_value"] is None:
            row["_transactioncurrencyid_value"] = USD  # the organization's own
        row["modifiedon"] = f"{datetime.fromtimestamp(self.now(), UTC):%Y-%m-%dT%H:%M:%SZ}"
        row["@odata.etag"] = self._etag()
        row["versionnumber"] = self.version
        self.rows["leads"][str(row["leadid"])] = row

    def _unique(self, row: Mapping[str, Any]) -> None:
        others = [r for r in self.leads if r["leadid"] != row["leadid"] and _same(r[KEY], row[KEY])]
        if row[KEY] is not None and others:
            fail(412, "0x80060892", f"A record that has the attribute values {KEY} already exists. The entity key "
                 "new_ReferralKey requires that this set of attributes contains unique values.")  # fmt: skip

    def _etag(self) -> str:
        self.version += 3
        return f'W/"{self.version}"'

    def _written(self, ask: Ask, row: Mapping[str, Any], address: str, *, created: bool) -> Answer:
        headers = {"OData-EntityId": f"{RESOURCE}{ROOT}{address}"}
        if ask.prefers.get("return") != "representation":
            return Answer(204, None, headers)
        seen = self._shown(ask, "leads", row)
        body = {"@odata.context": f"{RESOURCE}{ROOT}$metadata#leads/$entity", **seen}
        return Answer(201 if created else 200, body, {**headers, "Preference-Applied": "return=representation"})

    def _values(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that a body sets, each in its stored form."""
        out: dict[str, Any] = {}
        for name, value in body.items():
            if name.endswith("@odata.bind"):
                out |= self._bound(name.removesuffix("@odata.bind"), value)
            elif name in LEAD and LEAD[name].kind != "lookup":
                if not LEAD[name].writable and name != "leadid":
                    fail(400, "0x80048d19", f"{PAYLOAD}The property '{name}' is read only.")
                out[name] = None if value is None else _stored(name, LEAD[name], value)
            elif not name.startswith("@"):
                fail(400, "0x80048d19", f"{PAYLOAD}The property '{name}' does not exist on type "
                     "'Microsoft.Dynamics.CRM.lead'. Make sure to only use property names that are defined by the "
                     "type.")  # fmt: skip
        return out

    def _bound(self, name: str, value: Any) -> dict[str, Any]:
        column = LEAD.get(f"_{name}_value")
        match = re.fullmatch(r"/?(\w+)\(([0-9a-fA-F-]{36})\)", str(value))
        if column is None or not column.writable or match is None:
            fail(400, "0x80048d19", f"{PAYLOAD}'{name}' can't be bound to '{value}'.")
        if column.target == "transactioncurrency" and self.rows.get(match[1], {}).get(match[2].lower()) is None:
            fail(404, "0x80040217", f"Entity '{column.target}' With Id = {match[2]} Does Not Exist")
        return {f"_{name}_value": match[2].lower()}


def _stored(name: str, column: Column, value: Any) -> Any:
    """A value as the column keeps it. Refuses what it can't take."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    wrong = f"{PAYLOAD}Cannot convert the literal '{value}' to the expected type '{column.edm}'."
    match column.kind:
        case "text" | "memo" if isinstance(value, str):
            if CONTROL.search(value):
                fail(400, "0x80040203", f"'{name}' holds an invalid character.")
            if len(value.encode("utf-16-le")) // 2 > column.most:
                fail(400, "0x80044331", f"A validation error occurred.  The length of the '{name}' attribute of the "
                     f"'lead' entity exceeded the maximum allowed length of '{column.most}'.")  # fmt: skip
            return value or None
        case "money" if number:
            if not 0 <= value <= column.high:
                fail(400, "0x80044330", f"A validation error occurred.  The value of '{name}' on record of type "
                     "'lead' is outside the valid range.")  # fmt: skip
            return float(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))
        case "whole" if isinstance(value, int) and number and 0 <= value <= column.high:
            return value
        case "choice" | "state" if isinstance(value, int) and number:
            if value not in column.options:
                fail(400, "0x8004431a", f"A validation error occurred. The value {value} of '{name}' on record of "
                     "type 'lead' is outside the valid range.")  # fmt: skip
            return value
        case "flag" if isinstance(value, bool):
            return value
        case "guid" if isinstance(value, str) and GUID.fullmatch(value):
            return value.lower()
        case "date" if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            try:
                day = date.fromisoformat(value)
            except ValueError:
                fail(400, "0x80048d19", wrong)
            if day < date(1753, 1, 1):
                fail(400, "0x80040239", f"DateTime is less than minimum value supported by CrmDateTime. Actual value: "
                     f"{day:%m/%d/%Y} 00:00:00, Minimum value supported: 01/01/1753 00:00:00")  # fmt: skip
            return value
    fail(400, "0x80048d19", wrong)


def _text(literal: str) -> str | None:
    """A text literal of an address."""
    if not re.fullmatch(r"'(?:[^']|'')*'", literal):
        return None
    return literal[1:-1].replace("''", "'")


def _same(a: Any, b: Any) -> bool:
    """Equal as SQL Server compares: texts without regard to case."""
    return a.casefold() == b.casefold() if isinstance(a, str) and isinstance(b, str) else bool(a == b)
