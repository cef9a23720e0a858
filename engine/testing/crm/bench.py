"""What the rules stand on: the bench that a connector's author writes, samples, and how a flow calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import pytest

from engine import JSON, Call, Change, Connector, Lead, LeadResult, LeadStatus, Result
from engine.contract import CURRENT_CALL

KEY = "2f1d7a3c-5b64-4e0f-8a1b-9c2d3e4f5a6b"
OTHER_KEY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ABSENT_ID = "00000000-0000-4000-8000-00000000dead"
LEAD: Mapping[str, JSON] = {
    "title": "Fabrikam wants a pilot",
    "company": "Fabrikam",
    "first_name": "Noor",
    "last_name": "Aziz",
    "email": "noor@fabrikam.example",
    "phone": "+45 33 12 34 56",
}
FULL: Mapping[str, JSON] = {
    **LEAD,
    "job_title": "Buyer",
    "mobile": "+45 20 12 34 56",
    "website": "https://fabrikam.example",
    "street": "Vestergade 1",
    "street2": "2. sal",
    "city": "Aarhus",
    "state": "Midtjylland",
    "postal_code": "8000",
    "country": "DK",
    "description": "First line\nsecond line",
    "amount": 25000.5,
    "currency": "USD",
    "close_date": "2027-01-31",
    "source": "Partner",
}
ODD_TEXTS = (
    'O\'Brien & Søn "A/S"',
    "100 % <b>bold</b> \\ back\\slash",
    "{{ 7*7 }} {% raw %} ${env:HOME}",
    "'; drop table leads; --",
    "émoji 🙂 \U0001f469\u200d\U0001f467 \U0001d518",  # a joined pair, and a letter beyond 16 bits
    "\u05e9\u05dc\u05d5\u05dd \u202e\u05e2\u05d1\u05e8\u202c مرحبا",  # right to left, with an override
    "e\u0301 (combining) ﬁ ﷽",
    "株式会社 Ελλάδα Ωμέγα",
    "null",
    "=cmd|' /C calc'!A0",
)
ODD_KEYS = (
    *ODD_TEXTS,
    "a/b",
    "a?b#c",
    "a+b c&d=e",
    "..",
    "*",
    "k" * 5000,
    "tab\there",
    "nul\0",
    "\ud800",
)


def does_not_apply(reason: str) -> NoReturn:
    """For a hook that has no meaning for a CRM: its rules are shown as skipped, with this reason (pytest -rs)."""
    pytest.skip(f"does not apply: {reason}")


class CrmBench(ABC):
    """One fresh CRM, and a person who works in it. All hooks act on the CRM directly, not through `connect()`."""

    native: ClassVar[Mapping[str, JSON]]  # one or two fields of this CRM by their own names, with values it takes
    lacks: ClassVar[frozenset[str]] = frozenset()  # neutral fields that this CRM has no place for
    locks: ClassVar[tuple[LeadStatus, ...]] = ("qualified", "disqualified")  # in which it takes no more changes
    page: ClassVar[int] = 100  # the most leads in one page of list_changes, on this bench
    notes: ClassVar[int] = 100_000  # this many characters of `description` are kept whole, at least

    @abstractmethod
    def connect(self) -> Connector:
        """A new connector on this CRM, sharing nothing with earlier ones, as another process would make it."""

    @abstractmethod
    def insert(self, lead: Mapping[str, JSON]) -> str:
        """A person enters a lead by hand: it has no key. Returns its id."""

    @abstractmethod
    def edit(self, id: str, fields: Mapping[str, JSON]) -> None:
        """A person changes a lead; null empties a field."""

    @abstractmethod
    def finish(self, id: str, status: LeadStatus) -> None:
        """A person qualifies or disqualifies a lead."""

    @abstractmethod
    def delete(self, id: str) -> None:
        """A person deletes a lead."""

    @abstractmethod
    def count(self) -> int:
        """How many leads there are."""

    @abstractmethod
    def writes(self) -> int:
        """How many requests to change a lead have reached the CRM so far, refused ones too."""

    @abstractmethod
    def lose_answer(self) -> None:
        """The CRM carries out the next change, and the answer to it never arrives. Or does_not_apply()."""

    @abstractmethod
    def throttle(self) -> float:
        """The CRM refuses the next request as one too many; returns the seconds it asks for. Or does_not_apply()."""

    @abstractmethod
    def expire_token(self) -> None:
        """The CRM takes the access tokens issued so far no more, before their time. Or does_not_apply()."""


def upsert(crm: Connector, key: str = KEY, *, lead: Mapping[str, JSON] = LEAD, **more: JSON) -> Result[Any]:
    """upsert_lead as a flow calls it."""
    return crm.invoke("upsert_lead", {"key": key, "lead": dict(lead), **more})


def get(crm: Connector, **by: str) -> LeadResult:
    """The lead that must be there."""
    found = crm.invoke("get_lead", by).body
    assert isinstance(found, LeadResult)
    return found


def drain(crm: Connector, cursor: str | None = None, *, pages: int = 1) -> tuple[list[Change], str, bool]:
    """All changes since a cursor, the cursor after them, and whether it was a full listing; at least `pages` pages."""
    items: list[Change] = []
    seen = []
    for _ in range(100):
        page = crm.invoke("list_changes", {"cursor": cursor}).body
        items += page.items
        cursor = page.cursor
        seen.append(page.full)
        if not page.more:
            assert len(set(seen)) == 1, "the pages of one listing are all full or all not"
            assert len(seen) >= pages
            return items, page.cursor, page.full
    raise AssertionError("list_changes doesn't come to an end")


def assert_holds(lead: Lead, wanted: Mapping[str, JSON]) -> None:
    """The lead has these values; amounts are compared as numbers."""
    found = {name: getattr(lead, name) for name in wanted}
    numbers = {name: float(value) for name, value in found.items() if name == "amount" and value is not None}
    assert {**found, **numbers} == dict(wanted)


def assert_sends_nothing(bench: CrmBench, act: Callable[[], Result[Any]]) -> Result[Any]:
    """`act` finds everything as wanted: changed=False, and the CRM is asked to change nothing."""
    writes = bench.writes()
    result = act()
    assert not result.changed, result.summary
    assert bench.writes() == writes
    return result


@contextmanager
def on_behalf_of(call: Call) -> Iterator[None]:
    """What runs inside is part of this step."""
    token = CURRENT_CALL.set(call)
    try:
        yield
    finally:
        CURRENT_CALL.reset(token)
