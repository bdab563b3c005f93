"""What a platform asks for a person (P1-P3): noted with the webhook that asks, done by the courier or a command.

From the commit that notes a customer's erasure on, word of him and of these orders is `ignored: erased`.
"""

from __future__ import annotations

from typing import Final, cast

import apsw
import msgspec
from msgspec import Struct

from collector.exchange.shops import Who
from collector.storage.ground.database import immediate

_encode = msgspec.msgpack.Encoder().encode
_NOTE: Final = "INSERT OR IGNORE INTO shop_request (id, store, kind, at, asked) VALUES (?, ?, ?, ?, ?)"
_COLUMNS: Final = "id, store, kind, at, asked, done, found"


class ShopRequest(Struct, frozen=True):
    """A request as it stands. `found`: how many orders went; None: open, or dismissed."""

    id: str
    store: str
    kind: str
    at: int
    who: Who
    done: int | None
    found: int | None


class Requests:
    """Over a connection of its thread's own; `take` inside the writer's transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def take(self, delivery: object, who: Who, now: int) -> None:
        """Note a request; the same delivery again is the same request."""
        name = "req_" + cast(bytes, delivery.id)[:8].hex()  # type: ignore[attr-defined]
        self._db.execute(_NOTE, (name, who.store, who.kind, now, _encode(who)))
        if who.kind == "redact" and self._db.changes():
            number = self._db.execute("SELECT id FROM store WHERE name = ?", (who.store,)).get
            rows = [(number, key, now) for key in sorted(set(who.names))]
            self._db.executemany("INSERT INTO erased (store, name, at) VALUES (?, ?, ?)", rows)

    def all(self) -> list[ShopRequest]:
        """Every request, the newest last."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM shop_request ORDER BY at, id")
        return [_request(row) for row in rows]

    def one(self, name: str) -> ShopRequest | None:
        """A request by its id."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM shop_request WHERE id = ?", (name,)).fetchone()
        return _request(row) if row else None

    def finish(self, request: ShopRequest, now: int, found: int | None) -> None:
        """Strip a request to its receipt; `found`: how many orders went, None where it is dismissed."""
        bare = _encode(Who(request.who.kind, request.store))
        with immediate(self._db):
            self._db.execute(
                "UPDATE shop_request SET asked = ?, done = ?, found = ? WHERE id = ?", (bare, now, found, request.id)
            )


def _request(row: tuple[object, ...]) -> ShopRequest:
    name, store, kind, at, asked, done, found = cast("tuple[str, str, str, int, bytes, int | None, int | None]", row)
    return ShopRequest(name, store, kind, at, msgspec.msgpack.decode(asked, type=Who), done, found)
