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


def week_at(ms: int) -> int:
    """The number of a moment's week."""
    return (ms - _MONDAY_MS) // _WEEK_MS


def week_named(part: str) -> int:
    """The number of the week that a partition is of."""
    return week_at(_begin(part.rpartition("_")[2]))


def weeks(now: int) -> Iterator[tuple[str, int, int]]:
    """The weeks that must be there at `now` (ms): their name, the first id, the first id after."""
    present = week_at(now)
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
    dropped = [part for table in TABLES for part in await ended(connection, table, ms)]
    for part in dropped:
        await connection.execute(f"DROP TABLE {part}")
    return dropped


async def ended(connection: Connection, table: str, ms: int) -> list[str]:
    """The partitions of weeks that ended before `ms`."""
    days = {part: part.rpartition("_")[2] for part in sorted(await attached(connection, table))}
    return [part for part, day in days.items() if day.isdigit() and _begin(day) + _WEEK_MS <= ms]


def bounds(part: str) -> tuple[int, int]:
    """The first id of a week's partition, and the first after it."""
    begin = _begin(part.rpartition("_")[2])
    return ids.first_of(begin), ids.first_of(begin + _WEEK_MS)


def _begin(day: str) -> int:
    begin = datetime.datetime.strptime(day, "%Y%m%d").replace(tzinfo=datetime.UTC)
    return int(begin.timestamp() * 1000)
