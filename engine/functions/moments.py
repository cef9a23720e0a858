"""Times and spans of time, in ticks of 100 ns as .NET counts them, and how they are read from text."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import ClassVar

from engine.errors import DataError
from engine.functions.cultures import DAYS, MONTHS
from engine.functions.declare import invalid
from engine.types import JSON

SECOND = 10_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_END = 3_652_059 * DAY  # the first tick of the year 10000
_FIRST = datetime.min
_LATEST_2000 = 49  # a year 49 is 2049, a year 50 is 1950


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
        if not isinstance(value, str) or len(value) > 100:
            return None
        for pattern in _patterns():
            if found := pattern.fullmatch(value.strip()):
                return moment(found.groupdict())
        return None

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


def moment(parts: Mapping[str, str | None]) -> Moment | None:
    """A time out of the texts of its parts, None if there is no such time.

    y, m or mon, d, w (day of the week), h, n (minutes), s, f (fraction), half (AM, PM), zone; only y is needed.
    """

    def text(name: str) -> str:
        return parts.get(name) or ""

    def number(name: str, default: int = 0) -> int:
        return int(text(name) or default)

    year, hour, fraction, day = number("y"), number("h"), text("f"), text("w")
    if len(text("y")) <= 2:
        year += 2000 if year <= _LATEST_2000 else 1900
    if half := text("half")[:1].upper():
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half == "P")
    month = month_of(text("mon")) if text("mon") else number("m", 1)
    zone = _zone(text("zone"))
    try:
        clock = datetime(year, month, number("d", 1), hour, number("n"), number("s"))
    except ValueError:
        return None
    if zone is None:
        return None
    weekday = DAYS[clock.isoweekday() % 7]
    if day and not (len(day) >= 3 and weekday.lower().startswith(day.lower())):
        raise invalid(f"{clock:%Y-%m-%d} is a {weekday}, not '{day}'")
    ticks = (int(fraction[:8].ljust(8, "0")) + 5) // 10 if len(fraction) > 7 else int(fraction.ljust(7, "0"))
    return Moment.of(clock, zone).plus(ticks)


def month_of(name: str) -> int:
    """1 to 12, by a name of three letters or more; 0 if there is none."""
    starts = [i for i, month in enumerate(MONTHS, 1) if month.lower().startswith(name.lower())]
    return starts[0] if len(name) >= 3 and len(starts) == 1 else 0


def _zone(text: str) -> str | None:
    if text.upper() in ("", "Z", "GMT", "UTC"):
        return "Z" if text else ""
    digits = text[1:].replace(":", "").zfill(2).ljust(4, "0")
    if int(digits[:2]) * 60 + int(digits[2:]) > 14 * 60 or int(digits[2:]) > 59:
        return None
    return f"{text[0]}{digits[:2]}:{digits[2:]}"


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    time = (
        r"(?:(?:T|\s*,?\s+)(?P<h>\d{1,2})(?=:|\s*[AP]M)(?::(?P<n>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,20}))?)?)?"
        r"(?:\s*(?P<half>[AP]M))?(?:\s*(?P<zone>Z|GMT|UTC|[+-]\d{2}(?::?\d{2})?))?)?"
    )
    day = r"(?:(?P<w>[A-Z]{3,9}),?\s+)?"
    dates = (
        r"(?P<y>\d{4})-(?P<m>\d{1,2})(?:-(?P<d>\d{1,2}))?",
        r"(?P<y>\d{4})/(?P<m>\d{1,2})/(?P<d>\d{1,2})",
        r"(?P<m>\d{1,2})(?P<by>[/-])(?P<d>\d{1,2})(?P=by)(?P<y>\d{4}|\d{2})",
        day + r"(?P<mon>[A-Z]{3,9})\.?\s+(?P<d>\d{1,2}),?\s+(?P<y>\d{4})",
        day + r"(?P<d>\d{1,2})[\s-](?P<mon>[A-Z]{3,9})[\s,-]+(?P<y>\d{4})",
    )
    return tuple(re.compile(date + time, re.ASCII | re.IGNORECASE) for date in dates)


@cache
def _span() -> re.Pattern[str]:
    return re.compile(
        r"(?P<sign>-?)(?:(?P<days>\d{1,8})"
        r"|(?:(?P<d>\d{1,8})\.)?(?P<h>\d{1,2}):(?P<n>\d{1,2})(?::(?P<s>\d{1,2})(?:\.(?P<f>\d{1,7}))?)?)",
        re.ASCII,
    )
