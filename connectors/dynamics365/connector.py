"""Microsoft Dynamics 365 Sales, and any other app on Dataverse, by the Web API v9.2.

Leads are tied to the records they mirror by an alternate key of the lead table: the service itself sees to it that
there is one lead for a record, whoever writes and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from connectors.dynamics365 import leads, readiness
from connectors.dynamics365.leads import COLUMNS, CURRENCY, FIELDS, SOURCES, STATES, TEXTS
from connectors.dynamics365.rows import BACK, CREATE_ONLY, Rows, Texts
from connectors.dynamics365.webapi import BREAKING, GUID, MOVED, TRACK_CHANGES, Row, key_path, row_path, text_literal
from engine import (
    JSON,
    UNKNOWN,
    Change,
    ConfigError,
    DataError,
    Doc,
    Finding,
    FlowrunError,
    Lead,
    LeadResult,
    Page,
    RemoteError,
    Result,
    TransientError,
    difference,
    operation,
)

ATTEMPTS = 4  # one, and three more where others wrote in between
LONGEST_KEY = 450  # UTF-16 units: an alternate key holds 900 bytes


@dataclass(frozen=True, kw_only=True)
class Qualified:
    """What became of a qualified lead; an id is null where nothing of the kind was made."""

    columns: ClassVar[Mapping[str, str]] = {
        "account_id": "_parentaccountid_value",
        "contact_id": "_parentcontactid_value",
        "opportunity_id": "_qualifyingopportunityid_value",
    }

    id: str
    account_id: Annotated[str | None, Doc("The customer's account")] = None
    contact_id: Annotated[str | None, Doc("The person")] = None
    opportunity_id: Annotated[str | None, Doc("The deal")] = None


@dataclass(frozen=True)
class Wish:
    """What a call of upsert_lead asks for: values that say something, by neutral name and by column."""

    key: str
    given: Mapping[str, Any]
    native: Row
    first: Mapping[str, Any]
    first_native: Row
    clear: Texts


@dataclass
class Notes:
    """What couldn't be written as it was given."""

    shortened: Texts = field(default_factory=list)
    left_out: Texts = field(default_factory=list)

    def after(self, sentence: str) -> str:
        """The sentence of the live view, with these notes."""
        cut = [f"shortened: {', '.join(self.shortened)}"] if self.shortened else []
        return "; ".join([sentence, *cut, *self.left_out])


class Dynamics365(Rows):
    """Microsoft Dataverse Web API v9.2: the CRM protocol over `lead`, and the rows of any table.

    The app registration is an application user of the environment, with a role that may create, read and write leads.
    A text column of lead (`key_column`) is declared as an alternate key; `flowrun connections check` says how.
    """

    _key_is_active = False

    @operation(effect="idempotent", plans=True)
    def upsert_lead(
        self,
        key: str,
        lead: Lead,
        on_create: Lead | None = None,
        known_id: str | None = None,
        clear: Texts | None = None,
    ) -> Result[LeadResult]:
        """Create or change the one lead that mirrors the record `key`.

        `lead` is kept equal at every call, `on_create` is written once, at creation. `clear` names fields to empty
        (`native.COLUMN` for a column of lead's own). A lead without a key whose id is `known_id` is adopted. `native`
        takes columns by their own names: choices by label or number, lookups as {table, id} or as NAME@odata.bind.
        A qualified or disqualified lead is left alone. Texts that are too long are shortened, and an amount in a
        currency that the environment doesn't have is left out: the summary says so.
        Raises DataError for a value that the column can't take, ConfigError where the alternate key isn't declared.
        """
        if reason := _unusable(key):
            raise DataError(f"key {key[:60]!r} can't be used: {reason}", code="BadKey")
        wish = self._wish(key, lead, on_create or Lead(), clear)
        query = {"$select": self._select({*wish.native, *wish.first_native, *wish.clear})}
        failure: FlowrunError = RemoteError("the lead kept changing while it was written", code=MOVED)
        for _ in range(ATTEMPTS):
            row = self._by_key(key, query)
            if row is None and known_id and GUID.fullmatch(known_id):
                row = self.find(row_path("leads", known_id), query)
                if row and not _same_key(row.get(self.settings.key_column) or key, key):
                    row = None  # another record's lead
            outcome = self._update(wish, row, query) if row else self._create(wish, query)
            if isinstance(outcome, Result):
                return outcome
            failure = outcome
        raise failure

    @operation(effect="read")
    def get_lead(self, id: str | None = None, key: str | None = None) -> Result[LeadResult | None]:
        """The lead by Dataverse's id or by key; body null where there is none. Raises DataError without either."""
        row = self._lead(id, key, {"$select": self._select(())})
        if row is None:
            return Result(body=None, summary="no such lead")
        return Result(body=self._result(row), summary=f"found lead {_short(row)}")

    @operation(effect="read")
    def list_changes(self, cursor: str | None = None) -> Result[Page]:
        """Leads created, changed or deleted since `cursor`, each once, in the order of change; deletions come last.

        Without a cursor, or with one that the service takes no more (after 7 days): all leads, with full=True.
        Raises ConfigError where change tracking is off for lead.
        """
        kind, _, path = (cursor or "").partition(" ")
        body = self._continued(path) if kind in ("full", "delta") and path.startswith("leads?") else None
        full = kind == "full" or body is None
        if body is None:
            answer = self.send("GET", "leads", {"$select": self._select(())}, headers={"Prefer": "odata.track-changes"})
            if answer.status_code != 200:
                raise self.failure(answer)
            body = self.content(answer)
        more = body.get("@odata.nextLink")
        link = more or body.get("@odata.deltaLink")
        if not link:
            raise ConfigError("Dataverse gave no delta link for lead", code="NoChangeTracking", hint=TRACK_CHANGES)
        items: dict[str, Change] = {}
        for change in map(self._change, body.get("value") or []):
            items.pop(change.id, None)
            items[change.id] = change
        state = "full" if more and full else "delta"
        page = Page(items=[*items.values()], cursor=f"{state} {self.follow(link)}", more=bool(more), full=full)
        rest = ", more to come" if more else ""
        return Result(body=page, summary=f"{len(items)} {'leads' if full else 'changes'}{rest}")

    @operation(effect="idempotent")
    def qualify_lead(
        self,
        id: str | None = None,
        key: str | None = None,
        create_account: bool = True,
        create_contact: bool = True,
        create_opportunity: bool = True,
    ) -> Result[Qualified]:
        """Qualify a lead, by id or by key: it closes, and account, contact and opportunity are made from it.

        A lead that is qualified already is a normal result. Raises RemoteError for one that is disqualified or absent.
        """
        query = {"$select": ",".join(("leadid", "statecode", *Qualified.columns.values()))}
        lead = self._lead(id, key, query)
        if lead is None:
            raise RemoteError("there is no such lead", code="NoLead", status=404)
        path = row_path("leads", str(lead["leadid"]))
        made: Row = {}
        changed = lead["statecode"] == 0
        if changed:
            flags = {"CreateAccount": create_account, "CreateContact": create_contact}
            body = {**flags, "CreateOpportunity": create_opportunity, "Status": 3}
            answer = self.send("POST", f"{path}/Microsoft.Dynamics.CRM.QualifyLead", body=body)
            lead = self.find(path, query) or lead
            if answer.status_code == 200:
                made = {k: v for each in self.content(answer).get("value") or [] for k, v in each.items()}
            elif answer.status_code != 204:
                changed = False
                if lead["statecode"] != 1:  # else somebody was faster
                    raise self.failure(answer)
        if lead["statecode"] == 2:
            raise RemoteError(f"lead {_short(lead)} is disqualified: reopen it first", code="Disqualified")
        ids = {n: lead.get(c) or made.get(n.replace("_", "")) for n, c in Qualified.columns.items()}
        summary = f"{'qualified' if changed else 'already qualified:'} lead {_short(lead)}"
        return Result(body=Qualified(id=str(lead["leadid"]), **ids), changed=changed, summary=summary)

    def check(self) -> Iterator[Finding]:
        """Token, reach, alternate key, rights, change tracking."""
        return readiness.findings(self)

    # Finding

    def _lead(self, id: str | None, key: str | None, query: Mapping[str, str]) -> Row | None:
        if id:
            return self.find(row_path("leads", id), query) if GUID.fullmatch(id) else None
        if not key:
            raise DataError("id or key is needed", code="MissingInput")
        return None if _unusable(key) else self._by_key(key, query)

    def _by_key(self, key: str, query: Mapping[str, str]) -> Row | None:
        """The lead with this key. Some characters can't stand in an address, but a filter takes them."""
        column = self.settings.key_column
        if BREAKING.isdisjoint(key):
            return self.find(key_path("leads", {column: key}), query)
        return next(self.pages("leads", {**query, "$filter": f"{column} eq {text_literal(key)}"}), None)

    def _select(self, native: Iterable[str]) -> str:
        own = ("leadid", self.settings.key_column, "statecode", *COLUMNS.values())
        return ",".join(dict.fromkeys((*own, *sorted(map(leads.read_column, native)))))

    def _continued(self, path: str) -> Row | None:
        """What the service answers to a link of its own, None where it takes it no more."""
        answer = self.send("GET", path)
        if answer.status_code in (400, 404, 410):
            return None
        if answer.status_code != 200:
            raise self.failure(answer)
        return self.content(answer)

    # Writing

    def _wish(self, key: str, lead: Lead, on_create: Lead, clear: Texts | None) -> Wish:
        """The inputs without what says nothing. Raises DataError for a wrong `clear` or `native`."""
        given, first = (
            {n: v for n, v in each.given().items() if not isinstance(v, str) or v.strip()} for each in (lead, on_create)
        )
        native, first_native = (
            self.payload("leads", {n: v for n, v in each.native.items() if v is not None}) for each in (lead, on_create)
        )
        for name, value in (native | first_native).items():
            if name in (self.settings.key_column, "leadid"):
                raise DataError(f"native.{name} is what upsert_lead itself writes", code="OwnColumn")
            if name in native and name.endswith("@odata.bind") and leads.reference(value) is None:
                raise DataError(
                    f"native.{name}: a lookup that is kept equal needs the row's id",
                    code="WrongValue",
                    hint="/set(GUID), or {table, id}; by alternate key it may stand in on_create",
                )
        emptied = leads.emptied(clear, given, native)
        first = {n: v for n, v in first.items() if COLUMNS[n] not in emptied}
        first_native = {n: v for n, v in first_native.items() if n not in emptied}
        return Wish(key, given, native, first, first_native, emptied)

    def _create(self, wish: Wish, query: Mapping[str, str]) -> Result[LeadResult] | FlowrunError:
        """A new lead; an error as the result where somebody was faster, whose lead is to be looked at first."""
        notes = Notes()
        given = {**wish.first, **wish.given}
        body = self._columns(given, wish.first_native | wish.native, notes)
        # Forms insist on a last name and a topic, so a lead without them couldn't be saved by a person.
        for name, others in (("last_name", ("company", "title")), ("title", ("company", "last_name"))):
            instead = next((str(given[other]) for other in others if other in given), "")
            if COLUMNS[name] not in body and instead:
                body[COLUMNS[name]] = leads.text_of(name, instead)[0]
        column = self.settings.key_column
        if self.ctx.planning:
            blank = {"leadid": UNKNOWN, column: wish.key, "statecode": 0}
            return self._foreseen(wish, None, _read_back(blank, body), notes.after("a new lead"))
        if BREAKING.isdisjoint(wish.key):
            path = key_path("leads", {column: wish.key})
            answer = self.send("PATCH", path, query, body, headers=CREATE_ONLY)
        else:
            self._insist_on_key()
            answer = self.send("POST", "leads", query, {**body, column: wish.key}, headers=BACK)
        if self.raced(answer):
            return self.failure(answer)
        if answer.status_code not in (200, 201, 204):
            raise self.failure(answer)
        row = self._after(answer) or self._by_key(wish.key, query)
        if row is None:
            raise TransientError("the lead was created, and isn't there", code="Vanished", answer_lost=True)
        summary = notes.after(f"created lead {_short(row)}")
        return Result(body=self._result(row, wish, created=True), changed=True, summary=summary)

    def _update(self, wish: Wish, row: Row, query: Mapping[str, str]) -> Result[LeadResult] | FlowrunError:
        """Writes what differs, and the key to a lead that has none; an error as the result where the row moved on."""
        status = STATES.get(row["statecode"], "open")
        if status != "open":
            summary = f"lead {_short(row)} is {status}: read-only, left alone"
            return Result(body=self._result(row, wish), summary=summary)
        notes = Notes()
        given = dict(wish.given)
        if "amount" in given and "currency" not in given and "currency" in wish.first:
            here, there = self.iso_code(row), str(wish.first["currency"]).strip().upper()
            if here not in (None, there):
                del given["amount"]
                notes.left_out.append(f"the lead is in {here} by now, not in {there}: amount left out")
        wanted = dict.fromkeys(wish.clear) | self._columns(given, wish.native, notes)
        changes = {column: value for column, value in wanted.items() if not leads.same(column, value, row)}
        names = [FIELDS.get(column) or f"native.{column.removesuffix('@odata.bind')}" for column in changes]
        adopted = not row.get(self.settings.key_column)
        if adopted:
            changes[self.settings.key_column] = wish.key
        if not changes or self.ctx.planning:
            said = f"updated: {', '.join(names)}" if names else "already up to date"
            said = f"adopted lead {_short(row)}; {said}" if adopted else said
            return self._foreseen(wish, row, _read_back(row, changes), notes.after(said), changed=bool(changes))
        path = row_path("leads", str(row["leadid"]))
        etag = str(row.get("@odata.etag") or "*")
        answer = self.send("PATCH", path, query, changes, headers=BACK | {"If-Match": etag})
        if self.raced(answer) or self.absent(answer):
            return self.failure(answer)
        if answer.status_code not in (200, 201, 204):
            raise self.failure(answer)
        after = self._after(answer) or self.find(path, query) or row
        done = [f"adopted lead {_short(row)}"] if adopted else []
        done += [f"updated: {', '.join(names)}"] if names else []
        return Result(body=self._result(after, wish), changed=True, summary=notes.after("; ".join(done)))

    def _foreseen(
        self, wish: Wish, before: Row | None, after: Row, said: str, *, changed: bool = True
    ) -> Result[LeadResult]:
        """What a write would come to, or came to without one."""
        then = self._result(after, wish, created=before is None)
        id, now = (str(before["leadid"]), self._result(before, wish).lead) if before else (None, None)
        shown = difference(id, now, then.lead, wish.given)
        return Result(body=then, changed=changed, summary=said, differences=[shown])

    def _after(self, answer: Any) -> Row | None:
        """The lead in the answer to a write, None where the service sent none."""
        body = self.content(answer) if answer.status_code != 204 and answer.content else {}
        return body if "statecode" in body else None

    def _columns(self, given: Mapping[str, Any], native: Mapping[str, JSON], notes: Notes) -> Row:
        """Columns and values as they are sent. Raises DataError for what a column can't take."""
        out: Row = {}
        for name in (n for n in TEXTS if n in given):
            value, cut = leads.text_of(name, str(given[name]))
            if value is not None:
                out[COLUMNS[name]] = value
            if cut:
                notes.shortened.append(name)
        money_fits = True
        if "currency" in given:
            iso = str(given["currency"]).strip().upper()
            id = self.currency_id(iso)
            money_fits = id is not None
            if id:
                out[CURRENCY] = f"/transactioncurrencies({id})"
            else:
                notes.left_out.append(f"{iso[:10]} isn't set up in the CRM: amount left out")
        if "amount" in given and money_fits:
            out["estimatedamount"] = leads.money(given["amount"])
        if "close_date" in given:
            out["estimatedclosedate"] = leads.day(str(given["close_date"]))
        if "source" in given:
            out["leadsourcecode"] = self.choice("leads", "leadsourcecode", given["source"], SOURCES)
        return out | {name: leads.native_value(name, value) for name, value in native.items()}

    def _insist_on_key(self) -> None:
        """Raises ConfigError unless the alternate key is active: without it a POST would make doubles."""
        if not self._key_is_active:
            if readiness.key_status(self, readiness.definition(self)) != "Active":
                message = f"{self.settings.key_column} is no active alternate key of lead"
                raise ConfigError(message, code="NoKey", hint=self.key_remedy())
            self._key_is_active = True

    # Reading back

    def _result(self, row: Row, wish: Wish | None = None, *, created: bool = False) -> LeadResult:
        asked = wish.first_native | wish.native if wish else {}
        names = sorted({leads.read_column(name) for name in asked} - {*COLUMNS.values()})
        id, status = row["leadid"], STATES.get(row["statecode"], "open")
        return LeadResult(
            id=id,
            key=row.get(self.settings.key_column),
            lead=leads.neutral(row, self.iso_code(row), self.source(row), {name: row.get(name) for name in names}),
            status=status,
            created=created,
            read_only=status != "open",
            url=UNKNOWN if id is UNKNOWN else f"{self.org}/main.aspx?etn=lead&id={id}&pagetype=entityrecord",
        )

    def _change(self, row: Row) -> Change:
        if row.get("reason") == "deleted" or "$deletedEntity" in str(row.get("@odata.context")):
            found = GUID.search(str(row.get("id")))
            return Change(id=found[0].lower() if found else str(row.get("id")), deleted=True)
        lead = self._result(row)
        return Change(id=lead.id, key=lead.key, status=lead.status, lead=lead.lead)


def _read_back(row: Row, written: Mapping[str, JSON]) -> Row:
    """A row as it would be read after columns were written."""
    values = {n: leads.reference(v) if n.endswith("@odata.bind") else v for n, v in written.items()}
    return row | {leads.read_column(name): value for name, value in values.items()}


def _short(row: Row) -> str:
    return f"{str(row['leadid'])[:8]}…"


def _same_key(one: Any, other: str) -> bool:
    return str(one).casefold() == other.casefold()  # the service doesn't regard case


def _unusable(key: str) -> str:
    """Why a key can't be kept in a text column, or nothing."""
    if not key.strip():
        return "it is blank"
    if key != leads.tidy(key):
        return "it begins or ends with a blank, or holds a control character"
    return "" if leads.units(key) <= LONGEST_KEY else f"it is longer than {LONGEST_KEY} characters"
