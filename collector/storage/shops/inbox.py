"""What a pull or a file has found, on its way to an edge, which reads it as it reads a webhook.

    courier, `collector reconcile --fill` ═ put ═▶ shop_inbox ─▶ edge ─▶ keeper ═ stored and taken out, one commit ═

A row is taken out in the transaction that stores its order: a kill anywhere loses none, and an order that is read twice
is one order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import apsw

from collector.exchange.shops import Waiting
from collector.storage.ground.database import immediate
from collector.storage.rules.pulled import Found, Pulled

AT_ONCE: Final = 50
_PULLED: Final = """
INSERT INTO shop_pull VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET watermark = excluded.watermark, at = excluded.at,
       fault = excluded.fault"""


class Inbox:
    """Over a connection of its thread's own."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def oldest(self) -> list[Waiting]:
        """What has waited longest, AT_ONCE rows and some megabytes at most."""
        sql = "SELECT id, store, platform, topic, seen, body FROM shop_inbox ORDER BY id LIMIT ?"
        rows: list[Waiting] = []
        size = 0
        for row in self._db.execute(sql, (AT_ONCE,)):
            rows.append(Waiting(*cast("tuple[int, str, str, str, int, bytes]", row)))
            size += len(rows[-1].body)
            if size > 4_000_000:
                break
        return rows

    def waiting(self) -> int:
        """How many rows nobody has read."""
        return cast(int, self._db.execute("SELECT count(*) FROM shop_inbox").get)

    def put(self, store: str, seen: int, found: Iterable[Found], pulled: Pulled | None = None) -> None:
        """Put orders in and move the watermark, in one transaction."""
        rows = [(store, one.platform, one.topic, seen, one.body) for one in found]
        with immediate(self._db):
            self._db.executemany(
                "INSERT INTO shop_inbox (store, platform, topic, seen, body) VALUES (?, ?, ?, ?, ?)", rows
            )
            if pulled is not None:
                self._db.execute(_PULLED, (store, pulled.since, pulled.watermark, pulled.at, pulled.fault))

    def pulled(self, store: str) -> Pulled | None:
        """How far the shop was pulled; None: never."""
        sql = "SELECT since, watermark, at, fault FROM shop_pull WHERE store = ?"
        row = self._db.execute(sql, (store,)).fetchone()
        return Pulled(*cast("tuple[int, int, int, str | None]", row)) if row else None
