"""API keys: as storage/ground/keys.py, here."""

from __future__ import annotations

from typing import Final

from collector.config import StorageConfig
from collector.exchange.keys import ApiKey, Kind, digest
from collector.storage.postgres.commanded import asked
from collector.storage.postgres.connecting import Connection
from collector.storage.rules.keys import NewKey, new_key

_KEEP: Final = "INSERT INTO api_key (id, hash, kind, store, created) VALUES ($1, $2, $3, $4, $5)"
_LIST: Final = "SELECT id, hash, kind, store, created, revoked FROM api_key ORDER BY created, id"
_REVOKE: Final = "UPDATE api_key SET revoked = $1 WHERE id = $2 AND revoked IS NULL"


class Keys:
    """Those of one database, for a command: each question opens it."""

    def __init__(self, storage: StorageConfig) -> None:
        self._storage = storage

    def create(self, store: str | None, kind: Kind, now: int) -> NewKey:
        return asked(self._storage, lambda c: create(c, store=store, kind=kind, now=now), changes=True)

    def list(self) -> list[ApiKey]:
        return asked(self._storage, list_keys)

    def revoke(self, key_id: str, now: int) -> bool:
        return asked(self._storage, lambda c: revoke(c, key_id, now), changes=True)


async def create(connection: Connection, *, store: str | None, kind: Kind, now: int) -> NewKey:
    """Make a key; `now` in ms. A publishable key always belongs to one store."""
    made = new_key(store, kind)
    await connection.execute(_KEEP, made.id, digest(made.key), kind, store, now)
    return made


async def list_keys(connection: Connection) -> list[ApiKey]:
    """Every key, the oldest first, revoked ones too."""
    return [ApiKey(*row) for row in await connection.fetch(_LIST)]


async def revoke(connection: Connection, key_id: str, now: int) -> bool:
    """End a key; True when it was in force. Running keepers see it within seconds."""
    return bool(await connection.execute(_REVOKE, now, key_id) == "UPDATE 1")
