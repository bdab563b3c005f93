"""Whose pixel is it? A courier leases pixels for a minute and shares them evenly with the others that are there.

A lease's epoch is one higher with each owner: what an owner before wrote late is not written (`holds`), and what it had
under way is taken over as in doubt, in the transaction that takes the lease. Times are ms by the server's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from collector.storage.postgres import settling
from collector.storage.postgres.connecting import Connection

LEASE_MS: Final = 60_000

_PRESENT: Final = """
INSERT INTO courier (owner, until) VALUES ($1, now_ms() + $2)
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until"""
_FORGET: Final = "DELETE FROM courier WHERE until < now_ms() - $1::bigint OR owner = $2"
_ROWS: Final = """
INSERT INTO pixel_lease (pixel) SELECT id FROM pixel p
 WHERE NOT EXISTS (SELECT 1 FROM pixel_lease l WHERE l.pixel = p.id) ON CONFLICT DO NOTHING"""
_RENEW: Final = """
UPDATE pixel_lease l SET until = now_ms() + $4 FROM unnest($2::bigint[], $3::bigint[]) AS mine (pixel, epoch)
 WHERE l.pixel = mine.pixel AND l.epoch = mine.epoch AND l.owner = $1 RETURNING l.pixel"""
_SHARE: Final = """
SELECT (SELECT count(*) FROM pixel_lease) AS pixels,
       (SELECT count(*) FROM courier WHERE until > now_ms()) AS couriers"""
_TAKE: Final = """
WITH free AS (
    SELECT pixel FROM pixel_lease WHERE until < now_ms() AND pixel <> ALL($3::bigint[])
     ORDER BY until, pixel LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE pixel_lease l SET owner = $1, until = now_ms() + $4, epoch = epoch + 1 FROM free WHERE l.pixel = free.pixel
RETURNING l.pixel, l.epoch"""
_GIVE: Final = "UPDATE pixel_lease SET owner = '', until = 0 WHERE owner = $1 AND pixel = ANY($2::bigint[])"
_GIVE_ALL: Final = "UPDATE pixel_lease SET owner = '', until = 0 WHERE owner = $1"
_HOLDS: Final = "SELECT 1 FROM pixel_lease WHERE pixel = $1 AND owner = $2 AND epoch = $3 FOR SHARE"


class Held(Struct, frozen=True):
    """The epochs of the leased pixels; `leaving`: those that are given to others once nothing of them is under way."""

    epochs: dict[int, int] = {}
    leaving: frozenset[int] = frozenset()
    lacking: int = 0  # how many more are its share
    doubtful: int = 0  # events that a former owner had under way

    @property
    def is_changing(self) -> bool:
        """Whether a pixel is about to become, or to cease to be, this courier's."""
        return bool(self.leaving) or self.lacking > 0


async def step(c: Connection, owner: str, held: Held, sending: Collection[int], now: int) -> Held:
    """Renew, give away what is more than this courier's share, take what nobody has; inside the caller's transaction.

    `sending`: pixels of which this process has something under way, which it neither gives away nor takes anew.
    """
    await c.execute(_PRESENT, owner, LEASE_MS)
    await c.execute(_FORGET, LEASE_MS, "")
    await c.execute(_ROWS)
    epochs = await _renewed(c, owner, held.epochs)
    share = await c.fetchrow(_SHARE)
    most = -(-share["pixels"] // max(1, share["couriers"]))
    surplus = sorted(epochs)[most:]
    gone = [pixel for pixel in surplus if pixel not in sending]
    await c.execute(_GIVE, owner, gone)
    epochs = {pixel: epoch for pixel, epoch in epochs.items() if pixel not in gone}
    taken = await _taken(c, owner, most - len(epochs), sending)
    doubtful = await settling.take_over(c, list(taken), now) if taken else 0
    epochs |= taken
    fair = share["pixels"] // max(1, share["couriers"])
    return Held(epochs, frozenset(surplus) & epochs.keys(), max(0, fair - len(epochs)), doubtful)


async def _renewed(c: Connection, owner: str, epochs: Mapping[int, int]) -> dict[int, int]:
    rows = await c.fetch(_RENEW, owner, list(epochs), list(epochs.values()), LEASE_MS)
    return {pixel: epochs[pixel] for (pixel,) in rows}


async def _taken(c: Connection, owner: str, most: int, but: Collection[int]) -> dict[int, int]:
    if most <= 0:
        return {}
    return dict(map(tuple, await c.fetch(_TAKE, owner, most, list(but), LEASE_MS)))


async def renew(c: Connection, owner: str, pixel: int, epoch: int) -> bool:
    """Whether the pixel is still ours, from now for a minute."""
    return bool(await c.fetch(_RENEW, owner, [pixel], [epoch], LEASE_MS))


async def holds(c: Connection, owner: str, pixel: int, epoch: int) -> bool:
    """Whether the pixel is still ours, and stays so until the transaction is over."""
    return await c.fetchval(_HOLDS, pixel, owner, epoch) is not None


async def give_all(c: Connection, owner: str) -> None:
    """The courier ends: whoever comes next need not wait."""
    await c.execute(_GIVE_ALL, owner)
    await c.execute(_FORGET, LEASE_MS, owner)
