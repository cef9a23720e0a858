"""What an environment has: the labels of its choices, and its currencies. Each is asked for once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.dynamics365.leads import SOURCES
from connectors.dynamics365.webapi import Row, WebApi, is_page, text_literal
from engine import JSON, Context, DataError, FlowrunError, TransientError, did_you_mean


class Catalog(WebApi):
    """Labels and ISO codes for numbers and ids, and the reverse."""

    def __init__(self, settings: Any, ctx: Context) -> None:
        super().__init__(settings, ctx)
        self._options: dict[tuple[str, str], dict[int, str]] = {}
        self._currencies: dict[str, str] = {}  # ISO code → id

    def options(self, table: str, column: str) -> dict[int, str]:
        """Value → label of a choice column, from its definition; nothing where there is no such column."""
        found = self._options.get((table, column))
        if found is None:
            if not re.fullmatch(r"\w+", column):
                raise DataError(f"'{column[:60]}' is no column", code="WrongColumn")
            name = "lead" if table == "leads" else self._logical_name(table)
            path = f"EntityDefinitions(LogicalName='{name}')/Attributes(LogicalName='{column}')"
            path += "/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
            definition = self.find(path, {"$select": "LogicalName", "$expand": "OptionSet"})
            options = ((definition or {}).get("OptionSet") or {}).get("Options") or []
            found = {int(o["Value"]): _label(o) for o in options}
            self._options[table, column] = found
        return found

    def _logical_name(self, table: str) -> str:
        query = {"$select": "LogicalName", "$filter": f"EntitySetName eq {text_literal(table)}"}
        for definition in self.pages("EntityDefinitions", query):
            return str(definition["LogicalName"])
        raise DataError(f"there is no table with the entity set name '{table}'", code="NoTable")

    def choice(self, table: str, column: str, value: JSON, known: Mapping[int, str] | None = None) -> int:
        """A choice's number out of its label or number; `known` labels are looked at before the definition is.

        Raises DataError naming the labels there are.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        text = str(value).strip()
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        number = _number_of(text, known or {})
        if number is None:
            options = self.options(table, column)
            number = _number_of(text, options)
            if number is None:
                labels = (options or known or {}).values()
                there = ", ".join(labels) or "none"
                hint = did_you_mean(text, set(labels))
                raise DataError(f"{column}: no label '{text[:60]}'; there are {there}", code="NoSuchChoice", hint=hint)
        return number

    def source(self, row: Row) -> str | None:
        """The label of the lead's source; its number where the labels can't be had."""
        number = row.get("leadsourcecode")
        if not isinstance(number, int):
            return None
        if number in SOURCES:
            return SOURCES[number]
        try:
            return self.options("leads", "leadsourcecode").get(number, str(number))
        except TransientError:
            raise
        except FlowrunError:
            return str(number)

    def currency_id(self, iso: str) -> str | None:
        """The id of a currency, None where the environment hasn't got it or the role may not see."""
        if iso not in self._currencies:
            query = {"$select": "transactioncurrencyid", "$filter": f"isocurrencycode eq {text_literal(iso)}"}
            answer = self.send("GET", "transactioncurrencies", query)
            if answer.status_code in (403, 404) and not is_page(answer):
                return None
            if answer.status_code != 200:
                raise self.failure(answer)
            for row in self.content(answer).get("value") or []:
                self._currencies[iso] = str(row["transactioncurrencyid"]).lower()
        return self._currencies.get(iso)

    def iso_code(self, row: Row) -> str | None:
        """The ISO code of a lead's currency; asked for once in the life of the connection."""
        id = str(row.get("_transactioncurrencyid_value") or "").lower()
        if not id:
            return None
        for iso, known in list(self._currencies.items()):
            if known == id:
                return iso
        answer = self.send("GET", f"transactioncurrencies({id})", {"$select": "isocurrencycode"})
        if answer.status_code in (400, 403, 404) and not is_page(answer):
            return None
        if answer.status_code != 200:
            raise self.failure(answer)
        iso = str(self.content(answer).get("isocurrencycode") or "")
        self._currencies[iso] = id
        return iso or None


def _number_of(text: str, options: Mapping[int, str]) -> int | None:
    return next((number for number, label in options.items() if label.casefold() == text.casefold()), None)


def _label(option: Mapping[str, Any]) -> str:
    label = option.get("Label") or {}
    return str((label.get("UserLocalizedLabel") or {}).get("Label") or option["Value"])
