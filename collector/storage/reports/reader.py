"""How reports read the store: one read-only connection, short transactions, a deadline on every question.

A reader that stays in one transaction keeps the write-ahead log from being folded back (4 -> 105 MiB in 20,000
commits, measured), so each question is one statement, and long answers come in keyset pages.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast
from urllib.parse import quote

import aiosqlite

from collector.errors import StorageError

Row = tuple[Any, ...]
DEADLINE_SECONDS: Final = 5.0
# SQLite asks about the deadline every so many of its virtual machine's steps: well under a millisecond.
_STEPS: Final = 10_000


class NoStore(StorageError):
    """There is no database yet: no edge has started on this data directory."""


class TooSlow(StorageError):
    """A question went past its deadline and was given up."""


def database(data_dir: str) -> Path:
    """The one file that holds everything."""
    return Path(data_dir) / "collector.db"


class Reader:
    """A read-only connection. One question at a time; each is its own transaction and has a deadline."""

    def __init__(self, path: Path, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self.path = path
        self.deadline_seconds = deadline_seconds
        self._connection: aiosqlite.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = asyncio.Lock()
        self._until = 0.0

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def rows(self, sql: str, *params: object) -> list[Row]:
        """Every row of one statement; raises NoStore or TooSlow."""
        async with self._lock:
            self._until = time.monotonic() + self.deadline_seconds
            connection = await self._connected()
            try:
                return cast("list[Row]", await connection.execute_fetchall(sql, params))
            except sqlite3.OperationalError as error:
                raise self._explained(error) from error

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, *params)
        return found[0] if found else None

    async def pages(self, sql: str, after: int, *params: object, size: int = 1000) -> AsyncIterator[list[Row]]:
        """Pages of `… WHERE id > ? … ORDER BY id LIMIT ?`, whose first column is the id; one transaction each."""
        while page := await self.rows(sql, after, *params, size):
            yield page
            after = page[-1][0]

    def size(self) -> int:
        """Bytes of the database and its write-ahead log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> aiosqlite.Connection:
        try:
            stat = os.stat(self.path)
        except OSError as error:
            raise NoStore(f"no database at {self.path}; start the edge (collector serve) first") from error
        identity = (stat.st_dev, stat.st_ino)
        if self._connection is None or identity != self._identity:  # a restore puts another file in its place
            await self.close()
            self._connection = await self._open()
            self._identity = identity
        return self._connection

    async def _open(self) -> aiosqlite.Connection:
        uri = f"file:{quote(str(self.path))}?mode=ro"
        try:
            connection = await aiosqlite.connect(uri, uri=True, isolation_level=None)
            await connection.set_progress_handler(self._is_late, _STEPS)
            for pragma in ("query_only=ON", "trusted_schema=OFF", "busy_timeout=2000", "cache_size=-8000"):
                await connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise StorageError(f"{self.path} cannot be read: {error}") from error
        return connection

    def _is_late(self) -> int:
        return 1 if time.monotonic() > self._until else 0

    def _explained(self, error: sqlite3.OperationalError) -> StorageError:
        if "interrupted" in str(error):
            return TooSlow(f"the question took longer than {self.deadline_seconds:g} s and was given up")
        if "no such table" in str(error):
            return NoStore(f"{self.path} has no schema yet; start the edge (collector serve) first")
        return StorageError(f"{self.path} cannot be read: {error}")
