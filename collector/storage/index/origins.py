"""How many of a store's orders has an ad caused: those that proof names beside those that it does not, by the hour.

The prior of "none of the stored clicks" comes from it as orders arrive. An order asks for the hours before its own, so
that its last match, days later, finds what its first one found where nothing came late.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import apsw

from collector.core.events import StoredEvent
from collector.exchange.rows import ConversionRow
from collector.storage.rules.origins import ALL, PROVEN, UNPROVEN, Place, Series, place_of

_HOUR_MS: Final = 3_600_000
_HOURS: Final = 30 * 24
_KEPT_HOURS: Final = 122 * 24  # an event may be told 90 days late, and its figures go back 30 days
_MOST_REMEMBERED: Final = 256
_LOAD: Final = "SELECT store, kind, hour, proven, unproven, orders FROM order_hour"
_ADD: Final = """
INSERT INTO order_hour VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET proven = proven + excluded.proven,
       unproven = unproven + excluded.unproven, orders = orders + excluded.orders"""


class Origins:
    """Owned by the writer thread. What is noted counts at once and is written by `flush`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._hours: dict[Series, dict[int, list[int]]] = defaultdict(dict)
        self._changes: list[tuple[Place, int]] = []  # of the open transaction
        self._written = 0  # how many of them are in it already
        self._known: dict[tuple[Series, int, int], dict[str, float]] = {}
        self.load()

    def load(self) -> None:
        """Take what is on disk; between transactions."""
        self._hours.clear()
        self._known.clear()
        rows: Any = self._db.execute(_LOAD)
        for store, kind, hour, *counts in rows:
            self._hours[store, kind][hour] = counts

    def note(self, before: tuple[ConversionRow, StoredEvent] | None, row: ConversionRow, event: StoredEvent) -> None:
        """An event is stored, or changed from what it was `before`."""
        old, new = place_of(*before) if before is not None else None, place_of(row, event)
        if old != new:
            for place, n in ((old, -1), (new, 1)):
                if place is not None:
                    self._count(place, n)
                    self._changes.append((place, n))

    def _count(self, place: Place, n: int) -> None:
        series, hour, proof = place
        counts = self._hours[series].setdefault(hour, [0, 0, 0])
        counts[ALL] += n
        if proof != ALL:
            counts[proof] += n
        if len(self._known) > _MOST_REMEMBERED:
            self._known.clear()
        for key in [key for key in self._known if key[0] == series and key[1] > hour]:
            del self._known[key]

    def of(self, store: int, kind: int, ts: int, window_ms: int) -> dict[str, float]:
        """Its part of Statistics: of the 30 days, and of the window, before the hour of `ts` (ms)."""
        key = ((store, kind), ts // _HOUR_MS, window_ms)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._sum(*key)
        return found

    def _sum(self, series: Series, end: int, window_ms: int) -> dict[str, float]:
        hours = self._hours.get(series, {})
        month = [hours[h] for h in range(end - _HOURS, end) if h in hours]
        window = [hours[h] for h in range(end - window_ms // _HOUR_MS, end) if h in hours]
        return {
            "proven": sum(n[PROVEN] for n in month),
            "unproven": sum(n[UNPROVEN] for n in month),
            "orders_in_window": sum(n[ALL] for n in window),
        }

    def flush(self) -> None:
        """Write what was noted into the open transaction."""
        sums: dict[tuple[Series, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        for (series, hour, proof), n in self._changes[self._written :]:
            sums[series, hour][ALL] += n
            if proof != ALL:
                sums[series, hour][proof] += n
        if sums:
            self._db.executemany(_ADD, [(*series, hour, *n) for (series, hour), n in sums.items()])
            self._written = len(self._changes)

    def settle(self) -> None:
        """The open transaction is on disk."""
        self._changes, self._written = [], 0

    def forget(self) -> None:
        """The open transaction is rolled back."""
        for place, n in self._changes:
            self._count(place, -n)
        self._changes, self._written = [], 0

    def purge(self) -> None:
        """Delete the hours that no order asks for any more, inside a transaction."""
        for (store, kind), hours in self._hours.items():
            if len(hours) > _KEPT_HOURS and min(hours) < (oldest := max(hours) - _KEPT_HOURS):
                self._db.execute(
                    "DELETE FROM order_hour WHERE store = ? AND kind = ? AND hour < ?", (store, kind, oldest)
                )
                self._hours[store, kind] = {hour: n for hour, n in hours.items() if hour >= oldest}
