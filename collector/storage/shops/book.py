"""The shop's own list of its orders, inside the writer's transaction: what reconciliation counts.

Each order that a shop's webhook, a pull or an export has told of is one row, also one that we keep out on purpose.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import apsw

from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.exchange.shops import Page

_SETTLE: Final = "DELETE FROM shop_order WHERE store = ? AND name = ? AND conversion IS NULL"
_OF_CONVERSION: Final = """
UPDATE shop_order SET status = ?, value = ?, currency = ?, ts = ?, channel = coalesce(nullif(?, ''), channel),
       reason = ?, seen = seen | ?
 WHERE conversion = ?"""
_NEW: Final = """
INSERT INTO shop_order (store, name, called, ts, status, value, currency, channel, reason, conversion, seen, first)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (store, name) DO UPDATE SET status = excluded.status, value = excluded.value, ts = excluded.ts,
       currency = excluded.currency, channel = coalesce(nullif(excluded.channel, ''), channel),
       conversion = coalesce(excluded.conversion, conversion),
       reason = CASE WHEN excluded.conversion IS NULL AND conversion IS NOT NULL THEN reason ELSE excluded.reason END,
       seen = seen | excluded.seen"""
_SEEN: Final = "UPDATE shop_order SET seen = seen | ? WHERE conversion = ?"


class Book:
    """Owned by the writer thread."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def enter(
        self,
        store: int,
        conversion: int,
        name: int,
        event: StoredEvent,
        state: tuple[CapiState, str | None],
        page: Page,
        names: Collection[int],
        now: int,
    ) -> None:
        """An order that has a conversion, as all its tellings have it by now; `names`: what else it is called."""
        reason = (state[1] or "skipped") if state[0] in (CapiState.SKIPPED, CapiState.DISABLED) else None
        value, currency = str(event.value) if event.value is not None else None, event.currency or ""
        known = (event.order_status, value, currency, event.ts, page.channel, reason, page.seen, conversion)
        self._db.execute(_OF_CONVERSION, known)
        if self._db.changes():
            return
        self._db.executemany(_SETTLE, [(store, other) for other in names])  # what a file knew by its number alone
        called = event.order_id or ""
        row = (store, name, called, event.ts, event.order_status, value, currency, page.channel, reason, conversion)
        self._db.execute(_NEW, (*row, page.seen, now))

    def keep_out(self, store: int, page: Page, reason: str, now: int) -> None:
        """An order of which nothing else is stored, and why."""
        if (one := page.kept_out) is None:
            return
        value = str(one.value) if one.value is not None else None
        row = (store, one.name, one.called, one.ts, one.status, value, one.currency, page.channel, reason, None)
        self._db.execute(_NEW, (*row, page.seen, now))

    def see(self, conversion: int, page: Page) -> None:
        """The same delivery again, by another way perhaps."""
        self._db.execute(_SEEN, (page.seen, conversion))

    def take_out(self, page: Page) -> None:
        """What came from the inbox is read."""
        if page.inbox is not None:
            self._db.execute("DELETE FROM shop_inbox WHERE id = ?", (page.inbox,))
