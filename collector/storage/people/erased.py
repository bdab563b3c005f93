"""Who was erased: keyed names, written by `collector erase` (erasure.py) in the transaction that takes the rows away.

What arrives about them afterwards is judged by storage/rules/erased.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import apsw

from collector.errors import ApiError
from collector.exchange.clicks import NewClick
from collector.exchange.naming import NewEvent
from collector.storage.rules.erased import admit, admit_event

_SINCE: Final = "SELECT id, name, at FROM erased WHERE id > ? ORDER BY id"


class Erased:
    """Owned by the writer."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._last = 0
        self._at: dict[int, int] = {}  # when (ms), by name; names of two stores are never the same

    def __bool__(self) -> bool:
        return bool(self._at)

    @property
    def names(self) -> Mapping[int, int]:
        """When (ms) each was erased, by name; it only grows."""
        return self._at

    def refresh(self) -> list[int]:
        """Learn of erasures since the last call, inside a transaction: their names."""
        newest = self._db.execute("SELECT max(id) FROM erased").get
        if newest is None or newest == self._last:
            return []
        rows = cast("list[tuple[int, int, int]]", self._db.execute(_SINCE, (self._last,)).fetchall())
        for self._last, name, at in rows:
            self._at[name] = max(at, self._at.get(name, 0))
        return [name for _, name, _ in rows]

    def admit(self, click: NewClick) -> NewClick | ApiError:
        """A click as it may be stored."""
        return admit(self._at, click)

    def admit_event(self, new: NewEvent) -> NewEvent | ApiError:
        """A conversion or funnel event as it may be stored."""
        return admit_event(self._at, new)
