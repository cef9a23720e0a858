"""Referrals of every shape for the foreign Partner Center, and what the flow promises of the lead behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foreign_dataverse import USD, Dataverse
from foreign_partner import sample

NOTES = "🥐 " + '{{ 7*7 }} "quoted" \\ é\r\n' * 3000
ODD = "'; drop table leads;-- {{ 7*7 }} ${env:PC_SECRET} <b>&amp;</b> \u202egnp 🥐"
MOST = {"subject": 300, "companyname": 100, "firstname": 50, "lastname": 50, "address1_line1": 250,
        "address1_line2": 250, "address1_city": 80, "address1_stateorprovince": 50, "address1_postalcode": 20,
        "address1_country": 80, "description": 2000}  # fmt: skip


def _profile(**properties: Any) -> dict[str, Any]:
    return {**sample("")["customerProfile"], **properties}


def _details(**properties: Any) -> dict[str, Any]:
    return {**sample("")["details"], **properties}


def _person(first: str | None, last: str | None, **more: Any) -> dict[str, Any]:
    return {"firstName": first, "lastName": last, "phoneNumber": None, "email": None, **more}


def _bare(id: str) -> dict[str, Any]:
    """All null but what the service itself needs."""
    kept = ("id", "engagementId", "status", "substatus", "createdDateTime", "updatedDateTime", "type")
    whole = sample(id)
    profile = {"name": "Bare Ltd", "address": None, "size": None, "team": None, "ids": None}
    return {**dict.fromkeys(whole), **{k: whole[k] for k in kept}, "customerProfile": profile}


def _absent(id: str) -> dict[str, Any]:
    """Members without a value aren't there at all."""
    short = {k: v for k, v in _bare(id).items() if v is not None}
    return {**short, "customerProfile": {"name": "Absent GmbH"}, "details": {"notes": "hm"}}


# What makes each one special. The id comes from outside.
SHAPES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "full": sample,
    "bare": _bare,
    "absent": _absent,
    "no profile": lambda id: {**_bare(id), "name": "Only a name", "customerProfile": None},
    "empty texts": lambda id: sample(
        id,
        name="",
        externalReferenceId="",
        customerProfile=_profile(team=[_person("", "")]),
        details=_details(notes=""),
    ),
    "odd texts": lambda id: sample(
        id,
        name=f"  {ODD}\t",
        customerProfile=_profile(
            name=f"Co \x0b{ODD}"[:90], team=[_person("Zoë \x00", 'O\'Brien "x"', phoneNumber="☎ 1")]
        ),
        details=_details(notes=f"{ODD}\r\n\r\n{ODD}\n"),
    ),
    "other scripts": lambda id: sample(
        id, name="見積り", customerProfile=_profile(name="Bäckerei Größ & Söhne", team=[_person("Ğül", "Çelik")])
    ),
    "too long": lambda id: sample(
        id,
        name="n" * 400,
        customerProfile=_profile(
            name="c" * 150,
            team=[_person("f" * 60, "l" * 60)],
            address={"addressLine1": "s" * 300, "city": "c" * 100, "postalCode": "9" * 30, "state": "🥐" * 40},
        ),
        details=_details(notes=NOTES),
    ),
    "nobody has a name": lambda id: sample(
        id, customerProfile=_profile(team=[_person(None, "", email="info@tailspin.example")])
    ),
    "the second has a name": lambda id: sample(
        id, customerProfile=_profile(team=[_person(None, None), _person(None, "Named", email="n@tailspin.example")])
    ),
    "other forms": lambda id: sample(
        id,
        details=_details(dealValue="8000.10", currency="EUR", closingDateTime="2027-03-31T23:30:00.1234567+05:30"),
        updatedDateTime="2026-11-19T17:30:05.9999999+00:00",
    ),
    "nothing to earn": lambda id: sample(id, details=_details(dealValue=0, currency="GBP")),
    "cents": lambda id: sample(id, details=_details(dealValue=19.99)),
    "unknown currency": lambda id: sample(id, details=_details(currency="JPY")),
    "no currency": lambda id: sample(id, details=_details(currency=None)),
    "loud id": lambda id: sample(id.upper()),
    "new": lambda id: sample(id, status="New", substatus="Pending", direction="Outgoing"),
    "closed": lambda id: sample(id, status="Closed", substatus="Won"),
    "numbered": lambda id: sample(id, externalReferenceId="CRM-4711"),
    "lead is gone": lambda id: sample(id, externalReferenceId="99999999-0000-4000-8000-000000000000"),
    "adopted": lambda id: sample(id, externalReferenceId=known(id).upper()),
}
ID, WORTH, CURRENCY = "/externalReferenceId", "/details/dealValue", "/details/currency"
# What goes back to the referral where it isn't the lead's id alone: somebody else's id stays, and so does one that is
# there; the CRM owns the amount, and its currency where the referral names none.
BACK: Mapping[str, list[str]] = {
    "closed": [], "numbered": [], "lead is gone": [], "adopted": [WORTH], "no currency": [ID, CURRENCY],
}  # fmt: skip


def known(id: str) -> str:
    """The id of the lead that a person had entered for an adopted referral."""
    return f"aaaaaaaa{id[8:]}"


def prepare(crm: Dataverse, shape: str, id: str) -> None:
    """What has to be in the CRM for a shape."""
    if shape == "adopted":
        crm.add(leadid=known(id), subject="typed by hand", lastname="Hand", jobtitle="Buyer", estimatedamount=77.0)


def expected(shape: str, referral: Mapping[str, Any], crm: Dataverse) -> dict[str, Any]:
    """The columns of the lead that the flow makes of a referral, as the service keeps them."""
    currencies = {row["isocurrencycode"]: id for id, row in crm.rows["transactioncurrencies"].items()}
    profile, details = referral.get("customerProfile") or {}, referral.get("details") or {}
    team, address = profile.get("team") or [], profile.get("address") or {}
    person = next((p for p in team if p["firstName"] or p["lastName"]), team[0] if team else {})
    company = profile.get("name")
    title = referral.get("name") if referral.get("name") is not None else company
    closing = details.get("closingDateTime")
    row = {
        "new_referralid": referral["id"],
        "subject": title or company,
        "companyname": company,
        "firstname": person.get("firstName"),
        "lastname": person.get("lastName") or company or title,
        "emailaddress1": person.get("email"),
        "telephone1": person.get("phoneNumber"),
        "address1_line1": address.get("addressLine1"),
        "address1_line2": address.get("addressLine2"),
        "address1_city": address.get("city"),
        "address1_stateorprovince": address.get("state"),
        "address1_postalcode": address.get("postalCode"),
        "address1_country": address.get("country"),
        "description": details.get("notes"),
    }
    row = {name: _kept(name, text) for name, text in row.items()}
    if shape == "adopted":
        return {**row, "jobtitle": "Buyer", "estimatedamount": 77.0, "leadsourcecode": None}
    amount, currency = details.get("dealValue"), details.get("currency")
    worth = amount is not None and currency in (None, *currencies)
    row |= {
        "estimatedamount": round(float(amount or 0), 2) if worth else None,
        "_transactioncurrencyid_value": currencies.get(str(currency), USD if worth else None),
        "estimatedclosedate": closing[:10] if closing else None,
        "leadsourcecode": 4,
    }
    return row


def _kept(column: str, text: str | None) -> str | None:
    """A text as it arrives: tidied and shortened, by what the connector's documentation says."""
    kept = "".join(c for c in text or "" if c in "\t\n\r" or c >= " ").replace("\r\n", "\n")
    kept = kept.strip() if column == "description" else " ".join(kept.split("\t")).strip()
    most = MOST.get(column, 100)
    if len(kept.encode("utf-16-le")) // 2 > most:
        kept = kept.encode("utf-16-le")[: 2 * (most - 1)].decode("utf-16-le", "ignore").rstrip() + "…"
    return kept or None
