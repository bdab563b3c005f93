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
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast
from urllib.parse import quote

import aiosqlite

from collector.errors import NoSchema, NoStore, StorageError, TooSlow
from collector.storage.ground import damage
from collector.storage.ground.schema import newest_schema
from collector.storage.rules.standing import Held

Row = tuple[Any, ...]
DEADLINE_SECONDS: Final = 5.0
# SQLite asks about the deadline every so many of its virtual machine's steps: well under a millisecond.
_STEPS: Final = 10_000


def database(data_dir: str) -> Path:
    """The one file that holds everything."""
    return Path(data_dir) / "collector.db"


class Reader:
    """A read-only connection. One question at a time; each is its own transaction and has a deadline."""

    by_time = False

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
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._explained(error) from error

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, *params)
        return found[0] if found else None

    async def pages(self, sql: str, after: int, *params: object, size: int = 1000) -> AsyncIterator[list[Row]]:
        """Pages of `… WHERE id > ? … ORDER BY id LIMIT ?`, whose first column is the id; one transaction each.

        Damaged where ids do not rise: a damaged page gave the same rows again and again.
        """
        while page := await self.rows(sql, after, *params, size):
            for row in page:
                if not after < row[0]:
                    raise damage.of_file(self.path, "rows are out of order")
                after = row[0]
            yield page

    async def quick_check(self, seconds: float) -> None:
        """Damaged where SQLite finds a fault within so many seconds: some 600 MB a second are read."""
        patience, self.deadline_seconds = self.deadline_seconds, seconds
        try:
            found = await self.one("PRAGMA quick_check(1)")
        except TooSlow:
            return
        finally:
            self.deadline_seconds = patience
        if found != ("ok",):
            raise damage.of_file(self.path, str(found and found[0]).partition("\n")[0])

    async def refuse_a_short_file(self) -> None:
        """Damaged where the file ends before its last page; while the log holds pages, it may."""
        row = await self.one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        emptied = not self.wal_size()  # asked before the file: what the log held is there by then
        if row is not None and emptied and self.path.stat().st_size < row[0]:
            raise damage.of_file(self.path, "its end is missing")

    def size(self) -> int:
        """Bytes of the database and its write-ahead log."""
        return self.path.stat().st_size + self.wal_size() if self.path.exists() else 0

    def wal_size(self) -> int:
        """Bytes of the write-ahead log alone."""
        with suppress(FileNotFoundError):
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        return 0

    async def held(self) -> Held:
        """What the file takes, and by which SQLite it is read."""
        row = await self.one("SELECT sqlite_version()")
        return Held(f"SQLite {row[0] if row else ''}", newest_schema(), self.size(), self.wal_size())

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
        connection = None
        opening = aiosqlite.connect(uri, uri=True, isolation_level=None)
        try:
            connection = await opening
            await connection.set_progress_handler(self._is_late, _STEPS)
            for pragma in ("query_only=ON", "trusted_schema=OFF", "busy_timeout=2000", "cache_size=-8000"):
                await connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            if connection is not None:
                await connection.close()  # its thread would keep the process from ending
            else:
                opening._thread.join()  # it ends by itself, and by a traceback where the loop has ended before it
            raise self._explained(error) from error
        return connection

    def _is_late(self) -> int:
        return 1 if time.monotonic() > self._until else 0

    def _explained(self, error: Exception) -> StorageError:
        if "interrupted" in str(error):
            return TooSlow(f"the question took longer than {self.deadline_seconds:g} s and was given up")
        if "no such table" in str(error):
            return NoSchema(f"{self.path} has no schema yet; start the edge (collector serve) first")
        return damage.explained(error, self.path) or StorageError(f"{self.path} cannot be read: {error}")
