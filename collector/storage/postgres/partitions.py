"""The weeks of `click` and `click_network`: made ahead, so that no row waits for a table; given up whole."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

from collector.storage.postgres import ids
from collector.storage.postgres.connecting import Connection

TABLES: Final = ("click", "click_network")
LOCK: Final = 0x_C0_11_EC_71
_AHEAD: Final = 4  # weeks, beside the present one and the one before: a clock may be set back
_WEEK_MS: Final = 7 * 86_400_000
_MONDAY_MS: Final = 4 * 86_400_000  # the first Monday of 1970
_ATTACHED: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = $1::text::regclass"""


def weeks(now: int) -> Iterator[tuple[str, int, int]]:
    """The weeks that must be there at `now` (ms): their name, the first id, the first id after."""
    present = (now - _MONDAY_MS) // _WEEK_MS
    for number in range(present - 1, present + _AHEAD + 1):
        begin = _MONDAY_MS + number * _WEEK_MS
        day = datetime.datetime.fromtimestamp(begin / 1000, datetime.UTC)
        yield f"{day:%Y%m%d}", ids.first_of(begin), ids.first_of(begin + _WEEK_MS)


async def ahead(connection: Connection, now: int) -> None:
    """Make what is missing; several processes may ask at once. In a transaction of the caller's.

    Made and then attached: rows go in meanwhile, which a CREATE … PARTITION OF would keep out.
    """
    for table in TABLES:
        there = await attached(connection, table)
        missing = [week for week in weeks(now) if f"{table}_{week[0]}" not in there]
        if not missing:
            continue
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        there = await attached(connection, table)
        for name, first, after in missing:
            if (part := f"{table}_{name}") not in there:
                await connection.execute(f"CREATE TABLE {part} (LIKE {table} INCLUDING ALL)")
                await connection.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES FROM ({first}) TO ({after})"
                )


async def attached(connection: Connection, table: str) -> set[str]:
    """The names of its partitions."""
    return {row[0] for row in await connection.fetch(_ATTACHED, table)}


async def drop_before(connection: Connection, ms: int) -> list[str]:
    """Give up the weeks that ended before `ms`; their names. In a transaction of the caller's."""
    dropped = []
    for table in TABLES:
        for part in sorted(await attached(connection, table)):
            day = part.rpartition("_")[2]
            if day.isdigit() and _begin(day) + _WEEK_MS <= ms:
                await connection.execute(f"DROP TABLE {part}")
                dropped.append(part)
    return dropped


def _begin(day: str) -> int:
    begin = datetime.datetime.strptime(day, "%Y%m%d").replace(tzinfo=datetime.UTC)
    return int(begin.timestamp() * 1000)
