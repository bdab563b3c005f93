"""The database open and found fit: each refusal is a sentence that names the setting."""

from __future__ import annotations

import time
from typing import Final

from collector.config import StorageConfig
from collector.errors import StorageError, Unavailable
from collector.storage.postgres import examining, partitions
from collector.storage.postgres.database import Database
from collector.storage.postgres.examining import Facts
from collector.storage.postgres.faults import as_storage_errors
from collector.storage.postgres.migrating import migrate
from collector.telemetry import logger

log = logger("storage")
_WEEKS_S = 60  # for the tables of the weeks to come

_HALF: Final = (
    "[storage] dsn: the database at {at} has a part of what is moved to it; "
    "go on: collector migrate --to postgres --resume"
)
_MOVING: Final = "SELECT to_regclass('moving') IS NOT NULL"


async def opened(
    storage: StorageConfig, name: str, *, takes: bool = False, moving: bool = False
) -> tuple[Database, Facts]:
    """Connections, and what the server says of itself. `takes`: for a process that acknowledges events.

    `moving`: for the one that fills it from an SQLite file; until that is done it is nobody else's.
    StorageError says in one sentence why it cannot be used.
    """
    database = Database(storage, name)
    try:
        with as_storage_errors():
            found = await examined(database, storage, takes=takes)
            await migrate(database, storage)
            async with database.transaction(_WEEKS_S) as connection:
                await connection.execute(f"SET LOCAL lock_timeout = '{_WEEKS_S}s'")  # others may start at this moment
                if not moving and await connection.fetchval(_MOVING):
                    raise StorageError(_HALF.format(at=database.at))
                await partitions.ahead(connection, time.time_ns() // 1_000_000)
    except BaseException:
        await database.close()
        raise
    return database, found


async def examined(database: Database, storage: StorageConfig, *, takes: bool = False) -> Facts:
    """What the server says of itself; StorageError where nothing may rely on it. Nothing is written."""
    async with database.connection() as one, database.connection() as other:
        found = await examining.facts(one)
        examining.refuse_stranger(found, storage)
        await examining.refuse_fake_locks(one, other)
    if (doubt := examining.clocks_apart(found)) is not None:
        log.warning(doubt)
    if takes and storage.standby != "none" and (lacking := examining.no_standby(found)) is not None:
        if storage.standby == "required":
            raise Unavailable(lacking)
        log.warning(lacking)
    return found
