"""Shared links: made once, listed, revoked."""

from __future__ import annotations

from typing import cast

import apsw

from collector.core.shares import Share
from collector.storage.rules.shares import Kept, row_of

_PUT = "INSERT INTO share (id, store, first, last, event, made, expires) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ROWS = "SELECT id, store, first, last, event, made, expires, revoked FROM share ORDER BY made, id"
_REVOKE = "UPDATE share SET revoked = ? WHERE id = ? AND revoked IS NULL AND expires > ?"


class Shares:
    """Those of one database."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def put(self, share: Share, now: int) -> None:
        """Have a link count from now on."""
        self._db.execute(_PUT, row_of(share, now))

    def list(self) -> list[Kept]:
        """Every link that was ever made, the oldest first."""
        rows = self._db.execute(_ROWS)
        return [Kept(*cast("tuple[str, str, str, str, str, int, int, int | None]", row)) for row in rows]

    def revoke(self, share_id: str, now: int) -> bool:
        """End a link; True when it counted."""
        self._db.execute(_REVOKE, (now, share_id, now))
        return self._db.changes() > 0
