"""Which custom event names does a store have? Written as they are first told, and bounded for those that pages tell."""

from __future__ import annotations

from typing import Final

import apsw

from collector.core.event_names import STANDARD

# A page is anybody (D5): a store with more events than this on its pages tells the others by its server.
MOST_BY_PAGES: Final = 64
_READ: Final = "SELECT store, name, by_page FROM event_name"
_WRITE: Final = "INSERT INTO event_name VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET by_page = excluded.by_page"


class EventNames:
    """Owned by the writer thread; written with the event that brings a name, in its transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._by_store: dict[int, dict[str, bool]] = {}  # name -> told by pages alone
        self.forget()

    def forget(self) -> None:
        """Read anew what is written: the transaction is rolled back."""
        self._by_store = {}
        for store, name, by_page in self._db.execute(_READ):
            self._by_store.setdefault(store, {})[name] = bool(by_page)

    def tell(self, store: int, name: str, *, by_page: bool) -> None:
        """Keep a name; of those that only pages tell, the first 64 of a store."""
        if name in STANDARD:
            return
        known = self._by_store.setdefault(store, {})
        by_pages_alone = known.get(name)
        if by_pages_alone is False or (by_pages_alone and by_page):
            return
        if by_page and sum(known.values()) >= MOST_BY_PAGES:
            return
        known[name] = by_page
        self._db.execute(_WRITE, (store, name, by_page))
