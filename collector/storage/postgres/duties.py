"""Which courier does what only one may do at a time: a night's lesson, the pull of a shop, what a platform asks?

A duty is leased for a minute by the server's clock, and renewed for as long as its holder lives. Its epoch is one
higher with each holder: what a former one would write late is not written (`require`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from collector.errors import StorageError, Unavailable
from collector.storage.postgres import faults
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.threaded import Threaded

LEASE_MS: Final = 60_000
_RENEW_S: Final = 15.0

# Nothing is written where it is another's, or ours for a while: each commit stirs every courier.
_STANDS: Final = "SELECT owner, epoch, until - now_ms() AS left FROM duty WHERE name = $1"
_TAKE: Final = """
INSERT INTO duty AS d (name, owner, until, epoch) VALUES ($1, $2, now_ms() + $3, 1)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until,
       epoch = d.epoch + CASE WHEN d.owner = excluded.owner AND d.until >= now_ms() THEN 0 ELSE 1 END
 WHERE d.owner = excluded.owner OR d.until < now_ms() RETURNING epoch"""
_RENEW: Final = """
UPDATE duty d SET until = now_ms() + $4 FROM unnest($2::text[], $3::bigint[]) AS mine (name, epoch)
 WHERE d.name = mine.name AND d.epoch = mine.epoch AND d.owner = $1 RETURNING d.name"""
_GIVE: Final = "UPDATE duty SET owner = '', until = 0 WHERE owner = $1 AND name = ANY($2::text[])"
_HOLDS: Final = "SELECT 1 FROM duty WHERE name = $1 AND owner = $2 AND epoch = $3 FOR SHARE"


class Duties:
    """Of one process, whose name `owner` is."""

    def __init__(self, threaded: Threaded, owner: str) -> None:
        self._threaded, self._owner = threaded, owner
        self._held: dict[str, int] = {}  # by name, the epoch
        threaded.beside(self._keep())

    def take(self, name: str) -> bool:
        """Whether the duty is this process's, from now until it gives it back, or could not renew it for a minute."""
        epoch = self._threaded.ask(lambda c: self._taken(c, name))
        if epoch is None:
            self._held.pop(name, None)
            return False
        self._held[name] = epoch
        return True

    async def _taken(self, c: Connection, name: str) -> int | None:
        """Its epoch; None where it is another's."""
        row = await c.fetchrow(_STANDS, name)
        if row is not None and row["left"] > 0:
            if row["owner"] != self._owner:
                return None
            if row["left"] > LEASE_MS // 2 and row["epoch"] == self._held.get(name):
                return int(row["epoch"])
        found: int | None = await c.fetchval(_TAKE, name, self._owner, LEASE_MS)
        return found

    def give(self, name: str) -> None:
        """Whoever wants it next need not wait."""
        self._held.pop(name, None)
        self._threaded.ask(lambda c: c.execute(_GIVE, self._owner, [name]))

    def give_all(self) -> None:
        """This process ends."""
        held, self._held = list(self._held), {}
        if held:
            self._threaded.ask(lambda c: c.execute(_GIVE, self._owner, held))

    async def require(self, c: Connection, name: str) -> None:
        """Unavailable where the duty is another's by now; else it stays ours until the transaction is over."""
        if await c.fetchval(_HOLDS, name, self._owner, self._held.get(name, 0)) is None:
            raise Unavailable(f"{name} is done by another courier")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with suppress(*faults.REFUSALS, StorageError):
                await self._renew()

    async def _renew(self) -> None:
        held = dict(self._held)
        if not held:
            return
        async with self._threaded.database.statement() as c:
            rows = await c.fetch(_RENEW, self._owner, list(held), list(held.values()), LEASE_MS)
        for name in held.keys() - {row["name"] for row in rows}:
            if self._held.get(name) == held[name]:
                del self._held[name]
