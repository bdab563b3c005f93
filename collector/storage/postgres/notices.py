"""Answers that changed after they were given, and have not been told yet: as `storage/outbox/notices.py`, here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.storage.postgres import peppers
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.noticed import KEPT_MS, Noted, noted

_ANY: Final = "SELECT 1 FROM notice LIMIT 1"
_PENDING: Final = """
SELECT n.conversion, n.revision, c.revision, s.name, c.event_type, c.click, c.confidence, c.method, c.body
  FROM notice n JOIN conversion c ON c.id = n.conversion AND c.store = n.store JOIN store s ON s.id = n.store
 ORDER BY n.at, n.conversion LIMIT $1"""
_OLD: Final = "DELETE FROM notice WHERE at < $1"
_GONE: Final = """
DELETE FROM notice n WHERE NOT EXISTS (SELECT 1 FROM conversion c WHERE c.id = n.conversion AND c.store = n.store)"""
_TOLD: Final = "DELETE FROM notice WHERE conversion = $1 AND revision = $2"


class PostgresNotices:
    """Asked from one thread."""

    def __init__(self, threaded: Threaded, config: Config) -> None:
        self._ask, self._config = threaded.ask, config
        self._public: PublicIds | None = None

    def pending(self, now: int, limit: int) -> list[Noted]:
        """The oldest of what is to be told; what is older than KEPT_MS, or gone, is dropped.

        StorageError when the key of names is lost: the courier needs it for nothing else, and delivers without it.
        """

        async def look(c: Connection) -> list[tuple[object, ...]]:
            if await c.fetchval(_ANY) is None:
                return []
            if self._public is None:
                self._public = PublicIds(KeyedHash(await peppers.load(c, self._config)).subkey("public ids"))
            rows = [tuple(row) for row in await c.fetch(_PENDING, limit)]
            await c.execute(_OLD, now - KEPT_MS)
            await c.execute(_GONE)
            return rows

        rows = self._ask(look)
        return [noted(self._public, row) for row in rows] if self._public is not None else []

    def told(self, these: Iterable[Noted]) -> None:
        """These were taken; one that changed again meanwhile stays."""
        self._ask(lambda c: c.executemany(_TOLD, [one[:2] for one in these]))

    def drop_all(self) -> None:
        """Nobody wants to be told."""
        if self._ask(lambda c: c.fetchval(_ANY)) is not None:
            self._ask(lambda c: c.execute("DELETE FROM notice"))
