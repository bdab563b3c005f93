"""Into which columns does a span fall? Hours of up to two days, days of up to a season, weeks beyond."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from collector.console.bar import day_text
from collector.core.days import Days, begin

_HOUR_MS: Final = 3_600_000
_DAYS_BY_HOUR: Final = 2
MOST: Final = 92


class Steps(NamedTuple):
    """`begins` (ms) and names of the columns, and where a click on one leads."""

    begins: list[int]
    labels: list[str]
    ranges: list[str]
    unit: str

    def place_of(self, at: int, until: int) -> float:
        """How many columns lie to the left of a moment (ms), with a fraction; `until`: where the last one ends."""
        i = bisect_right(self.begins, at) - 1
        ends = [*self.begins[1:], until]
        return i + (at - self.begins[i]) / (ends[i] - self.begins[i])

    def add_up(self, values: Iterable[tuple[int, float]]) -> list[float]:
        """The sum of the values (moment in ms, value) of each column."""
        out = [0.0] * len(self.begins)
        for at, value in values:
            out[max(bisect_right(self.begins, at) - 1, 0)] += value
        return out


def steps_of(days: Days, zone: ZoneInfo, most: int = MOST, *, hours: bool = True) -> Steps:
    """The columns of some days, `most` at most; `hours`: a day or two by the hour."""
    if hours and days.length <= _DAYS_BY_HOUR:
        since, until = days.span(zone)
        wide = next(n for n in (1, 2, 3, 4, 6, 12, 24) if -(-(until - since) // (n * _HOUR_MS)) <= most)
        begins = list(range(since, until, wide * _HOUR_MS))
        moments = [datetime.fromtimestamp(at / 1000, zone) for at in begins]
        return Steps(begins, [f"{m:%H:%M}" for m in moments], [f"{m:%Y-%m-%d}..{m:%Y-%m-%d}" for m in moments], "hour")
    width = next(n for n in (1, 2, 7, 28, 91, 364) if -(-days.length // n) <= most)
    firsts = days.all()[::width]
    lasts = [min(first + timedelta(width - 1), days.last) for first in firsts]
    return Steps(
        [begin(day, zone) for day in firsts],
        [day_text(day) for day in firsts],
        [f"{first}..{last}" for first, last in zip(firsts, lasts, strict=True)],
        {1: "day", 7: "week"}.get(width, f"{width} days"),
    )
