"""How SQLite finds a person's rows: by the index, and by what conversions carry (`storage/verbs/person.py`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, cast

import apsw

from collector.core.matching.links import Link
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.index.index import IndexReader
from collector.storage.people.identities import links_of
from collector.storage.rules.tables import CLICKS, CONVERSIONS, Table
from collector.storage.verbs.person import Value

_MOST: Final = 1_000_000  # rows of one name
_CARRYING: Final = "SELECT conversion FROM conversion_identity WHERE key = ? AND kind = ?"
_CARRIED: Final = "SELECT kind, key FROM conversion_identity WHERE conversion = ? AND kind > 0"
_CALLED: Final = "SELECT conversion FROM order_name WHERE name = ? LIMIT 2"


class SqliteLooking:
    """Over the main database and an index that is up to date with it."""

    def __init__(self, db: apsw.Connection, reader: IndexReader) -> None:
        self._db, self._reader = db, reader

    def clicks(self, store: int, ids: Collection[int]) -> list[ClickRow]:
        return [row for row in map(ClickRow._make, self._rows(CLICKS, ids)) if row.store == store]

    def conversions(self, store: int, ids: Collection[int]) -> list[ConversionRow]:
        return [row for row in map(ConversionRow._make, self._rows(CONVERSIONS, ids)) if row.store == store]

    def clicks_under(self, store: int, key: str, name: int) -> list[ClickRow]:
        rows = self.clicks(store, self._reader.find(CLICKS, key, name, 0, _MOST))
        return [row for row in rows if getattr(row, f"{key}_k") == name]

    def conversions_under(self, store: int, key: str, name: int) -> list[ConversionRow]:
        rows = self.conversions(store, self._reader.find(CONVERSIONS, key, name, 0, _MOST))
        return [row for row in rows if getattr(row, f"{key}_k") == name]

    def carrying(self, store: int, value: Value) -> list[ConversionRow]:
        kind, key = value
        return self.conversions(store, [row[0] for row in self._all(_CARRYING, key, kind)])

    def carried(self, store: int, conversion: int) -> set[Value]:
        return set(self._all(_CARRIED, conversion))

    def called(self, store: int, name: int) -> list[ConversionRow]:
        return self.conversions(store, [row[0] for row in self._all(_CALLED, name)])

    def links(self, store: int, value: Value) -> list[Link]:
        return links_of(self._db, store, *value)

    def _all(self, sql: str, *bind: int) -> Iterable[Any]:
        return cast("Iterable[Any]", self._db.execute(sql, bind).fetchall())

    def _rows(self, table: Table, ids: Collection[int]) -> Iterable[Any]:
        sql = f"SELECT {table.columns} FROM {table.name} WHERE id = ?"
        return [row for i in ids for row in self._db.execute(sql, (i,))]
