"""What pages told of orders: rows of their own, which lead to nothing but the order that a server or shop tells.

A page's telling of an order never has the order's name, so that it can neither reserve the order nor be given it. Its
row is found from the order's side, under names that say which order was told and where from (kind _TOLD of
conversion_identity): whoever does not share the buyer's browser, address or e-mail is not even looked at, however often
he tells.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast

import apsw

from collector.exchange.naming import Told
from collector.storage.ground import multirow
from collector.storage.rules.weighed import MOST_LOOKED_AT

_TOLD: Final = -2  # in the place of an identity's kind
_KEEP: Final = "INSERT OR IGNORE INTO conversion_identity"
_FIND: Final = (
    f"SELECT conversion FROM conversion_identity WHERE key = ? AND kind = {_TOLD} "
    f"ORDER BY conversion LIMIT {MOST_LOOKED_AT}"
)
_NAMES: Final = f"SELECT key FROM conversion_identity WHERE conversion = ? AND kind = {_TOLD}"
_ANY: Final = f"SELECT EXISTS (SELECT 1 FROM conversion_identity WHERE kind = {_TOLD})"


class Tellings:
    """Owned by the writer thread; works inside its transaction, and writes by `flush`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._new: list[tuple[int, int, int]] = []
        self._unweighed: list[tuple[int]] = []
        self.any = bool(db.execute(_ANY).get)  # most stores' pages tell of no orders
        self.waiting = self.any  # some may be unweighed

    def keep(self, conversion: int, told: Told, *, store: int = 0) -> None:
        """Have a page's telling found from its order's side, and weighed against it soon."""
        self._new += [(conversion, _TOLD, name) for name in told.names]
        self._unweighed.append((conversion,))
        self.any = self.waiting = True

    def flush(self) -> None:
        """Write what was told into the open transaction."""
        if self._new:
            multirow.write(self._db, _KEEP, self._new)
            multirow.write(self._db, "INSERT OR IGNORE INTO unweighed", self._unweighed)
        self.forget()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back, or it is written."""
        self._new, self._unweighed = [], []

    def unweighed(self, most: int) -> list[int]:
        """Take so many page tellings that are to be weighed."""
        ids = [row[0] for row in self._db.execute("SELECT conversion FROM unweighed LIMIT ?", (most,)).fetchall()]
        self._db.executemany("DELETE FROM unweighed WHERE conversion = ?", [(i,) for i in ids])
        self.waiting = len(ids) == most
        return cast("list[int]", ids)

    def weigh_again(self, told: Told, *, store: int = 0) -> bool:
        """Have what pages told under these names weighed against its order, which is known by them now; any?"""
        found = [(conversion,) for conversion in self.of(told.names)] if self.any else []
        if found:
            self._db.executemany("INSERT OR IGNORE INTO unweighed VALUES (?)", found)
            self.waiting = True
        return bool(found)

    def of(self, names: Collection[int], *, store: int = 0) -> set[int]:
        """Page tellings (conversions) under these names, the first ones."""
        if self._new:
            self.flush()
        return {row[0] for name in names for row in self._db.execute(_FIND, (name,))}

    def names_of(self, conversion: int) -> set[int]:
        """The names under which a page told."""
        if self._new:
            self.flush()
        return {row[0] for row in self._db.execute(_NAMES, (conversion,))}
