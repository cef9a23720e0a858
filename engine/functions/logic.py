"""Comparison and choice.

`if`, `and`, `or` and `coalesce` are lazy when they are called; as filters their arguments are evaluated first.
"""

from __future__ import annotations

from engine.functions.cultures import EN_US, Culture
from engine.functions.declare import function
from engine.functions.numerals import parse_float, parse_int
from engine.functions.values import compare, identity
from engine.types import JSON


@function("and")
def both(value: bool, other: bool, *more: bool) -> JSON:
    """Whether all values are true, looked at from left to right; each has to be true or false.

    and(true, 1 < 2) → true
    """
    return all((value, other, *more))


@function("or")
def either(value: bool, other: bool, *more: bool) -> JSON:
    """Whether any value is true, looked at from left to right; each has to be true or false.

    or(false, 1 < 2) → true
    """
    return any((value, other, *more))


@function("not")
def negation(value: bool) -> JSON:
    """The opposite of true or false.

    not(false) → true
    """
    return not value


@function("equals")
def equals(value: JSON, other: JSON) -> JSON:
    """Whether two values are the same: lists and objects deeply, text by upper and lower case, numbers by value.

    Nothing is converted: 2 equals 2.0, but 1 doesn't equal '1' and true doesn't equal 1.

    equals(2, 2.0) → true
    """
    return identity(value) == identity(other)


@function("greater")
def greater(value: float | str, other: float | str) -> JSON:
    """Whether the first of two numbers or two texts (by code points) is the greater; other pairs are an error.

    greater(10, 5) → true
    """
    return compare(value, other) > 0


@function("greaterOrEquals")
def greater_or_equals(value: float | str, other: float | str) -> JSON:
    """Whether the first of two numbers or two texts is greater than the second or equal to it.

    greaterOrEquals(5, 5) → true
    """
    return compare(value, other) >= 0


@function("less")
def less(value: float | str, other: float | str) -> JSON:
    """Whether the first of two numbers or two texts (by code points) is the smaller; other pairs are an error.

    less('banana', 'apple') → false
    """
    return compare(value, other) < 0


@function("lessOrEquals")
def less_or_equals(value: float | str, other: float | str) -> JSON:
    """Whether the first of two numbers or two texts is smaller than the second or equal to it.

    lessOrEquals(10, 10) → true
    """
    return compare(value, other) <= 0


@function("if")
def choice(condition: bool, yes: JSON, no: JSON) -> JSON:
    """The second value where the condition is true, else the third; the one not chosen isn't evaluated.

    if(3 > 2, 'yes', 'no') → "yes"
    """
    return yes if condition else no


@function("coalesce")
def coalesce(value: JSON, *more: JSON) -> JSON:
    """The first value that isn't null; empty texts, lists and objects aren't null.

    coalesce(null, '', 'x') → ""
    """
    return next((v for v in (value, *more) if v is not None), None)


@function("isInt")
def is_int(text: str) -> JSON:
    """Whether int() reads this text.

    isInt('10') → true
    """
    return parse_int(text) is not None


@function("isFloat")
def is_float(text: str, locale: Culture = EN_US) -> JSON:
    """Whether float() reads this text.

    isFloat('10,000.00') → true
    """
    return parse_float(text, locale) is not None
