"""What to change in a referral: the difference between how it is and how it should be, as JSON Patch (RFC 6902).

Pure. The API takes `add` and `replace` only. Values are compared as the API means them, so that a sync never writes
what is there already: "" is null, 10000 is 10000.0, a date is any time of its day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from connectors.partner_center.referral import SUBSTATUS, TRANSITIONS
from engine import JSON, DataError, did_you_mean

OnForeignId: TypeAlias = Literal["keep", "replace"]
PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
AMOUNTS = frozenset({"details.dealValue"})


@dataclass(frozen=True)
class Plan:
    """Patch operations, by dotted path the values now and then, and in words what was left alone and why.

    `after` is the referral as it would be, `unchanged` the number of values that are as they should be.
    """

    operations: list[dict[str, JSON]]
    changes: Mapping[str, tuple[JSON, JSON]]
    skipped: list[str]
    after: Mapping[str, JSON]
    unchanged: int = 0


def plan(referral: Mapping[str, JSON], wanted: Mapping[str, JSON], on_foreign_id: OnForeignId = "keep") -> Plan:
    """How to make `referral` as `wanted` says (dotted path → value; null leaves alone).

    Raises DataError for a path or value that can't be.
    """
    given = {path: value for path, value in wanted.items() if value is not None}
    status, refused = _transition(referral, given.pop("status", None), given.pop("substatus", None))
    skipped = [refused] if refused else []
    if refused:
        given.pop("statusReason", None)  # it explains a change that isn't made
    sendable = {path: _sendable(path, value) for path, value in given.items()}
    changes = {path: sendable[path] for path, value in given.items() if not same(path, _at(referral, path), value)}
    changes |= status  # last: a closed referral takes nothing more
    if referral.get("status") == "Closed":
        return Plan([], {}, [f"{path}: the referral is closed" for path in changes] + skipped, referral)
    current = referral.get("externalReferenceId")
    if "externalReferenceId" in changes and current and on_foreign_id == "keep":
        del changes["externalReferenceId"]
        skipped.insert(
            0, f"externalReferenceId: {current} belongs to another record (on_foreign_id: replace would overwrite it)"
        )
    document = dict(referral)
    operations = [_assign(document, path, value) for path, value in changes.items()]
    before_and_after = {path: (_at(referral, path), value) for path, value in changes.items()}
    return Plan(operations, before_and_after, skipped, document, len(given) - len(changes.keys() & given.keys()))


def same(path: str, current: JSON, wanted: JSON) -> bool:
    """Whether a value is already what is wanted."""
    if current in (None, "") or wanted in (None, ""):
        return current in (None, "") and wanted in (None, "")
    if path == "externalReferenceId":
        return str(current).lower() == str(wanted).lower()
    if path.endswith("DateTime"):
        return _same_time(str(current), str(wanted))
    if path in AMOUNTS or _is_number(current) or _is_number(wanted):
        numbers = (_number(current), _number(wanted))
        if None not in numbers:
            return numbers[0] == numbers[1]
    if isinstance(current, str) and isinstance(wanted, str):
        return _lines(current) == _lines(wanted)
    return type(current) is type(wanted) and bool(current == wanted)


def _transition(referral: Mapping[str, JSON], status: JSON, substatus: JSON) -> tuple[dict[str, JSON], str]:
    """The status pair to send (both or none, the API wants them together), and what was refused, in words."""
    substatus = _word("substatus", substatus, [word for words in SUBSTATUS.values() for word in words])
    belongs = next((name for name, words in SUBSTATUS.items() if substatus in words), None)
    status = _word("status", status, list(SUBSTATUS)) or belongs
    if status is None:
        return {}, ""
    now, was = referral.get("status"), referral.get("substatus")
    if substatus is None:
        if status == now:
            return {}, ""
        if len(SUBSTATUS[status]) > 1 and status in TRANSITIONS.get(str(now), ()):
            raise DataError(
                f"status {status} needs a substatus", code="Substatus", hint="one of " + ", ".join(SUBSTATUS[status])
            )
        substatus = SUBSTATUS[status][0]
    elif belongs != status:
        hint = f"{status} goes with " + ", ".join(SUBSTATUS[status])
        raise DataError(f"substatus {substatus} doesn't belong to status {status}", code="Substatus", hint=hint)
    if (status, substatus) == (now, was):
        return {}, ""
    if status not in TRANSITIONS.get(str(now), ()):
        return {}, f"status: {now}/{was} can't become {status}/{substatus}"
    return {"status": status, "substatus": substatus}, ""


def _word(name: str, value: JSON, known: list[str]) -> str | None:
    if value in (None, ""):
        return None
    found = next((word for word in known if word.lower() == str(value).lower()), None)
    if found is None:
        raise DataError(
            f"{name}: '{value}' is none of the API's", code="Status", hint=did_you_mean(str(value), set(known))
        )
    return found


def _at(referral: JSON, path: str) -> JSON:
    value = referral
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)] if key.isdigit() and int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _assign(document: JSON, path: str, value: JSON) -> dict[str, JSON]:
    """Sets a value in `document`, whose inner values are copied where they change, and gives the operation that does
    the same in the referral; missing parents come along.
    """
    keys = path.split(".")
    node: Any = document
    for depth, key in enumerate(keys):
        at: str | int | None = key if isinstance(node, dict) else None
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            at = int(key)
        rest = keys[depth + 1 :]
        child = node.get(at) if isinstance(node, dict) else node[at] if at is not None else None
        if at is None or (child is None and any(name.isdigit() for name in rest)):
            raise DataError(f"set: {path} leads into something that isn't in this referral", code="Path")
        if child is None or not rest:
            for name in reversed(rest):
                value = {name: value}
            node[at] = value
            verb = "add" if child is None and isinstance(at, str) else "replace"
            return {"op": verb, "path": "/" + "/".join(keys[: depth + 1]), "value": value}
        node[at] = node = child.copy() if isinstance(child, dict | list) else child
    raise AssertionError(path)


def _sendable(path: str, value: JSON) -> JSON:
    """The value in the API's form: date-times in full, amounts as numbers."""
    if not PATH.fullmatch(path):
        raise DataError(f"set: '{path}' is no path", code="Path", hint="such as details.dealValue")
    if value == "":
        return value
    if path.endswith("DateTime"):
        if _time(str(value)) is None:
            raise DataError(f"{path}: '{value}' is no date", code="Date", hint="such as 2026-11-24")
        return f"{value}T00:00:00Z" if DATE.fullmatch(str(value)) else value
    if path in AMOUNTS:
        number = _number(value)
        if number is None:
            raise DataError(f"{path}: '{str(value)[:40]}' is no number", code="Number")
        return int(number) if number == number.to_integral_value() else float(number)
    return value


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: JSON) -> Decimal | None:
    if not _is_number(value) and not isinstance(value, str):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _same_time(current: str, wanted: str) -> bool:
    a, b = _time(current), _time(wanted)
    if a is None or b is None:
        return current == wanted
    return a.date() == b.date() if DATE.fullmatch(current) or DATE.fullmatch(wanted) else a == b


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").rstrip()
