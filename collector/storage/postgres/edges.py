"""The number that a keeper makes its ids with: leased, renewed with each sign of life, never given to two."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from collector.errors import StorageError
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.ids import EDGES, Ids

LEASE_S: Final = 30
# The one that has rested longest, so that no id is made twice where clocks differ by less than that rest.
_TAKE: Final = f"""
UPDATE edge SET owner = $1, until = now_ms() + {LEASE_S * 1000}, beat = now_ms(),
                looked = 0, open = true, living = '{{}}'
 WHERE number = (SELECT number FROM edge WHERE until < now_ms() AND NOT open
                  ORDER BY until, number LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING number"""
_BEAT: Final = f"""
UPDATE edge SET until = now_ms() + {LEASE_S * 1000}, beat = now_ms(), looked = greatest(looked, $3), living = $4
 WHERE number = $1 AND owner = $2 AND until >= now_ms()"""
_LEAVE: Final = "UPDATE edge SET until = now_ms(), open = NOT $3 WHERE number = $1 AND owner = $2"
_LEFT: Final = """
UPDATE edge SET until = now_ms() + 600000, owner = $1
 WHERE number = (SELECT number FROM edge WHERE open AND until < now_ms() ORDER BY until LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING number, looked"""
_DONE: Final = "UPDATE edge SET open = false, until = now_ms() WHERE number = $1 AND owner = $2"
_LOOKED: Final = "DELETE FROM unlooked WHERE id < $2 AND id >> 12 & 1023 = $1"
_NO_ID: Final = (1 << 63) - 1


class Edge:
    """A keeper's lease. `looked`: of its ids, all below this are looked through after their commit."""

    def __init__(self, number: int, owner: str, asked_at: float) -> None:
        self.number, self.owner = number, owner
        self.ids = Ids(number)
        self.looked = 0
        self._renewed = asked_at

    @property
    def may_write(self) -> bool:
        """Whether the number is still ours, as far as this machine can tell: counted from before the question."""
        return time.monotonic() - self._renewed < LEASE_S

    async def beat(self, connection: Connection, living: Mapping[str, Any]) -> bool:
        """Renew it; False where it is over, and then this process may write no more."""
        asked_at = time.monotonic()
        text = msgspec.json.encode(living).decode()
        if await connection.execute(_BEAT, self.number, self.owner, self.looked, text) != "UPDATE 1":
            return False
        await connection.execute(_LOOKED, self.number, self.looked)
        self._renewed = asked_at
        return True

    async def leave(self, connection: Connection, *, all_looked: bool) -> None:
        """Give it back; `all_looked`: nothing of ours is left for others to look through."""
        if all_looked:
            await connection.execute(_LOOKED, self.number, _NO_ID)
        await connection.execute(_LEAVE, self.number, self.owner, all_looked)


def owner_name() -> str:
    """Host and process: who holds a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.monotonic_ns() & 0xFFFFFF:x}"


async def take(connection: Connection, owner: str) -> Edge:
    """A number of our own; StorageError where all are held."""
    asked_at = time.monotonic()
    number = await connection.fetchval(_TAKE, owner)
    if number is None:
        raise StorageError(f"all {EDGES} numbers of edges are held; end some keepers, or wait until their leases end")
    return Edge(number, owner, asked_at)


async def take_over(connection: Connection, owner: str) -> tuple[int, int] | None:
    """The number of an edge that ended without a word, and `looked` of it: its ids above are to be looked through.

    Nobody else gets it for ten minutes; then `done`.
    """
    row = await connection.fetchrow(_LEFT, owner)
    return None if row is None else (row["number"], row["looked"])


async def done(connection: Connection, number: int, owner: str) -> None:
    """All of a number that was taken over is looked through: it may be given again."""
    await connection.execute(_LOOKED, number, _NO_ID)
    await connection.execute(_DONE, number, owner)
