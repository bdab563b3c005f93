"""The PostgreSQL database that rows are moved to: empty, then filled table by table, each slice with a note of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.core import flags
from collector.errors import StorageError
from collector.storage.moving.source import Counts
from collector.storage.moving.tables import AGENT_DAYS, CLICK_HOURS, CLICK_SUMS, COMPARED, PARTS, SIGHTINGS, Part
from collector.storage.postgres import folding, ids, partitions
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.database import Database
from collector.storage.postgres.migrating import version_of

_FOLDED: Final = 200_000  # rows of each kind at once
_LONGEST_S: Final = 6 * 3600.0  # an index of 10^8 rows
_PATIENT: Final = "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL maintenance_work_mem = '256MB'"
_NOTES: Final = """
CREATE TABLE moving (began bigint NOT NULL);
CREATE TABLE moving_part (name text PRIMARY KEY, after bytea, done boolean NOT NULL);
CREATE TABLE moving_index (name text PRIMARY KEY, made text NOT NULL)"""
_FORGET: Final = "DROP TABLE moving_index, moving_part, moving"
# Row numbers of a file are given in order of arrival, so the newest counts all that ever came.
_CAME: Final = """
INSERT INTO total (name, edge, n) SELECT 'came.' || name, 0, n
  FROM (VALUES ('click', (SELECT max(id) FROM click)), ('conversion', (SELECT max(id) FROM conversion))) AS t (name, n)
 WHERE n IS NOT NULL ON CONFLICT (name, edge) DO UPDATE SET n = excluded.n"""
_IS_MOVING: Final = "SELECT to_regclass('moving') IS NOT NULL"
_NOTE: Final = """
INSERT INTO moving_part VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET after = excluded.after, done = excluded.done"""
_INDEXES: Final = """
SELECT c.relname, pg_get_indexdef(i.indexrelid) AS made FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
 WHERE i.indrelid = ANY($1::regclass[]) AND t.relkind = 'r' AND NOT i.indisprimary
   AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)"""
_SEQUENCE: Final = """
SELECT setval(pg_get_serial_sequence('{0}', 'id'), greatest((SELECT max(id) FROM {0}), 1),
              EXISTS (SELECT 1 FROM {0}))"""
_NUMBERS: Final = {"uncounted": flags.UNCOUNTED, "recovered": flags.RECOVERED}
_DERIVED: Final = {"sighting": SIGHTINGS, "click_hour": CLICK_HOURS, "ua_day": AGENT_DAYS, "click_new": CLICK_SUMS}
_OLD: Final = tuple(f"{table}_sqlite" for table in partitions.TABLES)


async def is_moving(connection: Connection) -> bool:
    """Whether a move into this database was begun, and is not done."""
    return bool(await connection.fetchval(_IS_MOVING))


async def refuse_rows(connection: Connection, at: str) -> None:
    """StorageError where the database has any row that could be mixed with those that are to come."""
    if not await version_of(connection):
        return
    for part in PARTS:
        if await connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM {part.table})"):
            where = f'[storage] dsn: the database at {at} is not empty: "{part.table}" has rows'
            raise StorageError(f"{where}; make a new one")


class Target:
    """A database while it is filled. Whatever was done is not done again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, began: int) -> None:
        """Put indexes aside, which are built at the end, and the partition of SQLite's ids with them."""
        async with self._database.transaction(_LONGEST_S) as connection:
            await refuse_rows(connection, self._database.at)
            await connection.execute(_NOTES)
            await connection.execute("INSERT INTO moving VALUES ($1)", began)
            for table, old in zip(partitions.TABLES, _OLD, strict=True):
                await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {old}")
            tables = [part.table for part in PARTS if part.table not in partitions.TABLES] + list(_OLD)
            for name, made in await connection.fetch(_INDEXES, tables):
                if not name.startswith(_OLD):  # those come with their table
                    await connection.execute("INSERT INTO moving_index VALUES ($1, $2)", name, made)
                await connection.execute(f'DROP INDEX "{name}"')

    async def began(self) -> int | None:
        """When the move was begun that is not done yet (ms)."""
        async with self._database.connection() as connection:
            if not await is_moving(connection):
                return None
            return int(await connection.fetchval("SELECT began FROM moving"))

    async def progress(self, name: str) -> tuple[tuple[Any, ...] | None, bool]:
        """The key of the last row of a table that was copied, and whether it is done."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow("SELECT after, done FROM moving_part WHERE name = $1", name)
        if row is None:
            return None, False
        return (tuple(msgspec.msgpack.decode(row["after"])) if row["after"] else None), row["done"]

    async def take(self, part: Part, rows: list[Any], after: tuple[Any, ...] | None) -> None:
        """Rows, and the key of the last of them; no key: there are no more. Together or not at all."""
        table = f"{part.table}_sqlite" if part.table in partitions.TABLES else part.table
        async with self._database.transaction(_LONGEST_S) as connection:
            if rows:
                await connection.copy_records_to_table(table, records=rows, columns=list(part.columns))
            note = msgspec.msgpack.encode(after) if after else None
            await connection.execute(_NOTE, part.table, note, after is None)

    async def attach(self) -> None:
        """Have the partitions of SQLite's ids back, with their indexes."""
        for table, old in zip(partitions.TABLES, _OLD, strict=True):
            async with self._database.transaction(_LONGEST_S) as connection:
                if old not in await partitions.attached(connection, table):
                    await connection.execute(_PATIENT)
                    bounds = f"FROM (MINVALUE) TO ({ids.SQLITE})"
                    await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {old} FOR VALUES {bounds}")

    async def index(self) -> None:
        """Build every index that was put aside."""
        async with self._database.connection() as connection:
            indexes = await connection.fetch("SELECT name, made FROM moving_index ORDER BY name")
        for name, made in indexes:
            async with self._database.transaction(_LONGEST_S) as connection:
                await connection.execute(_PATIENT)
                await connection.execute(made)
                await connection.execute("DELETE FROM moving_index WHERE name = $1", name)

    async def derive(self, sketches: list[tuple[int, int, bytes]]) -> None:
        """Fill what is made of clicks: sightings, and how common values are."""
        for name, sql in _DERIVED.items():
            if not (await self.progress(name))[1]:
                async with self._database.transaction(_LONGEST_S) as connection:
                    await connection.execute(_PATIENT)
                    await connection.execute(sql.format(**_NUMBERS))
                    await connection.execute(_NOTE, name, None, True)
        async with self._database.transaction(_LONGEST_S) as connection:
            await connection.execute("DELETE FROM visitor_sketch")
            rows = [(store, day, 0, registers) for store, day, registers in sketches]
            await connection.copy_records_to_table(
                "visitor_sketch", records=rows, columns=["store", "day", "edge", "registers"]
            )
            for part in PARTS:
                if part.numbered:
                    await connection.execute(_SEQUENCE.format(part.table))

    async def counts(self) -> Counts:
        """Rows of each table and store."""
        async with self._database.connection() as connection:
            return {
                (part.table, store): n
                for part in PARTS
                for store, n in await connection.fetch(part.counted_in_target)
            }  # fmt: skip

    async def conversions(self, after: int, rows: int) -> list[tuple[Any, ...]]:
        """What was decided of the next conversions behind an id."""
        sql = f"SELECT {', '.join(COMPARED)} FROM conversion WHERE id > $1 ORDER BY id LIMIT $2"
        async with self._database.connection() as connection:
            return [tuple(row) for row in await connection.fetch(sql, after, rows)]

    async def analyse(self) -> None:
        """Fold the sums, whose new rows every page would read; have the server learn what its tables hold."""
        while await self._fold() >= _FOLDED:
            pass
        async with self._database.transaction(_LONGEST_S) as connection:
            await connection.execute(_PATIENT)
            await connection.execute("ANALYZE")

    async def _fold(self) -> int:
        async with self._database.transaction(_LONGEST_S) as connection:
            await connection.execute(_PATIENT)
            return await folding.fold(connection, _FOLDED)

    async def finish(self) -> None:
        """Forget the notes: processes may open the database from now on."""
        async with self._database.transaction() as connection:
            await connection.execute(_CAME)
            await connection.execute(_FORGET)
