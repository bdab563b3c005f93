"""What is counted of a shop's word, on SQLite (`storage/verbs/shop_health.py`)."""

from __future__ import annotations

from typing import Any, Final, cast

import apsw

from collector.storage.verbs.shop_health import FINE

_COUNTED: Final = "SELECT coalesce(sum(n), 0) FROM counter WHERE store = ? AND name = ? AND day >= ?"
_MISSED: Final = """
SELECT count(*) FROM shop_order s JOIN store t ON t.id = s.store JOIN shop_pull p ON p.store = t.name
 WHERE s.store = ? AND s.ts > ? AND s.ts > p.since + ? AND s.seen & 3 = 2 AND s.first > s.ts + 900000"""
_TOLD: Final = "SELECT count(*), max(at), max(conversion) FROM shop_delivery WHERE store = ? AND conversion IS NOT NULL"
_PURCHASED: Final = """
SELECT 1 FROM conversion WHERE id > ? AND store = ? AND event_type = 'Purchase' AND received > ? LIMIT 1"""
_STOOD: Final = f"""
SELECT count(*), coalesce(sum(coalesce(o.state, c.capi) IN ({", ".join(map(str, FINE))})
       OR (s.conversion IS NULL AND s.reason IS NOT NULL)), 0)
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion LEFT JOIN outbox o ON o.conversion = s.conversion
 WHERE s.store = ? AND s.ts >= ? AND s.ts < ?"""


class ShopFigures:
    """Over a connection of its thread's own."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def number(self, store: str) -> int | None:
        return cast("int | None", self._db.execute("SELECT id FROM store WHERE name = ?", (store,)).get)

    def counted(self, name: str, store: int, day: int) -> int:
        return cast(int, self._db.execute(_COUNTED, (store, name, day)).get)

    def missed(self, store: int, since: int, first_pull: int) -> int:
        return cast(int, self._db.execute(_MISSED, (store, since, first_pull)).get)

    def told(self, store: int) -> tuple[int, int | None, int | None]:
        row: Any = self._db.execute(_TOLD, (store,)).fetchone()
        return row[0], row[1], row[2]

    def purchased(self, store: int, after: int, since: int) -> bool:
        return self._db.execute(_PURCHASED, (after, store, since)).get is not None

    def stood(self, store: int, since: int, until: int) -> tuple[int, int]:
        row: Any = self._db.execute(_STOOD, (store, since, until)).fetchone()
        return row[0], row[1]
