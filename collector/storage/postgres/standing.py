"""How everything stands over PostgreSQL: server, standbys, edges, what waits for Meta. Nothing is written."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from msgspec import structs

from collector.config import StorageConfig
from collector.config_loader.engines import hosts_of
from collector.core.capi.states import NAMES
from collector.errors import StorageError
from collector.storage.postgres import connecting, examining
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.database import Database
from collector.storage.postgres.examining import Facts
from collector.storage.postgres.faults import as_storage_errors, named
from collector.storage.postgres.migrating import version_of
from collector.storage.postgres.opening import examined
from collector.storage.rules.standing import EdgeSeen, Pixel, Reads, Standby, Standing, Waiting

_READ_S: Final = 5.0
_SERVER: Final = """
SELECT pg_database_size(current_database()) AS bytes,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int AS most, current_setting('fsync') = 'on' AS syncs,
       current_setting('full_page_writes') = 'on' AS whole_pages"""
_READS: Final = """
SELECT standby, CASE WHEN NOT standby OR whole AND age < 60 THEN 0 ELSE age END::bigint AS behind
  FROM (SELECT pg_is_in_recovery() AS standby, pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AS whole,
               coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) AS age) AS seen"""
_STANDBYS: Final = """
SELECT application_name AS name, coalesce(state, '') AS state, coalesce(sync_state, '') AS sync,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn), 0)::bigint AS behind
  FROM pg_stat_replication ORDER BY 1"""
# Live rows as the server counts them: close, and at once.
_ROWS: Final = """
SELECT coalesce(sum(pg_stat_get_live_tuples(c.oid)) FILTER (WHERE c.relname ~ '^click_([0-9]+|sqlite)$'), 0)::bigint,
       coalesce(sum(pg_stat_get_live_tuples(c.oid)) FILTER (WHERE c.relname = 'conversion'), 0)::bigint
  FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"""
_EDGES: Final = """
SELECT number, owner, now_ms() - beat AS silent, until < now_ms() AS over
  FROM edge WHERE open OR until >= now_ms() ORDER BY number"""
_QUEUE: Final = """
SELECT p.name, o.state, count(*) AS events, now_ms() - min(o.created) AS oldest
  FROM outbox o JOIN pixel p ON p.id = o.pixel WHERE o.settled IS NULL GROUP BY 1, 2 ORDER BY 1, 2"""
_PIXELS: Final = """
SELECT p.name, coalesce(s.state, 'open') AS state, s.reason,
       (SELECT owner FROM pixel_lease l WHERE l.pixel = p.id AND l.until >= now_ms()) AS courier
  FROM pixel p LEFT JOIN pixel_state s ON s.pixel = p.id ORDER BY 1"""


def standing(storage: StorageConfig) -> Standing:
    """StorageError says why there is no answer."""

    async def asked() -> Standing:
        database = Database(storage, "collector status")
        try:
            found = await examined(database, storage)
            async with database.connection() as connection:
                seen = await _seen(connection, storage, found)
            return structs.replace(seen, reads=await _reads_of(storage)) if storage.read_dsn else seen
        finally:
            await database.close()

    with as_storage_errors():
        return asyncio.run(asked())


async def looked_at(database: Database, storage: StorageConfig) -> Standing:
    """The same by connections that are open; it raises what the driver raises, too."""
    async with database.connection() as connection:
        return await _seen(connection, storage, await examining.facts(connection))


async def _reads_of(storage: StorageConfig) -> Reads:
    database = Database(storage, "collector status", connecting.reading(storage, _READ_S, aside=True))
    try:
        return await reads(database, storage)
    finally:
        await database.close()


async def reads(database: Database, storage: StorageConfig) -> Reads:
    """How the server stands that the console reads at."""
    try:
        with as_storage_errors():
            async with database.connection() as connection:
                row = await connection.fetchrow(_READS, timeout=_READ_S)
                return Reads(connection.at, row["standby"], row["behind"])
    except StorageError as problem:
        return unread(storage, problem)


def unread(storage: StorageConfig, problem: StorageError | None) -> Reads:
    """One that cannot be asked."""
    hosts = ", ".join(named(host) for host in hosts_of(storage.read_dsn))
    return Reads(hosts, standby=False, behind_seconds=0, problem=str(problem or ""))


async def _seen(connection: Connection, storage: StorageConfig, found: Facts) -> Standing:
    server = await connection.fetchrow(_SERVER)
    schema = await version_of(connection)
    return Standing(
        engine="postgres",
        primary=found.at,
        version=found.version.partition(" on ")[0],
        schema=schema,
        database_bytes=server["bytes"],
        connections=server["used"],
        most_connections=server["most"],
        clock_ahead_ms=found.ahead_ms,
        doubts=_doubts(server, storage, found),
        standbys=[Standby(*row) for row in await connection.fetch(_STANDBYS)],
        **(await _kept(connection) if schema else {}),
    )


def _doubts(server: Any, storage: StorageConfig, found: Facts) -> list[str]:
    doubts = [examining.clocks_apart(found)]
    if storage.standby != "none":
        doubts.append(examining.no_standby(found))
    if not server["syncs"]:
        doubts.append(f"fsync is off at {found.at}: what is acknowledged is lost when its power is")
    if not server["whole_pages"]:
        doubts.append(f"full_page_writes is off at {found.at}: a power cut may tear its pages")
    if 5 * server["used"] > 4 * server["most"]:
        doubts.append(f"{server['used']} of {server['most']} connections of {found.at} are in use")
    return [doubt for doubt in doubts if doubt is not None]


async def _kept(connection: Connection) -> dict[str, Any]:
    clicks, conversions = await connection.fetchrow(_ROWS)
    edges, waiting = await connection.fetch(_EDGES), await connection.fetch(_QUEUE)
    return {
        "clicks": clicks,
        "conversions": conversions,
        "edges": [EdgeSeen(number, owner, silent // 1000, over) for number, owner, silent, over in edges],
        "queue": [
            Waiting(pixel, NAMES.get(state, str(state)), events, max(0, oldest) // 1000)
            for pixel, state, events, oldest in waiting
        ],
        "pixels": [Pixel(*row) for row in await connection.fetch(_PIXELS)],
    }


def key_check(storage: StorageConfig) -> bytes | None:
    """What the database knows its key of names by; None before its first keeper."""

    async def asked() -> bytes | None:
        database = Database(storage, "collector doctor")
        try:
            async with database.connection() as connection:
                there = await version_of(connection)
                return await connection.fetchval("SELECT value FROM pepper_check") if there else None
        finally:
            await database.close()

    with as_storage_errors():
        return asyncio.run(asked())
