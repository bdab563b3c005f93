"""Bring a database to this release's schema: numbered scripts, all in one transaction, by one process at a time."""

from __future__ import annotations

from typing import Final

from asyncpg.exceptions import InsufficientPrivilegeError

from collector.config import StorageConfig
from collector.config_loader.engines import database_of, user_of
from collector.errors import SchemaTooNew, StorageError
from collector.storage.ground.schema import scripts
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.database import Database
from collector.storage.postgres.faults import in_sql

FOLDER: Final = "postgres/migrations"
LOCK: Final = 0x_C0_11_EC_70  # of the migrations, among advisory locks
_LONGEST_S: Final = 3600.0
_WAIT: Final = "SET LOCAL lock_timeout = '10min'; SET LOCAL idle_in_transaction_session_timeout = 0"
_VERSION: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version int NOT NULL
)"""


async def migrate(database: Database, storage: StorageConfig) -> None:
    """The newest schema; SchemaTooNew where there is a newer one. It waits for nobody if there is nothing to do."""
    newest = len(scripts(FOLDER))
    async with database.connection() as connection:
        if await version_of(connection) == newest:
            return
    try:
        async with database.transaction(_LONGEST_S) as connection:
            await connection.execute(_WAIT)
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await _apply(connection, newest)
    except InsufficientPrivilegeError as error:
        name, user = database_of(storage.dsn), user_of(storage.dsn)
        mend = f"ALTER DATABASE {in_sql(name)} OWNER TO {in_sql(user)}"
        raise StorageError(f'[storage] dsn: user "{user}" may make no tables in "{name}": {mend}') from error


async def version_of(connection: Connection) -> int:
    """The number of its last script; 0 where there is no schema. SchemaTooNew where this release does not know it."""
    there = await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL")
    version = int(await connection.fetchval("SELECT version FROM schema_version") or 0) if there else 0
    if version > (known := len(scripts(FOLDER))):
        raise SchemaTooNew(f"the database has schema {version}, this release knows {known}; run the newer release")
    return version


async def _apply(connection: Connection, newest: int) -> None:
    await connection.execute(_VERSION)
    version = await version_of(connection)  # another process may have been first
    for script in scripts(FOLDER)[version:]:
        await connection.execute(script.read_text(encoding="utf-8"))
    await connection.execute(
        "INSERT INTO schema_version (version) VALUES ($1) ON CONFLICT (one) DO UPDATE SET version = excluded.version",
        newest,
    )
