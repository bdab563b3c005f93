"""API keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import secrets
import string

import apsw
from msgspec import Struct

from collector.errors import CollectorError
from collector.exchange.keys import ApiKey, Kind, digest

_PREFIX = {"secret": "sk_", "publishable": "pk_"}
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 40  # 238 bits: no slow hash is needed against guessing


class NewKey(Struct, frozen=True):
    """A key at the only moment when it is known."""

    id: str
    key: str
    kind: Kind
    store: str | None


def create(db: apsw.Connection, *, store: str | None, kind: Kind, now: int) -> NewKey:
    """Make a key; `now` in ms. A publishable key always belongs to one store."""
    if kind == "publishable" and store is None:
        raise CollectorError("a publishable key belongs to a store: add --store ID")
    key = NewKey(
        id="key_" + secrets.token_hex(6),
        key=_PREFIX[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)),
        kind=kind,
        store=store,
    )
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
