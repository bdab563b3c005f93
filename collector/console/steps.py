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
_DAYS_BY_DAY: Final = 92


class Steps(NamedTuple):
    """`begins` (ms) and names of the columns, and where a click on one leads."""

    begins: list[int]
    labels: list[str]
    ranges: list[str]

    def add_up(self, values: Iterable[tuple[int, float]]) -> list[float]:
        """The sum of the values (moment in ms, value) of each column."""
        out = [0.0] * len(self.begins)
        for at, value in values:
            out[max(bisect_right(self.begins, at) - 1, 0)] += value
        return out


def steps_of(days: Days, zone: ZoneInfo) -> Steps:
    """The columns of some days."""
    if days.length <= _DAYS_BY_HOUR:
        since, until = days.span(zone)
        begins = list(range(since, until, _HOUR_MS))
        moments = [datetime.fromtimestamp(at / 1000, zone) for at in begins]
        return Steps(begins, [f"{m:%H:%M}" for m in moments], [f"{m:%Y-%m-%d}..{m:%Y-%m-%d}" for m in moments])
    width = 1 if days.length <= _DAYS_BY_DAY else 7
    firsts = days.all()[::width]
    lasts = [min(first + timedelta(width - 1), days.last) for first in firsts]
    return Steps(
        [begin(day, zone) for day in firsts],
        [day_text(day) for day in firsts],
        [f"{first}..{last}" for first, last in zip(firsts, lasts, strict=True)],
    )
