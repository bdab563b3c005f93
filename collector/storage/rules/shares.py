"""A shared link as it is kept: the token itself is shown once and kept nowhere."""

from __future__ import annotations

from msgspec import Struct

from collector.core.shares import Share


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


def row_of(share: Share, now: int) -> tuple[str, str, str, str, str, int, int]:
    """The columns of a new one, up to `expires`."""
    return (share.id, share.store, str(share.first), str(share.last), share.event, now, share.expires)
