"""Who can be asked for rows? The Reader of console and commands (aiosqlite), and the courier's connection (apsw).

What is written for Questions runs in either process; a module that imports neither library may be loaded by both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from collector.storage.rules.standing import Held

Row = tuple[Any, ...]
ABOVE_ALL: Final = (1 << 63) - 1  # of all row numbers; those of several machines have 63 bits


class Named(str):
    """A question in SQLite's words, and its name, by which PostgreSQL's has its own (storage/postgres/told)."""

    __slots__ = ("given", "name")
    name: str
    given: tuple[object, ...]


def named(name: str, sql: str, *given: object) -> Named:
    """The same values are bound to it on both engines, in this order.

    `given`: what stands in SQLite's words as text, and is bound before those on PostgreSQL.
    """
    question = Named(sql)
    question.name, question.given = name, given
    return question


STORES: Final = named("stores", "SELECT id FROM store ORDER BY id")
STORE: Final = named("store", "SELECT id FROM store WHERE name = ?")


class Questions(Protocol):
    """One statement, one short transaction."""

    async def rows(self, sql: str, *params: object) -> list[Row]:
        """Every row."""
        ...

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
        ...


class Reading(Questions, Protocol):
    """All that a report asks with."""

    @property
    def path(self) -> Path:
        """Where the rows are, for people."""
        ...

    @property
    def by_time(self) -> bool:
        """Whether every event is found by its time; else by its row number alone, which rises by one."""
        ...

    @property
    def deadline_seconds(self) -> float:
        """How long a question may take; then TooSlow is raised."""
        ...

    def pages(self, sql: str, after: int, *params: object, size: int = 1000) -> AsyncIterator[list[Row]]:
        """Pages of rows whose first column is the id."""
        ...

    async def held(self) -> Held:
        """What the database takes, and how the server stands where there is one."""
        ...

    async def close(self) -> None:
        """Let go of it; whoever asks again opens it anew."""
        ...


class Asking:
    """Questions to a connection on its own thread. `fetch` gives all rows of a statement."""

    def __init__(self, fetch: Callable[[str, tuple[object, ...]], list[Row]], thread: ThreadPoolExecutor) -> None:
        self._fetch, self._thread = fetch, thread

    async def rows(self, sql: str, *params: object) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, sql, params)

    async def one(self, sql: str, *params: object) -> Row | None:
        found = await self.rows(sql, *params)
        return found[0] if found else None
