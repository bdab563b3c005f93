"""How everything stands over PostgreSQL: server, standbys, edges, what waits for Meta. Nothing is written."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from msgspec import Struct

from collector.config import StorageConfig
from collector.core.capi.states import NAMES
from collector.storage.postgres import examining
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.database import Database
from collector.storage.postgres.examining import Facts
from collector.storage.postgres.faults import as_storage_errors
from collector.storage.postgres.migrating import version_of
from collector.storage.postgres.opening import examined

_SERVER: Final = """
SELECT pg_database_size(current_database()) AS bytes,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int AS most, current_setting('fsync') = 'on' AS syncs,
       current_setting('full_page_writes') = 'on' AS whole_pages"""
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


class Camel(Struct, rename="camel"):
    """Answers are in camelCase, as the API's."""


class Standby(Camel):
    """A copy of the primary; `sync` as the server says it: sync, quorum, potential, async."""

    name: str
    state: str
    sync: str
    behind_bytes: int


class EdgeSeen(Camel):
    """A keeper with its edges. `over`: it ended without a word, and its last rows are still to be looked through."""

    number: int
    owner: str
    silent_seconds: int
    over: bool


class Waiting(Camel):
    """Events of one pixel in one state that wait."""

    pixel: str
    state: str
    events: int
    oldest_seconds: int


class Pixel(Camel):
    """How delivery to one pixel stands, and which courier holds it."""

    pixel: str
    state: str
    reason: str | None
    courier: str | None


class Standing(Camel):
    """Everything at a glance. `schema` 0: nobody has made one yet, and then nothing below it is known."""

    engine: str
    primary: str
    version: str
    schema: int
    database_bytes: int
    connections: int
    most_connections: int
    clock_ahead_ms: int  # of the server's against this machine's
    doubts: list[str]
    standbys: list[Standby]
    clicks: int = 0
    conversions: int = 0
    edges: list[EdgeSeen] = []
    queue: list[Waiting] = []
    pixels: list[Pixel] = []


def standing(storage: StorageConfig) -> Standing:
    """StorageError says why there is no answer."""

    async def asked() -> Standing:
        database = Database(storage, "collector status")
        try:
            found = await examined(database, storage)
            async with database.connection() as connection:
                return await _seen(connection, storage, found)
        finally:
            await database.close()

    with as_storage_errors():
        return asyncio.run(asked())


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
