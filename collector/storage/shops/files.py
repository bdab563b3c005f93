"""A shop's export beside what is here: which of its orders are known, and what became of each (C5).

A command's own connection, beside a running collector: each batch of rows is one short transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

import apsw
from msgspec import Struct

from collector.config import Config, StoreConfig
from collector.config_loader.shops import TOPICS
from collector.core import amounts
from collector.core.keyed import KeyedHash
from collector.core.shops.counted import FILE, Class, class_of
from collector.core.shops.exports import FileOrder
from collector.errors import StorageError
from collector.storage.ground.database import immediate, load_pepper, open_existing
from collector.storage.index import index
from collector.storage.rules.pulled import Found
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.shops.inbox import Inbox

_BATCH: Final = 500
_KNOWN: Final = "SELECT conversion, name, value, currency, reason FROM shop_order WHERE store = ? AND name = ?"
_PUT: Final = """
INSERT INTO shop_order (store, name, called, ts, status, value, currency, channel, reason, conversion, seen, first)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET seen = seen | excluded.seen"""
_STATE: Final = """
SELECT coalesce(o.state, c.capi) FROM conversion c LEFT JOIN outbox o ON o.conversion = c.id
   AND o.pixel = (SELECT id FROM pixel WHERE name = ?) WHERE c.id = ?"""


class Compared(Struct):
    """What became of one order of the file: its class for each pixel. `differs`: its value is another one here."""

    order: FileOrder
    classes: dict[str, Class]
    differs: bool = False
    repeated: bool = False


class Files:
    """Compares the orders of one store's file; remembers in a file of its own which it has seen."""

    def __init__(self, config: Config, store: StoreConfig) -> None:
        self._config, self._store = config, store
        data_dir = Path(config.storage.data_dir)
        self._db = open_existing(config.storage)
        self._names = KeyedHash(load_pepper(self._db, data_dir, config.privacy.pepper_file))
        self._number = cast(int | None, self._db.execute("SELECT id FROM store WHERE name = ?", (store.id,)).get)
        if self._number is None:
            raise StorageError(
                f"store {store.id} has no row in the database yet; start the edge (collector serve) first"
            )
        with closing(index.open_index(data_dir, config.storage, mend=False)):
            self._reader = index.IndexReader(data_dir, config.storage)
        self._reader.refresh(CONVERSIONS)
        mark = self._reader.watermark(CONVERSIONS)
        tail = self._db.execute("SELECT dedup_k, id FROM conversion WHERE id > ? AND dedup_k IS NOT NULL", (mark,))
        self._tail = dict(cast("Iterable[tuple[int, int]]", tail))
        self._seen = apsw.Connection("")  # on disk, and gone with the process: memory stays flat
        self._seen.execute("CREATE TABLE seen (name INTEGER PRIMARY KEY)")

    def close(self) -> None:
        """Let go of the files."""
        self._seen.close()
        self._reader.close()
        self._db.close()

    def compare(self, orders: Sequence[FileOrder], now: int) -> list[Compared]:
        """Which of these are here, and what became of them; enters each in the shop's list, as seen by file."""
        with immediate(self._db):
            return [self._one(order, now) for order in orders]

    def _one(self, order: FileOrder, now: int) -> Compared:
        assert self._number is not None
        name = self._names.namer(self._number, "once")
        keyed = [name(f"Purchase\0o{called}") for called in order.names]
        if self._has_seen(keyed[0]):
            return Compared(order, {}, repeated=True)
        known = self._known(keyed)
        conversion, reason = known[:2] if known else (self._conversion(keyed), None)
        if conversion is None and known is None:
            reason = self._kept_out(order)
        value = str(order.value) if order.value is not None else None
        if known is None:
            row = (self._number, keyed[0], order.names[0], order.ts, order.status, value, order.currency, order.channel)
            self._db.execute(_PUT, (*row, reason or None, conversion, FILE, now))
        else:
            sql = "UPDATE shop_order SET seen = seen | ? WHERE store = ? AND name = ?"
            self._db.execute(sql, (FILE, self._number, known[4]))
        pixels = [pixel.id for pixel in self._store.pixel] or [""]
        classes = {pixel: self._class(conversion, reason, pixel) for pixel in pixels}
        return Compared(order, classes, known is not None and _differs(order, known[2], known[3]))

    def _has_seen(self, name: int) -> bool:
        self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,))
        return self._seen.changes() == 0

    def _known(self, names: Iterable[int]) -> tuple[int | None, str | None, str | None, str, int] | None:
        for name in names:
            row = self._db.execute(_KNOWN, (self._number, name)).fetchone() or self._by_other_name(name)
            if row is not None:
                conversion, own, value, currency, reason = cast(
                    "tuple[int | None, int, str | None, str, str | None]", row
                )
                return conversion, reason, value, currency, own
        return None

    def _by_other_name(self, name: int) -> object:
        sql = """
SELECT s.conversion, s.name, s.value, s.currency, s.reason
  FROM order_name n JOIN shop_order s ON s.conversion = n.conversion WHERE n.name = ? AND s.store = ? LIMIT 1"""
        return self._db.execute(sql, (name, self._number)).fetchone()

    def _conversion(self, names: Iterable[int]) -> int | None:
        """An order that only a server or a page has told of."""
        for name in names:
            found = [self._tail[name]] if name in self._tail else []
            found += self._reader.find(CONVERSIONS, "dedup", name, 0, 4)
            for row in found:
                own = self._db.execute("SELECT dedup_k FROM conversion WHERE id = ? AND flags & 128 = 0", (row,)).get
                if own == name:
                    return row
        return None

    def _kept_out(self, order: FileOrder) -> str:
        """Why an order that is here by its file alone would never be sent; empty where it would."""
        rule = ({"pos": "ignore", "shopify_draft_order": "ignore"} | self._store.shop.channels).get(order.channel)
        return f"channel_{order.channel}" if rule == "ignore" else order.unsent

    def _class(self, conversion: int | None, reason: str | None, pixel: str) -> Class:
        if conversion is None:
            return class_of(None, bool(reason))
        return class_of(cast("int | None", self._db.execute(_STATE, (pixel, conversion)).get), bool(reason))

    def fill(self, orders: Iterable[FileOrder]) -> int:
        """Have the edge take in what is missing; how many."""
        found = [Found(one.platform, TOPICS[one.platform][1], one.body) for one in orders if one.body]
        if found:
            Inbox(self._db).put(self._store.id, FILE, found)
        return len(found)


def _differs(order: FileOrder, value: str | None, currency: str) -> bool:
    """Whether the shop's own figure is another one than ours; of what has ended, neither says much."""
    if order.value is None or value is None or order.unsent or order.currency != currency:
        return False
    return not amounts.same(order.value, Decimal(value), currency)
