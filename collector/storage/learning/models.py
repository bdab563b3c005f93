"""Which model does each store run on: every version is kept, the newest is in force."""

from __future__ import annotations

from typing import cast

import apsw
import msgspec

from collector.core.matching import Model
from collector.storage.verbs.learning import lean

_decode = msgspec.msgpack.Decoder(Model).decode
_NEWEST = "SELECT body FROM model WHERE store = ? ORDER BY created DESC LIMIT 1"
_ALL = "SELECT m.store, m.body FROM model m WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)"


def newest(db: apsw.Connection, store: int) -> Model | None:
    """The model in force; None for a store that runs on the defaults."""
    body = cast("bytes | None", db.execute(_NEWEST, (store,)).get)
    return _decode(body) if body is not None else None


def in_force(db: apsw.Connection) -> dict[int, Model]:
    """The model of every store that has one."""
    return {cast(int, store): _decode(cast(bytes, body)) for store, body in db.execute(_ALL)}


def save(db: apsw.Connection, store: int, model: Model) -> None:
    """Put a new version in force, inside the caller's transaction; the one before keeps what explains its answers."""
    if (before := newest(db, store)) is not None and (before.networks or before.crowds):
        sql = "UPDATE model SET body = ? WHERE store = ? AND version = ?"
        db.execute(sql, (msgspec.msgpack.encode(lean(before)), store, before.version))
    row = (store, model.version, model.created, msgspec.msgpack.encode(model))
    db.execute("INSERT OR REPLACE INTO model VALUES (?, ?, ?, ?)", row)
