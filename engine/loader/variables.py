"""What steps do with variables: changes that don't fit, and changes side by side, whose outcome is left to chance.

Power Automate runs flows with such races too, so those are warnings. Appending and adding up side by side are no race
by themselves, since every order gives all of it; nor is setting the same fixed value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine import model
from engine.loader.document import Lost, Path
from engine.loader.order import Order
from engine.types import JSON, type_name

DECLARED = {"string": "text", "number": "a number", "integer": "a number", "boolean": "a boolean", "array": "a list",
            "object": "an object"}  # fmt: skip


@dataclass(frozen=True)
class Access:
    """One use of a variable: `value` is what it is set to where that is fixed, else an Ellipsis."""

    step: str
    variable: str
    how: Literal["read", "set", "append", "increment"]
    path: Path
    at: int = 0  # character of the text there
    value: JSON = ...


def unfit(first: Mapping[str, JSON], accesses: list[Access], report: Any) -> None:
    """Reports changes that don't fit a variable's type, which is that of its first value. One that some step sets by
    an expression may be of any type by then.
    """
    open_ = {a.variable for a in accesses if a.how == "set" and a.value is ...}
    for access in accesses:
        kind, value = _type_of(first.get(access.variable)), access.value
        given = None if value is ... or value is None else type_name(value)
        message, expected, of_value = "", "", True
        if access.how == "increment" and given not in (None, "a number"):
            message, expected = f"'{access.variable}' can't be increased by {given}", "a number"
        elif kind is None or access.variable in open_ or access.how == "read":
            continue
        elif access.how == "set" and given not in (None, kind):
            message, expected = f"'{access.variable}' is {kind}, and is set to {given}", kind
        elif access.how == "append" and kind not in ("a list", "text"):
            message, expected, of_value = f"'{access.variable}' takes no items", "a list or text", False
        elif access.how == "increment" and kind != "a number":
            message, expected, of_value = f"'{access.variable}' can't be increased", "a number", False
        if message:
            hint = f"the first value of '{access.variable}' under `variables` says its type"
            found = given if of_value else kind
            report(access.path, "WrongType", message, key=not of_value, expected=expected, found=found, hint=hint)


def _type_of(first: JSON) -> str | None:
    if isinstance(first, dict) and set(first) == {"type"}:
        return DECLARED.get(str(first["type"]))
    unclear = first is None or isinstance(first, Lost) or (isinstance(first, str) and "{{" in first)
    return None if unclear else type_name(first)


def races(order: Order, accesses: list[Access], report: Any) -> None:
    """Reports, for each variable, the second of two uses side by side, and the first in a loop of several at once."""
    by_variable: dict[str, list[Access]] = {}
    for access in accesses:
        by_variable.setdefault(access.variable, []).append(access)
    for variable, used in by_variable.items():
        if all(a.how == "read" for a in used):
            continue
        for access, message, hint in [*_in_loops(order, variable, used), *_beside(order, variable, used)]:
            report(access.path, "Race", message, key=access.how != "read", at=access.at, severity="warning", hint=hint)


def _beside(order: Order, variable: str, used: list[Access]) -> Iterator[tuple[Access, str, str]]:
    seen: dict[int, Access] = {}
    mask = 0
    told: set[str] = set()
    for access in sorted(used, key=lambda a: order.bits[a.step]):
        step, bit = access.step, order.bits[access.step]
        free = mask & ~order.before[step] & ~order.apart[step] & ~bit
        for name in order.around[step]:
            free &= ~order.bits[name]
        while free and step not in told:
            low = free & -free
            free ^= low
            other = seen[low]
            if step not in order.around[other.step] and not order.before[other.step] & bit and _clash(access, other):
                told.add(step)
                yield (
                    access,
                    f"'{variable}' is {_past(other.how)} by '{other.step}' and {_past(access.how)} by '{step}', "
                    "which may run at the same time",
                    f"let one wait for the other: run_after: {other.step}",
                )
        if bit not in seen or seen[bit].how == "read":
            seen[bit] = access
        mask |= bit


def _in_loops(order: Order, variable: str, used: list[Access]) -> Iterator[tuple[Access, str, str]]:
    loops = {n: s for n, s in order.steps.items() if isinstance(s, model.Foreach) and s.concurrency > 1}
    for loop, step in loops.items():
        inside = [a for a in used if loop in order.around[a.step]]
        writes = [a for a in inside if a.how != "read"]
        reads = [a for a in inside if a.how == "read"]
        values = [a.value for a in writes if a.how == "set"]
        first = next((a for a in writes if a.how == "set" and (a.value is ... or a.value != values[0])), None)
        first = first or (writes[0] if writes and (reads or len({a.how for a in writes}) > 1) else None)
        if first is not None:
            message = f"'{variable}' is {_past(first.how)} by {step.concurrency} items of '{loop}' at the same time"
            yield first, message, "use `concurrency: 1`, or the loop's `result` in place of the variable"


def _clash(one: Access, other: Access) -> bool:
    kinds = {one.how, other.how}
    if kinds in ({"read"}, {"append"}, {"increment"}):
        return False
    return kinds != {"set"} or one.value is ... or one.value != other.value


def _past(how: str) -> str:
    return {"read": "read", "set": "set", "append": "appended to", "increment": "increased"}[how]
