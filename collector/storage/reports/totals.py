"""What the kept sums do not hold: running totals of signals and outcomes, folded from slices of row numbers.

Each slice of row numbers is read once and remembered; slices that may still change (a late click re-opens a conversion
for 96 h) are read again when they are stale. Memory follows the number of slices and labels, never the number of rows.
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
from collector.storage.reports.questions import Reading

SLICE: Final = 4096
HORIZON_DAYS: Final = 31  # totals reach back this far
_OPEN_FOR_MS: Final = 100 * HOUR_MS  # matching re-opens for 96 h; a little over
_STALE_OPEN_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 600.0
_STALE_SEALED_SECONDS: Final = 3600.0  # erasure and retention reach old rows too


@dataclass(slots=True)
class _Read:
    at: float
    up_to: int  # the newest row when it was read
    slice: ConversionSlice


async def first_received(reader: Reading, table: str, low: int, high: int, since: int) -> int:
    """The first row received at or after `since`: rows arrive in order, so a bisection finds it without an index."""
    sql = f"SELECT id, received FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
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
        # Two sub-selects: SQLite walks the whole table for max and min in one.
        row = await reader.one("SELECT (SELECT max(id) FROM conversion), (SELECT min(id) FROM conversion)")
        if row is None or row[0] is None:
            self.slices.clear()
            return [], []
        self._newest_id = row[0]
        first = await self._first(reader, row[1], row[0], now - HORIZON_DAYS * DAY_MS)
        newest, oldest = row[0] // SLICE, first // SLICE
        for gone in [n for n in self.slices if not oldest <= n <= newest]:
            del self.slices[gone]
        new = [n for n in range(newest, oldest - 1, -1) if n not in self.slices or self._has_grown(n)]
        stale = [n for n in self.slices if self._is_stale(n, now) and not self._has_grown(n)]
        return new, sorted(stale, key=lambda n: self.slices[n].at)

    async def _first(self, reader: Reading, oldest: int, newest: int, since: int) -> int:
        """The first row within the horizon, looked for again each ten minutes."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._horizon = await first_received(reader, "conversion", oldest, newest, since)
            self._looked = time.monotonic()
        return max(self._horizon, oldest)

    def _has_grown(self, number: int) -> bool:
        return self.slices[number].up_to < min(self._newest_id, (number + 1) * SLICE - 1)

    def _is_stale(self, number: int, now: int) -> bool:
        read = self.slices[number]
        sealed = read.slice.newest < now - _OPEN_FOR_MS
        return time.monotonic() - read.at > (_STALE_SEALED_SECONDS if sealed else _STALE_OPEN_SECONDS)

    async def _read(self, reader: Reading, number: int) -> None:
        at, up_to = time.monotonic(), self._newest_id
        rows = await reader.rows(CONVERSION_SQL, number * SLICE, (number + 1) * SLICE)
        # After the rows: a name is written with the first event that brings it.
        names = {(store, name) for store, name in await reader.rows(NAMES_SQL)}
        self.slices[number] = _Read(at, up_to, fold_conversions(rows, names))

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
