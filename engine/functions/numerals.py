"""Numbers as text and back, by the rules of .NET: standard formats (C D E F G N P R X) and custom ones.

A standard format takes a float for exactly what it is and rounds a half to the even digit: 2.5 as F0 is 2, and 1.005,
which is a little less, is 1.00 as F2. A custom one takes its first 15 digits and rounds a half away from zero, and so
do both with whole numbers and decimals: 1.005 as 0.00 is 1.01.
Source: .NET, "Standard numeric format strings" and "Custom numeric format strings".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from engine.functions.cultures import Culture
from engine.functions.declare import invalid
from engine.functions.values import LARGEST_INT, Exact, comparable

_ROUNDING = Context(prec=2000, rounding=ROUND_HALF_UP)
_TO_EVEN = Context(prec=2000, rounding=ROUND_HALF_EVEN)
_CUSTOM_DIGITS = 15  # of a float, in a custom format
_MOST_DIGITS = 99
_LONGEST_PATTERN = 300
# Patterns as text: they are compiled when first used, for a cheap start.
_INT = r"[ \t-\r]*([+-]?[0-9]+)[ \t-\r]*"
_FLOAT = (
    r"[ \t-\r]*(?P<sign>[+-]?)(?=\.?[0-9])(?P<whole>[0-9][0-9,]*)?(?:\.(?P<part>[0-9]*))?"
    r"(?P<power>[eE][+-]?[0-9]{1,4})?[ \t-\r]*(?P<trailing>[+-]?)[ \t-\r]*"
)


def parse_int(text: str) -> int | None:
    """A whole number of 64 bits, with sign and white space around, else None."""
    found = re.fullmatch(_INT, text) if len(text) < 100 else None
    number = int(found.group(1)) if found else None
    return number if number is not None and -LARGEST_INT - 1 <= number <= LARGEST_INT else None


def parse_decimal(text: str, culture: Culture) -> Decimal | None:
    """A number as .NET reads it, else None: thousands separators anywhere, and the sign may come last."""
    if culture.comma.isspace():  # any space will do
        text = re.sub(r"(?<=[0-9])[ \xa0\u202f](?=[0-9])", culture.comma, text)
    text = text.translate({ord(culture.comma): ",", ord(culture.point): "."})
    found = re.fullmatch(_FLOAT, text) if len(text) < 1000 else None
    if found is None or (found["sign"] and found["trailing"]):
        return None
    whole = (found["whole"] or "").replace(",", "")
    sign = found["sign"] or found["trailing"]
    return Decimal(f"{sign}{whole or 0}.{found['part'] or 0}{found['power'] or ''}")


def parse_float(text: str, culture: Culture) -> float | None:
    """The same as a float; None also for what is too large for one."""
    number = parse_decimal(text, culture)
    out = float(number) if number is not None else None
    return out if out is not None and abs(out) != float("inf") else None


def format_number(number: float, pattern: str, culture: Culture) -> str:
    """Raises DataError for an unknown format, or one that doesn't fit the number."""
    standard = re.fullmatch(r"([A-Za-z])([0-9]*)", pattern or "G")
    if not standard:
        return _custom(number, pattern, culture)
    letter, digits = standard.groups()
    if len(digits) > 2:
        raise invalid(f"the format '{pattern[:20]}' asks for more than {_MOST_DIGITS} digits")
    return _standard(number, letter, int(digits) if digits else None, culture)


def _is_float(number: float) -> bool:
    return isinstance(number, float) and not isinstance(number, Exact)


def _standard(number: float, letter: str, precision: int | None, culture: Culture) -> str:
    exact = Decimal(number) if _is_float(number) else Decimal(comparable(number))
    rounding = _TO_EVEN if _is_float(number) else _ROUNDING
    places = 2 if precision is None else precision
    minus = "-"
    match letter.upper():
        case "C":
            places = culture.money_places if precision is None else precision
            return _worded(exact, places, culture.money, culture, rounding)
        case "P":
            percent = (culture.percent, minus + culture.percent)
            return _worded(exact.scaleb(2, _ROUNDING), places, percent, culture, rounding)
        case "N":
            return _worded(exact, places, ("n", "-n"), culture, rounding)
        case "F":
            return _fixed(exact, places, rounding).replace(".", culture.point)
        case "E":
            places = 6 if precision is None else precision
            text = _scientific(_rounded(exact, places + 1, rounding), letter, 3, places)
            return text.replace(".", culture.point)
        case "G" | "R":
            return _general(number, letter, precision if letter in "Gg" else None).replace(".", culture.point)
        case "D":
            whole = _whole(number, letter)
            return minus * (whole < 0) + str(abs(whole)).zfill(precision or 0)
        case "X":
            whole = _whole(number, letter) % 2**64  # negative numbers print as two's complement
            return f"{whole:{letter}}".zfill(precision or 0)
    raise invalid(f"'{letter}' is no number format", "use C, D, E, F, G, N, P, R or X, or a custom format such as 0.00")


def _whole(number: float, letter: str) -> int:
    if int(number) != number:
        raise invalid(f"the format {letter} is for whole numbers, found {number}")
    return int(number)


def _fixed(number: Decimal, places: int, rounding: Context = _ROUNDING) -> str:
    out = format(number.quantize(Decimal(1).scaleb(-places), context=rounding), "f")
    return out if out.strip("-0.") else out.removeprefix("-")


def _worded(number: Decimal, places: int, patterns: tuple[str, str], culture: Culture, rounding: Context) -> str:
    text = _fixed(number, places, rounding)
    whole, dot, part = text.removeprefix("-").partition(".")
    amount = _grouped(whole, culture) + (culture.point if dot else "") + part
    return patterns[text.startswith("-")].replace("n", amount, 1)


def _separated(right: int, culture: Culture) -> bool:
    """Whether a separator stands where so many digits follow before the point."""
    *first, last = culture.groups
    for size in first:
        if right <= size:
            return right == size
        right -= size
    return right > 0 and right % last == 0


def _grouped(digits: str, culture: Culture) -> str:
    rights = range(len(digits) - 1, -1, -1)
    pairs = zip(digits, rights, strict=True)
    return "".join(digit + culture.comma * _separated(right, culture) for digit, right in pairs)


def _rounded(number: Decimal, digits: int, rounding: Context = _ROUNDING) -> Decimal:
    return number.quantize(Decimal(1).scaleb(number.adjusted() - digits + 1), context=rounding) if number else number


def _scientific(number: Decimal, letter: str, exponent_digits: int, places: int | None) -> str:
    exponent = number.adjusted() if number else 0
    mantissa = number.scaleb(-exponent, _ROUNDING)
    text = _fixed(mantissa, places) if places is not None else _trimmed(mantissa)
    return f"{text}{letter}{'-' if exponent < 0 else '+'}{abs(exponent):0{exponent_digits}d}"


def _trimmed(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _general(number: float, letter: str, precision: int | None) -> str:
    exact = Decimal(comparable(number))
    if not precision:
        if isinstance(number, Exact | int):
            return format(exact, "f")
        precision = 15  # of the exponent only: all digits of the shortest text are kept
    elif _is_float(number):
        exact = _rounded(Decimal(number), precision, _TO_EVEN)
    else:
        exact = _rounded(exact, precision)
    if not exact or -5 < exact.adjusted() < precision:
        return _trimmed(exact if exact else exact.copy_abs())
    return _scientific(exact, "E" if letter in "GR" else "e", 2, None)


@dataclass(frozen=True)
class _Section:
    """One section of a custom format: its tokens and what they say together. Positions count digit placeholders."""

    tokens: tuple[tuple[str, str], ...]  # (kind, text): the kind is "text", "exponent" or a character of `0#.%‰`
    digits: int
    point: int
    least_whole: int  # digits before and after the point that always print
    least_part: int
    grouped: bool
    scale: int  # power of ten that the number is multiplied by
    scientific: bool


@lru_cache(maxsize=256)
def _sections(pattern: str) -> tuple[_Section, ...]:
    parts: list[list[tuple[str, str]]] = [[]]
    for found in re.finditer(r"""[eE][+-]?0+|\\.?|'[^']*'?|"[^"]*"?|.""", pattern, re.S):
        text = found.group()
        if text == ";":
            parts.append([])
        elif text[0] in "eE" and len(text) > 1:
            parts[-1].append(("exponent", text))
        elif text in "0#.,%‰":
            parts[-1].append((text, text))
        else:
            parts[-1].append(
                ("text", text[1:] if text[0] == "\\" else text.strip(text[0]) if text[0] in "'\"" else text)
            )
    return tuple(_section(tokens) for tokens in parts)


def _section(tokens: list[tuple[str, str]]) -> _Section:
    digits, point, first, last, scale = 0, -1, -1, 0, 0
    commas_at, commas, grouped = -1, 0, False
    for kind, _ in tokens:
        match kind:
            case "0" | "#":
                first = digits if kind == "0" and first < 0 else first
                digits += 1
                last = digits if kind == "0" else last
            case "." if point < 0:
                point = digits
            case "," if digits and point < 0:
                grouped = grouped or 0 <= commas_at < digits
                commas = commas + 1 if commas_at == digits else 1
                commas_at = digits
            case "%":
                scale += 2
            case "‰":
                scale += 3
    point = digits if point < 0 else point
    if commas_at == point:
        scale -= 3 * commas  # commas right before the point divide by a thousand each
    elif commas_at >= 0:
        grouped = True
    return _Section(
        tuple(t for t in tokens if t[0] != ","),
        digits,
        point,
        max(0, point - first) if first >= 0 else 0,
        max(0, last - point),
        grouped,
        scale,
        any(kind == "exponent" for kind, _ in tokens),
    )


def _custom(given: float, pattern: str, culture: Culture) -> str:
    if len(pattern) > _LONGEST_PATTERN:
        raise invalid(f"the format is longer than {_LONGEST_PATTERN} characters")
    sections = _sections(pattern)
    number = Decimal(f"{given:.{_CUSTOM_DIGITS - 1}e}") if _is_float(given) else Decimal(comparable(given))

    def chosen(index: int) -> _Section:
        return sections[index] if index < len(sections) and sections[index].tokens else sections[0]

    section = chosen(2 if not number else 1 if number < 0 else 0)
    rounded = _for_section(number, section)
    if number and not rounded:
        section = chosen(2)
        rounded = _for_section(number, section)
    minus = "-" if rounded < 0 and section is sections[0] else ""
    return minus + _filled(rounded.copy_abs(), section, culture)


def _for_section(number: Decimal, section: _Section) -> Decimal:
    number = number.scaleb(section.scale, _ROUNDING)
    if section.scientific:
        return _rounded(number, max(section.digits, 1))
    return number.quantize(Decimal(1).scaleb(section.point - section.digits), context=_ROUNDING)


def _filled(number: Decimal, section: _Section, culture: Culture) -> str:
    """The digits of the number put into the placeholders of the section; what is left over goes to the first one."""
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0") if number else ""
    scale = number.adjusted() + 1 if number else 0  # digits before the point
    exponent = scale - section.point if number and section.scientific else 0
    position = section.point if section.scientific else max(scale, section.point)
    surplus = 0 if section.scientific else scale - section.point
    out: list[str] = []
    at, pointed, powered = 0, False, False

    def put(digit: str) -> None:
        nonlocal position
        if digit:
            out.append(digit)
            if section.grouped and _separated(position - 1, culture):
                out.append(culture.comma)
        position -= 1

    for kind, text in section.tokens:
        if kind in "0#." and surplus > 0:
            for _ in range(surplus):
                put(digits[at] if at < len(digits) else "0")
                at += 1
            surplus = 0
        match kind:
            case "0" | "#" if surplus < 0:
                surplus += 1
                put("0" if position <= section.least_whole else "")
            case "0" | "#":
                digit = digits[at] if at < len(digits) else "0" if position > -section.least_part else ""
                at += 1
                put(digit)
            case "." if not pointed and position == 0 and (section.least_part or at < len(digits)):
                out.append(culture.point)
                pointed = True
            case ".":
                pass
            case "exponent" if not powered:
                sign = "-" if exponent < 0 else "+" if text[1] == "+" else ""
                out.append(f"{text[0]}{sign}{abs(exponent):0{min(text.count('0'), 10)}d}")
                powered = True
            case _:
                out.append(text)
    return "".join(out)
