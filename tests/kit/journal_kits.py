"""The journal of PostgreSQL, driven as tests/kit/journal_kit.py drives SQLite's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from collector.config import Config, StorageConfig
from collector.exchange.clock import Clock
from collector.exchange.operations import Submission
from collector.exchange.states import EventState
from collector.storage.postgres import connecting
from collector.storage.postgres.journal import PostgresJournal
from tests.kit.journal_kit import NOW, Kit, KitClock, config_for
from tests.kit.postgres import Database


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up on a machine that stands still."""
    for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
        monkeypatch.setitem(connecting._PROMISES, name, "60s")


def config_over(database: Database, folder: Path, config: Config | None = None) -> Config:
    """The configuration, over the database."""
    config = config or config_for(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pepper = folder / "pepper.key"
    if not pepper.exists():
        pepper.touch(mode=0o600)
        pepper.write_bytes(b"p" * 32)
    storage = StorageConfig(
        data_dir=str(folder), engine="postgres", dsn=database.dsn, standby="none", group_timeout_seconds=60
    )
    return structs.replace(config, storage=storage, privacy=structs.replace(config.privacy, pepper_file=str(pepper)))


class PostgresKit(Kit):
    """A keeper's journal over a database; several over one are several edges."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        now: int = NOW,
        config: Config | None = None,
        clock: type[Clock] = KitClock,
    ) -> None:
        self.database = database
        self.config = config_over(database, folder, config)
        self.now = now
        self.ended = False
        self.journal: Any = PostgresJournal(self.config, clock(lambda: self.now, lambda: self.now))
        self.journal.start()
        self.journal.rest()

    def close(self) -> None:
        self.journal.close()

    def submit_together(self, submissions: Sequence[Sequence[Any]]) -> list[Any]:
        waiting = deque(Submission(operations) for operations in submissions)
        answered: list[Submission] = []
        while waiting:
            answered += self.journal.commit(waiting)
        self.match_again()
        return [submission.results for submission in answered]

    def match_again(self) -> None:
        while self.journal.rest():
            pass

    def state(self, row_id: int) -> EventState:
        found: EventState = self.journal.conversion(row_id)[0]
        return found

    def fold(self) -> None:
        """There is nothing to fold."""

    def execute(self, sql: str, *bind: Any) -> None:
        """What somebody else has written."""
        self.rows(sql, *bind)

    def rows(self, sql: str, *bind: Any) -> list[Any]:
        """As of SQLite, whose marks of what is bound are question marks."""
        for number in range(1, len(bind) + 1):
            sql = sql.replace("?", f"${number}", 1)

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.database.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(sql, *bind)]
            finally:
                await connection.close()

        return asyncio.run(ask())
