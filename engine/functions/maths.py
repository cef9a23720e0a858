"""Arithmetic. Whole numbers have 64 bits and stay whole; one float among them makes the result a float.

What decimal() gave is calculated exactly. A result that is too large is an error, never a wrong number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from engine.expressions import Ambient
from engine.functions.declare import function, invalid
from engine.functions.values import EXACT, LARGEST_INT, Exact, comparable
from engine.types import JSON, wrong


def _calculate(
    value: float, other: float, whole: Callable[[Any, Any], Any], exact: Callable[[Any, Any], Decimal], real: Any = None
) -> float:
    if isinstance(value, int) and isinstance(other, int):
        result = whole(value, other)
        if not -LARGEST_INT - 1 <= result <= LARGEST_INT:
            raise invalid("the result is beyond 64 bits", "calculate with float() or decimal()")
        return int(result)
    if isinstance(value, Exact) or isinstance(other, Exact):
        return Exact(exact(Decimal(comparable(value)), Decimal(comparable(other))))
    try:
        out = float((real or whole)(float(value), float(other)))
    except OverflowError:
        out = math.inf
    if not math.isfinite(out):
        raise invalid("the result is too large for a number")
    return out


@function("add")
def add(value: float, other: float) -> JSON:
    """The sum of two numbers.

    add(1, 1.5) → 2.5
    """
    return _calculate(value, other, operator.add, EXACT.add)


@function("sub")
def sub(value: float, other: float) -> JSON:
    """The first number less the second.

    sub(10, 3) → 7
    """
    return _calculate(value, other, operator.sub, EXACT.subtract)


@function("mul")
def mul(value: float, other: float) -> JSON:
    """The product of two numbers.

    mul(1.5, 2) → 3.0
    """
    return _calculate(value, other, operator.mul, EXACT.multiply)


@function("div")
def div(dividend: float, divisor: float) -> JSON:
    """The first number divided by the second; of two whole numbers the whole part, cut toward zero. Not by zero.

    div(-7, 2) → -3
    """
    _not_zero(divisor)
    return _calculate(dividend, divisor, _quotient, EXACT.divide, operator.truediv)


@function("mod")
def mod(dividend: float, divisor: float) -> JSON:
    """What is left of a division, with the sign of the first number. Not by zero.

    mod(-5, 2) → -1
    """
    _not_zero(divisor)
    return _calculate(dividend, divisor, lambda a, b: a - b * _quotient(a, b), EXACT.remainder, math.fmod)


def _not_zero(divisor: float) -> None:
    if not divisor:
        raise invalid("division by zero")


def _quotient(dividend: int, divisor: int) -> int:
    return abs(dividend) // abs(divisor) * (1 if (dividend < 0) == (divisor < 0) else -1)


@function("min")
def least(value: float | list[JSON], *more: float) -> JSON:
    """The smallest of several numbers, or of the numbers in one list.

    min(3, 1, 2) → 1
    """
    return min(_numbers(value, more), key=comparable)


@function("max")
def greatest(value: float | list[JSON], *more: float) -> JSON:
    """The largest of several numbers, or of the numbers in one list.

    max([1, 2, 3]) → 3
    """
    return max(_numbers(value, more), key=comparable)


def _numbers(value: float | list[JSON], more: tuple[float, ...]) -> list[float]:
    if not isinstance(value, list):
        return [value, *more]
    if more:
        raise invalid("a list has to be the only argument")
    if not value:
        raise invalid("the list is empty")
    for i, item in enumerate(value):
        if not isinstance(item, int | float) or isinstance(item, bool):
            raise wrong(f"parameter 1 'value'[{i}]", "a number", item)
    return value


@function("rand")
def rand(ambient: Ambient, least: int, end: int) -> JSON:
    """A random whole number from `least` on, below `end`.

    rand(1, 2) → 1
    """
    if least >= end:
        raise invalid(f"there is no whole number from {least} on and below {end}")
    return ambient.random.randrange(least, end)
