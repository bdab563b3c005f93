"""Conversions that are to be matched anew: what a group has learnt about them is acted on after it (P4)."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import apsw

from collector.exchange.rows import ConversionRow
from collector.storage.ground import multirow

MOST_WAITING: Final = 20_000  # beyond it an event re-opens nothing; the last match still comes
_LEFT: Final = "SELECT conversion FROM reopened"
_KEEP: Final = "INSERT OR IGNORE INTO reopened"
_DONE: Final = "DELETE FROM reopened WHERE conversion = ?"


class Entry(NamedTuple):
    """The earliest is the first: an answer rests on earlier ones."""

    place: tuple[int, int]
    conversion: int
    store: int


class Reopened:
    """Owned by the writer thread; what is added is on disk with its transaction, and in the queue once that is."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._queue: list[Entry] = []
        self._waiting: set[int] = set()
        self._added: dict[int, Entry] = {}  # by the open transaction
        self._taken: list[Entry] = []  # likewise

    def __bool__(self) -> bool:
        return bool(self._queue)

    def holds(self, conversion: int) -> bool:
        """Whether it waits."""
        return conversion in self._waiting

    def left(self) -> set[int]:
        """What an earlier life has left."""
        rows: Any = self._db.execute(_LEFT).fetchall()
        return {number for (number,) in rows}

    def new(self, ids: set[int]) -> set[int]:
        """Those that do not wait yet; none where too many do."""
        if len(self._waiting) + len(self._added) > MOST_WAITING:
            return set()
        return ids - self._waiting - self._added.keys()

    def add(self, rows: Iterable[ConversionRow]) -> None:
        for row in rows:
            self._added[row.id] = Entry(row.place, row.id, row.store)

    def take(self) -> Entry:
        """The first one, for this transaction."""
        entry = heappop(self._queue)
        self._taken.append(entry)
        self._db.execute(_DONE, (entry.conversion,))
        return entry

    def __len__(self) -> int:
        return len(self._queue)

    def flush(self) -> None:
        """Write into the open transaction what was added."""
        if self._added:
            multirow.write(self._db, _KEEP, [(number,) for number in self._added])

    def settle(self) -> None:
        """The transaction is on disk."""
        self._waiting.difference_update(entry.conversion for entry in self._taken)
        for entry in self._added.values():
            heappush(self._queue, entry)
            self._waiting.add(entry.conversion)
        self._added, self._taken = {}, []

    def forget(self) -> None:
        """The transaction is rolled back."""
        for entry in self._taken:
            heappush(self._queue, entry)
        self._added, self._taken = {}, []
