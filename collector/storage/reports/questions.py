"""Who can be asked for rows? The Reader of console and commands (aiosqlite), and the courier's connection (apsw).

What is written for Questions runs in either process; a module that imports neither library may be loaded by both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Row = tuple[Any, ...]


class Questions(Protocol):
    """One statement, one short transaction."""

    async def rows(self, sql: str, *params: object) -> list[Row]:
        """Every row."""
        ...

    async def one(self, sql: str, *params: object) -> Row | None:
        """The first row, or None."""
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
