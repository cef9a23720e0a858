"""The tables of the foreign Dataverse: columns of lead with type and limit, choices, and their definitions as served.

By Microsoft's pages on the lead table and on querying table definitions.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from foreign_wire import refuse

KEY = "new_referralid"
ODATA = "application/json; odata.metadata=minimal"


@dataclass(frozen=True)
class Column:
    """A column. `most` is a text's length, `high` the greatest number, `target` a lookup's table."""

    kind: str  # text, memo, money, date, choice, whole, flag, moment, guid, lookup, state
    most: int = 0
    high: float = 0
    options: Mapping[int, str] = field(default_factory=dict)
    target: str = ""
    writable: bool = True

    @property
    def edm(self) -> str:
        return {
            "text": "Edm.String", "memo": "Edm.String", "money": "Edm.Decimal", "date": "Edm.Date",
            "flag": "Edm.Boolean", "moment": "Edm.DateTimeOffset", "guid": "Edm.Guid", "lookup": "Edm.Guid",
        }.get(self.kind, "Edm.Int32")  # fmt: skip


SOURCES = {1: "Advertisement", 2: "Employee Referral", 3: "External Referral", 4: "Partner", 5: "Public Relations",
           6: "Seminar", 7: "Trade Show", 8: "Web", 9: "Word of Mouth", 10: "Other"}  # fmt: skip
LENGTHS = {
    "subject": 300, "firstname": 50, "lastname": 50, "middlename": 50, "companyname": 100, "jobtitle": 100,
    "salutation": 100, "emailaddress1": 100, "emailaddress2": 100, "emailaddress3": 100, "telephone1": 50,
    "telephone2": 50, "telephone3": 50, "fax": 50, "mobilephone": 20, "pager": 20, "sic": 20, "websiteurl": 200,
    "address1_line1": 250, "address1_line2": 250, "address1_line3": 250, "address1_city": 80,
    "address1_stateorprovince": 50, "address1_postalcode": 20, "address1_country": 80, KEY: 100,
}  # fmt: skip
LEAD: dict[str, Column] = {
    "leadid": Column("guid", writable=False),
    **{name: Column("text", length) for name, length in LENGTHS.items()},
    "fullname": Column("text", 160, writable=False),
    "description": Column("memo", 2000),
    "qualificationcomments": Column("memo", 2000),
    "estimatedamount": Column("money", high=1e12),
    "budgetamount": Column("money", high=1e12),
    "revenue": Column("money", high=1e14),
    "numberofemployees": Column("whole", high=1_000_000),
    "estimatedclosedate": Column("date"),
    "donotemail": Column("flag"),
    "leadsourcecode": Column("choice", options=SOURCES),
    "leadqualitycode": Column("choice", options={1: "Hot", 2: "Warm", 3: "Cold"}),
    "statecode": Column("state", options={0: "Open", 1: "Qualified", 2: "Disqualified"}),
    "statuscode": Column("state", options={1: "New", 2: "Contacted", 3: "Qualified", 4: "Lost", 5: "Cannot Contact",
                                           6: "No Longer Interested", 7: "Canceled"}),
    "createdon": Column("moment", writable=False),
    "modifiedon": Column("moment", writable=False),
    "versionnumber": Column("whole", writable=False),
    "_transactioncurrencyid_value": Column("lookup", target="transactioncurrency"),
    "_ownerid_value": Column("lookup", target="systemuser"),
    "_parentaccountid_value": Column("lookup", target="account"),
    "_parentcontactid_value": Column("lookup", target="contact"),
    "_qualifyingopportunityid_value": Column("lookup", target="opportunity", writable=False),
}  # fmt: skip
CURRENCY: dict[str, Column] = {
    "transactioncurrencyid": Column("guid", writable=False),
    "isocurrencycode": Column("text", 5),
    "currencyname": Column("text", 100),
    "currencysymbol": Column("text", 13),
    "currencyprecision": Column("whole", high=4),
    "exchangerate": Column("money", high=1e11),
    "statecode": Column("state", options={0: "Active", 1: "Inactive"}),
}
TYPES = {"lead": LEAD, "transactioncurrency": CURRENCY}
SETS = {"leads": "lead", "transactioncurrencies": "transactioncurrency"}
KINDS = {"text": "String", "memo": "Memo", "money": "Money", "date": "DateTime", "choice": "Picklist",
         "whole": "Integer", "flag": "Boolean", "moment": "DateTime", "guid": "Uniqueidentifier", "lookup": "Lookup",
         "state": "State"}  # fmt: skip
TABLE_MEMBERS = ("LogicalName", "SchemaName", "EntitySetName", "PrimaryIdAttribute", "PrimaryNameAttribute",
                 "ChangeTrackingEnabled", "ObjectTypeCode", "DisplayName")  # fmt: skip
ATTRIBUTE_MEMBERS = ("LogicalName", "SchemaName", "AttributeType", "MaxLength", "DisplayName", "IsValidForRead")


def label(text: str) -> dict[str, Any]:
    """A Label as definitions hold it."""
    one = {"Label": text, "LanguageCode": 1033, "IsManaged": True, "MetadataId": _id(text), "HasChanged": None}
    other = {**one, "Label": f"{text} (de)", "LanguageCode": 1031}
    return {"LocalizedLabels": [other, one], "UserLocalizedLabel": one}


def attribute(table: str, name: str) -> dict[str, Any] | None:
    """A column's definition; a lookup's stands under the name without _ and _value."""
    columns = TYPES[table]
    column = columns.get(name) or columns.get(f"_{name}_value")
    if column is None or name.startswith("_"):
        return None
    kind = "Status" if name == "statuscode" else KINDS[column.kind]
    found: dict[str, Any] = {"MetadataId": _id(table + name), "LogicalName": name, "SchemaName": name}
    found |= {"AttributeType": kind, "DisplayName": label(name), "IsValidForRead": True}
    if column.most:
        found["MaxLength"] = column.most
    if column.options:
        options = [
            {"Value": value, "Label": label(text), "Description": label(""), "Color": None, "IsManaged": True}
            for value, text in column.options.items()
        ]
        found["OptionSet"] = {"MetadataId": _id(table + name + "set"), "Name": f"{table}_{name}", "Options": options}
        found["GlobalOptionSet"] = None
    return found


def cast_fits(definition: Mapping[str, Any], cast: str) -> bool:
    """Whether a definition is of the type after Microsoft.Dynamics.CRM."""
    return f"{definition['AttributeType']}AttributeMetadata" == cast


def entity(table: str, key_status: str, tracking: bool) -> dict[str, Any]:
    """A table's definition with its alternate keys."""
    keys = []
    if table == "lead" and key_status:
        keys.append({"MetadataId": _id("key"), "LogicalName": KEY, "SchemaName": "new_ReferralKey",
                     "DisplayName": label("Referral"), "KeyAttributes": [KEY],
                     "EntityKeyIndexStatus": key_status})  # fmt: skip
    name = next(name for name, logical in SETS.items() if logical == table)
    return {
        "MetadataId": _id(table), "LogicalName": table, "SchemaName": table.title(), "EntitySetName": name,
        "PrimaryIdAttribute": f"{table}id", "PrimaryNameAttribute": "fullname", "ChangeTrackingEnabled": tracking,
        "ObjectTypeCode": 4, "DisplayName": label(table.title()), "Keys": keys,
    }  # fmt: skip


def expands(text: str) -> dict[str, list[str]]:
    """An $expand such as Keys($select=A,B),OptionSet: name → members, none given for all."""
    found = {}
    for name, select in re.findall(r"(\w+)(?:\(\$select=([\w,]+)\))?(?:,|$)", text):
        found[name] = select.split(",") if select else []
    return found


def cut(asked: Mapping[str, str], whole: Mapping[str, Any], members: tuple[str, ...]) -> dict[str, Any]:
    """A definition with the members asked for; its MetadataId always comes along."""
    chosen = asked["$select"].split(",") if "$select" in asked else [m for m in members if m in whole]
    expanded = expands(asked.get("$expand", ""))
    for name in chosen:
        if name not in members:
            _unknown(name)
    seen = {"MetadataId": whole["MetadataId"], **{name: whole.get(name) for name in chosen}}
    for name, inner in expanded.items():
        if name not in ("Keys", "OptionSet", "GlobalOptionSet") or name not in whole:
            _unknown(name)
        part = whole[name]
        parts = part if isinstance(part, list) else [part]
        chosen_parts = [p if not inner or p is None else {k: p[k] for k in ("MetadataId", *inner)} for p in parts]
        seen[name] = chosen_parts if isinstance(part, list) else chosen_parts[0]
    return seen


def _unknown(name: str) -> NoReturn:
    error = {"code": "0x80060888", "message": f"Could not find a property named '{name}' on the definition's type."}
    refuse(400, {"error": error}, {"OData-Version": "4.0"}, ODATA)


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))
