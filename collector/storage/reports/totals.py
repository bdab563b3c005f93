"""How much of what happened when: running totals, folded from the append-only tables in slices of row numbers.

Counting ten million rows for each page would be slow, and a counter written with each event would cost every
acknowledgement. So each slice of row numbers is read once and remembered; slices that may still change (a late click
re-opens a conversion for 96 h, delivery settles it) are read again when they are stale. Memory follows the number of
slices and labels, never the number of rows.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from collector.storage.reports.folds import (
    CLICK_SQL,
    CONVERSION_SQL,
    DAY_MS,
    HOUR_MS,
    NAMES_SQL,
    CampaignKey,
    ClickKey,
    ClickSlice,
    ConversionKey,
    ConversionSlice,
    LabelKey,
    Names,
    OutcomeKey,
    ReasonKey,
    SignalKey,
    Sums,
    Truth,
    fold_clicks,
    fold_conversions,
)
from collector.storage.reports.reader import Reader, Row

SLICE: Final = 4096
HORIZON_DAYS: Final = 31  # totals reach back this far
_OPEN_FOR_MS: Final = 100 * HOUR_MS  # matching re-opens for 96 h; a little over
_STALE_OPEN_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 600.0
_STALE_SEALED_SECONDS: Final = 3600.0  # erasure and retention reach old rows too

S = TypeVar("S", ClickSlice, ConversionSlice)


@dataclass(slots=True)
class _Read(Generic[S]):
    at: float
    up_to: int  # the table's newest row when it was read
    slice: S


class _Table(Generic[S]):
    """The slices of one table, newest first in the reading."""

    def __init__(self, table: str, sql: str, fold: Callable[[Iterable[Row], Names], S]) -> None:
        self.table, self.sql = table, sql
        self.fold: Callable[[Iterable[Row], Names], S] = fold
        self.slices: dict[int, _Read[S]] = {}
        self.newest_id = 0
        self._horizon, self._looked = 0, -_LOOK_AGAIN_SECONDS

    async def due(self, reader: Reader, now: int) -> tuple[list[int], list[int]]:
        """The slices that hold rows not counted yet, newest first; then those to read again, longest ago first."""
        # Two sub-selects: SQLite walks the whole table for max and min in one.
        row = await reader.one(f"SELECT (SELECT max(id) FROM {self.table}), (SELECT min(id) FROM {self.table})")
        if row is None or row[0] is None:
            self.slices.clear()
            return [], []
        self.newest_id = row[0]
        first = await self._first(reader, row[1], row[0], now - HORIZON_DAYS * DAY_MS)
        newest, oldest = row[0] // SLICE, first // SLICE
        for gone in [n for n in self.slices if not oldest <= n <= newest]:
            del self.slices[gone]
        new = [n for n in range(newest, oldest - 1, -1) if n not in self.slices or self._has_grown(n)]
        stale = [n for n in self.slices if self._is_stale(n, now) and not self._has_grown(n)]
        return new, sorted(stale, key=lambda n: self.slices[n].at)

    async def _first(self, reader: Reader, oldest: int, newest: int, since: int) -> int:
        """The first row within the horizon, looked for again each ten minutes."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._horizon = await first_received(reader, self.table, oldest, newest, since)
            self._looked = time.monotonic()
        return max(self._horizon, oldest)

    def _has_grown(self, number: int) -> bool:
        return self.slices[number].up_to < min(self.newest_id, (number + 1) * SLICE - 1)

    def _is_stale(self, number: int, now: int) -> bool:
        read = self.slices[number]
        sealed = read.slice.newest < now - _OPEN_FOR_MS
        return time.monotonic() - read.at > (_STALE_SEALED_SECONDS if sealed else _STALE_OPEN_SECONDS)

    async def read(self, reader: Reader, number: int) -> None:
        at, up_to = time.monotonic(), self.newest_id
        rows = await reader.rows(self.sql, number * SLICE, (number + 1) * SLICE)
        # After the rows: a name is written with the first event that brings it.
        names = {(store, name) for store, name in await reader.rows(NAMES_SQL)}
        self.slices[number] = _Read(at, up_to, self.fold(rows, names))

    def since(self, ms: int) -> Iterator[S]:
        """The slices that hold anything of `ms` or later."""
        return (read.slice for read in self.slices.values() if read.slice.newest >= ms)


_AnyTable = _Table[ClickSlice] | _Table[ConversionSlice]
_Due = tuple[_AnyTable, int]


async def first_received(reader: Reader, table: str, low: int, high: int, since: int) -> int:
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
    """Running totals of clicks and conversions. `refresh` first; then the questions are answered from memory.

    Every question takes `since` in ms; those by day count from the beginning of that day (UTC).
    """

    def __init__(self) -> None:
        self.clicks = _Table("click", CLICK_SQL, fold_clicks)
        self.conversions = _Table("conversion", CONVERSION_SQL, fold_conversions)
        self.complete = False

    async def refresh(self, reader: Reader, now: int, *, budget_seconds: float, again: bool = True) -> bool:
        """Count for `budget_seconds` at most: new rows first, then (`again`) rows that may have changed.

        True when every row has been counted at least once.
        """
        until = time.monotonic() + budget_seconds
        new, stale = await self._due(reader, now)
        for done, (table, number) in enumerate([*new, *(stale if again else [])]):
            if done >= 2 and time.monotonic() > until:  # some progress always, however slow the disk
                self.complete = self.complete or done >= len(new)
                return done >= len(new)
            await table.read(reader, number)
        self.complete = True
        return True

    async def _due(self, reader: Reader, now: int) -> tuple[list[_Due], list[_Due]]:
        """What both tables have to read, in turns, so that neither waits for the other's history."""
        new, stale = await self.conversions.due(reader, now)
        clicks_new, clicks_stale = await self.clicks.due(reader, now)
        tables = self.conversions, self.clicks
        return list(_in_turns(tables, (new, clicks_new))), list(_in_turns(tables, (stale, clicks_stale)))

    def click_hours(self, since: int) -> Counter[ClickKey]:
        """Clicks by hour and store."""
        out: Counter[ClickKey] = Counter()
        for part in self.clicks.since(since):
            out.update({key: n for key, n in part.hours.items() if key.hour >= since // HOUR_MS})
        return out

    def kept_apart(self, since: int) -> Counter[ReasonKey]:
        """Clicks that are never matched, by day and reason."""
        out: Counter[ReasonKey] = Counter()
        for part in self.clicks.since(since):
            out.update({key: n for key, n in part.apart.items() if key.day >= since // DAY_MS})
        return out

    def conversion_hours(self, since: int) -> dict[ConversionKey, Sums]:
        """Conversions by hour, store, event type and currency."""
        out: dict[ConversionKey, Sums] = defaultdict(Sums)
        for part in self.conversions.since(since):
            for key, sums in part.hours.items():
                if key.hour >= since // HOUR_MS:
                    out[key].add(sums)
        return out

    def signals(self, since: int) -> Counter[SignalKey]:
        """Events by the set of keys that they carried, by day, store and event type."""
        out: Counter[SignalKey] = Counter()
        for part in self.conversions.since(since):
            out.update({key: n for key, n in part.signals.items() if key.day >= since // DAY_MS})
        return out

    def outcomes(self, since: int) -> Counter[OutcomeKey]:
        """How conversions were attributed, or why not, by day."""
        out: Counter[OutcomeKey] = Counter()
        for part in self.conversions.since(since):
            out.update({key: n for key, n in part.outcomes.items() if key.day >= since // DAY_MS})
        return out

    def labels(self) -> dict[LabelKey, Truth]:
        """What later proof said about what was stated, over the whole horizon; of purchases where a store has them."""
        out: dict[LabelKey, Truth] = defaultdict(Truth)
        sellers = {store for part in self.conversions.since(0) for store in part.sellers}
        for part in self.conversions.since(0):
            for key, truth in part.labels.items():
                if key.purchase or key.store not in sellers:
                    out[key].add(truth)
        return out

    def campaigns(self, since: int) -> tuple[Counter[CampaignKey], dict[CampaignKey, dict[str, Sums]]]:
        """Clicks, and attributed conversions by currency, for each campaign and day."""
        first = since // DAY_MS
        clicks: Counter[CampaignKey] = Counter()
        for part in self.clicks.since(since):
            clicks.update({key: n for key, n in part.campaigns.items() if key.day >= first})
        orders: dict[CampaignKey, dict[str, Sums]] = defaultdict(lambda: defaultdict(Sums))
        for other in self.conversions.since(since):
            for key, by_currency in other.campaigns.items():
                for currency, sums in by_currency.items() if key.day >= first else ():
                    orders[key][currency].add(sums)
        return clicks, orders


def _in_turns(tables: tuple[_AnyTable, _AnyTable], numbers: tuple[list[int], list[int]]) -> Iterator[_Due]:
    for i in range(max(map(len, numbers))):
        for table, own in zip(tables, numbers, strict=True):
            if i < len(own):
                yield table, own[i]
