"""Two orders under one event id: both are sent, and Meta keeps one of the two. So the shop is told."""

from __future__ import annotations

from typing import Final

import apsw

from collector import telemetry
from collector.core.keyed import KeyedHash
from collector.exchange.naming import NewEvent

log = telemetry.logger("storage")

_DAY_MS: Final = 86_400_000
_CALLED: Final = -3  # in the place of an identity's kind: the event id that its teller gave an order
_FIND: Final = f"SELECT conversion FROM conversion_identity WHERE key = ? AND kind = {_CALLED} LIMIT 1"
_KEEP: Final = f"INSERT OR IGNORE INTO conversion_identity VALUES (?, {_CALLED}, ?)"


class SharedIds:
    """Owned by the writer thread; works inside its transaction."""

    def __init__(self, db: apsw.Connection, names: KeyedHash) -> None:
        self._db = db
        self._names = names
        self._told: dict[int, int] = {}  # the day on which the log last named a store

    def other(self, conversion: int, new: NewEvent, now: int) -> int | None:
        """Another order (a conversion) that was told with this one's event id, if there is one."""
        if new.own_event_id is None:
            return None
        store = new.store.number
        name = self._names.name(store, "event id", f"{new.event.event_type}\0{new.own_event_id}")
        found = self._db.execute(_FIND, (name,)).get
        self._db.execute(_KEEP, (conversion, name))
        if found is None:
            return None
        if self._told.get(store) != now // _DAY_MS:
            self._told[store] = now // _DAY_MS
            log.warning("two orders have one eventId: Meta counts one of them; `collector explain` names both")
        return int(found)
