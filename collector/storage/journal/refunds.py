"""Refunds of orders that Meta has, told to it where a store wants that (O5): each an event of its own, once."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, cast

import apsw
import msgspec
from msgspec import structs

from collector.core import refunds, statuses
from collector.core.capi.states import CapiState
from collector.core.events import GivenBack, StoredEvent
from collector.exchange.stores import Store
from collector.storage.outbox.outbox import Bound, Row
from collector.storage.verbs.ports import Landed

_WAITS: Final = """
SELECT 1 FROM outbox WHERE conversion = ?1 AND settled IS NULL AND doubt_at IS NOT NULL
   AND (doubt_at > ?2 OR NOT EXISTS (SELECT 1 FROM outbox WHERE conversion = ?1 AND state = 10))"""
_FLYING: Final = "SELECT ids FROM request WHERE outcome = 'in_flight'"
_NOTE: Final = """
INSERT INTO sent_before (outbox, request, conversion, value) SELECT ?1, 0, ?2, ?3
 WHERE NOT EXISTS (SELECT 1 FROM sent_before WHERE outbox = ?1)"""
# What is in doubt stays so until Meta's answer, or until somebody replays it. Where that was a refusal, or has not come
# for a day, the order is looked at once all the same: another pixel may have it, and is told of its refunds.
_LANDED: Final = """
SELECT b.outbox, b.conversion, b.value, o.state = 10, o.state != 10 AND o.doubt_at IS NOT NULL
  FROM sent_before b LEFT JOIN outbox o ON o.id = b.outbox
 WHERE (o.id IS NULL OR o.state = 10 OR o.doubt_at IS NULL
        OR b.request = 0 AND (o.state IN (11, 12) OR o.doubt_at <= ?2))
   AND (?1 IS NULL OR b.conversion = ?1) LIMIT 100"""
_LOOKED_AT: Final = "UPDATE sent_before SET request = 1 WHERE outbox = ?"
_LONG_MS: Final = 86_400_000  # so long a pixel in doubt holds up what another is to be told


class Refunds:
    """Owned by the writer thread; works inside its transaction."""

    def __init__(self, db: apsw.Connection, outbox: Bound) -> None:
        self._db, self._outbox = db, outbox

    def pixels(self, order: int) -> frozenset[int]:
        """Those that have the order's Purchase."""
        return frozenset(row.pixel for row in self._outbox.rows_of(order) if row.state == CapiState.SENT)

    def note_sent(self, order: int, before: StoredEvent, after: StoredEvent) -> None:
        """Remember what Meta may have of an order whose state changes: what is under way, or went out in doubt.

        Until it is known, these deliveries go as they went (storage/outbox/outbox.py).
        """
        if _state(before) == _state(after) or before.value is None:
            return
        waiting = self._open(order)
        flying = self._flying() if waiting else set()
        for outbox in {row.id for row in waiting if row.id in flying or _is_doubted(row)}:
            self._db.execute(_NOTE, (outbox, order, str(before.value)))
            self._outbox.forget()

    def _open(self, order: int) -> list[Row]:
        """Those that Meta is not known to have; one that was dropped may be under way."""
        return [row for row in self._outbox.rows_of(order) if row.state != CapiState.SENT]

    def _flying(self) -> set[int]:
        """The deliveries that are in a request at this moment."""
        requests = cast("list[tuple[bytes | None]]", self._db.execute(_FLYING).fetchall())
        return {one for (ids,) in requests if ids for one in msgspec.msgpack.decode(ids, type=list[int])}

    def landed(self, now: int, order: int | None = None) -> list[Landed]:
        """At most 100 of what was noted (of one order) and is known by now, forgotten with that."""
        rows = self._db.execute(_LANDED, (order, now - _LONG_MS)).fetchall()
        found = cast("list[tuple[int, int, str, int | None, int | None]]", rows)
        flying = self._flying() if found else set()
        over = [row for row in found if row[0] not in flying]
        if over:
            self._outbox.forget()
        for outbox, *_, in_doubt in over:
            self._db.execute(_LOOKED_AT if in_doubt else "DELETE FROM sent_before WHERE outbox = ?", (outbox,))
        return [Landed(conversion, Decimal(value) if sent else None) for _, conversion, value, sent, _ in over]

    def due(self, order: int, store: Store, event: StoredEvent, now: int) -> tuple[StoredEvent, list[GivenBack]]:
        """The order, and those of its refunds that Meta is to be told of; nothing while Meta may have it or not."""
        wanted = store.config.shop.refund_event and event.event_type == "Purchase" and event.refund_of is None
        if not wanted or not event.rank or self._is_open(order, now):
            return event, []
        has = event.value if event.sent_value is None else event.sent_value
        known, due = refunds.told(event, has if self.pixels(order) else None, now)
        return (structs.replace(event, refunds=known) if known != event.refunds else event), due

    def _is_open(self, order: int, now: int) -> bool:
        """Whether the order is under way, or waits for its repeat in doubt."""
        waiting = {row.id for row in self._open(order)}
        if not waiting:
            return False
        return self._db.execute(_WAITS, (order, now - _LONG_MS)).get is not None or bool(waiting & self._flying())


def _is_doubted(row: Row) -> bool:
    """Whether an attempt's answer never came; what is held since it was queued is no copy of what went."""
    return row.doubt_at is not None and not (row.state == CapiState.HELD and row.attempts == 0)


def _state(event: StoredEvent) -> tuple[object, ...]:
    """What counts of it: a payment changes nothing of what Meta is told."""
    ended = statuses.has_ended(event.order_status)
    return event.value, event.currency, ended, event.refunds, event.products, event.custom_data
