"""The event clocks of stores: how far the times of what each edge was told have come, and when it was told last."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from collector.storage.postgres.connecting import Connection

_TOLD: Final = "SELECT store, max(ts), max(heard) FROM event_clock GROUP BY store"
_NEWEST: Final = "SELECT s, (SELECT max(ts) FROM conversion WHERE store = s) FROM unnest($1::int[]) s"
_SAVE: Final = """
INSERT INTO event_clock (store, edge, ts, conversion_ts, heard)
SELECT store, $1, ts, ts, heard FROM unnest($2::int[], $3::bigint[], $4::bigint[]) t (store, ts, heard) ORDER BY store
    ON CONFLICT (store, edge) DO UPDATE SET ts = greatest(event_clock.ts, excluded.ts),
       heard = greatest(event_clock.heard, excluded.heard)"""


async def told(connection: Connection) -> Iterable[tuple[int, int, int]]:
    """Of each store the latest event time, and when it told anything last (ms), by any edge."""
    return [tuple(row) for row in await connection.fetch(_TOLD)]


async def newest(connection: Connection, stores: Collection[int]) -> Iterable[tuple[int, int]]:
    """Of each of these stores the time of its latest order (ms), 0 where it has none."""
    return [(store, ts or 0) for store, ts in await connection.fetch(_NEWEST, list(stores))]


async def save(connection: Connection, edge: int, heard: Collection[tuple[int, int, int]]) -> None:
    """Write an edge's own, as `told` gives them."""
    if heard:
        await connection.execute(_SAVE, edge, *[list(column) for column in zip(*heard, strict=True)])
