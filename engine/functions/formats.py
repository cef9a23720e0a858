"""Times and spans as text and back, by the rules of .NET.

Source: .NET, "Standard date and time format strings", "Custom date and time format strings" and the same for TimeSpan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from engine.functions.cultures import INVARIANT, Culture
from engine.functions.declare import invalid
from engine.functions.moments import DAY, HOUR, MINUTE, SECOND, Moment, Span, moment

Token: TypeAlias = tuple[str, int]  # a letter and how often it stands; or literal text and 0, or -1 where it is bare
_LITERAL = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\\."
_TIME_LETTERS = "dfFghHKmMstyz"
_SPAN_LETTERS = "dhmsfF"
_IN_UTC = ("R", "r", "u", "U")
# The standard formats that are the same in every culture.
_FIXED = {
    **dict.fromkeys("oO", "yyyy'-'MM'-'dd'T'HH':'mm':'ss'.'fffffffK"),
    **dict.fromkeys("rR", "ddd, dd MMM yyyy HH':'mm':'ss 'GMT'"),
    **{"s": "yyyy'-'MM'-'dd'T'HH':'mm':'ss", "u": "yyyy'-'MM'-'dd HH':'mm':'ss'Z'"},
}


def _tokens(pattern: str, letters: str) -> tuple[Token, ...]:
    """Raises DataError for a quote or escape that doesn't end."""
    out: list[Token] = []
    token = rf"(?P<run>([{letters}])\2*)|%(?P<single>[{letters}])|(?P<literal>{_LITERAL})|(?P<bare>.)"
    for found in re.finditer(token, pattern, re.S):
        match found.lastgroup:
            case "run":
                run = found["run"]
                out += [("K", 1)] * len(run) if run[0] == "K" else [(run[0], len(run))]
            case "single":
                out.append((found["single"], 1))
            case "literal":
                text = found["literal"]
                out.append((text[1] if text[0] == "\\" else re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.S), 0))
            case _ if found["bare"] in "'\"\\%":
                raise invalid(f"the format '{pattern[:60]}' has a {found['bare']} that nothing follows")
            case _:
                out.append((found["bare"], -1))
    if any(letter in "fF" and count > 7 for letter, count in out):
        raise invalid(f"the format '{pattern[:60]}' asks for more than 7 digits of a second")
    return tuple(out)


@lru_cache(maxsize=512)
def _time_tokens(pattern: str, culture: Culture) -> tuple[tuple[Token, ...], Culture]:
    """The parts of a format, and the culture that names them: standard formats may be beyond culture."""
    if len(pattern) > 1:
        custom = pattern
    elif pattern in _FIXED:
        custom, culture = _FIXED[pattern], INVARIANT
    elif (found := culture.dates.get(pattern or "G")) is not None:
        custom = found
    else:
        raise invalid(
            f"'{pattern}' is no time format",
            f"one letter is a standard format (d D f F g G M O R s t T u U Y); write '%{pattern}' for the single part",
        )
    marks = {"/": culture.date_mark, ":": culture.time_mark}
    return tuple(
        (marks.get(text, text), n) if n < 0 else (text, n) for text, n in _tokens(custom, _TIME_LETTERS)
    ), culture


def format_moment(time: Moment, pattern: str, culture: Culture) -> str:
    """Raises DataError for a format that .NET doesn't know. R, u and U print UTC."""
    if pattern in _IN_UTC:
        time = time.utc()
    tokens, culture = _time_tokens(pattern, culture)
    with_day = any(letter == "d" and 0 < count <= 2 for letter, count in tokens)
    parts: list[str] = []
    for letter, count in tokens:
        if count <= 0:
            parts.append(letter)
        elif letter in _NAMED:
            parts.append(_NAMED[letter](time, count, culture, with_day))
        elif letter == "F" and not _PRINTED[letter](time, count) and parts and parts[-1] == ".":
            parts.pop()  # no fraction, no point
        else:
            parts.append(_PRINTED[letter](time, count))
    return "".join(parts)


def _day(time: Moment, count: int, culture: Culture, _: bool) -> str:
    if count <= 2:
        return f"{time.clock.day:0{count}d}"
    return (culture.short_days if count == 3 else culture.days)[time.clock.isoweekday() % 7]


def _month(time: Moment, count: int, culture: Culture, with_day: bool) -> str:
    month = time.clock.month
    if count <= 2:
        return f"{month:0{count}d}"
    names = culture.short_months if count == 3 else culture.months_of_days if with_day else culture.months
    return names[month - 1]


def _half(time: Moment, count: int, culture: Culture, _: bool) -> str:
    name = culture.halves[time.clock.hour >= 12]
    return name[:1] if count == 1 else name


def _year(time: Moment, count: int) -> str:
    year = time.clock.year
    return f"{year % 100 if count <= 2 else year:0{count}d}"


def _offset(time: Moment, count: int) -> str:
    minutes = abs(time.offset) // MINUTE
    sign = "-" if time.offset < 0 else "+"
    return f"{sign}{minutes // 60:0{min(count, 2)}d}" + (f":{minutes % 60:02d}" if count > 2 else "")


def _fraction(ticks: int, count: int) -> str:
    return f"{ticks % SECOND:07d}"[:count]


_NAMED: Mapping[str, Callable[[Moment, int, Culture, bool], str]] = {"d": _day, "M": _month, "t": _half}
_PRINTED: Mapping[str, Callable[[Moment, int], str]] = {
    "y": _year,
    "H": lambda time, count: f"{time.clock.hour:0{min(count, 2)}d}",
    "h": lambda time, count: f"{(time.clock.hour - 1) % 12 + 1:0{min(count, 2)}d}",
    "m": lambda time, count: f"{time.clock.minute:0{min(count, 2)}d}",
    "s": lambda time, count: f"{time.clock.second:0{min(count, 2)}d}",
    "f": lambda time, count: _fraction(time.ticks, count),
    "F": lambda time, count: _fraction(time.ticks, count).rstrip("0"),
    "g": lambda time, count: "A.D.",  # the one era there is
    "z": _offset,
    "K": lambda time, count: time.zone,
}


def parse_moment(text: str, pattern: str, culture: Culture) -> Moment:
    """Reads a time in exactly this format. Raises DataError if it isn't, or if the format has no year."""
    tokens, culture = _time_tokens(pattern, culture)
    names, regex = _parser(tokens, culture)
    if "y" not in names:
        raise invalid(f"the format '{pattern[:60]}' has no year")
    found = regex.fullmatch(text)
    parts: dict[str, str] = {}
    for name, part in zip(names, found.groups() if found else (), strict=False):
        if parts.setdefault(name, part or "") != (part or ""):
            found = None
    if ("h", 1) in tokens or ("h", 2) in tokens:
        parts.setdefault("half", culture.halves[0])  # an hour of the half day alone is one of the morning
    time = moment(parts, culture) if found else None
    if time is None:
        raise invalid(f"'{text[:60]}' isn't a time in the format '{pattern[:60]}'")
    return time.utc() if pattern in _IN_UTC else time


@lru_cache(maxsize=256)
def _parser(tokens: tuple[Token, ...], culture: Culture) -> tuple[tuple[str, ...], re.Pattern[str]]:
    names: list[str] = []
    regex: list[str] = []
    for letter, count in tokens:
        if count <= 0:
            regex.append(r"\s" if letter.isspace() else re.escape(letter))
            continue
        name, part = _read_part(letter, count, culture)
        if letter == "F" and regex and regex[-1] == r"\.":
            regex[-1] = rf"(?:\.{part})?"
        else:
            regex.append(part)
        names += [name] if name else []
    return tuple(names), re.compile("".join(regex), re.IGNORECASE)


def _read_part(letter: str, count: int, culture: Culture) -> tuple[str, str]:
    """The name of the part that a token gives (as `moment` takes it) and the expression that finds it."""
    digits = r"([0-9]{1,2})" if count == 1 else r"([0-9]{2})"
    match letter:
        case "d" if count > 2:
            return "w", _choice(culture.short_days if count == 3 else culture.days)
        case "M" if count > 2:
            return "mon", _choice(culture.short_months if count == 3 else culture.months + culture.months_of_days)
        case "d":
            return "d", digits
        case "M":
            return "m", digits
        case "y":
            return "y", digits if count <= 2 else rf"([0-9]{{{count}}})"
        case "H" | "h":
            return "h", digits
        case "m":
            return "n", digits
        case "s":
            return "s", digits
        case "f":
            return "f", rf"([0-9]{{{count}}})"
        case "F":
            return "f", rf"([0-9]{{0,{count}}})"
        case "t":
            return "half", _choice(half[: 1 if count == 1 else None] for half in culture.halves)
        case "z":
            hours = r"[+-][0-9]{1,2}" if count == 1 else r"[+-][0-9]{2}"
            return "zone", f"({hours}:[0-9]{{2}})" if count > 2 else f"({hours})"
        case "K":
            return "zone", r"(Z|[+-][0-9]{2}:[0-9]{2})?"
    return "", r"A\.D\."


def _choice(names: Iterable[str]) -> str:
    return f"({'|'.join(re.escape(name) for name in sorted(set(names), key=len, reverse=True))})"


def format_span(span: Span, pattern: str, culture: Culture) -> str:
    """Raises DataError for a format that .NET doesn't know; in a custom one every literal is quoted or escaped."""
    ticks = abs(span.ticks)
    sign = "-" if span.ticks < 0 else ""
    match pattern:
        case "" | "c" | "t" | "T":
            return str(span)
        case "g":
            days = f"{ticks // DAY}:" if ticks >= DAY else ""
            fraction = _fraction(ticks, 7).rstrip("0")
            return f"{sign}{days}{ticks // HOUR % 24}:" + _clock(ticks) + (culture.point + fraction if fraction else "")
        case "G":
            return f"{sign}{ticks // DAY}:{ticks // HOUR % 24:02d}:{_clock(ticks)}{culture.point}{_fraction(ticks, 7)}"
    if len(pattern) == 1:
        raise invalid(f"'{pattern}' is no format of a span", f"use c, g or G; write '%{pattern}' for the single part")
    out = []
    for letter, count in _tokens(pattern, _SPAN_LETTERS):
        if count < 0:
            raise invalid(f"the format '{pattern[:60]}' has a bare '{letter}'", f"write \\{letter} or '{letter}'")
        if count == 0:
            out.append(letter)
            continue
        if count > (8 if letter == "d" else 7 if letter in "fF" else 2):
            raise invalid(f"the format '{pattern[:60]}' has too many {letter}")
        parts = {"d": ticks // DAY, "h": ticks // HOUR % 24, "m": ticks // MINUTE % 60, "s": ticks // SECOND % 60}
        fraction = _fraction(ticks, count)
        out.append(
            f"{parts[letter]:0{count}d}" if letter in parts else fraction if letter == "f" else fraction.rstrip("0")
        )
    return "".join(out)


def _clock(ticks: int) -> str:
    return f"{ticks // MINUTE % 60:02d}:{ticks // SECOND % 60:02d}"
