"""Which week is meant, and when is a report of it due?"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from collector.core.days import Days, day_of

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DUE: Final = re.compile(rf"({'|'.join(WEEKDAYS)}) ([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII | re.IGNORECASE)
_WEEK: Final = re.compile(r"([0-9]{4})-W([0-9]{2})", re.ASCII)


class Due(NamedTuple):
    """A moment of each week, in a zone."""

    weekday: int
    at: time

    def latest(self, now: int, zone: ZoneInfo) -> int:
        """The last such moment (ms), not after `now`."""
        today = day_of(now, zone)
        day = today - timedelta((today.weekday() - self.weekday) % 7)
        at = self._moment(day, zone)
        return at if at <= now else self._moment(day - timedelta(7), zone)

    def _moment(self, day: date, zone: ZoneInfo) -> int:
        return int(datetime.combine(day, self.at, zone).timestamp() * 1000)


def due_of(text: str) -> Due | None:
    """`monday 08:00`; None for what is none."""
    found = _DUE.fullmatch(text.strip())
    return Due(WEEKDAYS.index(found[1].lower()), time(int(found[2]), int(found[3]))) if found else None


def week_before(today: date) -> Days:
    """The last whole week, Monday to Sunday."""
    monday = today - timedelta(today.weekday() + 7)
    return Days(monday, monday + timedelta(6))


def week_of(text: str) -> Days | None:
    """`2026-W48` (ISO 8601), or seven days from a date; None for what is neither."""
    try:
        found = _WEEK.fullmatch(text)
        first = date.fromisocalendar(int(found[1]), int(found[2]), 1) if found else date.fromisoformat(text)
        return Days(first, first + timedelta(6))
    except (ValueError, OverflowError):
        return None


def days_before(days: Days) -> Days:
    """The seven days before."""
    return Days(days.first - timedelta(7), days.last - timedelta(7))
