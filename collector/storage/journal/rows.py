"""How conversions are written: in memory first, into the open transaction at its end or before somebody asks SQL."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import apsw

from collector.core.events import StoredEvent
from collector.core.flags import UNCONFIRMED
from collector.exchange.rows import ConversionRow
from collector.exchange.states import EventState
from collector.storage.ground import multirow
from collector.storage.ground.kept import NewRows
from collector.storage.index import leaving
from collector.storage.index.lookup import Lookup
from collector.storage.journal.reader import event_state
from collector.storage.outbox import notices
from collector.storage.rules.tables import CONVERSIONS, PLACE

# Where a click may be given once, an order that arrives late takes it from the orders after it.
_GIVEN = "SELECT id FROM conversion WHERE click = ? ORDER BY id DESC LIMIT 32"
_SALE = f"flags & {UNCONFIRMED} = 0"  # what only a page says holds no click (T6)
_LATER = f"SELECT id FROM conversion WHERE click = ? AND event_type = ? AND {PLACE} > (?, ?) AND {_SALE}"
_EARLIER = f"SELECT 1 FROM conversion WHERE click = ? AND event_type = ? AND {PLACE} < (?, ?) AND {_SALE} LIMIT 1"
_CREDITED = "SELECT id FROM conversion WHERE click IN (SELECT value FROM carray(?)) ORDER BY id DESC LIMIT ?"
_INFERABLE = (
    "SELECT id FROM conversion WHERE id IN (SELECT value FROM carray(?)) AND ts >= ? "
    "AND (method IS NULL OR method = 'probabilistic')"
)
_UPDATE = f"UPDATE conversion SET {', '.join(f'{c} = ?' for c in ConversionRow._fields[1:])} WHERE id = ?"
# Without the columns that indexes have: SQLite writes an entry anew though it stays the same. An erasure alone changes
# these elsewhere, and the tail heeds it before a group begins.
_LASTING = frozenset(("id", "store", "ts", "received", "event_type", "dedup_k", "click"))
_OTHERS = [column for column in ConversionRow._fields if column not in _LASTING]
_UPDATE_OTHERS = f"UPDATE conversion SET {', '.join(f'{c} = ?' for c in _OTHERS)} WHERE id = ?"
_lasting, _others = attrgetter(*_LASTING), attrgetter(*_OTHERS)


class Rows:
    """Owned by the writer thread."""

    def __init__(self, db: apsw.Connection, lookup: Lookup, sums: NewRows) -> None:
        self._db = db
        self._lookup = lookup
        self._sums = sums

    def next_id(self) -> int:
        last = self._lookup.last
        last[CONVERSIONS] += 1
        return last[CONVERSIONS]

    def append(self, row: ConversionRow) -> None:
        """Have a new row, which can be found at once."""
        self._lookup.conversions.add(row)
        self._lookup.unwritten[row.id] = row

    def update(self, row: ConversionRow) -> None:
        """Store what a row has become."""
        if row.id in self._lookup.unwritten:
            self._lookup.unwritten[row.id] = row
        elif (held := self._lookup.conversions.get(row.id)) is not None and _lasting(held) == _lasting(row):
            self._db.execute(_UPDATE_OTHERS, (*_others(row), row.id))
        else:
            self._db.execute(_UPDATE, (*row[1:], row.id))
        self._lookup.conversions.replace(row)

    def lost(self, row: ConversionRow, kept: Iterable[str]) -> None:
        """Have the row found no more by its keys, but for those that are `kept`."""
        leaving.note(self._db, CONVERSIONS, row, kept=tuple(kept))

    def counted(self, before: tuple[ConversionRow, StoredEvent] | None, row: ConversionRow, event: StoredEvent) -> None:
        """Have it count among the store's orders by the hour."""
        self._lookup.origins.note(before, row, event)

    def revised(self, conversion: int, revision: int, now: int) -> None:
        """Have the shop told of a new revision."""
        notices.note(self._db, conversion, revision, now)

    def state_of(self, row: ConversionRow) -> EventState:
        """What is known of it at this moment."""
        return event_state(self._db, row)

    def given(self, click: int, *, store: int = 0) -> list[int]:
        """The newest conversions that have the click; of what is written."""
        return self._ids(_GIVEN, (click,))

    def credited(self, clicks: list[int], most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions that have one of the clicks, the newest; of what is written."""
        return set(self._ids(_CREDITED, (apsw.carray(memoryview(array("q", clicks))), most)))

    def later(self, row: ConversionRow) -> list[int]:
        """Those of its kind that have its click and come after it; of what is written."""
        return self._ids(_LATER, (row.click, row.event_type, *row.place))

    def earlier(self, row: ConversionRow) -> bool:
        """Whether one of its kind has its click and comes before it; of what is written."""
        return bool(self._ids(_EARLIER, (row.click, row.event_type, *row.place)))

    def _ids(self, sql: str, bind: tuple[Any, ...]) -> list[int]:
        rows: Any = self._db.execute(sql, bind).fetchall()
        return [number for (number,) in rows]

    def inferable(self, conversions: list[int], ts: int) -> set[int]:
        """Those of which a click of `ts` on the same address or device may be the cause: neither proved nor earlier."""
        held = self._lookup.conversions.get
        rows = {i: row for i in conversions if (row := held(i)) is not None}
        found = {i for i, row in rows.items() if row.ts >= ts and row.method in (None, "probabilistic")}
        folded = array("q", [i for i in conversions if i not in rows])
        return found.union(self._ids(_INFERABLE, (apsw.carray(memoryview(folded)), ts))) if folded else found

    def flush(self) -> None:
        """Write what is new into the open transaction."""
        if self._lookup.unwritten:
            self._sums.put_off_events(min(self._lookup.unwritten) - 1)
            multirow.write(self._db, "INSERT INTO conversion", list(self._lookup.unwritten.values()))
            self._lookup.unwritten = {}
        self._lookup.origins.flush()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back."""
        self._lookup.unwritten = {}
