"""How reports read PostgreSQL: read-only sessions, each question a statement with a deadline, long answers in pages.

A question is asked in this engine's own words (told/). The console asks it where [storage] read_dsn names a server, a
standby as a rule; what that one cancels because its recovery needs it to, and all while it is gone, is asked at dsn.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from asyncpg import exceptions as pg
from msgspec import structs

from collector.config import StorageConfig
from collector.errors import NoSchema, StorageError, TooSlow, Unavailable
from collector.storage.ground.schema import scripts
from collector.storage.postgres import connecting, faults, standing
from collector.storage.postgres.database import Database
from collector.storage.postgres.migrating import FOLDER
from collector.storage.postgres.told import SQL
from collector.storage.rules.standing import Held, Reads
from collector.telemetry import logger

log = logger("storage")
Row = tuple[Any, ...]
_SIZE: Final = """
SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1), pg_database_size(current_database())"""
_EMPTY: Final = "[storage] dsn: the database has no schema yet; start the collector on it (collector serve) first"
_UNKNOWN: Final = (pg.UndefinedTableError, pg.UndefinedColumnError, pg.UndefinedFunctionError)
# Of a statement and of its connection: the server says so itself, or it is silent.
_GRACE_S: Final = 2.0
_AWAY_S: Final = 10.0  # until a server that is gone is looked for again
_EARLY: Final = 0.9  # of its deadline: a question that is cancelled before that is cancelled by somebody else


class Aside:
    """The server that read_dsn names: whether it is there. One of a process."""

    def __init__(self) -> None:
        self.problem: StorageError | None = None
        self._again_at = 0.0

    @property
    def is_away(self) -> bool:
        """Whether it was gone a moment ago."""
        return self.problem is not None and time.monotonic() < self._again_at

    def gone(self, problem: StorageError) -> None:
        if self.problem is None:
            log.warning("what [storage] read_dsn names cannot be asked; the console reads at dsn", reason=str(problem))
        self.problem, self._again_at = problem, time.monotonic() + _AWAY_S

    def back(self) -> None:
        if self.problem is not None:
            log.info("the console reads at [storage] read_dsn again")
        self.problem = None


class _Ended(Unavailable):
    """The server has ended the question or its connection, and not because it took too long."""


class PostgresReader:
    """Not for several loops. `aside`: for the console, which reads at read_dsn where that is set."""

    by_time = True

    def __init__(self, storage: StorageConfig, name: str, deadline_seconds: float, aside: Aside | None = None) -> None:
        self.deadline_seconds = deadline_seconds
        self.path = Path(storage.data_dir, "PostgreSQL")
        self._storage = storage
        way = connecting.reading(storage, deadline_seconds, aside=False)
        self._primary = Database(storage, name, way)
        self._aside, self._beside = aside, None
        if aside is not None and storage.read_dsn:
            way = connecting.reading(storage, deadline_seconds, aside=True)
            self._beside = Database(storage, name, way)

    async def rows(self, sql: str, *params: object) -> list[Row]:
        """Every row of one question, which has a name; TooSlow where it took too long."""
        text = SQL[getattr(sql, "name", sql)]
        return await self._answered(text, (*getattr(sql, "given", ()), *params))

    async def _answered(self, text: str, bound: tuple[object, ...]) -> list[Row]:
        if self._beside is not None and self._aside is not None and not self._aside.is_away:
            try:
                found = await self._asked(self._beside, text, bound)
                self._aside.back()
                return found
            except TooSlow:
                raise
            except (_Ended, NoSchema):
                pass
            except StorageError as problem:
                self._aside.gone(problem)
        try:
            return await self._asked(self._primary, text, bound)
        except _Ended:  # a connection that had been idle is gone; a question changes nothing
            return await self._asked(self._primary, text, bound)

    async def _asked(self, database: Database, text: str, bound: tuple[object, ...]) -> list[Row]:
        async with database.connection() as c:
            began = time.monotonic()
            try:
                found = await c.fetch(text, *bound, timeout=self.deadline_seconds + _GRACE_S)
                return [tuple(row) for row in found]
            except TimeoutError as error:
                c.terminate()
                raise Unavailable(f"{c.at} gave no answer in time") from error
            except pg.QueryCanceledError as error:
                if database is self._beside and time.monotonic() - began < _EARLY * self.deadline_seconds:
                    raise _Ended(str(faults.explained(error, c.at))) from error
                too_slow = f"the question took longer than {self.deadline_seconds:g} s and was given up"
                raise TooSlow(too_slow) from error
            except _UNKNOWN as error:
                raise NoSchema(_EMPTY) from error
            except faults.AGAIN as error:  # of a standby: "canceling statement due to conflict with recovery"
                raise _Ended(str(faults.explained(error, c.at))) from error
            except faults.LOST as error:
                c.terminate()
                raise _Ended(f"the connection to {c.at} was lost") from error
            except faults.REFUSALS as error:
                raise faults.explained(error, c.at) from error

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, *params)
        return found[0] if found else None

    async def pages(self, sql: str, after: int, *params: object, size: int = 1000) -> AsyncIterator[list[Row]]:
        """Pages of rows whose first column is the id, in its order."""
        while page := await self.rows(sql, after, *params, size):
            after = page[-1][0]
            yield page

    async def held(self) -> Held:
        """How the server stands; where the primary is gone, what the standby says of itself."""
        newest = len(scripts(FOLDER))
        ((version, size),) = await self._answered(_SIZE, ())
        try:
            with faults.as_storage_errors():
                found = await standing.looked_at(self._primary, self._storage)
        except StorageError as problem:
            return Held(version, newest, size, problem=str(problem))
        return Held(version, newest, size, server=structs.replace(found, reads=await self._reads()))

    async def _reads(self) -> Reads | None:
        if self._beside is None or self._aside is None:
            return None
        if self._aside.is_away:
            return standing.unread(self._storage, self._aside.problem)
        return await standing.reads(self._beside, self._storage)

    async def close(self) -> None:
        """End all connections; none may be in use."""
        for database in (self._primary, self._beside):
            if database is not None:
                await database.close()


@asynccontextmanager
async def reading(storage: StorageConfig, name: str, deadline_seconds: float) -> AsyncIterator[PostgresReader]:
    """A reader at dsn, closed at the end."""
    reader = PostgresReader(storage, name, deadline_seconds)
    try:
        yield reader
    finally:
        await reader.close()


def of_console(storage: StorageConfig, deadline_seconds: float, counting_seconds: float) -> list[PostgresReader]:
    """Two for one console: for pages, and for what is counted beside them. Together they have `pool` connections."""
    aside = Aside()
    pages = structs.replace(storage, pool=max(1, storage.pool - 1))
    return [
        PostgresReader(pages, "collector console", deadline_seconds, aside),
        PostgresReader(structs.replace(storage, pool=1), "collector console", counting_seconds, aside),
    ]
