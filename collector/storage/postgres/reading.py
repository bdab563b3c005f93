"""How reports read PostgreSQL: read-only, each question a statement with a deadline, long answers in keyset pages.

A question is asked in this engine's own words (told/). One that has none yet is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from asyncpg import exceptions as pg

from collector.config import StorageConfig
from collector.errors import StorageError
from collector.storage.postgres import faults
from collector.storage.postgres.database import Database
from collector.storage.postgres.told import SQL

Row = tuple[Any, ...]
_UNTOLD: Final = (
    "this is not told over PostgreSQL yet; explain, report attribution, export, tail and status are, and so are erase "
    "and export-person"
)

_EMPTY: Final = "[storage] dsn: the database has no schema yet; start the collector on it (collector serve) first"


class PostgresReader:
    """Not for several loops."""

    by_time = True

    def __init__(self, database: Database, deadline_seconds: float, path: Path) -> None:
        self._database = database
        self._deadline_s = deadline_seconds
        self.path = path

    async def rows(self, sql: str, *params: object) -> list[Row]:
        """Every row of one question; StorageError where it has no answer here, or none in time."""
        text = SQL.get(getattr(sql, "name", ""))
        if text is None:
            raise StorageError(_UNTOLD)
        bound = (*getattr(sql, "given", ()), *params)
        async with self._database.connection() as c:
            try:
                return [tuple(row) for row in await c.fetch(text, *bound, timeout=self._deadline_s)]
            except (TimeoutError, pg.QueryCanceledError) as error:
                raise StorageError(f"the question took longer than {self._deadline_s:g} s and was given up") from error
            except pg.UndefinedTableError as error:
                raise StorageError(_EMPTY) from error
            except faults.REFUSALS as error:
                raise faults.explained(error, self._database.at) from error

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, *params)
        return found[0] if found else None

    async def pages(self, sql: str, after: int, *params: object, size: int = 1000) -> AsyncIterator[list[Row]]:
        """Pages of rows whose first column is the id, in its order."""
        while page := await self.rows(sql, after, *params, size):
            after = page[-1][0]
            yield page


@asynccontextmanager
async def reading(storage: StorageConfig, name: str, deadline_seconds: float) -> AsyncIterator[PostgresReader]:
    """A reader, closed at the end."""
    database = Database(storage, name)
    try:
        yield PostgresReader(database, deadline_seconds, Path(storage.data_dir, "PostgreSQL"))
    finally:
        await database.close()
