"""A shop's export beside an SQLite file (`storage/verbs/shop_files.py`).

A command's own connection, beside a running collector: each batch of rows is one short transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

import apsw

from collector.config import Config, StoreConfig
from collector.core.keyed import KeyedHash
from collector.core.shops.counted import FILE
from collector.core.shops.exports import FileOrder
from collector.storage.ground.database import immediate, load_pepper, open_existing
from collector.storage.index import index
from collector.storage.rules.pulled import Found
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.shops.inbox import Inbox
from collector.storage.verbs import shop_files
from collector.storage.verbs.shop_files import Booked, Compared, Row

_BOOKED: Final = "SELECT conversion, name, value, currency, reason FROM shop_order WHERE store = ? AND name = ?"
_BY_OTHER_NAME: Final = """
SELECT s.conversion, s.name, s.value, s.currency, s.reason
  FROM order_name n JOIN shop_order s ON s.conversion = n.conversion WHERE n.name = ? AND s.store = ? LIMIT 1"""
_ENTER: Final = """
INSERT INTO shop_order (store, name, called, ts, status, value, currency, channel, reason, conversion, seen, first)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET seen = seen | excluded.seen"""
_SEE: Final = "UPDATE shop_order SET seen = seen | ? WHERE store = ? AND name = ?"
_STATE: Final = """
SELECT coalesce(o.state, c.capi) FROM conversion c LEFT JOIN outbox o ON o.conversion = c.id
   AND o.pixel = (SELECT id FROM pixel WHERE name = ?) WHERE c.id = ?"""


class Files(shop_files.Files):
    """Remembers in a file of its own which orders it has seen."""

    def __init__(self, config: Config, store: StoreConfig) -> None:
        data_dir = Path(config.storage.data_dir)
        self._db = open_existing(config.storage)
        names = KeyedHash(load_pepper(self._db, data_dir, config.privacy.pepper_file))
        number = self._db.execute("SELECT id FROM store WHERE name = ?", (store.id,)).get
        super().__init__(store, cast("int | None", number), names)
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
            return [self._one(*each, now) for each in self._named(orders)]

    def _put_in(self, found: Sequence[Found]) -> None:
        Inbox(self._db).put(self._store.id, FILE, found)

    def _has_seen(self, name: int) -> bool:
        self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,))
        return self._seen.changes() == 0

    def _booked(self, names: Sequence[int]) -> Booked | None:
        for name in names:
            row: Any = self._db.execute(_BOOKED, (self._number, name)).fetchone() or self._by_other_name(name)
            if row is not None:
                return Booked(*row)
        return None

    def _by_other_name(self, name: int) -> Any:
        return self._db.execute(_BY_OTHER_NAME, (name, self._number)).fetchone()

    def _conversion(self, names: Iterable[int]) -> int | None:
        for name in names:
            found = [self._tail[name]] if name in self._tail else []
            found += self._reader.find(CONVERSIONS, "dedup", name, 0, 4)
            for row in found:
                own = self._db.execute("SELECT dedup_k FROM conversion WHERE id = ? AND flags & 128 = 0", (row,)).get
                if own == name:
                    return row
        return None

    def _state(self, pixel: str, conversion: int) -> int | None:
        return cast("int | None", self._db.execute(_STATE, (pixel, conversion)).get)

    def _enter(self, row: Row) -> None:
        self._db.execute(_ENTER, row)

    def _see(self, name: int) -> None:
        self._db.execute(_SEE, (FILE, self._number, name))
