"""What the tests of the ad account ask over SQLite's book, asked of PostgreSQL's: the same bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from collector.config import Config
from collector.storage.postgres.books import PostgresBooks
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.threaded import Threaded
from tests.courier import test_insights
from tests.courier.test_insights import Books
from tests.courier.test_insights import books as books
from tests.kit import engines
from tests.kit.postgres import Database
from tests.kit.simulators.graph import GraphSimulator

pytestmark = pytest.mark.slow
# What writes as SQLite's book does, or runs a whole courier (postgres/test_courier_books.py does that).
_SQLITE_ALONE = (
    "test_control_without_the_taking_out",
    "test_a_running_courier",
    "test_a_pixel_that_is_never_done",
    "test_a_blocked_pixels",
    "test_control_a_reader_that_does_not_wait",
    "test_a_restart",
    "test_without_an_ad_account",
    "test_the_readings_memory",
    "test_control_a_reading_that_keeps",
)
globals().update(
    {
        name: body
        for name, body in vars(test_insights).items()
        if name.startswith("test_") and not name.startswith(_SQLITE_ALONE)
    }
)


class _Asked:
    """As a connection of SQLite, as far as these tests ask one."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def execute(self, sql: str) -> Any:
        rows = [] if sql.startswith("PRAGMA") else asyncio.run(self._fetch(sql))
        return SimpleNamespace(fetchall=lambda: rows)

    async def _fetch(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self._dsn)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    def close(self) -> None:
        """Nothing is kept open."""


@pytest.fixture
def opened(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    config = engines.postgres_config(tmp_path, database)
    with GraphSimulator() as graph, Threaded(config.storage, "test") as threaded:
        duties = Duties(threaded, "test")
        assert duties.take("insights")

        class Own(PostgresBooks):
            _db = _Asked(database.dsn)

            def __init__(self, _: Config) -> None:
                super().__init__(threaded, duties)

        monkeypatch.setattr(test_insights, "SqliteBooks", Own)
        monkeypatch.setattr(test_insights, "open_database", lambda _: _Asked(database.dsn))
        monkeypatch.setattr(test_insights, "InsightBook", lambda _, account: Own(config).insights(account))
        yield Books(tmp_path, graph)
