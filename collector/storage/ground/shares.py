"""Shared links: made once, listed, revoked. The token itself is shown once and never kept."""

from __future__ import annotations

from typing import cast

import apsw
from msgspec import Struct

from collector.core.shares import Share

ROWS = "SELECT id, store, first, last, event, made, expires, revoked FROM share ORDER BY made, id"


class Kept(Struct, frozen=True):
    """A link as the database has it; times in ms."""

    id: str
    store: str
    first: str
    last: str
    event: str
    made: int
    expires: int
    revoked: int | None


def put(db: apsw.Connection, share: Share, now: int) -> None:
    """Have a link count from now on."""
    row = (share.id, share.store, str(share.first), str(share.last), share.event, now, share.expires)
    db.execute("INSERT INTO share (id, store, first, last, event, made, expires) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def all_of(db: apsw.Connection) -> list[Kept]:
    """Every link that was ever made, the oldest first."""
    return [Kept(*cast("tuple[str, str, str, str, str, int, int, int | None]", row)) for row in db.execute(ROWS)]


def revoke(db: apsw.Connection, share_id: str, now: int) -> bool:
    """End a link; True when it counted."""
    db.execute("UPDATE share SET revoked = ? WHERE id = ? AND revoked IS NULL AND expires > ?", (now, share_id, now))
    return db.changes() > 0
