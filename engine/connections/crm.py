"""The CRM protocol: what a connector offers to be *the CRM* of a flow, over one neutral lead.

`upsert_lead`, `get_lead` and `list_changes` mean the same in every CRM, so a flow swaps its CRM by one word. Vendors'
own operations stand beside them under their own names. engine.testing.crm holds the conformance kit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from engine.contract import Difference, Result
from engine.types import JSON, Doc, Pattern

LeadStatus: TypeAlias = Literal["open", "qualified", "disqualified"]
Amount: TypeAlias = float | Annotated[str, Pattern(r"-?\d+(\.\d+)?", "a number")] | None
Date: TypeAlias = Annotated[str, Pattern(r"\d{4}-\d{2}-\d{2}([T ].*)?", "a date such as 2026-11-24")]


@dataclass(frozen=True, kw_only=True)
class Lead:
    """A lead in neutral words. Null or absent leaves a field of the CRM alone."""

    title: Annotated[str | None, Doc("Subject line")] = None
    company: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    job_title: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile: str | None = None
    website: str | None = None
    street: str | None = None
    street2: str | None = None
    city: str | None = None
    state: Annotated[str | None, Doc("State or province")] = None
    postal_code: str | None = None
    country: str | None = None
    description: Annotated[str | None, Doc("Notes")] = None
    amount: Annotated[Amount, Doc("Expected value of the deal, in `currency`")] = None
    currency: Annotated[str | None, Doc("ISO 4217 code, such as USD")] = None
    close_date: Annotated[Date | None, Doc("Expected close date")] = None
    source: Annotated[str | None, Doc("Where the lead comes from, by the CRM's own label, such as Partner")] = None
    native: Annotated[Mapping[str, JSON], Doc("Fields of this CRM by their own names")] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The neutral fields that say something (no nulls, without `native`)."""
        return {f.name: v for f in fields(self) if f.name != "native" and (v := getattr(self, f.name)) is not None}


def difference(id: str | None, before: Lead | None, after: Lead, given: Iterable[str]) -> Difference:
    """What a plan shows of a lead; `given` names the neutral fields that a flow has said something about."""
    was, will = before or Lead(), after
    changes = {
        name: (getattr(was, name), getattr(will, name))
        for name in NEUTRAL_FIELDS
        if getattr(was, name) != getattr(will, name)
    }
    changes |= {
        f"native.{name}": (was.native.get(name), value)
        for name, value in will.native.items()
        if was.native.get(name) != value
    }
    action: Literal["create", "update", "leave"] = "create" if before is None else "update" if changes else "leave"
    named = f"lead {id[:8]}…" if id else "lead"
    return Difference(named, action, changes, len([name for name in given if name not in changes]))


NEUTRAL_FIELDS = tuple(f.name for f in fields(Lead) if f.name != "native")


@dataclass(frozen=True, kw_only=True)
class LeadResult:
    """A lead as it now is in the CRM."""

    id: Annotated[str, Doc("The CRM's own id of the lead")]
    key: Annotated[str | None, Doc("The id of the record it mirrors")]
    lead: Lead
    status: Annotated[LeadStatus, Doc("open, qualified (became a customer's opportunity) or disqualified (lost)")]
    created: Annotated[bool, Doc("This call created it")] = False
    read_only: Annotated[bool, Doc("The CRM takes no more changes to it")] = False
    url: Annotated[str | None, Doc("Where a person opens it")] = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One lead that changed since the cursor; `lead` is null when it was deleted."""

    id: str
    key: str | None = None
    deleted: bool = False
    status: LeadStatus = "open"
    lead: Lead | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some changes, oldest first, and where to go on. `more` says that the next page is there already."""

    items: list[Change]
    cursor: str
    more: bool = False
    full: Annotated[bool, Doc("A resync: every lead is listed, not only changed ones")] = False


class CRM(Protocol):
    """What every CRM connector offers. Errors are those of `engine.errors`."""

    def upsert_lead(
        self,
        key: str,
        lead: Lead,
        on_create: Lead | None = None,
        known_id: str | None = None,
        clear: list[str] | None = None,
    ) -> Result[LeadResult]:
        """Create or change the one lead that mirrors the record `key`.

        `lead` is kept equal at every call; `on_create` is written once, at creation, and then belongs to the CRM.
        `clear` names fields to empty. A row without a key whose id is `known_id` is adopted (gets the key); a row
        whose key is another is left alone. Values are compared after the CRM's own normalising (lengths, dates,
        labels): where nothing differs, nothing is sent and the result says changed=False. A lead that the CRM holds
        read-only is a normal result. Idempotent: repeated, or by two callers at once, there is one lead.
        """
        ...

    def get_lead(self, id: str | None = None, key: str | None = None) -> Result[LeadResult | None]:
        """The lead by the CRM's id or by key; body null where there is none."""
        ...

    def list_changes(self, cursor: str | None = None) -> Result[Page]:
        """Leads created, changed or deleted since `cursor`, each once, in the order of change.

        Without a cursor: all leads (full=True). An expired cursor is no error: all leads again, full=True.
        """
        ...
