"""What the kept sums do not hold: running totals of signals and outcomes, folded from slices of row numbers.

Each slice of row numbers is read once and remembered; slices that may still change (a late click re-opens a conversion
for 96 h) are read again when they are stale. Memory follows the number of slices and labels, never the number of rows.
Where numbers are times (PostgreSQL), a slice is a quarter of an hour, read in pages; what is new in it is added.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from collector.storage.reports.folds import (
    CONVERSION_SQL,
    DAY_MS,
    HOUR_MS,
    NAMES_SQL,
    ConversionSlice,
    OutcomeKey,
    SignalKey,
    fold_conversions,
)
from collector.storage.reports.questions import Reading, named

SLICE: Final = 4096
_OF_SQLITE: Final = 1 << 40  # where numbers are times, those below it came from SQLite and are none
_TIME_BITS: Final = 42  # of a number that is a time: 2^20 ms, 17 minutes
HORIZON_DAYS: Final = 31  # totals reach back this far
# Two sub-selects: SQLite walks the whole table for max and min in one.
_ENDS: Final = named(
    "ends of all conversions", "SELECT (SELECT max(id) FROM conversion), (SELECT min(id) FROM conversion)"
)
_BESIDE: Final = named(
    "conversions beside", "SELECT max(id) FILTER (WHERE id < ?1), min(id) FILTER (WHERE id >= ?1) FROM conversion"
)
_OPEN_FOR_MS: Final = 100 * HOUR_MS  # matching re-opens for 96 h; a little over
_STALE_OPEN_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 600.0
_STALE_SEALED_SECONDS: Final = 3600.0  # erasure and retention reach old rows too


@dataclass(slots=True)
class _Read:
    at: float
    up_to: int  # the newest row when it was read
    slice: ConversionSlice


def _number(row: int, *, by_time: bool) -> int:
    """The slice that a row is in; its number rises with the row's."""
    if by_time and row >= _OF_SQLITE:
        return _OF_SQLITE // SLICE + (row >> _TIME_BITS)
    return row // SLICE


def _bounds(number: int, *, by_time: bool) -> tuple[int, int]:
    """The first row of a slice, and the first after it."""
    if by_time and number >= _OF_SQLITE // SLICE:
        first = number - _OF_SQLITE // SLICE << _TIME_BITS
        return max(first, _OF_SQLITE), first + (1 << _TIME_BITS)
    return number * SLICE, (number + 1) * SLICE


async def first_received(reader: Reading, table: str, low: int, high: int, since: int) -> int:
    """The first row received at or after `since`: rows arrive in order, so a bisection finds it without an index."""
    sql = named(f"received from {table}", f"SELECT id, received FROM {table} WHERE id >= ? ORDER BY id LIMIT 1")
    while low < high:
        middle = (low + high) // 2
        row = await reader.one(sql, middle)
        if row is not None and row[1] < since:
            low = row[0] + 1
        else:
            high = middle
    return low


class Totals:
    """Running totals of conversions. `refresh` first; then the questions are answered from memory.

    Every question takes `since` in ms, and counts from the beginning of that day (UTC).
    """

    def __init__(self) -> None:
        self.slices: dict[int, _Read] = {}
        self.complete = False
        self._newest_id = 0
        self._horizon, self._looked = 0, -_LOOK_AGAIN_SECONDS

    async def refresh(self, reader: Reading, now: int, *, budget_seconds: float, again: bool = True) -> bool:
        """Count for `budget_seconds` at most: new rows first, then (`again`) rows that may have changed.

        True when every row has been counted at least once.
        """
        until = time.monotonic() + budget_seconds
        new, stale = await self._due(reader, now)
        for done, number in enumerate([*new, *(stale if again else [])]):
            if done >= 1 and time.monotonic() > until:  # some progress always, however slow the disk
                self.complete = self.complete or done >= len(new)
                return done >= len(new)
            await self._read(reader, number)
        self.complete = True
        return True

    async def _due(self, reader: Reading, now: int) -> tuple[list[int], list[int]]:
        """The slices that hold rows not counted yet, newest first; then those to read again, longest ago first."""
        row = await reader.one(_ENDS)
        if row is None or row[0] is None:
            self.slices.clear()
            return [], []
        self._newest_id = row[0]
        first = await self._first(reader, row[1], row[0], now - HORIZON_DAYS * DAY_MS)
        numbers = await self._between(reader, first, row[0])
        for gone in self.slices.keys() - {*numbers}:
            del self.slices[gone]
        new = [n for n in numbers if n not in self.slices or self._has_grown(n, by_time=reader.by_time)]
        known = [n for n in self.slices if not self._has_grown(n, by_time=reader.by_time)]
        return new, sorted((n for n in known if self._is_stale(n, now)), key=lambda n: self.slices[n].at)

    async def _between(self, reader: Reading, oldest: int, newest: int) -> list[int]:
        """The slices that may hold rows, newest first."""
        first, last = (_number(row, by_time=reader.by_time) for row in (oldest, newest))
        top = _OF_SQLITE // SLICE
        if not reader.by_time or first >= top or last < top:
            return list(range(last, first - 1, -1))
        before, after = await reader.one(_BESIDE, _OF_SQLITE) or (oldest, newest)
        old, new = (_number(row, by_time=True) for row in (before, after))
        return [*range(last, new - 1, -1), *range(old, first - 1, -1)]

    async def _first(self, reader: Reading, oldest: int, newest: int, since: int) -> int:
        """The first row within the horizon, looked for again each ten minutes."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._horizon = await first_received(reader, "conversion", oldest, newest, since)
            self._looked = time.monotonic()
        return max(self._horizon, oldest)

    def _has_grown(self, number: int, *, by_time: bool) -> bool:
        return self.slices[number].up_to < min(self._newest_id, _bounds(number, by_time=by_time)[1] - 1)

    def _is_stale(self, number: int, now: int) -> bool:
        read = self.slices[number]
        sealed = read.slice.newest < now - _OPEN_FOR_MS
        return time.monotonic() - read.at > (_STALE_SEALED_SECONDS if sealed else _STALE_OPEN_SECONDS)

    async def _read(self, reader: Reading, number: int) -> None:
        at, up_to, known = time.monotonic(), self._newest_id, self.slices.get(number)
        first, end = _bounds(number, by_time=reader.by_time)
        if not reader.by_time:
            self.slices[number] = _Read(at, up_to, await self._fold(reader, first, end))
        elif known is None or at - known.at > _STALE_OPEN_SECONDS:
            self.slices[number] = _Read(at, up_to, await self._pages(reader, first, min(end, up_to + 1)))
        else:  # what has become visible late below it is read with the whole slice, once that is stale
            known.slice.add(await self._pages(reader, known.up_to + 1, min(end, up_to + 1)))
            known.up_to = up_to

    async def _pages(self, reader: Reading, first: int, end: int) -> ConversionSlice:
        """As `_fold`, of any number of rows."""
        out = ConversionSlice()
        while rows := await reader.rows(CONVERSION_SQL, first, end):
            first = rows[-1][0] + 1
            out.add(fold_conversions(rows, await self._names(reader)))
        return out

    async def _fold(self, reader: Reading, first: int, end: int) -> ConversionSlice:
        rows = await reader.rows(CONVERSION_SQL, first, end)
        return fold_conversions(rows, await self._names(reader))

    async def _names(self, reader: Reading) -> set[tuple[int, str]]:
        """Asked after the rows: a name is written with the first event that brings it."""
        return {(store, name) for store, name in await reader.rows(NAMES_SQL)}

    def _since(self, ms: int) -> Iterator[ConversionSlice]:
        return (read.slice for read in self.slices.values() if read.slice.newest >= ms)

    def signals(self, since: int) -> Counter[SignalKey]:
        """Events by the set of keys that they carried, by day, store and event type."""
        out: Counter[SignalKey] = Counter()
        for part in self._since(since):
            out.update({key: n for key, n in part.signals.items() if key.day >= since // DAY_MS})
        return out

    def outcomes(self, since: int) -> Counter[OutcomeKey]:
        """How conversions were attributed, or why not, by day."""
        out: Counter[OutcomeKey] = Counter()
        for part in self._since(since):
            out.update({key: n for key, n in part.outcomes.items() if key.day >= since // DAY_MS})
        return out
