"""The verb of `collector export-person` on SQLite: all that is kept of a person (`storage/verbs/held.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import apsw

from collector.config import Config
from collector.core import times
from collector.storage.people.erasure import opened, stores_of
from collector.storage.verbs.held import Item, Sent, item_of
from collector.storage.verbs.person import Asked

_NETWORK: Final = "SELECT ip, user_agent FROM click_network WHERE id = ?"
_DELIVERIES: Final = """
SELECT o.id, p.name, o.state, o.created, o.settled, o.reason, o.request, b.body
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel LEFT JOIN outbox_payload b ON b.id = o.id
 WHERE o.conversion = ? ORDER BY o.id"""
_ATTEMPTS: Final = """
SELECT at, outcome, http_status, code, subcode, trace_id, message FROM request
 WHERE id = ?1 OR id IN (SELECT request FROM attempt WHERE outbox = ?2) ORDER BY id"""
_SHOP: Final = "SELECT called, ts, status, value, currency, channel, reason FROM shop_order WHERE conversion = ?"
_LINKS: Final = "SELECT kind, last_ts FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?"


def held_of(config: Config, store: str | None, asked: Asked, now: int) -> Item:
    """Every row of a person, of one store or of all, with what Meta was sent and when; nothing is changed.

    StorageError when there is no database or no such store, Nameless when nothing can be found by what was given.
    """
    with opened(config) as (db, eraser):
        people = eraser.look(stores_of(db, config, store), asked)
        return {
            "at": times.text(now),
            "stores": [
                item_of(name, person, eraser.public, _Holding(db, eraser.links(person)))
                for name, person in people.items()
            ],
        }


class _Holding:
    def __init__(self, db: apsw.Connection, links: set[Any]) -> None:
        self._db, self._links = db, links

    def network(self, click: int) -> tuple[str | None, str | None] | None:
        return cast("tuple[str | None, str | None] | None", self._db.execute(_NETWORK, (click,)).fetchone())

    def sent(self, conversion: int) -> list[Sent]:
        return [Sent(*row) for row in cast("Iterable[Any]", self._db.execute(_DELIVERIES, (conversion,)).fetchall())]

    def attempts(self, outbox: int, request: int | None) -> list[tuple[Any, ...]]:
        return self._db.execute(_ATTEMPTS, (request, outbox)).fetchall()

    def told(self, conversion: int) -> list[tuple[Any, ...]]:
        return self._db.execute(_SHOP, (conversion,)).fetchall()

    def links(self) -> Iterator[tuple[int, int]]:
        for link in self._links:
            yield cast("tuple[int, int]", self._db.execute(_LINKS, link).fetchone())
