"""Dates and times. A time is text: ISO 8601, or American such as `3/15/2018 1:27 PM`.

A result prints in the .NET format "o" unless another is given: seven digits of a second, and after them the zone that
the time came with: Z, an offset, or nothing where it isn't known.
"""

from __future__ import annotations

from datetime import UTC

from engine.errors import did_you_mean
from engine.expressions import Ambient
from engine.functions.cultures import EN_US, Culture
from engine.functions.declare import function, invalid
from engine.functions.formats import format_moment, format_span, parse_moment
from engine.functions.moments import DAY, HOUR, MINUTE, SECOND, Moment, Span, out_of_range, read_moment
from engine.functions.zones import Zone
from engine.types import JSON

_FIXED_UNITS = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "day": DAY, "week": 7 * DAY}
_MONTHS = {"month": 1, "year": 12}


def _later(time: Moment, interval: int, unit: str) -> Moment:
    if abs(interval) > 10**12:
        raise out_of_range()
    name = unit.lower()
    if name in _MONTHS:
        return time.plus_months(interval * _MONTHS[name])
    if name not in _FIXED_UNITS:
        known = [known.capitalize() for known in (*_FIXED_UNITS, *_MONTHS)]
        raise invalid(f"'{unit[:20]}' is no unit of time", did_you_mean(unit, known))
    return time.plus(interval * _FIXED_UNITS[name])


def _now(ambient: Ambient) -> Moment:
    now = ambient.now if ambient.now.tzinfo is None else ambient.now.astimezone(UTC).replace(tzinfo=None)
    return Moment.of(now, "Z")


@function("utcNow")
def utc_now(ambient: Ambient, format: str = "o") -> JSON:
    """The present time in UTC: the same throughout one attempt of a step.

    utcNow('yyyy-MM-dd') → "2018-03-15"
    """
    return format_moment(_now(ambient), format, EN_US)


@function("getFutureTime")
def get_future_time(ambient: Ambient, interval: int, unit: str, format: str = "o") -> JSON:
    """The present time plus a number of units: Second, Minute, Hour, Day, Week, Month or Year.

    getFutureTime(5, 'Day', 'D') → "Tuesday, March 20, 2018"
    """
    return format_moment(_later(_now(ambient), interval, unit), format, EN_US)


@function("getPastTime")
def get_past_time(ambient: Ambient, interval: int, unit: str, format: str = "o") -> JSON:
    """The present time minus a number of units: Second, Minute, Hour, Day, Week, Month or Year.

    getPastTime(5, 'Day', 'D') → "Saturday, March 10, 2018"
    """
    return format_moment(_later(_now(ambient), -interval, unit), format, EN_US)


@function("addSeconds")
def add_seconds(timestamp: Moment, seconds: int, format: str = "o") -> JSON:
    """A time plus a number of seconds, which may be negative.

    addSeconds('2018-03-15T00:00:00Z', 10) → "2018-03-15T00:00:10.0000000Z"
    """
    return format_moment(_later(timestamp, seconds, "second"), format, EN_US)


@function("addMinutes")
def add_minutes(timestamp: Moment, minutes: int, format: str = "o") -> JSON:
    """A time plus a number of minutes, which may be negative.

    addMinutes('2018-03-15T00:20:00Z', -10) → "2018-03-15T00:10:00.0000000Z"
    """
    return format_moment(_later(timestamp, minutes, "minute"), format, EN_US)


@function("addHours")
def add_hours(timestamp: Moment, hours: int, format: str = "o") -> JSON:
    """A time plus a number of hours, which may be negative.

    addHours('2018-03-15T00:00:00Z', 10) → "2018-03-15T10:00:00.0000000Z"
    """
    return format_moment(_later(timestamp, hours, "hour"), format, EN_US)


@function("addDays")
def add_days(timestamp: Moment, days: int, format: str = "o") -> JSON:
    """A time plus a number of days, which may be negative.

    addDays('2018-03-15T00:00:00Z', 10, 'yyyy-MM-dd') → "2018-03-25"
    """
    return format_moment(_later(timestamp, days, "day"), format, EN_US)


@function("addToTime")
def add_to_time(timestamp: Moment, interval: int, unit: str, format: str = "o") -> JSON:
    """A time plus a number of units: Second, Minute, Hour, Day, Week, Month or Year.

    A month later is the same day of the month, or the last one of a shorter month.

    addToTime('2018-01-31', 1, 'Month', 'd') → "2/28/2018"
    """
    return format_moment(_later(timestamp, interval, unit), format, EN_US)


@function("subtractFromTime")
def subtract_from_time(timestamp: Moment, interval: int, unit: str, format: str = "o") -> JSON:
    """A time minus a number of units: Second, Minute, Hour, Day, Week, Month or Year.

    subtractFromTime('2018-01-02T00:00:00Z', 1, 'Day') → "2018-01-01T00:00:00.0000000Z"
    """
    return format_moment(_later(timestamp, -interval, unit), format, EN_US)


@function("startOfHour")
def start_of_hour(timestamp: Moment, format: str = "o") -> JSON:
    """The beginning of the hour that a time lies in.

    startOfHour('2018-03-15T13:30:30Z') → "2018-03-15T13:00:00.0000000Z"
    """
    return format_moment(timestamp.plus(-(timestamp.ticks % HOUR)), format, EN_US)


@function("startOfDay")
def start_of_day(timestamp: Moment, format: str = "o") -> JSON:
    """The beginning of the day that a time lies in.

    startOfDay('2018-03-15T13:30:30Z') → "2018-03-15T00:00:00.0000000Z"
    """
    return format_moment(timestamp.plus(-(timestamp.ticks % DAY)), format, EN_US)


@function("startOfMonth")
def start_of_month(timestamp: Moment, format: str = "o") -> JSON:
    """The beginning of the month that a time lies in.

    startOfMonth('2018-03-15T13:30:30Z', 'yyyy-MM-dd') → "2018-03-01"
    """
    start = timestamp.plus(-(timestamp.ticks % DAY)).plus((1 - timestamp.clock.day) * DAY)
    return format_moment(start, format, EN_US)


@function("dayOfWeek")
def day_of_week(timestamp: Moment) -> JSON:
    """The day of the week of a time: 0 for Sunday to 6 for Saturday.

    dayOfWeek('2018-03-15T13:27:36Z') → 4
    """
    return timestamp.clock.isoweekday() % 7


@function("dayOfMonth")
def day_of_month(timestamp: Moment) -> JSON:
    """The day of the month of a time.

    dayOfMonth('2018-03-15T13:27:36Z') → 15
    """
    return timestamp.clock.day


@function("dayOfYear")
def day_of_year(timestamp: Moment) -> JSON:
    """The day of the year of a time, from 1.

    dayOfYear('2018-03-15T13:27:36Z') → 74
    """
    return timestamp.clock.timetuple().tm_yday


@function("ticks")
def ticks(timestamp: Moment) -> JSON:
    """How many ticks of 100 nanoseconds have passed from the beginning of the year 1 to a time, both in UTC.

    ticks('2018-03-15T00:00:00Z') → 636566688000000000
    """
    return timestamp.instant


@function("formatDateTime")
def format_date_time(timestamp: Moment, format: str = "o", locale: Culture = EN_US) -> JSON:
    """A time in a .NET format: one letter (d D f F g G M O R s t T u U Y) or a custom one such as 'yyyy-MM-dd HH:mm'.

    formatDateTime('03/15/2018 12:00:00', 'yyyy-MM-ddTHH:mm:ss') → "2018-03-15T12:00:00"
    """
    return format_moment(timestamp, format, locale)


@function("parseDateTime")
def parse_date_time(timestamp: str, locale: Culture = EN_US, format: str | None = None) -> JSON:
    """The time that a text names, in the format "o". With a .NET format the text has to have exactly that form.

    parseDateTime('20 octobre 2010', 'fr-FR') → "2010-10-20T00:00:00.0000000"
    """
    found = read_moment(timestamp, locale) if format is None else parse_moment(timestamp, format, locale)
    if found is None:
        raise invalid(
            f"'{timestamp[:60]}' isn't a time as {locale.name or 'the invariant culture'} writes it",
            "name its locale as the second argument, or its format as the third",
        )
    return format_moment(found, "o", EN_US)


@function("dateDifference")
def date_difference(start: Moment, end: Moment) -> JSON:
    """The time from one time to another as text, `[-][d.]hh:mm:ss[.fffffff]`; a time of unknown zone counts as UTC.

    dateDifference('2015-02-08', '2018-07-30') → "1268.00:00:00"
    """
    return str(Span(end.instant - start.instant))


@function("formatTimeSpan")
def format_time_span(span: Span, format: str, locale: Culture = EN_US) -> JSON:
    """A span of time in a .NET format: c, g, G, or a custom one of d h m s f F with every other character quoted.

    formatTimeSpan('1.12:30:00', "d' days 'hh\\\\:mm") → "1 days 12:30"
    """
    return format_span(span, format, locale)


@function("convertFromUtc")
def convert_from_utc(timestamp: Moment, target: Zone, format: str = "o") -> JSON:
    """A time in UTC by the clock of a zone, named as Windows or IANA names it. The result doesn't say its zone, unless
    it is UTC.

    convertFromUtc('2018-01-01T08:00:00.0000000Z', 'Pacific Standard Time') → "2018-01-01T00:00:00.0000000"
    """
    return format_moment(target.from_utc(timestamp), format, EN_US)


@function("convertToUtc")
def convert_to_utc(timestamp: Moment, source: Zone, format: str = "o") -> JSON:
    """A time by the clock of a zone in UTC; of an hour that comes twice the second one.

    A time that the clock leaves out is an error, and so is one that says another offset than the zone's.

    convertToUtc('01/01/2018 00:00:00', 'Pacific Standard Time') → "2018-01-01T08:00:00.0000000Z"
    """
    return format_moment(source.to_utc(timestamp), format, EN_US)


@function("convertTimeZone")
def convert_time_zone(timestamp: Moment, source: Zone, target: Zone, format: str = "o") -> JSON:
    """A time by the clock of one zone as the clock of another shows it. The result doesn't say its zone,
    unless it is UTC.

    convertTimeZone('2018-01-01T08:00:00.0000000Z', 'UTC', 'Pacific Standard Time') → "2018-01-01T00:00:00.0000000"
    """
    return format_moment(target.from_utc(source.to_utc(timestamp)), format, EN_US)
