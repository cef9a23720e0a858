"""The tables of the Dataverse emulator: what each column takes, as tables.json declares it.

A column is written `kind [length | least most] [read-only]`, a lookup by the navigation properties that set it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import NoReturn

from connectors.dynamics365.odata import refuse
from engine import JSON

PAYLOAD = "0x80048d19"  # "Error identified in Payload provided by the user"
TOO_LONG = "0x80044331"
OUT_OF_RANGE = "0x80044330"
NO_SUCH_CHOICE = "0x8004431a"
INVALID = "0x80040203"

_INVALID_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EDM = {"text": "String", "memo": "String", "date": "Date", "datetime": "DateTimeOffset", "guid": "Guid"}
_EDM |= {"bool": "Boolean", "money": "Decimal", "decimal": "Decimal", "double": "Double"}
_NUMBERS = ("int", "choice", "state", "status", "money", "decimal", "double")


@dataclass(frozen=True)
class Column:
    """One column; `options` are value → label of a choice."""

    name: str
    kind: str
    limit: int = 0
    least: float = 0
    most: float = 0
    read_only: bool = False
    options: Mapping[int, str] = field(default_factory=dict)

    @property
    def compared_as(self) -> str:
        """The kind of literal that a filter compares it with."""
        if self.kind in _NUMBERS:
            return "number"
        return {"memo": "text", "lookup": "guid"}.get(self.kind, self.kind)

    def accept(self, table: str, value: JSON) -> JSON:
        """The value as it is stored. Refuses what the service refuses."""
        if value is None or value == "":
            return None
        match self.kind:
            case "text" | "memo":
                return self._text(table, value)
            case "int" | "choice" | "state" | "status":
                if not isinstance(value, int) or isinstance(value, bool):
                    self._wrong(value)
                return self._number(table, value)
            case "money" | "decimal" | "double":
                if not isinstance(value, int | float) or isinstance(value, bool):
                    self._wrong(value)
                return self._number(table, value)
            case "bool":
                if not isinstance(value, bool):
                    self._wrong(value)
            case "date":
                if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                    self._wrong(value)
                try:
                    date.fromisoformat(value)
                except ValueError:
                    self._wrong(value)
        return value

    def _text(self, table: str, value: JSON) -> JSON:
        if not isinstance(value, str):
            self._wrong(value)
        if bad := _INVALID_XML.search(value):
            refuse(400, INVALID, f"'{ord(bad[0]):#06x}' is an invalid character in attribute '{self.name}'.")
        if len(value.encode("utf-16-le")) // 2 > self.limit:
            refuse(
                400,
                TOO_LONG,
                f"A validation error occurred. The length of the '{self.name}' attribute of the '{table}' entity "
                f"exceeded the maximum allowed length of '{self.limit}'.",
            )
        return value

    def _number(self, table: str, value: float) -> JSON:
        if self.options:
            if value not in self.options:
                refuse(
                    400,
                    NO_SUCH_CHOICE,
                    f"A validation error occurred. The value {value} of '{self.name}' on record of type '{table}' is "
                    f"outside the valid range. Accepted Values: {', '.join(map(str, self.options))}",
                )
            return value
        if not self.least <= value <= self.most:
            refuse(
                400,
                OUT_OF_RANGE,
                f"A validation error occurred. The value {value} of '{self.name}' on record of type '{table}' is "
                f"outside the valid range {self.least:g} to {self.most:g}.",
            )
        if self.kind == "money":
            return float(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_EVEN))
        return value

    def _wrong(self, value: JSON) -> NoReturn:
        expected = "Edm." + _EDM.get(self.kind, "Int32")
        refuse(
            400,
            PAYLOAD,
            "Error identified in Payload provided by the user for Entity :'', with error "
            f"Cannot convert the literal '{value}' of property '{self.name}' to the expected type '{expected}'.",
        )


@dataclass(frozen=True)
class Table:
    """One table. `navigation` is property → (column that holds the id, sets it may point to)."""

    set: str
    name: str
    title: str
    id: str
    label: str
    tracked: bool
    keys: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, Column]
    navigation: Mapping[str, tuple[str, tuple[str, ...]]]
    states: Mapping[int, Mapping[int, str]]

    def kind_of(self, column: str) -> str:
        """For filters and orders. Refuses an unknown column."""
        return self.column(column).compared_as

    def column(self, name: str) -> Column:
        if name not in self.columns:
            refuse(
                400, "0x0", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{self.name}'."
            )
        return self.columns[name]

    def state_of(self, reason: int) -> int:
        return next(state for state, reasons in self.states.items() if reason in reasons)


def load_tables() -> dict[str, Table]:
    """Entity set name → table."""
    declared = json.loads(Path(__file__).with_name("tables.json").read_text(encoding="utf-8"))
    return {name: _table(name, spec) for name, spec in declared.items()}


def _table(name: str, spec: Mapping[str, JSON]) -> Table:
    states = {int(state): {int(r): label for r, label in s["reasons"].items()} for state, s in spec["states"].items()}
    options = {column: {int(v): label for v, label in of.items()} for column, of in spec["choices"].items()}
    options["statecode"] = {int(state): s["label"] for state, s in spec["states"].items()}
    options["statuscode"] = {r: label for reasons in states.values() for r, label in reasons.items()}
    columns = {spec["id"]: Column(spec["id"], "guid")}
    for column, text in spec["columns"].items():
        columns[column] = _column(column, text, options)
    navigation: dict[str, tuple[str, tuple[str, ...]]] = {}
    for column, properties in spec["lookups"].items():
        columns[f"_{column}_value"] = Column(f"_{column}_value", "lookup", read_only=True)
        navigation |= {prop: (f"_{column}_value", tuple(targets)) for prop, targets in properties.items()}
    return Table(
        name,
        spec["name"],
        spec["title"],
        spec["id"],
        spec["label"],
        spec["tracked"],
        {key: tuple(of) for key, of in spec["keys"].items()},
        columns,
        navigation,
        states,
    )


def _column(name: str, text: str, options: Mapping[str, Mapping[int, str]]) -> Column:
    kind, *rest = text.removesuffix(" read-only").split()
    numbers = [float(n) for n in rest]
    return Column(
        name,
        kind,
        limit=int(numbers[0]) if len(numbers) == 1 else 0,
        least=numbers[0] if len(numbers) == 2 else 0,
        most=numbers[1] if len(numbers) == 2 else 0,
        read_only=text.endswith(" read-only"),
        options=options.get(name, {}),
    )
