"""What differs between languages and regions when numbers and times become text: en-US and the invariant culture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.functions.declare import invalid
from engine.types import JSON

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# fmt: off
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)
# fmt: on


@dataclass(frozen=True, eq=False)
class Culture:
    """Standard date formats as custom ones, by letter, and how money and percentages print (n is the number)."""

    words: ClassVar[str] = "the name of a locale such as en-US"

    dates: Mapping[str, str]
    money: tuple[str, str]  # positive, negative
    percent: tuple[str, str]

    @classmethod
    def read(cls, value: JSON) -> Culture | None:
        """Raises DataError for a locale that isn't here."""
        if not isinstance(value, str):
            return None
        found = _CULTURES.get(value.lower().replace("_", "-"))
        if found is None:
            raise invalid(
                f"the locale '{value[:40]}' is not available",
                "known: en-US, and '' for the invariant culture; others will come with the extra 'babel'",
            )
        return found


def _dates(day: str, long_day: str, time: str, long_time: str, month: str, year: str) -> Mapping[str, str]:
    return {
        **{"d": day, "D": long_day, "t": time, "T": long_time, "M": month, "m": month, "Y": year, "y": year},
        **{"f": f"{long_day} {time}", "F": f"{long_day} {long_time}", "U": f"{long_day} {long_time}"},
        **{"g": f"{day} {time}", "G": f"{day} {long_time}"},
        **dict.fromkeys("oO", "yyyy'-'MM'-'dd'T'HH':'mm':'ss'.'fffffffK"),
        **dict.fromkeys("rR", "ddd, dd MMM yyyy HH':'mm':'ss 'GMT'"),
        **{"s": "yyyy'-'MM'-'dd'T'HH':'mm':'ss", "u": "yyyy'-'MM'-'dd HH':'mm':'ss'Z'"},
    }


EN_US = Culture(
    _dates("M/d/yyyy", "dddd, MMMM d, yyyy", "h:mm tt", "h:mm:ss tt", "MMMM d", "MMMM yyyy"),
    ("$n", "-$n"),
    ("n%", "-n%"),
)
INVARIANT = Culture(
    _dates("MM/dd/yyyy", "dddd, dd MMMM yyyy", "HH:mm", "HH:mm:ss", "MMMM dd", "yyyy MMMM"),
    ("¤n", "(¤n)"),
    ("n %", "-n %"),
)
_CULTURES = {"en-us": EN_US, "en": EN_US, "": INVARIANT, "invariant": INVARIANT}
