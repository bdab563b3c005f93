"""The API keys of a database."""

from __future__ import annotations

import apsw

from collector.exchange.keys import ApiKey, Kind, digest
from collector.storage.rules.keys import NewKey, new_key


class Keys:
    """Those of one database."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def create(self, store: str | None, kind: Kind, now: int) -> NewKey:
        return create(self._db, store=store, kind=kind, now=now)

    def list(self) -> list[ApiKey]:
        return list_keys(self._db)

    def revoke(self, key_id: str, now: int) -> bool:
        return revoke(self._db, key_id, now)


def create(db: apsw.Connection, *, store: str | None, kind: Kind, now: int) -> NewKey:
    """Make a key; `now` in ms. A publishable key always belongs to one store."""
    key = new_key(store, kind)
    db.execute(
        "INSERT INTO api_key (id, hash, kind, store, created) VALUES (?, ?, ?, ?, ?)",
        (key.id, digest(key.key), kind, store, now),
    )
    return key


def list_keys(db: apsw.Connection) -> list[ApiKey]:
    """Every key, the oldest first, revoked ones too."""
    rows = db.execute("SELECT id, hash, kind, store, created, revoked FROM api_key ORDER BY created, id")
    return [ApiKey(*row) for row in rows]


def revoke(db: apsw.Connection, key_id: str, now: int) -> bool:
    """End a key; True when it was in force. A running `serve` sees it within seconds."""
    db.execute("UPDATE api_key SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, key_id))
    return db.changes() > 0
