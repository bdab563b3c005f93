"""A shop's export beside what PostgreSQL has (`storage/verbs/shop_files.py`): a batch is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from asyncpg import UniqueViolationError
from msgspec import Struct

from collector.config import Config, StoreConfig
from collector.core.keyed import KeyedHash
from collector.core.shops.counted import FILE
from collector.core.shops.exports import FileOrder
from collector.storage.postgres import edges, peppers
from collector.storage.postgres.books import PostgresInbox
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.pulled import Found
from collector.storage.verbs import shop_files
from collector.storage.verbs.shop_files import Booked, Compared, Row

_SECONDS: Final = 60.0
_STORE: Final = "SELECT id FROM store WHERE name = $1"
_BOOKED: Final = """
SELECT name AS asked, conversion, name, value, currency, reason FROM shop_order
 WHERE store = $1 AND name = ANY($2::bigint[])"""
_BY_OTHER_NAME: Final = """
SELECT n.name AS asked, s.conversion, s.name, s.value, s.currency, s.reason
  FROM order_name n JOIN shop_order s ON s.store = n.store AND s.conversion = n.conversion
 WHERE n.store = $1 AND n.name = ANY($2::bigint[])"""
_CONVERSIONS: Final = """
SELECT dedup_k, id FROM conversion WHERE store = $1 AND dedup_k = ANY($2::bigint[]) AND flags & 128 = 0"""
_STATES: Final = """
SELECT w.pixel, c.id, coalesce(o.state, c.capi)
  FROM conversion c CROSS JOIN unnest($3::text[]) w (pixel) LEFT JOIN pixel p ON p.name = w.pixel
  LEFT JOIN outbox o ON o.store = c.store AND o.conversion = c.id AND o.pixel = p.id
 WHERE c.store = $1 AND c.id = ANY($2::bigint[])"""
_ENTER: Final = """
INSERT INTO shop_order (store, name, called, ts, status, value, currency, channel, reason, conversion, seen, first)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (store, name) DO UPDATE SET seen = shop_order.seen | excluded.seen"""
_SEE: Final = "UPDATE shop_order SET seen = seen | $3 WHERE store = $1 AND name = ANY($2::bigint[])"


class _Batch(Struct):
    """What is known of a batch's names, and what is to be written."""

    booked: dict[int, Booked]
    others: dict[int, Booked]
    conversions: dict[int, int]
    states: dict[tuple[str, int], int]
    entered: list[Row] = []
    seen: list[int] = []


class Files(shop_files.Files):
    """Remembers in memory which orders it has seen: 60 MB a million."""

    def __init__(self, config: Config, store: StoreConfig) -> None:
        self._threaded = threaded = Threaded(config.storage, "collector reconcile")
        try:
            names = KeyedHash(threaded.ask(lambda c: peppers.load(c, config)))
            super().__init__(store, threaded.ask(lambda c: c.fetchval(_STORE, store.id)), names)
        except BaseException:
            threaded.close()
            raise
        self._had: set[int] = set()
        self._here = _Batch({}, {}, {}, {})

    def close(self) -> None:
        """Let go of the database."""
        self._threaded.close()

    def compare(self, orders: Sequence[FileOrder], now: int) -> list[Compared]:
        """Which of these are here, and what became of them; enters each in the shop's list, as seen by file."""
        named = self._named(orders)

        async def compared(c: Connection) -> list[Compared]:
            self._here = await self._known(c, [name for _, keyed, _ in named for name in keyed])
            found = [self._one(*each, now) for each in named]
            await c.executemany(_ENTER, self._here.entered)
            await c.execute(_SEE, self._number, self._here.seen, FILE)
            return found

        try:
            return self._threaded.ask(compared, _SECONDS)
        except UniqueViolationError:  # a keeper has just been told of one of them
            return self._threaded.ask(compared, _SECONDS)

    async def _known(self, c: Connection, names: list[int]) -> _Batch:
        booked, others = [await c.fetch(sql, self._number, names) for sql in (_BOOKED, _BY_OTHER_NAME)]
        conversions = {row["dedup_k"]: row["id"] for row in await c.fetch(_CONVERSIONS, self._number, names)}
        ids = {*conversions.values(), *(row["conversion"] for row in (*booked, *others))} - {None}
        states = await c.fetch(_STATES, self._number, list(ids), self._pixels)
        return _Batch(
            _by_asked(booked), _by_asked(others), conversions, {(pixel, i): state for pixel, i, state in states}
        )

    def _put_in(self, found: Sequence[Found]) -> None:
        PostgresInbox(self._threaded, Duties(self._threaded, edges.owner_name())).put(self._store.id, FILE, found)

    def _has_seen(self, name: int) -> bool:
        had = name in self._had
        self._had.add(name)
        return had

    def _booked(self, names: Sequence[int]) -> Booked | None:
        found = (self._here.booked.get(name) or self._here.others.get(name) for name in names)
        return next((one for one in found if one is not None), None)

    def _conversion(self, names: Iterable[int]) -> int | None:
        return next((self._here.conversions[name] for name in names if name in self._here.conversions), None)

    def _state(self, pixel: str, conversion: int) -> int | None:
        return self._here.states.get((pixel, conversion))

    def _enter(self, row: Row) -> None:
        self._here.entered.append(row)
        self._here.booked[row.name] = Booked(row.conversion, row.name, row.value, row.currency, row.reason)

    def _see(self, name: int) -> None:
        self._here.seen.append(name)


def _by_asked(rows: Iterable[Any]) -> dict[int, Booked]:
    return {row["asked"]: Booked(*tuple(row)[1:]) for row in rows}
