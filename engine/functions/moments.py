"""Times and spans of time, in ticks of 100 ns as .NET counts them, and how they are read from text."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, cached_property, lru_cache
from typing import ClassVar

from engine.errors import DataError
from engine.functions.cultures import EN_US, Culture
from engine.functions.declare import invalid
from engine.types import JSON

SECOND = 10_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_END = 3_652_059 * DAY  # the first tick of the year 10000
_FIRST = datetime.min
_LATEST_2000 = 49  # a year 49 is 2049, a year 50 is 1950
_LONGEST = 100


def out_of_range() -> DataError:
    """The error for a time that has no date."""
    return invalid("the time is outside the years 1 to 9999")


@dataclass(frozen=True)
class Moment:
    """A time by its own clock. `zone` is what prints after it: 'Z', an offset such as '+02:00', or '' if unknown."""

    words: ClassVar[str] = "a time such as 2018-03-15T13:27:36Z or 3/15/2018 1:27 PM"

    ticks: int  # since 0001-01-01T00:00:00
    zone: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.ticks < _END:
            raise out_of_range()

    @classmethod
    def read(cls, value: JSON) -> Moment | None:
        """ISO 8601 or American; None for other text. Raises DataError for a day of the week that isn't the date's."""
        return read_moment(value, EN_US) if isinstance(value, str) else None

    @classmethod
    def of(cls, time: datetime, zone: str = "", ticks: int = 0) -> Moment:
        """`time` without a time zone, and what its microseconds leave out of the ticks."""
        return cls((time - _FIRST) // timedelta(microseconds=1) * 10 + ticks, zone)

    @cached_property
    def clock(self) -> datetime:
        """The time to the microsecond."""
        return _FIRST + timedelta(microseconds=self.ticks // 10)

    @property
    def offset(self) -> int:
        """Ticks ahead of UTC; 0 where the zone is unknown."""
        if self.zone in ("", "Z"):
            return 0
        sign = -1 if self.zone[0] == "-" else 1
        return sign * (int(self.zone[1:3]) * HOUR + int(self.zone[4:]) * MINUTE)

    @property
    def instant(self) -> int:
        """Ticks in UTC; a time of unknown zone counts as UTC."""
        return self.ticks - self.offset

    def utc(self) -> Moment:
        """The same instant in UTC."""
        return Moment(self.instant, "Z")

    def plus(self, ticks: int) -> Moment:
        """Raises DataError beyond the years 1 to 9999."""
        return replace(self, ticks=self.ticks + ticks)

    def plus_months(self, months: int) -> Moment:
        """The same day some months later, or the last day of a shorter month."""
        clock = self.clock
        year, month = divmod(clock.year * 12 + clock.month - 1 + months, 12)
        if not 1 <= year <= 9999:
            raise out_of_range()
        day = min(clock.day, monthrange(year, month + 1)[1])
        start = Moment.of(datetime(year, month + 1, day), self.zone)
        return start.plus(self.ticks % DAY)


@dataclass(frozen=True)
class Span:
    """A length of time; prints as `[-][d.]hh:mm:ss[.fffffff]`."""

    words: ClassVar[str] = "a span of time such as 1.12:30:00"

    ticks: int

    @classmethod
    def read(cls, value: JSON) -> Span | None:
        """`[-]d`, `[-][d.]hh:mm` or `[-][d.]hh:mm:ss[.fffffff]`."""
        found = _span().fullmatch(value.strip()) if isinstance(value, str) and len(value) < 100 else None
        if not found:
            return None
        hours, minutes, seconds = (int(found[part] or 0) for part in ("h", "n", "s"))
        if hours > 23 or minutes > 59 or seconds > 59:
            return None
        days = int(found["days"] or found["d"] or 0)
        fraction = int((found["f"] or "").ljust(7, "0"))
        ticks = days * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND + fraction
        return cls(-ticks if found["sign"] else ticks)

    def __str__(self) -> str:
        days, rest = divmod(abs(self.ticks), DAY)
        seconds, fraction = divmod(rest, SECOND)
        out = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        out = (f"{days}." if days else "") + out + (f".{fraction:07d}" if fraction else "")
        return "-" + out if self.ticks < 0 else out


def moment(parts: Mapping[str, str], culture: Culture) -> Moment | None:
    """A time out of the texts of its parts, None if there is no such time.

    y, m or mon, d, w (day of the week), h, n (minutes), s, f (fraction), half (AM, PM), zone; only y is needed.
    """

    def text(name: str) -> str:
        return parts.get(name, "")

    def number(name: str, default: int = 0) -> int:
        return int(text(name) or default)

    year, hour, fraction, day = number("y"), number("h"), text("f"), text("w")
    if len(text("y")) <= 2:
        year += 2000 if year <= _LATEST_2000 else 1900
    if half := _letters(text("half")):
        if not 1 <= hour <= 12:
            return None
        morning = half == "am" or (half != "pm" and _letters(culture.halves[0]).startswith(half))
        hour = hour % 12 + 12 * (not morning)
    month = culture.month_of(text("mon")) if text("mon") else number("m", 1)
    zone = _zone(text("zone"))
    try:
        clock = datetime(year, month, number("d", 1), hour, number("n"), number("s"))
    except ValueError:
        return None
    if zone is None:
        return None
    weekday = clock.isoweekday() % 7
    if day and culture.weekday_of(day) != weekday + 1:
        raise invalid(f"{clock:%Y-%m-%d} is a {culture.days[weekday]}, not '{day}'")
    ticks = (int(fraction[:8].ljust(8, "0")) + 5) // 10 if len(fraction) > 7 else int(fraction.ljust(7, "0"))
    return Moment.of(clock, zone).plus(ticks)


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text).casefold()


def _zone(text: str) -> str | None:
    if text.upper() in ("", "Z", "GMT", "UTC"):
        return "Z" if text else ""
    digits = text[1:].replace(":", "").zfill(2).ljust(4, "0")
    if int(digits[:2]) * 60 + int(digits[2:]) > 14 * 60 or int(digits[2:]) > 59:
        return None
    return f"{text[0]}{digits[:2]}:{digits[2:]}"


def read_moment(text: str, culture: Culture) -> Moment | None:
    """ISO 8601, or as the culture writes times; None for other text.

    Raises DataError for a day of the week that isn't the date's.
    """
    text = text.strip()
    for pattern in _patterns(culture) if len(text) <= _LONGEST else ():
        if found := re.fullmatch(pattern, text, re.IGNORECASE):
            # zone, weekday and half of the day have more than one place
            return moment({name.rstrip("_"): part for name, part in found.groupdict().items() if part}, culture)
    return None


@lru_cache(maxsize=16)
def _patterns(culture: Culture) -> tuple[str, ...]:
    """As text: each is compiled when first used."""

    def names(*lists: tuple[str, ...]) -> str:
        found = {name.rstrip(".") for each in lists for name in each}
        return "|".join(re.escape(name).replace(r"\ ", r"\s") for name in sorted(found, key=len, reverse=True))

    d, m, y, y4 = r"(?P<d>[0-9]{1,2})", r"(?P<m>[0-9]{1,2})", r"(?P<y>[0-9]{4}|[0-9]{2})", r"(?P<y>[0-9]{4})"
    half, mark = names(culture.halves, ("AM", "PM")), "[:.]" if culture.time_mark == "." else ":"
    time = (
        rf"(?:(?:T|(?P<zone_>Z)|\s*,?\s+)(?:(?P<half_>{half})\s*)?(?P<h>[0-9]{{1,2}})(?={mark}|\s*(?:{half}))"
        rf"(?:{mark}(?P<n>[0-9]{{2}})(?:{mark}(?P<s>[0-9]{{2}})(?:[.,](?P<f>[0-9]{{1,20}}))?)?)?"
        rf"(?:\s*(?P<half>{half})\.?)?(?:\s*(?P<zone>Z|GMT|UTC|[+-][0-9]{{2}}(?::?[0-9]{{2}})?))?"
        r"|(?P<zone__>Z|[+-][0-9]{2}:[0-9]{2}))?"
    )
    words = names(culture.fillers)
    gap = rf"(?:[\s,.-]|(?<!\w)(?:{words})(?!\w))+" if words else r"[\s,.-]+"
    days = names(culture.days, culture.short_days)
    day, after = rf"(?:(?P<w>{days}){gap})?", rf"(?:{gap}(?P<w_>{days}))?"
    mon = rf"(?P<mon>{names(culture.months, culture.months_of_days, culture.short_months)})"
    end = rf"(?:\s*(?:{words})?\.?)" if words else r"\.?"
    by, again = r"\s?(?P<by>[/.-])\s?", r"\s?(?P=by)\s?"
    parts, order = {"d": d, "m": m, "y": y}, culture.order
    # Where the year comes first, a year at the end follows the order of month and day.
    other = "mdy" if culture.month_day.find("M") < culture.month_day.find("d") else "dmy"
    dates = [
        rf"{y4}-{m}(?:-{d})?",
        rf"{y4}{by}{m}{again}{d}\.?",
        parts[order[0]] + by + parts[order[1]] + again + parts[order[2]] + r"\.?",
        parts[other[0]] + by + parts[other[1]] + again + y4,
        rf"(?:{gap})?{day}(?:{gap})?{d}{gap}{mon}{gap}{y}{end}{after}",
        rf"{day}{mon}{gap}{d}{gap}{y4}",
        rf"{y4}{gap}{mon}{gap}{d}{end}{after}",
        rf"{mon}{gap}{y4}{end}",
        rf"{m}/{y4}",
    ]
    if len(culture.fillers) == 3 and order == "ymd":  # such as 2018年3月15日
        year, month, date = map(re.escape, culture.fillers)
        dates.append(rf"{y4}{year}\s?{m}{month}\s?{d}{date}(?:\s?(?P<w>{days}))?")
    return tuple(date + time for date in dict.fromkeys(dates))


@cache
def _span() -> re.Pattern[str]:
    return re.compile(
        r"(?P<sign>-?)(?:(?P<days>\d{1,8})"
        r"|(?:(?P<d>\d{1,8})\.)?(?P<h>\d{1,2}):(?P<n>\d{1,2})(?::(?P<s>\d{1,2})(?:\.(?P<f>\d{1,7}))?)?)",
        re.ASCII,
    )
