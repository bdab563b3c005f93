"""Shared links: as storage/ground/shares.py, here."""

from __future__ import annotations

from typing import Final

from collector.config import StorageConfig
from collector.core.shares import Share
from collector.storage.postgres.commanded import asked
from collector.storage.rules.shares import Kept, row_of

_PUT: Final = """
INSERT INTO share (id, store, first, last, event, made, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)"""
_ROWS: Final = "SELECT id, store, first, last, event, made, expires, revoked FROM share ORDER BY made, id"
_REVOKE: Final = "UPDATE share SET revoked = $1 WHERE id = $2 AND revoked IS NULL AND expires > $1"


class Shares:
    """Those of one database, for a command: each question opens it."""

    def __init__(self, storage: StorageConfig) -> None:
        self._storage = storage

    def put(self, share: Share, now: int) -> None:
        asked(self._storage, lambda c: c.execute(_PUT, *row_of(share, now)), changes=True)

    def list(self) -> list[Kept]:
        return [Kept(*row) for row in asked(self._storage, lambda c: c.fetch(_ROWS))]

    def revoke(self, share_id: str, now: int) -> bool:
        return bool(asked(self._storage, lambda c: c.execute(_REVOKE, now, share_id), changes=True) == "UPDATE 1")
