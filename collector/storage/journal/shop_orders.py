"""What a shop's webhook tells, inside the writer's transaction: each delivery once, each order under all its names.

D1  a delivery is its webhook, topic, sender's id and body; it is known for eight days
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, cast

import apsw

from collector.core.events import StoredEvent
from collector.exchange.operations import ShopDelivery, ShopTaken
from collector.exchange.rows import ConversionRow
from collector.storage.verbs import order_names as verbs
from collector.storage.verbs.ports import Finding
from collector.storage.verbs.queueing import Figures

KEPT_MS: Final = 8 * 86_400_000
_MOST_REMEMBERED: Final = 2_000  # orders
_MOST_FORGOTTEN: Final = 500  # at once
_FORGET_MS: Final = 10_000
_FORGET: Final = (
    f"DELETE FROM shop_delivery WHERE id IN (SELECT id FROM shop_delivery WHERE at < ? LIMIT {_MOST_FORGOTTEN})"
)
_KEEP: Final = "INSERT OR REPLACE INTO shop_delivery VALUES (?, ?, ?, ?, ?, ?, ?)"
_MOST_NOTES: Final = 100  # of a kind and store
_NOTE: Final = "INSERT OR REPLACE INTO shop_note VALUES (?, ?, ?, ?, ?)"
_CUT_NOTES: Final = """
DELETE FROM shop_note WHERE store = ?1 AND kind = ?2 AND at < (
       SELECT at FROM shop_note WHERE store = ?1 AND kind = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)"""


class Deliveries:
    """Owned by the writer thread; works inside its transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._forgot = 0  # ms, when it last forgot

    def known(self, delivery: ShopDelivery, now: int) -> ShopTaken | None:
        """What came of the same delivery before. What came to nothing is looked at anew: settings may have changed."""
        sql = "SELECT conversion FROM shop_delivery WHERE id = ? AND at >= ? AND conversion IS NOT NULL"
        row = cast("tuple[int] | None", self._db.execute(sql, (delivery.id, now - KEPT_MS)).fetchone())
        return None if row is None else ShopTaken(row[0], duplicate=True)

    def keep(self, delivery: ShopDelivery, taken: ShopTaken, now: int) -> None:
        """Remember a delivery and what came of it."""
        one = delivery
        self._db.execute(_KEEP, (one.id, now, one.store, one.webhook, one.topic, taken.reason, taken.conversion))
        if abs(now - self._forgot) >= _FORGET_MS:
            self._db.execute(_FORGET, (now - KEPT_MS,))
            self._forgot = now if self._db.changes() < _MOST_FORGOTTEN else 0


class OrderNames(verbs.OrderNames):
    """Owned by the writer thread: which order is meant by a name that is not its own (O8)."""

    def __init__(self, db: apsw.Connection, lookup: Finding, figures: Figures) -> None:
        super().__init__(lookup, figures)
        self._db = db
        self.any = bool(db.execute("SELECT EXISTS (SELECT 1 FROM order_name)").get)
        self._kept: dict[int, list[tuple[int, int, int]]] = {}  # of late: an order is told several times in a row

    def forget(self) -> None:
        self._kept.clear()

    def keep(self, conversion: int, names: Collection[int], numbers: Collection[int], *, store: int = 0) -> None:
        rows = [(name, conversion, 0) for name in names] + [(name, conversion, 1) for name in numbers]
        if rows and self._kept.get(conversion) != rows:
            if len(self._kept) >= _MOST_REMEMBERED:
                self._kept.clear()
            self._kept[conversion] = rows
            self._db.executemany("INSERT OR IGNORE INTO order_name VALUES (?, ?, ?)", rows)
            self.any = True

    def _list(self, store: int, kind: str, event: StoredEvent, held_against: ConversionRow) -> None:
        self._db.execute(_NOTE, (store, kind, event.order_id or "", held_against.id, event.received))
        self._db.execute(_CUT_NOTES, (store, kind, _MOST_NOTES - 1))

    def _has_told(self, webhook: str, conversion: int) -> bool:
        sql = "SELECT 1 FROM shop_delivery WHERE conversion = ? AND webhook = ?"
        return self._db.execute(sql, (conversion, webhook)).fetchone() is not None

    def _rows(self, store: int, names: Iterable[int], *, number: int) -> list[ConversionRow]:
        sql = "SELECT conversion FROM order_name WHERE name = ? AND number = ? LIMIT 4"
        found = {row[0] for name in names for row in self._db.execute(sql, (name, number))}
        return sorted(self._lookup.conversion_rows(found))
