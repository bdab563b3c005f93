"""Which days does somebody mean, and when do they begin? Days are a time zone's: 23, 24 or 25 hours long."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

RANGES: Final = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7": "7 days",
    "28": "28 days",
    "90": "90 days",
    "month": "This month",
    "last_month": "Last month",
}
COMPARISONS: Final = {
    "none": "No comparison",
    "previous": "Previous period",
    "weekdays": "Same weekdays",
    "year": "Last year",
}
_LONGEST: Final = 800  # days
# The zones are those of the package tzdata everywhere: a confined process may not read the system's, and one that did
# would draw other days than the next machine.
zoneinfo.reset_tzpath(())


class Days(NamedTuple):
    """From the first day to the last, both included."""

    first: date
    last: date

    @property
    def length(self) -> int:
        return (self.last - self.first).days + 1

    def all(self) -> list[date]:
        return [self.first + timedelta(n) for n in range(self.length)]

    def span(self, zone: ZoneInfo) -> tuple[int, int]:
        """The first moment and the one after the last, in ms."""
        return begin(self.first, zone), begin(self.last + timedelta(1), zone)


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of an IANA name; None where there is no such zone."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def begin(day: date, zone: ZoneInfo) -> int:
    """When a day begins (ms); where a clock change has no midnight, when the day's first minute is."""
    return int(datetime.combine(day, time.min, zone).timestamp() * 1000)


def day_of(ms: int, zone: ZoneInfo) -> date:
    """The day on which a moment lies."""
    return datetime.fromtimestamp(ms / 1000, zone).date()


def days_of(name: str, today: date) -> Days | None:
    """The days that a word or `2026-11-01..2026-11-15` names, never past today; None where it names none."""
    month = today.replace(day=1)
    match name:
        case "today":
            return Days(today, today)
        case "yesterday":
            return Days(today - timedelta(1), today - timedelta(1))
        case "7" | "28" | "90":
            return Days(today - timedelta(int(name) - 1), today)
        case "month":
            return Days(month, today)
        case "last_month":
            return Days((month - timedelta(1)).replace(day=1), month - timedelta(1))
    first, dots, last = name.partition("..")
    try:
        days = Days(date.fromisoformat(first), min(date.fromisoformat(last), today))
    except ValueError:
        return None
    return days if dots and days.first.year > 1970 and 1 <= days.length <= _LONGEST else None


def before(days: Days, comparison: str) -> Days | None:
    """The days to compare with; None for none."""
    match comparison:
        case "previous":
            return _earlier(days, days.length)
        case "weekdays":
            return _earlier(days, -(-days.length // 7) * 7)
        case "year":
            return Days(_a_year_before(days.first), _a_year_before(days.last))
    return None


def _earlier(days: Days, by: int) -> Days:
    return Days(days.first - timedelta(by), days.last - timedelta(by))


def _a_year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)
