"""Microsoft Dataverse Web API v9.2 with the Sales tables, as a strict stand-in.

It refuses what the service refuses: unknown columns, wrong types, over-long texts, choices out of their set, keys that
aren't declared or aren't active, stale eTags, changes to closed leads. The sandbox's organization holds three leads
that an earlier flow made without a key, the last of them qualified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote, urlencode
from uuid import uuid4

from connectors.dynamics365 import definitions
from connectors.dynamics365.odata import (
    BAD_REQUEST,
    GUID,
    Filter,
    ordered,
    parse_expand,
    parse_names,
    preferences,
    refuse,
)
from connectors.dynamics365.organization import DUPLICATE_ID, NO_SUCH_ROW, NO_SUCH_SEGMENT, Organization, Row, etag
from connectors.dynamics365.tables import PAYLOAD, Table
from engine import JSON, Clock
from engine.sandbox import Incoming, Reply, Store, read_token, route

ORG = "https://contoso.crm.dynamics.com"
TENANT = "5b0f4c1e-7d8a-4f1c-9a55-1d2e3f405060"
ROW_MOVED = "0x80060882"
EXPIRED_TOKEN = "0x80044352"  # noqa: S105 - an error code: ExpiredVersionStamp
THROTTLED = {
    "0x80072322": "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
    "0x80072321": "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time "
    "window of 300 seconds.",
    "0x80072326": "Number of concurrent requests exceeded the limit of 52.",
}
TOKEN_DAYS = 7  # Organization.ExpireChangeTrackingInDays
MOST = 5000  # rows in a page


class Dataverse(Organization):
    """One organization's Web API. `page_size` is the number of rows in a page if the caller doesn't ask for fewer."""

    hosts = ("contoso.crm.dynamics.com",)
    connections: ClassVar[Mapping[str, Mapping[str, JSON]]] = {
        "dynamics365": {
            "url": ORG,
            "tenant": TENANT,
            "client_id": "1a7b2c3d-4e5f-4061-9bac-1d2e3f4a5b6c",
            "client_secret": "sandbox-dynamics365-secret",
        }
    }
    page_size = MOST

    def __init__(self, store: Store | None = None, clock: Clock | None = None) -> None:
        self._seen: set[str] = set()
        self._revoked: set[str] = set()
        super().__init__(store, clock)

    def revoke_tokens(self) -> None:
        """Takes the access tokens used so far no more, though their time isn't over."""
        self._revoked |= self._seen

    # -- who calls

    def answer(self, request: Incoming) -> Reply:
        """The reply to one request, if the caller may make any."""
        if limit := self.store.get("throttle", "next"):
            left = limit["times"] - 1
            self.store.put("throttle", "next", {**limit, "times": left} if left else None)
            body = {"error": {"code": limit["code"], "message": THROTTLED[limit["code"]]}}
            return Reply(429, body, {"Retry-After": str(limit["retry_after"])})
        self._caller(request)
        if request.body and not request.headers.get("content-type", "").startswith("application/json"):
            refuse(415, "", "The request's Content-Type must be application/json.")
        if request.headers.get("odata-version", "4.0") not in ("4.0", "4.01"):
            refuse(400, BAD_REQUEST, "The OData-Version header must be 4.0.")
        reply = super().answer(request)
        return Reply(reply.status, reply.body, {"OData-Version": "4.0", **reply.headers})

    def _caller(self, request: Incoming) -> Row:
        """The application user behind the token. 401 for the token, 403 for an application that isn't a user here."""
        claims = read_token(request.bearer) if request.bearer not in self._revoked else None
        self._seen.add(request.bearer)
        now = self.clock.now().timestamp()
        known = claims is not None and str(claims.get("aud", "")).rstrip("/") == ORG and claims.get("tid") == TENANT
        if claims is None or not known or float(claims.get("exp") or 0) <= now:
            challenge = f"Bearer authorization_uri=https://login.microsoftonline.com/{TENANT}/oauth2/authorize, "
            refuse(
                401,
                "0x8005f101",
                "The requested resource requires authentication.",
                {"WWW-Authenticate": challenge + f"resource_id={ORG}/"},
            )
        users = (u for u in self.rows("systemusers") if u["applicationid"] == claims.get("appid"))
        user = next(users, None)
        if user is None or user["isdisabled"]:
            refuse(403, "0x80072560", "The user is not a member of the organization.")
        return user

    def _require(self, request: Incoming, verb: str, table: Table) -> None:
        privilege = f"prv{verb}{table.title}"
        if self.store.get("denied", privilege):
            user = self._caller(request)["systemuserid"]
            refuse(
                403,
                "0x80040220",
                f"Principal user (Id={user}, type=8) is missing {privilege} privilege for entity '{table.name}'.",
            )

    # -- routes

    @route("GET", "/api/data/{version}/{resource}")
    def read(self, request: Incoming, version: str, resource: str) -> Reply:
        self._at(version)
        if resource == "WhoAmI":
            user = self._caller(request)["systemuserid"]
            unit = "c0de0000-0000-4000-8000-00000000b001"
            return Reply(200, {"BusinessUnitId": unit, "UserId": user, "OrganizationId": unit[:-1] + "0"})
        if resource.startswith("EntityDefinitions"):
            return self._definitions(request, resource)
        table, key = self._resource(resource)
        self._require(request, "Read", table)
        if key is None:
            return self._list(request, table)
        self._options(request, "$select", "$expand")
        row = self._found(table, key)
        if row is None:
            self._missing(table, key)
        if request.headers.get("if-none-match") == etag(row):
            return Reply(304)
        context = {"@odata.context": f"{self._base(request)}/$metadata#{table.set}/$entity"}
        return Reply(200, context | self._shown(table, row, request.query))

    @route("POST", "/api/data/{version}/{resource}")
    def create(self, request: Incoming, version: str, resource: str) -> Reply:
        self._at(version)
        table, key = self._resource(resource)
        if key is not None:
            return self.wrong_method(request)
        self._require(request, "Create", table)
        self._options(request, "$select", "$expand")
        body = self._body(request)
        id = body.pop(table.id, None) or str(uuid4())
        if not isinstance(id, str) or not re.fullmatch(GUID, id):
            refuse(400, PAYLOAD, f"Cannot convert the literal '{id}' to the expected type 'Edm.Guid'.")
        return self._created(request, table, body, id.lower(), id)

    @route("PATCH", "/api/data/{version}/{resource}")
    def write(self, request: Incoming, version: str, resource: str) -> Reply:
        """Upsert; If-Match: * or an eTag forbids creating, If-None-Match: * forbids updating."""
        self._at(version)
        table, key = self._resource(resource)
        if key is None:
            return self.wrong_method(request)
        self._options(request, "$select", "$expand")
        body = self._body(request)
        match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
        row = self._found(table, key)
        body.pop(table.id, None)
        if row is None:
            if match:
                self._missing(table, key)
            self._require(request, "Create", table)
            if "" in key:
                return self._created(request, table, body, str(key[""].value), str(key[""].value))
            # A key value in the body silently wins over the one in the address.
            values = {name: value.value for name, value in key.items()} | body
            return self._created(request, table, values, str(uuid4()), resource.partition("(")[2][:-1])
        if none_match == "*":
            refuse(412, DUPLICATE_ID, "A record with matching key values already exists.")
        self._matches(row, match)
        self._require(request, "Write", table)
        # On update the key columns are dropped from the body.
        body = {name: value for name, value in body.items() if name not in key}
        changed = self._change(table, row, self._checked(table, body, row, detect=self._detects(request)))
        if preferences(request.headers.get("prefer", "")).get("return") != "representation":
            address = quote(resource, safe="()='")
            return Reply(204, None, {"OData-EntityId": f"{self._base(request)}/{address}"})
        return self._represented(request, table, changed, 200)

    @route("DELETE", "/api/data/{version}/{resource}")
    def delete(self, request: Incoming, version: str, resource: str) -> Reply:
        self._at(version)
        table, key = self._resource(resource)
        if key is None:
            return self.wrong_method(request)
        self._require(request, "Delete", table)
        row = self._found(table, key)
        if row is None:
            self._missing(table, key)
        self._matches(row, request.headers.get("if-match"))
        self._remove(table, row)
        return Reply(204)

    @route("POST", "/api/data/{version}/{resource}/{action}")
    def act(self, request: Incoming, version: str, resource: str, action: str) -> Reply:
        """The bound action QualifyLead."""
        self._at(version)
        table, key = self._resource(resource)
        if table.set != "leads" or key is None or action != "Microsoft.Dynamics.CRM.QualifyLead":
            refuse(404, NO_SUCH_SEGMENT, f"Resource not found for the segment '{action}'.")
        row = self._found(table, key)
        if row is None:
            self._missing(table, key)
        body = self._body(request)
        for verb, of in (("Write", "leads"), *(("Create", of) for of in ("accounts", "contacts", "opportunities"))):
            if verb == "Write" or body.get(f"Create{self.tables[of].title}"):
                self._require(request, verb, self.tables[of])
        context = f"{self._base(request)}/$metadata#Collection(mscrm.crmbaseentity)"
        return Reply(200, {"@odata.context": context, "value": self._qualify(row, body)})

    @route("GET", "/api/data/{version}/{resource}/{member}")
    def read_member(self, request: Incoming, version: str, resource: str, member: str) -> Reply:
        """A column's definition, or the privileges that a user holds."""
        self._at(version)
        if resource.startswith("EntityDefinitions"):
            column = definitions.attribute_of(self._defined(resource), member)
            return Reply(200, definitions.picked(definitions.of_column(column), request.query, {}))
        table, key = self._resource(resource)
        wanted = f"{definitions.CAST}RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@"
        if table.set != "systemusers" or key is None or not member.startswith(wanted):
            refuse(404, NO_SUCH_SEGMENT, f"Resource not found for the segment '{member}'.")
        names = json.loads(request.query.get(member[len(wanted) - 1 : -1], "[]"))
        held = [name for name in names if not self.store.get("denied", name)]
        return Reply(200, {"RolePrivileges": [{"Depth": "Global", "PrivilegeName": name} for name in held]})

    @route("GET", "/api/data/{version}/{resource}/{member}/{cast}")
    def read_choice(self, request: Incoming, version: str, resource: str, member: str, cast: str) -> Reply:
        """A choice column's definition, with its labels."""
        self._at(version)
        column = definitions.attribute_of(self._defined(resource), member)
        if cast != f"{definitions.CAST}PicklistAttributeMetadata" or column.kind != "choice":
            refuse(404, NO_SUCH_SEGMENT, f"Resource not found for the segment '{cast}'.")
        return Reply(200, definitions.picked(definitions.of_column(column, options=True), request.query, {}))

    def not_found(self, request: Incoming) -> Reply:
        message = f"No HTTP resource was found that matches the request URI '{request.path}'."
        return Reply(404, {"error": {"code": "", "message": message}})

    def wrong_method(self, request: Incoming) -> Reply:
        message = f"The requested resource does not support http method '{request.method}'."
        return Reply(405, {"error": {"code": "", "message": message}})

    # -- addresses

    def _at(self, version: str) -> None:
        if version not in ("v9.0", "v9.1", "v9.2"):
            refuse(404, "", f"There is no Web API {version}.")

    def _base(self, request: Incoming) -> str:
        return f"https://{request.host}{request.path[: request.path.index('/v9') + 5]}"

    def _options(self, request: Incoming, *allowed: str) -> None:
        for name in request.query:
            if name not in allowed:
                refuse(400, BAD_REQUEST, f"The query parameter {name} is not supported.")

    def _body(self, request: Incoming) -> Row:
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            refuse(400, PAYLOAD, "Error identified in Payload provided by the user: a JSON object was expected.")
        return body

    def _detects(self, request: Incoming) -> bool:
        """Duplicate detection is off for API writes unless it is asked for."""
        return request.headers.get("mscrm.suppressduplicatedetection", "").lower() == "false"

    def _matches(self, row: Row, match: str | None) -> None:
        if match not in (None, "*", etag(row)):
            refuse(412, ROW_MOVED, "The version of the existing record doesn't match the RowVersion property provided.")

    # -- reading

    def _shown(self, table: Table, row: Row, query: Mapping[str, str]) -> Row:
        """A row by $select and $expand; its id and eTag are always there."""
        names = parse_names(query["$select"]) if "$select" in query else list(table.columns)
        out: Row = {"@odata.etag": etag(row)}
        out |= {table.column(name).name: row.get(name) for name in names}
        out[table.id] = row[table.id]
        for name, columns in parse_expand(query.get("$expand", "")).items():
            if name not in table.navigation:
                table.column(name)
            column, targets = table.navigation[name]
            found = ((self.tables[each], self.row(each, str(row.get(column)))) for each in targets)
            target, linked = next((pair for pair in found if pair[1]), (self.tables[targets[0]], None))
            select = {"$select": columns} if columns else {}
            for each in parse_names(columns) if columns else ():
                target.column(each)
            out[name] = self._shown(target, linked, select) if linked else None
        return out

    def _list(self, request: Incoming, table: Table) -> Reply:
        prefer = preferences(request.headers.get("prefer", ""))
        if (
            "odata.track-changes" in prefer
            or "$deltatoken" in request.query
            or "!" in request.query.get("$skiptoken", "")
        ):
            return self._changes(request, table, prefer)
        allowed = ("$select", "$filter", "$orderby", "$top", "$expand", "$count", "$skiptoken")
        self._options(request, *allowed)
        query = request.query
        rows: list[Any] = self.rows(table.set)
        if "$filter" in query:
            rows = list(filter(Filter(query["$filter"], table.kind_of), rows))
        if "$orderby" in query:
            rows = ordered(rows, query["$orderby"], table.kind_of)
        body: Row = {"@odata.context": f"{self._base(request)}/$metadata#{table.set}"}
        if query.get("$count") == "true":
            body["@odata.count"] = min(len(rows), MOST)
        size, start = self._page(prefer), self._number(query.get("$skiptoken", "0"))
        if "$top" in query:
            rows, size = rows[: self._number(query["$top"])], MOST
        body["value"] = [self._shown(table, row, query) for row in rows[start : start + size]]
        if len(rows) > start + size:
            body["@odata.nextLink"] = self._link(request, table, {**query, "$skiptoken": str(start + size)})
        applied = {"Preference-Applied": f"odata.maxpagesize={size}"} if "odata.maxpagesize" in prefer else {}
        return Reply(200, body, applied)

    def _page(self, prefer: Mapping[str, str]) -> int:
        return min(self._number(prefer.get("odata.maxpagesize", str(self.page_size))) or MOST, MOST)

    def _number(self, text: str) -> int:
        if not text.isdecimal():
            refuse(400, BAD_REQUEST, f"Invalid value '{text}': a non-negative integer was expected.")
        return int(text)

    def _link(self, request: Incoming, table: Table, query: Mapping[str, str]) -> str:
        return f"{self._base(request)}/{table.set}?{urlencode(query, quote_via=quote, safe='$,')}"

    def _changes(self, request: Incoming, table: Table, prefer: Mapping[str, str]) -> Reply:
        """Change tracking: rows by version, then what was deleted, in pages, up to the version of the first page."""
        for name in ("$filter", "$orderby", "$expand", "$top"):
            if name in request.query:
                message = f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
                refuse(400, BAD_REQUEST, message)
        self._options(request, "$select", "$deltatoken", "$skiptoken")
        if not self._tracked(table):
            refuse(400, "", f"Change tracking is not enabled for entity: {table.name}.")
        token = request.query.get("$deltatoken", "")
        since = self._since(token) if token else 0
        upto = self._number(str(self.store.get("counter", "version") or 0))
        after = (0, 0)
        if skip := request.query.get("$skiptoken"):
            phase, version, upto = (self._number(part) for part in skip.split("!"))
            after = (phase, version)
        found = [(0, int(row["versionnumber"]), self._shown(table, row, request.query)) for row in self.rows(table.set)]
        if since:
            for id, version in self.store.all(f"{table.set} deleted"):
                context = f"{self._base(request)}/$metadata#{table.set}/$deletedEntity"
                found.append((1, version, {"@odata.context": context, "id": id, "reason": "deleted"}))
        found = sorted((f for f in found if since < f[1] <= upto and f[:2] > after), key=lambda f: f[:2])
        page = found[: self._page(prefer)]
        query = {name: value for name, value in request.query.items() if name in ("$select", "$deltatoken")}
        body: Row = {"@odata.context": f"{self._base(request)}/$metadata#{table.set}" + ("/$delta" if since else "")}
        if len(found) > len(page):
            body["@odata.nextLink"] = self._link(
                request, table, {**query, "$skiptoken": f"{page[-1][0]}!{page[-1][1]}!{upto}"}
            )
        else:
            mark = f"{upto}!{self.clock.now():%m/%d/%Y %H:%M:%S}"
            body["@odata.deltaLink"] = self._link(request, table, {**query, "$deltatoken": mark})
        body["value"] = [shown for _, _, shown in page]
        return Reply(200, body, {"Preference-Applied": "odata.track-changes"})

    def _since(self, token: str) -> int:
        """The version in a delta token. Refuses one that is older than a week.

        The documentation says "an exception" and gives no status: 400 is what the Web API makes of those.
        """
        match = re.fullmatch(r"(\d+)!(\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)", token)
        if not match:
            refuse(400, BAD_REQUEST, "The delta token is malformed.")
        issued = datetime.strptime(match[2], "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
        if self.clock.now() - issued > timedelta(days=TOKEN_DAYS):
            message = "Version stamp associated with the client has expired. Please perform a full sync."
            refuse(400, EXPIRED_TOKEN, message)
        return int(match[1])

    def _defined(self, resource: str) -> Table:
        name = resource.removeprefix("EntityDefinitions(LogicalName='").removesuffix("')")
        table = next((t for t in self.tables.values() if t.name == name), None)
        if table is None:
            refuse(404, NO_SUCH_ROW, f"Could not find an entity with specified name: {name}.")
        return table

    def _definitions(self, request: Incoming, resource: str) -> Reply:
        self._options(request, "$select", "$filter", "$expand")
        single = resource != "EntityDefinitions"
        chosen = [self._defined(resource)] if single else list(self.tables.values())
        items = {table.name: definitions.of_table(table, self._tracked(table)) for table in chosen}
        kept = definitions.filtered(list(items.values()), request.query.get("$filter", ""))
        shown = []
        for table in chosen:
            if items[table.name] in kept:
                keys = [(name, of, self._status(table, name)) for name, of in table.keys.items()]
                inner = {
                    "Keys": [definitions.of_key(name, of, status) for name, of, status in keys if status],
                    "Attributes": [definitions.of_column(column) for column in table.columns.values()],
                }
                shown.append(definitions.picked(items[table.name], request.query, inner))
        return Reply(200, shown[0] if single else {"value": shown})

    # -- writing

    def _created(self, request: Incoming, table: Table, body: Row, id: str, address: str) -> Reply:
        if self.row(table.set, id):
            refuse(412, DUPLICATE_ID, "Cannot insert duplicate key.")
        columns = self._checked(table, body, None, detect=self._detects(request))
        if "_ownerid_value" in table.columns:
            columns.setdefault("_ownerid_value", self._caller(request)["systemuserid"])
        row = self._insert(table, columns, id)
        if preferences(request.headers.get("prefer", "")).get("return") != "representation":
            place = quote(address, safe="='")
            return Reply(204, None, {"OData-EntityId": f"{self._base(request)}/{table.set}({place})"})
        return self._represented(request, table, row, 201)

    def _represented(self, request: Incoming, table: Table, row: Row, status: int) -> Reply:
        context = {"@odata.context": f"{self._base(request)}/$metadata#{table.set}/$entity"}
        shown = self._shown(table, row, request.query)
        return Reply(status, context | shown, {"Preference-Applied": "return=representation"})
