"""Values: exact decimals, equality and order.

Numbers compare by their decimal text, so 2 equals 2.0 and 0.1 equals decimal('0.1'); nothing else is converted:
1 isn't '1', and true isn't 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TypeAlias

from engine.functions.declare import invalid
from engine.types import JSON, type_name

LARGEST_INT = 2**63 - 1
_LARGEST_DECIMAL = 2**96 - 1
_MOST_PLACES = 28
EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)
Comparable: TypeAlias = int | Decimal


class Exact(float):
    """What decimal() gives: a JSON number that keeps its 28 to 29 digits for arithmetic, comparison and text."""

    exact: Decimal

    def __new__(cls, number: Decimal) -> Exact:
        """Raises DataError when the number is beyond ±79,228,162,514,264,337,593,543,950,335."""
        if not number.is_finite() or number.copy_abs() > _LARGEST_DECIMAL:
            raise invalid(f"{number} is beyond the range of decimal numbers")
        exponent = int(number.as_tuple().exponent)
        places = min(max(-exponent, 0), _MOST_PLACES)
        number = number.quantize(Decimal(1).scaleb(-places), context=EXACT)
        while number.copy_abs().scaleb(places, EXACT) > _LARGEST_DECIMAL:
            places -= 1
            number = number.quantize(Decimal(1).scaleb(-places), context=EXACT)
        self = super().__new__(cls, number)
        self.exact = number
        return self

    def __getnewargs__(self) -> tuple[Decimal]:  # type: ignore[override]
        return (self.exact,)

    def __str__(self) -> str:
        return format(self.exact, "f")


def comparable(number: float) -> Comparable:
    """A number that compares exactly with every other one."""
    if isinstance(number, Exact):
        return number.exact
    return number if isinstance(number, int) else Decimal(repr(number))


def identity(value: JSON) -> Hashable:
    """What two values share exactly when they are equal; lists and objects deeply, whatever the order of keys."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        return comparable(value)
    if isinstance(value, Mapping):
        return ("object", frozenset((name, identity(member)) for name, member in value.items()))
    return ("list", tuple(identity(item) for item in value))


def compare(value: JSON, other: JSON) -> int:
    """-1, 0 or 1; numbers by size, text by code points. Raises DataError where the two don't compare."""
    if isinstance(value, str) and isinstance(other, str):
        return (value > other) - (value < other)
    if _is_number(value) and _is_number(other):
        left, right = comparable(value), comparable(other)
        return (left > right) - (left < right)
    raise invalid(
        f"{type_name(value)} and {type_name(other)} can't be compared",
        "convert one of them: int(), float() or string()",
    )


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sort_key(value: JSON) -> tuple[int, Comparable | str]:
    """Orders null before all else. Raises DataError for a list or an object."""
    match value:
        case None:
            return (0, 0)
        case bool():
            return (1, int(value))
        case int() | float():
            return (2, comparable(value))
        case str():
            return (3, value)
    raise invalid(f"{type_name(value)} has no order", "name the key to sort objects by")
