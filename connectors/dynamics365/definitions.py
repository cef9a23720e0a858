"""Table definitions as the Dataverse emulator answers them: EntityDefinitions, their Keys and Attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from connectors.dynamics365.odata import Filter, parse_expand, parse_names, refuse
from connectors.dynamics365.tables import Column, Table
from engine import JSON

CAST = "Microsoft.Dynamics.CRM."
_TYPES = {"text": "String", "memo": "Memo", "int": "Integer", "money": "Money", "decimal": "Decimal", "bool": "Boolean"}
_TYPES |= {"double": "Double", "date": "DateTime", "datetime": "DateTime", "choice": "Picklist", "state": "State"}
_TYPES |= {"status": "Status", "lookup": "Lookup", "guid": "Uniqueidentifier"}


def of_table(table: Table, tracked: bool) -> dict[str, JSON]:
    """The scalar properties of EntityMetadata."""
    return {
        "MetadataId": str(uuid5(NAMESPACE_URL, table.name)),
        "LogicalName": table.name,
        "SchemaName": table.title,
        "EntitySetName": table.set,
        "PrimaryIdAttribute": table.id,
        "PrimaryNameAttribute": table.label,
        "ChangeTrackingEnabled": tracked,
    }


def of_key(name: str, columns: tuple[str, ...], status: str) -> dict[str, JSON]:
    """EntityKeyMetadata; `status` is Pending, InProgress, Active or Failed."""
    return {
        "MetadataId": str(uuid5(NAMESPACE_URL, name)),
        "LogicalName": name,
        "SchemaName": name,
        "KeyAttributes": list(columns),
        "EntityKeyIndexStatus": status,
    }


def of_column(column: Column, *, options: bool = False) -> dict[str, JSON]:
    """AttributeMetadata; with `options` that of a choice, which has its OptionSet."""
    out: dict[str, JSON] = {
        "MetadataId": str(uuid5(NAMESPACE_URL, column.name)),
        "LogicalName": column.name,
        "SchemaName": column.name,
        "AttributeType": _TYPES[column.kind],
        "IsValidForUpdate": not column.read_only,
    }
    if column.kind in ("text", "memo"):
        out["MaxLength"] = column.limit
    if options:
        out["OptionSet"] = {"Options": [_option(value, label) for value, label in column.options.items()]}
    return out


def _option(value: int, label: str) -> dict[str, JSON]:
    text = {"Label": label, "LanguageCode": 1033}
    return {"Value": value, "Label": {"LocalizedLabels": [text], "UserLocalizedLabel": text}}


def picked(
    item: Mapping[str, JSON], query: Mapping[str, str], inner: Mapping[str, list[dict[str, JSON]]]
) -> dict[str, Any]:
    """An item by $select and $expand; `inner` are the collections that may be expanded."""
    names = parse_names(query["$select"]) if "$select" in query else list(item)
    out = {name: _property(item, name) for name in ("MetadataId", *names)}
    for name, columns in parse_expand(query.get("$expand", "")).items():
        if name in inner:
            chosen = [parse_names(columns) if columns else list(each) for each in inner[name]]
            out[name] = [{n: _property(each, n) for n in of} for each, of in zip(inner[name], chosen, strict=True)]
        elif name == "OptionSet" and isinstance(item.get(name), dict):
            out[name] = item[name]
        else:
            refuse(
                400, "0x0", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.EntityMetadata'."
            )
    return out


def filtered(items: list[dict[str, JSON]], text: str) -> list[dict[str, JSON]]:
    """Items by a $filter over their scalar properties."""

    def kind_of(name: str) -> str:
        value = _property(items[0], name)
        return "bool" if isinstance(value, bool) else "text"

    return [item for item in items if Filter(text, kind_of)(item)] if text else items


def attribute_of(table: Table, member: str) -> Column:
    """The column named by Attributes(LogicalName='…'). Refuses one that doesn't exist."""
    match = re.fullmatch(r"Attributes\(LogicalName='(\w+)'\)", member)
    if not match:
        refuse(404, "0x8006088a", f"Resource not found for the segment '{member}'.")
    name = match[1] if match[1] in table.columns else f"_{match[1]}_value"
    if name not in table.columns:
        refuse(
            404, "0x80060888", f"Could not find an attribute with specified name: {match[1]} on entity {table.name}."
        )
    return table.columns[name]


def _property(item: Mapping[str, JSON], name: str) -> JSON:
    if name not in item:
        refuse(400, "0x0", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.EntityMetadata'.")
    return item[name]
