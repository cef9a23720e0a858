"""The neutral lead as columns of Dataverse's `lead` table, and back: pure functions, no requests.

Lengths, ranges and choices are those of the table as it ships (Dynamics 365 Sales, `lead` entity reference). Values
are put into the form in which the service keeps them, so that comparing what is wanted with what is there is stable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from engine import JSON, DataError, Lead, LeadStatus, did_you_mean

Row = dict[str, Any]

STATES: Mapping[int, LeadStatus] = {0: "open", 1: "qualified", 2: "disqualified"}
CURRENCY = "transactioncurrencyid@odata.bind"


@dataclass(frozen=True)
class Text:
    """A text column: `limit` in UTF-16 units; `whole` means that a shortened value would be a wrong one."""

    column: str
    limit: int
    whole: bool = False
    memo: bool = False


TEXTS: Mapping[str, Text] = {
    "title": Text("subject", 300),
    "company": Text("companyname", 100),
    "first_name": Text("firstname", 50),
    "last_name": Text("lastname", 50),
    "job_title": Text("jobtitle", 100),
    "email": Text("emailaddress1", 100, whole=True),
    "phone": Text("telephone1", 50, whole=True),
    "mobile": Text("mobilephone", 20, whole=True),
    "website": Text("websiteurl", 200, whole=True),
    "street": Text("address1_line1", 250),
    "street2": Text("address1_line2", 250),
    "city": Text("address1_city", 80),
    "state": Text("address1_stateorprovince", 50),
    "postal_code": Text("address1_postalcode", 20),
    "country": Text("address1_country", 80),
    "description": Text("description", 2000, memo=True),
}
# Neutral field → column, as it is read.
COLUMNS: Mapping[str, str] = MappingProxyType(
    {name: text.column for name, text in TEXTS.items()}
    | {
        "amount": "estimatedamount",
        "currency": "_transactioncurrencyid_value",
        "close_date": "estimatedclosedate",
        "source": "leadsourcecode",
    }
)
FIELDS: Mapping[str, str] = {column: name for name, column in COLUMNS.items()} | {CURRENCY: "currency"}
# Lengths of further columns, which a flow sets through `native`.
LIMITS: Mapping[str, int] = (
    {text.column: text.limit for text in TEXTS.values()}
    | dict.fromkeys(("salutation", "emailaddress2", "emailaddress3"), 100)
    | dict.fromkeys(("middlename", "telephone2", "telephone3", "fax"), 50)
    | dict.fromkeys(("pager", "sic"), 20)
    | {"address1_line3": 250, "qualificationcomments": 2000}
)
MEMOS = frozenset({"description", "qualificationcomments"})
CHOICES = frozenset(
    {
        "leadqualitycode",
        "leadsourcecode",
        "industrycode",
        "need",
        "budgetstatus",
        "purchasetimeframe",
        "preferredcontactmethodcode",
    }
)
SOURCES: Mapping[int, str] = {
    1: "Advertisement",
    2: "Employee Referral",
    3: "External Referral",
    4: "Partner",
    5: "Public Relations",
    6: "Seminar",
    7: "Trade Show",
    8: "Web",
    9: "Word of Mouth",
    10: "Other",
}
MONEY: Mapping[str, int] = {"estimatedamount": 10**12, "budgetamount": 10**12, "revenue": 10**14}
FIRST_YEAR = 1753  # the service's dates begin there

# What XML 1.0 can't carry, the service refuses; lone surrogates among it.
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tidy(text: str, *, memo: bool = False) -> str:
    """A text as the service keeps it: no control characters, no outer blanks, one line unless it is a memo."""
    text = _UNSENDABLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return (text if memo else re.sub(r"\s*[\n\t]\s*", " ", text)).strip()


def units(text: str) -> int:
    """Its length as the service counts: UTF-16 units, two for an emoji."""
    return len(text.encode("utf-16-le")) // 2


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning with … where something is missing; the same for the same text."""
    if units(text) <= limit:
        return text
    return text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore").rstrip() + "…"


def text_of(name: str, value: str) -> tuple[str | None, bool]:
    """A neutral text field's column value, None for a blank one, and whether it was shortened.

    Raises DataError for an e-mail address, phone number or website that is too long.
    """
    spec = TEXTS[name]
    text = tidy(value, memo=spec.memo)
    if spec.whole:
        fit(spec.column, text)
    out = shortened(text, spec.limit)
    return out or None, out != text


def fit(column: str, value: JSON) -> None:
    """Raises DataError for a text that is longer than its column."""
    limit = LIMITS.get(column)
    if limit and isinstance(value, str) and units(value) > limit:
        raise DataError(
            f"{column} takes {limit} characters, the value has {units(value)}",
            code="TooLong",
            hint="shorten it in the flow, or leave it out",
        )


def money(value: float | str, column: str = "estimatedamount") -> float:
    """An amount as a money column keeps it: two places. Raises DataError outside of the column's range."""
    most = MONEY[column]
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= most:
        raise DataError(f"{column}: {str(value)[:40]} is no amount from 0 to {most:,}", code="OutOfRange")
    return plain_number(number.quantize(Decimal("0.01"), ROUND_HALF_UP))


def plain_number(number: Decimal) -> float:
    """A number without a fraction as an int, so that 50000 is printed as 50000."""
    return int(number) if number == number.to_integral_value() else float(number)


def day(value: str) -> str:
    """The date part of a date or moment, as written. Raises DataError for what isn't a date of the calendar."""
    try:
        if date.fromisoformat(value[:10]).year >= FIRST_YEAR:
            return value[:10]
    except ValueError:
        pass
    raise DataError(f"close_date: {value[:40]!r} is no date from {FIRST_YEAR} on", code="WrongDate")


def emptied(clear: list[str] | None, given: Mapping[str, JSON], native: Mapping[str, JSON]) -> list[str]:
    """The columns behind the names in `clear`: neutral fields, or native.COLUMN.

    Raises DataError for a name that is neither, that has a value at the same time, or that can't be empty.
    """
    columns = []
    for name in dict.fromkeys(clear or ()):
        column = name.removeprefix("native.")
        if name == "currency":
            raise DataError("clear: Dynamics keeps a currency for every lead", code="NotClearable")
        if column == name and name not in COLUMNS:
            hint = did_you_mean(name, set(COLUMNS)) or "a column of lead is written native.COLUMN"
            raise DataError(f"clear: no field '{name[:60]}'", code="UnknownField", hint=hint)
        if (name in given) or (column != name and column in native):
            raise DataError(f"clear: '{name}' is given a value too", code="Contradiction", hint="do one or the other")
        columns.append(column if column != name else COLUMNS[name])
    return columns


def read_column(column: str) -> str:
    """The column under which a value that was sent is read back: a lookup's id for `…@odata.bind`."""
    if not column.endswith("@odata.bind"):
        return column
    lookup = column.removesuffix("@odata.bind").lower()
    # The polymorphic customerid is set by a navigation property for each kind of customer.
    return "_customerid_value" if lookup in ("customerid_account", "customerid_contact") else f"_{lookup}_value"


def reference(value: JSON) -> str | None:
    """The id in /set(id), None for a reference by alternate key."""
    match = re.fullmatch(r".*\w\(([0-9a-fA-F-]{36})\)", str(value))
    return match[1].lower() if match else None


def native_value(column: str, value: JSON) -> JSON:
    """A value given by column name, as the service keeps it. Raises DataError for one that doesn't fit."""
    if column in MONEY and not isinstance(value, bool):
        return money(value, column)
    if column in LIMITS and isinstance(value, str):
        return tidy(value, memo=column in MEMOS) or None
    return value


def same(column: str, wanted: JSON, row: Mapping[str, JSON]) -> bool:
    """Whether the row already says what is wanted, by the service's own normalising."""
    current = row.get(read_column(column))
    if column.endswith("@odata.bind") and wanted is not None:
        return reference(wanted) == str(current or "").lower()
    if isinstance(wanted, str) and isinstance(current, str):
        if column == "estimatedclosedate":
            return wanted == current[:10]
        return tidy(wanted, memo=column in MEMOS) == tidy(current, memo=column in MEMOS)
    return (wanted if wanted != "" else None) == (current if current != "" else None)


def neutral(row: Mapping[str, JSON], currency: str | None, source: str | None, native: Mapping[str, JSON]) -> Lead:
    """The neutral lead that a row stands for; `native` are the further columns that the flow asked about."""
    amount = row.get("estimatedamount")
    closing = row.get("estimatedclosedate")
    return Lead(
        **{name: row.get(text.column) for name, text in TEXTS.items()},
        amount=None if amount is None else plain_number(Decimal(str(amount))),
        currency=currency,
        close_date=str(closing)[:10] if closing else None,
        source=source,
        native=native,
    )
