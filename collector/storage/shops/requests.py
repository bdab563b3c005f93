"""What a platform asks for a person (P1-P3): noted with the webhook that asks, done by the courier or a command.

From the commit that notes a customer's erasure on, word of him and of these orders is `ignored: erased`.
"""

from __future__ import annotations

from typing import Any, Final, cast

import apsw

from collector.exchange.shops import Who
from collector.storage.ground.database import immediate
from collector.storage.verbs.requests import COLUMNS, ShopRequest, encode_who, receipt_of, request_of

_NOTE: Final = "INSERT OR IGNORE INTO shop_request (id, store, kind, at, asked) VALUES (?, ?, ?, ?, ?)"
_ALL: Final = f"SELECT {COLUMNS} FROM shop_request ORDER BY at, id"
# What went before a process ended in the middle of it was counted as it went.
_FINISH: Final = """
UPDATE shop_request SET asked = ?1, done = ?2,
       found = CASE WHEN ?3 IS NOT NULL THEN max(?3, coalesce(found, 0)) END WHERE id = ?4"""


class Requests:
    """Over a connection of its thread's own; `take` inside the writer's transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def take(self, delivery: object, who: Who, now: int) -> None:
        """Note a request; the same delivery again is the same request."""
        name = "req_" + cast(bytes, delivery.id)[:8].hex()  # type: ignore[attr-defined]
        self._db.execute(_NOTE, (name, who.store, who.kind, now, encode_who(who)))
        if who.kind == "redact" and self._db.changes():
            number = self._db.execute("SELECT id FROM store WHERE name = ?", (who.store,)).get
            rows = [(number, key, now) for key in sorted(set(who.names))]
            self._db.executemany("INSERT INTO erased (store, name, at) VALUES (?, ?, ?)", rows)

    def all(self) -> list[ShopRequest]:
        """Every request, the newest last."""
        return [request_of(row) for row in cast("list[Any]", self._db.execute(_ALL).fetchall())]

    def finish(self, request: ShopRequest, now: int, found: int | None) -> None:
        """Strip a request to its receipt; `found`: how many orders went, None where it is dismissed."""
        with immediate(self._db):
            self._db.execute(_FINISH, (receipt_of(request), now, found, request.id))
